"""The inline engine: one process executes a run, with requests in threads and the database in the calling thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from django.db import DatabaseError
from django.utils import timezone

from ....batch.api import call_of, perform
from ....batch.engine.driver import Driver
from ....batch.engine.reader import Reader, from_values
from ....batch.engine.run import Run
from ....batch.engine.scheduler import INTERRUPTED, TOO_MANY_ERRORS, Scheduler
from ....batch.engine.stopping import Stop
from ....batch.reporting.quality import Quality
from ....batch.reporting.snapshot import Snapshot, Watcher
from ....batch.reporting.statistics import Statistics, Summary
from ....batch.resume.prescan import Prescan
from ....batch.rows import UNFIT, Outcome
from ....preparation import batch_sender
from ..models import BatchPart, BatchRun
from .database import Database
from .leases import BEAT_SECONDS, LEASE_SECONDS, owner_name
from .options import INLINE
from .queryset import KeyedRow
from .recording import LeaseLost, failures_of, record_retried
from .row_writer import RowWriter
from .run_lookup import ResolvedPlan, Say, open_run

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient


class RowsRun(Run):
    """A run whose outcomes are saved to its rows."""

    writer: RowWriter
    missed = 0

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes and their checkpoint, then count them."""
        missed = self.writer.write(outcomes)
        self.statistics.add(outcomes, self.clock())
        self.statistics.ok -= missed
        self.reader.skipped += missed
        ok, errors = self.statistics.ok, self.statistics.errors
        # The scheduler does not count results that did not fit their field.
        unfit = any(outcome.code == UNFIT for outcome in outcomes)
        if unfit and self.scheduler.options.too_many(errors, ok + errors):
            self.scheduler.stop(TOO_MANY_ERRORS)


class _Heart:
    """Extends the lease while the run is in progress, and stops it after a cancellation."""

    def __init__(self, run: BatchRun, owner: str, stop: Stop, database: Database, clock: Callable[[], float]) -> None:
        self._run = run
        self._database = database
        self._owner = owner
        self._stop = stop
        self._clock = clock
        self._next = clock() + BEAT_SECONDS

    def update(self, _: Snapshot) -> None:
        """See `Watcher`. Raises `LeaseLost`."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + BEAT_SECONDS
        if not self._database.attempt(lambda: self._run.beat(self._owner, timezone.now(), LEASE_SECONDS)):
            raise LeaseLost(f"run {self._run.pk} was taken over or deleted while it ran here")
        if self._run.cancel_requested:
            self._stop()

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """See `Watcher`."""


def open_inline(resolved: ResolvedPlan, mode: str, say: Say, command: Sequence[str] = ()) -> Optional[BatchRun]:
    """Return the run, owned by this process; `None` if it is finished already. Raises as `open_run`."""
    run = open_run(resolved, mode, INLINE, owner_name(), say, command)
    if run is not None:
        # Parts of another engine; the run itself knows what remains.
        resolved.rows.database.attempt(BatchPart.objects.using(run.database).filter(run_id=run.pk).delete)
    return run


def carry_out(
    run: BatchRun,
    resolved: ResolvedPlan,
    client: SyncLoopaiClient,
    owner: str,
    *,
    stop: Optional[Stop] = None,
    watchers: Sequence[Watcher] = (),
    clock: Callable[[], float] = time.monotonic,
) -> tuple[RowsRun, Summary]:
    """Execute a run that `owner` has acquired, and end it. Raises `LeaseLost` if another process took it over.

    If it ends early, recorded rows stay recorded, and the run can be resumed.
    """
    plan = resolved.plan
    stop = stop or Stop()
    database = resolved.rows.database
    heart = _Heart(run, owner, stop, database, clock)
    made = RowsRun(
        call_of(plan.task_id, plan, plain=resolved.rows.plain),
        _values(run, resolved, owner),
        Reader(from_values(None)),
        Scheduler(plan),
        Statistics(clock(), plan.expectation),
        prescan=Prescan(run.total or 0, []),
        watchers=[heart, *watchers],
        clock=clock,
        facts={
            "name": plan.task,
            "task": plan.task_id,
            "input": {"name": plan.source},
            "mapping": list(plan.mapping or ()),
        },
    )
    made.writer = RowWriter(run, resolved.rows, resolved.targets, plan.only_empty, owner)
    # The progress bar includes rows of earlier runs.
    made.reader.skipped = run.done - (run.errors if run.mode == BatchRun.Mode.RETRY_FAILED else 0)
    earlier = made.reader.skipped
    try:
        summary = perform(Driver(lambda _: made, batch_sender(client), stop, raises=False))
    except LeaseLost:
        raise
    except BaseException as error:
        # If the database failed, the lease expires on its own.
        with contextlib.suppress(DatabaseError):
            _end(run, owner, database, BatchRun.State.INTERRUPTED, f"{type(error).__name__}: {error}")
        raise
    finally:
        made.close()
    made.missed = made.reader.skipped - earlier
    state, error_text = _state(run, made, summary)
    if not _end(run, owner, database, state, error_text, made.statistics.quality):
        raise LeaseLost(f"run {run.pk} was taken over by another process while it ran here")
    return made, summary


def _end(
    run: BatchRun, owner: str, database: Database, state: Any, error: str, quality: Optional[Quality] = None
) -> bool:
    compared = 0 if quality is None else quality.rows
    correct = 0 if quality is None else quality.right

    def arrived() -> Optional[bool]:
        run.refresh_from_db()
        return True if run.state == state and not run.owner else None

    return database.attempt(
        lambda: run.end(owner, state, timezone.now(), error, compared=compared, correct=correct), arrived
    )


def _state(run: BatchRun, made: Run, summary: Summary) -> tuple[Any, str]:
    stopped = made.scheduler.stopped
    if stopped is None:
        return BatchRun.State.FINISHED, ""
    if stopped == INTERRUPTED:
        return (BatchRun.State.CANCELLED if run.cancel_requested else BatchRun.State.INTERRUPTED), ""
    told = made.scheduler.error or summary.last_error or "more rows failed than --max-errors allows"
    return BatchRun.State.STOPPED, f"{stopped}: {told}"


def _values(run: BatchRun, resolved: ResolvedPlan, owner: str) -> Iterator[KeyedRow]:
    """Yield the failed rows, if requested, and then the remaining ones."""
    rows, size = resolved.rows, resolved.plan.chunk_size
    if run.mode == BatchRun.Mode.RETRY_FAILED:
        yield from failed_rows(run, resolved, owner)
    yield from rows.walk(run.remaining(rows.queryset), size, run.mark)


def failed_rows(run: BatchRun, resolved: ResolvedPlan, owner: str) -> Iterator[KeyedRow]:
    """Yield the rows with a recorded failure; deleted ones are recorded as skipped."""
    failures, database = failures_of(run).values_list("pk", "key"), resolved.rows.database
    newest = database.attempt(failures.last)
    last = 0
    while newest is not None:
        wanted = failures.filter(pk__gt=last, pk__lte=newest[0])[: resolved.plan.chunk_size]
        page: list[tuple[int, str]] = database.attempt(partial(list, wanted))
        if not page:
            return
        last = page[-1][0]
        there = resolved.rows.by_key(key for _, key in page)
        gone = [key for _, key in page if key not in there]
        if gone:
            database.attempt(partial(record_retried, run, skipped=gone, by=owner))
        for _, key in page:
            if key in there:
                yield resolved.rows.row(there[key], 0, None, retried=True)
