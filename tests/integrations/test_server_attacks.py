"""The embedded server under hostile tasks, inputs and callers: it stays small, answers others, and ends in time."""

from __future__ import annotations

import contextlib
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")]

SERVE = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from loopai.local import serve
serve(port=0, request_timeout=3, on_bound=lambda url: print(url, flush=True))
"""
MOST_MEMORY = 400_000_000
LONGEST_LIVE_SECONDS = 1.0
END_SECONDS = 10.0
ECHO = "def main(input):\n    return input"
FOREVER = "def main(input):\n    while True:\n        pass"


class Server:
    """A server in a process of its own, watched: its memory, and how soon it says that it lives."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.http = httpx.Client(base_url=f"{self.url}/api/v1", timeout=60)
        self.most_memory = 0
        self.slowest = 0.0
        self._ended = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    def _watch(self) -> None:
        process = psutil.Process(self.process.pid)
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not self._ended.wait(0.05):
                began = time.monotonic()
                try:
                    http.get("/api/v1/health/live").raise_for_status()
                    self.most_memory = max(self.most_memory, process.memory_info().rss)
                except (httpx.HTTPError, psutil.NoSuchProcess):
                    self.slowest = 999.0
                self.slowest = max(self.slowest, time.monotonic() - began)

    def task(self, name: str, code: str | None = None, **members: Any) -> str:
        """The id of a new task, with a program where `code` is given."""
        body = {"name": name, "description": "d", "input_schema": {}, "output_schema": {}, **members}
        reply = self.http.post("/tasks", json=body)
        assert reply.status_code == 201, reply.text[:300]
        found: str = reply.json()["id"]
        if code is not None:
            assert self.http.post(f"/tasks/{found}/artifacts", json={"code": code}).status_code == 201
        return found

    def execute(self, task_id: str, value: Any) -> httpx.Response:
        """The reply to an execution, once the program is made."""
        while True:
            reply = self.http.post(f"/tasks/{task_id}/execute", json={"task_id": task_id, "input": value})
            if reply.status_code != 503 or reply.json()["code"] != "GENERATING":
                return reply

    def stop_watching(self) -> None:
        """Look no longer."""
        self._ended.set()
        self._watching.join()

    def check(self) -> None:
        """It stayed small and answered all the time, and ends in time with its children."""
        self.stop_watching()
        children = psutil.Process(self.process.pid).children(recursive=True)
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(END_SECONDS) == -signal.SIGTERM
        assert time.monotonic() - began < END_SECONDS
        assert not psutil.wait_procs(children, timeout=3)[1]
        assert self.most_memory < MOST_MEMORY
        assert self.slowest < LONGEST_LIVE_SECONDS


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop_watching()
        server.http.close()
        server.process.kill()
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


def _doubled(keyword: str) -> Any:
    definitions: dict[str, Any] = {"a0": {"type": "string"}}
    for level in range(1, 27):
        definitions[f"a{level}"] = {keyword: [{"$ref": f"#/$defs/a{level - 1}"}] * 2}
    return {"$defs": definitions, "$ref": "#/$defs/a26"}


def _union() -> tuple[Any, Any]:
    nested = {"type": "array", "items": {"$ref": "#/$defs/any"}}
    kinds: list[Any] = [
        {"properties": {"op": {"const": op}, "args": nested}, "required": ["op", "args"]} for op in ("and", "or", "not")
    ]
    value: Any = {"word": 1}
    for _ in range(12):
        value = {"op": "and", "args": [value]}
    word = {"properties": {"word": {"type": "string"}}, "required": ["word"]}
    return {"$defs": {"any": {"anyOf": [*kinds, word]}}, "$ref": "#/$defs/any"}, value


