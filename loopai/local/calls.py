"""One call of an action: its body, worker thread, idempotency key, and errors."""

from __future__ import annotations

import asyncio
import codecs
import concurrent.futures
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache, partial
from typing import Any, TypeVar
from uuid import UUID

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive

from . import idempotency, responses
from .binding import INT_MAX, Body
from .budget import SharedBudget
from .combining import Combiner
from .errors import ApiError, BindingProblem, unbindable, unbindable_parameter
from .generation import Generation
from .idempotency import Keys, Replayed
from .metrics import Metrics
from .service import GONE, Abandoned, Overtaken, Seal, Service, StopFlag
from .settings import MOST_BODY_BYTES, MOST_PARSED_BYTES, MOST_VALUES, Settings
from .store import Store, Transaction
from .versions import Versions

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger("loopai.local")

LARGEST_PAGE = 1000
"""Most rows of a list in one reply."""
SMALL_BODY = 16_384
"""Largest body, in bytes, that is faster to parse here than in a thread."""
BYTES_A_VALUE = 80
CLIENT_GONE = 499
"""Status, in metrics only, of a request whose client left before its body was complete."""
MOST_OF_ONE_TASK = 8
"""Requests of one task that use a worker thread at a time; the others wait without one."""
QUICK_THREADS = 8
PARSING_THREADS = 2
WATCH_SECONDS = 0.5
"""Seconds of work on a request before checking whether its client is still connected."""

# .NET reads these forms of a GUID in a route.
_ROUTE_GUID = re.compile(
    r"(?P<open>[{(])?(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?(open)[})])", re.I
)
_TEXT = re.compile(rb'"[^"\\\\]*(?:\\\\.[^"\\\\]*)*"', re.S)
_ROUTE_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


