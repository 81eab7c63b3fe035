"""What surrounds every action: paths as ASP.NET matches them, the API key, rations, size, counting, faults."""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import responses
from .calls import Site, failure
from .errors import ApiError
from .rate_limiter import RateLimiter
from .settings import Settings

logger = logging.getLogger("loopai.local")

OPEN = frozenset({"/api/v1/health/live"})
"""What under /api/ needs no key, so that a supervisor can ask whether the process lives."""

DRAINED = 4
"""How often over the limit a body is still read to its end, so that its sender is there to read the refusal."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_WORDS = frozenset(
    {"api", "artifacts", "batch", "by-name", "detailed", "docs", "execute", "health"}
    | {"live", "metrics", "openapi.json", "ready", "tasks", "v1", "validate"}
    | {"canary", "compare", "history", "improve", "programs", "progress", "recommendations", "rollback", "start"}
    | {"subscribe", "summary", "validation", "webhooks"}
)
_VERSION = re.compile(r"v([0-9]+)(?:\.([0-9]+))?", re.I)


class Middleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._key = None if settings.api_key is None else f"Bearer {settings.api_key}".encode()
        self._limiter = None if settings.rate_limit is None else RateLimiter(settings.rate_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; everything else (lifespan) passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        site: Site = scope["app"].state.site
        sent: list[int] = []
        extra: dict[str, str] = {}

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])
                if extra:
                    MutableHeaders(scope=message).update(extra)
            await send(message)

        site.metrics.in_progress.inc()
        try:
            refusal = self._refusal(scope, extra)
            if refusal is not None:
                await refusal(scope, receive, counted)
            else:
                await self._app(scope, _bounded(receive, self._settings.largest_body), counted)
        except Exception as error:  # the last that can answer; what is cut short, uvicorn closes
            if sent:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            fault = failure(self._settings, "INTERNAL_ERROR", "An unexpected error occurred", str(error))
            await responses.refused(fault, by_action=False)(scope, receive, counted)
        finally:
            site.metrics.in_progress.dec()
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = scope.get("route")
            endpoint = getattr(route, "path", "unmatched")
            site.metrics.answered(sent[0] if sent else 0, method, endpoint, time.perf_counter() - began)

    def _refusal(self, scope: Scope, extra: dict[str, str]) -> Response | None:
        """The reply to what does not get as far as a route; makes the path what the routes are written as."""
        segments = _segments(scope["path"])
        scope["path"] = "/" + "/".join(segments)
        headers = Headers(scope=scope)
        if segments[0] == "api":
            if self._key is not None and scope["path"] not in OPEN:
                given = (headers.get("authorization") or "").encode()
                if not hmac.compare_digest(given, self._key):
                    message = "This server needs its API key: send it as Authorization: Bearer <key>"
                    challenge = {"WWW-Authenticate": "Bearer"}
                    return responses.refused(ApiError(401, "UNAUTHORIZED", message, headers=challenge), by_action=False)
            wrong = _wrong_version(segments, headers, scope["query_string"])
            if wrong is not None:
                return Response(status_code=wrong)
        if self._limiter is not None and segments != ["metrics"]:
            client = headers.get("x-real-ip") or (scope["client"] or ("",))[0]
            refusal, told = self._limiter.admit(client, scope["method"], scope["path"])
            if refusal is not None:
                return refusal
            extra.update(told)
        return None


def _segments(path: str) -> list[str]:
    """The path's segments: known words in lower case, no slash at the end; a task's name stays as it is."""
    segments = path[1:].rstrip("/").split("/")
    named = len(segments) > 4 and segments[3].lower() == "by-name"
    last = 4 if named else len(segments)
    for at, segment in enumerate(segments[:last]):
        if segment.lower() in _WORDS:
            segments[at] = segment.lower()
    if len(segments) > 1 and segments[0] == "api" and segments[1].lower() in {"v1", "v1.0"}:
        segments[1] = "v1"
    return segments


def _wrong_version(segments: list[str], headers: Headers, query: bytes) -> int | None:
    """404 for another version in the path, 400 for one that is none or disagrees with header or query."""
    if len(segments) < 2:
        return None
    if segments[1] != "v1":
        stated = _VERSION.fullmatch(segments[1])
        return 404 if stated else 400 if segments[1][:1] in "vV" and segments[1] else None
    others = [headers.get("x-api-version")]
    if b"api-version=" in query.lower():
        others.append(query.decode("latin-1").lower().split("api-version=")[1].partition("&")[0])
    return 400 if any(other not in {None, "1", "1.0"} for other in others) else None


def _bounded(receive: Receive, largest: int) -> Receive:
    """`receive`, raising `ApiError` (413) for a body above `largest` bytes."""
    read = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > largest:
            while message.get("more_body") and read <= largest * DRAINED:
                message = await receive()
                read += len(message.get("body", b""))
            text = f"The request body is larger than {largest:,} bytes: send fewer items at a time"
            raise ApiError(413, "PAYLOAD_TOO_LARGE", text)
        return message

    return bounded
