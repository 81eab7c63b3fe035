"""A stand-in for the published server, with its faults: a transport for both clients, or a server on a socket.

It answers as the recordings of `tests/contract/recorded` do. Items of a batch that run at the same time fail, some of
them after they ran; simultaneous first executions each generate a program; the limiter refuses with a 500; a reply that
cannot be written is a 500 or breaks off. It counts executions and generations. Time is its own clock.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Optional
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from loopai._core.wire import Answer, NoReply, Reply, Request

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
URL = "http://published.test"
UNRUN_TEXTS = (
    "A second operation was started on this context instance before a previous operation completed. This is usually "
    "caused by different threads concurrently using the same instance of DbContext.",
    "An error occurred while saving the entity changes. See the inner exception for details.",
    "There is already an open DataReader associated with this Connection which must be closed first.",
    "Invalid operation. The connection is closed.",
    "SQLite Error 5: 'database is locked'.",
)
BUFFER = 16_000
"""Bytes of a reply from which the server begins to send before all is written."""

CREATED = "2026-11-28T23:14:31.7150021"


class StandIn:
    """The server. `item_ms` is the time of one execution; of items that run together `fails` is the share that fails.

    `limit` is how many requests a minute one path to `/execute` has, `None` for no limiter. An input with the member
    `poison` fails with a database text when it is alone too; one with `surrogate` has an output that cannot be written;
    one with `error` fails. Without an `active` version the first executions each have a program made, which takes
    `generation` seconds; with `generates=False` none can be made.
    """

    def __init__(
        self,
        *,
        item_ms: float = 25.0,
        fails: float = 0.92,
        limit: Optional[int] = 30,
        active: bool = True,
        seed: int = 7,
        generates: bool = True,
        generation: float = 0.0,
    ) -> None:
        self.item_ms = item_ms
        self.limit = limit
        self.generates = generates
        self.generation = generation
        self.now = 1000.0
        self.requests: list[Request] = []
        self.batches: list[dict[str, Any]] = []
        self.refused = 0
        self.generations: Counter[str] = Counter()
        self.executions: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.sent_after_first: Counter[str] = Counter()
        self.sent_one_at_a_time: Counter[str] = Counter()
        self.down = False
        self.dies_at: Optional[int] = None
        self.artifacts: dict[str, list[int]] = {TASK: [1] if active else []}
        self.schema: Any = {"type": "object"}
        self.between: Callable[[Request], None] = lambda _: None
        self.first_failure: Optional[int] = None
        self._fails = fails
        self._random = random.Random(seed)
        self._stale: dict[str, dict[str, Any]] = {}
        self._windows: dict[str, tuple[float, int]] = {}
        self._generating: Counter[str] = Counter()
        self._failing = False
        self._lock = threading.RLock()

    @property
    def posts(self) -> list[Request]:
        """The requests that execute."""
        return [request for request in self.requests if request.method == "POST"]

    @property
    def look_ups(self) -> int:
        """How often the artifacts were listed."""
        return sum(urlsplit(request.url).path.endswith("/artifacts") for request in self.requests)

    # The clock

    def clock(self) -> float:
        """The time, which only pauses and executions move."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self.now += seconds

    async def asleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(0)
        self.sleep(seconds)

    # The transport seam

    def send(self, request: Request) -> Answer:
        """See `Transport`."""
        started, refused = self._begin(request)
        if refused is not None:
            return refused
        self.between(request)
        return self._out(self._finish(request, started))

    async def asend(self, request: Request) -> Answer:
        """See `AsyncTransport`."""
        started, refused = self._begin(request)
        for _ in range(5):
            await asyncio.sleep(0)
        if refused is not None:
            return refused
        return self._out(self._finish(request, started))

    def _out(self, answer: Answer) -> Answer:
        if self._failing and self.first_failure is None:
            self.first_failure = len(self.requests)
        return answer

    def close(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""

    def _begin(self, request: Request) -> tuple[float, Optional[Answer]]:
        with self._lock:
            self.requests.append(request)
            if self.down:
                return self.now, NoReply(ConnectionRefusedError("connection refused"), arrived=False)
            path = urlsplit(request.url).path
            if not self._admitted(request.method, path):
                self.refused += 1
                return self.now, _reply(500, _error("INTERNAL_ERROR", "An unexpected error occurred"), {})
            body = json.loads(request.content) if request.content else None
            if path.endswith("/execute"):
                task = body["task_id"].lower()
                if task in self.artifacts and not self.artifacts[task] and body.get("version") is None:
                    self._generating[task] += _together(body)
                for item in body.get("items", [body]):
                    name = _named(item["input"])
                    self.sent[name] += 1
                    if body.get("max_concurrency") == 1:
                        self.sent_one_at_a_time[name] += 1
                    if self.first_failure is not None:
                        self.sent_after_first[name] += 1
            return self.now, None

    def _finish(self, request: Request, started: float) -> Answer:
        with self._lock:
            path = urlsplit(request.url).path
            body = json.loads(request.content) if request.content else None
            if path.endswith("/execute") and self._generating[body["task_id"].lower()] and self.generation:
                bound = request.timeout
                if bound is not None and bound < self.generation:
                    # Nobody waits for it any longer; it was paid for.
                    self._generating[body["task_id"].lower()] -= _together(body)
                    self.generations[body["task_id"].lower()] += _together(body)
                    self.now = max(self.now, started + bound)
                    return NoReply(TimeoutError("no reply in time"), arrived=True, timed_out=True)
                self.now = max(self.now, started + self.generation)
            if path == "/api/v1/batch/execute":
                return self._batch(body, started)
            found = re.fullmatch(r"/api/v1/tasks/([^/]+)(/.*)?", path)
            if found is None:
                return _reply(404, "")
            task, rest = found[1].lower(), found[2] or ""
            if rest == "/execute":
                return self._execute(task, body, started)
            if rest == "/artifacts":
                return _reply(200, json.dumps([_artifact(task, each) for each in self.artifacts.get(task, [])]))
            version = re.fullmatch(r"/artifacts/(\d+)", rest)
            if version is not None:
                if int(version[1]) in self.artifacts.get(task, []):
                    return _reply(200, json.dumps(_artifact(task, int(version[1]))))
                text = f"Artifact version {version[1]} for task {task} not found"
                return _reply(404, _error("ARTIFACT_NOT_FOUND", text))
            if task not in self.artifacts:
                return _reply(404, _error("TASK_NOT_FOUND", f"Task with ID {task} not found"))
            # What it said at first, for ten minutes.
            return _reply(200, json.dumps(self._stale.setdefault(task, self._task(task))))

    def _admitted(self, method: str, path: str) -> bool:
        if self.limit is None:
            return True
        most = self.limit if path.endswith("/execute") else self.limit * 2
        key = f"{method} {path.lower()}"
        since, count = self._windows.get(key, (self.now, 0))
        if self.now - since >= 60:
            since, count = self.now, 0
        if count >= most:
            return False
        self._windows[key] = since, count + 1
        return True

    def _task(self, task: str) -> dict[str, Any]:
        versions = self.artifacts[task]
        active = {"active_version": versions[-1]} if versions else {}
        return {
            "id": task,
            "name": "t-7dbfa642",
            "description": "CODE:",
            "input_schema": self.schema,
            "output_schema": {},
            **active,
            "total_versions": len(versions),
            "created_at": CREATED,
        }

    # Executions

    def _generate(self, task: str, version: Optional[int], together: int = 1) -> Optional[str]:
        """Make the task's first program, for each of those that run together. Return why there is none to run."""
        if task not in self.artifacts:
            return f"Task with ID {task} not found"
        if version is not None:
            known = version in self.artifacts[task]
            return None if known else f"Program artifact version {version} for task {task} not found"
        if not self._generating[task]:
            return None
        racing = self._generating[task] > together
        self._generating[task] -= together
        self.generations[task] += together
        if not self.generates:
            return "Program generation failed: cannot generate"
        if not self.artifacts[task]:
            self.artifacts[task].append(1)
        elif racing or self._random.random() < 0.8:
            return "An error occurred while saving the entity changes. See the inner exception for details."
        return None

    def _run(self, task: str, given: Any) -> dict[str, Any]:
        self.executions[_named(given)] += 1
        member = given if isinstance(given, dict) else {}
        result: dict[str, Any] = {"execution_id": str(uuid4())}
        if "error" in member:
            return {**result, "success": False, "error_message": member["error"]}
        if "surrogate" in member:
            return {**result, "success": True, "output": {"text": "\ud800"}}
        return {**result, "success": True, "output": {"of": given}}

    def _execute(self, task: str, body: dict[str, Any], started: float) -> Answer:
        missing = self._generate(task, body.get("version"))
        self.now = max(self.now, started + self.item_ms / 1000)
        if missing is not None:
            return _reply(500, _error("EXECUTION_ERROR", "An error occurred during program execution"))
        ran = self._run(task, body["input"])
        success = ran.pop("success")
        return _written(
            {
                "task_id": task,
                "program_id": str(UUID(int=1)),
                "version": body.get("version") or 1,
                "status": "success" if success else "error",
                **ran,
                "latency_ms": self.item_ms,
                "sampled_for_validation": False,
                "executed_at": CREATED + "Z",
            }
        )

    def _batch(self, body: dict[str, Any], started: float) -> Answer:
        task, items = body["task_id"].lower(), body["items"]
        concurrency = body.get("max_concurrency") or 10
        self.batches.append(body)
        missing = self._generate(task, body.get("version"), _together(body))
        together = concurrency > 1 and len(items) > 1
        results = []
        for item in items:
            result = self._item(task, item, together, missing)
            results.append({"id": item["id"], **result, "sampled_for_validation": False})
        ran = sum("execution_id" in result for result in results)
        self._failing = self._failing or (ran < len(results) and together)
        seconds = ran * self.item_ms / 1000 / min(concurrency, len(items) or 1)
        self.now = max(self.now, started + seconds)
        if self.dies_at is not None and len(self.requests) >= self.dies_at:
            self.dies_at = None
            return _cut()
        good = sum(result["success"] for result in results)
        return _written(
            {
                "batch_id": str(uuid4()),
                "task_id": task,
                "version": body.get("version") or 0,
                "total_items": len(items),
                "success_count": good,
                "failure_count": len(items) - good,
                "total_duration_ms": seconds * 1000,
                "avg_latency_ms": sum(result["latency_ms"] for result in results) / (len(results) or 1),
                "results": results,
                "started_at": _moment(started),
                "completed_at": _moment(self.now),
            }
        )

    def _item(self, task: str, item: dict[str, Any], together: bool, missing: Optional[str]) -> dict[str, Any]:
        if missing is not None:
            return {"success": False, "error_message": missing, "latency_ms": 0.7}
        given = item["input"]
        poison = isinstance(given, dict) and "poison" in given
        if poison or (together and self._random.random() < self._fails):
            if not poison and self._random.random() < 0.15:
                self._run(task, given)
            text = self._random.choice(UNRUN_TEXTS)
            return {"success": False, "error_message": text, "latency_ms": 3.5}
        return {**self._run(task, given), "latency_ms": self.item_ms}

    # On a socket

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve on a free port; gives the address. Executions take their time."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # the names that http.server wants
                content = self.rfile.read(int(self.headers.get("content-length") or 0))
                request = Request(self.command, self.path, dict(self.headers), content)
                answer = outer.timed(request)
                if isinstance(answer, NoReply):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{")
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()

    def timed(self, request: Request) -> Answer:
        """Answer in as much real time as the executions take."""
        with self._lock:
            self.now = time.monotonic()
        started, refused = self._begin(request)
        if refused is not None:
            return refused
        with self._lock:
            answer = self._finish(request, started)
            left = self.now - time.monotonic()
        if left > 0:
            threading.Event().wait(left)
        return self._out(answer)


def _together(body: dict[str, Any]) -> int:
    """How many executions of a request run at the same time."""
    return min(body.get("max_concurrency") or 10, len(body["items"]) or 1) if "items" in body else 1


def _named(given: Any) -> str:
    return json.dumps(given, sort_keys=True)


def _moment(seconds: float) -> str:
    return f"2026-11-28T23:{int(seconds // 60) % 60:02}:{seconds % 60:010.7f}Z"


def _error(code: str, message: str) -> str:
    return json.dumps({"code": code, "message": message, "trace_id": "0HNQDK63DC37V:1", "timestamp": CREATED + "Z"})


def _artifact(task: str, version: int) -> dict[str, Any]:
    return {
        "id": str(UUID(int=version)),
        "task_id": task,
        "version": version,
        "language": "typescript",
        "code": "function main(input) { return input; }",
        "status": "active",
        "deployment_percentage": 100,
        "created_at": CREATED,
    }


def _reply(status: int, text: str, headers: Optional[dict[str, str]] = None) -> Reply:
    limits = {"x-rate-limit-limit": "1h", "x-rate-limit-remaining": "400"} if headers is None else headers
    return Reply(status, {"content-type": "application/json; charset=utf-8", **limits}, text.encode())


def _cut() -> NoReply:
    return NoReply(ConnectionResetError("the reply broke off"), arrived=True, cut=True)


def _written(body: dict[str, Any]) -> Answer:
    text = json.dumps(body, ensure_ascii=False)
    try:
        return _reply(200, text.encode().decode())
    except UnicodeEncodeError:
        if len(text) > BUFFER:
            return _cut()
        return _reply(500, _error("INTERNAL_ERROR", "An unexpected error occurred"))
