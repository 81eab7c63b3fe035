"""Watch a run that workers carry out: its progress, and why it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from celery import current_app
from django.utils import timezone

from ...batch.engine.run import FINISHED
from ...batch.engine.scheduler import FATAL, INTERRUPTED, TOO_MANY_ERRORS, UNREACHABLE
from ...batch.engine.stopping import Stop
from ...batch.reporting.snapshot import Snapshot, Watcher
from ...batch.reporting.statistics import Ended, Summary, summary_of
from ...shell.command import SERVER_UNREACHABLE, STOPPED_BY_ERRORS, USAGE
from ..django.batches.database import Database
from ..django.batches.plan import Plan
from ..django.batches.recording import LeaseLost
from ..django.batches.statistics import whole
from ..django.exits import DATABASE_FAILED
from ..django.models import BatchRun
from .partitions import WORKERS, parts_of

LOOK_SECONDS = 0.5

WATCH_SECONDS = 10.0
"""Seconds between checks for parts whose workers died, and until a missing worker is reported."""

UNUSABLE: Final = "unusable"
"""A worker lacks the run's model or alias."""

FAULT: Final = "fault"
"""A part was given up because its worker or the database failed repeatedly."""

CODES: dict[Ended, int] = {
    TOO_MANY_ERRORS: STOPPED_BY_ERRORS,
    UNREACHABLE: SERVER_UNREACHABLE,
    FATAL: USAGE,
    UNUSABLE: USAGE,
    FAULT: DATABASE_FAILED,
}
"""Exit codes by the start of a stopped run's `error`."""

_GOING = (BatchRun.State.PENDING, BatchRun.State.RUNNING)


def follow(
    run: BatchRun,
    plan: Plan,
    watchers: list[Watcher],
    stop: Stop,
    look_after: Callable[[BatchRun, int], None],
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Snapshot, Summary]:
    """Watch a run until it ends; `stop` cancels it.

    `look_after` is called every ten seconds, with the previous number of finished rows; `say` reports that no worker
    is running. Returns the figures for the report, and the summary of the rows that finished during the watch.
    """
    started, database = clock(), Database(run.database)
    # Failed rows that are repeated count as this command's rows.
    before = (run.ok, 0 if run.mode == BatchRun.Mode.RETRY_FAILED else run.errors)

    def under_way() -> int:
        run.refresh_from_db()
        return int(parts_of(run).filter(lease_until__gte=timezone.now()).exclude(owner="").count())

    until, watched_at, watched_done, unheard = float("inf"), started, run.done, run.heartbeat_at
    while True:
        try:
            in_flight = database.attempt(under_way)
        except BatchRun.DoesNotExist:
            raise LeaseLost(f"run {run.pk} was deleted while it was watched here") from None
        now = replace(
            run.snapshot(),
            ok=run.ok - before[0],
            errors=max(0, run.errors - before[1]),
            skipped=before[0] + before[1] + run.skipped,
            seconds=clock() - started,
            in_flight=in_flight,
        )
        for watcher in watchers:
            watcher.update(now)
        if run.state not in _GOING:
            break
        if stop.requested and until == float("inf"):
            run.request_cancel()
            until = clock() + stop.grace
        if clock() > until:
            # No worker is running that could end it.
            run.end(WORKERS, BatchRun.State.CANCELLED, timezone.now())
            continue
        if clock() >= watched_at + WATCH_SECONDS:
            silent = unheard is not None and run.heartbeat_at == unheard
            if silent and not parts_of(run).filter(attempts__gt=0).exists():
                say(_no_worker(run))
            unheard = None
            database.attempt(partial(look_after, run, watched_done))
            watched_at, watched_done = clock(), run.done
        sleep(LOOK_SECONDS)
    figures = whole(run, plan)
    figures.started, figures.earlier_ok, figures.earlier_errors = started, *before
    summary = summary_of(figures, ended_as(run), now.skipped, clock())
    for watcher in watchers:
        watcher.finish(now, summary)
    return replace(now, statistics=figures), summary


def _no_worker(run: BatchRun) -> str:
    name = getattr(current_app, "main", None) or "YOUR_PROJECT"
    return (
        f"No Celery worker has taken a part of run {run.pk} for {WATCH_SECONDS:.0f} s. Start one: "
        f"celery -A {name} worker"
    )


def ended_as(run: BatchRun) -> Ended:
    """Return why the run ended, in the engine's words."""
    if run.state == BatchRun.State.FINISHED:
        return FINISHED
    if run.state != BatchRun.State.STOPPED:
        return INTERRUPTED
    reason = run.error.partition(":")[0]
    return next((ended for ended in CODES if ended == reason), INTERRUPTED)
