"""Perform a run's steps in synchronous code: requests in threads, the rest in the caller's. Decides nothing."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import AsyncIterable, Generator
from typing import Any, Callable, Optional, Union

from ..rows import Outcome
from .chunks import Chunk
from .driver import Block, Driver, Emit, ReadSchema
from .row_sources import CallerRows, ThreadRows
from .scheduler import Pull, Send, Wait

IDLE_SECONDS = 1.0
"""Seconds after which a thread without work ends."""


class _Kept:
    """Daemon threads that are kept for later runs: starting one takes longer than a small request."""

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # A forked child has none of the threads.
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []

    def run(self, work: Callable[[], None]) -> None:
        """Call `work`, which raises nothing, in a thread."""
        with self._lock:
            jobs = self._idle.pop() if self._idle else None
        if jobs is None:
            jobs = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(jobs,), name="loopai-batch-0", daemon=True).start()
        jobs.put(work)

    def _work(self, jobs: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                work = jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if jobs in self._idle:
                        self._idle.remove(jobs)
                        return
                continue  # it gets work at this moment
            work()
            del work  # an idle thread keeps no run alive
            with self._lock:
                self._idle.append(jobs)


_kept = _Kept()


class _Pool:
    """Threads that send chunks, one for each request in flight. `events` gets one item for each reply."""

    def __init__(self, driver: Driver, events: queue.SimpleQueue[None]) -> None:
        self._driver = driver
        self._events = events
        self._jobs: queue.SimpleQueue[Optional[Chunk]] = queue.SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()
        self.in_flight = 0

    def send(self, chunk: Chunk) -> None:
        with self._lock:
            self.in_flight += 1
            needed = self.in_flight > self._threads
        self._jobs.put(chunk)
        if needed:
            self._start()

    def _start(self) -> None:
        number = self._threads
        self._threads += 1  # first: an exception of a signal handler may end the start of a thread that then works
        if number == 0:
            _kept.run(self._work)
        else:  # a run with several requests in flight takes long enough to start threads of its own
            threading.Thread(target=self._work, name=f"loopai-batch-{number}", daemon=True).start()

    def _work(self) -> None:
        while (chunk := self._jobs.get()) is not None:
            try:
                self._driver.answered(chunk, self._driver.requests.send(chunk))
            except BaseException as error:  # noqa: BLE001  # raised or counted in the driver's thread
                self._driver.answered(chunk, error)
            with self._lock:
                self.in_flight -= 1
            self._events.put(None)

    def close(self) -> None:
        for _ in range(self._threads):
            self._jobs.put(None)


def perform(driver: Driver, *, sleep: Optional[Callable[[float], None]] = None) -> Generator[Outcome, None, None]:
    """Perform the run, and yield its outcomes if it emits them; `driver.summary` is set at the end.

    `sleep`, if given, makes the pauses in which no request is in flight.
    """
    driver.open()
    try:
        driver.start()
        error: Optional[BaseException] = None
        try:
            yield from _performed(driver, sleep)
        except BaseException as raised:
            error = raised
            raise
        finally:
            driver.finish(error)
    finally:
        driver.close()


def _performed(driver: Driver, sleep: Optional[Callable[[float], None]]) -> Generator[Outcome, None, None]:
    run = driver.run
    if isinstance(run.values, AsyncIterable):
        raise TypeError("SyncLoopaiClient cannot read asynchronous rows: use LoopaiClient")
    events: queue.SimpleQueue[None] = queue.SimpleQueue()
    pool = _Pool(driver, events)
    rows: Union[CallerRows, ThreadRows] = CallerRows(())
    forget = driver.stop.on_request(lambda: events.put(None))

    def wait(seconds: Optional[float]) -> bool:
        if seconds is not None and sleep is not None and not pool.in_flight:
            sleep(seconds)
            return False
        try:
            events.get(timeout=seconds)
        except queue.Empty:
            return False
        while not events.empty():
            events.get()
        return True

    steps = driver.steps()
    try:
        if run.may_block:
            rows = ThreadRows(run.values, run.ahead, lambda: events.put(None), may_block=True)
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
                pool.send(step.chunk)
            elif isinstance(step, Pull):
                answer = rows.pull(step.rows)
            elif isinstance(step, Wait):
                answer = wait(step.seconds)
            elif isinstance(step, Block):
                answer = step.work()
            elif isinstance(step, ReadSchema):
                answer = driver.requests.output_schema()
            elif isinstance(step, Emit):
                taken = 0
                try:
                    for outcome in step.outcomes:
                        yield outcome
                        taken += 1
                finally:
                    if step.keep is not None:
                        step.keep(step.outcomes[:taken])
            # Abandoned requests end with their threads, which are not joined.
    finally:
        forget()
        steps.close()
        pool.close()
        rows.close()
