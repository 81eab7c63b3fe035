"""The default transport: httpx transports with one connection each, used without `httpx.Client`.

The cost of httpx's own pool grows with the number of requests in flight; with one connection for each transport it
does not. httpx2 has the same interface and uses the same code, as do clients that users pass.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import ssl
import sys
import threading
import time
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Optional
from urllib.parse import urlsplit

import anyio

from .._core.wire import Answer, Headers, NoReply, Reply, Request
from ..config import SYSTEM, Config
from ..exceptions import ConfigurationError
from .admission import time_left
from .bodies import ReplyBody, Undecodable
from .headers import LateHeaders
from .pool import LONGEST_IDLE, AsyncPool, SyncPool, hung_up
from .proxies import proxy_for
from .watchdog import Alarm, watchdog

if TYPE_CHECKING:
    import httpx


def _socks_faults() -> tuple[type[Exception], ...]:
    """httpx's message for a proxy that does not support SOCKS."""
    if importlib.util.find_spec("socksio") is None:
        return ()
    faults: tuple[type[Exception], ...] = (importlib.import_module("socksio").SOCKSError,)
    return faults


class Library:
    """httpx or httpx2: what connections need from it."""

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module
        self.address: Callable[[str], tuple[httpx.URL, str]] = lru_cache(maxsize=256)(self._address)
        # ValueError: raised for unexpected addresses and headers.
        self.faults = (self.module.HTTPError, self.module.InvalidURL, OSError, ValueError, *_socks_faults())
        self.undecodable = (self.module.DecodingError, Undecodable)
        self.timeouts = (self.module.TimeoutException, TimeoutError)
        # With these errors, no part of the request was sent.
        self.not_sent = (
            self.module.ConnectError,
            self.module.ConnectTimeout,
            self.module.PoolTimeout,
            self.module.UnsupportedProtocol,
            self.module.ProxyError,
            self.module.InvalidURL,
        )

    def _address(self, url: str) -> tuple[httpx.URL, str]:
        made: httpx.URL = self.module.URL(url)
        return made, made.netloc.decode("ascii")

    def request(self, request: Request, timeout: Optional[float], trace: Any) -> httpx.Request:
        """Return the request for the library. `timeout` is the time limit of each step; `trace` is called for each."""
        url, host = self.address(request.url)
        # With a stream, the library takes headers unchanged and adds none.
        headers = Headers(host=host)
        headers.update(request.headers)
        if request.content or request.method == "POST":
            headers["content-length"] = str(len(request.content))
        extensions: dict[str, Any] = {}
        if timeout is not None:
            extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), timeout)
        if trace is not None:
            extensions["trace"] = trace
        stream = self.module.ByteStream(request.content)
        built: httpx.Request = self.module.Request(
            request.method, url, headers=headers, stream=stream, extensions=extensions
        )
        return built


def _reply_of(response: httpx.Response, content: bytes, queued: float, cut: bool = False) -> Reply:
    """Return the library's response as a `Reply`."""
    return Reply(response.status_code, LateHeaders(response.headers.items), content, queued, cut)


def _undecodable(response: httpx.Response, error: Exception, queued: float) -> Reply:
    """Return a reply without its undecodable body, which a message replaces: the status is still useful."""
    return _reply_of(response, f"[the body could not be decoded: {error}]".encode(), queued)


def _read_already(response: httpx.Response, request: Request) -> Optional[ReplyBody]:
    """Return the body if a hook of the user's client has already read it."""
    content = getattr(response, "_content", None)
    if content is None:
        return None
    body = ReplyBody(request.max_bytes)
    body.feed(content)
    return body


def _read(response: httpx.Response, request: Request) -> ReplyBody:
    """Read the body up to its limit. Raises what the library raises, and `Undecodable`."""
    body = _read_already(response, request)
    if body is None:
        body = ReplyBody(request.max_bytes, response.headers.get("content-encoding", ""))
        for data in response.iter_raw():
            if not body.feed(data):
                break
    return body


async def _aread(response: httpx.Response, request: Request) -> ReplyBody:
    """Like `_read`, in an event loop."""
    body = _read_already(response, request)
    if body is None:
        body = ReplyBody(request.max_bytes, response.headers.get("content-encoding", ""))
        async for data in response.aiter_raw():
            if not body.feed(data):
                break
    return body


