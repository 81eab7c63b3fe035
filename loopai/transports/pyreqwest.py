"""The transport on pyreqwest, a client in Rust: admission is ours, connections, TLS and time limits are its own.

A client of it may be used from any thread and event loop, but not after a fork: the threads that do its work stay
in the parent. So it is made with the first request, and a child that finds one made before the fork says so.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import ssl
import threading
from datetime import timedelta
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

import pyreqwest.client
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError
from pyreqwest.proxy import ProxyBuilder

from .._core.wire import Answer, NoReply, Reply, Request
from ..config import Config
from ..exceptions import ConfigurationError
from .admission import AsyncSlots, Slots, time_left
from .headers import LateHeaders
from .pool import LONGEST_IDLE, closed, forked
from .proxies import proxy_for

_CONNECTING = "client error (Connect)"
"""Among the causes of a fault, how pyreqwest says that no connection came about; its classes do not tell."""


_UNTRUSTED = "invalid peer certificate"
"""How the cause starts where the server's certificate is refused."""


class _Process:
    """Whether the threads that do pyreqwest's work are of this process."""

    started_in: Optional[int] = None

    def check(self) -> None:
        if self.started_in not in {None, os.getpid()}:
            raise ConfigurationError(
                "pyreqwest was used before this process was forked, and the threads that do its work stayed in the "
                "parent: send the first request after the fork (in a worker's start-up hook), or use "
                "transport='httpx'"
            )

    def build(self, builder: Any) -> Any:
        self.check()
        try:
            client = builder.build()
        except RuntimeError as error:  # the program's own client came before the fork
            raise ConfigurationError(f"pyreqwest cannot be used in this process: {error}") from None
        if self.started_in is None:
            atexit.register(self.settle)
        self.started_in = os.getpid()
        return client

    def settle(self) -> None:
        """Wait until pyreqwest's thread has handed over what it holds, before the interpreter goes down.

        It may still hold the interpreter's lock from telling a loop of its last reply; going down then aborts the
        process (about 1 run in 40 on a busy machine). The thread does one thing at a time: once it has found that
        nobody listens on port 0, it is through with what came before.
        """
        if self.started_in == os.getpid():
            with contextlib.suppress(PyreqwestError):
                client = pyreqwest.client.SyncClientBuilder().runtime_multithreaded(False).no_proxy().build()
                client.get("http://127.0.0.1:0/").build().send()


_process = _Process()


def _settings(config: Config) -> list[tuple[str, Any]]:
    """What a client is built with, as methods of its builder. Raises `ConfigurationError`."""
    settings: list[tuple[str, Any]] = [
        ("follow_redirects", False),
        ("referer", False),
        ("default_cookie_store", False),
        ("pool_max_idle_per_host", config.max_connections),
        ("pool_idle_timeout", timedelta(seconds=LONGEST_IDLE)),
        ("runtime_multithreaded", False),  # `_Process.settle` knows of one thread
    ]
    address = proxy_for(config)
    settings.append(("no_proxy", None) if address is None else ("proxy", ProxyBuilder.all(address)))
    if urlsplit(config.base_url).scheme == "https":
        settings += [("add_root_certificate_der", each) for each in _certificates(config)]
        if config.verify is False:
            settings.append(("danger_accept_invalid_certs", True))
    return settings


def _certificates(config: Config) -> list[bytes]:
    """Certificates to trust besides the public ones."""
    verify = config.verify
    if isinstance(verify, ssl.SSLContext):
        raise ConfigurationError(
            "verify: transport='pyreqwest' takes no SSLContext: give a file of certificates, or use transport='httpx'"
        )
    if isinstance(verify, bool):
        named = os.environ.get("SSL_CERT_FILE") if verify and config.trust_env else None
        if named is None:
            return []
        verify = named
    # What a folder holds under the names that OpenSSL gives is loaded only when it is needed: read all of it.
    paths = [os.path.join(verify, name) for name in os.listdir(verify)] if os.path.isdir(verify) else [verify]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in paths:
        try:
            context.load_verify_locations(path)
        except OSError as error:  # ssl.SSLError is one
            if len(paths) == 1:
                raise ConfigurationError(f"verify: {verify} holds no usable certificates: {error}") from None
    certificates = context.get_ca_certs(binary_form=True)
    if not certificates:
        raise ConfigurationError(f"verify: {verify} holds no usable certificates")
    return certificates


def _request(client: Any, request: Request, timeout: Optional[float]) -> Any:
    builder = client.request(request.method, request.url).headers(request.headers)
    if request.content:
        builder = builder.body_bytes(request.content)
    if timeout is not None:
        builder = builder.timeout(timedelta(seconds=timeout))
    return builder.build()


