"""What an upload may cost: memory and CPU of a served application, measured from outside, and the place it holds."""

from __future__ import annotations

import gzip
import io
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

pytestmark = pytest.mark.slow

APPLICATION = """
import json, re, socket
import uvicorn
from fastapi import FastAPI
from loopai._core.wire import Reply
from loopai.contrib.fastapi import LoopaiLifespan, LoopaiSettings, batch_router

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"

class Upstream:
    "Answers batches, and keeps nothing of them."

    async def asend(self, request):
        ids = [each.decode() for each in re.findall(rb'\\{"id":"([^"]*)","input"', request.content)]
        results = [{"id": each, "success": True, "output": 1, "latency_ms": 0.1} for each in ids]
        now = "2025-11-03T08:16:05Z"
        return Reply(200, {"content-type": "application/json"}, json.dumps({
            "batch_id": TASK, "task_id": TASK, "version": 1, "total_items": len(ids), "success_count": len(ids),
            "failure_count": 0, "total_duration_ms": 1, "avg_latency_ms": 0.1, "results": results, "started_at": now,
            "completed_at": now}).encode())

    async def aclose(self):
        pass

app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(transport=Upstream())))
app.include_router(batch_router(TASK))
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
print(listening.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
"""

MOST_MEMORY = 64_000_000
"""Bytes that one upload may add to the memory of the server, whatever it holds."""


class Application:
    """A process that serves one `batch_router`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", APPLICATION], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self._seen = psutil.Process(self._process.pid)

    def post(self, content: bytes, query: str = "", timeout: float = 120.0) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}/batch{query}"
        return httpx.post(url, content=content, timeout=timeout, trust_env=False)

    @property
    def highest(self) -> int:
        """The most memory that the process has had, in bytes."""
        with open(f"/proc/{self._process.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far."""
        times = self._seen.cpu_times()
        return times.user + times.system

    def wait_until_idle(self) -> None:
        """Wait until the process does nothing any more."""
        until = time.monotonic() + 60
        while self._seen.cpu_percent(interval=0.3) > 5:
            assert time.monotonic() < until

    def close(self) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def application() -> Iterator[Application]:
    served = Application()
    rows = "\n".join(json.dumps({"text": "x" * 200}) for _ in range(5000))
    assert served.post(rows.encode(), "?format=jsonl").status_code == 200
    yield served
    served.close()


def packed(*parts: tuple[bytes, int]) -> bytes:
    """Gzip of each part, so many times."""
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1) as file:
        for part, times in parts:
            for _ in range(times):
                file.write(part)
    return made.getvalue()


MB = 1_000_000
BIG = b'{"x":"' + b"a" * (29 * MB) + b'"}'
NOISE = random.Random(1).randbytes(450_000).hex().encode()
OBJECTS = b'{"x":[' + b'{"":0},' * 140_000 + b"0]}"
COLUMNS = ",".join(f"c{number}" for number in range(100_000)).encode() + b"\n"

UPLOADS = {
    "blank lines": ("jsonl", lambda: packed((b"\n" * MB, 300))),
    "rows of 29 MB": ("json", lambda: packed((b"[" + BIG, 1), (b"," + BIG, 9), (b"]", 1))),
    "lines of 29 MB": ("jsonl", lambda: packed((BIG + b"\n", 10))),
    "one endless line": ("jsonl", lambda: packed((b"x" * MB, 300))),
    "one endless text": ("json", lambda: packed((b'[{"x":"', 1), (b"x" * MB, 300))),
    "one endless CSV line": ("csv", lambda: packed((b"a,b\n", 1), (b"x," * (MB // 2), 300))),
    "one endless CSV header": ("csv", lambda: packed((b"a,b" * (MB // 3), 300))),
    "one endless quoted field": ("csv", lambda: packed((b'a,b\n1,"', 1), (b"x\n" * (MB // 2), 300))),
    "blanks in an array": ("json", lambda: packed((b"[", 1), (b" " * MB, 300), (b"]", 1))),
    "brackets": ("json", lambda: packed((b"[" * MB, 300))),
    "gzip in gzip": ("jsonl", lambda: gzip.compress(packed((b"\n" * MB, 500)))),
    "empty gzip members": ("jsonl", lambda: gzip.compress(b"") * 50_000),
    "plain rows of 900 KB": ("jsonl", lambda: (b'{"x":"' + NOISE + b'"}\n') * 100),
    "plain rows of many lists": ("jsonl", lambda: (b'{"x":[' + b"[]," * 300_000 + b"0]}\n") * 30),
    "plain rows of many objects": ("json", lambda: b"[" + b",".join([OBJECTS] * 30) + b"]"),
    "plain rows of wide characters": ("jsonl", lambda: ('{"x":"\U0001f600' + "a" * 900_000 + '"}\n').encode() * 60),
    "a CSV of many columns": ("csv", lambda: COLUMNS + (b"xy," * 99_999 + b"xy\n") * 20),
    "array of commas": ("json", lambda: b"[" + b"," * 900_000 + b"]"),
}  # fmt: skip


@pytest.mark.parametrize("name", UPLOADS)
def test_memory_and_cpu_are_bounded_whatever_an_upload_holds(application, name) -> None:
    """At most 64 MB more than before, and seconds of CPU; the place is free again and the server answers."""
    kind, make = UPLOADS[name]
    content = make()
    before, cpu = application.highest, application.cpu
    reply = application.post(content, f"?format={kind}")
    grown = application.highest - before
    took = application.cpu - cpu
    print(f"{name}: {len(content):,} bytes, {grown / 1e6:.1f} MB, {took:.1f} s of CPU, {reply.status_code}")
    assert grown < MOST_MEMORY
    assert took < 40
    assert reply.status_code in {413, 422} or "event: summary" in reply.text[-2000:]


def test_honest_files_that_repeat_themselves_are_read(application) -> None:
    """A ratio far above the limit is nothing wrong in a file of some megabytes; nor is one below it in a large one."""
    noise = b"".join(b"%d,%s\n" % (line, NOISE[80 * line :][:80]) for line in range(1200))
    small, large = packed((b"l\n", 1), (b"spam\n", 100_000)), packed((b"id,label\n", 1), (noise, 100))
    for content, count in ((small, 100_000), (large, 120_000)):
        reply = application.post(content, "?format=csv")
        assert f'"rows":{count}' in reply.text[-2000:]


@pytest.mark.parametrize("name", ["blank lines", "brackets", "one endless text"])
def test_a_client_that_leaves_ends_the_work(application, name) -> None:
    """Within a moment, though the whole upload has come."""
    kind, make = UPLOADS[name]
    content = make()
    head = f"POST /batch?format={kind} HTTP/1.1\r\nHost: app\r\nContent-Length: {len(content) + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", application.port)) as client:
        client.sendall(head.encode() + content[:30_000])
    application.wait_until_idle()
    cpu = application.cpu
    assert application.post(b'[{"a": 1}]', "?format=json").status_code == 200
    assert application.cpu - cpu < 2
