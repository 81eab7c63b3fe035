"""Errors of calls as RFC 9457 problem documents, which the integrations turn into responses."""

from __future__ import annotations

import math
from typing import Optional

from pydantic import BaseModel, Field

from .exceptions import (
    ConflictException,
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    RateLimitException,
    TimeoutException,
    ValidationException,
)

MEDIA_TYPE = "application/problem+json"

RATIONED_FOR = 60
"""Seconds to wait if a rate limited server does not say: its limiter counts per minute."""


class Problem(BaseModel):
    """A problem document (RFC 9457). If the input was rejected, `errors` maps fields to texts."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: Optional[str] = Field(default=None, description="The Loopai server's code")
    trace_id: Optional[str] = Field(default=None, description="The Loopai server's trace id, for its logs")
    errors: Optional[dict[str, list[str]]] = None


# The most specific class first. The server's text is passed on only if the request was invalid; otherwise
# it may name hosts and internals, and is replaced by a text of our own.
KINDS: tuple[tuple[type[LoopaiException], int, str, Optional[str]], ...] = (
    (NotFoundException, 404, "Not found", None),
    (ConflictException, 409, "Conflict", None),
    (ValidationException, 422, "Not valid", None),
    (RateLimitException, 429, "Too many requests", "The upstream server is rate limited: try again later."),
    (TimeoutException, 504, "Upstream timed out", "The Loopai server did not answer in time."),
    (ConnectionException, 503, "Upstream unreachable", "The Loopai server could not be reached."),
    (ExecutionException, 502, "Execution failed", "The task's program failed on this input, or could not run."),
    (LoopaiException, 502, "Upstream failed", "The Loopai server could not complete the request."),
)


def problem_of(error: LoopaiException) -> tuple[Problem, dict[str, str]]:
    """Return the document and the headers for `error`."""
    status, title, detail = next(
        (status, title, detail) for kind, status, title, detail in KINDS if isinstance(error, kind)
    )
    headers = {}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is None and status == 429:
        retry_after = RATIONED_FOR
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    problem = Problem(
        title=title,
        status=status,
        detail=detail or error.message,
        code=error.code,
        trace_id=error.trace_id,
        errors=error.errors if isinstance(error, ValidationException) else None,
    )
    return problem, headers