def _no_reply(
    library: Library, error: Exception, connecting: bool, timed_out: bool, queued: float, *, begun: bool
) -> NoReply:
    """Return the failure: no reply, or one that broke off after it had `begun`.

    The error keeps its causes but none of their frames, which hold the headers.
    """
    link: Optional[BaseException] = error
    untrusted = False
    while link is not None:
        link.__traceback__ = None
        untrusted = untrusted or isinstance(link, ssl.SSLCertVerificationError)
        if isinstance(link, library.module.RequestError):
            link._request = None
        link = link.__cause__ or link.__context__
    arrived = not connecting and not isinstance(error, library.not_sent)
    timed_out = timed_out or isinstance(error, library.timeouts)
    return NoReply(error, arrived, timed_out, queued, untrusted, cut=begun and not timed_out)


def _said_more(transport: Any) -> bool:
    """Return whether bytes followed the reply, which would be mistaken for the reply to the next request.

    The library notices bytes that are still in the socket, but not those that were read along with the reply.
    """
    for each in getattr(getattr(transport, "_pool", None), "connections", ()):
        connection = each
        while connection is not None and not hasattr(connection, "_h11_state"):
            connection = getattr(connection, "_connection", None)  # within a proxy's tunnel, and what is in that
        if connection is not None and connection._h11_state.trailing_data[0]:
            return True
    return False


_SURELY_OPEN = 1.0
"""Seconds. A connection used so recently is assumed to be open, and its steps are not traced, which saves a twentieth
of a call's cost. If it is closed nevertheless, a call that then times out counts as arrived."""

_CONNECTS = frozenset({"connect_tcp.started", "connect_unix_socket.started", "start_tls.started"})
_CONNECTED = frozenset({"connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete"})


def _still_connecting(connecting: bool, event: str, info: Any) -> bool:
    """Return whether, after this event of the trace, no part of the request can have been sent."""
    step = event.partition(".")[2]  # after the name of the part of the library
    if step == "send_request_headers.started":
        return bool(info["request"].method == b"CONNECT")  # asks the proxy for a tunnel; ours comes later
    return connecting or step in _CONNECTS


def _socket_of(event: str, info: Any) -> Any:
    """Return the new socket, if this event of the trace reports one."""
    if event.partition(".")[2] in _CONNECTED:
        return info["return_value"].get_extra_info("socket")
    return None


class _AsyncConnection:
    """One socket in an event loop."""

    idle_since = float("-inf")

    def __init__(self, library: Library, transport: httpx.AsyncHTTPTransport) -> None:
        self._library = library
        self._transport = transport
        self._connecting = False
        self._socket: Any = None

    async def _trace(self, event: str, info: Any) -> None:
        self._connecting = _still_connecting(self._connecting, event, info)
        self._socket = _socket_of(event, info) or self._socket

    def hung_up(self) -> bool:
        return hung_up(self._socket)

    async def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        library = self._library
        self._connecting = False
        may_connect = time.monotonic() - self.idle_since > _SURELY_OPEN
        response: Optional[httpx.Response] = None
        try:
            with anyio.fail_after(timeout):
                built = library.request(request, None, self._trace if may_connect else None)
                response = await self._transport.handle_async_request(built)
                try:
                    body = await _aread(response, request)
                    if body.cut:
                        await response.aclose()
                    if _said_more(self._transport):
                        await self._transport.aclose()  # reconnects at the next use
                except library.undecodable as error:
                    await response.aclose()
                    return _undecodable(response, error, queued)
        except library.faults as error:
            return _no_reply(library, error, self._connecting, False, queued, begun=response is not None)
        return _reply_of(response, body.content(), queued, body.cut)

    async def aclose(self) -> None:
        await self._transport.aclose()


def _cut_off(alarm: Alarm, response: httpx.Response, queued: float) -> Optional[NoReply]:
    """Return a timeout if our alarm ended the body, which was to end with its connection."""
    if not alarm.rang or "content-length" in response.headers or "transfer-encoding" in response.headers:
        return None
    return NoReply(TimeoutError("the time was up before the reply's end"), True, timed_out=True, queued=queued)