class Threads:
    """Worker threads: many for running programs, some for short work, two for large bodies.

    Separate pools, so that long work does not delay short work.
    """

    def __init__(self, workers: int) -> None:
        self.programs = ThreadPoolExecutor(workers, thread_name_prefix="loopai-server")
        self.quick = ThreadPoolExecutor(QUICK_THREADS, thread_name_prefix="loopai-quick")
        # Parsing JSON holds the GIL: more threads would starve the event loop.
        self.parsing = ThreadPoolExecutor(PARSING_THREADS, thread_name_prefix="loopai-parsing")
        self._under_way: set[Future[Any]] = set()

    async def run(self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        """Run `function` in a thread of the pool."""
        future = pool.submit(function)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return await asyncio.wrap_future(future)

    def wait(self, seconds: float) -> bool:
        """Wait for work in progress, up to a time limit; return whether it has ended."""
        return not concurrent.futures.wait(list(self._under_way), seconds).not_done

    def close(self, seconds: float) -> None:
        """Accept no more work, and wait for work in progress, up to a time limit."""
        ended = self.wait(seconds)
        for pool in (self.programs, self.quick, self.parsing):
            pool.shutdown(wait=ended, cancel_futures=True)


@dataclass(frozen=True)
class Site:
    """The state of a running server, created at its start and closed at its end."""

    settings: Settings
    store: Store
    service: Service
    metrics: Metrics
    keys: Keys
    versions: Versions
    generation: Generation
    threads: Threads
    combiner: Combiner = field(init=False)
    bodies: SharedBudget = field(default_factory=lambda: SharedBudget(MOST_BODY_BYTES))
    parsed: SharedBudget = field(default_factory=lambda: SharedBudget(MOST_PARSED_BYTES))
    tasks_at_work: dict[str, tuple[asyncio.Semaphore, list[None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        run = partial(self.threads.run, self.threads.programs)
        object.__setattr__(self, "combiner", Combiner(self.service, run, self.turn))

    async def work(self, function: Callable[[], T]) -> T:
        """Run short blocking work, such as reading the store, in a worker thread."""
        return await self.threads.run(self.threads.quick, function)

    @asynccontextmanager
    async def turn(self, task_id: str) -> AsyncIterator[None]:
        """Get a worker thread, once fewer than `MOST_OF_ONE_TASK` requests of this task have one."""
        turns, users = self.tasks_at_work.setdefault(task_id, (asyncio.Semaphore(MOST_OF_ONE_TASK), []))
        users.append(None)
        try:
            async with turns:
                yield
        finally:
            users.pop()
            if not users:
                del self.tasks_at_work[task_id]


@lru_cache(maxsize=1000)
def guid_of(title: str, text: str) -> str:
    """The GUID that a path or query names. Raises `BindingProblem` under the parameter's name."""
    if not _ROUTE_GUID.fullmatch(text):
        raise unbindable_parameter(title, text)
    return str(UUID(text.strip("()")))


class ActionCall:
    """A request to an action."""

    def __init__(self, request: Request) -> None:
        self.began = time.perf_counter()
        self.request = request
        self.site: Site = request.app.state.site
        self.content = b""
        self.key: str | None = None
        self.stop = StopFlag()
        self._held = 0
        self._fingerprint = b""

    @property
    def origin(self) -> str:
        """Return scheme and host as the client used them."""
        host, port = self.request.scope.get("server") or ("localhost", None)
        address = host if port is None else f"{host}:{port}"
        return f"{self.request.scope['scheme']}://{self.request.headers.get('host', address)}"

    def guid(self, name: str, title: str) -> str:
        """Return a GUID in the path. Raises `BindingProblem` with the real server's parameter name."""
        return guid_of(title, self.request.path_params[name])

    def integer(self, name: str, title: str) -> int:
        """Return a 32-bit integer in the path. Raises `BindingProblem`."""
        text: str = self.request.path_params[name]
        if not _ROUTE_INTEGER.fullmatch(text) or not -INT_MAX - 1 <= int(text) <= INT_MAX:
            raise unbindable_parameter(title, text)
        return int(text)

    def query(self, name: str, lowest: int, highest: int, default: int | None) -> int | None:
        """Return an integer in the query, within limits. Raises `BindingProblem`."""
        text = self.request.query_params.get(name)
        if text is None:
            return default
        if not _ROUTE_INTEGER.fullmatch(text) or not lowest <= int(text) <= highest:
            raise unbindable_parameter(name, text)
        return int(text)

    async def body(self, kind: Body) -> dict[str, Any]:
        """Return the body's members. Raises `BindingProblem`, and `ApiError` for too many values."""
        if len(self.content) <= SMALL_BODY:
            return kind.bind(self.content)
        values = await self.parsing(lambda: values_in(self.content))
        if values > MOST_VALUES:
            text = f"The request body has more than {MOST_VALUES:,} values: send fewer items at a time"
            raise ApiError(413, "PAYLOAD_TOO_LARGE", text)
        held = len(self.content) + values * BYTES_A_VALUE
        await self.site.parsed.wait(held)
        self._held += held
        return await self.parsing(lambda: kind.bind(self.content))

    async def parsing(self, function: Callable[[], T]) -> T:
        """Run work that depends on the body's size: here for a small body, otherwise in a thread for large bodies."""
        if len(self.content) <= SMALL_BODY:
            return function()
        return await self.site.threads.run(self.site.threads.parsing, function)

    def end(self) -> None:
        """Release the memory that was reserved for the body."""
        if self._held:
            self.site.parsed.give_back(self._held)
            self._held = 0

    async def work(self, function: Callable[[], T]) -> T:
        """Run blocking work in a worker thread."""
        return await self.site.work(function)

    async def commit(
        self,
        operation: Callable[[Seal[T]], None],
        render: Callable[[T], Response],
        *,
        task_id: str,
        pure: bool = False,
    ) -> Response:
        """Run a write in a worker thread; its reply is stored with it if the request has an idempotency key.

        Waits for its turn among requests of the task. `stop` says when the caller has gone away meanwhile.

        Whether the call was answered before is checked first; for calls that are `pure` except for their write, it is
        checked last, as that is rarely so, and the write is then undone.
        """
        made: list[Response] = []

        def seal(transaction: Transaction, result: T) -> None:
            response = render(result)
            self.keep(transaction, response)
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
                # The conflict may be with an earlier attempt, abandoned by its caller or made in another process.
                self.site.keys.given(self.key, self._fingerprint)
                raise
            return made[0]

        watch: list[asyncio.Task[None]] = []
        later = asyncio.get_running_loop().call_later(
            WATCH_SECONDS, lambda: watch.append(asyncio.create_task(self._watch()))
        )
        try:
            async with self.site.turn(task_id):
                return await self.site.threads.run(self.site.threads.programs, work)
        except asyncio.CancelledError:
            self.stop.reason = GONE
            raise
        finally:
            later.cancel()
            for task in watch:
                task.cancel()

    def keep(self, transaction: Transaction, response: Response) -> None:
        """Store the reply under the request's key, if it has one. Raises `Overtaken`."""
        if self.key is not None and not self.site.keys.keep(transaction, self.key, self._fingerprint, response):
            raise Overtaken

    async def raise_if_answered(self) -> None:
        """Raise `Replayed` if an earlier request with the same key was answered: it may have caused the conflict."""
        key = self.key
        if key is not None:
            await self.work(lambda: self.site.keys.given(key, self._fingerprint))

    async def _watch(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            continue
        self.stop.reason = GONE

    def claimed(self, key: str) -> None:
        """A request that has an idempotency key and may proceed."""
        self.key = key
        self._fingerprint = idempotency.fingerprint(self.request.method, self.request.scope["path"], self.content)


def values_in(content: bytes) -> int:
    """Estimate how many JSON values a body has, without parsing it; never too few."""
    found = _signs(content)
    # Only then is it worth leaving out what stands in texts.
    return found if found <= MOST_VALUES else _signs(_TEXT.sub(b"", content))


def _signs(content: bytes) -> int:
    return 1 + sum(content.count(sign) for sign in (b",", b"[", b"{"))


def action(code: str, message: str) -> Callable[[Callable[[ActionCall], Awaitable[Response]]], Endpoint]:
    """Return an action as an endpoint; `code` and `message` are those of its 500 for unexpected errors."""

    def wrap(handler: Callable[[ActionCall], Awaitable[Response]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            call = ActionCall(request)
            try:
                if request.method != "POST":
                    return await handler(call)
                return await _post(call, handler)
            except Replayed as replayed:
                return replayed.response
            except Abandoned as abandoned:
                headers = {"Retry-After": "1"}
                return responses.refused(ApiError(503, abandoned.code, str(abandoned), headers=headers))
            except ClientDisconnect:
                return Response(status_code=CLIENT_GONE)
            except ApiError as error:
                return responses.refused(error)
            except BindingProblem as problem:
                return responses.unbound(problem, request.headers.get("traceparent"))
            except Exception as error:  # the contract has one code for any failure of an action
                logger.exception("%s %s failed", request.method, request.url.path)
                return responses.refused(failure(call.site.settings, code, message, str(error)))
            finally:
                call.end()

        endpoint.__name__, endpoint.__doc__ = handler.__name__, handler.__doc__
        return endpoint

    return wrap


async def _post(call: ActionCall, handler: Callable[[ActionCall], Awaitable[Response]]) -> Response:
    headers = call.request.headers
    content_type = headers.get("content-type")
    if not _is_json(content_type):
        raise BindingProblem(None, 415)
    call.content = _utf8(await _received(call.request.receive), content_type)
    key = idempotency.checked(headers.get("idempotency-key"))
    if key is None:
        return await handler(call)
    async with call.site.keys.claim(key):
        call.claimed(key)
        return await handler(call)


async def _received(receive: Receive) -> bytes:
    """Return the whole body. Raises `ClientDisconnect`."""
    parts = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def failure(settings: Settings, code: str, message: str, reason: str) -> ApiError:
    """Return a 500, with the reason if the environment allows it."""
    return ApiError(500, code, message, reason if settings.tells_reasons else None)


def _utf8(content: bytes, content_type: str | None) -> bytes:
    """Return the body in UTF-8, converted from UTF-16 if needed. Raises `BindingProblem` for other encodings."""
    encoding = _charset(content_type or "")
    if encoding in {"utf-8", "utf8"}:
        return content.removeprefix(codecs.BOM_UTF8)
    if encoding not in {"utf-16", "utf-16le"}:
        raise BindingProblem(None, 415)
    try:
        return content.decode("utf-16le").removeprefix("\ufeff").encode()
    except UnicodeError as error:
        raise unbindable("$", f"The body is not UTF-16: {error}.") from None


def _charset(content_type: str) -> str:
    if ";" not in content_type:
        return "utf-8"
    message = Message()
    message["content-type"] = content_type
    charset = message.get_param("charset")
    return charset.lower() if isinstance(charset, str) else "utf-8"


def _is_json(content_type: str | None) -> bool:
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind in {"application/json", "text/json"} or (kind.startswith("application/") and kind.endswith("+json"))
