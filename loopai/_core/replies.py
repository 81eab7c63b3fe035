"""Every error shape the server has, or a proxy may send, becomes one exception."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ..exceptions import (
    AuthenticationException,
    ConflictException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ServerException,
    TimeoutException,
    ValidationException,
)
from ..models import python_name
from . import retries
from .wire import Reply

BODY_SHOWN = 500
"""Characters of a reply's body that an exception keeps where it was not a JSON object."""

LARGEST_BODY = 30_000_000
"""Bytes of a request that the server reads (its web server's default); above it answers 500 INTERNAL_ERROR."""

_QUOTED = re.compile(r"'([^']+)'")


def start_of(content: bytes) -> str:
    """The start of a body as text, whatever it is."""
    text = content[: BODY_SHOWN * 4].decode("utf-8", "replace")
    return text if len(text) <= BODY_SHOWN else text[:BODY_SHOWN] + "…"


def failure(
    reply: Reply, asked: str, *, rationed: bool, sent: int, now: float, secret: Optional[str]
) -> LoopaiException:
    """The exception that a reply with an error status stands for.

    `asked` says what was asked of whom. `rationed` marks operations for which `INTERNAL_ERROR` means the rate
    limiter; `sent` is the request's size in bytes; `now` the time of day; `secret` the key, which a server or proxy
    may have echoed.
    """
    text = start_of(reply.content)
    body: Any = text
    with contextlib.suppress(ValueError, RecursionError):  # HTML, nothing, half of something
        body = json.loads(reply.content)
    if secret:
        body, text = _without(body, secret), _without(text, secret)
    parts = body if isinstance(body, Mapping) else {}
    code = _text(parts.get("code"))
    facts: dict[str, Any] = {
        "status_code": reply.status,
        "response": body,
        "code": code,
        "trace_id": _text(parts.get("trace_id")) or _text(parts.get("traceId")),
        "request": asked,
    }
    message = _message(parts, reply, text)
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
    if status == 500 and code == "INTERNAL_ERROR" and rationed:
        # The server's limiter fails while it formats its 429; nothing else on these paths answers with this code.
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
        place = reply.headers.get("location", "nowhere")
        return ServerException(f"the server redirects to {place}: set base_url to where it is", **facts)
    return LoopaiException(message, **facts)


def unreadable(reply: Reply, asked: str, reason: str, secret: Optional[str]) -> ServerException:
    """The exception for a reply that said yes and is not what the contract says."""
    text = start_of(reply.content)
    if secret:
        text = _without(text, secret)
        reason = _without(reason, secret)
    shown = f"; it starts {text[:80]!r}" if text else "; its body is empty"
    return ServerException(
        f"the reply is not what a Loopai server sends: {reason}{shown}",
        status_code=reply.status,
        response=text,
        request=asked,
    )


def _message(parts: Mapping[str, Any], reply: Reply, text: str) -> str:
    for name in ("message", "title", "detail"):
        message = _text(parts.get(name))
        if message:
            details = _text(parts.get("details"))
            return f"{message}: {details}" if details and details not in message else message
    if reply.status == 404:
        return "not found, and not by a Loopai server's own words: is base_url right?"
    if reply.status in {405, 501}:
        return "the server does not have this operation"
    return f"the server answered {reply.status}" + (f": {text[:80]!r}" if text else " with an empty body")


def _errors(parts: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    details = parts.get("details")
    if isinstance(details, Sequence) and not isinstance(details, str):
        for detail in details:
            if isinstance(detail, Mapping):
                name = python_name(str(detail.get("property_name", "")))
                found.setdefault(name or "body", []).append(str(detail.get("error_message", "")))
    errors = parts.get("errors")
    if isinstance(errors, Mapping):
        for path, texts in errors.items():
            listed = [str(text) for text in texts] if isinstance(texts, list) else [str(texts)]
            for name in _named(str(path), listed):
                found.setdefault(name, []).extend(listed)
        # `request` is the parameter of the server's method, not a field, and only ever comes with the real ones.
        if len(found) > 1:
            found.pop("request", None)
    return found


def _named(path: str, texts: Sequence[str]) -> list[str]:
    """The fields an entry is about: of a missing member the entry names only the object it is missing from."""
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


def _without(value: Any, secret: str) -> Any:
    if isinstance(value, str):
        return value.replace(secret, "***")
    if isinstance(value, Mapping):
        return {_without(name, secret): _without(item, secret) for name, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secret) for item in value]
    return value