class _Connection:
    """One socket for blocking calls, which the watchdog interrupts after their time limit."""

    idle_since = 0.0

    def __init__(self, library: Library, transport: httpx.HTTPTransport) -> None:
        self._library = library
        self._transport = transport
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_optional_thread_lock"):
            # Its own lock is written in Python: an exception from the handler of a signal may come while it is taken,
            # and its clean-up would wait for itself forever.
            pool._optional_thread_lock = threading.RLock()
        self._connecting = False
        self._socket: Any = None
        self._alarm: Optional[Alarm] = None

    def _trace(self, event: str, info: Any) -> None:
        self._connecting = _still_connecting(self._connecting, event, info)
        sock = _socket_of(event, info)
        if sock is not None:
            self._socket = sock
            if self._alarm is not None:
                self._alarm.hold(sock)

    def hung_up(self) -> bool:
        return hung_up(self._socket)

    def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        library = self._library
        self._connecting = False
        alarm = self._alarm = Alarm(self._socket)
        if timeout is not None:
            watchdog.set(alarm, timeout)
        response: Optional[httpx.Response] = None
        try:
            response = self._transport.handle_request(library.request(request, timeout, self._trace))
            try:
                body = _read(response, request)
                if body.cut:
                    response.close()
                if _said_more(self._transport):
                    self._transport.close()  # reconnects at the next use
            except library.undecodable as error:
                response.close()
                return _undecodable(response, error, queued)
        except library.faults as error:
            return _no_reply(library, error, self._connecting, alarm.rang, queued, begun=response is not None)
        finally:
            watchdog.unset(alarm)
        # If the alarm rang just when the reply was complete, the reply counts: httpx finds the socket closed at its
        # next use, and reconnects.
        return _cut_off(alarm, response, queued) or _reply_of(response, body.content(), queued, body.cut)

    def close(self) -> None:
        self._transport.close()

    def abandon(self) -> None:
        # Not by the transport: an exception in a signal handler may have left one of its locks held.
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()


def _tls_context(library: Library, config: Config) -> ssl.SSLContext:
    """Return how the server's certificate is checked. Raises `ConfigurationError`."""
    if isinstance(config.verify, ssl.SSLContext):
        if config.cert is not None:
            raise ConfigurationError("cert and an SSLContext as verify exclude each other: load it into the context")
        return config.verify
    context = _trusting(library, config)
    if config.cert is None:
        return context
    parts = (config.cert,) if isinstance(config.cert, str) else config.cert
    problem = None
    try:
        # Without a password, OpenSSL would prompt for one on the terminal.
        context.load_cert_chain(
            parts[0], parts[1] if len(parts) > 1 else None, password=parts[2] if len(parts) > 2 else ""
        )
    except OSError as error:  # ssl.SSLError is one
        problem = f"cert: {parts[0]} holds no usable certificate and key: {error}"
    del parts  # with the password
    if problem is not None:
        raise ConfigurationError(problem)
    return context


def _trusting(library: Library, config: Config) -> ssl.SSLContext:
    try:
        if config.verify == SYSTEM:
            return _of_the_system()
        if isinstance(config.verify, str):
            if os.path.isdir(config.verify):
                return ssl.create_default_context(capath=config.verify)
            return ssl.create_default_context(cafile=config.verify)
        made: ssl.SSLContext = library.module.create_ssl_context(verify=config.verify, trust_env=config.trust_env)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"verify: {config.verify} holds no usable certificates: {error}") from None
    return made


def _of_the_system() -> ssl.SSLContext:
    try:
        import truststore
    except ImportError:
        raise ConfigurationError("verify='system' needs truststore: pip install truststore") from None
    context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return context


def _options(library: Library, config: Config) -> dict[str, Any]:
    """The settings of all connections of a client; they share one SSLContext, since a new one costs 34 ms."""
    named = proxy_for(config)
    scheme = "" if named is None else named.scheme
    if "https" in {urlsplit(config.base_url).scheme, scheme}:
        context = _tls_context(library, config)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and far cheaper than loading certificates
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigurationError(
            "a SOCKS proxy, which the option or the environment names, needs socksio: pip install socksio"
        )
    proxy = None
    if named is not None:
        proxy = library.module.Proxy(named.address, ssl_context=context if scheme == "https" else None)
    limits = library.module.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=LONGEST_IDLE)
    return {"verify": context, "trust_env": False, "limits": limits, "proxy": proxy}


def open_async(config: Config, module: ModuleType) -> AsyncPool:
    """Return the transport of a `LoopaiClient` on httpx or httpx2, not yet connected. Raises `ConfigurationError`."""
    library = Library(module)
    options = _options(library, config)
    return AsyncPool(
        lambda: _AsyncConnection(library, library.module.AsyncHTTPTransport(**options)), config.max_connections
    )


