"""The workers of one process: which sessions are idle, which callers may start another, and which must wait."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .._core.limits import LONGEST_TIMEOUT_MS
from .confinement import Confinement
from .engine import engine, keep_out_of_children
from .failures import FailureKind, ProgramFailure
from .program import Program, Stop, Stopped
from .session import SandboxSession, slack_ms

__all__ = ["Nature", "Workers"]

# The sandbox stops a program itself at its timeout and is killed a second later (the library's grace). This
# limit for any request is a fallback in case both fail.
_REQUEST_SECONDS = LONGEST_TIMEOUT_MS / 1000 + 5
# How long the library may take to bring up a worker; it takes 2 ms.
_START_SECONDS = 30.0
# CPython's own default.
_RECURSION = 1000
# Most programs whose properties are remembered; the oldest are dropped first.
_MOST_PROGRAMS = 256
# Most characters of their code in total.
_MOST_CODE = 20_000_000
# Seconds until a thread that waits for a worker notices that its run is no longer needed.
_ASK_SECONDS = 0.2


@dataclass
class Nature:
    """What is known about a program: whether its sessions can be reused, and how long a call takes."""

    stateless: bool | None = None
    ms: float | None = None

    def learn(self, ms: float) -> None:
        """Record the time of a call."""
        self.ms = ms if self.ms is None else 0.8 * self.ms + 0.2 * ms


class Workers:
    """At most `processes` sessions, busy and idle; the least recently used idle one is replaced first.

    One program uses at most `per_program` of them, so that others need not wait for it.
    """

    def __init__(self, processes: int, max_memory_mb: int, per_program: int, niceness: int) -> None:
        self._processes = processes
        self._per_program = per_program
        self._niceness = niceness
        self._at_work: Counter[Program] = Counter()
        self._confinement: Confinement | None = None
        self._max_memory_mb = max_memory_mb
        self._changed = threading.Condition()
        self._idle: list[SandboxSession] = []
        self._busy: set[SandboxSession] = set()
        self._taken = 0
        self._closed = False
        self._monty: Any = None
        self._natures: dict[Program, Nature] = {}
        self._code = 0

    def inherited(self) -> list[Any]:
        """Return the library's objects, which a forked child must not release."""
        return [self._monty, *(session.checkout for session in (*self._idle, *self._busy))]

    def nature(self, program: Program) -> Nature:
        """Return what is known about the program, for the caller to add to."""
        with self._changed:
            nature = self._natures.get(program)
            if nature is None:
                nature = self._natures[program] = Nature()
                self._code += len(program.code)
                while len(self._natures) > 1 and (len(self._natures) > _MOST_PROGRAMS or self._code > _MOST_CODE):
                    oldest = next(iter(self._natures))
                    self._code -= len(oldest.code)
                    del self._natures[oldest]
            return nature

    def take(self, program: Program, timeout_ms: int, stop: Stop | None = None) -> SandboxSession | None:
        """Return a session with the program loaded; None if there is none, and the caller may `start` one.

        Waits while all workers are busy, or as many as the program may use. Raises RuntimeError if closed, and
        `Stopped` if `stop` returns a reason.
        """
        with self._changed:
            while True:
                self._raise_if_closed()
                reason = stop() if stop is not None else None
                if reason is not None:
                    raise Stopped(reason)
                if self._at_work[program] >= self._per_program:
                    self._changed.wait(None if stop is None else _ASK_SECONDS)
                    continue
                for session in reversed(self._idle):
                    if session.timeout_ms == timeout_ms and session.program == program:
                        self._idle.remove(session)
                        self._busy.add(session)
                        self._at_work[program] += 1
                        return session
                if self._taken < self._processes:
                    self._taken += 1
                    self._at_work[program] += 1
                    return None
                if self._idle:
                    oldest = self._idle.pop(0)
                    self._at_work[program] += 1
                    break
                self._changed.wait(None if stop is None else _ASK_SECONDS)
        oldest.close()
        return None

    def start(self, program: Program, timeout_ms: int) -> SandboxSession | ProgramFailure:
        """Load the program in a worker, after `take` has returned None. After a failure, call `take` again."""
        try:
            session = self._start(program, timeout_ms)
            failure = session.load()
        except OSError as error:
            self._free(program)
            return ProgramFailure(f"Execution error: the sandbox cannot start a worker: {error}", FailureKind.CRASH)
        except BaseException:
            self._free(program)
            raise
        if failure is not None:
            self.give_back(session, keep=False)
            return failure
        return session

    def _start(self, program: Program, timeout_ms: int) -> SandboxSession:
        monty = engine()
        with self._changed:
            self._raise_if_closed()
            if self._monty is None:
                self._confinement = Confinement(self._max_memory_mb, self._niceness)
                pool = monty.Monty(
                    binary_path=self._confinement.command,
                    min_processes=0,
                    max_processes=self._processes,
                    checkout_timeout=_START_SECONDS,
                    request_timeout=_REQUEST_SECONDS,
                )
                pool.__enter__()
                self._monty = pool
                keep_out_of_children(self)
            pool = self._monty
        checkout = pool.checkout(
            limits={
                "max_feed_duration_secs": (timeout_ms + slack_ms(timeout_ms)) / 1000,
                "max_memory": self._max_memory_mb * 1024 * 1024,
                "max_recursion_depth": _RECURSION,
            },
            # Sleeping does nothing useful: a program that sleeps continues at once.
            os_policy={"sleep": "zero"},
            assert_message_annotations=False,
        )
        session = SandboxSession(monty, checkout, program, timeout_ms, self._max_memory_mb)
        checkout.__enter__()
        # While a run is in progress the library does not say.
        session.pid = checkout.worker_pid
        with self._changed:
            self._busy.add(session)
        return session

    def give_back(self, session: SandboxSession, *, keep: bool) -> None:
        """Keep the session for the next call of its program, or end it and free its worker."""
        with self._changed:
            self._busy.discard(session)
            if keep and session.usable and not self._closed:
                self._idle.append(session)
                self._ended(session.program)
                return
        session.close()
        self._free(session.program)

    def _free(self, program: Program) -> None:
        with self._changed:
            self._taken -= 1
            self._ended(program)

    def _ended(self, program: Program) -> None:
        self._at_work[program] -= 1
        if not self._at_work[program]:
            del self._at_work[program]
        self._changed.notify_all()

    def close(self) -> None:
        """End all workers, busy ones after their run; threads that wait for one get a RuntimeError."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, []
            pool, self._monty = self._monty, None
            self._changed.notify_all()
        for session in idle:
            session.close()
        if pool is not None:
            pool.__exit__(None, None, None)

    def kill(self) -> None:
        """Close, and end busy workers at once: their runs fail."""
        self.close()
        with self._changed:
            pids = [session.pid for session in self._busy]
        for pid in pids:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this ProgramPool is closed; make a new one")
