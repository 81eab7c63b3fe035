"""Applications on real sockets, for the tests of the FastAPI integration."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable

import pytest

pytest.importorskip("fastapi", reason="the FastAPI integration needs fastapi")
uvicorn = pytest.importorskip("uvicorn", reason="applications are served by uvicorn")


@dataclass
class Served:
    """An application that uvicorn serves from a thread."""

    server: Any
    port: int
    thread: threading.Thread

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Connections that clients hold to it."""
        return len(self.server.server_state.connections)

    def connect(self) -> socket.socket:
        """A client that this test speaks for, byte by byte."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def wait_until_idle(self) -> None:
        """Wait until the requests that it has now are over, whether or not their clients are still there."""

        async def over() -> None:
            tasks = set(self.server.server_state.tasks)
            if tasks:
                await asyncio.wait(tasks)

        asyncio.run_coroutine_threadsafe(over(), self.server.loop).result(10)

    def stop(self) -> None:
        """Shut down as on SIGTERM, and wait until it is over."""
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


class _Uvicorn(uvicorn.Server):
    """Says when it listens, or that it never will."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.decided = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        self.loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        finally:
            self.decided.set()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serves an application on a free port until the test is over."""
    started: list[Served] = []

    def serve(app: Any, **options: Any) -> Served:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none", **options)
        server = _Uvicorn(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        served = Served(server, listening.getsockname()[1], thread)
        started.append(served)
        thread.start()
        assert server.decided.wait(20)
        assert server.started
        return served

    yield serve
    for served in started:
        served.stop()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LoopaiSettings` reads `.env` where the process runs."""
    monkeypatch.chdir(tmp_path)