def open_sync(config: Config, module: ModuleType) -> SyncPool:
    """Return the transport of a `SyncLoopaiClient` on httpx or httpx2, not yet connected."""
    library = Library(module)
    options = _options(library, config)
    return SyncPool(lambda: _Connection(library, library.module.HTTPTransport(**options)), config.max_connections)


def _library_of(client: Any, kind: str) -> Library:
    for name in ("httpx", "httpx2"):
        module = sys.modules.get(name)  # imported by the code that created the client
        if isinstance(module, ModuleType) and isinstance(client, getattr(module, kind)):
            return Library(module)
    raise ConfigurationError(f"http_client: an httpx.{kind} is needed here, not {type(client).__name__}")


class _Exchange:
    """Return our request for the user's client."""

    def __init__(self, library: Library, client: Any, request: Request) -> None:
        self.timeout = time_left(request, 0.0)
        self.connecting = False
        self.alarm = Alarm()
        self.client = client
        headers = dict(request.headers)
        theirs = client.headers.get("user-agent", "")
        if not theirs.startswith(f"python-{library.module.__name__}/"):
            headers.pop("user-agent", None)  # they set their own
        self.built = client.build_request(
            request.method, request.url, headers=headers, content=request.content, timeout=self.timeout
        )

    def trace(self, event: str, info: Any) -> None:
        self.connecting = _still_connecting(self.connecting, event, info)
        sock = _socket_of(event, info)
        if sock is not None:
            self.alarm.hold(sock)

    async def atrace(self, event: str, info: Any) -> None:
        self.connecting = _still_connecting(self.connecting, event, info)


def _refused_by_hook(response: httpx.Response, request: Request) -> Reply:
    """Return the reply for which a hook of the user raised (`raise_for_status`), with its body if it was read."""
    body = _read_already(response, request)
    return _reply_of(response, b"" if body is None else body.content(), 0.0, body is not None and body.cut)


class BroughtAsyncClient:
    """A transport over the user's own `httpx.AsyncClient`, which is never closed here."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._library = _library_of(client, "AsyncClient")

    async def asend(self, request: Request) -> Answer:
        """Send one request; see `AsyncTransport`."""
        library = self._library
        exchange = _Exchange(library, self._client, request)
        exchange.built.extensions["trace"] = exchange.atrace
        response: Optional[httpx.Response] = None
        try:
            with anyio.fail_after(exchange.timeout):
                response = await self._client.send(exchange.built, stream=True, follow_redirects=False)
                try:
                    body = await _aread(response, request)
                except library.undecodable as error:
                    return _undecodable(response, error, 0.0)
                finally:
                    await response.aclose()
        except library.module.HTTPStatusError as error:
            return _refused_by_hook(error.response, request)
        except library.faults as error:
            return _no_reply(library, error, exchange.connecting, False, 0.0, begun=response is not None)
        return _reply_of(response, body.content(), 0.0, body.cut)

    async def aclose(self) -> None:
        """Do nothing: the client is the user's."""


class BroughtClient:
    """A transport over the user's own `httpx.Client`, which is never closed here.

    The time limit applies to the whole call, with one exception: while headers arrive slowly over an existing
    connection it applies to each read, as in httpx, because the connection is known only once the headers are there.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._library = _library_of(client, "Client")

    def send(self, request: Request) -> Answer:
        """Send one request; see `Transport`."""
        library = self._library
        exchange = _Exchange(library, self._client, request)
        exchange.built.extensions["trace"] = exchange.trace
        alarm = exchange.alarm
        if exchange.timeout is not None:
            watchdog.set(alarm, exchange.timeout)
        response: Optional[httpx.Response] = None
        try:
            response = self._client.send(exchange.built, stream=True, follow_redirects=False)
            stream = response.extensions.get("network_stream")
            if stream is not None:
                alarm.hold(stream.get_extra_info("socket"))
            try:
                body = _read(response, request)
            except library.undecodable as error:
                return _undecodable(response, error, 0.0)
            finally:
                response.close()
        except library.module.HTTPStatusError as error:
            return _refused_by_hook(error.response, request)
        except library.faults as error:
            return _no_reply(library, error, exchange.connecting, alarm.rang, 0.0, begun=response is not None)
        finally:
            watchdog.unset(alarm)
        return _cut_off(alarm, response, 0.0) or _reply_of(response, body.content(), 0.0, body.cut)

    def close(self) -> None:
        """Do nothing: the client is the user's."""
