"""`loopai_batch` as a process that is killed, interrupted and cancelled, on each database."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .sites import judge, site

pytestmark = pytest.mark.slow

DATABASES = ["sqlite", "postgresql", "mariadb"]
WORDS = (
    "loopai_batch", "spam", "--queryset", "inbox.Mail", "--map", "subject=subject", "--save-to", "score",
    "--chunk-size", "20", "--progress", "none",
)  # fmt: skip


def rows_sent(server: Any) -> int:
    return sum(len(json.loads(asked.body)["items"]) for asked in server.asked if asked.method == "POST")


def killed_after(server: Any, requests: int, process: subprocess.Popen[str], number: int = signal.SIGKILL) -> str:
    """Ends the process once the server has had so many requests more; gives what it had said."""
    seen = len(server.asked)
    server.wait_until(lambda: len(server.asked) >= seen + requests or process.poll() is not None, 60)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return said


@pytest.mark.parametrize(
    "kind",
    ["sqlite", "postgresql", "mariadb"],
)
def test_killed_at_any_moment_and_resumed_each_row_is_right_once(
    kind: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """kill -9 after random numbers of requests, then `--resume`: every row its own result, counted once, none sent
    twice but those under way, or answered and not yet written, at a kill."""
    server = make_server(judge)
    chance = random.Random(kind)
    rows, kills = 2_000, 3
    with site(kind, tmp_path, server.url) as made:
        made.fill(rows)
        killed = 0
        words = WORDS
        for _ in range(kills):
            process = made.start(*words)
            killed_after(server, chance.randint(5, 25), process)
            killed += process.returncode == -signal.SIGKILL
            words = (*WORDS, "--resume")
        assert killed == kills
        said = made.manage(*words)
        assert "from before" in said, said
        made.assert_right(rows)
        assert rows <= rows_sent(server) <= rows + kills * (4 + 4) * 20


def test_a_signal_ends_a_run_in_order_and_it_can_be_gone_on_with(
    make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """SIGTERM: what is under way is written, exit code 143; the same command is refused, `--resume` finishes."""
    server = make_server(judge)
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(1_500)
        process = made.start(*WORDS)
        said = killed_after(server, 10, process, signal.SIGTERM)
        assert process.returncode == 143, said
        assert "--resume" in said
        state, done = made.python("run = BatchRun.objects.get(); result = [run.state, run.ok]")
        assert state == "interrupted"
        assert 0 < done < 1_500
        assert done == rows_sent(server)
        assert "--resume" in made.manage(*WORDS, code=2)
        made.manage(*WORDS, "--resume")
        made.assert_right(1_500)
        assert rows_sent(server) == 1_500


def test_a_second_runner_is_kept_out_while_the_first_lives(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """The same command beside a running one: refused at the first's next sign of life; nothing is sent twice."""

    async def slowly(asked: Any, wire: Any) -> None:
        if asked.method == "POST":
            time.sleep(0.03)  # noqa: ASYNC251  # the server's whole thread is slow
        await judge(asked, wire)

    server = make_server(slowly)
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(6_000)
        process = made.start(*WORDS)
        seen = len(server.asked)
        server.wait_until(lambda: len(server.asked) >= seen + 5, 60)
        assert "is in progress" in made.manage(*WORDS, "--resume", code=2)
        process.communicate(timeout=120)
        assert process.returncode == 0
        made.assert_right(6_000)
        assert rows_sent(server) == 6_000


def test_a_run_is_cancelled_from_outside(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """What the admin's Cancel does reaches the process with its next heartbeat: exit code 143, state cancelled."""
    server = make_server()

    async def hold(asked: Any, wire: Any) -> None:
        if asked.method == "POST" and len(server.asked) > 4:
            await wire.answer(b"{}", "503 Service Unavailable", retry_after="1")
            return
        await judge(asked, wire)

    server.behaviour = hold
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(500)
        process = made.start(*WORDS, "--grace", "1")
        server.wait_until(lambda: len(server.asked) > 4, 60)
        assert made.python("result = BatchRun.objects.get().request_cancel()") is True
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 143, said
        assert made.python("result = BatchRun.objects.get().state") == "cancelled"
        server.behaviour = judge
        made.manage(*WORDS, "--resume")
        made.assert_right(500)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_run_on_each_database(kind: str, make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Each row its own result, counted once; small, so that each database is always tried."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.fill(300)
        made.manage(*WORDS)
        made.assert_right(300)
