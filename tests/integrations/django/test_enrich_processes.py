"""`enrich` in many processes: nothing is lost, refused or doubled, whoever is killed. On each database."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .sites import Site, judge, site
from .test_batch_kills import rows_sent

KINDS = ["sqlite", "postgresql", "mariadb"]
pytestmark = pytest.mark.slow
PROCESSES, SAVES, ROWS = 20, 20, 15

SAVER = f"""
import django, random, sys; django.setup()
from django.core.management import call_command
from django.db import connection, transaction
from inbox.models import Mail
chance = random.Random(int(sys.argv[1]))
for turn in range({SAVES}):
    mail = Mail.objects.get(subject__isnull=False, pk=chance.randint(1, {ROWS}))
    mail.subject = f"mail {{chance.randint(1, 10_000)}}"
    if connection.vendor == "sqlite" or chance.random() < 0.5:
        mail.save()
    else:
        with transaction.atomic():
            mail.save()
    if turn % 7 == 0:
        call_command("loopai_batch", "--pending")
"""

PENDING = "from loopai.contrib.django.models import PendingRow\n"


def wrong(made: Site) -> list[Any]:
    """The rows whose result is not that of their subject, and the entries that are left."""
    found: list[Any] = made.python(
        f"{PENDING}rows = Mail.objects.values_list('subject', 'score')\n"
        "result = [[subject, score] for subject, score in rows if subject != f'mail {score}']"
        " + list(PendingRow.objects.values_list('key', 'state', 'message'))"
    )
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["inline", None])
def test_twenty_processes_save_and_carry_out_at_once(
    kind: str, engine: Any, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """No save fails, and once nothing is left each row has the result of what was saved last."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.fill(ROWS)
        made.environ["MAILSITE_ENRICH"] = json.dumps({"when": "always", "engine": engine})
        savers = [
            subprocess.Popen(
                [sys.executable, "-c", SAVER, str(number)], cwd=made.folder, env=made.environ, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for number in range(PROCESSES)
        ]  # fmt: skip
        said = [saver.communicate(timeout=240)[0] for saver in savers]
        assert [saver.returncode for saver in savers] == [0] * PROCESSES, "\n".join(said)
        assert not any("without its entry" in text or "Traceback" in text for text in said), "\n".join(said)
        made.python(
            f"{PENDING}from django.utils import timezone\nPendingRow.objects.update(due_at=timezone.now())\nresult = 0"
        )
        made.manage("loopai_batch", "--pending")
        assert wrong(made) == []
        assert rows_sent(server) <= 2 * PROCESSES * SAVES


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_is_killed_leaves_its_entries(kind: str, make_server: Callable[..., Any], tmp_path: Path) -> None:
    """`--watch` carries out what comes; kill -9 in a request: another takes the entries up once the lease is out, and
    SIGTERM ends it in order."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.environ["MAILSITE_ENRICH"] = json.dumps({"engine": None})
        made.fill(300)
        added = made.python("from loopai.contrib.django import enqueue\nresult = enqueue(Mail.objects.all(), 'scores')")
        assert added == 300
        worker = made.start("loopai_batch", "--pending", "--watch")
        server.wait_until(lambda: sum(asked.method == "POST" for asked in server.asked) >= 1, 60)
        worker.send_signal(signal.SIGKILL)
        worker.communicate(timeout=60)
        made.python(
            f"{PENDING}PendingRow.objects.exclude(owner='').update(lease_until='2020-01-01T00:00Z')\nresult = 0"
        )
        worker = made.start("loopai_batch", "--pending", "scores", "--watch")
        try:
            done = (
                f"{PENDING}import time\nuntil = time.monotonic() + 60\n"
                "while PendingRow.objects.exists():\n    assert time.monotonic() < until\n    time.sleep(0.1)\n"
                "result = 0"
            )
            made.python(done)
            made.python(f"Mail.objects.create(subject='mail 7')\n{done}")
        finally:
            worker.send_signal(signal.SIGTERM)
            said, _ = worker.communicate(timeout=60)
        assert worker.returncode == 143, said
        assert wrong(made) == []
        assert 301 <= rows_sent(server) <= 301 + 100
