"""`PythonEngine`: run Python programs in the sandbox library's warm workers, singly or in groups."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .engine import require
from .failures import FailureKind, ProgramFailure
from .program import Bounds, Program, ProgramOutcome, Stop, Stopped
from .session import SandboxSession, SessionReply, slack_ms
from .stateless import is_stateless
from .values import NotJSON, copied, to_input
from .workers import Workers

__all__ = ["PythonEngine"]

# Beyond this a larger group saves nothing more: a request costs some 50 µs, an input in a group 12 µs.
_LARGEST_GROUP = 64
# Measured on two cores: below this more threads make a batch slower, not faster.
_WORTH_A_THREAD_MS = 10.0
# Milliseconds that checking a program may take.
_CHECK_MS = 5000
# So that a few programs stay warm side by side on a machine with one core; a worker takes about 9 MB.
_FEWEST_PROCESSES = 4


class PythonEngine:
    """Runs programs in at most `processes` workers, started at the first run; a forked child has its own.

    Parameters and behaviour are those of `ProgramPool`. Raises `ConfigurationError` if the sandbox is not installed.
    """

    def __init__(self, bounds: Bounds) -> None:
        # Here and not at the first run, since that may be on a thread, and a fork in the middle of an import blocks.
        require()
        self._processes = bounds.processes or max(_FEWEST_PROCESSES, os.cpu_count() or 1)
        self._max_memory_mb = bounds.max_memory_mb
        self._per_program = bounds.per_program or self._processes
        self._niceness = bounds.niceness
        # By process id, so that a child neither finds its parent's workers nor a lock that was held at the fork.
        self._workers: dict[int, Workers] = {}
        self._closed = threading.Event()
        self._finalizer = weakref.finalize(self, _close_own, self._workers)

    def close(self) -> None:
        """End this process's workers after runs in progress have finished. Closing again does nothing."""
        self._closed.set()
        _close_own(self._workers)

    def kill(self) -> None:
        """Close at once: runs in progress raise RuntimeError."""
        self._closed.set()
        own = self._workers.pop(os.getpid(), None)
        if own is not None:
            own.kill()

    def run(self, program: Program, value: Any, limit: int, stop: Stop | None) -> ProgramOutcome:
        """Run `main(value)`; `limit` is the time limit in milliseconds, of loading and of the call each."""
        workers = self._own()
        try:
            value = to_input(value)
        except NotJSON as error:
            return ProgramOutcome(None, str(error), 0.0)
        try:
            return _outcome(self._run_one(workers, program, value, limit, stop))
        except Stopped as stopped:
            return ProgramOutcome(None, str(stopped), 0.0)

    def run_many(
        self, program: Program, values: Sequence[Any], limit: int, max_concurrency: int, stop: Stop | None
    ) -> list[ProgramOutcome]:
        """Run `main` on each value; outcomes are in order. Stateless programs run several inputs per request."""
        workers = self._own()
        batch = _Batch(values, limit, stop)
        self._run_batch(workers, program, batch, min(max_concurrency, self._per_program))
        return [_outcome(reply) for reply in batch.replies]

    def expected_ms(self, program: Program) -> float | None:
        """See `Engine`."""
        workers = self._workers.get(os.getpid())
        nature = None if workers is None else workers.nature(program)
        return nature.ms if nature is not None and nature.stateless else None

    def check(self, program: Program) -> str | None:
        """Return None if the program loads and defines a function `main`, otherwise what is wrong."""
        workers = self._own()
        session = workers.take(program, _CHECK_MS) or self._start(workers, program, _CHECK_MS)
        if isinstance(session, ProgramFailure):
            return session.text
        keep = False
        try:
            kind = session.kind_of_main()
            keep = bool(workers.nature(program).stateless)
        finally:
            workers.give_back(session, keep=keep)
        if isinstance(kind, ProgramFailure):
            return kind.text
        return None if "function" in kind else f"main is not a function but of type {kind}"

    def _own(self) -> Workers:
        workers = self._workers.get(os.getpid())
        if workers is None:
            workers = self._workers.setdefault(
                os.getpid(), Workers(self._processes, self._max_memory_mb, self._per_program, self._niceness)
            )
        return workers

    def _start(self, workers: Workers, program: Program, limit: int) -> SandboxSession | ProgramFailure:
        session = workers.start(program, limit)
        nature = workers.nature(program)
        # Only now: our own parser must not see sources that the sandbox refuses.
        if isinstance(session, SandboxSession) and nature.stateless is None:
            nature.stateless = is_stateless(program.code)
        return session

    def _run_one(
        self, workers: Workers, program: Program, value: Any, limit: int, stop: Stop | None = None
    ) -> SessionReply:
        while True:
            session = workers.take(program, limit, stop)
            warm = session is not None
            began = time.perf_counter()
            if session is None:
                started = self._start(workers, program, limit)
                if isinstance(started, ProgramFailure):
                    return SessionReply(None, started, (time.perf_counter() - began) * 1000)
                session = started
            loading_ms = (time.perf_counter() - began) * 1000
            nature = workers.nature(program)
            keep = False
            try:
                reply = session.call(value if nature.stateless else copied(value))
                keep = bool(nature.stateless)
            finally:
                workers.give_back(session, keep=keep)
            if warm and reply.failure is not None and reply.failure.kind in {FailureKind.SPENT, FailureKind.CRASH}:
                # The cause may be state from earlier runs, or a worker that died between runs.
                self._raise_if_closed()
                continue
            if reply.failure is not None and reply.failure.kind is FailureKind.CRASH:
                self._raise_if_closed()
            nature.learn(reply.ms if nature.stateless else loading_ms + reply.ms)
            return SessionReply(reply.output, reply.failure, loading_ms + reply.ms, reply.confidence)

    def _run_batch(self, workers: Workers, program: Program, batch: _Batch, most_threads: int) -> None:
        nature = workers.nature(program)
        if nature.ms is None:
            self._run_singly(workers, program, batch, batch.take(1))
        expected_ms = (nature.ms or 0.0) * len(batch.waiting)
        # Programs only compute: more of them than cores would slow each other down.
        helpers = min(most_threads, len(batch.waiting), os.cpu_count() or 1) - 1
        if helpers < 1 or expected_ms < _WORTH_A_THREAD_MS:
            self._drain(workers, program, batch, 1)
            return
        with ThreadPoolExecutor(helpers, thread_name_prefix="loopai-programs") as threads:
            parts = [threads.submit(self._drain, workers, program, batch, helpers + 1) for _ in range(helpers)]
            self._drain(workers, program, batch, helpers + 1)
        for part in parts:
            part.result()

    def _drain(self, workers: Workers, program: Program, batch: _Batch, threads: int) -> None:
        nature = workers.nature(program)
        while True:
            size = 1
            if nature.stateless and nature.ms:
                # Ever smaller groups towards the end, so that no worker is left with a large one while others idle.
                share = -(-len(batch.waiting) // (2 * threads)) if threads > 1 else _LARGEST_GROUP
                size = max(1, min(_LARGEST_GROUP, share, int(slack_ms(batch.limit) / nature.ms)))
            if batch.is_stopped():
                return
            positions = batch.take(size)
            if not positions:
                return
            if len(positions) == 1:
                self._run_singly(workers, program, batch, positions)
            else:
                self._run_group(workers, program, batch, positions)

    def _run_singly(self, workers: Workers, program: Program, batch: _Batch, positions: list[int]) -> None:
        for at, position in enumerate(positions):
            try:
                reply = self._run_one(workers, program, batch.values[position], batch.limit, batch.stop)
            except Stopped:
                batch.put_back(positions[at:])
                return
            batch.replies[position] = reply

    def _run_group(self, workers: Workers, program: Program, batch: _Batch, positions: list[int]) -> None:
        try:
            session = workers.take(program, batch.limit, batch.stop) or self._start(workers, program, batch.limit)
        except Stopped:
            batch.put_back(positions)
            return
        if isinstance(session, ProgramFailure):
            self._run_singly(workers, program, batch, positions)
            return
        keep = False
        try:
            group = session.call_group([batch.values[position] for position in positions])
            keep = True
        finally:
            workers.give_back(session, keep=keep)
        if group.failure is None:
            nature = workers.nature(program)
            for position, reply in zip(positions, group.replies):
                batch.replies[position] = reply
                nature.learn(reply.ms)
            batch.put_back(positions[len(group.replies) :])
        elif group.failure.kind is FailureKind.TIMEOUT and group.guilty is not None and group.guilty < len(positions):
            # The group's time is the timeout and what the inputs before this one were allowed to take.
            guilty = positions.pop(group.guilty)
            batch.replies[guilty] = SessionReply(None, group.failure, float(batch.limit))
            batch.put_back(positions)
        else:
            self._raise_if_closed()
            self._run_singly(workers, program, batch, positions)

    def _raise_if_closed(self) -> None:
        if self._closed.is_set():
            raise RuntimeError("this ProgramPool was closed while a program ran")


class _Batch:
    """The inputs of one `run_many`: which are waiting, and the outcomes of the others."""

    def __init__(self, inputs: Sequence[Any], limit: int, stop: Stop | None) -> None:
        self.limit = limit
        self.stop = stop
        self.values: list[Any] = []
        self.replies: list[SessionReply] = []
        self.waiting: deque[int] = deque()
        self._lock = threading.Lock()
        for position, value in enumerate(inputs):
            failure = None
            try:
                self.values.append(to_input(value))
            except NotJSON as error:
                self.values.append(None)
                failure = ProgramFailure(str(error), FailureKind.PROGRAM)
            self.replies.append(SessionReply(None, failure, 0.0))
            if failure is None:
                self.waiting.append(position)

    def is_stopped(self) -> bool:
        """Return whether no more inputs may run; those that wait then fail."""
        reason = self.stop() if self.stop is not None else None
        if reason is None:
            return False
        for position in self.take(len(self.values)):
            self.replies[position] = SessionReply(None, ProgramFailure(reason, FailureKind.PROGRAM), 0.0)
        return True

    def take(self, most: int) -> list[int]:
        with self._lock:
            return [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]

    def put_back(self, positions: list[int]) -> None:
        with self._lock:
            self.waiting.extendleft(reversed(positions))


def _outcome(reply: SessionReply) -> ProgramOutcome:
    error = None if reply.failure is None else reply.failure.text
    return ProgramOutcome(reply.output, error, reply.ms, reply.confidence)


def _close_own(workers: dict[int, Workers]) -> None:
    own = workers.pop(os.getpid(), None)
    if own is not None:
        own.close()
