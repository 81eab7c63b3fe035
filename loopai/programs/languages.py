"""The languages that programs may be written in, and the engine that runs each. Adding one is an entry here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .program import Bounds, Program, ProgramOutcome, Stop, UnsupportedLanguage

__all__ = ["LANGUAGES", "Engine", "Language", "language", "language_of_file"]


class Engine(Protocol):
    """Runs the programs of one language. `limit` is in milliseconds and at least 1."""

    def run(self, program: Program, value: Any, limit: int, stop: Stop | None) -> ProgramOutcome:
        """Run `main(value)`; `stop` is asked while the run waits for a process."""

    def run_many(
        self, program: Program, values: Sequence[Any], limit: int, max_concurrency: int, stop: Stop | None
    ) -> list[ProgramOutcome]:
        """Run `main` on each value; the outcomes stand in order. `stop` is asked between them."""

    def expected_ms(self, program: Program) -> float | None:
        """How many milliseconds a run takes; `None` where that is unknown, or each run loads the program anew."""

    def check(self, program: Program) -> str | None:
        """None when the program can be read and defines a function `main`, else what is wrong."""

    def close(self) -> None:
        """End what was started; what runs comes to its own end first."""

    def kill(self) -> None:
        """End what was started at once: whoever waits for a run gets a RuntimeError."""


def _python(bounds: Bounds) -> Engine:
    from .python_engine import PythonEngine

    return PythonEngine(bounds)


def _typescript(bounds: Bounds) -> Engine:
    from .typescript.engine import TypeScriptEngine

    return TypeScriptEngine(bounds)


@dataclass(frozen=True)
class Language:
    """A language: its name and other names, the suffixes of its files, what a comment begins with, and its engine.

    `start` makes the engine, and raises `ConfigurationError` where its library is not installed.
    """

    name: str
    other_names: tuple[str, ...]
    suffixes: tuple[str, ...]
    comment: str
    start: Callable[[Bounds], Engine]


_ALL = (
    Language("python", ("py",), (".py",), "#", _python),
    # JavaScript is TypeScript without types.
    Language(
        "typescript",
        ("ts", "javascript", "js"),
        (".ts", ".mts", ".cts", ".js", ".mjs", ".cjs"),
        "//",
        _typescript,
    ),
)

LANGUAGES = tuple(language.name for language in _ALL)
"""The names of the languages."""


def language(name: str) -> Language:
    """Return the language of that name, in any case. Raises `UnsupportedLanguage`."""
    wanted = name.lower()
    for candidate in _ALL:
        if wanted == candidate.name or wanted in candidate.other_names:
            return candidate
    raise UnsupportedLanguage(name)


def language_of_file(path: str) -> str:
    """Return the name of the language that the file's suffix tells; Python for any other."""
    suffix = os.path.splitext(path)[1].lower()
    for candidate in _ALL:
        if suffix in candidate.suffixes:
            return candidate.name
    return "python"
