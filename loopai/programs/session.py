"""One program in one worker of the sandbox: load, call, call in a group, close."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .failures import LONGEST_MESSAGE, FailureKind, ProgramFailure, explain, message_of, timed_out
from .program import WITH_CONFIDENCE, Program
from .values import NotJSON, from_output

__all__ = ["GroupReply", "SandboxSession", "SessionReply", "slack_ms"]

# Of JSON text: what a program returns is stored and sent on, and a label takes a hundred.
_LONGEST_OUTPUT = 10_000_000
# Each call leaves some 50 bytes in the session, which count as the program's memory, and 400 in the worker.
_MOST_CALLS = 5_000

# Fed before the program, with all it uses bound as defaults, so that no program disturbs it by chance. A mark on
# stderr before each input of a group says which one was in progress when the time was up.
_DRIVER = f"""
import asyncio as _loopai_asyncio, json as _loopai_json, sys as _loopai_sys, time as _loopai_time

def _loopai_text(result, _type=type, _dumps=_loopai_json.dumps, _run=_loopai_asyncio.run, _len=len, _error=ValueError):
    if _type(result).__name__ == 'coroutine':
        result = _run(result)
    text = _dumps(result, allow_nan=False)
    if _len(text) > {_LONGEST_OUTPUT}:
        raise _error('Output is longer than {_LONGEST_OUTPUT} characters of JSON')
    return text

def _loopai_call(value, _text=_loopai_text):
    return _text(main(value)), None

def _loopai_confident(value, _text=_loopai_text):
    result = {WITH_CONFIDENCE}(value)
    return _text(result[0]), result[1]

def _loopai_group(values, budget, _call, _now=_loopai_time.perf_counter, _print=print, _err=_loopai_sys.stderr,
                  _any=BaseException, _type=type, _str=str):
    replies = []
    first = _now()
    position = 0
    for value in values:
        start = _now()
        if position and start - first > budget:
            break
        _print(f'\\x1e{{position}}\\x1e', file=_err)
        position += 1
        try:
            text, confidence = _call(value)
            reply = [True, '', text, confidence]
        except _any as error:
            kind = _type(error).__name__
            text = _str(error.args[0]) if kind == 'KeyError' and error.args else _str(error)
            reply = [False, kind, text[:{LONGEST_MESSAGE + 1}], None]
        replies.append((reply[0], reply[1], reply[2], _now() - start, reply[3]))
    return replies

def _loopai_kind(_type=type):
    return _type(main).__name__
