"""The default transport: many httpx transports of one connection each, called below `httpx.Client`.

httpx's own pool costs grow with the number of requests in flight; one connection a transport keeps them flat.
"""

from __future__ import annotations

import os
import ssl
import urllib.request
from functools import lru_cache
from typing import Any, Optional, Union
from urllib.parse import urlsplit

import anyio
import httpx

from .._core.wire import Answer, NoReply, Reply, Request
from ..config import Config
from ..exceptions import ConfigurationError
from .pool import AsyncPool, SyncPool, time_left
from .watchdog import Alarm, watchdog

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.ProxyError,
)
_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0)

_url = lru_cache(maxsize=256)(httpx.URL)


def _request(request: Request, timeout: Optional[float], trace: Any) -> httpx.Request:
    extensions: dict[str, Any] = {"timeout": httpx.Timeout(timeout).as_dict()}
    if trace is not None:
        extensions["trace"] = trace
    return httpx.Request(
        request.method,
        _url(request.url),
        headers=dict(request.headers),
        content=request.content,
        extensions=extensions,
    )


def _reply(response: httpx.Response, content: bytes, queued: float) -> Reply:
    return Reply(response.status_code, dict(response.headers), content, queued)


def _undecodable(response: httpx.Response, error: httpx.DecodingError, queued: float) -> Reply:
    # The status is worth more than the body: what cannot be decoded says so in the body's place.
    return _reply(response, f"[the body could not be decoded: {error}]".encode(), queued)


def _failed(error: BaseException, connected: bool, queued: float) -> NoReply:
    arrived = connected and not isinstance(error, _NOT_SENT)
    return NoReply(error, arrived, isinstance(error, httpx.TimeoutException), queued)


