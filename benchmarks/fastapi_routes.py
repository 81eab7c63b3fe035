"""The cost of `LoopaiDep` in a FastAPI application under load, compared with plain httpx and an empty route."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from .goals import TimesLess
from .measuring import Goal, Row, group
from .peer import running

CALLERS = 100
# 500 at once, half of which disconnect while the server, which takes 100 ms, is working.
DISCONNECTING, DELAY = 500, 0.1
WORKERS = 2
PATIENCE = 60.0


class Caller(asyncio.Protocol):
    """One open connection that requests one path repeatedly, each time with another number."""

    def __init__(self, path: str, wanted: Callable[[], bool], numbers: Iterator[int], failed: list[int]) -> None:
        self.path, self.wanted, self.numbers, self.failed = path, wanted, numbers, failed
        self.received = b""
        self.answered = 0
        self.asked: int | None = None
        self.content = False
        self.over = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if self.wanted():
            self.asked = next(self.numbers)
            self.transport.write(b"GET %b?%d HTTP/1.1\r\nHost: app\r\n\r\n" % (self.path.encode(), self.asked))
        else:
            self.content = True
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        head = head.lower()
        _, _, told = head.partition(b"content-length:")
        if len(rest) < int(told.partition(b"\r\n")[0]):
            return
        self.received = b""
        if head.startswith(b"http/1.1 200"):
            self.answered, self.asked = self.answered + 1, None
        else:
            self.note_failure()
        if b"connection: close" in head:
            self.transport.close()
        else:
            self.ask()

    def note_failure(self) -> None:
        if self.asked is not None:
            self.failed.append(self.asked)
            self.asked = None

    def connection_lost(self, error: Exception | None) -> None:
        self.note_failure()
        self.over.set_result(None)


@dataclass(frozen=True)
class Answers:
    """`failed` has the numbers of the requests that were not answered 200."""

    answered: int
    failed: list[int]
    seconds: float


async def load(port: int, path: str, wanted: Callable[[], bool], callers: int = CALLERS) -> Answers:
    """Send requests on `callers` connections as long as `wanted`; reopen those that the server closes."""
    loop = asyncio.get_running_loop()
    numbers, failed = count(), list[int]()

    async def caller() -> int:
        answered, content = 0, False
        while not content:
            _, asking = await loop.create_connection(lambda: Caller(path, wanted, numbers, failed), "127.0.0.1", port)
            await asking.over
            answered, content = answered + asking.answered, asking.content
        return answered

    started = time.perf_counter()
    answered = await asyncio.wait_for(asyncio.gather(*(caller() for _ in range(callers))), PATIENCE)
    return Answers(sum(answered), failed, time.perf_counter() - started)


def microseconds(port: int, path: str, requests: int) -> float:
    """Wall time per request, with all callers at once."""
    left = [requests]

    def wanted() -> bool:
        left[0] -= 1
        return left[0] >= 0

    found = asyncio.run(load(port, path, wanted))
    assert not found.failed, f"{len(found.failed)} of {path} failed"
    return found.seconds / found.answered * 1e6


# The application, in separate processes


@contextmanager
def serving(environment: dict[str, str], *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", f"{__package__}.fastapi_application:app", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "error", *options]
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            answering(port)
            yield process, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def answering(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the application does not start"
            time.sleep(0.05)


def held(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/held") as response:
        found: dict[str, int] = json.load(response)
        return found


# A route without upstream calls, called as a server calls it


def of_a_call(path: str, times: int) -> Callable[[], float]:
    """Microseconds per request in this process, without a socket: the best of seven."""

    async def measure() -> float:
        from .fastapi_application import app

        ended: list[int] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                ended.append(message["status"])

        call: Callable[[Any, Any, Any], Awaitable[None]] = app
        async with app.router.lifespan_context(app) as state:
            best = float("inf")
            for _ in range(7):
                started = time.perf_counter()
                for _ in range(times):
                    scope = {
                        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
                        "headers": [(b"host", b"app")], "root_path": "", "scheme": "http", "http_version": "1.1",
                        "server": ("app", 80), "client": ("peer", 1), "asgi": {"version": "3.0"},
                        "state": dict(state or {}),
                    }  # fmt: skip
                    await call(scope, receive, send)
                best = min(best, (time.perf_counter() - started) / times * 1e6)
        assert set(ended) == {200}
        return best

    return lambda: asyncio.run(measure())


class Extra:
    """How much longer one path takes than another, whose figure is the row's baseline."""

    def __init__(self, mine: Callable[[], float], other: Callable[[], float]) -> None:
        self.mine, self.other, self.others = mine, other, 0.0

    def difference(self) -> float:
        self.others = self.other()
        return self.mine() - self.others

    def baseline(self) -> float:
        return self.others


# Clients that disconnect


