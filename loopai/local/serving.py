"""The server on a socket, by uvicorn: in the foreground for the command line, in a thread for demonstrations."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from ..exceptions import ConfigurationError
from .app import create_app
from .settings import Settings
from .store import Store

GRACE_SECONDS = 4
"""How long requests under way may go on once the server is told to end."""
BACKLOG = 2048
"""Connections that wait to be accepted; uvicorn's own default."""


@dataclass(frozen=True)
class Server:
    """A running server; `base_url` has no slash at its end."""

    base_url: str


class _Uvicorn(uvicorn.Server):
    """Tells when it listens, or that it never will."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


def _settings(data: str | None, api_key: str | None, check_inputs: bool, rate_limit: int | None) -> Settings:
    if api_key is not None and not api_key.strip():
        raise ConfigurationError("api_key is empty: give the server a key, or none")
    if rate_limit is not None and rate_limit < 1:
        raise ConfigurationError(f"rate_limit must be at least 1 request a minute, not {rate_limit}")
    folder = None if data is None else Path(data).expanduser().absolute()
    if folder is not None:
        # Here the error is the caller's; in the application's lifespan it would be uvicorn's, and a traceback.
        Store(folder).close()
    return Settings(data=folder, api_key=api_key, check_inputs=check_inputs, rate_limit=rate_limit)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio leaves Nagle's algorithm on for connections of a socket whose protocol is 0.
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


def serve(
    host: str,
    port: int,
    data: str | None,
    api_key: str | None,
    check_inputs: bool,
    rate_limit: int | None,
    on_bound: Callable[[str], None] | None,
) -> None:
    """See `loopai.local.serve`."""
    settings = _settings(data, api_key, check_inputs, rate_limit)
    with _bound(host, port) as listening:
        base_url = _url(listening)
        server = _Uvicorn(_config(settings), (lambda: on_bound(base_url)) if on_bound else lambda: None)
        # Raised once more by uvicorn after it has ended for it, which is what was asked for.
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
    if not server.started:
        raise ConfigurationError("the server did not start; its log says why")


@contextmanager
def running(data: str | None, api_key: str | None, check_inputs: bool, rate_limit: int | None) -> Iterator[Server]:
    """See `loopai.local.running`."""
    settings = _settings(data, api_key, check_inputs, rate_limit)
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