class _AsyncConnection:
    """One socket in an event loop."""

    idle_since = 0.0

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._transport = transport
        self._connected = False

    async def _trace(self, event: str, _: Any) -> None:
        if event.endswith("send_request_headers.started"):
            self._connected = True

    async def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        trace = None if self._connected else self._trace
        try:
            with anyio.fail_after(timeout):
                response = await self._transport.handle_async_request(_request(request, timeout, trace))
                try:
                    content = await response.aread()
                except httpx.DecodingError as error:
                    await response.aclose()
                    return _undecodable(response, error, queued)
        except TimeoutError as error:
            return NoReply(error, self._connected, timed_out=True, queued=queued)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError) as error:
            return _failed(error, self._connected, queued)
        return _reply(response, content, queued)

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Connection:
    """One socket for blocking calls, whose reads the watchdog cuts off."""

    idle_since = 0.0

    def __init__(self, transport: httpx.HTTPTransport) -> None:
        self._transport = transport
        self._connected = False
        self._socket: Any = None
        self._alarm: Optional[Alarm] = None

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith((".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._alarm is not None:
                self._alarm.socket = self._socket
        elif event.endswith("send_request_headers.started"):
            self._connected = True

    def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        alarm = self._alarm = Alarm()
        alarm.socket = self._socket
        if timeout is not None:
            watchdog.set(alarm, timeout)
        try:
            response = self._transport.handle_request(_request(request, timeout, self._trace))
            try:
                content = response.read()
            except httpx.DecodingError as error:
                response.close()
                return _undecodable(response, error, queued)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError) as error:
            if alarm.rang:
                return NoReply(error, self._connected, timed_out=True, queued=queued)
            return _failed(error, self._connected, queued)
        finally:
            alarm.done = True
        if alarm.rang:  # in the moment the reply was whole: the reply counts, its socket is gone
            self.close()
        return _reply(response, content, queued)

    def close(self) -> None:
        self._transport.close()
        self._socket = None


def _options(config: Config) -> dict[str, Any]:
    """What every connection of a client is made with; one SSLContext for all, as each new one costs 34 ms."""
    parts = urlsplit(config.base_url)
    context: Union[ssl.SSLContext, bool]
    if isinstance(config.verify, ssl.SSLContext):
        context = config.verify
    elif parts.scheme == "http":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and far cheaper than loading certificates
    elif isinstance(config.verify, str):
        try:
            if os.path.isdir(config.verify):
                context = ssl.create_default_context(capath=config.verify)
            else:
                context = ssl.create_default_context(cafile=config.verify)
        except ssl.SSLError as error:
            raise ConfigurationError(f"verify: {config.verify} holds no usable certificates: {error}") from None
    else:
        context = httpx.create_ssl_context(verify=config.verify, trust_env=config.trust_env)
    return {"verify": context, "trust_env": False, "limits": _LIMITS, "proxy": _proxy(config, parts.scheme)}


def _proxy(config: Config, scheme: str) -> Optional[httpx.Proxy]:
    if not config.trust_env:
        return None
    host = urlsplit(config.base_url).hostname or ""
    if urllib.request.proxy_bypass(host):
        return None
    found = urllib.request.getproxies()
    address = found.get(scheme) or found.get("all")
    if not address:
        return None
    try:
        return httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigurationError(f"the environment's proxy for {scheme} is no address: {error}") from None


def open_async(config: Config) -> AsyncPool:
    """The transport of a `LoopaiClient`; nothing is connected yet."""
    made: dict[str, Any] = {}

    def connect() -> _AsyncConnection:
        if not made:
            made.update(_options(config))
        return _AsyncConnection(httpx.AsyncHTTPTransport(**made))

    return AsyncPool(connect, config.max_connections)


def open_sync(config: Config) -> SyncPool:
    """The transport of a `SyncLoopaiClient`; nothing is connected yet."""
    made: dict[str, Any] = {}

    def connect() -> _Connection:
        if not made:
            made.update(_options(config))
        return _Connection(httpx.HTTPTransport(**made))

    return SyncPool(connect, config.max_connections)


class BroughtAsyncClient:
    """A transport over an `httpx.AsyncClient` of the user's, which is never closed here."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def asend(self, request: Request) -> Answer:
        """Send one request; see `AsyncTransport`."""
        timeout = time_left(request, 0.0)
        try:
            with anyio.fail_after(timeout):
                response = await self._client.send(
                    self._client.build_request(
                        request.method, request.url, headers=dict(request.headers), content=request.content,
                        timeout=timeout,
                    ),
                    follow_redirects=False,
                )  # fmt: skip
        except TimeoutError as error:
            return NoReply(error, arrived=True, timed_out=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return _failed(_without_request(error), True, 0.0)
        return _reply(response, response.content, 0.0)

    async def aclose(self) -> None:
        """Do nothing: the client is the user's."""


class BroughtClient:
    """A transport over an `httpx.Client` of the user's, which is never closed here.

    Its reads are bounded one by one, as httpx does; the whole is checked between the parts of a body.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(self, request: Request) -> Answer:
        """Send one request; see `Transport`."""
        timeout = time_left(request, 0.0)
        connected = Alarm()

        def trace(event: str, info: dict[str, Any]) -> None:
            if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
                connected.socket = info["return_value"].get_extra_info("socket")

        if timeout is not None:
            watchdog.set(connected, timeout)
        try:
            built = self._client.build_request(
                request.method, request.url, headers=dict(request.headers), content=request.content,
                timeout=timeout, extensions={"trace": trace},
            )  # fmt: skip
            response = self._client.send(built, stream=True, follow_redirects=False)
            stream = response.extensions.get("network_stream")
            if stream is not None:
                connected.socket = stream.get_extra_info("socket")
                if connected.rang:
                    connected.ring()
            response.read()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            if connected.rang:
                return NoReply(_without_request(error), arrived=True, timed_out=True)
            return _failed(_without_request(error), True, 0.0)
        finally:
            connected.done = True
        return _reply(response, response.content, 0.0)

    def close(self) -> None:
        """Do nothing: the client is the user's."""


def _without_request(error: Exception) -> Exception:
    # The request that httpx hangs on its errors holds the headers, and with them the key.
    if isinstance(error, httpx.RequestError):
        error._request = None
    return error
