"""What may watch calls: told of each call and attempt, once for both clients. Tracing hangs here."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar, Union

from ..exceptions import LoopaiException
from .flow import Given, Retry, Steps, Wanted
from .operations import Operation
from .resending import Unanswered
from .wire import Answer, Request

T = TypeVar("T")


@dataclass
class CallInfo:
    """One call as hooks see it. `attempts` counts up; `notes` is for hooks, under keys of their own.

    `callers` has, by hook, what its `joined` gave for each of the calls that are sent together.
    """

    operation: str
    method: str
    path: str
    task_id: Optional[str]
    version: Optional[int]
    items: int
    attempts: int = 0
    notes: dict[Any, Any] = field(default_factory=dict, repr=False)
    callers: Mapping[Any, Sequence[Any]] = field(default_factory=dict, repr=False)


class Hooks:
    """Override what you want to hear of. A method that raises ends the call with its exception."""

    def batch_started(self, batch: CallInfo) -> Hooks:
        """A batch of many requests begins; what is returned hears of its calls, one for each chunk of rows."""
        return self

    def batch_ended(self, batch: CallInfo, error: Optional[BaseException]) -> None:
        """The batch is over; `error` is what ended it early, `GeneratorExit` where its rows were no longer wanted."""

    def joined(self) -> Any:
        """A call joins others that are sent as one request; what this gives is among that one's `callers`."""
        return None

    def call_started(self, call: CallInfo) -> None:
        """A call is made; nothing is sent yet."""

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        """A request is about to wait for its connection; `request.headers` may be added to."""

    def attempt_ended(self, call: CallInfo, answer: Answer) -> None:
        """A reply came, or word that none did; not called where the call was cancelled meanwhile."""

    def retry_scheduled(self, call: CallInfo, pause: float, error: LoopaiException) -> Optional[Awaitable[None]]:
        """The call is repeated after `pause` seconds because of `error`; `LoopaiClient` awaits what this gives."""

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
        callers={hook: [each[hook] for each in operation.callers if hook in each] for hook in hooks}
        if operation.callers
        else {},
    )
    told: list[Hooks] = []
    answer: Union[Answer, Given, None] = None
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
            if isinstance(step, Retry):
                for hook in hooks:
                    yield from _told_of_retry(hook, call, step)
                answer = None
                continue
            if not isinstance(step, Request):
                answer = yield step
                continue
            call.attempts += 1
            for hook in hooks:
                hook.attempt_started(call, step)
            answer = yield step
            if answer is not None and not isinstance(answer, Given):
                for hook in hooks:
                    hook.attempt_ended(call, answer)
    except BaseException as raised:
        error = raised.error if isinstance(raised, Unanswered) else raised
        raise
    finally:
        flow.close()
        for hook in told:
            hook.call_ended(call, error)


def _told_of_retry(hook: Hooks, call: CallInfo, retry: Retry) -> Steps[None]:
    waiting = hook.retry_scheduled(call, retry.seconds, retry.error)
    if waiting is not None:
        yield Wanted(lambda: waiting)
