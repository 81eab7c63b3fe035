"""A chunk of rows as one request, and its reply, read without creating a model for each row. Nothing is sent here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Union
from uuid import UUID

from pydantic_core import from_json, to_json

from ..._core.encoding import encode
from ..._core.items import read_item, results_of
from ..._core.limits import PROGRAM_TIMEOUT_MS
from ..._core.operations import Operation
from ..._core.unrun import is_unrun
from ..._core.wire import Reply
from ...exceptions import ValidationException
from ...models import BatchExecuteResult, ReplyInfo
from ..rows import DOUBTFUL, ERROR, OK, PROGRAM, UNSENDABLE, Code, Outcome, Row, Status
from .throttle import LARGEST_CHUNK

_NUMBERS = frozenset({int, float})
_TEXT_OR_NONE = frozenset({str, type(None)})


@dataclass(frozen=True)
class BatchCall:
    """What all requests of a run have in common. `timeout_ms` is the time limit of each item, in milliseconds.

    `plain`: all inputs were read from JSON or CSV, so they can be written as JSON without checking each value.
    """

    task_id: str
    max_concurrency: int = 10
    timeout_ms: Optional[int] = None
    version: Optional[int] = None
    force_validation: bool = False
    plain: bool = False


class Chunk:
    """Rows that are sent together. `number` is the position of the first in the run; times are the scheduler's."""

    __slots__ = (
        "alone", "attempts", "broken", "concurrency", "cut_at", "failed_at", "not_before", "numbers", "rows", "sent_at",
        "suspect",
    )  # fmt: skip

    def __init__(self, rows: Sequence[Row], numbers: Sequence[int], attempts: int = 0) -> None:
        self.rows = rows
        self.numbers = numbers
        self.attempts = attempts
        self.alone = 0
        """Failures since the row is sent alone."""
        self.suspect = 0
        """How often the server failed to run the rows one at a time, while it ran others."""
        self.broken = 0
        """Replies that broke off."""
        self.cut_at: Optional[float] = None
        """When the last of these failures of a row sent alone happened."""
        self.concurrency: Optional[int] = None
        """Rows that the server may run at a time; `None` for the run's own."""
        self.sent_at = 0.0
        self.failed_at: Optional[float] = None
        self.not_before = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def halves(self) -> tuple[Chunk, Chunk]:
        """Return the same rows in two chunks, which keep the attempts and the time of the first failure."""
        middle, size = len(self.rows) // 2, len(self.rows)
        first, second = self.part(range(middle), self.failed_at), self.part(range(middle, size), self.failed_at)
        first.broken = second.broken = self.broken
        return first, second

    def parted(self) -> tuple[Chunk, Chunk]:
        """Return a chunk with the first row, and one with the others."""
        return self.part([0], self.failed_at), self.part(range(1, len(self.rows)), self.failed_at)

    def part(self, places: Sequence[int], now: Optional[float]) -> Chunk:
        """Return some of the rows as a chunk that keeps the attempts and the time of the first failure (or now)."""
        made = Chunk([self.rows[place] for place in places], [self.numbers[place] for place in places], self.attempts)
        made.failed_at = now if self.failed_at is None else self.failed_at
        made.suspect = self.suspect
        return made


class Replies:
    """A reply's results in the order of the chunk's rows; `size` is the request's, in bytes.

    `_reply` has headers and timing, as on every result of a call.
    """

    __slots__ = ("_reply", "results", "size")

    def __init__(self, results: Sequence[Mapping[str, Any]], size: int = 0) -> None:
        self.results = results
        self.size = size
        self._reply: Optional[ReplyInfo] = None

    @property
    def headers(self) -> Mapping[str, str]:
        """The reply's headers, by name in lower case; empty if there was no HTTP reply."""
        return self._reply.headers if self._reply is not None else {}


def ids_of(chunk: Chunk) -> list[str]:
    """Return the id of each row in its request: its key, with its number if keys repeat in the chunk."""
    keys = [row.key for row in chunk.rows]
    if len(set(keys)) == len(keys):
        return keys
    return [f"{number}:{key}" for number, key in zip(chunk.numbers, keys)]


@dataclass(frozen=True)
class TooLarge:
    """A chunk that was not sent because its request has `size` bytes."""

    size: int


@dataclass(frozen=True)
class Unsendable:
    """A chunk that was not sent because the rows at these positions cannot be, for these reasons of one kind."""

    problems: Mapping[int, str]
    code: Code = UNSENDABLE


@dataclass(frozen=True)
class AloneFirst:
    """A chunk that was not sent because the task has no program yet: one row must be sent alone first."""


Answer = Union[Replies, TooLarge, Unsendable, AloneFirst]


def prepared(chunk: Chunk, call: BatchCall) -> Union[Operation[Replies], TooLarge, Unsendable]:
    """Return the chunk as one batch request, or why it cannot be sent."""
    ids = ids_of(chunk)
    concurrency = call.max_concurrency if chunk.concurrency is None else chunk.concurrency
    body: dict[str, Any] = {"task_id": call.task_id, "max_concurrency": concurrency}
    if call.force_validation:
        body["items"] = [
            {"id": name, "input": row.input, "force_validation": True} for name, row in zip(ids, chunk.rows)
        ]
    else:
        body["items"] = [{"id": name, "input": row.input} for name, row in zip(ids, chunk.rows)]
    limit_ms = PROGRAM_TIMEOUT_MS
    if call.timeout_ms is not None:
        body["timeout_ms"] = limit_ms = call.timeout_ms
    if call.version is not None:
        body["version"] = call.version
    try:
        content = to_json(body) if call.plain else encode(body)
    except ValidationException as error:
        return Unsendable(_problems(chunk, error))
    if len(content) > LARGEST_CHUNK and len(chunk) > 1:
        return TooLarge(len(content))
    size = len(content)

    def read(reply: Reply) -> Replies:
        return Replies(results_for(ids, reply.content, call.task_id), size)

    return Operation(
        "batch_execute",
        "POST",
        "/api/v1/batch/execute",
        read,
        content,
        pure=True,
        limited=True,
        seconds=math.ceil(len(ids) / concurrency) * limit_ms / 1000,
        task_id=call.task_id,
        version=call.version,
        items=len(ids),
        apart=True,
        only_item=(lambda replies: replies.results[0]) if len(ids) == 1 else None,
        again=lambda task_id: _made_again(chunk, replace(call, task_id=task_id)),
    )


