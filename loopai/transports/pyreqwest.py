"""The transport on pyreqwest, a client in Rust. We limit requests in flight; it does connections, TLS and timeouts.

Its client may be used from any thread and event loop, but not after a fork: its threads stay in the parent. So it is
created with the first request, and a child raises an error if it was created before the fork.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import ssl
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

import pyreqwest.client
from pyreqwest.exceptions import PyreqwestError, RequestTimeoutError
from pyreqwest.proxy import ProxyBuilder

from .._core.wire import Answer, NoReply, Reply, Request
from ..config import SYSTEM, Cert, Config
from ..exceptions import ConfigurationError
from .admission import AsyncSlots, Slots, Turn, time_left
from .bodies import ReplyBody
from .headers import LateHeaders
from .pool import LONGEST_IDLE, closed, forked
from .proxies import proxy_for

_CONNECTING = "client error (Connect)"
"""Text among an error's causes by which pyreqwest reports a failed connection; its classes do not tell."""


_UNTRUSTED = "invalid peer certificate"
"""How the cause starts if the server's certificate is refused."""


class _Process:
    """Tracks whether pyreqwest's threads belong to this process."""

    started_in: Optional[int] = None
    over = False
    """Whether the interpreter is shutting down: a call then, from a `__del__`, would abort the process."""

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
        """Wait until pyreqwest's thread has released the GIL, before the interpreter shuts down.

        It may still hold the GIL from notifying a loop of its last reply; shutting down then aborts the process (about
        1 run in 40 on a busy machine). The thread does one thing at a time: once a connection to port 0 has failed,
        everything before it is done.
        """
        if self.started_in == os.getpid():
            self.over = True
            with contextlib.suppress(PyreqwestError):
                client = pyreqwest.client.SyncClientBuilder().runtime_multithreaded(False).no_proxy().build()
                client.get("http://127.0.0.1:0/").build().send()


_process = _Process()


def _too_late() -> NoReply:
    error = ConnectionError("the interpreter is shutting down")
    return NoReply(error, arrived=False, final=True)


def _settings(config: Config) -> list[tuple[str, Any]]:
    """Return the settings of a client, as methods of its builder. Raises `ConfigurationError`."""
    settings: list[tuple[str, Any]] = [
        ("follow_redirects", False),
        ("referer", False),
        ("default_cookie_store", False),
        ("pool_max_idle_per_host", config.max_connections),
        ("pool_idle_timeout", timedelta(seconds=LONGEST_IDLE)),
        ("runtime_multithreaded", False),  # `_Process.settle` knows of one thread
    ]
    proxy = proxy_for(config)
    settings.append(("no_proxy", None) if proxy is None else ("proxy", ProxyBuilder.all(proxy.address)))
    if urlsplit(config.base_url).scheme == "https":
        settings += [("add_root_certificate_der", each) for each in _certificates(config)]
        if config.verify is False:
            settings.append(("danger_accept_invalid_certs", True))
        if config.cert is not None:
            settings.append(("identity_pem", _identity(config.cert)))
    return settings


def _certificates(config: Config) -> list[bytes]:
    """Return the certificates to trust besides the machine's own, which pyreqwest always trusts."""
    verify = config.verify
    if isinstance(verify, ssl.SSLContext):
        raise ConfigurationError(
            "verify: transport='pyreqwest' takes no SSLContext: set SSL_CERT_FILE, which adds authorities to the "
            "machine's, or use transport='httpx'"
        )
    if isinstance(verify, str) and verify != SYSTEM:
        raise ConfigurationError(
            f"verify: transport='pyreqwest' would trust {verify} beside the machine's authorities, not in their place: "
            "set SSL_CERT_FILE, which adds it to them, or use transport='httpx'"
        )
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if verify is False or not named:
        return []
    if not config.trust_env:
        raise ConfigurationError(
            "trust_env: transport='pyreqwest' trusts what SSL_CERT_FILE and SSL_CERT_DIR name: unset them, or use "
            "transport='httpx'"
        )
    # The files that OpenSSL finds by hashed names are loaded only when needed: read all of them.
    paths = [os.path.join(named, name) for name in os.listdir(named)] if os.path.isdir(named) else [named]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in paths:
        try:
            context.load_verify_locations(path)
        except OSError as error:  # ssl.SSLError is one
            if len(paths) == 1:
                raise ConfigurationError(f"SSL_CERT_FILE: {named} holds no usable certificates: {error}") from None
    found = context.get_ca_certs(binary_form=True)
    if not found:
        raise ConfigurationError(f"SSL_CERT_FILE: {named} holds no usable certificates")
    return found


def _identity(cert: Cert) -> bytes:
    """The client's certificate and key as one text."""
    files = (cert,) if isinstance(cert, str) else cert[:2]
    if len(cert) > 2 and not isinstance(cert, str):
        raise ConfigurationError("cert: transport='pyreqwest' takes no password: store the key without, or use httpx")
    parts = [Path(file).read_bytes() for file in files]
    if not any(b"PRIVATE KEY-----" in part for part in parts) or not any(b"CERTIFICATE-----" in part for part in parts):
        raise ConfigurationError(f"cert: {files[0]} holds no usable certificate and key")
    return b"\n".join(parts)


