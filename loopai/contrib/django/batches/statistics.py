"""What workers count of a run: each part's tally, merged into the run's with the part, and the whole at the end.

The run's tally has the rows that are ok; those that failed are on record one by one, and may yet be repeated.
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


def expectation_of(plan: Plan) -> Optional[Expectation]:
    """The expected column, if there is one."""
    return Expectation(plan.expect) if plan.expect else None


def counted(run: BatchRun, expectation: Optional[Expectation], outcomes: Sequence[Outcome]) -> Statistics:
    """What a part of a run came to, its failed rows apart, which `failed_rows_of` keeps."""
    idle = 0.0 if run.heartbeat_at is None else (timezone.now() - run.heartbeat_at).total_seconds()
    seconds = run.active_seconds + max(0.0, idle)
    failed = [outcome for outcome in outcomes if outcome.status == ERROR]
    tally = Statistics(0.0, expectation)
    tally.add([outcome for outcome in outcomes if outcome.status == OK], seconds)
    tally.timeline.add(seconds, 0, len(failed))
    tally.repeated += sum(outcome.attempts > 1 for outcome in failed)
    return tally


def failed_rows_of(outcomes: Sequence[Outcome], expectation: Optional[Expectation] = None) -> list[BatchFailure]:
    """The failed rows as they are kept."""
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
    """What all parts came to so far."""
    tally = Statistics.load(run.tally) if run.tally else Statistics(0.0, expectation_of(plan))
    tally.ok, tally.errors = run.ok, 0
    for failure in failures_of(run).iterator():
        tally.add_failure(failure.key, failure.message, failure.latency_ms, failure.compared)
    return tally
