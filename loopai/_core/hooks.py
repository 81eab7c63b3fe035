"""Hooks that observe calls and attempts, for both clients. Tracing uses them."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TypeVar, Union

from ..exceptions import LoopaiException
from .flow import Given, Retry, Steps, Wanted
from .operations import Operation
from .resending import Unanswered
from .wire import Answer, Request

T = TypeVar("T")


@dataclass
class CallInfo:
    """One call as hooks see it. `attempts` counts its attempts; hooks may store data in `notes`, under their own keys.

    `callers` contains, by hook, the results of its `joined` for the calls that are sent together.
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
    """Override the methods that you need. If a method raises, the call ends with that exception."""

    def batch_started(self, batch: CallInfo) -> Hooks:
        """Called when a batch begins. Return the hooks for its calls, one for each chunk of rows."""
        return self

    def batch_ended(self, batch: CallInfo, error: Optional[BaseException]) -> None:
        """Called when the batch has ended; `error` is what ended it early, `GeneratorExit` if the caller stopped it."""

    def joined(self) -> Any:
        """Called when a call joins others in one request. The result is added to that request's `callers`."""
        return None

    def call_started(self, call: CallInfo) -> None:
        """Called when a call begins, before anything is sent."""

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        """Called before a request waits for its connection; you may add to `request.headers`."""

    def attempt_ended(self, call: CallInfo, answer: Answer) -> None:
        """Called after a reply, or after a failure to get one; not called if the call was cancelled meanwhile."""

    def retry_scheduled(self, call: CallInfo, pause: float, error: LoopaiException) -> Optional[Awaitable[None]]:
        """Called before a retry, `pause` seconds after `error`; `LoopaiClient` awaits an awaitable result."""

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        """Called when the call has ended; `error` is what it raises, `GeneratorExit` if it was cancelled."""


def observed(flow: Steps[T], operation: Operation[T], hooks: Sequence[Hooks]) -> Steps[T]:
    """Wrap a flow so that it calls `hooks`."""
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
        tell_all(told, lambda hook: hook.call_ended(call, error))


def tell_all(hooks: Sequence[Hooks], tell: Callable[[Hooks], None]) -> None:
    """Tell every hook in turn, also after one that raised; then raise what the last of those raised."""
    with ExitStack() as each:
        for hook in reversed(hooks):
            each.callback(tell, hook)


def _told_of_retry(hook: Hooks, call: CallInfo, retry: Retry) -> Steps[None]:
    waiting = hook.retry_scheduled(call, retry.seconds, retry.error)
    if waiting is not None:
        yield Wanted(lambda: waiting)
