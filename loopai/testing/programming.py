"""Program a `FakeLoopai`: a task's answers, an operation's reply, and faults."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Callable, Optional

from pydantic_core import from_json, to_json
from typing_extensions import Self

from .._core.schemas import schema_of
from .._core.wire import Answer, NoReply, Reply

_CODES = {
    400: "VALIDATION_ERROR",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "INVALID_OPERATION",
    429: "RATE_LIMIT_EXCEEDED",
    # Not INTERNAL_ERROR, which clients read as the server's rate limiter.
    500: "EXECUTION_ERROR",
}


class ProgramError(Exception):
    """The program fails with this text: raise it in a function for `computes`, or pass it to `returns_each`."""


class NoSuchTask(Exception):
    """The server has no such task: raised by `FakeTask.run`, and turned into a reply."""


class NotProgrammed(AssertionError):
    """The code under test ran a task without a programmed answer; the message says what to write.

    Not a `LoopaiException`, so that no error handling of the code under test hides it.
    """


@dataclass(frozen=True)
class Certain:
    """An output and its certainty, from 0 to 1: for `returns`, `returns_each` and `computes`."""

    output: Any
    confidence: float


@dataclass(frozen=True)
class Call:
    """One input sent to a task, alone or in a batch, where `item_id` is the row's own id."""

    task: str
    input: Any
    version: Optional[int] = None
    timeout_ms: Optional[int] = None
    force_validation: bool = False
    item_id: Optional[str] = None


class CallLog:
    """The calls of a fake, each as a few texts and numbers.

    So a program that changes its input does not change the record, and a test with many rows adds no work for the
    garbage collector.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._kept: list[tuple[Any, ...]] = []

    def add(self, call: Call) -> None:
        """Keep a call."""
        more = (call.version, call.timeout_ms, call.force_validation, call.item_id)
        with self._lock:
            self._kept.append((call.task, to_json(call.input), *more))

    def count(self, task: Optional[str] = None) -> int:
        """The number of calls, or of one task's calls."""
        return len(self._of(task))

    def calls(self, task: Optional[str] = None) -> list[Call]:
        """The calls in their order, or those of one task."""
        return [Call(name, from_json(content), *more) for name, content, *more in self._of(task)]

    def _of(self, task: Optional[str]) -> list[tuple[Any, ...]]:
        with self._lock:
            return [kept for kept in self._kept if task is None or kept[0] == task]


def reply(status: int, body: Any, headers: Optional[Mapping[str, str]] = None) -> Reply:
    """A reply with `body` as JSON; bytes are sent as they are, a text as plain text, nothing at 204."""
    kind = "text/plain" if isinstance(body, str) else "application/json; charset=utf-8"
    content = b"" if status == 204 else body if isinstance(body, bytes) else to_json(body)
    if isinstance(body, str):
        content = body.encode()
    return Reply(status, {"content-type": kind, **{k.lower(): v for k, v in (headers or {}).items()}}, content)


class Faulty:
    """Something that can be made to fail: the whole server, an operation or a task.

    `times` counts requests; without it the fault lasts until `recovers()`. Faults occur in the order programmed, before
    any other programmed reply. The list of a task's artifacts, which a client requests before it executes a task for
    the first time, is only affected by lasting faults and those of its own operation.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._faults: list[tuple[Callable[[], Answer], Optional[int]]] = []

    def raises(
        self,
        status: int,
        *,
        times: Optional[int] = None,
        retry_after: Optional[float] = None,
        code: Optional[str] = None,
        message: str = "programmed by the test",
        errors: Optional[Mapping[str, Sequence[str]]] = None,
    ) -> Self:
        """Answer with an error status. `errors` are texts by field, `retry_after` is in seconds."""
        if status < 300:
            raise ValueError(f"{status} is not an error: use a task's `returns` or an operation's `replies`")
        problems = [(name, text) for name, texts in (errors or {}).items() for text in texts]
        details = [{"property_name": name, "error_message": text} for name, text in problems]
        body = {"code": code or _CODES.get(status), "message": message, "details": details, "trace_id": "fake"}
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
        return self._fault(lambda: reply(status, {name: part for name, part in body.items() if part}, headers), times)

    def rate_limits(self, times: Optional[int] = None, retry_after: float = 1) -> Self:
        """Answer 429 with `Retry-After` in seconds."""
        return self.raises(429, times=times, retry_after=retry_after, message="Rate limit exceeded.")

    def unreachable(self, times: Optional[int] = None, *, arrived: bool = False) -> Self:
        """Send no reply: the connection is refused or, with `arrived`, lost after the request was sent."""
        error, text = (ConnectionResetError, "Connection reset") if arrived else (ConnectionRefusedError, "Refused")
        return self._fault(lambda: NoReply(error(f"{text} (programmed by the test)"), arrived), times)

    def times_out(self, times: Optional[int] = None) -> Self:
        """Let an attempt time out at once, without waiting."""
        return self._fault(lambda: NoReply(TimeoutError("programmed by the test"), True, timed_out=True), times)

    def recovers(self) -> Self:
        """Forget the faults programmed here."""
        with self._lock:
            self._faults.clear()
        return self

    def _fault(self, answer: Callable[[], Answer], times: Optional[int]) -> Self:
        if times is not None and times < 1:
            raise ValueError("times counts from 1; leave it out for a fault that lasts")
        with self._lock:
            self._faults.append((answer, times))
        return self

    def next_fault(self, *, counts: bool = True) -> Optional[Answer]:
        """Return the fault for the next request and use it up; with `counts` false, only a lasting one."""
        with self._lock:
            if not self._faults:
                return None
            answer, times = self._faults[0]
            if times is not None and not counts:
                return None
            if times is not None:
                self._faults[0:1] = [(answer, times - 1)] if times > 1 else []
            return answer()


class FakeOperation(Faulty):
    """One operation under the client's name for it, as made by `FakeLoopai.operation`."""

    def __init__(self, name: str, lock: AbstractContextManager[Any]) -> None:
        super().__init__(lock)
        self.name = name
        self.reply: Optional[Reply] = None

    def __repr__(self) -> str:
        return f"<FakeOperation {self.name!r}>"

    def replies(self, body: Any, status: int = 200, headers: Optional[Mapping[str, str]] = None) -> Self:
        """Answer this from now on: any JSON value or model, or bytes as they are (what a proxy may send)."""
        self.reply = reply(status, body, headers)
        return self


