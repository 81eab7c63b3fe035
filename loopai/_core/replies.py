"""Turn error replies of the server, or of a proxy, into exceptions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from pydantic_core import from_json

from ..exceptions import (
    AuthenticationException,
    ConflictException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ReplyTooLargeException,
    ServerException,
    TimeoutException,
    ValidationException,
)
from ..models import python_name
from . import retries
from .limits import LARGEST_BODY
from .texts import bounded, secrets_of, shortened, without
from .wire import Reply

__all__ = ["BODY_SEARCHED", "failure", "request_id_of", "secrets_of", "start_of", "too_large", "unreadable"]

BODY_SHOWN = 500
"""Characters of a body that is not JSON that an exception keeps."""

BODY_SEARCHED = 65_536
"""Bytes of such a body that are searched for secrets before its start is cut; a header is never longer."""

_OF_ERRORS = (
    "code", "message", "details", "trace_id", "timestamp", "type", "title", "status", "detail", "errors", "traceId",
)  # fmt: skip
"""Members of the two kinds of error bodies."""

_QUOTED = re.compile(r"'([^']+)'")


def start_of(content: bytes, secrets: Sequence[str] = ()) -> str:
    """Return the start of any body as text, without the `secrets`."""
    # Remove secrets before cutting: half a key would not be detected.
    text: str = without(content[:BODY_SEARCHED].decode("utf-8", "replace"), secrets)
    return text if len(text) <= BODY_SHOWN else text[:BODY_SHOWN] + "…"


def failure(
    reply: Reply, asked: str, *, limited: bool, sent: int, now: float, secrets: Sequence[str], private: bool = False
) -> LoopaiException:
    """Return the exception for a reply with an error status.

    `asked` says the HTTP method and URL. `limited` marks operations for which `INTERNAL_ERROR` means the rate
    limiter; `sent` is the request's size in bytes; `now` the time of day; `secrets` are removed, since a server or
    proxy may echo them; of a `private` reply only the members of an error are kept.
    """
    text = start_of(reply.content, secrets)
    body: Any = text
    if not reply.cut:
        with contextlib.suppress(ValueError):  # HTML, nothing, half of something
            body = from_json(reply.content, allow_inf_nan=False)
    if private:
        body = {name: body[name] for name in _OF_ERRORS if name in body} if isinstance(body, dict) else None
    # The status decides the exception: a secret such as "code" must not change it.
    code = _text(body.get("code")) if isinstance(body, dict) else None
    body = without(bounded(body), secrets)
    parts = body if isinstance(body, dict) else {}
    facts: dict[str, Any] = {
        "status_code": reply.status,
        "response": body,
        "code": None if code is None else shortened(without(code, secrets)),
        "trace_id": _text(parts.get("trace_id")) or _text(parts.get("traceId")),
        "request": asked,
        "request_id": request_id_of(reply, secrets),
    }
    message = _message(parts, reply, None if private else text)
    status = reply.status
    if status == 429:
        return RateLimitException(message, retry_after=retries.retry_after(reply.headers, now), **facts)
    if status in {401, 403}:
        return AuthenticationException(message, **facts)
    if status == 404:
        return NotFoundException(message, **facts)
    if status in {405, 501}:
        return NotSupportedException(message, **facts)
    if status == 408:
        return TimeoutException(message, **facts)
    if status == 409:
        return ConflictException(message, **facts)
    if status in {400, 413, 415, 422}:
        return ValidationException(message, errors=_errors(parts), **facts)
    if status == 500 and code == "INTERNAL_ERROR" and sent > LARGEST_BODY:
        return ValidationException(
            f"the request has {sent:,} bytes and the server reads {LARGEST_BODY:,}: send fewer items", **facts
        )
    if status == 500 and code == "INTERNAL_ERROR" and limited and not _was_admitted(reply):
        # The published server's limiter fails while it formats its 429. Requests that it admits have its headers.
        return RateLimitException(
            "rate limit exceeded (the server's limiter answers 500 INTERNAL_ERROR)",
            retry_after=retries.retry_after(reply.headers, now),
            **facts,
        )
    if status == 500 and (code in {"EXECUTION_ERROR", "BATCH_EXECUTION_ERROR"} or "executionId" in parts):
        execution_id = parts.get("execution_id", parts.get("executionId"))
        return ExecutionException(message, execution_id=_text(execution_id), **facts)
    if status >= 500:
        return ServerException(message, retry_after=retries.retry_after(reply.headers, now), **facts)
    if 300 <= status < 400:
        place = shortened(without(reply.headers.get("location", "nowhere"), secrets))
        return ServerException(f"the server redirects to {place}: set base_url to where it is", **facts)
    return LoopaiException(message, **facts)


def _was_admitted(reply: Reply) -> bool:
    """Return whether the server's rate limiter let the request through."""
    return any(name.startswith("x-rate-limit-") for name in reply.headers)


