"""Middleware for all requests: ASP.NET's path matching, API key, rate limits, body size, metrics, errors."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import time
from functools import lru_cache

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import responses
from .budget import SharedBudget
from .calls import Site, failure
from .errors import ApiError
from .legacy import LegacySend, is_legacy
from .rate_limiter import RateLimiter
from .settings import Settings

logger = logging.getLogger("loopai.local")

OPEN = frozenset({"/api/v1/health", "/api/v1/health/detailed", "/api/v1/health/live", "/api/v1/health/ready"})
"""Paths under /api/ that need no key, so that a supervisor can check the process."""

MOST_REFUSED_KEYS = 20
"""Wrong keys that an address may send per minute; after that, all its requests are refused for the rest of it."""

DRAINED = 4
"""Multiple of the limit up to which a body is read to its end, so that its sender reads the refusal."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_WORDS = frozenset(
    {"api", "artifacts", "executions", "export", "batch", "by-name", "detailed", "docs", "execute", "health"}
    | {"live", "metrics", "openapi.json", "ready", "tasks", "v1", "validate"}
    | {"canary", "compare", "history", "improve", "programs", "progress", "recommendations", "rollback", "start"}
    | {"subscribe", "summary", "validation", "webhooks"}
)
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-fA-F:.]+)\]|(?P<name>[a-zA-Z0-9._-]{1,253}))(?::[0-9]{0,5})?")
_VERSION = re.compile(r"v([0-9]+)(?:\.([0-9]+))?", re.I)


class Middleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._key = None if settings.api_key is None else settings.api_key.strip().encode()
        self._wrong_keys = RateLimiter(MOST_REFUSED_KEYS)
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
        body = _Body(receive, self._settings, site.bodies)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])
                if extra:
                    MutableHeaders(scope=message).update(extra)
            await send(message)

        headers = Headers(scope=scope)
        if self._settings.legacy or is_legacy(headers):
            # For the SDKs 0.1.0, /health is the contract's health endpoint.
            if scope["path"] == "/health" and scope["method"] == "GET":
                scope["path"] = "/api/v1/health"
            send = LegacySend(send, scope["path"])
        site.metrics.in_progress.inc()
        try:
            refusal = self._refusal(scope, headers, extra)
            if refusal is not None:
                await refusal(scope, receive, counted)
            else:
                await self._app(scope, body.receive, counted)
        except Exception as error:  # nothing above can answer; uvicorn closes a reply that breaks off
            if sent:
                raise
            logger.exception("%s %s failed", scope["method"], scope["path"])
            fault = failure(self._settings, "INTERNAL_ERROR", "An unexpected error occurred", str(error))
            await responses.refused(fault, by_action=False)(scope, receive, counted)
        finally:
            body.end()
            site.metrics.in_progress.dec()
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = scope.get("route")
            endpoint = getattr(route, "path", "unmatched")
            site.metrics.answered(sent[0] if sent else 0, method, endpoint, time.perf_counter() - began)

    def _refusal(self, scope: Scope, headers: Headers, extra: dict[str, str]) -> Response | None:
        """Return the reply to a request that no route handles; rewrite the path as routes are written."""
        segments = _segments(scope["path"])
        scope["path"] = "/" + "/".join(segments)
        misdirected = self._wrong_host(headers)
        if misdirected is not None:
            return responses.refused(misdirected, by_action=False)
        client = self._client(scope, headers)
        private = segments[0] == "api" or segments == ["metrics"]
        if private and self._key is not None and scope["path"] not in OPEN:
            unauthorized = self._wrong_key(self._key, client, headers)
            if unauthorized is not None:
                return responses.refused(unauthorized, by_action=False)
        if segments[0] == "api":
            wrong = _wrong_version(segments, headers, scope["query_string"])
            if wrong is not None:
                return Response(status_code=wrong)
        if self._limiter is not None and segments != ["metrics"]:
            refusal, told = self._limiter.admit(client, scope["method"], scope["path"])
            if refusal is not None:
                return refusal
            extra.update(told)
        return None

    def _client(self, scope: Scope, headers: Headers) -> str:
        """Return the client's address; only trusted proxies may name another."""
        address = str((scope["client"] or ("",))[0])
        if address in self._settings.trusted_proxies:
            return headers.get("x-real-ip") or address
        return address

    def _wrong_host(self, headers: Headers) -> ApiError | None:
        """Return whether the Host header is wrong: pages that use DNS rebinding send another name."""
        allowed = self._settings.hosts
        if allowed is None or "*" in allowed:
            return None
        given = headers.getlist("host")
        name, is_local = _host_name(given[0]) if len(given) == 1 else (None, False)
        if name is None:
            return ApiError(400, "INVALID_HOST", "The request must have one Host header with a valid name")
        if is_local or name in allowed:
            return None
        text = f"This server does not answer for the host {name[:100]!r}: start it with --allowed-host {name[:100]}"
        return ApiError(421, "MISDIRECTED_REQUEST", text)

    def _wrong_key(self, key: bytes, client: str, headers: Headers) -> ApiError | None:
        seconds = self._wrong_keys.used_up(client, "", "")
        if seconds is not None:
            text = "Too many wrong API keys came from this address: wait and send the right one"
            return ApiError(429, "TOO_MANY_WRONG_KEYS", text, headers={"Retry-After": str(seconds)})
        scheme, _, given = (headers.get("authorization") or "").strip().partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), key):
            return None
        if scheme:
            self._wrong_keys.admit(client, "", "")
        message = "This server needs its API key: send it as Authorization: Bearer <key>"
        return ApiError(401, "UNAUTHORIZED", message, headers={"WWW-Authenticate": "Bearer"})