class FakeTask(Faulty):
    """One task, as made by `FakeLoopai.task`. `id` is what the client sends for `name`."""

    def __init__(self, name: str, task_id: str, lock: AbstractContextManager[Any], log: CallLog) -> None:
        super().__init__(lock)
        self.name = name
        self.id = task_id
        self.unknown = False
        self.record: dict[str, Any] = {}
        self.artifacts: list[dict[str, Any]] = []
        self._program: Optional[Callable[[Any], Any]] = None
        self._log = log

    def __repr__(self) -> str:
        return f"<FakeTask {self.name!r}>"

    def takes(self, input_schema: Any) -> Self:
        """Set the task's input schema (JSON or a pydantic model), which `validate_inputs` uses."""
        self.record["input_schema"] = schema_of(input_schema, "input_schema", "serialization")
        return self

    def returns(self, output: Any) -> Self:
        """Make the program return `output` for each input: any JSON value, or a pydantic model."""
        kept = from_json(to_json(output))
        return self.computes(lambda _: kept)

    def returns_each(self, outputs: Iterable[Any]) -> Self:
        """Make the program return these in turn; a `ProgramError` among them fails. Then it raises `NotProgrammed`."""
        kept = [out if isinstance(out, ProgramError) else from_json(to_json(out)) for out in outputs]
        left = iter(kept)

        def program(_: Any) -> Any:
            with self._lock:
                try:
                    output = next(left)
                except StopIteration:
                    text = f"task {self.name!r} was run more often than the {len(kept)} outputs of returns_each"
                    raise NotProgrammed(text) from None
            if isinstance(output, ProgramError):
                raise output
            return output

        return self.computes(program)

    def computes(self, function: Callable[[Any], Any]) -> Self:
        """Make the program return `function(input)`, in the caller's thread and without a lock.

        A `ProgramError` that it raises is a failure of the program; any other exception propagates to the test.
        """
        if inspect.iscoroutinefunction(function):
            raise TypeError("computes takes a plain function: a program has nothing to wait for")
        self._program, self.unknown = function, False
        return self

    def fails(self, message: str) -> Self:
        """Make the program fail with `message`: `execute` raises `ExecutionException`, a batch item fails."""

        def program(_: Any) -> Any:
            raise ProgramError(message)

        return self.computes(program)

    def is_unknown(self) -> Self:
        """Make this task unknown to the server, which then answers accordingly."""
        self.unknown = True
        return self

    @property
    def calls(self) -> list[Call]:
        """The inputs sent to this task so far, in their order, with how they were sent."""
        return self._log.calls(self.name)

    @property
    def inputs(self) -> list[Any]:
        """The inputs sent to this task so far, in their order."""
        return [call.input for call in self.calls]

    @property
    def call_count(self) -> int:
        """The number of inputs sent to this task so far; rows of batches count each, repeated attempts again."""
        return self._log.count(self.name)

    @property
    def programmed(self) -> bool:
        """Whether the test has programmed the task."""
        return self._program is not None

    def run(self, call: Call) -> Any:
        """Record a call, and return the program's output for it.

        Raises `ProgramError` if the program fails, `NoSuchTask` if the server lacks the task, and `NotProgrammed` if
        nothing was programmed.
        """
        self._log.add(call)
        if self.unknown:
            raise NoSuchTask(f"Task with ID {self.id} not found")
        if self._program is None:
            raise NotProgrammed(how_to_program(self.name))
        return self._program(call.input)


def how_to_program(name: str) -> str:
    """Return what to write so that a task has an answer."""
    return (
        f"task {name!r} was run, and the test has not said what it gives: write fake.task({name!r}).returns(…), "
        "or .computes(function), .returns_each([…]), .fails(text), .is_unknown()"
    )
