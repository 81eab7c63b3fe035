"""What may watch calls: told of each call and attempt, once for both clients. Tracing hangs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

from .flow import Steps
from .operations import Operation
from .wire import Answer, Request

T = TypeVar("T")


@dataclass
class CallInfo:
    """One call as hooks see it. `attempts` counts up; `notes` is for hooks, under keys of their own."""

    operation: str
    method: str
    path: str
    task_id: Optional[str]
    version: Optional[int]
    items: int
    attempts: int = 0
    notes: dict[Any, Any] = field(default_factory=dict, repr=False)


class Hooks:
    """Override what you want to hear of. A method that raises ends the call with its exception."""

    def batch_started(self, batch: CallInfo) -> Hooks:
        """A batch of many requests begins; what is returned hears of its calls, one for each chunk of rows."""
        return self

    def batch_ended(self, batch: CallInfo, error: Optional[BaseException]) -> None:
        """The batch is over; `error` is what ended it early, `GeneratorExit` where its rows were no longer wanted."""

    def call_started(self, call: CallInfo) -> None:
        """A call is made; nothing is sent yet."""

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        """A request is about to wait for its connection; `request.headers` may be added to."""

    def attempt_ended(self, call: CallInfo, answer: Answer) -> None:
        """A reply came, or word that none did; not called where the call was cancelled meanwhile."""

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        """The call is over; `error` is what it raises, `GeneratorExit` where it was cancelled."""


def observed(flow: Steps[T], operation: Operation[T], hooks: Sequence[Hooks]) -> Steps[T]:
    """The same flow, with `hooks` told of it."""
    call = CallInfo(
        operation.name,
        operation.method,
        operation.path,
        operation.task_id,
        operation.version,
        operation.items,
    )
    told: list[Hooks] = []
    answer: Optional[Answer] = None
    error: Optional[BaseException] = None
    try:
        for hook in hooks:
            hook.call_started(call)
            told.append(hook)
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            if not isinstance(step, Request):
                answer = yield step
                continue
            call.attempts += 1
            for hook in hooks:
                hook.attempt_started(call, step)
            answer = yield step
            if answer is not None:
                for hook in hooks:
                    hook.attempt_ended(call, answer)
    except BaseException as raised:
        error = raised
        raise
    finally:
        flow.close()
        for hook in told:
            hook.call_ended(call, error)
