"""A file through real workers over real brokers: killed, cancelled, resumed, its failed rows repeated."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .brokers import BROKERS, queued, rows_sent
from .sites import Site, judge

EVERYWHERE = ("--map", "subject=subject", "--id-field", "id", "--engine", "celery", "--progress", "none")


def mails(folder: Path, number: int) -> tuple[str, ...]:
    """A file of so many mails, and the command over it."""
    with (folder / "mails.csv").open("w") as file:
        file.write("id,subject,score\n")
        file.writelines(f'm{n},mail {n},"{n}"\n' for n in range(number))
    return (
        "loopai_batch", "spam", str(folder / "mails.csv"), "--output", str(folder / "out.jsonl"),
        "--expect", "score", *EVERYWHERE,
    )  # fmt: skip


def assert_right(made: Site, folder: Path, rows: int) -> None:
    """Each row once, in its place and with its own result; counted once; no file beside."""
    with (folder / "out.jsonl").open() as file:
        for n in range(rows):
            row = json.loads(next(file))
            assert (row["id"], row["loopai_status"], row["loopai_output"]) == (f"m{n}", "ok", {"score": n})
        assert next(file, None) is None
    assert not (folder / "out.jsonl.parts").exists()
    assert made.python(
        "run = BatchRun.objects.order_by('-pk')[0]\n"
        "result = [run.state, run.ok, run.errors, run.skipped, run.parts.count(), run.segments.count(), run.error]"
    ) == ["finished", rows, 0, 0, 0, 0, ""]


@pytest.mark.parametrize(("broker", "kind"), [("redis", "postgresql"), ("rabbitmq", "mariadb")])
def test_a_file_in_workers(broker: str, kind: str, make_server: Callable[..., Any], tmp_path: Path) -> None:
    """1,000 rows over two workers: the output is whole and in order, the summary has what all of them found."""
    server = make_server(judge)
    words = mails(tmp_path, 1_000)
    with queued(broker, kind, tmp_path, server.url) as (made, workers):
        workers.start(2)
        said = made.manage(*words, "--report", str(tmp_path / "page.html"))
        assert "1,000 ok, 0 errors" in said
        assert "over 1,000 rows" in said
        assert "Latency at the server" in said
        assert_right(made, tmp_path, 1_000)
        assert rows_sent(server) == 1_000
        assert "over 1,000 rows" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("broker", list(BROKERS))
def test_workers_over_a_file_killed_at_random_lose_and_double_nothing(
    broker: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """30,000 rows, three workers, kill -9 of the command first, then of workers: the output has each row once, in
    order, though nobody asked for more."""
    server = make_server(judge)
    chance, rows = random.Random(broker), 30_000
    words = mails(tmp_path, rows)
    with queued(broker, "postgresql", tmp_path, server.url) as (made, workers):
        workers.start(3)
        process = made.start(*words)
        server.wait_until(lambda: len(server.asked) > 20, 60)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        for _ in range(6):
            seen = len(server.asked)
            server.wait_until(lambda seen=seen: len(server.asked) > seen + 30, 100)
            workers.kill_one(chance)
        assert made.ended()["state"] == "finished"
        assert_right(made, tmp_path, rows)
        assert rows_sent(server) < rows * 1.2


@pytest.mark.slow
def test_a_run_over_a_file_is_cancelled_resumed_and_its_failed_rows_repeated(
    make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """What the admin asks reaches the workers; no output stands there before all rows have ended."""
    server = make_server()
    bad = True

    async def slowly(asked: Any, wire: Any) -> None:
        if asked.method == "POST":
            await asyncio.sleep(0.05)
            if bad and b'"m150"' in asked.body:
                items = json.loads(asked.body)["items"]
                results = [
                    {"id": item["id"], "success": False, "error_message": "bad mail"} for item in items
                ]  # fmt: skip
                await wire.answer(json.dumps({"results": results}).encode())
                return
        await judge(asked, wire)

    server.behaviour = slowly
    words = (*mails(tmp_path, 2_000), "--chunk-size", "20")
    with queued("redis", "postgresql", tmp_path, server.url) as (made, workers):
        workers.start(2)
        process = made.start(*words)
        server.wait_until(lambda: len(server.asked) > 20, 60)
        assert made.python("result = BatchRun.objects.get().request_cancel()") is True
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 143, said
        assert not (tmp_path / "out.jsonl").exists()

        assert made.python("result = BatchRun.objects.get().request_resume()") is True
        ended = made.ended()
        assert (ended["state"], ended["ok"], ended["errors"]) == ("finished", 1_980, 20)

        bad = False
        assert made.python("result = BatchRun.objects.get().request_retry()") is True
        made.ended()
        assert_right(made, tmp_path, 2_000)
