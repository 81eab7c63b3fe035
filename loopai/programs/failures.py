"""Failures in the sandbox: the text of the outcome, and what the failure means for the session."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import ModuleType

__all__ = ["LONGEST_MESSAGE", "FailureKind", "ProgramFailure", "explain", "message_of", "timed_out"]

# Of an exception's message, so that a program cannot make a log or a reply grow without end.
LONGEST_MESSAGE = 2000

_CUT = " …"


class FailureKind(Enum):
    """The cause of a failure; after all but PROGRAM the session must not be used again."""

    PROGRAM = "the program raised"
    TIMEOUT = "the time was up"
    SPENT = "the session ran out of memory or of questions to its host, perhaps through earlier runs"
    CRASH = "the worker is gone"


@dataclass(frozen=True)
class ProgramFailure:
    """Why a run returned no value: the text for the outcome, and the kind."""

    text: str
    kind: FailureKind


def timed_out(timeout_ms: int) -> ProgramFailure:
    """Return the failure of a run that exceeded its timeout."""
    return ProgramFailure(f"Execution timeout after {timeout_ms}ms", FailureKind.TIMEOUT)


def message_of(name: str, message: str) -> str:
    """Return the text for an exception of the type `name`: its message, at most `LONGEST_MESSAGE` characters of it.

    The type replaces an empty message, and precedes one that says nothing alone: a KeyError's message is just the key.
    """
    name = name.rpartition(".")[2]
    text = message.strip()
    if not text:
        return name
    if name == "KeyError":
        text = f"KeyError: {text}"
    if name == "NameError" and text == "name 'main' is not defined":
        text = "main is not defined"
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + _CUT


def explain(
    error: Exception, monty: ModuleType, *, timeout_ms: int, max_memory_mb: int, loading: bool
) -> ProgramFailure:
    """Return the failure for an error of the sandbox library; an error while `loading` gets its line number."""
    if isinstance(error, monty.MontyCrashedError):
        if error.timed_out:
            return timed_out(timeout_ms)
        return ProgramFailure(f"Execution error: the sandbox's worker ended unexpectedly ({error})", FailureKind.CRASH)
    if not isinstance(error, (monty.MontySyntaxError, monty.MontyRuntimeError)):
        return ProgramFailure(f"Execution error: {error}", FailureKind.CRASH)
    name, _, message = error.display("type-msg").partition(":")
    message = message.strip()
    if name == "TimeoutError" and message.startswith("feed time limit exceeded"):
        return timed_out(timeout_ms)
    if name == "MemoryError":
        return ProgramFailure(f"Memory limit of {max_memory_mb} MB exceeded", FailureKind.SPENT)
    if name == "RuntimeError" and message.startswith("suspension limit"):
        return ProgramFailure(
            "Too many attempts to reach files, clocks or names outside the program", FailureKind.SPENT
        )
    if name == "UnicodeEncodeError" and not error.traceback():
        return ProgramFailure(f"Input is not valid Unicode: {message}", FailureKind.PROGRAM)
    text = message_of(name, message)
    if loading:
        frames = error.traceback()
        line = f" (line {frames[-1].line})" if frames else ""
        text = f"{name}: {text}{line}" if isinstance(error, monty.MontySyntaxError) else f"{text}{line}"
    return ProgramFailure(text, FailureKind.PROGRAM)