"""
_MARK = re.compile("\x1e([0-9]+)\x1e")


@dataclass(frozen=True)
class SessionReply:
    """The result of one input: a JSON value or a failure, and the time in milliseconds."""

    output: Any
    failure: ProgramFailure | None
    ms: float
    confidence: float | None = None


@dataclass(frozen=True)
class GroupReply:
    """The results of the first inputs of a group, in order; or why the group failed, and at which position."""

    replies: list[SessionReply]
    failure: ProgramFailure | None = None
    guilty: int | None = None


def slack_ms(timeout_ms: int) -> float:
    """Milliseconds in which a group starts further inputs: each of them still has its whole timeout."""
    return min(50.0, timeout_ms / 4)


class SandboxSession:
    """A worker's session for one program and one timeout. Not thread-safe."""

    def __init__(self, monty: ModuleType, checkout: Any, program: Program, timeout_ms: int, max_memory_mb: int) -> None:
        self.program = program
        self.timeout_ms = timeout_ms
        self.calls = 0
        self.usable = True
        self.checkout = checkout
        self.pid: int | None = None
        self._monty = monty
        self._max_memory_mb = max_memory_mb
        self._function = "_loopai_confident" if program.says_confidence else "_loopai_call"

    def load(self) -> ProgramFailure | None:
        """Run the program's module level."""
        try:
            self.checkout.feed_run(_DRIVER)
            self.checkout.feed_run(self.program.code, print_callback=_discard)
        except self._monty.MontyError as error:
            self.usable = False
            return self._explain(error, loading=True)
        return None

    def kind_of_main(self) -> str | ProgramFailure:
        """The name of the type of `main`."""
        try:
            return str(self.checkout.feed_run("_loopai_kind()"))
        except self._monty.MontyError as error:
            return self._explain(error)

    def call(self, value: Any) -> SessionReply:
        """Run `main(value)`."""
        self._count(1)
        start = time.perf_counter()
        output: Any = None
        confidence: float | None = None
        failure: ProgramFailure | None = None
        try:
            reply = self.checkout.feed_run(
                f"{self._function}(_loopai_input)", inputs={"_loopai_input": value}, print_callback=_discard
            )
            if isinstance(reply, tuple) and len(reply) == 2:
                output, confidence = from_output(reply[0]), _share(reply[1])
            else:
                failure = _replaced()
        except self._monty.MontyError as error:
            failure = self._explain(error)
        except NotJSON as error:
            failure = ProgramFailure(str(error), FailureKind.PROGRAM)
        ms = (time.perf_counter() - start) * 1000
        if failure is None and ms > self.timeout_ms:
            output, confidence, failure = None, None, timed_out(self.timeout_ms)
        return SessionReply(output, failure, ms, confidence)

    def call_group(self, values: Sequence[Any]) -> GroupReply:
        """Run `main` on the values in order in one request, as many as can start within `slack_ms`."""
        self._count(len(values))
        heard = _Marks()
        start = time.perf_counter()
        try:
            rows = self.checkout.feed_run(
                f"_loopai_group(_loopai_inputs, _loopai_budget, {self._function})",
                inputs={"_loopai_inputs": values, "_loopai_budget": slack_ms(self.timeout_ms) / 1000},
                print_callback=heard,
            )
        except self._monty.MontyError as error:
            return GroupReply([], self._explain(error), heard.last())
        ms = (time.perf_counter() - start) * 1000
        try:
            inside = [max(0.0, float(row[3]) * 1000) for row in rows]
            share = max(0.0, ms - sum(inside)) / len(rows)
            replies = [self._read(row, own + share) for row, own in zip(rows, inside)]
        except (TypeError, ValueError, LookupError, ZeroDivisionError):
            # Only a program that replaced the driver gets here; run one by one, it fails with a message.
            self.usable = False
            return GroupReply([], _replaced())
        return GroupReply(replies)

    def close(self) -> None:
        """Release the worker."""
        try:
            self.checkout.__exit__(None, None, None)
        except self._monty.MontyError:
            # The worker died meanwhile, which the library has noticed by now.
            self.usable = False

    def _read(self, row: Any, ms: float) -> SessionReply:
        ok, name, text, _, said = row
        if ms > self.timeout_ms:
            return SessionReply(None, timed_out(self.timeout_ms), ms)
        if not ok:
            return SessionReply(None, ProgramFailure(message_of(str(name), str(text)), FailureKind.PROGRAM), ms)
        try:
            return SessionReply(from_output(text), None, ms, _share(said))
        except NotJSON as error:
            return SessionReply(None, ProgramFailure(str(error), FailureKind.PROGRAM), ms)

    def _count(self, calls: int) -> None:
        self.calls += calls
        if self.calls >= _MOST_CALLS:
            self.usable = False

    def _explain(self, error: Exception, *, loading: bool = False) -> ProgramFailure:
        failure = explain(
            error,
            self._monty,
            timeout_ms=self.timeout_ms,
            max_memory_mb=self._max_memory_mb,
            loading=loading,
        )
        if failure.kind is not FailureKind.PROGRAM:
            self.usable = False
        return failure


def _replaced() -> ProgramFailure:
    return ProgramFailure("Execution error: the program replaced its driver", FailureKind.CRASH)


def _share(said: Any) -> float | None:
    """Return the program's confidence; None if it is not a number from 0 to 1."""
    if isinstance(said, (int, float)) and not isinstance(said, bool) and 0 <= said <= 1:
        return float(said)
    return None


class _Marks:
    """Reads the mark of the input in progress from a group's output, and discards the rest."""

    def __init__(self) -> None:
        self._tail = ""

    def __call__(self, stream: str, text: str) -> None:
        if stream == "stderr":
            self._tail = (self._tail + text[-64:])[-64:]

    def last(self) -> int | None:
        marks = _MARK.findall(self._tail)
        return int(marks[-1]) if marks else None


def _discard(stream: str, text: str) -> None:
    """Discard what programs print."""
