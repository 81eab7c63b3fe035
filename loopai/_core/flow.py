"""One call as a generator: it yields requests to send and pauses to make, and returns what the call gives.

Retries, deadline, Retry-After, redirects and errors are decided here, once for both clients; drivers do the I/O.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Callable, Generic, NoReturn, Optional, TypeVar, Union
from urllib.parse import urljoin, urlsplit

from pydantic import ValidationError

from ..exceptions import (
    ConnectionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    TimeoutException,
)
from ..models import ReplyInfo
from . import replies, retries
from .operations import Operation
from .wire import Answer, Headers, NoReply, Reply, Request

T = TypeVar("T")

logger = logging.getLogger("loopai")

LONGEST_REDIRECT_CHAIN = 5
"""Redirects followed within one attempt; a longer chain is a loop."""


@dataclass(frozen=True)
class Sleep:
    """A pause that the driver makes, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Policy:
    """What a call runs by. Times in seconds; clock, time of day and randomness are handed in."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: Optional[float] = 30.0
    deadline: Optional[float] = None
    max_retries: Optional[int] = 3
    retry_unknown: bool = True
    retry_waits: bool = True
    secret: Optional[str] = field(default=None, repr=False)
    clock: Callable[[], float] = time.monotonic
    time_of_day: Callable[[], float] = time.time
    random: Callable[[], float] = random.random


Step = Union[Request, Sleep]
Steps = Generator[Step, Optional[Answer], T]


def call(operation: Operation[T], policy: Policy) -> Steps[T]:
    """Make one call: yield each attempt and pause, return the result or raise a `LoopaiException`."""
    return _Call(operation, policy).run()


class _Call(Generic[T]):
    """The account of one call: when it began, what was tried, where the time went."""

    def __init__(self, operation: Operation[T], policy: Policy) -> None:
        self.operation = operation
        self.policy = policy
        self.began = policy.clock()
        self.attempts = 0
        self.queued = 0.0
        self.paused = 0.0
        self.url = policy.base_url + operation.path
        self.asked = f"{operation.method} {self.url}"
        headers = Headers(policy.headers)
        if operation.content:
            headers["content-type"] = "application/json"
        if operation.method == "POST":
            # One key a logical call, the same on every attempt: a server that honours it runs the call once.
            headers.setdefault("idempotency-key", str(uuid.uuid4()))
        self.headers = headers

    def run(self) -> Steps[T]:
        policy = self.policy
        while True:
            self.attempts += 1
            answer = yield from self.attempt()
            if isinstance(answer, Reply) and answer.status in self.operation.accepts:
                return self.result(answer)
            error = self.error(answer)
            pause = self.pause_after(answer, error)
            if pause is None:
                raise error
            logger.info(
                "%s: attempt %d of %s failed (%s); next in %.2f s",
                self.operation.name,
                self.attempts,
                "unlimited" if policy.max_retries is None else policy.max_retries + 1,
                type(error).__name__,
                pause,
            )
            if pause > 0:
                self.paused += pause
                yield Sleep(pause)

    def attempt(self) -> Steps[Answer]:
        url, origin = self.url, _origin(self.url)
        redirects = 0
        while True:
            remaining = self.remaining()
            if remaining is not None and remaining <= 0:
                self.out_of_time(None)
            bound = self.policy.timeout
            if bound is not None:
                bound += self.operation.seconds
            if remaining is not None:
                bound = remaining if bound is None else min(bound, remaining)
            answer = yield Request(self.operation.method, url, self.headers, self.operation.content, bound, remaining)
            if answer is None:
                raise RuntimeError("the driver sent no answer for a request")
            self.queued += answer.queued
            if not isinstance(answer, Reply) or answer.status not in {307, 308}:
                return answer
            target = urljoin(url, answer.headers.get("location", ""))
            redirects += 1
            if _origin(target) != origin or "location" not in answer.headers or redirects > LONGEST_REDIRECT_CHAIN:
                return answer
            url = target

    def result(self, reply: Reply) -> T:
        try:
            result = self.operation.read(reply)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            reason = f"{place}: {problem['msg']}" if place else problem["msg"]
            raise replies.unreadable(reply, self.asked, reason, self.policy.secret) from None
        except ValueError as error:
            raise replies.unreadable(reply, self.asked, str(error), self.policy.secret) from None
        if result is not None:
            object.__setattr__(result, "reply" if isinstance(result, (list, str)) else "_reply", self.info(reply))
        if self.operation.refuse is not None:
            refused = self.operation.refuse(result)
            if refused is not None:
                refused.request = self.asked
                raise refused
        return result

    def info(self, reply: Reply) -> ReplyInfo:
        elapsed = self.policy.clock() - self.began
        return ReplyInfo(reply.status, reply.headers, elapsed, self.attempts, self.queued, self.paused)

    def error(self, answer: Answer) -> LoopaiException:
        if isinstance(answer, Reply):
            found = replies.failure(
                answer,
                self.asked,
                rationed=self.operation.rationed,
                sent=len(self.operation.content),
                now=self.policy.time_of_day(),
                secret=self.policy.secret,
            )
            missing = isinstance(found, (NotFoundException, NotSupportedException)) and found.code is None
            if self.operation.addition and missing:
                message = f"{self.policy.base_url} has no {self.operation.name}: only the embedded server adds it"
                return NotSupportedException(message, status_code=answer.status, request=self.asked)
            return found
        # Its frames hold the headers, and with them the key.
        cause = answer.error.with_traceback(None)
        if answer.timed_out:
            return self.timed_out(cause)
        told = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        error = ConnectionException(
            f"no reply from {self.policy.base_url} ({told})", original_exception=cause, request=self.asked
        )
        error.__cause__ = cause
        return error

    def pause_after(self, answer: Answer, error: LoopaiException) -> Optional[float]:
        """Seconds until the next attempt, or `None` where there is none."""
        limit = self.policy.max_retries
        if (limit is not None and self.attempts > limit) or not self.may_repeat(answer, error):
            return None
        asked = getattr(error, "retry_after", None)
        pause: float = retries.backoff(self.attempts, self.policy.random()) if asked is None else asked
        remaining = self.remaining()
        if remaining is None:
            if pause > retries.LONGEST_RETRY_AFTER:
                return None
        elif pause >= remaining:
            if asked is not None:
                return None
            self.out_of_time(error)
        return pause if self.policy.retry_waits else 0.0

    def may_repeat(self, answer: Answer, error: LoopaiException) -> bool:
        operation = self.operation
        unknown = operation.repeats and not (operation.pure and not self.policy.retry_unknown)
        if isinstance(answer, NoReply):
            return unknown or not answer.arrived
        # Refused before it was worked on: safe to send again, whatever it is.
        if isinstance(error, RateLimitException) or answer.status == 408:
            return True
        if answer.status == 503 and "retry-after" in answer.headers:
            return True
        return unknown and answer.status in retries.PASSING_STATUSES

    def remaining(self) -> Optional[float]:
        if self.policy.deadline is None:
            return None
        return self.policy.deadline - (self.policy.clock() - self.began)

    def timed_out(self, cause: BaseException) -> TimeoutException:
        remaining = self.remaining()
        if remaining is not None and remaining <= 0:
            bound = f"deadline of {self.policy.deadline:g} s"
        else:
            seconds = (self.policy.timeout or 0.0) + self.operation.seconds
            bound = f"timeout of {seconds:g} s" if self.policy.timeout else "time the transport allows"
        message = f"{self.operation.name}: no reply within the {bound}: {self.spent()}"
        error = TimeoutException(message, original_exception=cause, request=self.asked)
        error.__cause__ = cause
        return error

    def out_of_time(self, last: Optional[LoopaiException]) -> NoReturn:
        """The deadline leaves no time for another attempt."""
        told = f"; the last attempt: {last.message}" if last is not None else ""
        message = (
            f"{self.operation.name}: not done within the deadline of {self.policy.deadline:g} s: {self.spent()}{told}"
        )
        raise TimeoutException(
            message,
            original_exception=last,
            status_code=None if last is None else last.status_code,
            request=self.asked,
        ) from last

    def spent(self) -> str:
        elapsed = self.policy.clock() - self.began
        wire = max(0.0, elapsed - self.queued - self.paused)
        attempts = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return (
            f"{attempts} in {elapsed:.2f} s, of which {self.queued:.2f} s waiting for a connection, "
            f"{wire:.2f} s for replies, {self.paused:.2f} s between attempts"
        )


def _origin(url: str) -> tuple[str, Optional[str], Optional[int]]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
