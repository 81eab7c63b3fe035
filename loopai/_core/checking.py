"""Check inputs before they are sent: the input schemas that a client fetched, and the step of a call that uses them.

The check of a value against a schema is passed in.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import Any, Callable, Optional, Protocol, TypeVar
from uuid import UUID, uuid4

from pydantic_core import from_json

from ..exceptions import LoopaiException, NotFoundException, ValidationException
from ..models import BatchExecuteResponse, BatchExecuteResult, Task
from .flights import Flights
from .flow import Given, Performer, Policy, Steps, Wanted
from .operations import BatchParts, Operation, get_task

T = TypeVar("T")
Errors = Sequence[tuple[str, str]]

logger = logging.getLogger("loopai")

SCHEMA_SECONDS = 300.0
"""How long a schema is used before it is fetched again."""

FAILURE_SECONDS = 10.0
"""How long inputs stay unchecked after a failure to fetch a schema, until the next attempt."""

MOST_SCHEMAS = 100
"""Schemas that one client caches; a compiled one takes a few megabytes at most."""

QUICK_BYTES = 32_768
QUICK_MICROSECONDS = 2000.0
"""Larger or slower inputs are checked in a thread, if an event loop would otherwise wait."""


class Check(Protocol):
    """A compiled schema. `warnings` name the parts that cannot be checked."""

    warnings: list[str]

    def errors(self, value: Any) -> Errors:
        """Return what is wrong with a value, as paths and texts."""

    def work(self, value: Any) -> float:
        """Return how many microseconds a check may take; infinity if that is not known in advance."""


class InputsRefused(Exception):
    """Inputs that do not fit their task's schema, by position in the request; nothing was sent."""

    def __init__(self, refused: Mapping[int, ValidationException]) -> None:
        super().__init__(f"{len(refused)} inputs do not fit")
        self.refused = refused


def refusal(wrong: Errors) -> ValidationException:
    """Return the exception for an input with these errors, the same as for a server's own check."""
    errors: dict[str, list[str]] = {}
    for path, text in wrong:
        errors.setdefault(path, []).append(text)
    return ValidationException("Request validation failed", status_code=400, errors=errors, code="VALIDATION_ERROR")


def text_of(refused: ValidationException) -> str:
    """Return what is wrong with an input, in the form of a batch item's error."""
    return "; ".join(f"{path}: {text}" for path, texts in refused.errors.items() for text in texts)


@dataclass
class _Known:
    """A task's schema, and when to fetch it again; `check` is `None` if inputs are not checked."""

    schema: Any
    check: Optional[Check]
    until: float


class InputSchemas:
    """The input schemas that one client fetched, each at most once at a time. Shared by its copies and threads."""

    def __init__(self, make: Callable[[Any], Check]) -> None:
        self._make = make
        self._known: dict[str, _Known] = {}
        self._flights: Flights[None] = Flights()
        self._lock = threading.RLock()

    def check_of(
        self, task_id: str, policy: Policy, fetch: Callable[[Operation[Task]], Steps[Task]], performer: Performer
    ) -> Steps[Optional[Check]]:
        """Return the check of a task's inputs; `None` if there is none.

        The first time, callers wait until one of them has fetched it. Later, the old schema is used meanwhile.
        """
        began = policy.clock()
        while True:
            known = self._known.get(task_id)
            if known is not None and policy.clock() < known.until:
                return known.check
            flight = self._flights.take(task_id)
            if flight.leads:
                try:
                    if self._known.get(task_id) is known:  # no other flight has landed in between
                        found = yield from self._fetched(task_id, known, policy, fetch, performer)
                        self._keep(task_id, found)
                        return found.check
                finally:
                    flight.land(None)
            elif known is not None:
                return known.check
            elif not (yield from flight.waited(policy.deadline or policy.timeout, policy.clock, began, performer)):
                return None  # the call itself reports the timeout

    def _keep(self, task_id: str, found: _Known) -> None:
        with self._lock:
            self._known.pop(task_id, None)
            while len(self._known) >= MOST_SCHEMAS:
                del self._known[next(iter(self._known))]
            self._known[task_id] = found

    def _fetched(
        self,
        task_id: str,
        known: Optional[_Known],
        policy: Policy,
        fetch: Callable[[Operation[Task]], Steps[Task]],
        performer: Performer,
    ) -> Steps[_Known]:
        try:
            task = yield from fetch(get_task(task_id))
        except NotFoundException:
            # The call reports it; or the task was created again under its name, with another schema.
            return _Known(None, None, policy.clock() + FAILURE_SECONDS)
        except LoopaiException as error:
            if known is None:
                logger.warning(
                    "inputs of task %s are sent unchecked, as its schema could not be fetched: %s", task_id, error
                )
                known = _Known(None, None, 0.0)
            # Use the known schema until it can be fetched again.
            return replace(known, until=policy.clock() + FAILURE_SECONDS)
        until = policy.clock() + SCHEMA_SECONDS
        if known is not None and known.check is not None and known.schema == task.input_schema:
            return replace(known, until=until)
        given = yield Wanted(partial(performer.aside, partial(self._made, task)))
        return _Known(task.input_schema, given.value if isinstance(given, Given) else None, until)

    def _made(self, task: Task) -> Optional[Check]:
        try:
            check = self._make(task.input_schema)
        except ValueError as error:
            logger.warning("inputs of task %r are sent unchecked: %s", task.name, error)
            return None
        if check.warnings:
            logger.warning("the input schema of task %r is checked in part: %s", task.name, "; ".join(check.warnings))
        return check


