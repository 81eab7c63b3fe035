"""One call as a generator: it yields requests and pauses, and returns the result of the call.

Retries, deadline, Retry-After, redirects and errors are decided here, once for both clients; drivers do the I/O.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Callable, Generic, NoReturn, Optional, Protocol, TypeVar, Union
from urllib.parse import urljoin, urlsplit

from pydantic import ValidationError

from ..exceptions import (
    ConfigurationError,
    ConnectionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ServerException,
    TimeoutException,
    ValidationException,
)
from ..models import ReplyHeaders, ReplyInfo
from . import replies, retries
from .operations import GENERATION_SECONDS, Operation
from .paces import Pace
from .randomness import private_random
from .texts import scrub_messages, secrets_of, shortened, without
from .wire import Answer, Headers, NoReply, Reply, Request

T = TypeVar("T")

logger = logging.getLogger("loopai")

GENERATING = "GENERATING"
"""The code of the embedded server's 503 while the task's program is being made."""

LONGEST_REDIRECT_CHAIN = 5
"""Redirects followed within one attempt; a longer chain is a loop."""


@dataclass(frozen=True)
class Sleep:
    """A pause that the driver makes, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Wanted:
    """A function that the driver calls, awaiting its result if possible; the flow continues with that result."""

    source: Callable[[], Any] = field(repr=False)


class Performer(Protocol):
    """How a client waits and works beside its calls: an asynchronous one returns awaitables."""

    def waited(self, flight: Future[Any], seconds: Optional[float]) -> Any:
        """Wait until `flight` is over, at most `seconds`, and return whether it is."""

    def aside(self, work: Callable[[], Any]) -> Any:
        """Call `work`, which may take a while, and return what it returns."""


@dataclass(frozen=True)
class Given:
    """The result of a `Wanted`."""

    value: Any = field(repr=False)


@dataclass(frozen=True)
class Retry:
    """Tells hooks that the call is retried after `seconds`, and why."""

    seconds: float
    error: LoopaiException


def _new_key() -> str:
    # Not `os.urandom`, which releases the GIL for each call: that is expensive if another thread waits for it.
    return f"{private_random.getrandbits(128):032x}"


