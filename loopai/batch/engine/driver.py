"""A whole run as one generator that yields what to do. The shells in `threads` and `event_loop` do it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

from ...exceptions import LoopaiException
from ..reporting.statistics import Summary
from ..rows import Outcome
from .chunks import Answer, Chunk
from .run import Run
from .scheduler import INTERRUPTED, Done, Pull, Send, Wait
from .sender import Requests, Sender
from .stopping import Stop

LINGER = 0.2
"""Seconds without a new row after which an incomplete chunk is sent, if no request is in flight."""

TICK = 1.0
"""Seconds of a wait after which watchers are called although nothing has changed."""

SHORTEST_WAIT = 0.001
"""Shortest wait in seconds, so that rounding does not cause many tiny ones at the end of a pause."""

SCANNED_AT_ONCE = 10
"""Rows pulled for each row wanted, once a resumed run has skipped rows: it usually skips many."""


@dataclass(frozen=True)
class Abandon:
    """Cancel the requests in flight; their replies are no longer needed."""


@dataclass(frozen=True)
class Block:
    """Call `work`, which reads or writes files, and return what it returns. It must not be interrupted."""

    work: Callable[[], Any]


@dataclass(frozen=True)
class ReadSchema:
    """Return the task's output schema, which `requests` reads."""


@dataclass(frozen=True)
class Emit:
    """Yield outcomes to the caller one by one, then call `keep`, which blocks, with those that the caller took."""

    outcomes: list[Outcome]
    keep: Optional[Callable[[Sequence[Outcome]], None]]


Step = Union[Send, Pull, Wait, Abandon, Block, ReadSchema, Emit]


@dataclass(frozen=True)
class Pulled:
    """The rows that a `Pull` returned; `ended` if there are no more."""

    values: Sequence[Any]
    ended: bool


