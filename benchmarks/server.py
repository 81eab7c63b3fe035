"""The embedded server under many callers at once, and the first execution of a new task."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from loopai import SyncLoopaiClient

from .executions import RawConnection, emails, given, server
from .measuring import Goal, Row, group

CALLERS = 200
SMALL = 16


def _task(base_url: str, name: str, examples: list[dict[str, Any]]) -> str:
    with SyncLoopaiClient(base_url, timeout=120) as client:
        return str(client.create_task(name, "Tell spam from wanted e-mail", {}, {}, examples=examples).id)


def _examples(count: int) -> list[dict[str, Any]]:
    rows = emails("train")
    half = count // 2
    chosen = [row for label in ("spam", "ham") for row in [row for row in rows if row["label"] == label][:half]]
    return [{"input": given(row), "output": row["label"]} for row in chosen]


def _measured(base_url: str, task_id: str, callers: int, each: int) -> float:
    """Milliseconds per execution, with `each` executions per caller."""
    path = f"/api/v1/tasks/{task_id}/execute"
    connections = [RawConnection(base_url) for _ in range(callers)]

    def call(connection: RawConnection) -> None:
        for _ in range(each):
            request = connection.request(path, {"task_id": task_id, "input": 1})
            # In the form that the client sends.
            key = f"\r\nIdempotency-Key: {uuid.uuid4()}\r\n".encode()
            request = request.replace(b"\r\n", key, 1)
            connection.exchange(request)

    threads = [threading.Thread(target=call, args=(connection,)) for connection in connections]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.socket.shutdown(socket.SHUT_RDWR)
        connection.socket.close()
    return seconds * 1000 / (callers * each)


@group("server")
def under_load(quick: bool) -> Iterator[list[Row]]:
    each = 2 if quick else 20
    names = itertools.count()
    with server() as base_url:
        trivial = _task(base_url, "trivial", [])
        with SyncLoopaiClient(base_url) as client:
            client.push_program(trivial, "def main(input):\n    return input")
        _measured(base_url, trivial, CALLERS, 1)  # warms the server

        def first_execution() -> float:
            task_id = _task(base_url, f"first-{next(names)}", _examples(SMALL))
            with SyncLoopaiClient(base_url, timeout=120) as client:
                began = time.perf_counter()
                client.execute(task_id, given(emails("dev")[0]))
                return time.perf_counter() - began

        def scikit_learn() -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import sklearn.linear_model"], check=True)
            return time.perf_counter() - began

        yield [
            Row(
                f"an execution of a trivial program, {CALLERS} callers at once",
                lambda: _measured(base_url, trivial, CALLERS, each),
                "one caller, whose executions come one by one",
                lambda: _measured(base_url, trivial, 1, each * 20),
                "ms",
                Goal(1.0),
            ),
            Row(
                f"the first execution of a task with {SMALL} examples",
                first_execution,
                "importing scikit-learn's linear models in a new process",
                scikit_learn,
                "s",
                Goal(1.2, of="figure"),
            ),
        ]
