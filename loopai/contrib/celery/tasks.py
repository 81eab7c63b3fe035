"""Celery tasks that run the parts of a batch, and the functions that start and watch them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional

from celery import current_app, shared_task
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError
from typing_extensions import Unpack

from ..._core import retries
from ..._core.hooks import CallInfo
from ..._core.operations import Operation
from ..._core.randomness import private_random
from ...batch.api import call_of
from ...batch.engine import threads
from ...batch.engine.driver import Driver
from ...batch.engine.reader import Reader, from_values
from ...batch.engine.run import Run
from ...batch.engine.scheduler import (
    GIVE_UP_AFTER,
    LONGEST_REFUSAL,
    TOO_MANY_ERRORS,
    UNREACHABLE,
    Scheduler,
    refused_too_long,
)
from ...batch.engine.sender import Sender
from ...batch.engine.throttle import LIMITER_PAUSE, LONGEST_PAUSE
from ...batch.options import BatchOptions
from ...batch.reporting.report import write_report
from ...batch.reporting.snapshot import Snapshot
from ...batch.reporting.statistics import Statistics, Summary, summary_of
from ...batch.rows import CANCELLED, ERROR, Outcome
from ...exceptions import (
    ConfigurationError,
    ConnectionException,
    LoopaiException,
    OutputError,
    RateLimitException,
    ReplyTooLargeException,
    ServerException,
)
from ...modes import NEW, Mode
from ...preparation import batch_sender
from ...shell.edge import at_edge
from ..django import get_client
from ..django.batches.database import Database
from ..django.batches.leases import LEASE_SECONDS, owner_name
from ..django.batches.options import CELERY, QuerysetOptions, RunOptions, refuse_unknown
from ..django.batches.plan import Plan, plan_of
from ..django.batches.queryset import KeyedRow
from ..django.batches.recording import LeaseLost
from ..django.batches.row_writer import RowWriter
from ..django.batches.run_lookup import ResolvedPlan, open_run
from ..django.batches.statistics import whole
from ..django.enrichment.pending import carry_out
from ..django.models import BatchPart, BatchRun
from . import partitions
from .monitor import FAULT, UNUSABLE, WATCH_SECONDS, ended_as

logger = logging.getLogger("loopai")

BEGINNING_SECONDS = 2.0
"""Within this many seconds of being taken, a run has its parts; an earlier watcher may still see it without any."""

ALONE_SECONDS = 5.0
"""Seconds until a part is tried again that was handed out although one row runs alone first."""

PATIENCE = 3
"""After this many attempts at a part, its rows run one by one: one of them may be what makes the request fail."""


def start_batch(
    task: str,
    queryset: str,
    *,
    save_to: Sequence[str] = (),
    mapping: Sequence[str] = (),
    mode: Mode = NEW,
    alias: str = "default",
    database: str = DEFAULT_DB_ALIAS,
    **options: Unpack[QuerysetOptions],
) -> Optional[BatchRun]:
    """Run a queryset through a task in Celery workers, and return the `BatchRun`, which has the state in the database.

    The arguments are the flags of `loopai_batch` by their names (`expect`, `report`, `only_empty`, `chunk_size`,
    `max_errors`, …); `mode` is `"new"`, `"resume"`, `"retry_failed"`, `"overwrite"` or `"continue"`. The worker that
    ends the run writes the report. In a transaction, messages are sent after the commit. Returns `None` if the run is
    already finished. Raises `ConfigurationError` for invalid options, and `LoopaiException` if the server cannot be
    reached.
    """
    refuse_unknown("start_batch", options)
    given = RunOptions(
        task=task,
        queryset=queryset,
        save_to=save_to,
        mapping=mapping,
        mode=mode,
        alias=alias,
        database=database,
        engine=CELERY,
        **options,
    )
    resolved = ResolvedPlan(plan_of(given, get_client(alias)), database)
    run = open_run(resolved, mode, CELERY, partitions.WORKERS, logger.info)
    if run is not None:
        hand_over(run, resolved)
    return run


def refuse_unseen(database: str) -> None:
    """Raise `ConfigurationError` inside a transaction: workers cannot see the run while the caller waits for it."""
    if connections[database].in_atomic_block and not current_app.conf.task_always_eager:
        raise ConfigurationError(
            "--engine celery inside a transaction: workers see the run only after its commit. Use --engine inline, or "
            "loopai.contrib.celery.start_batch, which does not wait"
        )


def hand_over(run: BatchRun, resolved: ResolvedPlan, *, watched: bool = False) -> None:
    """Send messages for the remaining parts of a run; `watched` says that the caller waits for its end.

    Raises `ConfigurationError` without a broker.
    """
    try:
        with transaction.atomic(using=run.database):
            wanted = partitions.first_parts(run, resolved)
    except DatabaseError as error:
        with suppress(DatabaseError):
            run.end(partitions.WORKERS, BatchRun.State.INTERRUPTED, timezone.now(), str(error))
        raise
    if watched and current_app.conf.task_always_eager:
        _set_off(run, wanted)  # eager: in this process and transaction
        return
    # Workers see nothing of the caller's transaction before its commit.
    transaction.on_commit(lambda: _set_off(run, wanted), using=run.database)


def _set_off(run: BatchRun, wanted: Sequence[BatchPart]) -> None:
    if not wanted and _settle(run):
        return
    try:
        _publish(run, (part.pk for part in wanted))
        watch_run.apply_async((run.pk, run.database, run.done), countdown=WATCH_SECONDS)
    except BrokerError as error:
        text = f"Celery's broker cannot be reached: {error}"
        run.end(partitions.WORKERS, BatchRun.State.INTERRUPTED, timezone.now(), text)
        raise ConfigurationError(f"{text}. Check broker_url, then continue with --resume") from error


def go_on(run: BatchRun) -> None:
    """Resume a run. If something prevents it, that is kept as the run's error."""
    if not run.acquire(partitions.WORKERS, timezone.now(), LEASE_SECONDS):
        return
    try:
        hand_over(run, ResolvedPlan(Plan.of(run), run.database))
    except ConfigurationError as error:
        run.end(partitions.WORKERS, BatchRun.State.INTERRUPTED, timezone.now(), str(error))
        logger.warning("run %s does not continue: %s", run.pk, error)