class Driver:
    """Opens, drives and closes one run.

    `prepare` opens the run, and blocks; it is called with a function that says whether the run is still wanted.
    `may_block`: opening may wait for the writer of a pipe. With `emits`, outcomes are yielded to the caller instead
    of written to an output. With `raises`, the error that ended the run early is raised at its end.

    A shell calls `open` and `start`, performs each of `steps` and sends its result back (`Pulled` for `Pull`; for
    `Wait`, whether anything happened), passes each reply to `answered`, calls `finish` when no request is in flight,
    and `close` when no file is being read or written.
    """

    run: Run
    requests: Requests

    def __init__(
        self,
        prepare: Callable[[Callable[[], bool]], Run],
        sender: Sender,
        stop: Optional[Stop] = None,
        *,
        emits: bool = False,
        raises: bool = True,
        may_block: bool = False,
    ) -> None:
        self.stop = stop or Stop()
        self.may_block = may_block
        self.abandoned = threading.Event()
        self.summary: Optional[Summary] = None
        self._prepare = prepare
        self._sender = sender
        self._emits = emits
        self._raises = raises
        self._in_flight: dict[int, Chunk] = {}
        self._answers: deque[tuple[Chunk, Union[Answer, BaseException]]] = deque()

    def open(self) -> None:
        """Open the run. Blocks; raises `ConfigurationError`."""
        self.run = self._prepare(self.abandoned.is_set)

    def start(self) -> None:
        """Tell the client that the run starts."""
        self.run.scheduler.serve(self._sender.items, resends=self._sender.resends)
        self.requests = Requests(self._sender, self.run.call)

    def finish(self, error: Optional[BaseException]) -> None:
        """Tell the client that the run has ended; `error` is what ended it early."""
        self.requests.end(error or self.run.scheduler.error)

    def close(self) -> None:
        """Close the run's files. Blocks."""
        self.run.close()

    def answered(self, chunk: Chunk, answer: Union[Answer, BaseException]) -> None:
        """Accept a chunk's reply, or the exception raised for it. Thread-safe."""
        self._answers.append((chunk, answer))

    def steps(self) -> Generator[Step, Any, None]:
        """Yield the steps of the run. Raises exceptions of requests that are not a `LoopaiException`."""
        run = self.run
        if not run.finished_before:
            yield from self._rows()
        self.summary = summary = yield Block(run.complete)
        snapshot = run.snapshot()
        for watcher in run.watchers:
            watcher.finish(snapshot, summary)
        if self._raises and run.scheduler.error is not None:
            raise run.scheduler.error

    def _rows(self) -> Generator[Step, Any, None]:
        scheduler, clock, checkpoint = self.run.scheduler, self.run.clock, self.run.checkpoint
        if checkpoint is not None and checkpoint.wants_schema:
            checkpoint.describe((yield ReadSchema()))
        until: Optional[float] = None  # once the run was stopped, the end of the grace period
        while True:
            # Before sending: a reply may ask for fewer requests. Outcomes wait until requests are in flight.
            if not scheduler.ready:
                self._settle()
            now = clock()
            if self.stop.requested:
                scheduler.stop(INTERRUPTED)
            if until is None and scheduler.stopped is not None:
                until = now + self.stop.grace
            left = None if until is None else max(0.0, until - now)
            if left == 0.0 and self._in_flight:
                yield Abandon()
                scheduler.abandon(self._in_flight.values())
                self._in_flight.clear()
            step = scheduler.next(now)
            if isinstance(step, Send):
                yield self._sent(step)
                continue
            starved = False
            if isinstance(step, Pull):
                starved = yield from self._pull(step)
                self._settle()
            elif isinstance(step, Done):
                break
            if scheduler.ready and (starved or isinstance(step, Wait) or scheduler.laden):
                yield from self._keep()
            elif starved:
                came = yield from self._wait(_shorter(LINGER, left))
                flushed = Wait(None) if came else scheduler.flush(clock())
                if isinstance(flushed, Send):
                    yield self._sent(flushed)
            elif isinstance(step, Wait):
                yield from self._wait(_shorter(step.seconds, left))
        scheduler.cancel_rest()
        if scheduler.ready:
            yield from self._keep()

    def _sent(self, step: Send) -> Send:
        self._in_flight[id(step.chunk)] = step.chunk
        return step

    def _pull(self, step: Pull) -> Generator[Step, Any, bool]:
        """Get rows. Return whether the source has none at the moment but has not ended."""
        scheduler, reader = self.run.scheduler, self.run.reader
        pulled = Pulled((), True)
        if not reader.full:
            pulled = yield Pull(step.rows * (SCANNED_AT_ONCE if reader.skipped else 1))
        rows = reader.make(pulled.values)
        if rows and reader.looks_up:
            rows = yield Block(lambda: reader.select(rows))
        scheduler.offer(rows)
        if pulled.ended or reader.full:
            scheduler.exhaust()
        return not pulled.values and not pulled.ended

    def _keep(self) -> Generator[Step, Any, None]:
        run = self.run
        outcomes = run.scheduler.take()
        if self._emits:
            yield Emit(outcomes, run.record if run.journal is not None else None)
        else:
            yield Block(lambda: run.keep(outcomes))
            run.tell()

    def _wait(self, seconds: Optional[float]) -> Generator[Step, Any, bool]:
        """Wait until something happens, at most `seconds`. Return whether something did."""
        while True:
            most = TICK if seconds is None else min(max(seconds, SHORTEST_WAIT), TICK)
            came: bool = yield Wait(most)
            if self._settle() or came:
                return True
            self.run.tell()
            if seconds is not None:
                seconds -= most
                if seconds <= 0:
                    return False

    def _settle(self) -> bool:
        """Process the replies that have arrived. Return whether there were any."""
        scheduler, now = self.run.scheduler, self.run.clock()
        settled = bool(self._answers)
        while self._answers:
            chunk, answer = self._answers.popleft()
            if self._in_flight.pop(id(chunk), None) is None:
                continue  # abandoned
            if isinstance(answer, LoopaiException):
                scheduler.failed(chunk, answer, now)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                scheduler.answered(chunk, answer, now)
        return settled


def _shorter(one: Optional[float], other: Optional[float]) -> Optional[float]:
    """Return the shorter of two waits; `None` means no limit."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
