"""The cost of one execution of the e-mail program over HTTP, compared with the program alone in the sandbox."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pydantic_monty

from loopai import SyncLoopaiClient

from .measuring import Goal, Row, group

DATA = Path(__file__).parents[1] / "example_projects" / "data"
# In a separate process, so that the measuring client does not share its GIL; ends with its stdin.
SERVER = """
import sys
from loopai import local

with local.running() as server:
    print(server.base_url, flush=True)
    sys.stdin.read()
"""


def emails(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / f"emails.{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def given(row: dict[str, Any]) -> dict[str, str]:
    return {"subject": row["subject"], "body": row["body"]}


@contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


def spam_program(base_url: str, examples: int) -> tuple[str, str]:
    """Return the id of a task with e-mails as examples, and the program that the server made for it."""
    texts = {"type": "object", "properties": {"subject": {"type": "string"}, "body": {"type": "string"}}}
    label = {"type": "object", "properties": {"label": {"enum": ["spam", "ham"]}}}
    rows = emails("train")[:examples]
    with SyncLoopaiClient(base_url, timeout=120) as client:
        task = client.create_task(
            "spam",
            "Tell spam from wanted e-mail",
            texts,
            label,
            examples=[{"input": given(row), "output": {"label": row["label"]}} for row in rows],
        )
        client.execute(task.id, given(rows[0]))
        return str(task.id), client.list_artifacts(task.id)[-1].code


def median_ms(call: Callable[[Any], object], inputs: list[Any]) -> float:
    times = []
    for value in inputs:
        started = time.perf_counter()
        call(value)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


class RawConnection:
    """One open socket and prepared requests, which add almost nothing to the server's own time."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self.host = parts.netloc
        self.socket = socket.create_connection((parts.hostname, parts.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self, path: str, body: Any) -> bytes:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def exchange(self, request: bytes) -> bytes:
        self.socket.sendall(request)
        reply = b""
        while b"\r\n\r\n" not in reply:
            reply += self.socket.recv(65536)
        head, _, body = reply.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self.socket.recv(65536)
        assert head.startswith(b"HTTP/1.1 200"), reply
        return body


@group("executions")
def executions(quick: bool) -> Iterator[list[Row]]:
    count = 20 if quick else 300
    inputs = [given(row) for row in emails("dev")]
    with server() as base_url, pydantic_monty.Monty() as sandbox, sandbox.checkout() as session:
        task_id, code = spam_program(base_url, 100 if quick else 1000)
        connection = RawConnection(base_url)
        path = f"/api/v1/tasks/{task_id}/execute"
        # Each round continues where the last one stopped, and both sides of a round see the same e-mails.
        rounds = itertools.cycle(inputs[start : start + count] for start in range(0, len(inputs) - count, count))
        current = next(rounds)
        session.feed_run(code)

        def over_http() -> float:
            nonlocal current
            current = next(rounds)
            requests = [connection.request(path, {"task_id": task_id, "input": value}) for value in current]
            return median_ms(connection.exchange, requests)

        def alone() -> float:
            return median_ms(lambda value: session.feed_run("main(mail)", inputs={"mail": value}), current)

        over_http()  # warms the server
        alone()
        yield [
            Row(
                "one execution of the e-mail program over HTTP, at the median",
                over_http,
                "the program alone in Monty",
                alone,
                "ms",
                Goal(1.0, of="figure"),
            )
        ]
        connection.socket.close()
