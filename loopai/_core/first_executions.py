"""First executions: the server makes a task's program for whoever executes it first, so that one call goes alone.

Simultaneous first executions each have the published server make a program, and some of them fail.
"""

from __future__ import annotations

import copy
import os
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Optional, TypeVar

from ..exceptions import (
    ExecutionException,
    LoopaiException,
    NotFoundException,
    ReplyTooLargeException,
    TimeoutException,
    ValidationException,
)
from .checking import Performer
from .flow import Policy, Steps, Wanted
from .missing import active_version
from .operations import Operation, list_artifacts
from .replies import is_unwritten
from .texts import shortened
from .unrun import is_unrun, names_missing

T = TypeVar("T")

FIRST_SECONDS = 100.0
"""How much longer a first execution may take: the published server waits up to 96 seconds for a program."""

MOST_REMEMBERED = 10_000
"""Tasks that one client remembers; a site has tens of them."""

LOOK_AGAIN = 1.0
"""Seconds after which who waits looks whether the call that went first is still there: an exception of a signal handler
may come at any step, and leave nobody to say that it is over."""

Settled = Future[Optional[LoopaiException]]


class OneItemFirst(Exception):
    """A request of several items was not sent, as the task has no program: send one item alone first."""


class FirstExecutions:
    """Which tasks have a program, as one client found out. Copies of a client share it. Safe for threads.

    With `needed=False` every task counts as having one, and nothing is looked up.
    """

    def __init__(self, *, needed: bool = True) -> None:
        self._needed = needed
        self._with_program: set[str] = set()
        self._without: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        # Weak: a call that goes first holds its own turn.
        self._under_way: dict[str, weakref.ref[FirstTurn]] = {}

    def may_be(self, operation: Operation[Any]) -> bool:
        """Whether the operation may be the first execution of its task."""
        return (
            operation.pure
            and operation.version is None
            and operation.task_id not in self._with_program
            and self._needed
        )

    def turn(self, task_id: str) -> Optional[FirstTurn]:
        """Return the turn to go first, or to wait for who does; `None` where the task has a program."""
        if self._pid != os.getpid():  # the parent's calls, and whatever lock they held, are not here
            self._reset()
        with self._lock:
            if task_id in self._with_program:
                return None
            first = self._first(task_id)
            if first is not None and not first.settled.done():
                return FirstTurn(self, task_id, first.settled, leads=False)
            mine = FirstTurn(self, task_id, Future(), leads=True)
            # As if it ran: one who no longer waits must not cancel it for the others.
            mine.settled.set_running_or_notify_cancel()
            self._under_way[task_id] = weakref.ref(mine)
            return mine

    def is_under_way(self, task_id: str, settled: Settled) -> bool:
        """Whether the call that is to settle it is still there."""
        with self._lock:
            first = self._first(task_id)
            return first is not None and first.settled is settled and not settled.done()

    def _first(self, task_id: str) -> Optional[FirstTurn]:
        found = self._under_way.get(task_id)
        return None if found is None else found()

    def lacks_program(self, task_id: str) -> bool:
        """Whether the task is known to have no program."""
        return task_id in self._without

    def note_without(self, task_id: str) -> None:
        """The task has no program."""
        with self._lock:
            if len(self._without) >= MOST_REMEMBERED:
                self._without.clear()
            self._without.add(task_id)

    def note_program(self, task_id: str) -> None:
        """The task has a program, or counts as having one."""
        with self._lock:
            if len(self._with_program) >= MOST_REMEMBERED:
                self._with_program.clear()
            self._with_program.add(task_id)
            self._without.discard(task_id)

    def let_go(self, task_id: str, settled: Settled, error: Optional[LoopaiException]) -> None:
        """Let those who wait continue, or raise `error`."""
        with self._lock:
            if not settled.done():
                settled.set_result(error)
            first = self._first(task_id)
            if first is not None and first.settled is settled:
                del self._under_way[task_id]


