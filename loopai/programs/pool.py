"""`ProgramPool`: run programs of any supported language in warm processes, singly or in groups, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from loopai.exceptions import ConfigurationError

from .._core.limits import LONGEST_TIMEOUT_MS, PROGRAM_TIMEOUT_MS
from .languages import LANGUAGES, Engine, language
from .program import Bounds, Program, ProgramOutcome, Stop

__all__ = ["ProgramPool"]


class ProgramPool:
    """Runs programs in sandboxed processes, with limits on time and memory. No process starts before the first run.

    `processes` limits the processes for each language, and so how many programs run at a time (default: the number of
    cores, at least 4 for Python and 2 for TypeScript). `per_program` limits in how many of them one program may run
    (default: all). `niceness` lowers their priority (Linux). `max_memory_mb` limits the memory of one program, input
    included. Thread-safe; a forked child gets its own processes.
    Methods raise `UnsupportedLanguage` for a language that does not run here, `ConfigurationError` if its library is
    not installed, and RuntimeError once closed.
    """

    def __init__(
        self,
        *,
        processes: int | None = None,
        max_memory_mb: int = 128,
        per_program: int | None = None,
        niceness: int = 0,
    ) -> None:
        if per_program is not None and per_program < 1:
            raise ValueError(f"per_program must be at least 1, not {per_program}")
        if processes is not None and processes < 1:
            raise ValueError(f"processes must be at least 1, not {processes}")
        if max_memory_mb < 1:
            raise ValueError(f"max_memory_mb must be at least 1, not {max_memory_mb}")
        self._bounds = Bounds(processes, max_memory_mb, per_program, niceness)
        self._engines: dict[str, Engine] = {}
        self._closed = threading.Event()
        # Their libraries are imported here and not at the first run, which may be on a thread: a child forked in the
        # middle of an import would wait for its end forever.
        for name in LANGUAGES:
            with suppress(ConfigurationError):
                self._engine(name)

    def __enter__(self) -> ProgramPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End this process's sandboxes after runs in progress have finished. Closing again does nothing."""
        self._closed.set()
        for engine in list(self._engines.values()):
            engine.close()

    def kill(self) -> None:
        """Close at once: runs in progress raise RuntimeError."""
        self._closed.set()
        for engine in list(self._engines.values()):
            engine.kill()

    def require(self, name: str) -> None:
        """Raise `UnsupportedLanguage` or `ConfigurationError` unless programs in the language `name` can run here."""
        self._engine(name)

    def run(
        self,
        program: Program,
        input: Any,  # noqa: A002 the contract's word
        *,
        timeout_ms: int = PROGRAM_TIMEOUT_MS,
        stop: Stop | None = None,
    ) -> ProgramOutcome:
        """Run `main(input)`. Failures of the program are in the outcome.

        `timeout_ms` is the time limit of the call, and of loading a Python program before it. 0 fails at once; a
        negative number means a minute, which is the longest limit. `stop` is called while the run waits for a process:
        a reason that it returns is the outcome's error.
        """
        engine = self._engine(program.language)
        limit = _limit(timeout_ms)
        return engine.run(program, input, limit, stop) if limit else _NO_TIME

    def run_many(
        self,
        program: Program,
        inputs: Sequence[Any],
        *,
        timeout_ms: int = PROGRAM_TIMEOUT_MS,
        max_concurrency: int = 10,
        stop: Stop | None = None,
    ) -> list[ProgramOutcome]:
        """Run `main` on each input, each with its own timeout; outcomes are in the order of the inputs.

        `max_concurrency` limits how many processes are used. `stop` is called between inputs: a reason that it returns
        is the error of every input that has not run yet.
        """
        engine = self._engine(program.language)
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")
        limit = _limit(timeout_ms)
        if not limit:
            return [_NO_TIME] * len(inputs)
        return engine.run_many(program, inputs, limit, max_concurrency, stop)

    def expected_ms(self, program: Program) -> float | None:
        """Return how many milliseconds a run takes; `None` if unknown, or if each run loads the program again."""
        return self._engine(program.language).expected_ms(program)

    def check(self, program: Program) -> str | None:
        """Return None if the program can be read and defines a function `main`, otherwise what is wrong."""
        return self._engine(program.language).check(program)

    def _engine(self, name: str) -> Engine:
        if self._closed.is_set():
            raise RuntimeError("this ProgramPool is closed; make a new one")
        known = language(name)
        engine = self._engines.get(known.name)
        if engine is None:
            # No lock, which a fork could leave held: if two are made at once, one is never used and starts nothing.
            engine = self._engines.setdefault(known.name, known.start(self._bounds))
        return engine


_NO_TIME = ProgramOutcome(None, "Execution timeout after 0ms", 0.0)


def _limit(timeout_ms: int) -> int:
    return min(timeout_ms, LONGEST_TIMEOUT_MS) if timeout_ms >= 0 else LONGEST_TIMEOUT_MS
