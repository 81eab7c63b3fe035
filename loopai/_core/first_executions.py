"""First executions: the first call for a task makes the server create its program, so one call goes alone.

With several at the same time, the published server makes a program for each, and some of them fail.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, Optional, TypeVar

from ..exceptions import (
    ExecutionException,
    LoopaiException,
    NotFoundException,
    ReplyTooLargeException,
    TimeoutException,
    ValidationException,
)
from .flights import Flight, Flights
from .flow import Performer, Policy, Steps
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


class OneItemFirst(Exception):
    """A request of several items was not sent, because the task has no program: send one item alone first."""


class FirstExecutions:
    """Which tasks have a program, as far as one client knows. Shared by its copies. Thread-safe.

    With `needed=False` every task counts as having one, and nothing is looked up.
    """

    def __init__(self, *, needed: bool = True) -> None:
        self._needed = needed
        self._with_program: set[str] = set()
        self._without: set[str] = set()
        self._flights: Flights[Optional[LoopaiException]] = Flights()
        self._lock = threading.RLock()

    def may_be(self, operation: Operation[Any]) -> bool:
        """Return whether the operation may be the first execution of its task."""
        return (
            operation.pure
            and operation.version is None
            and operation.task_id not in self._with_program
            and self._needed
        )

    def turn(self, task_id: str) -> Optional[FirstTurn]:
        """Return a turn, which goes first or waits for the call that does; `None` if the task has a program."""
        if task_id in self._with_program:
            return None
        turn = FirstTurn(self, task_id, self._flights.take(task_id))
        if turn.leads and task_id in self._with_program:  # learnt in between
            turn.end()
            return None
        return turn

    def lacks_program(self, task_id: str) -> bool:
        """Return whether the task is known to have no program."""
        return task_id in self._without

    def note_without(self, task_id: str) -> None:
        """Record that the task has no program."""
        with self._lock:
            if len(self._without) >= MOST_REMEMBERED:
                self._without.clear()
            self._without.add(task_id)

    def note_program(self, task_id: str) -> None:
        """Record that the task has a program, or counts as having one."""
        with self._lock:
            if len(self._with_program) >= MOST_REMEMBERED:
                self._with_program.clear()
            self._with_program.add(task_id)
            self._without.discard(task_id)


class FirstTurn:
    """A call's role in the first execution of a task: it goes first (`leads`), or waits for the call that does."""

    def __init__(self, firsts: FirstExecutions, task_id: str, flight: Flight[Optional[LoopaiException]]) -> None:
        self.leads = flight.leads
        self.flight = flight
        self.is_over = False
        self.error: Optional[LoopaiException] = None
        self._firsts = firsts
        self._task_id = task_id

    def has_program(self) -> None:
        """Record that the task has a program: waiting calls continue."""
        if not self.is_over:
            self._firsts.note_program(self._task_id)
        self.end()

    def ended(self, item: Mapping[str, Any]) -> None:
        """Record the result of the item that was executed first, by its members on the wire."""
        success, ran, message = item["success"], item.get("execution_id"), item.get("error_message")
        # Only the embedded server sets a code on items it did not run; it makes one program for all callers.
        if success or ran is not None or item.get("code") is not None:
            self.has_program()
        elif not is_unrun(success, ran, None, message):
            kind = NotFoundException if names_missing(success, ran, message) else ExecutionException
            self.failed(kind(shortened(str(message)), status_code=200))

    def failed(self, error: LoopaiException) -> None:
        """Record why the first execution failed: waiting calls fail with the same error."""
        if _ran(error):
            self.has_program()
        elif not isinstance(error, ValidationException):  # caused by its own input or options
            self.error = error

    def end(self) -> None:
        """Release the waiting calls: to fail with the error, to continue, or for one of them to go first."""
        if not self.is_over:
            self.flight.land(self.error)
            self.is_over = True


def _ran(error: LoopaiException) -> bool:
    """Return whether there was a program: it failed, or the reply with its output could not be written or read."""
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
    """Make the call of an execution; if its task has no program, alone, while other calls for the task wait.

    `make` returns the steps of the call, `look` those of listing the task's artifacts; both take the start of the
    deadline. Raises `OneItemFirst` for a request of several items, and the error of the call that it waited for.
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
    if not (yield from turn.flight.waited(policy.deadline, policy.clock, began, performer)):
        raise TimeoutException(
            f"{operation.name}: not done within the deadline of {policy.deadline:g} s: another call of this client "
            "is waiting for the task's first program"
        )
    error = turn.flight.settled.result() if turn.flight.settled.done() else None
    if error is not None:
        # A copy: each caller adds its own traceback.
        raise copy.copy(error) from error.__cause__


def _has_program(
    task_id: str, policy: Policy, began: float, look: Callable[[Operation[Any], Policy, float], Steps[Any]]
) -> Steps[bool]:
    """Return whether the task has a program; True if that cannot be looked up."""
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
    """Return the operation as a first execution, with enough time to make a program."""
    return replace(operation, first=True, seconds=operation.seconds + FIRST_SECONDS)