def look_after(run: BatchRun, done_before: int) -> None:
    """Send messages again for parts without a worker, and end a run whose parts are all finished."""
    try:
        _publish(run, partitions.abandoned(run, done_before))
    except BrokerError as error:
        # The broker may be back at the next check, and its messages with it.
        logger.warning("run %s: Celery's broker cannot be reached: %s", run.pk, error)
    taken_now = run.heartbeat_at is not None and (timezone.now() - run.heartbeat_at).total_seconds() < BEGINNING_SECONDS
    # A resumed run has no parts for a moment.
    if not taken_now:
        partitions.settle(run)


def _settle(run: BatchRun) -> bool:
    """End the run if that was its last part; return whether it was."""
    is_ended = partitions.settle(run)
    if is_ended:
        _write_report(run)
    return is_ended


def _stop(run: BatchRun, part: BatchPart, why: str) -> None:
    partitions.release(part)
    if run.end(partitions.WORKERS, BatchRun.State.STOPPED, timezone.now(), why):
        _write_report(run)


def _write_report(run: BatchRun) -> None:
    """Write the report of an ended run; the watching command writes one too, and may have another disk."""
    plan = Plan.of(run)
    if plan.report is None:
        return
    figures = whole(run, plan)
    # The report shows the time at work, over all commands that it took; the figures start at 0.
    summary = summary_of(figures, ended_as(run), run.skipped, run.active_seconds)
    try:
        write_report(plan.report, replace(run.snapshot(), statistics=figures), summary)
    except OutputError as error:
        logger.warning("the report of run %s cannot be written here: %s", run.pk, error)


def _publish(run: BatchRun, part_ids: Iterable[int]) -> None:
    for part in part_ids:
        run_part.apply_async((run.pk, part, run.database))


@shared_task(
    bind=True, name="loopai.run_part", acks_late=True, reject_on_worker_lost=True, ignore_result=True, max_retries=None
)
def run_part(self: Any, run_id: int, part_id: int, database: str = DEFAULT_DB_ALIAS) -> None:
    """Run one part of a run. A part that is larger than a chunk is split."""
    seconds = _carry_out(run_id, part_id, database)
    while seconds and self.request.is_eager:  # no other process would run the part later
        time.sleep(seconds)
        seconds = _carry_out(run_id, part_id, database)
    if seconds:
        raise self.retry(countdown=seconds)


