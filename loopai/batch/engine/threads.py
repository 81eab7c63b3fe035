"""Drives a `Scheduler` from synchronous code: requests in threads, everything else in the caller's. Decides nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from typing import Any, Callable, Optional, Union

from ...exceptions import LoopaiException
from ..rows import Outcome
from .chunks import Answer, Chunk
from .reader import Reader
from .scheduler import Done, Pull, Scheduler, Send, Wait
from .stopping import Grace, Stop, shorter

LINGER = 0.2
"""Seconds without a new row after which a part of a chunk is sent, if nothing is under way."""

TICK = 1.0
"""Seconds after which whoever shows progress is told that time has passed."""

SCANNED_AT_ONCE = 10
"""Rows looked at for each row wanted before replies are looked at again; a resumed run passes over many."""


class Inline:
    """Rows pulled in the calling thread; `ended` once the iterable is."""

    def __init__(self, values: Iterable[Any]) -> None:
        self._values = iter(values)
        # What the caller iterates already, the caller goes on with.
        self._ours = self._values is not values
        self.ended = False

    def take(self, most: int) -> list[Any]:
        """The next rows, at most so many."""
        taken = []
        for value in self._values:
            taken.append(value)
            if len(taken) >= most:
                return taken
        self.ended = True
        return taken

    def close(self) -> None:
        """End what iterates, if it was made here."""
        close = getattr(self._values, "close", None)
        if self._ours and close is not None:
            close()


class _Feeder:
    """Rows pulled in a thread of their own, for inputs that may keep one waiting (standard input)."""

    def __init__(self, values: Iterable[Any], ahead: int, wake: Callable[[], None]) -> None:
        self._values = values
        self._ahead = ahead
        self._wake = wake
        self._buffer: deque[Any] = deque()
        self._room = threading.Event()
        self._exhausted = False
        self._error: Optional[BaseException] = None
        self._closed = False
        self._hungry = True
        threading.Thread(target=self._feed, name="loopai-batch-rows", daemon=True).start()

    def _feed(self) -> None:
        try:
            for value in self._values:
                self._buffer.append(value)
                if self._hungry:
                    self._hungry = False
                    self._wake()
                while len(self._buffer) >= self._ahead and not self._closed:
                    self._room.clear()
                    if len(self._buffer) >= self._ahead:
                        self._room.wait()
                if self._closed:
                    return
        except BaseException as error:  # noqa: BLE001  # raised again where the rows are taken
            self._error = error
        self._exhausted = True
        self._wake()

    @property
    def ended(self) -> bool:
        # One that broke off is not at its end: the next `take` says so.
        return self._exhausted and not self._buffer and self._error is None

    def take(self, most: int) -> list[Any]:
        self._hungry = True
        taken = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
        self._room.set()
        if not taken and self._exhausted and self._error is not None:
            raise self._error
        return taken

    def close(self) -> None:
        self._closed = True
        self._room.set()


def drive(
    scheduler: Scheduler,
    values: Iterable[Any],
    reader: Reader,
    send: Callable[[Chunk], Answer],
    *,
    stop: Optional[Stop] = None,
    waits: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Optional[Callable[[float], None]] = None,
    tick: Callable[[], None] = lambda: None,
) -> Generator[list[Outcome], None, None]:
    """Run to the end, `send` in threads; gives outcomes as they come, and goes on when they have been dealt with.

    `values` are pulled in the calling thread, or with `waits` in one of their own. `sleep` makes a pause in which
    nothing is under way; `tick` is called about every `TICK` seconds of a wait. What `send` raises beside
    `LoopaiException` is raised here.
    """
    stop = stop or Stop()
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    jobs: queue.SimpleQueue[Optional[Chunk]] = queue.SimpleQueue()
    under_way: dict[int, Chunk] = {}
    threads: list[threading.Thread] = []
    stop.on_request(lambda: events.put(None))
    grace = Grace(scheduler, stop)
    intake: Union[Inline, _Feeder] = (
        _Feeder(values, scheduler.limits.chunk_size * 2, lambda: events.put(None)) if waits else Inline(values)
    )

    def work() -> None:
        while True:
            chunk = jobs.get()
            if chunk is None:
                return
            try:
                events.put((chunk, send(chunk)))
            except BaseException as error:  # noqa: BLE001  # raised or told in the driver's thread
                events.put((chunk, error))

    def dispatch(chunk: Chunk) -> None:
        under_way[id(chunk)] = chunk
        if len(threads) < len(under_way):
            threads.append(threading.Thread(target=work, name=f"loopai-batch-{len(threads)}", daemon=True))
            threads[-1].start()
        jobs.put(chunk)

    def settle(event: Any) -> None:
        if event is not None:
            chunk, answer = event
            del under_way[id(chunk)]
            settle_one(scheduler, chunk, answer, clock())

    def wait(seconds: Optional[float]) -> bool:
        if seconds is not None and sleep is not None and not under_way:
            sleep(seconds)
            return True
        while True:
            bound = shorter(seconds, TICK)
            try:
                settle(events.get(timeout=bound))
                break
            except queue.Empty:
                tick()
                if seconds is not None:
                    seconds -= bound or 0.0
                    if seconds <= 0:
                        return False
        while not events.empty():
            settle(events.get())
        return True

    try:
        while True:
            now = clock()
            left = grace.left(now)
            if left == 0.0 and under_way:
                scheduler.abandon(under_way.values())
                under_way.clear()
            step = scheduler.next(now)
            if isinstance(step, Send):
                dispatch(step.chunk)
                continue
            starved = False
            if isinstance(step, Pull):
                taken = intake.take(step.rows * (SCANNED_AT_ONCE if reader.skipped else 1)) if not reader.full else []
                scheduler.offer(reader.admit(taken))
                if intake.ended or reader.full:
                    scheduler.exhaust()
                starved = not taken and not intake.ended
                while not events.empty():
                    settle(events.get())
            elif isinstance(step, Done):
                break
            ready = scheduler.ready
            if ready and (starved or isinstance(step, Wait) or scheduler.laden):
                yield scheduler.take()
            elif starved:
                if not wait(shorter(LINGER, left)):
                    step = scheduler.flush(clock())
                    if isinstance(step, Send):
                        dispatch(step.chunk)
            elif isinstance(step, Wait):
                wait(shorter(step.seconds, left))
        scheduler.cancel_rest()
        if scheduler.ready:
            yield scheduler.take()
    finally:
        intake.close()
        for _ in threads:
            jobs.put(None)


def settle_one(scheduler: Scheduler, chunk: Chunk, answer: Union[Answer, BaseException], now: float) -> None:
    """Tell the scheduler what became of a chunk; what is no `LoopaiException` is raised."""
    if isinstance(answer, LoopaiException):
        scheduler.failed(chunk, answer, now)
    elif isinstance(answer, BaseException):
        raise answer
    else:
        scheduler.answered(chunk, answer, now)
