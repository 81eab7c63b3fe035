"""`loopai_batch --engine celery` with real brokers, real workers and a real database; workers are killed meanwhile."""

from __future__ import annotations

import asyncio
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .brokers import BROKERS, queued, rows_sent
from .sites import judge, site

pytestmark = pytest.mark.slow

WORDS = (
    "loopai_batch", "spam", "--queryset", "inbox.Mail", "--map", "subject=subject", "--save-to", "score",
    "--engine", "celery", "--progress", "none",
)  # fmt: skip


@pytest.mark.parametrize("broker", list(BROKERS))
def test_workers_killed_at_random_lose_and_double_nothing(
    broker: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """100,000 rows, four workers, kill -9 of one every other second: each row its own result, counted once."""
    server = make_server(judge)
    rows, chance = 100_000, random.Random(broker)
    with queued(broker, "postgresql", tmp_path, server.url) as (made, workers):
        made.fill(rows)
        workers.start(4)
        process = made.start(*WORDS)
        killed = 0
        while process.poll() is None:
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                if server.asked and killed < 12:
                    workers.kill_one(chance)
                    killed += 1
        said, _ = process.communicate()
        assert process.returncode == 0, f"{said}\n{workers.log.read_text()[-3000:]}"
        assert killed >= 3
        made.assert_right(rows)
        assert rows_sent(server) < rows * 1.1


@pytest.mark.parametrize("broker", list(BROKERS))
def test_a_run_in_workers(broker: str, make_server: Callable[..., Any], tmp_path: Path) -> None:
    """1,000 rows over two workers, small enough to be tried always: right, and told by the command."""
    server = make_server(judge)
    with queued(broker, "postgresql", tmp_path, server.url) as (made, workers):
        made.fill(1_000)
        workers.start(2)
        said = made.manage(*WORDS)
        assert "1,000 ok, 0 errors" in said
        made.assert_right(1_000)
        assert rows_sent(server) == 1_000


def test_a_server_that_rations_sets_the_countdown(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """429 with Retry-After: the part comes again after that time and no sooner, from the queue, and nothing is lost."""
    server = make_server()
    refused: list[float] = []
    answered: list[float] = []

    async def ration(asked: Any, wire: Any) -> None:
        if asked.method == "POST" and not refused:
            refused.append(time.monotonic())
            await wire.answer(b"{}", "429 Too Many Requests", retry_after="3")
            return
        if asked.method == "POST":
            answered.append(time.monotonic())
        await judge(asked, wire)

    server.behaviour = ration
    with queued("redis", "postgresql", tmp_path, server.url) as (made, workers):
        made.fill(50)
        workers.start(1)
        made.manage(*WORDS)
        made.assert_right(50)
        assert len(refused) == len(answered) == 1
        assert answered[0] - refused[0] >= 3


def test_a_run_is_cancelled_resumed_and_its_failed_rows_repeated(
    make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """What the admin asks reaches the workers: cancel stops them after the chunks under way, resume and retry failed
    rows start them again without a command."""
    server = make_server()
    bad = True
    cancelled = threading.Event()

    async def slowly(asked: Any, wire: Any) -> None:
        if asked.method == "POST":
            # However long the request to cancel takes, the run is not over before.
            if len(server.asked) > 20:
                await asyncio.to_thread(cancelled.wait, 60)
            if bad:
                asked.body = asked.body.replace(b'"mail 150"', b'"mail 99999999999999"')
        await judge(asked, wire)

    server.behaviour = slowly
    words = (*WORDS, "--chunk-size", "20")
    with queued("redis", "postgresql", tmp_path, server.url) as (made, workers):
        made.fill(2_000)
        workers.start(2)
        process = made.start(*words)
        server.wait_until(lambda: len(server.asked) > 20, 60)
        assert made.python("result = BatchRun.objects.get().request_cancel()") is True
        cancelled.set()
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 143, said
        state, done = made.python("run = BatchRun.objects.get(); result = [run.state, run.done]")
        assert state == "cancelled"
        assert 0 < done < 2_000

        assert made.python("result = BatchRun.objects.get().request_resume()") is True
        ended = made.ended()
        assert (ended["state"], ended["ok"], ended["errors"]) == ("finished", 1_999, 1)

        bad = False
        assert made.python("result = BatchRun.objects.get().request_retry()") is True
        made.ended()
        made.assert_right(2_000)


def test_start_batch_from_code(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """A view or a shell starts a run and goes on; the run's row in the database tells how it goes."""
    server = make_server(judge)
    with queued("rabbitmq", "postgresql", tmp_path, server.url) as (made, workers):
        made.fill(500)
        workers.start(1)
        script = (
            "from loopai.contrib.celery import start_batch\n"
            "run = start_batch('spam', 'inbox.Mail', save_to=['score'], mapping=['subject=subject'])\n"
            "result = [run.state, run.total]"
        )
        assert made.python(script) == ["running", 500]
        made.ended()
        made.assert_right(500)


def test_without_a_broker_the_command_says_so(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Exit code 2, the address's fault named, and the run can be resumed inline."""
    server = make_server(judge)
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(10)
        made.environ.update(MAILSITE_BROKER="redis://127.0.0.1:1/0", MAILSITE_QUEUE_NAME="none")
        said = made.manage(*WORDS, code=2)
        assert "broker cannot be reached" in said
        made.manage(*WORDS[:-4], "--progress", "none", "--resume")
        made.assert_right(10)


def test_a_run_is_watched_on_while_the_broker_is_away(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """What is left is not published then, and the next look is as ever."""
    server = make_server(judge)
    with site("sqlite", tmp_path, server.url) as made:
        made.environ.update(MAILSITE_BROKER="redis://127.0.0.1:1/0", MAILSITE_QUEUE_NAME="none")
        script = (
            "from loopai.contrib.celery.tasks import look_after\n"
            "run = BatchRun.objects.create(task='spam', source='inbox.Mail', state='running', owner='celery workers')\n"
            "part = run.parts.create(run=run, upto='9')\n"
            "look_after(run, run.done)\n"
            "run.refresh_from_db()\n"
            "result = [run.state, run.parts.count()]"
        )
        assert made.python(script) == ["running", 1]
