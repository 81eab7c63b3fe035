"""Runs behind a router of several databases, and over a database that fails for a moment, on each kind of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .sites import Site, copy_of, judge, site

pytestmark = pytest.mark.slow

KINDS = ["sqlite", "postgresql", "mariadb"]
WORDS = (
    "loopai_batch", "spam", "--queryset", "inbox.Mail", "--map", "subject=subject", "--save-to", "score",
    "--chunk-size", "20", "--progress", "none",
)  # fmt: skip


def behind_a_router(made: Site, replica: str, folder: Path) -> None:
    """Reads go to a replica from now on: the database itself, which refuses writes, or a copy that lags behind."""
    name = made.name if replica == "read-only" else copy_of(made, folder)
    made.environ["MAILSITE_REPLICA"] = name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replica", ["read-only", "lags"])
def test_everything_about_a_run_is_in_its_own_database(
    kind: str, replica: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """Behind Django's primary and replica router: rows, checkpoint, heartbeat and end go where the run is, whether
    the replica refuses writes or, writable by mistake, lacks the run."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.fill(300)
        behind_a_router(made, replica, tmp_path)
        assert "300 ok" in made.manage(*WORDS)
        assert made.python(
            "run = BatchRun.objects.using('default').get()\n"
            "mine = sum(mail.subject == f'mail {mail.score}' for mail in Mail.objects.using('default'))\n"
            "theirs = Mail.objects.using('replica').exclude(score=None).count()\n"
            "result = [mine, theirs, run.state, run.ok, run.errors]"
        ) == [300, 300 if replica == "read-only" else 0, "finished", 300, 0]


@pytest.mark.parametrize("replica", ["read-only", "lags"])
def test_what_people_ask_reaches_the_run_s_database(
    replica: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """A beat, a cancellation, a request to resume, and the admin's pages and buttons, behind the router."""
    server = make_server(judge)
    with site("sqlite", tmp_path, server.url) as made:
        behind_a_router(made, replica, tmp_path)
        assert made.python(
            "from datetime import timedelta\n"
            "from django.contrib.auth.models import User\n"
            "from django.test import Client\n"
            "from django.utils import timezone\n"
            "now = timezone.now()\n"
            "run = BatchRun(task='spam', source='inbox.Mail', total=9)\n"
            "run.save(using='default')\n"
            "result = [run.acquire('me', now, 30), run.beat('me', now + timedelta(seconds=6), 30)]\n"
            "run.refresh_from_db()\n"
            "result += [run.database, run.request_cancel(now), run.beat('me', now, 30), run.cancel_requested]\n"
            "result += [run.end('me', 'cancelled', now), run.request_resume(now), run.database]\n"
        ) == [True, True, "default", True, True, True, True, True, "default"]


def test_keys_of_other_rows_are_looked_for_in_the_run_s_database(
    make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """A category that the replica does not have yet is a category; one that only the replica has is none."""

    async def categorise(asked: Any, wire: Any) -> None:
        asked.body = asked.body.replace(b"mail", b"")
        await judge(asked, wire)

    server = make_server(categorise)
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(3)
        behind_a_router(made, "lags", tmp_path)
        made.python(
            "Category.objects.using('default').create(pk=1, name='new')\n"
            "Category.objects.using('replica').create(pk=2, name='elsewhere')\nresult = 0"
        )
        words = [*WORDS[:6], "--save-to", "category=output.score", *WORDS[8:]]
        said = made.manage(*words, code=1)
        assert "1 ok, 2 errors" in said
        found = "result = sorted((mail.subject, mail.category_id) for mail in Mail.objects.using('default'))"
        assert made.python(found) == [["mail 0", None], ["mail 1", 1], ["mail 2", None]]


def test_resume_refuses_another_database(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """It would start at the first row; and a finished run of one database is none of another's."""
    server = make_server(judge)
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(10)
        made.environ["MAILSITE_OTHER"] = copy_of(made, tmp_path)
        made.manage(*WORDS)
        said = made.manage(*WORDS, "--database", "other", "--resume", code=2)
        assert "its --database is default, this command's other" in said
        assert "10 ok" in made.manage(*WORDS, "--database", "other")
        made.environ["MAILSITE_OTHER"] = made.name
        made.python("from django.db import connection\nconnection.cursor().execute('select 1')\nresult = 0")
        assert "its --database is default" in made.manage(*WORDS, "--database", "other", "--resume", code=2)


def test_a_checkout_without_migrations_is_told_to_migrate(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Exit code 2, no traceback."""
    server = make_server(judge)
    with site("sqlite", tmp_path, server.url) as made:
        made.manage("migrate", "loopai", "zero", "--verbosity", "0")
        said = made.manage(*WORDS, code=2)
        assert "manage.py migrate" in said
        assert "Traceback" not in said