def _no_reply(error: PyreqwestError, queued: float) -> NoReply:
    details = getattr(error, "details", None) or {}
    causes = [cause["message"] for cause in details.get("causes") or []]
    timed_out = isinstance(error, RequestTimeoutError)
    told = ": ".join([error.message, *(cause for cause in causes[1:] if not cause.startswith("client error"))])
    # Its own exceptions are tuples when printed; what they say is kept, in a class that every pickle knows.
    plain = TimeoutError(told) if timed_out else ConnectionError(told)
    plain.__cause__ = error.with_traceback(None)
    untrusted = any(cause.startswith(_UNTRUSTED) for cause in causes)
    return NoReply(plain, _CONNECTING not in causes, timed_out, queued, untrusted)


class _Client:
    """The client in Rust: made when first needed, by whichever process needs it."""

    def __init__(self, builder: Callable[[], Any], settings: list[tuple[str, Any]]) -> None:
        self._builder = builder
        self._settings = settings
        self._closed = False
        self._built: Any = None
        self._lock = threading.Lock()
        forked.tell(self)

    def disown(self) -> Any:
        """Start afresh in a forked child; gives back what is the parent's."""
        parents, self._built = self._built, None
        self._lock = threading.Lock()
        return parents

    def get(self) -> Any:
        """The client. Raises `RuntimeError` once it is closed, `ConfigurationError` after a fork."""
        return self._built or self._build()

    def _build(self) -> Any:
        with self._lock:
            if self._closed:
                raise closed()
            if self._built is None:
                builder = self._builder()
                for name, value in self._settings:
                    builder = getattr(builder, name)() if value is None else getattr(builder, name)(value)
                self._built = _process.build(builder)
            return self._built

    def close(self) -> None:
        """Let go of it: its connections close when the last call on it ends."""
        with self._lock:
            self._closed, self._built = True, None


class PyreqwestTransport:
    """A `Transport` on one pyreqwest client."""

    def __init__(self, config: Config) -> None:
        self._client = _Client(pyreqwest.client.SyncClientBuilder, _settings(config))
        self._size = config.max_connections
        self._slots = Slots(self._size)
        forked.tell(self)

    def disown(self) -> Any:
        """Start afresh in a forked child; gives back what is the parent's."""
        parents, self._slots = self._slots, Slots(self._size)
        return parents

    def send(self, request: Request) -> Answer:
        """Send one request; see `Transport`."""
        slots = self._slots
        queued = slots.admit(request)
        if isinstance(queued, NoReply):
            return queued
        try:
            response = _request(self._client.get(), request, time_left(request, queued)).send()
            return Reply(response.status, LateHeaders(response.headers.items), bytes(response.bytes()), queued)
        except PyreqwestError as error:
            return _no_reply(error, queued)
        finally:
            slots.release()

    def close(self) -> None:
        """Close the idle connections; those in use close when their call ends."""
        self._client.close()


class AsyncPyreqwestTransport:
    """An `AsyncTransport` on one pyreqwest client for all event loops, each of which admits on its own."""

    def __init__(self, config: Config) -> None:
        self._client = _Client(pyreqwest.client.ClientBuilder, _settings(config))
        self._size = config.max_connections
        self._loops: dict[asyncio.AbstractEventLoop, AsyncSlots] = {}
        forked.tell(self)

    def disown(self) -> Any:
        """Start afresh in a forked child; gives back what is the parent's."""
        parents, self._loops = self._loops, {}
        return parents

    @property
    def in_flight(self) -> int:
        """Requests under way in this process, over all its loops."""
        return sum(slots.taken for slots in list(self._loops.values()))

    async def asend(self, request: Request) -> Answer:
        """Send one request; see `AsyncTransport`."""
        loop = asyncio.get_running_loop()
        slots = self._loops.get(loop) or self._enter(loop)
        queued = 0.0 if slots.take() else await slots.admit(request)
        if isinstance(queued, NoReply):
            return queued
        try:
            response = await _request(self._client.get(), request, time_left(request, queued)).send()
            return Reply(response.status, LateHeaders(response.headers.items), bytes(await response.bytes()), queued)
        except PyreqwestError as error:
            return _no_reply(error, queued)
        finally:
            slots.release()

    def _enter(self, loop: asyncio.AbstractEventLoop) -> AsyncSlots:
        for other in list(self._loops):
            if other.is_closed():
                self._loops.pop(other, None)
        slots = self._loops[loop] = AsyncSlots(self._size)
        return slots

    async def aclose(self) -> None:
        """Close the idle connections; those in use close when their call ends."""
        self._client.close()
