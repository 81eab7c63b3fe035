"""Decide what happens next in a run: which rows are sent together, what is retried, split or given up, when to wait.

No I/O, no clock: `driver` turns the decisions into steps, which `threads` and `event_loop` perform.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Final, Literal, Optional, Union

from ..._core import retries
from ..._core.randomness import private_random
from ..._core.replies import is_unwritten
from ..._core.unrun import CONVICTED_AFTER as UNRUN_AFTER
from ..._core.unrun import ItemConcurrency, left_alone, names_missing, suspicions
from ...exceptions import (
    AuthenticationException,
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ReplyTooLargeException,
    ServerException,
    ValidationException,
)
from ..options import BatchOptions
from ..rows import CANCELLED, ERROR, REFUSED, SERVER, STOPPED, Outcome, Row
from .chunks import AloneFirst, Answer, Chunk, Replies, TooLarge, outcome_of, was_not_run
from .throttle import LIMITER_PAUSE, MOST_ROWS, Throttle

GIVE_UP_AFTER = 8
"""Consecutive failures after which the server counts as unreachable; failures at the same moment count once. With
their pauses this is about half a minute, enough for a server to restart."""

CONVICTED_AFTER = 2
"""Failures of a row sent alone after which it counts as the cause, if other rows succeed."""

# What the server reports for each item of a task without a program (contract, 4.2).
_NO_PROGRAM = re.compile(r"Program generation failed\b|Version \d+ is a draft\b")

_REQUIRED = re.compile(r"input\.([^\s:.\[]+): .* is a required property")
"""The input check's message for an object without a required member."""

TRIED_ALONE = 50
"""Rows sent alone whose replies all broke off or could not be written, with no row of the run ok, after which the
server counts as unreachable."""

LONGEST_REFUSAL = 65 * 60.0
"""Seconds in which the rate limiter has refused everything, after which a run ends: its longest window is an hour."""

_OF_THE_RUN = {"task_id", "version", "timeout_ms", "max_concurrency"}

StopReason = Literal["max_errors", "unreachable", "fatal_error", "interrupted"]
"""Why a run ended before its rows did."""

TOO_MANY_ERRORS: Final = "max_errors"
UNREACHABLE: Final = "unreachable"
FATAL: Final = "fatal_error"
INTERRUPTED: Final = "interrupted"


# The steps of a driver.


@dataclass(frozen=True)
class Send:
    """Send this chunk."""

    chunk: Chunk


@dataclass(frozen=True)
class Pull:
    """Get up to `rows` more rows and `offer` them; replies may arrive meanwhile."""

    rows: int


@dataclass(frozen=True)
class Wait:
    """Wait for a reply, or for this many seconds."""

    seconds: Optional[float]


@dataclass(frozen=True)
class Done:
    """All rows have finished, or the run was ended."""


Step = Union[Send, Pull, Wait, Done]


