"""`loopai_batch`, in one process and by Celery, against a stand-in for the published server."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.test import override_settings
from inbox.models import Mail

from loopai.contrib.celery import run_part, start_batch, watch_run
from loopai.contrib.celery.tasks import ALONE_SECONDS, _carry_out
from loopai.contrib.django.models import BatchPart, BatchRun

from ..standin import TASK, URL, StandIn
from .brokers import queued

INLINE = ("--engine", "inline")
CELERY = ("--engine", "celery")
WORDS = ("--queryset", "inbox.Mail", "--map", "n=subject", "--save-to", "facts=output", "--progress", "none")


@pytest.fixture(autouse=True)
def workers() -> Iterator[None]:
    """What is sent to workers is done by the sender, at once."""
    before = {name: getattr(current_app.conf, name) for name in ("task_always_eager", "task_eager_propagates")}
    current_app.conf.update(dict.fromkeys(before, True))
    yield
    current_app.conf.update(before)


@pytest.fixture
def on() -> Iterator[Callable[[StandIn], None]]:
    """Has the site's client ask a stand-in."""
    settings: list[Any] = []

    def use(server: StandIn) -> None:
        options = {"BASE_URL": URL, "TRANSPORT": server, "TASKS": {"spam": TASK}}
        settings.append(override_settings(LOOPAI={"default": options}))
        settings[-1].enable()

    yield use
    for each in settings:
        each.disable()


def mails(number: int) -> None:
    Mail.objects.bulk_create(Mail(subject=f"mail {turn}") for turn in range(number))


def batch(*words: str, code: int = 0) -> str:
    said, found = io.StringIO(), 0
    try:
        call_command("loopai_batch", "spam", *WORDS, *words, stdout=said, stderr=said)
    except SystemExit as end:
        found = int(end.code or 0)
    except CommandError as error:
        found = error.returncode
    assert found == code, said.getvalue()
    return said.getvalue()


def assert_right(number: int) -> None:
    found = list(Mail.objects.values_list("subject", "facts"))
    assert len(found) == number
    assert [facts for subject, facts in found if facts != {"of": {"n": subject}}] == []
    run = BatchRun.objects.get()
    assert (run.state, run.ok, run.errors, run.skipped, run.parts.count()) == ("finished", number, 0, 0, 0)


def sizes(server: StandIn) -> list[int]:
    return [len(json.loads(request.content)["items"]) for request in server.posts]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("engine", [INLINE, CELERY])
def test_a_thousand_rows_are_all_right(on: Callable[[StandIn], None], engine: tuple[str, ...]) -> None:
    """In at most 25 requests; nothing goes out twice that was not under way when the first row was not run."""
    server = StandIn()
    on(server)
    mails(1000)
    assert "1,000 ok, 0 errors" in batch(*engine)
    assert_right(1000)
    assert len(server.requests) <= 25
    assert max(server.sent_one_at_a_time.values()) == 1
    assert sum(body["max_concurrency"] > 1 for body in server.batches) <= 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("engine", [INLINE, CELERY])
