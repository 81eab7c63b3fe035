"""The languages that programs may be written in, and the engine that runs each. Adding one is an entry here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .program import Outcome, Program, UnsupportedLanguage

__all__ = ["LANGUAGES", "Engine", "canonical", "start_engine"]


class Engine(Protocol):
    """Runs the programs of one language. `limit` is in milliseconds and at least 1."""

    def run(self, program: Program, value: Any, limit: int) -> Outcome:
        """Run `main(value)`."""

    def run_many(self, program: Program, values: Sequence[Any], limit: int, max_concurrency: int) -> list[Outcome]:
        """Run `main` on each value; the outcomes stand in order."""

    def check(self, program: Program) -> str | None:
        """None when the program can be read and defines a function `main`, else what is wrong."""

    def close(self) -> None:
        """End what was started."""


def _python(processes: int | None, max_memory_mb: int) -> Engine:
    from .python_engine import PythonEngine

    return PythonEngine(processes, max_memory_mb)


def _typescript(processes: int | None, max_memory_mb: int) -> Engine:
    from .typescript.engine import TypeScriptEngine

    return TypeScriptEngine(processes, max_memory_mb)


# JavaScript is TypeScript without types.
_ENGINES: dict[str, Callable[[int | None, int], Engine]] = {"python": _python, "typescript": _typescript}
_OTHER_NAMES = {"javascript": "typescript", "js": "typescript", "ts": "typescript", "py": "python"}

LANGUAGES = tuple(_ENGINES)
"""The names of the languages."""


def canonical(language: str) -> str:
    """Return the language's one name here. Raises `UnsupportedLanguage`."""
    name = language.lower()
    name = _OTHER_NAMES.get(name, name)
    if name not in _ENGINES:
        raise UnsupportedLanguage(language)
    return name


def start_engine(name: str, processes: int | None, max_memory_mb: int) -> Engine:
    """Return a new engine for a canonical name. Raises `ConfigurationError` where its library is not installed."""
    return _ENGINES[name](processes, max_memory_mb)
