"""Perform a run's steps in an event loop: requests are tasks, files are used in threads. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable
from typing import Any, Callable, Optional, TypeVar, Union

from ..._loop import running_loop
from ..rows import Outcome
from .chunks import Answer, Chunk
from .driver import Abandon, Block, Driver, Emit, ReadSchema
from .row_sources import AsyncRows, CallerRows, ThreadRows
from .scheduler import Pull, Send, Wait

CANCEL_AGAIN_AFTER = 0.5
"""Seconds. A cancellation can get lost on its way (anyio on Python 3.10, while it connects): it is requested again."""

OUTCOMES_AT_ONCE = 500
"""Outcomes yielded to the caller before other tasks of the loop get their turn."""

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Call `work` in a thread. A cancellation waits until it has returned, so that no write is interrupted."""
    # Not a task like that of `to_thread`: a loop that ends cancels all its tasks, and `work` might never be called.
    call = contextvars.copy_context().run
    called = asyncio.get_running_loop().run_in_executor(None, functools.partial(call, work, *arguments))
    cancelled: Optional[asyncio.CancelledError] = None
    while not called.done():
        try:
            await asyncio.wait({called})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        called.exception()
        raise cancelled
    return called.result()


async def _open(driver: Driver) -> None:
    """Open the run in a thread. A cancellation abandons the opening, and closes what was opened."""
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[None] = loop.create_future()
    handed_over = threading.Lock()  # its holder closes the run: this coroutine, or the thread once it is abandoned

    def settle(error: Optional[BaseException]) -> None:
        if error is None:
            opened.set_result(None)
        else:
            opened.set_exception(error)

    def work() -> None:
        raised: Optional[BaseException] = None
        try:
            driver.open()
        except BaseException as error:  # noqa: BLE001  # raised in the loop
            raised = error
        if not handed_over.acquire(blocking=False) and raised is None:
            driver.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed: it was abandoned
            loop.call_soon_threadsafe(settle, raised)

    # Not the loop's executor: Python joins its threads at exit, and a pipe may never be written to.
    threading.Thread(target=work, name="loopai-batch-open", daemon=True).start()
    try:
        await asyncio.shield(opened)
    except asyncio.CancelledError:
        driver.abandoned.set()
        ours = not handed_over.acquire(blocking=False)
        while ours or not driver.may_block:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({opened})
            if opened.done():
                break
        if opened.done() and opened.exception() is None and ours:
            await in_thread(driver.close)
        raise


async def perform(
    driver: Driver, *, sleep: Optional[Callable[[float], Awaitable[None]]] = None
) -> AsyncGenerator[Outcome, None]:
    """Perform the run, and yield its outcomes if it emits them; `driver.summary` is set at the end.

    `sleep`, if given, makes the pauses in which no request is in flight.
    """
    loop = running_loop()
    woken = asyncio.Event()
    tasks: set[asyncio.Task[Answer]] = set()
    rows: Union[CallerRows, ThreadRows, AsyncRows] = CallerRows(())
    error: Optional[BaseException] = None

    def wake() -> None:
        # A pipe's reader outlives the loop until the pipe is written to.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(woken.set)

    def send(chunk: Chunk) -> None:
        task = loop.create_task(driver.requests.asend(chunk))
        tasks.add(task)

        def over(task: asyncio.Task[Answer]) -> None:
            tasks.discard(task)
            if not task.cancelled():
                driver.answered(chunk, task.exception() or task.result())
            woken.set()

        task.add_done_callback(over)

    async def wait(seconds: Optional[float]) -> bool:
        if seconds is not None and sleep is not None and not tasks and not woken.is_set():
            await sleep(seconds)
            return False
        # Not `wait_for`: before Python 3.12 it loses a cancellation that arrives together with the result.
        until = None if seconds is None else loop.time() + seconds
        timer = loop.call_at(until, woken.set) if until is not None else None
        try:
            await woken.wait()
        finally:
            if timer is not None:
                timer.cancel()
        woken.clear()
        return until is None or loop.time() < until

    await _open(driver)
    forget = driver.stop.on_request(wake)
    run = driver.run
    steps = driver.steps()
    try:
        driver.start()
        try:
            if isinstance(run.values, AsyncIterable):
                rows = AsyncRows(run.values, run.ahead, woken.set)
            elif run.reads_ahead:
                rows = ThreadRows(run.values, run.ahead, wake, may_block=run.may_block)
            else:
                rows = CallerRows(run.values)
            answer: Any = None
            while True:
                try:
                    step = steps.send(answer)
                except StopIteration:
                    return
                answer = None
                if isinstance(step, Send):
                    send(step.chunk)
                    # One chunk is encoded at a time, and other tasks of the loop get their turn between two.
                    await asyncio.sleep(0)
                elif isinstance(step, Pull):
                    answer = rows.pull(step.rows)
                    # A source that never suspends would block the loop.
                    await asyncio.sleep(0)
                elif isinstance(step, Wait):
                    answer = await wait(step.seconds)
                elif isinstance(step, Block):
                    answer = await in_thread(step.work)
                elif isinstance(step, ReadSchema):
                    answer = await driver.requests.aoutput_schema()
                elif isinstance(step, Abandon):
                    await _cancel(tasks)
                elif isinstance(step, Emit):
                    taken = 0
                    try:
                        for outcome in step.outcomes:
                            yield outcome
                            taken += 1
                            if not taken % OUTCOMES_AT_ONCE:
                                await asyncio.sleep(0)
                    finally:
                        if step.keep is not None:
                            await in_thread(step.keep, step.outcomes[:taken])
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                await _cancel(tasks)
            finally:
                driver.finish(error)
    finally:
        forget()
        steps.close()
        # Each may be cancelled again by a caller that repeats the cancellation; the files are closed in any case.
        try:
            if isinstance(rows, AsyncRows):
                await rows.aclose()
            else:
                await in_thread(rows.close) if isinstance(rows, ThreadRows) else rows.close()
        finally:
            await in_thread(driver.close)


async def _cancel(tasks: set[asyncio.Task[Answer]]) -> None:
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_AFTER)