@lru_cache(maxsize=256)
def _host_name(host: str) -> tuple[str | None, bool]:
    """Return the name in a Host header, in lower case, without the port, and whether no DNS can redirect it.

    The name is `None` if it is invalid.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return None, False
    name = (found["address"] or found["name"]).lower().rstrip(".")
    return name, name == "localhost" or name.endswith(".localhost") or _is_address(name)


def _is_address(name: str) -> bool:
    # Browsers do not resolve IP addresses, so DNS rebinding cannot redirect them.
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _segments(path: str) -> list[str]:
    """Return the path's segments: known words in lower case, no trailing slash; a task's name is unchanged."""
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
    """Return 404 for another version in the path, 400 for an invalid one or one that contradicts header or query."""
    if len(segments) < 2:
        return None
    if segments[1] != "v1":
        stated = _VERSION.fullmatch(segments[1])
        return 404 if stated else 400 if segments[1][:1] in "vV" and segments[1] else None
    others = [headers.get("x-api-version")]
    if b"api-version=" in query.lower():
        others.append(query.decode("latin-1").lower().split("api-version=")[1].partition("&")[0])
    return 400 if any(other not in {None, "1", "1.0"} for other in others) else None


class _Body:
    """A request's body as it arrives: with limits on size, time, and the size of all bodies together."""

    def __init__(self, receive: Receive, settings: Settings, budget: SharedBudget) -> None:
        self._receive = receive
        self._settings = settings
        self._budget = budget
        self._give_up: float | None = None
        self._read = 0
        self._held = 0
        self._complete = False

    async def receive(self) -> Message:
        """Receive the next message. Raises `ApiError`: 413 if too large, 408 if too slow, 503 if memory is in use."""
        if self._complete:
            return await self._receive()
        message = await self._next()
        if self._read > self._settings.largest_body:
            # Otherwise the sender would disconnect before it reads the refusal.
            while not self._complete and self._read <= self._settings.largest_body * DRAINED:
                await self._next()
            text = f"The request body is larger than {self._settings.largest_body:,} bytes: send fewer items at a time"
            raise ApiError(413, "PAYLOAD_TOO_LARGE", text)
        size = len(message.get("body", b""))
        if not self._budget.take(size):
            text = "The server holds as many request bodies as it can: try again in a moment"
            raise ApiError(503, "OVERLOADED", text, headers={"Retry-After": "1"})
        self._held += size
        return message

    async def _next(self) -> Message:
        seconds = self._settings.request_seconds
        if self._give_up is None:
            self._give_up = time.monotonic() + seconds
        try:
            message = await asyncio.wait_for(self._receive(), self._give_up - time.monotonic())
        except asyncio.TimeoutError:
            text = f"The request body did not arrive within {seconds:g} s"
            raise ApiError(408, "REQUEST_TIMEOUT", text, headers={"Connection": "close"}) from None
        self._read += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        return message

    def end(self) -> None:
        """Release the memory that was reserved for the body."""
        self._budget.give_back(self._held)
        self._held = 0
