"""The inline engine: one process carries a run out, requests in threads, the database in the calling one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Optional

from django.db import DatabaseError
from django.utils import timezone

from ....batch.api import Run, perform
from ....batch.engine.reader import Reader, from_values
from ....batch.engine.scheduler import ENOUGH_FOR_A_SHARE, INTERRUPTED, TOO_MANY_ERRORS, Limits, Scheduler
from ....batch.engine.stopping import Stop
from ....batch.reporting.quality import Expectation
from ....batch.reporting.statistics import Statistics, Summary
from ....batch.reporting.watcher import Watcher
from ....batch.resume.prescan import Prescan
from ....batch.rows import Outcome
from ....batch.streams import sender
from ..models import BatchRun, LeaseLost
from .leases import BEAT_SECONDS, LEASE_SECONDS
from .results import UNFIT, Results
from .rows import KeyedRow
from .runs import Work

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient


class RowsRun(Run):
    """A run whose outcomes go into its rows."""

    results: Results
    missed = 0

    def keep(self, outcomes: list[Outcome]) -> None:
        """Write outcomes and their checkpoint, then count them."""
        missed = self.results.keep(outcomes)
        self.tally.add(outcomes, self.clock())
        self.tally.ok -= missed
        self.reader.skipped += missed
        if any(outcome.code == UNFIT for outcome in outcomes) and exceeded(self.scheduler.limits, self.tally):
            self.scheduler.stop(TOO_MANY_ERRORS)


def exceeded(limits: Limits, tally: Statistics) -> bool:
    """Whether there are more errors than the run may have; what did not fit its field is one only here."""
    count, share = limits.error_count, limits.error_share
    ended = tally.ok + tally.errors
    return (count is not None and tally.errors > count) or (
        share is not None and ended >= ENOUGH_FOR_A_SHARE and tally.errors > share * ended
    )


class _Heart:
    """Prolongs the lease while the run goes on, and passes a cancellation on."""

    def __init__(self, run: BatchRun, owner: str, stop: Stop, clock: Callable[[], float]) -> None:
        self._run = run
        self._owner = owner
        self._stop = stop
        self._clock = clock
        self._next = clock() + BEAT_SECONDS

    def update(self, _: Run) -> None:
        """See `Watcher`. Raises `LeaseLost`."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + BEAT_SECONDS
        if not self._run.beat(self._owner, timezone.now(), LEASE_SECONDS):
            raise LeaseLost(f"run {self._run.pk} was taken over, or deleted, while it was carried out here")
        if self._run.cancel_requested:
            self._stop()

    def finish(self, run: Run, summary: Summary) -> None:
        """See `Watcher`."""


def carry_out(
    run: BatchRun,
    work: Work,
    client: SyncLoopaiClient,
    owner: str,
    *,
    stop: Optional[Stop] = None,
    watchers: Sequence[Watcher] = (),
    expect: Optional[str] = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[RowsRun, Summary]:
    """Carry out a run that `owner` has acquired, and end it. Raises `LeaseLost` where it was taken over meanwhile.

    Whatever ends it early, what is recorded stays, and the run can be resumed.
    """
    plan = work.plan
    stop = stop or Stop()
    heart = _Heart(run, owner, stop, clock)
    made = RowsRun(
        replace(plan.call(), plain=work.rows.plain),
        _values(run, work, owner),
        Reader(from_values(None)),
        Scheduler(plan.limits()),
        Statistics(clock(), Expectation(expect) if expect is not None else None),
        waits=False,
        prescan=Prescan(run.total or 0, []),
        watchers=[heart, *watchers],
        clock=clock,
        facts={"name": plan.task, "task": plan.task_id, "input": {"name": plan.source}, "mapping": list(plan.mapping)},
    )
    made.results = Results(run, work.rows, work.targets, plan.only_empty, owner)
    # Those of earlier runs count for the bar.
    made.reader.skipped = run.done - (run.errors if run.mode == BatchRun.Mode.RETRY_FAILED else 0)
    earlier = made.reader.skipped
    try:
        with sender(client, made.call, made.scheduler) as send:
            summary = perform(made, send, stop=stop)
    except LeaseLost:
        raise
    except BaseException as error:
        # The database may be what failed; then the lease runs out by itself.
        with contextlib.suppress(DatabaseError):
            run.end(owner, BatchRun.State.INTERRUPTED, timezone.now(), f"{type(error).__name__}: {error}")
        raise
    finally:
        made.close()
    made.missed = made.reader.skipped - earlier
    state, error_text = _state(run, made, summary)
    if not run.end(owner, state, timezone.now(), error_text):
        raise LeaseLost(f"run {run.pk} was taken over while it was carried out here")
    return made, summary


def _state(run: BatchRun, made: Run, summary: Summary) -> tuple[Any, str]:
    stopped = made.scheduler.stopped
    if stopped is None:
        return BatchRun.State.FINISHED, ""
    if stopped == INTERRUPTED:
        return (BatchRun.State.CANCELLED if run.cancel_requested else BatchRun.State.INTERRUPTED), ""
    told = made.scheduler.error or summary.last_error or "more rows failed than --max-errors allows"
    return BatchRun.State.STOPPED, f"{stopped}: {told}"


def _values(run: BatchRun, work: Work, owner: str) -> Iterator[KeyedRow]:
    """The rows that failed, where they are wanted, then those that remain."""
    rows, size = work.rows, work.plan.chunk_size
    if run.mode == BatchRun.Mode.RETRY_FAILED:
        yield from failed_rows(run, work, owner)
    yield from rows.walk(run.remaining(rows.queryset), size, run.mark)


def failed_rows(run: BatchRun, work: Work, owner: str) -> Iterator[KeyedRow]:
    """The rows whose failures are on record now; those that are gone are recorded as skipped."""
    failures: Any = run.failures.using(run.database).order_by("pk").values_list("pk", "key")
    newest = failures.last()
    last = 0
    while newest is not None:
        page = list(failures.filter(pk__gt=last, pk__lte=newest[0])[: work.plan.chunk_size])
        if not page:
            return
        last = page[-1][0]
        there = work.rows.by_key(key for _, key in page)
        gone = [key for _, key in page if key not in there]
        if gone:
            run.record_retried(skipped=gone, owner=owner)
        for _, key in page:
            if key in there:
                yield work.rows.row(there[key], 0, None, retried=True)