@dataclass(frozen=True)
class Policy:
    """The settings of a call. Times are in seconds; clocks and randomness are passed in."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: Optional[float] = 30.0
    deadline: Optional[float] = None
    max_retries: Optional[int] = 3
    retry_unknown: bool = True
    retry_waits: bool = True
    secret: Optional[str] = field(default=None, repr=False)
    max_reply_bytes: Optional[int] = None
    key_source: Optional[Callable[[], Any]] = field(default=None, repr=False)
    pace: Optional[Pace] = None
    tells_retries: bool = False
    clock: Callable[[], float] = time.monotonic
    time_of_day: Callable[[], float] = time.time
    random: Callable[[], float] = private_random.random
    new_key: Callable[[], str] = _new_key


Step = Union[Request, Sleep, Wanted, Retry]
Steps = Generator[Step, Union[Answer, Given, None], T]


def call(operation: Operation[T], policy: Policy, began: Optional[float] = None) -> Steps[T]:
    """Make one call: yield each attempt and pause, return the result or raise a `LoopaiException`.

    `began` is the start of the deadline, if this is a part of a longer call.
    """
    return _Call(operation, policy, began).run()


class _Call(Generic[T]):
    """The state of one call: its start, attempts, and how the time was spent."""

    def __init__(self, operation: Operation[T], policy: Policy, began: Optional[float] = None) -> None:
        self.operation = operation
        self.policy = policy
        self.began = policy.clock() if began is None else began
        self.attempts = 0
        self.told_to_wait = 0
        self.queued = 0.0
        self.paused = 0.0
        self.ends_with_deadline = False
        self.keys: list[str] = []
        self.url = policy.base_url + operation.path
        headers = Headers(policy.headers)
        if operation.content:
            headers["content-type"] = "application/json"
        if operation.method == "POST":
            # One key for each logical call, the same on every attempt: a server that supports it runs the call once.
            headers["idempotency-key"] = policy.new_key()
        self.headers = headers

    def run(self) -> Steps[T]:
        policy = self.policy
        while True:
            answer = yield from self.attempt()
            if isinstance(answer, Reply) and answer.status in self.operation.accepts:
                try:
                    return self.result(answer)
                except ServerException:
                    # A 503 may come from the server, or from a proxy in front of it.
                    if answer.status < 400:
                        raise
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
            if policy.tells_retries:
                yield Retry(pause, error)
            yield from self.sleep(pause)

    def sleep(self, seconds: float) -> Steps[None]:
        if seconds > 0:
            began = self.policy.clock()
            yield Sleep(seconds)
            self.paused += self.policy.clock() - began

    def turn(self) -> Steps[None]:
        """Wait until the client's own rate limit allows the next request, within the deadline."""
        pace = self.policy.pace
        if pace is None:
            return
        remaining = self.remaining()
        if remaining is not None and pace.wait(self.policy.clock()) >= remaining:
            self.out_of_time(None)
        yield from self.sleep(pace.take(self.policy.clock()))

    def key(self) -> Steps[None]:
        """Get the API key for this attempt, if it comes from a function."""
        source = self.policy.key_source
        if source is None or "authorization" in self.policy.headers:  # the caller's own header wins
            return
        given = yield Wanted(source)
        key: Any = given.value if isinstance(given, Given) else None
        key = key.get_secret_value() if callable(getattr(key, "get_secret_value", None)) else key
        if key is None:
            self.headers.pop("authorization", None)
            return
        if not isinstance(key, str) or not key.strip() or not key.isascii() or not key.isprintable():
            raise ConfigurationError("api_key: the function must return printable ASCII text, or None for no key")
        self.keys.append(key.strip())
        self.headers["authorization"] = f"Bearer {key.strip()}"

    def attempt(self) -> Steps[Answer]:
        """Make one attempt and follow its redirects; all of them share its timeout."""
        yield from self.key()
        yield from self.turn()
        url, redirects = self.url, 0
        timeout = self.policy.timeout
        left = None if timeout is None else timeout + self.operation.seconds
        while True:
            remaining = self.remaining()
            if remaining is not None and remaining <= 0:
                self.out_of_time(None)
            bound = left
            self.ends_with_deadline = remaining is not None and (left is None or remaining <= left)
            if self.ends_with_deadline:
                bound = remaining
            if not redirects:
                self.attempts += 1
            began = self.policy.clock()
            answer = yield Request(
                self.operation.method,
                url,
                self.headers,
                self.operation.content,
                bound,
                remaining,
                self.policy.max_reply_bytes,
            )
            if answer is None or isinstance(answer, Given):
                raise RuntimeError("the driver sent no answer for a request")
            self.queued += answer.queued
            if not isinstance(answer, Reply) or answer.status not in {307, 308}:
                return answer
            target = _redirected(url, answer.headers.get("location", ""))
            redirects += 1
            if target is None or redirects > LONGEST_REDIRECT_CHAIN:
                return answer
            url = target
            if left is not None:
                # At least a moment: an attempt without time left times out in the transport, like any other.
                left = max(0.001, left - (self.policy.clock() - began - answer.queued))

    @property
    def asked(self) -> str:
        """The HTTP method and URL, for errors."""
        return f"{self.operation.method} {self.url}"

    def result(self, reply: Reply) -> T:
        limit = self.policy.max_reply_bytes
        if limit is not None and (reply.cut or len(reply.content) > limit):
            raise replies.too_large(reply, limit, self.asked, self.secrets())
        if b"rror" in reply.content:
            content = scrub_messages(reply.content, self.secrets())
            if content is not reply.content:
                reply = Reply(reply.status, reply.headers, content, reply.queued)
        reason = None
        try:
            result = self.operation.read(reply)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            reason = f"{place}: {problem['msg']}" if place else problem["msg"]
        except ValueError as error:
            reason = str(error)
        if reason is not None:
            # Outside the handler: the body, with a possible key, would stay on the exception as its context.
            unreadable = replies.unreadable(reply, self.asked, reason, self.secrets(), private=self.operation.private)
            if "EOF while parsing" in reason:
                unreadable.broke_off = True
            raise unreadable
        if result is not None:
            object.__setattr__(result, "reply" if isinstance(result, (list, str)) else "_reply", self.info(reply))
        if self.operation.refuse is not None:
            refused = self.operation.refuse(result)
            if refused is not None:
                refused.request = self.asked
                refused.request_id = replies.request_id_of(reply, self.secrets())
                raise refused
        return result

    def info(self, reply: Reply) -> ReplyInfo:
        elapsed = self.policy.clock() - self.began
        return ReplyInfo(reply.status, ReplyHeaders(reply.headers), elapsed, self.attempts, self.queued, self.paused)

    def error(self, answer: Answer) -> LoopaiException:
        if isinstance(answer, Reply):
            limit = self.policy.max_reply_bytes
            if limit is not None and len(answer.content) > limit:
                start = answer.content[: replies.BODY_SEARCHED]
                answer = Reply(answer.status, answer.headers, start, answer.queued, cut=True)
            failure = replies.failure(
                answer,
                self.asked,
                limited=self.operation.limited,
                sent=len(self.operation.content),
                now=self.policy.time_of_day(),
                secrets=self.secrets(),
                private=self.operation.private,
            )
            if self.operation.addition and failure.code is None and _is_missing(failure):
                message = f"{self.policy.base_url} has no {self.operation.name}: only the embedded server adds it"
                return NotSupportedException(message, status_code=answer.status, request=self.asked)
            if self.operation.first and answer.status == 504:
                return _late(failure)
            return failure
        cause = self.harmless(_without_frames(answer.error))
        if answer.timed_out:
            late = self.timed_out(cause)
            if self.operation.first and answer.arrived:
                late.retryable = False
            return late
        told = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        message = f"no reply from {self.policy.base_url} ({told})"
        if answer.untrusted:
            message = (
                f"the certificate of {self.policy.base_url} is not trusted ({told}): set verify to the file of the "
                "authority that issued it, or base_url to a name in the certificate"
            )
        error = ConnectionException(message, original_exception=cause, request=self.asked)
        error.retryable = not (answer.untrusted or answer.final)
        error.broke_off, error.arrived = answer.cut, answer.arrived
        error.__cause__ = cause
        return error

    def pause_after(self, answer: Answer, error: LoopaiException) -> Optional[float]:
        """Return the seconds until the next attempt; `None` if there is none."""
        limit = self.policy.max_retries
        if limit != 0 and error.code == GENERATING and self.policy.clock() - self.began < GENERATION_SECONDS:
            # The server has waited and asks for a retry: this does not count as a failure.
            self.told_to_wait += 1
        if (limit is not None and self.attempts - self.told_to_wait > limit) or not self.may_repeat(answer, error):
            return None
        if isinstance(answer, NoReply) and answer.timed_out and self.ends_with_deadline:
            return None
        asked = None if isinstance(answer, NoReply) else retries.retry_after(answer.headers, self.policy.time_of_day())
        # Without a pause, unlimited retries would flood the server.
        pause = asked or retries.backoff(self.attempts, self.policy.random())
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
            if answer.timed_out and answer.arrived and operation.first:
                return False
            return not (answer.untrusted or answer.final) and (unknown or not answer.arrived)
        if answer.status == 504 and operation.first:
            return False
        # Refused before it was processed: any operation is safe to repeat.
        if isinstance(error, RateLimitException) or answer.status == 408:
            return True
        if answer.status == 503 and "retry-after" in answer.headers:
            return True
        return unknown and answer.status in retries.PASSING_STATUSES

    def secrets(self) -> list[str]:
        return secrets_of(self.policy.headers, self.policy.secret, self.operation.secret, *self.keys)

    def harmless(self, error: BaseException) -> BaseException:
        """Return the transport's error, or a shorter one without secrets."""
        text, secrets = str(error), self.secrets()
        told = shortened(without(text, secrets))
        links = [link for link in (error.__cause__, error.__context__) if link is not None]
        if told == text and all(without(str(link), secrets) == str(link) for link in links):
            return error
        plain = TimeoutError if isinstance(error, TimeoutError) else ConnectionError
        return plain(f"{type(error).__name__}: {told}")

    def remaining(self) -> Optional[float]:
        if self.policy.deadline is None:
            return None
        return self.policy.deadline - (self.policy.clock() - self.began)

    def timed_out(self, cause: BaseException) -> TimeoutException:
        if self.ends_with_deadline:
            bound = f"deadline of {self.policy.deadline:g} s"
        else:
            seconds = (self.policy.timeout or 0.0) + self.operation.seconds
            bound = f"timeout of {seconds:g} s" if self.policy.timeout else "time the transport allows"
        message = f"{self.operation.name}: no reply within the {bound}: {self.spent()}"
        error = TimeoutException(message, original_exception=cause, request=self.asked)
        error.__cause__ = cause
        return error

    def out_of_time(self, last: Optional[LoopaiException]) -> NoReturn:
        """Return the error for a deadline that leaves no time for another attempt."""
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


def _without_frames(error: BaseException) -> BaseException:
    """Return the error without tracebacks, those of its causes included: their frames contain the key."""
    chain = [error]
    for link in chain:
        link.__traceback__ = None
        chain += [other for other in (link.__cause__, link.__context__) if other is not None and other not in chain]
    return error


def _late(failure: LoopaiException) -> TimeoutException:
    """Return the error for a proxy's timeout: the server may still be making the program, and would start again."""
    late = TimeoutException(failure.message)
    late.__dict__.update(vars(failure), retryable=False, original_exception=None)
    return late


def _is_missing(error: LoopaiException) -> bool:
    # If the path has more parts, the server may read one of them as a task's id and refuse it.
    in_the_path = isinstance(error, ValidationException) and "task_id" in error.errors
    return in_the_path or isinstance(error, (NotFoundException, NotSupportedException))


def _redirected(url: str, location: str) -> Optional[str]:
    """Return the target of a redirect; `None` if it is another origin or not an address."""
    try:
        target = urljoin(url, location)
        return target if location and _origin(target) == _origin(url) else None
    except ValueError:  # not an address
        return None


def _origin(url: str) -> tuple[str, Optional[str], Optional[int]]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
