"""A batch through a network that breaks in every way: each key once in the output, equal to the run without faults."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

import pytest

pytest.importorskip("pydantic_monty")
pytest.importorskip("uvicorn")

from loopai import LoopaiClient, SyncLoopaiClient
from loopai.batch import BatchOptions, run, run_sync
from loopai.local import running
from loopai.preparation import batch_sender

PROGRAM = """
def main(input):
    if input["n"] % 1000 == 7:
        raise ValueError("seven")
    return {"twice": input["n"] * 2, "text": input["text"]}
"""


def _head(status: str, *more: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


LIMITER = b'{"code":"INTERNAL_ERROR","message":"An unexpected error occurred","timestamp":"2025-11-03T08:15:30Z"}'
FAULTS = [
    "reset",
    "reset after",
    "half",
    "delay",
    "429",
    "503",
    "503 without a word",
    "limiter",
    "duplicate",
    "502",
    "nothing",
]


class Proxy:
    """Stands between client and server on sockets, and spoils every so-manieth batch request in one of many ways."""

    def __init__(self, target: str, share: float, seed: int = 1) -> None:
        parts = urlsplit(target)
        self._host, self._port = parts.hostname, parts.port
        self._share = share
        self._random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def _serve(self) -> None:
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connection(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _message(reader)
                if request is None or not await self._answer(request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        fault: Optional[str] = None
        if b"/batch/" in request[:200] and self._random.random() < self._share:
            fault = self._random.choice(FAULTS)
            if fault in {"429", "limiter"} and self.injected[fault]:
                # Each doubles the chunks: with more of them there would be no requests left to spoil.
                fault = "reset"
            self.injected[fault] += 1
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault in _REFUSALS:
            writer.write(_REFUSALS[fault])
            return True
        upstream_reader, upstream = await asyncio.open_connection(self._host, self._port)
        try:
            upstream.write(request)
            reply = await _message(upstream_reader)
        finally:
            upstream.close()
        assert reply is not None
        if fault == "delay":
            await asyncio.sleep(0.02)
        if fault in {"reset after", "half", "nothing"}:
            writer.write(reply[: len(reply) // 2] if fault == "half" else b"")
            if fault == "reset after":
                writer.transport.abort()
            return False
        writer.write(reply * 2 if fault == "duplicate" else reply)
        return True


_REFUSALS = {
    "429": _head("429 Too Many Requests", "retry-after: 3", body=b'{"code":"RATE_LIMIT_EXCEEDED","message":"slow"}'),
    "503": _head("503 Service Unavailable", "retry-after: 2"),
    "503 without a word": _head("503 Service Unavailable"),
    "limiter": _head("500 Internal Server Error", body=LIMITER),
    "502": _head("502 Bad Gateway", body=b"<html>bad gateway"),
}


async def _message(reader: asyncio.StreamReader) -> Optional[bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    size = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            size = int(line.partition(b":")[2])
    return head + await reader.readexactly(size)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running() as made:
        yield made.base_url


@pytest.fixture(scope="module")
def task(server: str) -> str:
    with SyncLoopaiClient(server) as client:
        made = client.create_task("faults", "Doubles", {"type": "object"}, {"type": "object"})
        client.push_program(made.id, PROGRAM)
        return str(made.id)


def _input(folder: Path, count: int) -> Path:
    path = folder / "in.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"k{n}", "n": n, "text": "words " * (n % 9)}) + "\n" for n in range(count))
    )
    return path


def _output(path: Path) -> dict[str, Any]:
    """Rows by key, less what differs from run to run."""
    found: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        del row["loopai_latency_ms"]
        assert row["id"] not in found
        found[row["id"]] = row
    return found


class Clock:
    """Real time, and what pauses would have taken, which nobody waits for."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += seconds


def _through_faults(server: str, task: str, folder: Path, rows: int, share: float) -> Counter[str]:
    given = _input(folder, rows)
    options = BatchOptions(key="id", mapping=["n=n", "text=text"], chunk_size=20)
    with SyncLoopaiClient(server) as client:
        calm = run_sync(batch_sender(client), task, given, folder / "calm.jsonl", options)
    clock = Clock()
    with Proxy(server, share) as proxy, SyncLoopaiClient(proxy.url, timeout=20) as client:
        out = folder / "faults.jsonl"
        summary = run_sync(batch_sender(client), task, given, out, options, clock=clock, sleep=clock.sleep)
    assert (summary.ok, summary.errors) == (calm.ok, calm.errors)
    assert summary.repeated > 0
    expected = _output(folder / "calm.jsonl")
    assert len(expected) == rows
    assert _output(folder / "faults.jsonl") == expected
    return proxy.injected


def test_a_thousand_rows_through_every_fault(server: str, task: str, tmp_path: Path) -> None:
    """Resets, half replies, delays, 429, 503, the limiter's 500, duplicates: no row is lost, doubled or wrong."""
    assert sum(_through_faults(server, task, tmp_path, 1_000, 0.5).values()) > 5


@pytest.mark.slow
def test_twenty_thousand_rows_through_every_fault(server: str, task: str, tmp_path: Path) -> None:
    """Every kind of fault many times over."""
    injected = _through_faults(server, task, tmp_path, 20_000, 0.3)
    assert set(injected) == set(FAULTS)


async def test_the_asynchronous_run_through_every_fault(server: str, task: str, tmp_path: Path) -> None:
    """The same scheduler, driven by a loop."""
    given = _input(tmp_path, 600)
    options = BatchOptions(key="id", mapping=["n=n", "text=text"], chunk_size=50)
    async with LoopaiClient(server) as client:
        await run(batch_sender(client), task, given, tmp_path / "calm.jsonl", options)
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.sleep(seconds)

    with Proxy(server, 0.4, seed=3) as proxy:
        async with LoopaiClient(proxy.url, timeout=20) as client:
            sender, output = batch_sender(client), tmp_path / "faults.jsonl"
            await run(sender, task, given, output, options, clock=clock, sleep=sleep)
    assert sum(proxy.injected.values()) > 2
    assert _output(tmp_path / "faults.jsonl") == _output(tmp_path / "calm.jsonl")
