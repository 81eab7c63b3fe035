"""One call of an action: its body, its way to a worker thread, its idempotency key, and what becomes of its errors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from . import answers, idempotency
from .binding import INT_MAX, Body
from .errors import ApiError, BindingProblem, unbindable_parameter
from .generation import Generation
from .idempotency import Keys, Replayed
from .metrics import Metrics
from .service import Seal, Service
from .settings import Settings
from .store import Store, Transaction

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger("loopai.local")

# .NET reads these forms of a GUID in a route.
_ROUTE_GUID = re.compile(
    r"(?P<open>[{(])?(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?(open)[})])", re.I
)
_ROUTE_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")


@dataclass(frozen=True)
class Site:
    """What a running server has; made at its start and closed at its end."""

    settings: Settings
    store: Store
    service: Service
    metrics: Metrics
    keys: Keys
    generation: Generation
    threads: ThreadPoolExecutor
    under_way: set[Future[Any]] = field(default_factory=set)

    async def work(self, function: Callable[[], T]) -> T:
        """Run what blocks in a worker thread."""
        future = self.threads.submit(function)
        self.under_way.add(future)
        future.add_done_callback(self.under_way.discard)
        return await asyncio.wrap_future(future)

    def end_work(self, seconds: float) -> None:
        """Wait for the work under way, at most so long: what a program still does then nobody waits for."""
        _, left = concurrent.futures.wait(list(self.under_way), seconds)
        self.threads.shutdown(wait=not left, cancel_futures=True)


class ActionCall:
    """A request to an action."""

    def __init__(self, request: Request) -> None:
        self.began = time.perf_counter()
        self.request = request
        self.site: Site = request.app.state.site
        self.content = b""
        self.key: str | None = None
        self._fingerprint = b""

    @property
    def origin(self) -> str:
        """Scheme and host as the caller named them."""
        host, port = self.request.scope.get("server") or ("localhost", None)
        address = host if port is None else f"{host}:{port}"
        return f"{self.request.scope['scheme']}://{self.request.headers.get('host', address)}"

    def guid(self, name: str, title: str) -> str:
        """A GUID in the path. Raises `BindingProblem` under the real server's parameter name."""
        text: str = self.request.path_params[name]
        if not _ROUTE_GUID.fullmatch(text):
            raise unbindable_parameter(title, text)
        return str(UUID(text.strip("()")))

    def integer(self, name: str, title: str) -> int:
        """A 32-bit integer in the path. Raises `BindingProblem`."""
        text: str = self.request.path_params[name]
        if not _ROUTE_INTEGER.fullmatch(text) or not -INT_MAX - 1 <= int(text) <= INT_MAX:
            raise unbindable_parameter(title, text)
        return int(text)

    def body(self, kind: Body) -> dict[str, Any]:
        """The body's members. Raises `BindingProblem`."""
        return kind.bind(self.content)

    async def work(self, function: Callable[[], T]) -> T:
        """Run what blocks in a worker thread."""
        return await self.site.work(function)

    async def commit(
        self, operation: Callable[[Seal[T]], None], render: Callable[[T], Response], *, pure: bool = False
    ) -> Response:
        """Run a writing operation in a worker thread; its reply is kept with it where the request has a key.

        Whether the call was answered before is asked first, or, of one that is `pure` but for what it writes, last: it
        seldom was, and then what was written is undone.
        """
        made: list[Response] = []

        def seal(transaction: Transaction, result: T) -> None:
            response = render(result)
            if self.key is not None and not self.site.keys.keep(transaction, self.key, self._fingerprint, response):
                raise _Overtaken
            made.append(response)

        def work() -> Response:
            if self.key is None:
                operation(seal)
                return made[0]
            if not pure:
                self.site.keys.given(self.key, self._fingerprint)
            try:
                operation(seal)
            except Exception:
                # An earlier attempt, given up by its caller or made in another process, may be what stands in the way.
                self.site.keys.given(self.key, self._fingerprint)
                raise
            return made[0]

        return await self.work(work)

    def claimed(self, key: str) -> None:
        """The request has an idempotency key and may go on under it."""
        self.key = key
        self._fingerprint = idempotency.fingerprint(self.request.method, self.request.scope["path"], self.content)


class _Overtaken(Exception):
    """Another process has answered under the same key meanwhile; ours is undone."""


def action(code: str, message: str) -> Callable[[Callable[[ActionCall], Awaitable[Response]]], Endpoint]:
    """An action as an endpoint; `code` and `message` are its 500 for what it does not foresee."""

    def wrap(handler: Callable[[ActionCall], Awaitable[Response]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            call = ActionCall(request)
            try:
                if request.method != "POST":
                    return await handler(call)
                return await _post(call, handler)
            except Replayed as replayed:
                return replayed.response
            except ApiError as error:
                return answers.refused(error)
            except BindingProblem as problem:
                return answers.unbound(problem, request.headers.get("traceparent"))
            except Exception as error:  # the contract has one code for whatever an action meets
                logger.exception("%s %s failed", request.method, request.url.path)
                return answers.refused(failure(call.site.settings, code, message, str(error)))

        endpoint.__name__, endpoint.__doc__ = handler.__name__, handler.__doc__
        return endpoint

    return wrap


async def _post(call: ActionCall, handler: Callable[[ActionCall], Awaitable[Response]]) -> Response:
    headers = call.request.headers
    if not _is_json(headers.get("content-type")):
        raise BindingProblem(None, 415)
    call.content = await call.request.body()
    key = idempotency.checked(headers.get("idempotency-key"))
    if key is None:
        return await handler(call)
    async with call.site.keys.claim(key):
        call.claimed(key)
        return await handler(call)


def failure(settings: Settings, code: str, message: str, reason: str) -> ApiError:
    """A 500; it tells the reason where the environment allows."""
    return ApiError(500, code, message, reason if settings.tells_reasons else None)


def _is_json(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in {"application/json", "text/json"} or (kind.startswith("application/") and kind.endswith("+json"))
