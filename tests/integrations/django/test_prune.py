"""`loopai_prune`: what is deleted, and what never is."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from loopai.contrib.django import pruning
from loopai.contrib.django.models import BatchFailure, BatchRun, HandledEvent, PendingRow

pytestmark = pytest.mark.django_db(transaction=True)

STATES = [str(state) for state in BatchRun.State.values]


def prune(*words: str) -> dict[str, int]:
    said = io.StringIO()
    call_command("loopai_prune", *words, "--json", stdout=said)
    found: dict[str, int] = json.loads(said.getvalue())["deleted"]
    return found


def runs(days: float) -> None:
    then = timezone.now() - timedelta(days=days)
    for state in STATES:
        run = BatchRun.objects.create(task="spam", source="x", fingerprint="f", state=state, finished_at=then)
        BatchRun.objects.filter(pk=run.pk).update(created_at=then)
        BatchFailure.objects.bulk_create([
            BatchFailure(run=run, digest=str(number), key=str(number), code="program") for number in range(5)
        ])  # fmt: skip


def test_old_runs_go_with_their_failed_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished and cancelled ones; stopped and interrupted ones where that is asked; pending and running ones never."""
    monkeypatch.setattr(pruning, "AT_ONCE", 2)
    runs(40)
    runs(20)
    assert prune("--older-than", "30d", "--dry-run")["batch runs"] == 2
    assert BatchRun.objects.count() == 12
    assert prune("--older-than", "30d")["batch runs"] == 2
    assert BatchFailure.objects.count() == 50
    assert prune("--older-than", "30d", "--unfinished")["batch runs"] == 2
    assert prune("--older-than", "0s", "--unfinished")["batch runs"] == 4
    assert sorted(BatchRun.objects.values_list("state", flat=True)) == ["pending", "pending", "running", "running"]


def test_failed_pending_rows_go() -> None:
    """Those that are to be run stay."""
    old = timezone.now() - timedelta(days=40)
    for name, state, due in (("a", "failed", old), ("b", "failed", timezone.now()), ("c", "pending", old)):
        PendingRow.objects.create(id=name, declaration="d", key=name, state=state, due_at=due, created_at=due)
    assert prune("--older-than", "30d")["failed pending rows"] == 1
    assert sorted(PendingRow.objects.values_list("pk", flat=True)) == ["b", "c"]


@pytest.mark.parametrize(("tolerance", "left"), [(3600, 2), (600, 1), (None, 3)])
def test_events_are_kept_while_they_may_be_repeated(tolerance: Any, left: int) -> None:
    """For twice the tolerance, whatever is asked; for ever where there is none."""
    for hours in (0, 1, 3):
        event = HandledEvent.objects.create(event_id=uuid4(), event_type="x", alias="default", sent_at=timezone.now())
        HandledEvent.objects.filter(pk=event.pk).update(received_at=timezone.now() - timedelta(hours=hours))
    with override_settings(LOOPAI={"default": {"BASE_URL": "https://x.test", "WEBHOOK_TOLERANCE": tolerance}}):
        prune("--older-than", "1s")
    assert HandledEvent.objects.count() == left


@pytest.mark.parametrize("age", ["30", "d", "1.5d", "1w"])
def test_what_is_no_age_is_refused(age: str) -> None:
    """With exit code 2."""
    with pytest.raises(CommandError, match="--older-than must be") as refused:
        prune("--older-than", age)
    assert refused.value.returncode == 2


def test_an_age_before_all_dates_is_refused() -> None:
    """In words."""
    with pytest.raises(CommandError, match="beyond the year 1") as refused:
        prune("--older-than", "999999d")
    assert refused.value.returncode == 2
