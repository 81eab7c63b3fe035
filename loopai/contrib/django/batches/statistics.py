"""Workers' statistics of a run: a tally for each part, merged into the run's when the part ends, and the total.

The run's tally covers rows that are ok; failed rows are recorded one by one, since they may be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from django.utils import timezone

from ....batch.reporting.quality import Expectation
from ....batch.reporting.statistics import Statistics
from ....batch.rows import ERROR, OK, Outcome
from ..models import BatchFailure, BatchRun
from .plan import Plan
from .recording import failures_of


def counted(run: BatchRun, expectation: Optional[Expectation], outcomes: Sequence[Outcome]) -> Statistics:
    """Return the statistics of a part of a run, without its failed rows, which `failed_rows_of` returns."""
    idle = 0.0 if run.heartbeat_at is None else (timezone.now() - run.heartbeat_at).total_seconds()
    seconds = run.active_seconds + max(0.0, idle)
    failed = [outcome for outcome in outcomes if outcome.status == ERROR]
    tally = Statistics(0.0, expectation)
    tally.add([outcome for outcome in outcomes if outcome.status == OK], seconds)
    tally.timeline.add(seconds, 0, len(failed))
    tally.repeated += sum(outcome.attempts > 1 for outcome in failed)
    return tally


def failed_rows_of(outcomes: Sequence[Outcome], expectation: Optional[Expectation] = None) -> list[BatchFailure]:
    """Return the failed rows as they are stored."""
    return [
        BatchFailure.of(
            outcome.key,
            outcome.code or "",
            outcome.error or "",
            outcome.latency_ms,
            expectation is not None
            and outcome.row.columns is not None
            and expectation.expected(outcome.row.columns) is not None,
        )
        for outcome in outcomes
        if outcome.status == ERROR
    ]


def whole(run: BatchRun, plan: Plan) -> Statistics:
    """Return the statistics of all parts so far."""
    tally = Statistics.load(run.tally) if run.tally else Statistics(0.0, plan.expectation)
    tally.ok, tally.errors = run.ok, 0
    for failure in failures_of(run).iterator():
        tally.add_failure(failure.key, failure.message, failure.latency_ms, failure.compared)
    return tally
