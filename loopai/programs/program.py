"""`Program`, `ProgramOutcome` and `UnsupportedLanguage`: data types; nothing is run here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

__all__ = ["Bounds", "Program", "ProgramOutcome", "Stop", "Stopped", "UnsupportedLanguage"]

WITH_CONFIDENCE = "main_with_confidence"
"""An optional function of a Python program besides `main`: returns the output and its confidence (0 to 1, or None)."""
_CONFIDENT = re.compile(rf"^def {WITH_CONFIDENCE}\(", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """The source of a program that defines `main(input)`, plain or async, and the language it is written in."""

    code: str
    language: str = "python"

    @property
    def says_confidence(self) -> bool:
        """Whether the program has a function that returns the output and how certain it is."""
        return self.language == "python" and _CONFIDENT.search(self.code) is not None


@dataclass(frozen=True)
class ProgramOutcome:
    """The result of one run: a JSON value in `output`, or the reason in `error` (then `output` is None).

    `latency_ms` is the time of the run, including loading if the program was not loaded yet, without waiting for a free
    worker. For an input of a group it is the input's own time in the sandbox plus an equal share of the group's
    overhead. `confidence` is how certain the program is of its output, from 0 to 1; None if it does not say.
    """

    output: Any
    error: str | None
    latency_ms: float
    confidence: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the program returned a value."""
        return self.error is None


@dataclass(frozen=True)
class Bounds:
    """Limits of an engine: parameters of `ProgramPool`, None for the engine's default."""

    processes: int | None
    max_memory_mb: int
    per_program: int | None
    niceness: int


class UnsupportedLanguage(ValueError):
    """The program is in a language that cannot be run here; `language` names it."""

    def __init__(self, language: str) -> None:
        super().__init__(language)
        self.language = language

    def __str__(self) -> str:
        return f"programs in {self.language!r} cannot be run here; write it in 'python' or 'typescript'"


class Stopped(Exception):
    """The run is no longer needed; the message says why."""


Stop = Callable[[], Optional[str]]
"""Returns why a run is no longer needed, or None. Called between inputs and while waiting for a worker."""