SCHEMAS: dict[str, tuple[Any, Any]] = {
    "union": _union(),
    "any": (_doubled("anyOf"), 3),
    "all": (_doubled("allOf"), 3),
    "many": ({"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, list(range(500_000))),
    "required": ({"required": [f"k{at}" for at in range(50_000)]}, {}),
    "branches": ({"oneOf": [{"properties": {"a": {"const": at}}} for at in range(5000)]}, {"a": -1}),
    "ahead": ({"pattern": "^(?=(a+)+$)(a+)+$"}, "a" * 50 + "b"),
    "bomb": ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "aaa"),
    "remote": ({"$ref": "http://127.0.0.1:1/x"}, 3),
    "itself": ({"allOf": [{"$ref": "#"}]}, 3),
    "unique": ({"uniqueItems": True}, [{"a": [at, {"b": at}]} for at in range(20_000)]),
}


def test_schemas_and_inputs_that_take_gigabytes(server: Server) -> None:
    """Every task is created, every input gets its answer within seconds."""
    for name, (schema, value) in SCHEMAS.items():
        task_id = server.task(name, ECHO, input_schema=schema)
        began = time.monotonic()
        reply = server.execute(task_id, value)
        assert reply.status_code in {200, 400}, (name, reply.text[:300])
        assert time.monotonic() - began < 10
    server.check()


def test_batches_of_rows_that_never_end(server: Server) -> None:
    """32 of them, whose callers leave, hold up neither readiness nor another task for a second."""
    loop, quick = server.task("loop", FOREVER), server.task("quick", ECHO)
    assert server.execute(quick, 1).json()["output"] == 1
    body = {"task_id": loop, "timeout_ms": 60_000, "max_concurrency": 100}
    content = json.dumps({**body, "items": [{"id": str(at), "input": 1} for at in range(1000)]})

    def leave() -> None:
        with contextlib.suppress(httpx.TimeoutException):
            headers = {"content-type": "application/json"}
            callers.post(f"{server.url}/api/v1/batch/execute", content=content, headers=headers, timeout=1)

    callers = httpx.Client(limits=httpx.Limits(max_connections=None))
    threads = [threading.Thread(target=leave) for _ in range(32)]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        slowest = max(slowest, *_seconds(server, quick))
    for _ in range(3):
        slowest = max(slowest, *_seconds(server, quick))
    callers.close()
    assert slowest < 1.0
    server.check()


def _seconds(server: Server, quick: str) -> Iterator[float]:
    calls: tuple[Callable[[], httpx.Response], ...] = (
        lambda: server.http.get("/health/ready"),
        lambda: server.http.get("/tasks"),
        lambda: server.execute(quick, 2),
    )
    for call in calls:
        began = time.monotonic()
        assert call().status_code == 200
        yield time.monotonic() - began


def test_examples_that_take_minutes_to_train_on(server: Server) -> None:
    """20 MB of examples are refused in words; with as many as may be, another task's training does not wait."""
    chance = random.Random(1)
    words = [f"w{at}" for at in range(60_000)]

    def examples(size: int) -> list[Any]:
        found: list[Any] = []
        while size > 0:
            text = " ".join(chance.choice(words) for _ in range(30))
            output = {f"o{at}": chance.choice("abcde") for at in range(30)}
            found.append({"input": {"text": text}, "output": output})
            size -= len(json.dumps(found[-1]))
        return found

    small = [
        {"input": {"text": f"{first} {second}"}, "output": label}
        for label, texts in (("spam", ("free", "prize", "pills")), ("ham", ("lunch", "notes", "team")))
        for first in texts
        for second in texts
    ]
    too_large = server.task("too.large", examples=examples(20_000_000))
    assert "are the most to train on" in server.execute(too_large, {"text": "w1"}).json()["details"]
    large = server.task("large", examples=examples(8_000_000))
    with contextlib.suppress(httpx.TimeoutException):
        server.http.post(f"/tasks/{large}/execute", json={"task_id": large, "input": {"text": "w1"}}, timeout=1)
    reply = server.execute(server.task("small", examples=small), {"text": "free lunch"})
    assert reply.json()["status"] == "success"
    assert [task for task in psutil.Process(server.process.pid).children() if "loopai.local.training" in task.cmdline()]
    server.check()


def test_field_names_that_look_like_code(server: Server) -> None:
    """They are data of the program that is made, and of its reply; the server takes no notice."""
    name = "x\nPWNED = __import__('os').system('false')\n# "
    chance = random.Random(1)
    rows = []
    for _ in range(80):
        a, b = chance.random() * 10, chance.random() * 10
        rows.append({"input": {"a": a, "b": b}, "output": {name: 3 * a - 2 * b + 1}})
    task_id = server.task("inject", examples=rows)
    reply = server.execute(task_id, {"a": 1.0, "b": 2.0})
    assert reply.status_code == 200, reply.text
    server.check()


def test_large_bodies_hold_up_nobody(server: Server) -> None:
    """Batches to validate of 22 MB, many values in few bytes, and more bodies at once than are held."""
    item = {"id": "1", "input": 1, "output": {"a": "b" * 500}, "expected_output": {"a": "b" * 500}}
    validate = json.dumps({"task_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "items": [item] * 20_000})
    task_id = server.task("values", ECHO)
    many = json.dumps({"task_id": task_id, "input": []})[:-2] + ",".join(["[]"] * 8_000_000) + "]}"

    def post(path: str, content: str, statuses: set[int]) -> None:
        headers = {"content-type": "application/json"}
        reply = httpx.post(f"{server.url}/api/v1{path}", content=content, headers=headers, timeout=60)
        assert reply.status_code in statuses, reply.text[:300]
        done.append(path)

    done: list[str] = []
    calls = [("/batch/validate", validate, {200, 503})] * 6 + [(f"/tasks/{task_id}/execute", many, {413, 503})] * 3
    threads = [threading.Thread(target=post, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == len(calls)
    server.check()


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nX-Slow",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 99\r\n\r\n{"',
    ],
)
@pytest.mark.parametrize("earlier", [b"", b"GET /api/v1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_half_requests_are_cut(server: Server, half: bytes, earlier: bytes) -> None:
    """After `request_timeout`, here 3 s; without a header nobody gets a reply, without a body a 408."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=8) as connection:
        received = b""
        if earlier:
            connection.sendall(earlier)
            received = connection.recv(65536)
        connection.sendall(half)
        while part := connection.recv(65536):
            received += part
    statuses = re.findall(rb"HTTP/1\.1 ([0-9]+)", received)
    expected = [b"200"] * bool(earlier) + [b"408"] * (b"Content-Length" in half)
    assert statuses == expected


def test_training_is_gone_when_its_server_is_killed(server: Server) -> None:
    """`kill -9` leaves no process behind, of training or of the sandbox."""
    chance = random.Random(1)
    rows = [
        {
            "input": {"text": " ".join(f"w{chance.randrange(9999)}" for _ in range(60))},
            "output": chance.choice("abcdefgh"),
        }
        for _ in range(8000)
    ]
    task_id = server.task("train", examples=rows)
    with contextlib.suppress(httpx.TimeoutException):
        server.http.post(f"/tasks/{task_id}/execute", json={"task_id": task_id, "input": {"text": "w"}}, timeout=2)
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert any("loopai.local.training" in child.cmdline() for child in children)
    server.stop_watching()
    server.process.kill()
    assert not psutil.wait_procs(children, timeout=10)[1]
