"""The cost of a row in a large batch, compared with a hand-written loop over httpx, and the memory for a long one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from loopai import LoopaiClient

from .measuring import Goal, Row, group
from .peer import TASK_ID, running

CHUNK = 100
IN_FLIGHT = 4
BY_HAND = "a hand-written loop over httpx, no journal"


def written(path: Path, rows: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps({"id": f"mail-{number}", "subject": "You have won", "body": "Claim it today"}) + "\n")
    return path


# Both read the same file, send CHUNK rows per request with IN_FLIGHT concurrent requests, and write a line per row.


async def by_hand(base_url: str, source: Path, target: Path) -> None:
    def body(lines: list[dict[str, Any]]) -> dict[str, Any]:
        items = [{"id": line["id"], "input": line} for line in lines]
        return {"task_id": TASK_ID, "max_concurrency": 10, "items": items}

    limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=60) as client:
        with source.open(encoding="utf-8") as rows, target.open("w", encoding="utf-8") as output:

            async def worker() -> None:
                while True:
                    lines = [json.loads(line) for line in islice(rows, CHUNK)]
                    if not lines:
                        return
                    response = await client.post("/api/v1/batch/execute", json=body(lines))
                    response.raise_for_status()
                    results = {result["id"]: result for result in response.json()["results"]}
                    for line in lines:
                        result = results[line["id"]]
                        line["loopai_status"] = "ok" if result["success"] else "error"
                        line["loopai_output"] = result.get("output")
                        line["loopai_error"] = result.get("error_message")
                        line["loopai_latency_ms"] = result["latency_ms"]
                        output.write(json.dumps(line) + "\n")

            await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


async def by_run(base_url: str, source: Path, target: Path, key: str | None = None) -> None:
    async with LoopaiClient(base_url, transport="httpx") as client:
        await client.run_batch(
            TASK_ID, source, target, key=key, chunk_size=CHUNK, max_in_flight=IN_FLIGHT, mode="overwrite"
        )


async def by_run_with_key(base_url: str, source: Path, target: Path) -> None:
    await by_run(base_url, source, target, "id")


async def by_stream(base_url: str, source: Path, target: Path) -> None:
    journal = target.with_suffix(".journal")
    journal.unlink(missing_ok=True)
    async with LoopaiClient(base_url, transport="httpx") as client:
        with target.open("w", encoding="utf-8") as output:
            async for outcome in client.batch_stream(
                TASK_ID, source, chunk_size=CHUNK, max_in_flight=IN_FLIGHT, journal=journal
            ):
                columns = outcome.row.columns or {}
                ended = {"loopai_status": outcome.status, "loopai_output": outcome.output}
                told = {"loopai_error": outcome.error, "loopai_latency_ms": outcome.latency_ms}
                output.write(json.dumps({**columns, **ended, **told}) + "\n")


Way = Callable[[str, Path, Path], Any]


def cpu_a_row(way: Way, base_url: str, source: Path, rows: int) -> float:
    target = source.with_name(f"{way.__name__}.jsonl")
    started = time.process_time()
    asyncio.run(way(base_url, source, target))
    spent = time.process_time() - started
    with target.open("rb") as file:
        ended = sum(1 for _ in file)
    assert ended == rows, f"{ended} of {rows} rows were written"
    return spent / rows * 1e6


def peak_of_this_process() -> float:
    # Not ru_maxrss: that starts from the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def peak_megabytes(base_url: str, source: Path) -> float:
    """The peak memory of a separate process that ran these rows with checked keys."""
    command = [sys.executable, "-m", __name__, base_url, str(source)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@group("batches")
def batches(quick: bool) -> Iterator[list[Row]]:
    rows, many, few = (4_000, 20_000, 1_000) if quick else (200_000, 1_000_000, 50_000)
    with running() as base_url, tempfile.TemporaryDirectory() as folder:
        source = written(Path(folder, "rows.jsonl"), rows)
        long, short = written(Path(folder, "many.jsonl"), many), written(Path(folder, "few.jsonl"), few)

        def cpu(way: Way) -> Callable[[], float]:
            return lambda: cpu_a_row(way, base_url, source, rows)

        def row(what: str, way: Way, goal: Goal) -> Row:
            return Row(f"{what}, {rows:,} rows, JSONL to JSONL", cpu(way), BY_HAND, cpu(by_hand), "µs CPU", goal)

        yield [
            row("batch_stream with journal", by_stream, Goal(1.5)),
            row("run_batch with journal", by_run, Goal(1.5)),
            row("run_batch with journal and checked keys", by_run_with_key, Goal(1.5)),
            Row(
                f"peak memory of {many:,} rows",
                lambda: peak_megabytes(base_url, long),
                f"that of {few:,} rows",
                lambda: peak_megabytes(base_url, short),
                "MB",
                Goal(1.1),
            ),
        ]


if __name__ == "__main__":
    at, rows_of = sys.argv[1], Path(sys.argv[2])
    asyncio.run(by_run_with_key(at, rows_of, rows_of.with_suffix(".output.jsonl")))
    print(peak_of_this_process())