class Disconnects:
    """What an application holds after rounds of clients that disconnect, compared with before."""

    def __init__(self, port: int, rounds: int) -> None:
        self.port, self.rounds = port, rounds
        self.before: dict[str, int] = {}

    async def _round(self) -> None:
        async def ask(goes: bool) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"GET /slow HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
            await writer.drain()
            if goes:
                # In the middle: the request has arrived, and there cannot be a reply yet.
                await asyncio.sleep(DELAY / 2)
            else:
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(ask(number % 2 == 0) for number in range(DISCONNECTING)))

    def _settled(self) -> dict[str, int]:
        """What is held once nothing is in flight; waits until the last disconnects are noticed."""
        deadline = time.monotonic() + 5
        found = held(self.port)
        while (found["in_flight"] or (self.before and found != self.before)) and time.monotonic() < deadline:
            time.sleep(0.05)
            found = held(self.port)
        return found

    def measure(self) -> float:
        asyncio.run(self._round())  # opens the connections to the server, up to their limit
        self.before = {}
        self.before = self._settled()
        for _ in range(self.rounds):
            asyncio.run(self._round())
        after = self._settled()
        # Some idle connections to the server may have been closed.
        return sum(max(0, after[name] - self.before[name]) for name in after)

    def baseline(self) -> float:
        return self.before["sockets"]


# Workers that are replaced


class Reloads:
    """Failures among the requests that reach the application while `kill -HUP` makes uvicorn replace its workers.

    Requests that do not reach it are up to uvicorn: it closes idle connections, and a request that is on its way there
    is lost, whatever its route; clients may repeat it (RFC 9112, 9.3.1).
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, reached: Path) -> None:
        self.process, self.port, self.reached = process, port, reached
        self.answered = 0

    def _workers(self) -> set[str]:
        return set(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())

    async def _reloaded(self) -> Answers:
        loaded = True
        asking = asyncio.ensure_future(load(self.port, "/gathered", lambda: loaded, 20))
        before = self._workers()
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE * 0.9
        while len(before - self._workers()) < WORKERS:
            assert time.monotonic() < deadline, "the workers are not replaced"
            await asyncio.sleep(0.05)
        loaded = False
        return await asking

    def measure(self) -> float:
        self.reached.write_text("")
        found = asyncio.run(self._reloaded())
        self.answered = found.answered
        return len({str(number) for number in found.failed} & set(self.reached.read_text().split()))

    def baseline(self) -> float:
        return self.answered


@group("fastapi")
def fastapi(quick: bool) -> Iterator[list[Row]]:
    requests = 500 if quick else 5000
    with running() as peer, running(DELAY) as slow, tempfile.TemporaryDirectory() as folder:
        reached = Path(folder, "reached")
        environment = {"BENCHMARK_PEER": peer, "BENCHMARK_SLOW_PEER": slow}
        noting = {**environment, "BENCHMARK_REACHED": str(reached)}
        # While all cores are busy with the load, a worker starts slowly.
        many_workers = ("--workers", str(WORKERS), "--timeout-worker-healthcheck", str(round(PATIENCE)))
        with serving(environment) as (_, port), serving(noting, *many_workers) as (supervisor, workers):

            def took(path: str, number: int = requests) -> Callable[[], float]:
                def measure() -> float:
                    # Warm the code and open the connections: httpx drops those that were idle for 5 s.
                    microseconds(port, path, min(number, CALLERS * 2))
                    return microseconds(port, path, number)

                return measure

            extra = Extra(of_a_call("/unused", requests), of_a_call("/empty", requests))
            disconnects = Disconnects(port, 1 if quick else 4)
            reloads = Reloads(supervisor, workers, reached)
            gathered, many = took("/gathered"), took("/httpx-client-a-request", requests // 50)
            one, empty, default = (
                took("/one-httpx-client", max(requests // 10, CALLERS * 2)),
                took("/empty"),
                took("/default"),
            )
            yield [
                Row(
                    "LoopaiDep in a route that does not call out, in-process ASGI: more than an empty dependency",
                    extra.difference,
                    "the route with an empty async dependency",
                    extra.baseline,
                    "µs",
                    Goal(10, of="figure"),
                ),
                Row("a route that executes, 100 concurrent, coalesced", gathered, "a new httpx client per request",
                    many, "µs", TimesLess(30)),
                Row("the same", gathered, "one global httpx client", one, "µs", TimesLess(8)),
                Row("the same", gathered, "an empty route", empty, "µs", Goal(1 / 0.45)),
                Row("the same on the default client, not coalesced", default, "one global httpx client", one, "µs",
                    TimesLess(2.5)),
                Row(
                    f"of {DISCONNECTING} requests {DISCONNECTING // 2} disconnect in the middle: in flight, sockets "
                    "and logged errors more than before",
                    disconnects.measure,
                    "sockets and files before",
                    disconnects.baseline,
                    "",
                    Goal(0, of="figure"),
                ),
                Row(
                    f"requests that fail of those that reached it while `kill -HUP` replaces {WORKERS} workers",
                    reloads.measure,
                    "requests answered meanwhile",
                    reloads.baseline,
                    "",
                    Goal(0, of="figure"),
                ),
            ]  # fmt: skip
