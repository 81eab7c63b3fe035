"""Watching a run that workers carry out: its progress in one place, and why it ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.utils import timezone

from ....batch.api import FINISHED, Run
from ....batch.engine.scheduler import FATAL, INTERRUPTED, TOO_MANY_ERRORS, UNREACHABLE
from ....batch.engine.stopping import Stop
from ....batch.reporting.statistics import Statistics, Summary, summary_of
from ....batch.reporting.watcher import Watcher
from ....batch.resume.prescan import Prescan
from ....shell.command import SERVER_UNREACHABLE, STOPPED_BY_ERRORS, USAGE
from ..models import BatchRun, LeaseLost
from .parts import WORKERS
from .plans import Plan
from .tallies import watched, whole

LOOK_SECONDS = 0.5

UNUSABLE = "unusable"
"""A worker cannot use what the run names: its model, its alias."""

CODES = {TOO_MANY_ERRORS: STOPPED_BY_ERRORS, UNREACHABLE: SERVER_UNREACHABLE, FATAL: USAGE, UNUSABLE: USAGE}
"""Exit codes by what a stopped run's `error` begins with."""

_GOING = (BatchRun.State.PENDING, BatchRun.State.RUNNING)


def follow(
    run: BatchRun,
    plan: Plan,
    watchers: list[Watcher],
    stop: Stop,
    look_after: Callable[[BatchRun], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Run, Summary]:
    """Watch a run until it ends; `stop` has it cancelled. `look_after` is called at each look.

    Gives the run as the report shows it, and the summary of what came while it was watched.
    """
    # Failed rows that are repeated count for this command.
    before = (run.ok, 0 if run.mode == BatchRun.Mode.RETRY_FAILED else run.errors)
    made = watched(run, plan, Statistics(clock()), prescan=Prescan(run.total or 0, []), clock=clock)
    until = float("inf")
    while True:
        try:
            run.refresh_from_db()
        except BatchRun.DoesNotExist:
            raise LeaseLost(f"run {run.pk} was deleted while it was watched here") from None
        made.tally.ok, made.tally.errors = run.ok - before[0], max(0, run.errors - before[1])
        made.reader.skipped = before[0] + before[1] + run.skipped
        made.scheduler.in_flight = run.parts.filter(lease_until__gte=timezone.now()).exclude(owner="").count()
        for watcher in watchers:
            watcher.update(made)
        if run.state not in _GOING:
            break
        if stop.requested and until == float("inf"):
            run.request_cancel()
            until = clock() + stop.grace
        if clock() > until:
            # No worker is there to do it.
            run.end(WORKERS, BatchRun.State.CANCELLED, timezone.now())
            continue
        look_after(run)
        sleep(LOOK_SECONDS)
    started = made.tally.started
    made.tally = whole(run, plan)
    made.tally.started, made.tally.earlier_ok, made.tally.earlier_errors = started, *before
    summary = summary_of(made.tally, ended_as(run), made.reader.skipped, clock())
    for watcher in watchers:
        watcher.finish(made, summary)
    return made, summary


def ended_as(run: BatchRun) -> str:
    """Why the run ended, in the engine's words."""
    if run.state == BatchRun.State.FINISHED:
        return FINISHED
    reason = run.error.partition(":")[0]
    return reason if run.state == BatchRun.State.STOPPED and reason in CODES else INTERRUPTED
