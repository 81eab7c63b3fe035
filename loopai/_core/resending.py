"""A batch as one call: as many requests as the server needs to run every item, combined into one reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, TypeVar

from ..exceptions import LoopaiException, ReplyTooLargeException, TimeoutException
from ..models import BatchExecuteResponse, BatchExecuteResult, ReplyInfo
from . import retries
from .first_executions import FirstTurn, alone
from .flow import Policy, Sleep, Steps, call
from .operations import BatchParts, Operation
from .replies import is_unwritten
from .unrun import CONVICTED_AFTER, ItemConcurrency, is_unrun, left_alone, suspicions

T = TypeVar("T")


class Unanswered(Exception):
    """Items of several callers whose request has no usable reply, because of one of their outputs.

    `left` are their positions, `results` those of the other items (`None`: no result), `error` the request's error.
    """

    def __init__(self, left: Sequence[int], results: Any, error: LoopaiException) -> None:
        super().__init__(f"{len(left)} items are left: {error}")
        self.left = left
        self.results = results
        self.error = error


def whole(
    operation: Operation[T],
    parts: BatchParts[T],
    policy: Policy,
    items: ItemConcurrency,
    began: Optional[float] = None,
    turn: Optional[FirstTurn] = None,
) -> Steps[T]:
    """Make the call of a batch: send items again that the server failed to run, and return one reply. Raises as `call`.

    `began` is the start of the deadline, if this is part of a longer call. With a `turn` the task has no program: one
    item goes alone first.
    """
    batch = _Batch(operation.name, parts, policy, items, policy.clock() if began is None else began, turn)
    yield from batch.run()
    return parts.given(batch.joined())


@dataclass
class _Batch:
    """The state of one batch: which items are still to be sent, the results so far, and the number of requests."""

    name: str
    parts: BatchParts[Any]
    policy: Policy
    items: ItemConcurrency
    began: float
    turn: Optional[FirstTurn] = None
    pending: list[int] = field(default_factory=list)
    results: dict[int, BatchExecuteResult] = field(default_factory=dict)
    replies: list[BatchExecuteResponse] = field(default_factory=list)
    suspects: dict[int, int] = field(default_factory=dict)
    most: int = 1 << 30
    fruitless: int = 0
    paused: float = 0.0

    def run(self) -> Steps[None]:
        """Send everything. If a later request fails, keep the results so far and fail the other items."""
        self.pending = list(range(self.parts.size))
        try:
            while self.pending or not self.replies:
                yield from self._next()
        except LoopaiException as error:
            if self._divides(error):
                left = list(self.pending)
                self._give_up(error)
                raise Unanswered(left, self.parts.given(self.joined()) if self.replies else None, error) from error
            if all(map(_failed_to_run, self.results.values())):
                raise
            self._give_up(error)

    def _divides(self, error: LoopaiException) -> bool:
        """Whether to try smaller requests, so that only the item with the faulty output gets the error."""
        if not self.parts.apart or isinstance(error, ReplyTooLargeException):
            return self.parts.apart
        return self._is_of_an_output(error)

    def _is_of_an_output(self, error: LoopaiException) -> bool:
        return self._resends and (is_unwritten(error) or error.broke_off)

    @property
    def _resends(self) -> bool:
        return self.policy.retry_unknown and self.policy.max_retries != 0

    def _next(self) -> Steps[None]:
        """Send a request, and record its results."""
        concurrency = self.items.allowed(self.parts.concurrency)
        places = self.pending[: self.items.most_items()] if self.items.one else self.pending
        places = places[: self.most]
        goes_first = self.turn is not None and not self.turn.is_over
        if goes_first:
            places = places[:1]
        request = self._request(places, concurrency)
        try:
            response = yield from call(alone(request) if goes_first else request, self._policy(), self.began)
        except LoopaiException as error:
            if self.parts.apart or not self.results or not self._is_of_an_output(error):
                raise
            # Results are kept, so it is worth searching for the item with the faulty output.
            self.most = len(places) // 2
            if not self.most:
                self._end_by(error, places)
                self.most, self.pending = 1, self.pending[1:]
            return
        self.most *= 2
        self.replies.append(response)
        if len(response.results) != len(places):
            self.pending = []  # ids made by the server: return it unchanged
            return
        self.results.update(zip(places, response.results))
        if self.turn is not None and goes_first and places:
            self.turn.ended(vars(response.results[0]))
            if self.turn.error is not None:
                self._end_like(response.results[0])
                return
        unrun = [place for place, item in enumerate(response.results) if _failed_to_run(item)]
        again = [places[place] for place in unrun]
        if concurrency == 1:
            self.items.ran(item.latency_ms for item in response.results if not _failed_to_run(item))
        if unrun:
            self.items.failed(str(response.results[unrun[0]].error_message))
        rest = self.pending[len(places) :]
        if self.parts.stop_on_first_error and self._has_failed():
            self._leave(again, "nothing is sent after a failed item (stop_on_first_error)")
            self._skip(rest)
            return
        if not self._resends:
            self._leave(again, "it is not sent again (retry_unknown=False or max_retries=0)")
            again = []
        elif concurrency == 1:
            again = self._innocent(places, unrun)
        self.pending = again + rest
        if again and len(unrun) == len(places) and concurrency == 1:
            self.fruitless += 1
            limit = self.policy.max_retries
            if limit is not None and self.fruitless > limit:
                self._leave(again, f"it is not sent again (max_retries={limit})")
                self._skip(rest, "the server could not run any item of the previous requests")
                return
            yield from self._pause(retries.backoff(self.fruitless, self.policy.random()))
        elif len(unrun) < len(places):
            self.fruitless = 0

    def _request(self, places: Sequence[int], concurrency: int) -> Operation[BatchExecuteResponse]:
        if len(places) == self.parts.size and concurrency == self.parts.concurrency:
            return self.parts.whole
        return self.parts.make(places, concurrency)

    def _policy(self) -> Policy:
        number = len(self.replies) + 1
        if number == 1:
            return self.policy
        # Another request needs another key: with the same one a server would return the earlier reply.
        key = f"{self.policy.new_key()}:{number}"
        return replace(self.policy, new_key=lambda: key)

    def _innocent(self, places: Sequence[int], unrun: Sequence[int]) -> list[int]:
        """Return which of the items that failed one at a time are sent again; the others keep their failure."""
        if not unrun:
            return []
        ran = [place for place in range(len(places)) if place not in set(unrun)]
        before = min(self.suspects.get(places[place], 0) for place in unrun)
        counts = suspicions(unrun, ran, before, others_ran=len(self.results) > len(places))
        again = []
        for place, count in counts.items():
            self.suspects[places[place]] = count
            if count < CONVICTED_AFTER:
                again.append(places[place])
            else:
                self._leave([places[place]], "it failed again when it was sent once more while others ran")
        return again

    def _has_failed(self) -> bool:
        return any(not item.success and not _failed_to_run(item) for item in self.results.values())

    def _leave(self, places: Sequence[int], why: str) -> None:
        for place in places:
            item = self.results[place]
            item.error_message = left_alone(item.error_message, why)

    def _skip(self, places: Sequence[int], why: str = "an item before it failed (stop_on_first_error)") -> None:
        """Send nothing more: fail the items that were not sent."""
        for place in places:
            if place not in self.results:
                self.results[place] = self._failed(place, f"not sent: {why}", "SKIPPED")
        self.pending = []

    def _end_like(self, first: BatchExecuteResult) -> None:
        """Fail every item like the first one, for which the server had no program."""
        for place in self.pending:
            self.results[place] = self._failed(place, first.error_message or "", first.code)
        self.pending = []

    def _give_up(self, error: LoopaiException) -> None:
        """Fail the items that are still to be sent with the error of their request."""
        self._end_by(error, self.pending)

    def _end_by(self, error: LoopaiException, places: Sequence[int]) -> None:
        told = f"{type(error).__name__}: {error.message}"
        for place in places:
            if place in self.results:
                self._leave([place], f"sending it again failed: {told}")
                self.results[place].code = error.code
            else:
                self.results[place] = self._failed(place, f"it did not run: {told}", error.code)

    def _failed(self, place: int, message: str, code: Optional[str]) -> BatchExecuteResult:
        return BatchExecuteResult(id=self.parts.ids[place], success=False, error_message=message, code=code)

    def _pause(self, seconds: float) -> Steps[None]:
        policy = self.policy
        if not policy.retry_waits:
            return
        left = None if policy.deadline is None else policy.deadline - (policy.clock() - self.began)
        if left is not None and seconds >= left:
            raise TimeoutException(
                f"{self.name}: not done within the deadline of {policy.deadline:g} s: the server could run no item in "
                f"{len(self.replies)} requests"
            )
        yield Sleep(seconds)
        self.paused += seconds

    def joined(self) -> BatchExecuteResponse:
        """Return one reply for all items."""
        first, last = self.replies[0], self.replies[-1]
        if len(self.replies) == 1 and len(first.results) == len(self.results):
            return first
        if len(self.results) != self.parts.size:
            return first
        results = [self.results[place] for place in range(self.parts.size)]
        first.results = results
        first.total_items = len(results)
        first.success_count = sum(item.success for item in results)
        first.failure_count = len(results) - first.success_count
        first.avg_latency_ms = sum(item.latency_ms for item in results) / len(results)
        first.total_duration_ms = sum(reply.total_duration_ms for reply in self.replies)
        first.completed_at = last.completed_at
        if first.started_at is not None and last.completed_at is not None:
            first.total_duration_ms = (last.completed_at - first.started_at).total_seconds() * 1000
        object.__setattr__(first, "_reply", self._info())
        return first

    def _info(self) -> Optional[ReplyInfo]:
        infos = [reply.reply for reply in self.replies if reply.reply is not None]
        if not infos:
            return None
        return replace(
            infos[0],
            elapsed=infos[-1].elapsed,
            attempts=sum(info.attempts for info in infos),
            queued=sum(info.queued for info in infos),
            paused=sum(info.paused for info in infos) + self.paused,
        )


def _failed_to_run(item: BatchExecuteResult) -> bool:
    return is_unrun(item.success, item.execution_id, item.code, item.error_message)