class FirstTurn:
    """A call's place at the first execution of a task: it goes first (`leads`), or waits for `settled`."""

    def __init__(self, firsts: FirstExecutions, task_id: str, settled: Settled, *, leads: bool) -> None:
        self.leads = leads
        self.settled = settled
        self.is_over = False
        self._firsts = firsts
        self._task_id = task_id
        self.error: Optional[LoopaiException] = None

    def is_waited_for(self) -> bool:
        """Whether the call that goes first is still under way."""
        return self._firsts.is_under_way(self._task_id, self.settled)

    def has_program(self) -> None:
        """The task has a program: whoever waits continues."""
        if not self.is_over:
            self._firsts.note_program(self._task_id)
        self.end()

    def ended(self, item: Mapping[str, Any]) -> None:
        """Take note of how the one item that was executed first ended, by its members on the wire."""
        success, ran, message = item["success"], item.get("execution_id"), item.get("error_message")
        # Only the embedded server gives a code to what it did not run; it makes one program, whoever asks.
        if success or ran is not None or item.get("code") is not None:
            self.has_program()
        elif not is_unrun(success, ran, None, message):
            kind = NotFoundException if names_missing(success, ran, message) else ExecutionException
            self.failed(kind(shortened(str(message)), status_code=200))

    def failed(self, error: LoopaiException) -> None:
        """Take note of why the first execution failed: of whoever waits it is the error, too."""
        if _ran(error):
            self.has_program()
        elif not isinstance(error, ValidationException):  # its own input, or options
            self.error = error

    def end(self) -> None:
        """Let go whoever waits: with the error, to continue, or for one of them to go first."""
        if not self.is_over:
            self._firsts.let_go(self._task_id, self.settled, self.error)
            self.is_over = True


def _ran(error: LoopaiException) -> bool:
    """Whether a program was there: it ran and failed, or the reply with its output could not be written or taken."""
    if isinstance(error, ExecutionException):
        return error.execution_id is not None
    return is_unwritten(error) or isinstance(error, ReplyTooLargeException)


def one_first(
    operation: Operation[T],
    policy: Policy,
    began: Optional[float],
    firsts: FirstExecutions,
    make: Callable[[Operation[T], float, Optional[FirstTurn]], Steps[T]],
    look: Callable[[Operation[Any], Policy, float], Steps[Any]],
    performer: Performer,
) -> Steps[T]:
    """Make the call of an execution; if its task has no program, alone, while others on the task wait for it.

    `make` makes the steps of the call, `look` those of looking the task's artifacts up, both with when the deadline
    began. Raises `OneItemFirst` for several items that are one request, and the error of the call that was waited for.
    """
    if began is None:
        began = policy.clock()
    task_id = str(operation.task_id)
    while True:
        turn = firsts.turn(task_id)
        if turn is None:
            return (yield from make(operation, began, None))
        if not turn.leads:
            yield from _waited(turn, operation, policy, began, performer)
            continue
        try:
            if not firsts.lacks_program(task_id):
                if (yield from _has_program(task_id, policy, began, look)):
                    turn.has_program()
                    continue
                firsts.note_without(task_id)
            if operation.parts is None and operation.items > 1:
                raise OneItemFirst
            return (yield from _first(operation, began, turn, make))
        finally:
            turn.end()


def _waited(
    turn: FirstTurn,
    operation: Operation[Any],
    policy: Policy,
    began: float,
    performer: Performer,
) -> Steps[None]:
    while turn.is_waited_for():
        left = LOOK_AGAIN
        if policy.deadline is not None:
            left = min(left, policy.deadline - (policy.clock() - began))
        if left <= 0:
            raise TimeoutException(
                f"{operation.name}: not done within the deadline of {policy.deadline:g} s: another call of this client "
                "has the task's first program made"
            )
        yield Wanted(partial(performer.waited, turn.settled, left))
    error = turn.settled.result() if turn.settled.done() else None
    if error is not None:
        # What each adds to its traceback is its own.
        raise copy.copy(error) from error.__cause__


def _has_program(
    task_id: str, policy: Policy, began: float, look: Callable[[Operation[Any], Policy, float], Steps[Any]]
) -> Steps[bool]:
    """Whether the task has a program; True where that cannot be looked up."""
    try:
        artifacts = yield from look(list_artifacts(task_id), replace(policy, max_retries=0), began)
    except LoopaiException:
        return True
    return active_version(artifacts) is not None


def _first(
    operation: Operation[T],
    began: float,
    turn: FirstTurn,
    make: Callable[[Operation[T], float, Optional[FirstTurn]], Steps[T]],
) -> Steps[T]:
    try:
        result = yield from make(operation if operation.parts else alone(operation), began, turn)
    except LoopaiException as error:
        turn.failed(error)
        raise
    if operation.only_item is not None:
        turn.ended(operation.only_item(result))
    elif operation.parts is None:
        turn.has_program()
    return result


def alone(operation: Operation[T]) -> Operation[T]:
    """Return the operation as a first execution, which has the time to make a program."""
    return replace(operation, first=True, seconds=operation.seconds + FIRST_SECONDS)