class Scheduler:
    """The state of one run. Every method gets the time as `now`, in seconds; `take` returns outcomes.

    `members` are the members that the mapping gives each input, if there is a mapping. `flaw` returns what is wrong
    with an output; that row then fails.
    """

    def __init__(
        self,
        options: BatchOptions,
        rng: Callable[[], float] = private_random.random,
        time_of_day: Callable[[], float] = time.time,
        *,
        members: frozenset[str] = frozenset(),
        flaw: Optional[Callable[[Any], Optional[str]]] = None,
    ) -> None:
        self.options = options
        self._members = members
        self._flaw = flaw
        self.throttle = Throttle(options.max_in_flight, options.chunk_size)
        self.stopped: Optional[StopReason] = None
        self.error: Optional[LoopaiException] = None
        self.last_error: Optional[str] = None
        self.in_flight = 0
        self.done = self.errors = 0
        self._random = rng
        self._time_of_day = time_of_day
        self._waiting: deque[tuple[int, Row]] = deque()
        self._again: list[Chunk] = []
        self._out: list[Outcome] = []
        self._exhausted = False
        self._offered = 0
        self._failures = 0
        self._failed_at = self._answered_at = self._ran_at = float("-inf")
        self._refused_since: Optional[float] = None
        self._unwritten = 0
        self._alone_first = False
        self._items = ItemConcurrency("the server")
        self._resends = True
        # Ordered runs: rows that finished before an earlier row.
        self._held: dict[int, Outcome] = {}
        self._next_out = 0

    def serve(self, items: ItemConcurrency, *, resends: bool) -> None:
        """Use what a client knows about its server; `resends` is as on `Sender`."""
        self._items, self._resends = items, resends

    # Rows in

    def offer(self, rows: Iterable[Row]) -> None:
        """Accept pulled rows; rows that could not be read fail at once."""
        for row in rows:
            number = self._offered
            self._offered += 1
            if row.error is not None:
                self._end(number, Outcome(row, ERROR, None, row.error, row.code))
            else:
                self._waiting.append((number, row))

    def exhaust(self) -> None:
        """There are no more rows."""
        self._exhausted = True

    # What next

    def next(self, now: float) -> Step:
        """Return the driver's next step."""
        if self.stopped is not None:
            return Wait(None) if self.in_flight else Done()
        pause = self.throttle.paused_until - now
        if pause > 0:
            return Wait(pause)
        if self._alone_first and (self._again or self.in_flight):
            return self._one_alone(now)
        if self.in_flight < self.throttle.limit:
            again = self._due(now)
            if again is not None:
                return self._send(again, now)
            rows = self._chunk_rows()
            if self._waiting and (self._exhausted or len(self._waiting) >= rows):
                return self._send(self._gather(rows), now)
            if not self._exhausted and not self._too_far_ahead():
                return Pull(rows - len(self._waiting))
        return Wait(self._soonest(now)) if self.in_flight or self._again else Done()

    def _one_alone(self, now: float) -> Step:
        """Send one row while no other request is in flight: the server makes the task's program for it."""
        if self.in_flight:
            return Wait(None)
        left = self._again[0].not_before - now
        if left > 0:
            return Wait(left)
        one = self._again.pop(0)
        if len(one) > 1:
            one, rest = one.parted()
            self._again.insert(0, rest)
        return self._send(one, now)

    def flush(self, now: float) -> Step:
        """Return the step if a pull returned nothing for a while: send an incomplete chunk if nothing is in flight."""
        free = self._waiting and not self.in_flight and self.stopped is None and self.throttle.paused_until <= now
        return self._send(self._gather(self._chunk_rows()), now) if free else Wait(None)

    def _due(self, now: float) -> Optional[Chunk]:
        for place, chunk in enumerate(self._again):
            if chunk.not_before <= now:
                due = self._again.pop(place)
                while len(due) > self._rows_in_time():
                    due, rest = due.halves()
                    self._again.insert(place, rest)
                return due
        return None

    def _chunk_rows(self) -> int:
        """Rows for the next chunk."""
        return min(self.throttle.chunk_rows(), self._rows_in_time())

    def _rows_in_time(self) -> int:
        """Return how many rows take a few seconds, if the server runs them one at a time."""
        if self._items.allowed(self.options.max_concurrency) > 1:
            return MOST_ROWS
        return self._items.most_items(self.throttle.seconds) or MOST_ROWS

    def _soonest(self, now: float) -> Optional[float]:
        if not self._again or self.in_flight >= self.throttle.limit:
            return None
        return max(0.0, min(chunk.not_before for chunk in self._again) - now)

    def _too_far_ahead(self) -> bool:
        # An ordered run holds rows that finish early; without a limit, one slow row would make it hold everything.
        if not self.options.ordered:
            return False
        return self._offered - self._next_out >= self.throttle.rows * self.options.max_in_flight * 2

    def _gather(self, rows: int) -> Chunk:
        taken = [self._waiting.popleft() for _ in range(min(rows, len(self._waiting)))]
        return Chunk([row for _, row in taken], [number for number, _ in taken])

    def _send(self, chunk: Chunk, now: float) -> Send:
        self.in_flight += 1
        chunk.attempts += 1
        chunk.sent_at = now
        chunk.concurrency = self._items.allowed(self.options.max_concurrency)
        return Send(chunk)

    # Replies

    def answered(self, chunk: Chunk, answer: Answer, now: float) -> None:
        """Process a chunk's reply, or the reason why it was not sent."""
        self.in_flight -= 1
        if isinstance(answer, Replies):
            self._refused_since = None
            self._alone_first = False
            self.throttle.weigh(answer.size, len(chunk))
            self._replied(chunk, answer, now)
            return
        chunk.attempts -= 1
        if isinstance(answer, AloneFirst):
            self._alone_first = True
            self._again.append(chunk)
            return
        if isinstance(answer, TooLarge):
            self.throttle.weigh(answer.size, len(chunk))
            self._again[:0] = chunk.halves()
            return
        cause = _cause_of_all([answer.problems.get(place, "") for place in range(len(chunk))], self._members)
        if cause is not None:
            self._give_up(chunk, FATAL, cause)
            return
        good = [place for place in range(len(chunk)) if place not in answer.problems]
        for place, problem in answer.problems.items():
            self._end(chunk.numbers[place], Outcome(chunk.rows[place], ERROR, None, problem, answer.code))
        if good:
            rows, numbers = [chunk.rows[place] for place in good], [chunk.numbers[place] for place in good]
            self._again.insert(0, Chunk(rows, numbers, chunk.attempts))

    def _replied(self, chunk: Chunk, replies: Replies, now: float) -> None:
        results = replies.results
        if results and all(_names_missing(result) for result in results):
            self._give_up(chunk, FATAL, NotFoundException(str(results[0]["error_message"])))
            return
        texts = ["" if result["success"] else result.get("error_message") or "" for result in results]
        cause = _cause_of_all(texts, self._members)
        if cause is not None:
            self._give_up(chunk, FATAL, cause)
            return
        ran = [place for place, result in enumerate(results) if result["success"] or not was_not_run(result)]
        one_at_a_time = chunk.concurrency == 1
        if one_at_a_time:
            self._items.ran(results[place].get("latency_ms") for place in ran)
        if ran:
            self._ran_at = now
        if ran or not one_at_a_time or not results:
            self._failures = 0
            self._answered_at = now
            self.throttle.succeeded()
        for place in ran:
            self._end(
                chunk.numbers[place],
                outcome_of(chunk.rows[place], results[place], chunk.attempts, self.options.min_confidence),
            )
        if len(ran) < len(results):
            self._unrun(chunk, results, ran, now)
        self._heed(replies, now)

    def _unrun(self, chunk: Chunk, results: Sequence[Mapping[str, Any]], ran: Sequence[int], now: float) -> None:
        """Send rows again that the server failed to run, to be run one at a time, or give them up."""
        unrun = sorted(set(range(len(results))).difference(ran))
        message = str(results[unrun[0]]["error_message"])
        self._items.failed(message)
        one_at_a_time = chunk.concurrency == 1
        counts = dict.fromkeys(unrun, 0)
        if one_at_a_time:
            since = chunk.failed_at is not None and self._ran_at >= chunk.failed_at
            counts = suspicions(unrun, ran, chunk.suspect, others_ran=since)
        over = [place for place in unrun if not self._resends or counts[place] >= UNRUN_AFTER]
        for place in over:
            told = "it is not sent again (retry_unknown=False or max_retries=0)"
            if self._resends:
                told = f"it failed again when it was sent {chunk.attempts} times while others ran"
            error = left_alone(results[place]["error_message"], told)
            row = chunk.rows[place]
            self._end(chunk.numbers[place], Outcome(row, ERROR, None, error, SERVER, None, chunk.attempts))
        again = []
        for count in sorted(set(counts.values())):
            places = [place for place in unrun if counts[place] == count and place not in set(over)]
            if places:
                again.append(chunk.part(places, now))
                again[-1].suspect = count
        if one_at_a_time and not ran and not over:
            trouble = ServerException(f"the server could not run any row of a request: {message}", status_code=200)
            self.last_error = str(trouble)
            if self._troubled(chunk, trouble, now):
                return
            for part in again:
                part.not_before = now + self._backoff(self._failures)
            if len(chunk) > 1 and chunk.attempts > CONVICTED_AFTER and chunk.suspect == 0:
                again = [half for part in again for half in part.halves()]
            self._again.extend(again)
        else:
            self._again[:0] = again

    def _heed(self, replies: Replies, now: float) -> None:
        """Pause if the reply says that the rate limit is used up, before a request is refused."""
        headers = replies.headers
        if headers.get("x-rate-limit-remaining") == "0":
            seconds = retries.retry_after(headers, self._time_of_day())
            if seconds:
                self.throttle.pause(seconds, now)

    def failed(self, chunk: Chunk, error: LoopaiException, now: float) -> None:
        """Process the failure of a chunk's whole request."""
        self.in_flight -= 1
        self.last_error = str(error)
        if isinstance(error, RateLimitException):
            # The rows are not the cause: send the same chunk again.
            if self._refused_since is None:
                self._refused_since = now
            elif now - self._refused_since > LONGEST_REFUSAL:
                self._give_up(chunk, UNREACHABLE, refused_too_long(error))
                return
            self.throttle.refused(chunk.sent_at, now)
            self.throttle.pause(LIMITER_PAUSE if error.retry_after is None else error.retry_after, now)
            chunk.attempts -= 1
            self._again.insert(0, chunk)
            return
        if error.status_code is not None:
            self._refused_since = None
        if _ends_the_run(error):
            self._give_up(chunk, UNREACHABLE if isinstance(error, ConnectionException) else FATAL, error)
            return
        if chunk.failed_at is None:
            chunk.failed_at = now
        if error.broke_off:
            self._cut(chunk, error, now)
            return
        if _is_of_the_rows(error):
            self._failures = 0
            self._answered_at = now
            self._split_or_convict(chunk, error, now, alone=1)
            return
        if self._troubled(chunk, error, now):
            return
        if error.status_code == 503 or chunk.attempts < 2 or not error.arrived:
            chunk.not_before = now + self._backoff(chunk.attempts)
            self._again.append(chunk)
        else:
            self._split_or_convict(chunk, error, now, alone=CONVICTED_AFTER)

    def _cut(self, chunk: Chunk, error: LoopaiException, now: float) -> None:
        """Process a reply that broke off: the server restarts, or cannot write the reply."""
        chunk.broken += 1
        if chunk.broken > 1 and len(chunk) > 1:
            self._again.extend(chunk.halves())
            return
        if len(chunk) == 1:
            chunk.alone += 1
            if chunk.alone > 1 and chunk.cut_at is not None and self._answered_at >= chunk.cut_at:
                self._refuse(chunk, error)
                return
            # Without a complete reply since then, the server has a problem, not this row.
            if chunk.alone > 1 and self._troubled(chunk, error, now):
                return
        chunk.cut_at = now
        chunk.not_before = now + self._backoff(max(1, chunk.alone))
        self._again.append(chunk)

    def _refuse(self, chunk: Chunk, error: LoopaiException) -> None:
        """Fail a row that is the cause of the failure."""
        reason = f"{type(error).__name__}: {error.message}"
        self._end(chunk.numbers[0], Outcome(chunk.rows[0], ERROR, None, reason, REFUSED, None, chunk.attempts))
        if error.broke_off or is_unwritten(error):
            self._unwritten += 1
            if self._unwritten >= TRIED_ALONE and self.errors == self.done == self._unwritten:
                self.stop(UNREACHABLE, error)

    def _troubled(self, chunk: Chunk, error: LoopaiException, now: float) -> bool:
        """Slow down: the network, the server or this chunk causes failures. Return whether that stops the run."""
        if chunk.sent_at >= self._failed_at:
            self._failures += 1
            self._failed_at = now
        self.throttle.failed(chunk.sent_at, now)
        asked = getattr(error, "retry_after", None)
        if error.status_code == 503 or asked is not None:
            self.throttle.pause(self._backoff(self._failures) if asked is None else asked, now)
        elif self._failures > 1:
            self.throttle.pause(self._backoff(self._failures - 1), now)
        if self._failures < GIVE_UP_AFTER:
            return False
        self._give_up(chunk, UNREACHABLE, error)
        return True

    def _split_or_convict(self, chunk: Chunk, error: LoopaiException, now: float, alone: int) -> None:
        if len(chunk) > 1:
            self._again.extend(chunk.halves())
            return
        chunk.alone += 1
        if chunk.alone >= alone and chunk.failed_at is not None and self._answered_at >= chunk.failed_at:
            self._refuse(chunk, error)
            return
        chunk.not_before = now + self._backoff(chunk.alone)
        self._again.append(chunk)

    def _backoff(self, attempt: int) -> float:
        return retries.backoff(attempt, self._random())

    # The end

    def stop(self, reason: StopReason, error: Optional[LoopaiException] = None) -> None:
        """Pull and send nothing more; requests in flight may still finish. The first reason counts."""
        if self.stopped is None:
            self.stopped, self.error = reason, error

    def abandon(self, chunks: Iterable[Chunk]) -> None:
        """Give up requests in flight whose replies are no longer awaited."""
        for chunk in chunks:
            self.in_flight -= 1
            self._again.append(chunk)

    def _give_up(self, chunk: Chunk, reason: StopReason, error: LoopaiException) -> None:
        """Stop the run because of a chunk, whose rows are cancelled with the rest."""
        self._again.append(chunk)
        self.stop(reason, error)

    def cancel_rest(self) -> None:
        """Cancel every row that was pulled and has not finished."""
        told = {
            TOO_MANY_ERRORS: "the run stopped at its limit of errors before this row ran",
            UNREACHABLE: "the server could not be reached",
            FATAL: "the server refused the run",
        }.get(self.stopped or "", "the run was stopped before this row ended")
        rest = [(number, row, 0) for number, row in self._waiting]
        rest += [(n, row, chunk.attempts) for chunk in self._again for n, row in zip(chunk.numbers, chunk.rows)]
        self._waiting.clear()
        self._again.clear()
        for number, row, attempts in sorted(rest, key=lambda one: one[0]):
            self._end(number, Outcome(row, CANCELLED, None, told, STOPPED, None, attempts))
        for number in sorted(self._held):
            self._out.append(self._held.pop(number))

    @property
    def ready(self) -> int:
        """How many outcomes `take` would return."""
        return len(self._out)

    @property
    def laden(self) -> bool:
        """Return whether outcomes should be kept before more rows are pulled.

        Not after each chunk: requests are sent first, so that they are in flight while outcomes are kept. Only rows
        that fail without being sent can become too many, and with one request at a time nothing else is in flight.
        """
        if self.options.max_in_flight == 1:
            return len(self._out) >= self.throttle.rows
        return len(self._out) > self.throttle.rows * self.options.max_in_flight

    def take(self) -> list[Outcome]:
        """Return the outcomes since the last call, in the order in which they are kept."""
        out, self._out = self._out, []
        return out

    def _end(self, number: int, outcome: Outcome) -> None:
        if self._flaw is not None and outcome.has_output:
            flaw = self._flaw(outcome.output)
            if flaw is not None:
                outcome.fail(flaw)
        if outcome.status != CANCELLED:
            self.done += 1
            if not outcome.has_output:
                self.errors += 1
                self.last_error = outcome.error
                if self.options.too_many(self.errors, self.done):
                    self.stop(TOO_MANY_ERRORS)
        if not self.options.ordered:
            self._out.append(outcome)
            return
        self._held[number] = outcome
        while self._next_out in self._held:
            self._out.append(self._held.pop(self._next_out))
            self._next_out += 1


