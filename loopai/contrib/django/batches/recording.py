"""Record the progress of a run: finished chunks, failed rows, counts. `row_writer` writes the rows themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Optional, Union

from django.db import transaction
from django.db.models import F

from ....batch.reporting.statistics import Statistics
from ....batch.resume.keys import digest
from ..models import BatchFailure, BatchPart, BatchRun
from ..ranges import Mark, advanced

By = Union[str, BatchPart]
"""The recorder: the run's owner if one process executes the run, otherwise the part of a worker."""


class LeaseLost(Exception):
    """The run, or the part, belongs to another process by now: roll back, and stop."""


def record_chunk(
    run: BatchRun,
    after: Mark,
    upto: str,
    *,
    by: By,
    ok: int = 0,
    failures: Collection[BatchFailure] = (),
    skipped: int = 0,
    statistics: Optional[Statistics] = None,
) -> None:
    """Record that the rows after the key `after` (`None`: from the first) up to the key `upto` are finished.

    Call it in the transaction that writes their results (`transaction.atomic(using=run.database)`), which must not
    read before it writes: SQLite would refuse to write if another process has written meanwhile. `statistics` are
    additional counts of a worker. Raises `LeaseLost`, which must roll back that transaction, if the run or part
    belongs to another process.
    """
    counts = {"ok": ok, "errors": len(failures), "skipped": skipped}
    # Without a savepoint: an error here also rolls back the caller's transaction.
    with transaction.atomic(using=run.database, savepoint=False):
        if isinstance(by, BatchPart):
            # The UPDATE comes first: it locks the run, so that the ranges read next are the latest.
            _count(run, by, counts)
            run.refresh_from_db(fields=["mark", "finished_ranges", *counts, "tally", "cancel_requested"])
            mark, ranges = advanced(run.mark, run.finished_ranges, after, upto)
            run.row().update(mark=mark, finished_ranges=ranges, tally=_merged(run, statistics))
        else:
            # Only this process moves the mark, so the value read when the run was acquired is current.
            mark, ranges = advanced(run.mark, run.finished_ranges, after, upto)
            _count(run, by, counts, mark=mark, finished_ranges=ranges)
            for name, number in counts.items():
                setattr(run, name, getattr(run, name) + number)
        run.mark, run.finished_ranges = mark, ranges
        _replace_failures(run, failures)


def record_retried(
    run: BatchRun,
    *,
    by: By,
    ok: Collection[str] = (),
    failures: Collection[BatchFailure] = (),
    skipped: Collection[str] = (),
    statistics: Optional[Statistics] = None,
) -> None:
    """Record the results of rows that had failed before: keys of rows now ok or deleted, and rows that failed again.

    Call it like `record_chunk`. Raises `LeaseLost`.
    """
    with transaction.atomic(using=run.database, savepoint=False):
        _count(run, by, {})
        right, gone = (_forget_failures(run, [digest(key).hex() for key in keys]) for keys in (ok, skipped))
        run.row().update(ok=F("ok") + right, skipped=F("skipped") + gone, errors=F("errors") - (right + gone))
        _replace_failures(run, failures)
        run.refresh_from_db(fields=["ok", "errors", "skipped", "tally", "cancel_requested"])
        if statistics is not None:
            run.row().update(tally=_merged(run, statistics))


def failures_of(run: BatchRun) -> Any:
    """Return the run's recorded failures, from the run's database."""
    return BatchFailure.objects.using(run.database).filter(run_id=run.pk).order_by("pk")


def _count(run: BatchRun, by: By, more: Mapping[str, int], **changed: Any) -> None:
    rows = run.row().filter(state=run.State.RUNNING)
    if isinstance(by, str):
        rows = rows.filter(owner=by)
    counts = {name: F(name) + number for name, number in more.items()}
    if not rows.update(state=run.State.RUNNING, **counts, **changed):
        raise LeaseLost(f"run {run.pk} is not {by if isinstance(by, str) else 'running'} now")
    if isinstance(by, BatchPart) and not by.give_back():
        raise LeaseLost(f"part {by.pk} of run {run.pk} was taken by another worker")


def _merged(run: BatchRun, statistics: Optional[Statistics]) -> dict[str, Any]:
    """Return the counts so far, with these added; call it while the run is locked."""
    if statistics is not None:
        whole = Statistics.load(run.tally) if run.tally else statistics
        if whole is not statistics:
            whole.merge(statistics)
        run.tally = whole.dump()
    return dict(run.tally)


def _forget_failures(run: BatchRun, digests: Sequence[str]) -> int:
    removed: int = failures_of(run).filter(digest__in=digests).delete()[0] if digests else 0
    return removed


def _replace_failures(run: BatchRun, failures: Collection[BatchFailure]) -> None:
    _forget_failures(run, [failure.digest for failure in failures])
    for failure in failures:
        failure.pk, failure.run_id = None, run.pk
    BatchFailure.objects.using(run.database).bulk_create(failures)