def _made_again(chunk: Chunk, call: BatchCall) -> Operation[Replies]:
    """Return the request of a chunk again, for a task whose name has a new id."""
    made = prepared(chunk, call)
    if not isinstance(made, Operation):
        raise TypeError(f"the chunk was prepared before, and is {type(made).__name__} now")
    return made


def was_not_run(result: Mapping[str, Any]) -> bool:
    """Return whether the server failed to run the item."""
    return is_unrun(result["success"], result.get("execution_id"), result.get("code"), result.get("error_message"))


def _problems(chunk: Chunk, whole: ValidationException) -> dict[int, str]:
    found = {}
    for place, (name, row) in enumerate(zip(ids_of(chunk), chunk.rows)):
        try:
            encode({"id": name, "input": row.input})
        except ValidationException as error:
            found[place] = error.message
    # Each row alone can be encoded, but all together cannot: retrying would never end.
    return found or dict.fromkeys(range(len(chunk)), whole.message)


def results_for(ids: Sequence[str], content: bytes, task_id: str) -> list[Mapping[str, Any]]:
    """Return the results of exactly these items, in order; one that cannot be read is a failed result with the reason.

    Raises `ValueError` for a reply to other items.
    """
    found = _reply_of(content)
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, list):
        raise ValueError("results: a list was expected")
    try:
        replied = [result["id"] for result in results]
        for place, result in enumerate(results):
            if not _is_sound(result):
                results[place] = _result_of(to_json(result))
    except (TypeError, KeyError):
        raise ValueError("results: each must have id and success") from None
    if not _same_task(found.get("task_id", task_id), task_id):
        raise ValueError(f"task_id: the reply is for task {found['task_id']}, not {task_id}")
    if replied == list(ids):
        return results
    by_id = {result["id"]: result for result in results if isinstance(result["id"], str)}
    missing = [name for name in ids if name not in by_id]
    if missing or len(by_id) != len(ids) or len(results) != len(ids):
        told = f"none for {missing[0]!r}" if missing else f"{len(results)} for {len(ids)} items"
        raise ValueError(f"results: the reply is not for this request: {told}")
    return [by_id[name] for name in ids]


def _reply_of(content: bytes) -> Any:
    try:
        return from_json(content)
    except ValueError:
        # One result has a lone surrogate or is nested too deeply: the others can be read.
        parts = results_of(content)
        if parts is None:
            raise
    frame, contents = parts
    found = from_json(frame)
    if not isinstance(found, dict):
        raise ValueError("results: a list was expected")
    found["results"] = [_result_of(each) for each in contents]
    return found


def _result_of(content: bytes) -> Mapping[str, Any]:
    """Read one result in any notation. Raises `ValueError` if it has no id."""
    try:
        found = from_json(content)
    except ValueError:
        found = None
    if isinstance(found, dict) and "id" in found and _is_sound(found):
        return found
    item = read_item(BatchExecuteResult, content)
    return {
        "id": item.id,
        "success": item.success,
        "output": item.output,
        "error_message": item.error_message,
        "code": item.code,
        "latency_ms": item.latency_ms if 0 <= item.latency_ms < math.inf else None,
        "confidence": item.confidence,
        "execution_id": None if item.execution_id is None else str(item.execution_id),
    }


def _is_sound(result: Mapping[str, Any]) -> bool:
    """Return whether a result's members have the expected types."""
    latency, confidence = result.get("latency_ms"), result.get("confidence")
    return (
        type(result.get("success")) is bool
        and (confidence is None or (type(confidence) in _NUMBERS and 0 <= confidence <= 1))
        and (latency is None or (type(latency) in _NUMBERS and 0 <= latency < math.inf))
        and type(result.get("error_message")) in _TEXT_OR_NONE
        and type(result.get("execution_id")) in _TEXT_OR_NONE
    )


def _same_task(said: Any, asked: str) -> bool:
    if said == asked:
        return True
    try:
        return UUID(str(said)) == UUID(asked)
    except ValueError:
        return False


def outcome_of(row: Row, result: Mapping[str, Any], attempts: int, min_confidence: Optional[float] = None) -> Outcome:
    """Return the outcome of a row from its result; doubtful below `min_confidence`."""
    execution_id, latency = result.get("execution_id"), result.get("latency_ms")
    if result["success"]:
        sure = result.get("confidence")
        doubtful = min_confidence is not None and sure is not None and sure < min_confidence
        status: Status = DOUBTFUL if doubtful else OK
        return Outcome(row, status, result.get("output"), None, None, latency, attempts, execution_id, sure)
    error = result.get("error_message") or "the program failed and gave no reason"
    # A row that is refused before it runs has the latency 0, which measures nothing.
    return Outcome(row, ERROR, None, error, PROGRAM, latency or None, attempts, execution_id)