def request_id_of(reply: Reply, secrets: Sequence[str]) -> Optional[str]:
    """Return the reply's `X-Request-Id`; `None` if it has none."""
    found = reply.headers.get("x-request-id")
    return shortened(without(found, secrets)) if found else None


def too_large(reply: Reply, limit: int, asked: str, secrets: Sequence[str]) -> ReplyTooLargeException:
    """Return the exception for a successful reply that is larger than the client reads."""
    return ReplyTooLargeException(
        f"the reply is larger than {limit:,} bytes and was not read: raise max_reply_bytes, or send fewer inputs",
        status_code=reply.status,
        request=asked,
        request_id=request_id_of(reply, secrets),
    )


def unreadable(
    reply: Reply, asked: str, reason: str, secrets: Sequence[str], *, private: bool = False
) -> ServerException:
    """Return the exception for a successful reply that breaks the contract; nothing of a `private` one is kept."""
    text, reason = start_of(reply.content, secrets), shortened(without(reason, secrets))
    shown = f"; it starts {text[:80]!r}" if text else "; its body is empty"
    if private and text:
        text, shown = "", "; its body is not shown, as it may hold secrets"
    return ServerException(
        f"the reply is not what a Loopai server sends: {reason}{shown}",
        status_code=reply.status,
        response=text,
        request=asked,
        request_id=request_id_of(reply, secrets),
    )


def _message(parts: Mapping[str, Any], reply: Reply, text: Optional[str]) -> str:
    for name in ("message", "title", "detail"):
        message = _text(parts.get(name))
        if message:
            details = _text(parts.get("details"))
            return shortened(f"{message}: {details}" if details and details not in message else message)
    if reply.status == 404:
        return "not found, and not by a Loopai server's own words: is base_url right?"
    if reply.status in {405, 501}:
        return "the server does not have this operation"
    answered = f"the server answered {reply.status}"
    if text is None:
        return f"{answered}; its body is not shown, as it may hold secrets"
    return answered + (f": {text[:80]!r}" if text else " with an empty body")


def _errors(parts: Mapping[str, Any]) -> dict[str, list[str]]:
    by_field: dict[str, list[str]] = {}
    details = parts.get("details")
    if isinstance(details, Sequence) and not isinstance(details, str):
        for detail in details:
            if isinstance(detail, Mapping):
                name = python_name(str(detail.get("property_name", "")))
                by_field.setdefault(name or "body", []).append(str(detail.get("error_message", "")))
    errors = parts.get("errors")
    if isinstance(errors, Mapping):
        for path, texts in errors.items():
            listed = [str(text) for text in texts] if isinstance(texts, list) else [str(texts)]
            for name in _named(str(path), listed):
                by_field.setdefault(name, []).extend(listed)
        # `request` is the parameter of the server's method, not a field, and only ever comes with the real ones.
        if len(by_field) > 1:
            by_field.pop("request", None)
    return by_field


def _named(path: str, texts: Sequence[str]) -> list[str]:
    """Return the fields of an entry: for a missing member it names only the object that lacks it."""
    name = python_name(path)
    missing = [
        member
        for text in texts
        if "missing required properties" in text
        for member in _QUOTED.findall(text.partition("including:")[2])
    ]
    if missing:
        return [f"{name}.{member}" if name else member for member in missing]
    return [name or "body"]


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value else None


def is_unwritten(error: LoopaiException) -> bool:
    """Return whether the server ran the request but could not write the reply: JSON cannot represent an output."""
    return isinstance(error, ServerException) and error.status_code == 500 and error.code == "INTERNAL_ERROR"
