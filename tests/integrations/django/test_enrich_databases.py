"""`enrich` with several databases: an entry is in its row's own, whatever a router reads from. On each kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .sites import copy_of, judge, site

KINDS = ["sqlite", "postgresql", "mariadb"]
pytestmark = pytest.mark.slow
SCRIPT = """
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from loopai.contrib.django import enqueue
from loopai.contrib.django.models import PendingRow

def all_rows():
    return [
        [list(Mail.objects.using(name).order_by("pk").values_list("subject", "score")),
         list(PendingRow.objects.using(name).values_list("state", "revision"))]
        for name in ("default", "other")
    ]
"""


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_another_database(kind: str, make_server: Callable[..., Any], tmp_path: Path) -> None:
    """A router keeps the model elsewhere: saves, rollbacks, `enqueue` and the command stay in that database."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.environ["MAILSITE_OTHER"] = copy_of(made, tmp_path)
        made.environ["MAILSITE_ROUTER"] = "mailsite.routers.MailElsewhere"
        made.environ["MAILSITE_ENRICH"] = json.dumps({"engine": "inline", "within": 60})
        found = made.python(
            f"{SCRIPT}\n"
            "mail = Mail.objects.create(subject='mail 7')\n"
            "with transaction.atomic(using='other'):\n"
            "    Mail.objects.create(subject='mail 8')\n"
            "    transaction.set_rollback(True, using='other')\n"
            "with transaction.atomic():\n"  # of the other one: nothing of it is rolled back with it
            "    Mail.objects.create(subject='mail 9')\n"
            "    transaction.set_rollback(True)\n"
            "Mail(subject='mail 3').save(using='default')\n"
            "result = [mail.score, all_rows()]"
        )
        others = [["mail 7", 7], ["mail 9", 9]]
        assert found == [7, [[[["mail 3", 3]], []], [others, []]]]
        assert made.python(
            f"{SCRIPT}\n"
            "Mail.objects.bulk_create([Mail(subject='mail 5')])\n"
            "number = enqueue(Mail.objects.all(), 'scores')\n"
            "call_command('loopai_batch', '--pending')\n"
            "waiting = all_rows()[1][1]\n"
            "call_command('loopai_batch', '--pending', '--database', 'other')\n"
            "result = [number, waiting, all_rows()[1]]"
        ) == [1, [["pending", 1]], [[*others, ["mail 5", 5]], []]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_admins_action_takes_the_database_of_its_rows(
    kind: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """An admin's `get_queryset` may say `.using()`, whatever the router writes to."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.environ["MAILSITE_OTHER"] = copy_of(made, tmp_path)
        made.environ["MAILSITE_ENRICH"] = json.dumps({"engine": "inline", "within": 60})
        assert made.python(
            f"{SCRIPT}\n"
            "from unittest.mock import Mock\n"
            "from loopai.contrib.django import enrich_action\n"
            "for name in ('default', 'other'):\n"
            "    Mail.objects.using(name).bulk_create([Mail(subject='mail 5')])\n"
            "enrich_action('scores')(Mock(), Mock(), Mail.objects.using('other'))\n"
            "result = all_rows()"
        ) == [[[["mail 5", None]], []], [[["mail 5", 5]], []]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_replica_is_not_asked(kind: str, make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Behind Django's primary and replica router, with a replica that lags behind for ever."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.environ["MAILSITE_REPLICA"] = copy_of(made, tmp_path)
        made.environ["MAILSITE_ENRICH"] = json.dumps({"engine": "inline", "within": 60})
        assert made.python(
            f"{SCRIPT}\n"
            "mail = Mail.objects.create(subject='mail 7')\n"
            "with transaction.atomic():\n"
            "    Mail.objects.create(subject='mail 8')\n"
            "Mail.objects.bulk_create([Mail(subject='mail 9')])\n"
            "enqueue(Mail.objects.using('default').filter(score=None), 'scores')\n"
            "call_command('loopai_batch', '--pending')\n"
            "mails = Mail.objects.using('default').order_by('pk').values_list('score', flat=True)\n"
            "result = [mail.score, list(mails), PendingRow.objects.using('default').count(), Mail.objects.count()]"
        ) == [7, [7, 8, 9], 0, 0]