def checked(
    operation: Operation[T],
    check: Check,
    performer: Performer,
    send: Callable[[Operation[T]], Steps[T]],
) -> Steps[T]:
    """Make the call with the inputs that fit.

    Raises `ValidationException` for an execution whose input does not fit, and `InputsRefused` for an operation whose
    items are `apart`. In a batch, an item that does not fit becomes a failed result.
    """
    refused = yield from _refused(operation.content, check, performer)
    if not refused:
        return (yield from send(operation))
    if operation.apart:
        raise InputsRefused(refused)
    if operation.parts is None:
        raise refused[0]
    return (yield from _without(operation, operation.parts, refused, send))


def _refused(content: bytes, check: Check, performer: Performer) -> Steps[Mapping[int, ValidationException]]:
    if len(content) <= QUICK_BYTES:
        inputs = _inputs_of(content)
        if sum(map(check.work, inputs)) <= QUICK_MICROSECONDS:
            return _refusals(inputs, check)
    given = yield Wanted(partial(performer.aside, lambda: _refusals(_inputs_of(content), check)))
    refused: Mapping[int, ValidationException] = given.value if isinstance(given, Given) else {}
    return refused


def _inputs_of(content: bytes) -> list[Any]:
    """Return the inputs as the server will read them: models, dates and tuples in their JSON form."""
    try:
        body = from_json(content)
    except ValueError:  # nested too deeply to be read back
        return []
    return [item.get("input") for item in body["items"]] if "items" in body else [body.get("input")]


def _refusals(inputs: Sequence[Any], check: Check) -> dict[int, ValidationException]:
    refused = {}
    for place, value in enumerate(inputs):
        found = check.errors(value)
        if found:
            refused[place] = refusal(found)
    return refused


def _without(
    operation: Operation[T],
    parts: BatchParts[T],
    refused: Mapping[int, ValidationException],
    send: Callable[[Operation[Any]], Steps[Any]],
) -> Steps[T]:
    """Send the items of a batch that fit, and return one reply for all."""
    last = min(refused) if parts.stop_on_first_error else parts.size
    places = [place for place in range(last) if place not in refused]
    now = datetime.now(timezone.utc)
    response = BatchExecuteResponse(
        batch_id=uuid4(), task_id=UUID(operation.task_id), version=operation.version or 0, total_items=0,
        success_count=0, failure_count=0, started_at=now, completed_at=now,
    )  # fmt: skip
    if places:
        some: BatchParts[Any] = BatchParts(
            [parts.ids[place] for place in places],
            parts.concurrency,
            parts.make(places, parts.concurrency),
            lambda chosen, concurrency: parts.make([places[place] for place in chosen], concurrency),
            lambda batch: batch,
            parts.stop_on_first_error,
        )
        response = yield from send(replace(some.whole, parts=some, callers=operation.callers))
    ran = dict(zip(places, response.results))
    response.results = [ran.get(place) or _unsent(parts.ids[place], refused.get(place)) for place in range(parts.size)]
    response.total_items = parts.size
    response.success_count = sum(item.success for item in response.results)
    response.failure_count = parts.size - response.success_count
    response.avg_latency_ms = sum(item.latency_ms for item in response.results) / parts.size
    return parts.given(response)


def _unsent(item_id: str, refused: Optional[ValidationException]) -> BatchExecuteResult:
    text, code = "not sent: an item before it failed (stop_on_first_error)", "SKIPPED"
    if refused is not None:
        text, code = text_of(refused), "VALIDATION_ERROR"
    return BatchExecuteResult(id=item_id, success=False, error_message=text, code=code)