@pytest.mark.parametrize("rows", [1, 2, 50, 350])
def test_one_row_goes_alone_where_there_is_no_program(
    on: Callable[[StandIn], None], engine: tuple[str, ...], rows: int
) -> None:
    """With Celery it is the first part, and the others are handed out after it. One program is made for all."""
    server = StandIn(active=False, fails=0.0, generation=96)
    on(server)
    mails(rows)
    assert f"{rows:,} ok, 0 errors" in batch(*engine)
    assert_right(rows)
    assert sizes(server)[0] == 1
    assert len(sizes(server)) <= 1 + -(-rows // 100) + 1
    assert server.generations[TASK] == 1
    assert server.posts[0].timeout == 135


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("engine", [INLINE, CELERY])
@pytest.mark.parametrize("fault", [{"generates": False}, {"generation": 200}])
def test_a_run_whose_first_row_fails_ends_there(
    on: Callable[[StandIn], None], engine: tuple[str, ...], fault: dict[str, Any]
) -> None:
    """No program can be made, or not in time: nothing else is sent, and `--resume` continues."""
    server = StandIn(active=False, fails=0.0, **fault)
    on(server)
    mails(300)
    batch(*engine, code=4 if "generation" in fault else 2)
    assert sizes(server) == [1]
    server.generates, server.generation = True, 0.0
    batch(*engine, "--resume")
    assert_right(300)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The parts that are handed to workers, of which none runs."""
    parts: list[int] = []
    current_app.conf.update(task_always_eager=False)
    for task in (run_part, watch_run):
        is_part = task is run_part
        monkeypatch.setattr(task, "apply_async", lambda args, is_part=is_part, **_: is_part and parts.append(args[1]))
    return parts


@pytest.mark.django_db(transaction=True)
def test_parts_wait_for_the_first(on: Callable[[StandIn], None], published: list[int]) -> None:
    """The others are handed out once its row has ended; one that is taken all the same is put off, not failed."""
    server = StandIn(active=False, fails=0.0)
    on(server)
    mails(30)
    run = start_batch("spam", "inbox.Mail", save_to=["facts=output"], mapping=["n=subject"], chunk_size=10)
    assert run is not None
    assert _carry_out(run.pk, published.pop(), run.database) is None
    first, rest = BatchPart.objects.all()
    assert published == [first.pk]
    assert _carry_out(run.pk, rest.pk, run.database) == ALONE_SECONDS
    rest.refresh_from_db()
    assert (rest.owner, rest.attempts, rest.error) == ("", 0, "")
    assert not server.posts
    BatchPart.objects.update(lease_until=None)
    assert _carry_out(run.pk, published.pop(), run.database) is None
    assert sizes(server) == [1]
    assert published == [rest.pk]
    while published:
        assert _carry_out(run.pk, published.pop(), run.database) is None
    assert sorted(sizes(server)) == [1, 9, 10, 10]
    assert_right(30)


@pytest.mark.django_db(transaction=True)
def test_a_limiter_that_refuses_every_part_for_ever_ends_the_run(
    on: Callable[[StandIn], None], published: list[int]
) -> None:
    """After its longest window without a reply to any part; what any of them is answered begins it anew."""
    server = StandIn(limit=None, fails=0.0)
    on(server)
    mails(30)
    run = start_batch("spam", "inbox.Mail", save_to=["facts=output"], mapping=["n=subject"], chunk_size=10)
    assert run is not None
    server.limit = 0
    assert _carry_out(run.pk, published.pop(), run.database) is None
    first, second, third = sorted(published)

    def minutes_later(minutes: float) -> None:
        since = BatchRun.objects.get().refused_since
        assert since is not None
        BatchRun.objects.update(refused_since=since - timedelta(minutes=minutes))
        BatchPart.objects.update(lease_until=None)

    assert _carry_out(run.pk, first, run.database) >= 60
    minutes_later(64)
    assert _carry_out(run.pk, second, run.database) >= 60
    server.limit = None
    minutes_later(30)
    assert _carry_out(run.pk, third, run.database) is None
    assert BatchRun.objects.get().refused_since is None
    server.limit = 0
    assert _carry_out(run.pk, first, run.database) >= 60
    minutes_later(66)
    assert _carry_out(run.pk, second, run.database) is None
    run.refresh_from_db()
    assert (run.state, run.ok) == ("stopped", 10)
    assert run.error.startswith("unreachable: the server has refused every request for 65 minutes")
    server.limit = None
    current_app.conf.update(task_always_eager=True)
    resumed = start_batch("spam", "inbox.Mail", save_to=["facts=output"], mapping=["n=subject"], mode="resume")
    assert resumed is not None
    assert BatchRun.objects.get().refused_since is None


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_workers_have_one_program_made(broker: str, tmp_path: Path) -> None:
    """Two processes with a client each: one row alone, then the others, all right and none doubled."""
    server = StandIn(active=False, item_ms=1.0)
    with server.served() as url, queued(broker, "postgresql", tmp_path, url) as (made, workers):
        made.environ["MAILSITE_MAX_RETRIES"] = "3"  # without retries nothing goes out again
        made.fill(1000)
        workers.start(2)
        said = made.manage("loopai_batch", "spam", *WORDS, *CELERY)
        assert "1,000 ok, 0 errors" in said
        wrong = (
            "sum(facts != {'of': {'n': subject}} for subject, facts in Mail.objects.values_list('subject', 'facts'))"
        )
        assert made.python(f"result = {wrong}") == 0
    assert sizes(server)[0] == 1
    assert server.generations[TASK] == 1
    assert len(server.posts) <= 25
    assert max(server.sent_one_at_a_time.values()) == 1