def _request(client: Any, request: Request, timeout: Optional[float]) -> Any:
    builder = client.request(request.method, request.url).headers(request.headers)
    if request.content:
        builder = builder.body_bytes(request.content)
    if timeout is not None:
        builder = builder.timeout(timedelta(seconds=timeout))
    # Streamed, so that a body that is too large is neither read to its end nor decompressed.
    return builder.build_streamed()


_FAULTS = (PyreqwestError, OSError, ValueError)
"""The exceptions of its client; ValueError for addresses that it did not expect."""


def _headers(response: Any) -> list[tuple[str, str]]:
    try:
        return list(response.headers.items())
    except ValueError:  # bytes that are not ASCII: the other headers still count
        return [(name, text) for name in dict.fromkeys(response.headers.keys()) for text in _texts(response, name)]


def _texts(response: Any, name: str) -> list[str]:
    try:
        found: list[str] = response.headers.getall(name)
    except ValueError:
        return []
    return found


def _reply_of(response: Any, body: ReplyBody, queued: float) -> Reply:
    return Reply(response.status, LateHeaders(lambda: _headers(response)), body.content(), queued, body.cut)


_READ = 2**20
"""Bytes of one read. pyreqwest allocates as many beforehand; it does not rely on the body's declared length."""


def _no_reply(error: Exception, queued: float, *, begun: bool) -> NoReply:
    details = getattr(error, "details", None) or {}
    causes = [cause["message"] for cause in details.get("causes") or []]
    timed_out = isinstance(error, RequestTimeoutError)
    told = ": ".join(
        [
            getattr(error, "message", None) or str(error),
            *(cause for cause in causes[1:] if not cause.startswith("client error")),
        ]
    )
    # Its exceptions print as tuples and cannot be pickled: keep their message in a built-in class.
    plain = TimeoutError(told) if timed_out else ConnectionError(told)
    plain.__cause__ = error.with_traceback(None)
    untrusted = any(cause.startswith(_UNTRUSTED) for cause in causes)
    return NoReply(plain, _CONNECTING not in causes, timed_out, queued, untrusted, cut=begun and not timed_out)


class _Client:
    """The client in Rust, created when first needed in a process."""

    def __init__(self, builder: Callable[[], Any], settings: list[tuple[str, Any]]) -> None:
        self._builder = builder
        self._settings = settings
        self._closed = False
        self._built: Any = None
        self._lock = threading.Lock()
        forked.tell(self)

    def disown(self) -> Any:
        """Start fresh in a forked child; return what belongs to the parent."""
        parents, self._built = self._built, None
        self._lock = threading.Lock()
        return parents

    def get(self) -> Any:
        """Return the client. Raises `RuntimeError` if it is closed, `ConfigurationError` after a fork."""
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
        """Release the client: its connections close when the last call on it ends."""
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
        """Start fresh in a forked child; return what belongs to the parent."""
        parents, self._slots = self._slots, Slots(self._size)
        return parents

    def send(self, request: Request) -> Answer:
        """Send one request; see `Transport`."""
        if _process.over:
            return _too_late()
        slots, turn = self._slots, Turn()
        queued, begun = 0.0, False
        try:
            admitted = slots.admit(request, turn)
            if isinstance(admitted, NoReply):
                return admitted
            queued = admitted
            with _request(self._client.get(), request, time_left(request, queued)) as response:
                begun, body = True, ReplyBody(request.max_bytes)
                while (data := response.body_reader.read(_READ)) is not None:
                    if not body.feed(bytes(data)) or len(data) < _READ:
                        break
                return _reply_of(response, body, queued)
        except _FAULTS as error:
            return _no_reply(error, queued, begun=begun)
        finally:
            slots.release(turn)

    def close(self) -> None:
        """Close the idle connections; those in use close when their call ends."""
        self._client.close()


class AsyncPyreqwestTransport:
    """An `AsyncTransport` on one pyreqwest client for all event loops, each with its own admission."""

    def __init__(self, config: Config) -> None:
        self._client = _Client(pyreqwest.client.ClientBuilder, _settings(config))
        self._size = config.max_connections
        self._loops: dict[asyncio.AbstractEventLoop, AsyncSlots] = {}
        forked.tell(self)

    def disown(self) -> Any:
        """Start fresh in a forked child; return what belongs to the parent."""
        parents, self._loops = self._loops, {}
        return parents

    @property
    def in_flight(self) -> int:
        """Requests in flight in this process, over all its loops."""
        return sum(slots.taken for slots in list(self._loops.values()))

    async def asend(self, request: Request) -> Answer:
        """Send one request; see `AsyncTransport`."""
        if _process.over:
            return _too_late()
        loop = asyncio.get_running_loop()
        slots = self._loops.get(loop) or self._enter(loop)
        queued = 0.0 if slots.take() else await slots.admit(request)
        if isinstance(queued, NoReply):
            return queued
        begun = False
        try:
            async with _request(self._client.get(), request, time_left(request, queued)) as response:
                begun, body = True, ReplyBody(request.max_bytes)
                while (data := await response.body_reader.read(_READ)) is not None:
                    if not body.feed(bytes(data)) or len(data) < _READ:
                        break
                return _reply_of(response, body, queued)
        except _FAULTS as error:
            return _no_reply(error, queued, begun=begun)
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
