"""The languages of programs, and the engine for each. To add a language, add an entry here."""

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
        """Run `main(value)`; `stop` is called while the run waits for a process."""

    def run_many(
        self, program: Program, values: Sequence[Any], limit: int, max_concurrency: int, stop: Stop | None
    ) -> list[ProgramOutcome]:
        """Run `main` on each value; outcomes are in the order of the values. `stop` is called between runs."""

    def expected_ms(self, program: Program) -> float | None:
        """Return how many milliseconds a run takes; `None` if unknown, or if each run loads the program again."""

    def check(self, program: Program) -> str | None:
        """Return None if the program can be read and defines a function `main`, otherwise what is wrong."""

    def close(self) -> None:
        """Close after runs in progress have finished."""

    def kill(self) -> None:
        """Close at once: runs in progress raise RuntimeError."""


def _python(bounds: Bounds) -> Engine:
    from .python_engine import PythonEngine

    return PythonEngine(bounds)


def _typescript(bounds: Bounds) -> Engine:
    from .typescript.engine import TypeScriptEngine

    return TypeScriptEngine(bounds)


@dataclass(frozen=True)
class Language:
    """A language: its name and aliases, file suffixes, comment prefix, and engine.

    `start` makes the engine, and raises `ConfigurationError` if its library is not installed.
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
    """Return the name of the language for the file's suffix; Python for other suffixes."""
    suffix = os.path.splitext(path)[1].lower()
    for candidate in _ALL:
        if suffix in candidate.suffixes:
            return candidate.name
    return "python"
