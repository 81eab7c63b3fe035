"""The cost of a row run in this process's sandbox, compared with one `execute` per row on a server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

from loopai import SyncLoopaiClient

from .executions import emails, given, server, spam_program
from .goals import TimesLess
from .measuring import Row, group


@group("edges")
def edges(quick: bool) -> Iterator[list[Row]]:
    count = 50 if quick else 700
    inputs = [given(row) for row in emails("dev")]
    with server() as base_url:
        task_id, _ = spam_program(base_url, 100 if quick else 1000)
        with SyncLoopaiClient(base_url, transport="httpx", timeout=60) as client:
            program = client.load_program(task_id)
            # Each round continues where the last one stopped, and both sides of a round see the same e-mails.
            rounds = itertools.cycle([inputs[start : start + count] for start in range(0, len(inputs) - count, count)])
            current: list[dict[str, Any]] = next(rounds)

            def mapped() -> float:
                nonlocal current
                current = next(rounds)
                started = time.perf_counter()
                results = program.map(current)
                wall = time.perf_counter() - started
                assert all(result.succeeded for result in results)
                return wall / len(current) * 1e6

            def remote() -> float:
                started = time.perf_counter()
                for value in current:
                    client.execute(task_id, value)
                return (time.perf_counter() - started) / len(current) * 1e6

            mapped()  # starts the workers
            remote()
            yield [
                Row(
                    "program.map at the edge, e-mail task",
                    mapped,
                    "execute on a server of this machine, one at a time",
                    remote,
                    "µs",
                    TimesLess(10),
                )
            ]
