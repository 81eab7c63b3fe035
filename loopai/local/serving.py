"""The server on a socket, with uvicorn: in the foreground for the command line, in a thread for demos."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..exceptions import ConfigurationError
from ..language_model import LanguageModel
from .app import create_app
from .calls import Site
from .settings import OutputCheck, Record, Settings
from .store import Store

GRACE_SECONDS = 4
"""Seconds that requests in flight may continue during a shutdown."""
RUN_ON_SECONDS = 2.0
"""Seconds that running programs may continue; the rest of that time is for their replies."""
BACKLOG = 2048
"""Connections that wait to be accepted; uvicorn's own default."""


@dataclass(frozen=True)
class Server:
    """A running server; `base_url` has no slash at its end."""

    base_url: str


class _Uvicorn(uvicorn.Server):
    """Reports when it listens, or that it failed to."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._app: FastAPI = config.app  # type: ignore[assignment]  # made here

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # End batches between two rows, so that their replies are sent within the shutdown's time limit.
        site: Site | None = getattr(self._app.state, "site", None)
        if site is not None:
            site.service.ending = True
            asyncio.get_running_loop().call_later(RUN_ON_SECONDS, site.service.end)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


class _Http(HttpToolsProtocol):
    """Closes connections that sent no complete request within `request_seconds`; bodies have their own limit."""

    request_seconds = 30.0
    _cutting: asyncio.TimerHandle | None = None
    _awaits_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # like uvicorn's
        super().connection_made(transport)
        self._cut_later()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Most requests arrive in one piece: they need no timer.
        if not self._awaits_headers:
            self._cut_not()
        elif self._cutting is None:
            self._cut_later()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._cut_not()
        self._awaits_headers = True

    def on_headers_complete(self) -> None:
        self._awaits_headers = False
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cut_not()
        super().connection_lost(exc)

    def _cut_later(self) -> None:
        self._cutting = self.loop.call_later(self.request_seconds, self.transport.close)

    def _cut_not(self) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
            self._cutting = None


def settings_for(
    *,
    data: str | None = None,
    api_key: str | None = None,
    api_key_file: str | None = None,
    host: str | None = None,
    allowed_hosts: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    check_inputs: bool = True,
    check_outputs: OutputCheck = "warn",
    record: Record = "all",
    keep_days: float | None = None,
    rate_limit: int | None = None,
    request_timeout: float = 30.0,
    legacy: bool = False,
    language_model: LanguageModel | None = None,
    generator: str | None = None,
    strict: bool = False,
) -> Settings:
    """Return the settings of a server on a socket. Raises `ConfigurationError` for invalid ones."""
    if api_key_file is not None:
        if api_key is not None:
            raise ConfigurationError("api_key and api_key_file exclude each other: pass only one of them")
        try:
            api_key = Path(api_key_file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the API key cannot be read from {api_key_file}: {error}") from error
    if api_key is not None and not api_key.strip():
        raise ConfigurationError("api_key is empty: pass a key, or leave it out")
    if rate_limit is not None and rate_limit < 1:
        raise ConfigurationError(f"rate_limit must be at least 1 request a minute, not {rate_limit}")
    if not request_timeout > 0:
        raise ConfigurationError(f"request_timeout must be more than 0 seconds, not {request_timeout}")
    if generator is not None:
        if language_model is not None:
            raise ConfigurationError("language_model and generator exclude each other: pass only one of them")
        address = urlsplit(generator)
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise ConfigurationError("generator must be an http:// or https:// address, as in http://localhost:8000")
    if keep_days is not None and not keep_days > 0:
        raise ConfigurationError(f"keep_days must be more than 0, not {keep_days}")
    for name, value, allowed in (
        ("check_outputs", check_outputs, get_args(OutputCheck)),
        ("record", record, get_args(Record)),
    ):
        if value not in allowed:
            raise ConfigurationError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    folder = None if data is None else Path(data).expanduser().absolute()
    if folder is not None:
        # Raise here, to the caller; in the lifespan, uvicorn would print a traceback.
        Store(folder).close()
    names = {name.strip().lower().rstrip(".") for name in (*allowed_hosts, *([host] if host else ()))}
    return Settings(
        data=folder,
        api_key=api_key,
        hosts=frozenset(names - {""}),
        trusted_proxies=frozenset(trusted_proxies),
        cors_origins=tuple(cors_origins),
        check_inputs=check_inputs,
        check_outputs=check_outputs,
        record=record,
        keep_days=keep_days,
        rate_limit=rate_limit,
        request_seconds=request_timeout,
        legacy=legacy,
        language_model=language_model,
        generator=generator,
        strict=strict,
    )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Name the protocol: asyncio does not disable Nagle's algorithm for sockets whose protocol is 0.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _config(settings: Settings, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings),
        http=type("_Http", (_Http,), {"request_seconds": settings.request_seconds}),
        # Otherwise uvicorn itself would trust a proxy's headers about the client.
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        **options,
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(host: str, port: int, on_bound: Callable[[str], None] | None, **options: Any) -> None:
    """See `loopai.local.serve`."""
    settings = settings_for(host=host, **options)
    with _bound(host, port) as listening:
        base_url = _url(listening)
        server = _Uvicorn(_config(settings), (lambda: on_bound(base_url)) if on_bound else lambda: None)
        # uvicorn raises the signal again after its shutdown, which was requested.
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
    if not server.started:
        raise ConfigurationError("the server did not start; its log says why")


def application(**options: Any) -> FastAPI:
    """See `loopai.local.create`."""
    return create_app(settings_for(**options))


@contextmanager
def running(**options: Any) -> Iterator[Server]:
    """See `loopai.local.running`."""
    settings = settings_for(**options)
    decided = threading.Event()
    with _bound("127.0.0.1", 0) as listening:
        server = _Uvicorn(_config(settings, log_config=None), decided.set)

        def run() -> None:
            try:
                server.run(sockets=[listening])
            finally:
                decided.set()

        thread = threading.Thread(target=run, name="loopai-serving")
        thread.start()
        try:
            decided.wait()
            if not server.started:
                raise ConfigurationError("the server did not start; its log says why")
            yield Server(_url(listening))
        finally:
            server.should_exit = True
            thread.join()