@shared_task(name="loopai.carry_out_pending", ignore_result=True)
def carry_out_pending(database: str = DEFAULT_DB_ALIAS) -> None:
    """Run the pending rows of `enrich`. The message only says that there is work."""
    carry_out(database)


@shared_task(
    bind=True, name="loopai.watch_run", acks_late=True, reject_on_worker_lost=True, ignore_result=True, max_retries=None
)
def watch_run(self: Any, run_id: int, database: str, done_before: int) -> None:
    """Check a run every few seconds while it is in progress, even if the database fails in between."""
    try:
        _watch(run_id, database, done_before)
    except DatabaseError as error:
        if self.request.is_eager:
            raise
        raise self.retry(exc=error, countdown=WATCH_SECONDS) from error


def _watch(run_id: int, database: str, done_before: int) -> None:
    run = BatchRun.objects.using(database).filter(pk=run_id, state=BatchRun.State.RUNNING).first()
    if run is None or run.owner != partitions.WORKERS:
        return
    look_after(run, done_before)
    if run.state != BatchRun.State.RUNNING:
        _write_report(run)  # a command that watches writes its own
        return
    watch_run.apply_async((run_id, database, run.done), countdown=WATCH_SECONDS)


def _carry_out(run_id: int, part_id: int, database: str) -> Optional[float]:
    """Return the seconds after which to try the part again."""
    attempt = Database(database).attempt
    run = attempt(BatchRun.objects.using(database).filter(pk=run_id).first)
    part = attempt(BatchPart.objects.using(database).filter(pk=part_id, run=run_id).first)
    if run is None or part is None or run.state != BatchRun.State.RUNNING:
        return None
    if run.cancel_requested or partitions.given_up(run) is not None:
        _settle(run)
        return None
    seconds = partitions.take(part, owner_name())
    if seconds is not None:
        return seconds
    try:
        partitions.beat(run)
        if part.lost >= PATIENCE:
            text = (
                f"its worker was lost {part.lost} times (killed, out of memory, or a task_time_limit that is too short)"
            )
            partitions.give_up(part, f"{FAULT}: part {part.pk}: {text}")
        else:
            _take_part(run, part)
    except _Postponed as postponed:
        refused = postponed.__cause__
        if isinstance(refused, RateLimitException) and partitions.refused_since(run) > LONGEST_REFUSAL:
            _stop(run, part, f"{UNREACHABLE}: {refused_too_long(refused)}")
            return None
        partitions.postpone(run, part, postponed.seconds, postponed.counted)
        return postponed.seconds
    except (ConfigurationError, ImproperlyConfigured) as error:
        _stop(run, part, f"{UNUSABLE}: {error}")
        return None
    except _Stopped as stopped:
        _stop(run, part, str(stopped))
        return None
    except LeaseLost:
        return None
    except Exception as error:  # any error, including a time limit, must not make the part run again forever
        if connections[database].in_atomic_block:
            raise  # inside the caller's transaction nothing can be retried
        logger.exception("run %s: part %s failed (attempt %s)", run.pk, part.pk, part.attempts)
        if part.attempts < PATIENCE:
            seconds = max(1.0, retries.backoff(part.attempts, private_random.random()))
            partitions.postpone(run, part, seconds, counted=True)
            return seconds
        partitions.give_up(part, f"{FAULT}: part {part.pk}: {type(error).__name__}: {error}")
    _settle(run)
    return None


def _take_part(run: BatchRun, part: BatchPart) -> None:
    """Split a part, or run its rows and save their outcomes."""
    plan = Plan.of(run)
    resolved = ResolvedPlan(plan, run.database)
    alone = partitions.one_row_first(run, plan)
    if alone and not partitions.is_first(run, part):
        raise _Postponed(ALONE_SECONDS, counted=False)
    rows, gone, more = partitions.rows_of(run, part, resolved)
    if more or (alone and len(rows) > 1):
        made = partitions.split(run, part, resolved, alone=alone)
        _publish(run, (one.pk for one in made[: 1 if alone else None]))
        return
    outcomes = _executed(run, part, resolved, rows)
    writer = RowWriter(run, resolved.rows, resolved.targets, plan.only_empty, part, plan.expectation)
    writer.write(outcomes, gone)
    # Not if all rows succeeded: a resumed run may have too many failures from before, and repeat them.
    failed = any(outcome.status == ERROR for outcome in outcomes)
    if failed and plan.too_many(run.errors, run.done):
        raise _Stopped(f"{TOO_MANY_ERRORS}: more rows failed than --max-errors {plan.max_errors} allows")
    if alone:
        _publish(run, partitions.held_back(run))


