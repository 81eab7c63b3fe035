"""Drives a `Scheduler` in an event loop: requests are tasks of the caller's loop. Decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable
from typing import Any, Callable, Optional, Union

from ..rows import Outcome
from .chunks import Answer, Chunk
from .reader import Reader
from .scheduler import Done, Pull, Scheduler, Send, Wait
from .stopping import Grace, Stop, shorter
from .threads import LINGER, SCANNED_AT_ONCE, Inline, settle_one

CANCEL_AGAIN_AFTER = 0.5
"""Seconds. A cancellation can get lost on its way (anyio on Python 3.10, while it connects): it is asked for again."""


class _Feeder:
    """Rows pulled by a task of their own, so that replies are dealt with while the next row is waited for."""

    def __init__(self, values: AsyncIterable[Any], ahead: int, wake: asyncio.Event) -> None:
        self._values = values
        # What the caller iterates already, the caller goes on with.
        self._iterator = values.__aiter__()
        self._ahead = ahead
        self._wake = wake
        self._buffer: deque[Any] = deque()
        self._room = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._feed())
        self._task.add_done_callback(lambda _: wake.set())

    async def _feed(self) -> None:
        async for value in self._iterator:
            self._buffer.append(value)
            self._wake.set()
            while len(self._buffer) >= self._ahead:
                self._room.clear()
                await self._room.wait()

    @property
    def ended(self) -> bool:
        # One that broke off is not at its end: the next `take` says so.
        return self._task.done() and not self._buffer and self._task.exception() is None

    def take(self, most: int) -> list[Any]:
        taken = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
        self._room.set()
        if not taken and self._task.done():
            self._task.result()
        return taken

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})
        close = getattr(self._iterator, "aclose", None)
        if self._iterator is not self._values and close is not None:
            await close()


async def adrive(
    scheduler: Scheduler,
    values: Union[Iterable[Any], AsyncIterable[Any]],
    reader: Reader,
    send: Callable[[Chunk], Awaitable[Answer]],
    *,
    stop: Optional[Stop] = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Optional[Callable[[float], Awaitable[None]]] = None,
) -> AsyncGenerator[list[Outcome], None]:
    """As `threads.drive`, in the running loop. A synchronous iterable is pulled in the loop: it should not block."""
    stop = stop or Stop()
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    under_way: dict[asyncio.Task[Answer], Chunk] = {}
    ended: deque[asyncio.Task[Answer]] = deque()
    grace = Grace(scheduler, stop)
    ahead = scheduler.limits.chunk_size * 2
    intake = _Feeder(values, ahead, woken) if isinstance(values, AsyncIterable) else Inline(values)

    def wake() -> None:
        loop.call_soon_threadsafe(woken.set)

    stop.on_request(wake)

    def over(task: asyncio.Task[Answer]) -> None:
        ended.append(task)
        woken.set()

    def dispatch(chunk: Chunk) -> None:
        task = loop.create_task(_answer(send, chunk))
        under_way[task] = chunk
        task.add_done_callback(over)

    def settle() -> None:
        while ended:
            task = ended.popleft()
            chunk = under_way.pop(task, None)
            if chunk is not None:
                settle_one(scheduler, chunk, task.exception() or task.result(), clock())

    async def wait(seconds: Optional[float]) -> bool:
        if ended:
            woken.clear()
            settle()
            return True
        if seconds is not None and sleep is not None and not under_way:
            await sleep(seconds)
            return True
        # Not `wait_for`: below Python 3.12 it loses a cancellation that comes together with what it waits for.
        began = loop.time()
        timer = loop.call_later(seconds, woken.set) if seconds is not None else None
        try:
            await woken.wait()
        finally:
            if timer is not None:
                timer.cancel()
        woken.clear()
        came = bool(ended) or seconds is None or loop.time() - began < seconds
        settle()
        return came

    try:
        while True:
            now = clock()
            left = grace.left(now)
            if left == 0.0 and under_way:
                await _cancel(under_way)
                scheduler.abandon(under_way.values())
                under_way.clear()
            step = scheduler.next(now)
            if isinstance(step, Send):
                dispatch(step.chunk)
                continue
            starved = False
            if isinstance(step, Pull):
                woken.clear()
                taken = intake.take(step.rows * (SCANNED_AT_ONCE if reader.skipped else 1)) if not reader.full else []
                scheduler.offer(reader.admit(taken))
                if intake.ended or reader.full:
                    scheduler.exhaust()
                starved = not taken and not intake.ended
                settle()
                # A source that never suspends would keep the loop from everything else.
                await asyncio.sleep(0)
            elif isinstance(step, Done):
                break
            ready = scheduler.ready
            if ready and (starved or isinstance(step, Wait) or scheduler.laden):
                yield scheduler.take()
            elif starved:
                if not await wait(shorter(LINGER, left)):
                    step = scheduler.flush(clock())
                    if isinstance(step, Send):
                        dispatch(step.chunk)
            elif isinstance(step, Wait):
                await wait(shorter(step.seconds, left))
        scheduler.cancel_rest()
        if scheduler.ready:
            yield scheduler.take()
    finally:
        await _cancel(under_way)
        if isinstance(intake, _Feeder):
            await intake.close()
        else:
            intake.close()


async def _answer(send: Callable[[Chunk], Awaitable[Answer]], chunk: Chunk) -> Answer:
    return await send(chunk)


async def _cancel(tasks: Iterable[asyncio.Task[Answer]]) -> None:
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_AFTER)
    for task in tasks:
        # Taken note of, so that no "exception was never retrieved" is logged for what nobody waits for any more.
        if not task.cancelled():
            task.exception()
