"""A small raw HTTP server that misbehaves on request, for the tests of transports."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import inspect
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Optional
from uuid import uuid4

import psutil
import pytest

from loopai import LoopaiClient, SyncLoopaiClient

TRANSPORTS = [name for name in ("httpx", "httpx2", "pyreqwest") if importlib.util.find_spec(name) is not None]
TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


@dataclass
class Asked:
    """One request as the server read it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def input(self) -> Any:
        """The input of an execution."""
        return json.loads(self.body)["input"]


def result(output: Any) -> bytes:
    """An execution's result with this output."""
    return json.dumps(
        {
            "execution_id": str(uuid4()),
            "task_id": TASK,
            "program_id": str(uuid4()),
            "version": 1,
            "status": "success",
            "output": output,
            "latency_ms": 0.1,
            "sampled_for_validation": False,
            "executed_at": "2025-11-03T08:16:05.9081726Z",
        }
    ).encode()


def artifacts() -> bytes:
    """The list of a task's artifacts, of which one is active."""
    artifact = {
        "id": str(uuid4()),
        "task_id": TASK,
        "version": 1,
        "language": "python",
        "code": "def main(input):\n    return input\n",
        "status": "active",
        "deployment_percentage": 100,
        "created_at": "2025-11-03T08:16:05.9081726Z",
    }
    return json.dumps([artifact]).encode()


class Wire:
    """The server's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write, and wait until it is out."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, status: str = "200 OK", **headers: str) -> None:
        """A whole reply."""
        names = {"content-type": "application/json", "content-length": str(len(body))}
        names.update({name.replace("_", "-"): text for name, text in headers.items()})
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {text}" for name, text in names.items() if text)]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def drip(self, data: bytes, every: float = 0.05) -> None:
        """Write byte by byte, so that each read of the client gets something."""
        for place in range(len(data)):
            await self.send(data[place : place + 1])
            await asyncio.sleep(every)

    async def hang(self) -> None:
        """Wait until the client goes away."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """Drop the connection without a goodbye."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Close the connection, what was written before included."""
        self.writer.close()


Behaviour = Callable[[Asked, Wire], Awaitable[None]]


async def echo(asked: Asked, wire: Wire) -> None:
    """Answer an execution whose output is its input."""
    await wire.answer(result(asked.input))


@dataclass
class RawServer:
    """Runs on a thread of its own; `behaviour` answers each request and may be changed at any time.

    What a client looks up before a first execution is answered beside it, and not on record.
    """

    behaviour: Behaviour = echo
    tls: Optional[ssl.SSLContext] = None
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    accepted: int = 0
    open: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop: Optional[asyncio.Event] = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._wires: set[Wire] = set()
        # Below Python 3.12 asyncio itself holds the tasks of connections so loosely that a collection may end them.
        self._tasks: set[Any] = set()
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """Base address."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until what the server sees is so."""
        with self._changed:
            assert self._changed.wait_for(condition, seconds)

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()

    def close_connections(self) -> None:
        """Close every connection from this side, and wait until they are closed."""

        async def close() -> set[Any]:
            closing = set(self._wires)
            for wire in closing:
                wire.close()
            return closing

        closed = asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        # Not until there are none: a client may have others by then.
        self.wait_until(lambda: closed.isdisjoint(self._wires))

    async def _serve(self) -> None:
        self._stop = asyncio.Event()  # on Python 3.9 it belongs to the loop it is made in
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self.tls, limit=2**20, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        ours = asyncio.current_task()
        for task in [task for task in asyncio.all_tasks() if task is not ours]:
            task.cancel()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not ours), return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire, task = Wire(reader, writer), asyncio.current_task()
        self._wires.add(wire)
        self._tasks.add(task)
        with self._change():
            self.accepted += 1
            self.open += 1
        try:
            while not writer.is_closing():
                asked = await self._read(reader)
                if asked.method == "GET" and asked.target.endswith("/artifacts"):
                    await wire.answer(artifacts())
                    continue
                with self._change():
                    self.asked.append(asked)
                    self.in_flight += 1
                    self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    await self.behaviour(asked, wire)
                finally:
                    with self._change():
                        self.in_flight -= 1
        except (OSError, asyncio.IncompleteReadError):  # the client went away
            pass
        except asyncio.CancelledError:  # the server is stopping; asyncio would print the traceback
            pass
        finally:
            writer.transport.abort()
            self._wires.discard(wire)
            self._tasks.discard(task)
            with self._change():
                self.open -= 1

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Asked:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Asked(method, target, headers, body)


@pytest.fixture
def task() -> str:
    """The id of a task; the raw server knows them all."""
    return TASK


@pytest.fixture
def make_server() -> Iterator[Callable[..., RawServer]]:
    """Starts raw servers, and stops them when the test is over."""
    started: list[RawServer] = []

    def make(behaviour: Behaviour = echo, tls: Optional[ssl.SSLContext] = None) -> RawServer:
        server = RawServer(behaviour, tls)
        server.start()
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def server(make_server: Callable[..., RawServer]) -> RawServer:
    """A raw server that echoes."""
    return make_server()


@pytest.fixture
def body_of() -> Callable[[Any], bytes]:
    """Makes the body of an execution's result with a given output."""
    return result


@pytest.fixture
def sockets() -> Callable[[], int]:
    """Counts the connections that this process has open, its own servers' ends left out."""

    def count() -> int:
        found = psutil.Process().net_connections("tcp")
        servers = {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
        return sum(each.laddr.port not in servers for each in found)

    return count


class Caller:
    """One face for both clients: every method is awaited, and a synchronous one runs in a thread."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def execute(self, *args: Any, **options: Any) -> Any:
        return await self._run(self.client.execute, *args, **options)

    async def close(self) -> None:
        await self._run(self.client.close)

    @staticmethod
    async def _run(method: Any, *args: Any, **options: Any) -> Any:
        if inspect.iscoroutinefunction(method):
            return await method(*args, **options)
        # Not asyncio's own pool of threads, which is smaller than the number of calls in some tests.
        return await asyncio.get_running_loop().run_in_executor(_threads, functools.partial(method, *args, **options))


_threads = ThreadPoolExecutor(256)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own settings must not reach the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in [name for name in os.environ if name.startswith("LOOPAI_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=TRANSPORTS)
def transport_name(request: pytest.FixtureRequest) -> str:
    """Each transport in turn."""
    name: str = request.param
    return name


@pytest.fixture(params=["async", "sync"])
async def make_caller(request: pytest.FixtureRequest, transport_name: str) -> AsyncIterator[Callable[..., Caller]]:
    """Makes clients of both kinds on each transport, and closes them when the test is over."""
    kind = LoopaiClient if request.param == "async" else SyncLoopaiClient
    made: list[Caller] = []

    def make(server: RawServer, **options: Any) -> Caller:
        options = {"base_url": server.url, "transport": transport_name, "max_retries": 0, **options}
        if "http_client" in options:
            del options["transport"]
        caller = Caller(kind(**options))
        made.append(caller)
        return caller

    yield make
    for caller in made:
        await caller.close()