class _Postponed(Exception):
    """The server cannot be reached or is rate limited: the part is retried after this many seconds."""

    def __init__(self, seconds: float, counted: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.counted = counted


class _Stopped(Exception):
    """The run cannot continue. The text begins with the engine's word for the reason."""


class _Lease:
    """Renews the leases of a part and its run while the part is in progress, about once a second."""

    def __init__(self, run: BatchRun, part: BatchPart) -> None:
        self._run = run
        self._part = part

    def update(self, snapshot: Snapshot) -> None:
        """See `Watcher`. Raises `LeaseLost`."""
        partitions.beat(self._run)
        if not self._part.beat(timezone.now(), partitions.PART_LEASE_SECONDS):
            raise LeaseLost(f"part {self._part.pk} of run {self._run.pk} was taken by another worker")

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """See `Watcher`."""


def _executed(run: BatchRun, part: BatchPart, resolved: ResolvedPlan, rows: Sequence[KeyedRow]) -> list[Outcome]:
    """Return the outcomes of a part's rows. Raises `_Postponed`, `_Stopped` and `LeaseLost`."""
    plan = resolved.plan
    # One request at a time: concurrency comes from the number of parts.
    options = BatchOptions(
        chunk_size=plan.chunk_size,
        max_in_flight=1,
        max_concurrency=plan.max_concurrency,
        min_confidence=plan.min_confidence,
    )
    made = Run(
        call_of(plan.task_id, plan, plain=resolved.rows.plain),
        rows,
        Reader(from_values(None)),
        Scheduler(options),
        Statistics(0.0),
        watchers=[_Lease(run, part)],
    )
    client = get_client(plan.alias)
    if plan.validate_inputs:
        client = client.with_options(validate_inputs=True)
    sender = _PostponingSender(batch_sender(at_edge(client) if plan.edge else client), part.attempts)
    try:
        outcomes = list(threads.perform(Driver(lambda _: made, sender, emits=True, raises=False)))
    finally:
        if sender.answered:
            partitions.was_answered(run)
    if made.scheduler.stopped is not None:
        raise _Stopped(f"{made.scheduler.stopped}: {made.scheduler.error}")
    # Only the exceptions raised above stop a part.
    return [outcome for outcome in outcomes if outcome.status != CANCELLED]


class _PostponingSender:
    """A sender without retries: Celery retries the part later, after the pause that the server asks for.

    `answered` says whether there was a reply other than a refusal by the rate limiter.
    """

    def __init__(self, sender: Sender, attempts: int) -> None:
        self._sender = sender
        self._attempts = attempts
        self.answered = False
        self.items, self.resends = sender.items, sender.resends
        self.end, self.read_task = sender.end, sender.read_task

    def begin(self, batch: CallInfo) -> Callable[[Operation[Any]], Any]:
        """See `Sender`. The returned function also raises `_Postponed` and `_Stopped`."""
        send = self._sender.begin(batch)
        attempts = self._attempts

        def once(operation: Operation[Any]) -> Any:
            try:
                reply = send(operation)
            except RateLimitException as error:
                pause = LIMITER_PAUSE if error.retry_after is None else min(error.retry_after, LONGEST_PAUSE)
                # With jitter, so that not all parts are retried at the same moment.
                raise _Postponed(pause + private_random.random(), counted=False) from error
            except (ConnectionException, ServerException) as error:
                self.answered = self.answered or error.status_code is not None
                if _is_final(error):
                    raise
                if attempts >= GIVE_UP_AFTER and isinstance(error, ConnectionException):
                    raise _Stopped(f"{UNREACHABLE}: {error}") from error
                if attempts > PATIENCE and not isinstance(error, ConnectionException) and error.status_code != 503:
                    raise
                asked = getattr(error, "retry_after", None)
                pause = retries.backoff(attempts, private_random.random()) if asked is None else asked
                raise _Postponed(max(1.0, min(pause, LONGEST_PAUSE)), counted=True) from error
            self.answered = True
            return reply

        return once


def _is_final(error: LoopaiException) -> bool:
    """Return whether the same request would always fail again."""
    if isinstance(error, ConnectionException):
        return not error.retryable
    if isinstance(error, ReplyTooLargeException):
        return True
    return error.status_code is not None and 300 <= error.status_code < 400