def _names_missing(result: Mapping[str, Any]) -> bool:
    return names_missing(result["success"], result.get("execution_id"), result.get("error_message"))


def _ends_the_run(error: LoopaiException) -> bool:
    """Return whether every further request would fail in the same way, regardless of its rows."""
    if isinstance(error, (AuthenticationException, NotFoundException, NotSupportedException)):
        return True
    if isinstance(error, ConnectionException):
        return not error.retryable
    if isinstance(error, ValidationException):
        named = {name.split(".")[0].split("[")[0] for name in error.errors}
        return error.code == "INVALID_CONCURRENCY" or not named.isdisjoint(_OF_THE_RUN)
    return isinstance(error, ServerException) and error.status_code is not None and 300 <= error.status_code < 400


def _cause_of_all(texts: Sequence[str], members: frozenset[str]) -> Optional[LoopaiException]:
    """Return the reason why all these rows failed before they ran, if the next rows would fail in the same way."""
    if texts and all(map(_NO_PROGRAM.match, texts)):
        return ExecutionException(texts[0])
    # A member that the mapping does not provide is missing in every row.
    lacking = [_REQUIRED.match(text) for text in texts] if members else []
    if not lacking or not all(found is not None and found.group(1) not in members for found in lacking):
        return None
    return ValidationException(f"{texts[0]}; the mapping makes {', '.join(sorted(members))}")


def _is_of_the_rows(error: LoopaiException) -> bool:
    """Return whether the server read the request, and its content is why there is no usable reply."""
    if isinstance(error, (ValidationException, ExecutionException, ReplyTooLargeException)) or is_unwritten(error):
        return True
    return error.status_code is not None and 400 <= error.status_code < 500 and error.status_code != 408


def refused_too_long(error: RateLimitException) -> RateLimitException:
    """Return the error for a run that the rate limiter has refused for longer than its longest window."""
    hint = ""
    if error.status_code == 500:
        hint = ": a 500 without rate limit headers may also come from a proxy whose X-Real-IP is not an address"
    minutes = LONGEST_REFUSAL / 60
    return RateLimitException(
        f"the server has refused every request for {minutes:.0f} minutes, longer than its longest window{hint}",
        status_code=error.status_code,
        code=error.code,
        retry_after=error.retry_after,
        request=error.request,
    )
