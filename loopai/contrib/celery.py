"""The distributed engine of `loopai_batch`: Celery tasks that carry out the parts of a run. Needs Django.

from loopai.contrib.celery import start_batch

run = start_batch("spam", "mail.Message", save_to=["label"])

A message carries a run's id and a part's, never rows. Delivery is at least once, the effect exactly once: a part's
rows, its counts and its end are one transaction, which only the part's owner can commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Optional

from ..exceptions import (
    ConfigurationError,
    ConnectionException,
    LoopaiException,
    RateLimitException,
    ServerException,
)

try:
    from celery import shared_task
    from kombu.exceptions import OperationalError as BrokerError
except ImportError:
    raise ConfigurationError("loopai.contrib.celery needs Celery: pip install celery") from None

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from .._core import retries
from .._core.chance import chance
from ..batch.engine.chunks import Answer, Chunk
from ..batch.engine.reader import Reader, from_values
from ..batch.engine.scheduler import ENOUGH_FOR_A_SHARE, GIVE_UP_AFTER, TOO_MANY_ERRORS, UNREACHABLE, Limits, Scheduler
from ..batch.engine.threads import drive
from ..batch.engine.throttle import LIMITER_PAUSE, LONGEST_PAUSE
from ..batch.formats.sinks import OutputError
from ..batch.reporting.report import write_report
from ..batch.reporting.statistics import summary_of
from ..batch.resume.checkpoint import NEW, OVERWRITE, RESUME, RETRY_FAILED
from ..batch.rows import CANCELLED, ERROR, Outcome
from ..batch.streams import sender
from .django import get_client
from .django.batches import parts
from .django.batches.following import UNUSABLE, ended_as
from .django.batches.leases import LEASE_SECONDS, owner_name
from .django.batches.planning import CELERY, RunOptions, plan_of
from .django.batches.plans import Plan
from .django.batches.results import Results
from .django.batches.rows import KeyedRow
from .django.batches.runs import Work, open_run
from .django.batches.tallies import expectation_of, watched, whole
from .django.models import BatchPart, BatchRun, LeaseLost

logger = logging.getLogger("loopai")

WATCH_SECONDS = 10.0
"""Seconds between two looks at a run for parts that nobody is at any more."""

BEGINNING_SECONDS = 2.0
"""Within these of its taking a run has its parts; who looks after it since before may see it without."""

_MODES = (NEW, RESUME, RETRY_FAILED, OVERWRITE)
_OF_THE_COMMAND = ("resume", "retry_failed", "overwrite", "dry_run", "progress", "json", "grace", "command")

_OF_FILES = ("input", "output", "output_format", "id_field", "format", "journal")

PATIENCE = 3
"""Attempts at a part after which its rows are looked at one by one: one of them may be what fails the request."""


def start_batch(
    task: str,
    queryset: str,
    *,
    save_to: Sequence[str] = (),
    map: Sequence[str] = (),  # noqa: A002  # the flag's name
    filters: Sequence[str] = (),
    mode: str = NEW,
    alias: str = "default",
    database: str = DEFAULT_DB_ALIAS,
    **options: Any,
) -> Optional[BatchRun]:
    """Have Celery's workers run a queryset through a task, and give the run; its state is in the database.

    The arguments are the flags of `loopai_batch` by their names (`expect`, `report`, `only_empty`, `chunk_size`,
    `max_errors`, …); `mode` is `"new"`, `"resume"`, `"retry_failed"` or `"overwrite"`. The report is
    written by the worker that ends the run. Inside a transaction the workers are told once it is committed. Gives
    `None` where the run is finished already. Raises `ConfigurationError` for options that do not fit, and the
    `LoopaiException` where the server cannot be asked.
    """
    if mode not in _MODES:
        raise ConfigurationError(f"mode is one of {', '.join(_MODES)}, not {mode!r}")
    for name in _OF_FILES:
        if name in options:
            raise ConfigurationError(
                f"{name}: Celery runs a queryset and saves to its rows (queryset, save_to); run a file with "
                "client.run_batch, or with the command `loopai batch`"
            )
    for name in _OF_THE_COMMAND:
        if name in options:
            told = f": mode={name!r} says it" if name in _MODES else ""
            raise ConfigurationError(f"{name} is for the command loopai_batch, start_batch takes none{told}")
    given = RunOptions(
        task, queryset, save_to, map=map, filters=filters, alias=alias, database=database, engine=CELERY, **options
    )
    work = Work(plan_of(given, get_client(alias)), database)
    run = open_run(work, mode, CELERY, parts.WORKERS, logger.info, database=database, command=[])
    if run is not None:
        hand_over(run, work)
    return run


def hand_over(run: BatchRun, work: Work) -> None:
    """Publish what remains of a run that `parts.WORKERS` has acquired. Raises `ConfigurationError` without a broker."""
    with transaction.atomic(using=run.database):
        wanted = parts.first_parts(run, work)
    # Workers see nothing of a caller's transaction before its end.
    transaction.on_commit(lambda: _set_off(run, wanted), using=run.database)


def _set_off(run: BatchRun, wanted: Sequence[BatchPart]) -> None:
    try:
        _publish(run, (part.pk for part in wanted))
        watch_run.apply_async((run.pk, run.database, run.done), countdown=WATCH_SECONDS)
    except BrokerError as error:
        text = f"Celery's broker cannot be reached: {error}"
        run.end(parts.WORKERS, BatchRun.State.INTERRUPTED, timezone.now(), text)
        raise ConfigurationError(f"{text}. Check broker_url, then go on with --resume") from error
    if not wanted:
        _settle(run)


def go_on(run: BatchRun) -> None:
    """Take up a run that was asked to go on. What is in the way is kept as the run's error."""
    if not run.acquire(parts.WORKERS, timezone.now(), LEASE_SECONDS):
        return
    try:
        hand_over(run, Work(Plan.of(run), run.database))
    except ConfigurationError as error:
        run.end(parts.WORKERS, BatchRun.State.INTERRUPTED, timezone.now(), str(error))
        logger.warning("run %s does not go on: %s", run.pk, error)


def look_after(run: BatchRun, done_before: int) -> None:
    """Publish parts that nobody is at any more, and end a run that nobody ended."""
    try:
        _publish(run, parts.abandoned(run, done_before))
    except BrokerError as error:
        # It may be back at the next look, and its messages with it.
        logger.warning("run %s: Celery's broker cannot be reached: %s", run.pk, error)
    taken_now = run.heartbeat_at is not None and (timezone.now() - run.heartbeat_at).total_seconds() < BEGINNING_SECONDS
    # One that goes on has no parts before it has some.
    if not taken_now and parts.settle(run):
        _write_report(run)


def _settle(run: BatchRun) -> None:
    """End the run if that was its last part."""
    if parts.settle(run):
        _write_report(run)


def _stop(run: BatchRun, part: BatchPart, why: str) -> None:
    parts.release(part)
    if run.end(parts.WORKERS, BatchRun.State.STOPPED, timezone.now(), why):
        _write_report(run)


def _write_report(run: BatchRun) -> None:
    """The page about a run that has ended; whoever watches it writes it, too, and may be at another disk."""
    plan = Plan.of(run)
    if plan.report is None:
        return
    made = watched(run, plan, whole(run, plan))
    # Its times are those at work, whichever commands it took; the tally's begin at 0.
    summary = summary_of(made.tally, ended_as(run), run.skipped, run.active_seconds)
    try:
        write_report(plan.report, made, summary)
    except OutputError as error:
        logger.warning("the report of run %s cannot be written here: %s", run.pk, error)


def _publish(run: BatchRun, found: Iterable[int]) -> None:
    for part in found:
        run_part.apply_async((run.pk, part, run.database))


@shared_task(
    bind=True, name="loopai.run_part", acks_late=True, reject_on_worker_lost=True, ignore_result=True, max_retries=None
)
def run_part(self: Any, run_id: int, part_id: int, database: str = DEFAULT_DB_ALIAS) -> None:
    """Carry out one part of a run; one that is larger than a chunk is split."""
    seconds = _carry_out(run_id, part_id, database)
    if seconds:
        raise self.retry(countdown=seconds)


@shared_task(name="loopai.watch_run", acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def watch_run(run_id: int, database: str, done_before: int) -> None:
    """Look after a run every few seconds while it goes on."""
    run = BatchRun.objects.using(database).filter(pk=run_id, state=BatchRun.State.RUNNING).first()
    if run is None or run.owner != parts.WORKERS:
        return
    look_after(run, done_before)
    watch_run.apply_async((run_id, database, run.done), countdown=WATCH_SECONDS)


def _carry_out(run_id: int, part_id: int, database: str) -> Optional[float]:
    """Gives the seconds after which the part is to be tried again."""
    run = BatchRun.objects.using(database).filter(pk=run_id).first()
    part = BatchPart.objects.using(database).filter(pk=part_id, run=run_id).first()
    if run is None or part is None or run.state != BatchRun.State.RUNNING:
        return None
    if run.cancel_requested:
        _settle(run)
        return None
    seconds = parts.take(part, owner_name())
    if seconds is not None:
        return seconds
    parts.beat(run)
    try:
        _take_part(run, part)
    except _Postponed as postponed:
        parts.postpone(run, part, postponed.seconds, postponed.counted)
        return postponed.seconds
    except (ConfigurationError, ImproperlyConfigured) as error:
        _stop(run, part, f"{UNUSABLE}: {error}")
        return None
    except _Stopped as stopped:
        _stop(run, part, str(stopped))
        return None
    except LeaseLost:
        return None
    _settle(run)
    return None


def _take_part(run: BatchRun, part: BatchPart) -> None:
    """Split a part, or execute its rows and keep what comes of them."""
    work = Work(Plan.of(run), run.database)
    rows, gone, more = parts.rows_of(run, part, work)
    if more:
        made = parts.split(run, part, work)
        _publish(run, (one.pk for one in made))
        return
    outcomes = _executed(run, part, work, rows)
    expectation = expectation_of(work.plan)
    results = Results(run, work.rows, work.targets, work.plan.only_empty, expectation=expectation)
    results.keep(outcomes, part, gone)
    # Not where all of them ended well: a run that goes on may have too many from before, and repeat these.
    if any(outcome.status == ERROR for outcome in outcomes) and _exceeded(run, work.plan.limits()):
        raise _Stopped(f"{TOO_MANY_ERRORS}: more rows failed than --max-errors {work.plan.max_errors} allows")


class _Postponed(Exception):
    """The server is away or rations: the part is tried again after so many seconds."""

    def __init__(self, seconds: float, counted: bool) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.counted = counted


class _Stopped(Exception):
    """The run cannot go on; begins with the engine's word for why."""


def _sign_of_life(run: BatchRun, part: BatchPart) -> Callable[[], None]:
    """What prolongs the leases, about every second however often it is called. It raises `LeaseLost`."""
    last = [0.0]

    def alive() -> None:
        if time.monotonic() < last[0] + 1:
            return
        last[0] = time.monotonic()
        parts.beat(run)
        if not part.beat(timezone.now(), parts.PART_LEASE_SECONDS):
            raise LeaseLost(f"part {part.pk} of run {run.pk} was taken by another worker")

    return alive


def _executed(run: BatchRun, part: BatchPart, work: Work, rows: Sequence[KeyedRow]) -> list[Outcome]:
    """How the rows of a part ended. Raises `_Postponed`, `_Stopped` and `LeaseLost`."""
    plan = work.plan
    limits = plan.limits(max_in_flight=1)
    scheduler = Scheduler(Limits(limits.chunk_size, 1))
    reader = Reader(from_values(None))

    outcomes: list[Outcome] = []
    with sender(get_client(plan.alias), replace(plan.call(), plain=work.rows.plain), scheduler) as send:
        driver = drive(scheduler, rows, reader, _postponing(send, part.attempts), tick=_sign_of_life(run, part))
        try:
            for ended in driver:
                outcomes += ended
        finally:
            driver.close()
            reader.close()
    if scheduler.stopped is not None:
        raise _Stopped(f"{scheduler.stopped}: {scheduler.error}")
    # Nothing stops a part but what was just raised.
    return [outcome for outcome in outcomes if outcome.status != CANCELLED]


def _postponing(send: Callable[[Chunk], Answer], attempts: int) -> Callable[[Chunk], Answer]:
    """`send` that repeats nothing: what may go better later is Celery's to repeat, after the server's own pause."""

    def once(chunk: Chunk) -> Answer:
        try:
            return send(chunk)
        except RateLimitException as error:
            pause = LIMITER_PAUSE if error.retry_after is None else min(error.retry_after, LONGEST_PAUSE)
            # Not all at one moment, when the pause is over.
            raise _Postponed(pause + chance.random(), counted=False) from error
        except (ConnectionException, ServerException) as error:
            if _is_final(error):
                raise
            if attempts >= GIVE_UP_AFTER and isinstance(error, ConnectionException):
                raise _Stopped(f"{UNREACHABLE}: {error}") from error
            if attempts > PATIENCE and not isinstance(error, ConnectionException) and error.status_code != 503:
                raise
            asked = getattr(error, "retry_after", None)
            pause = retries.backoff(attempts, chance.random()) if asked is None else asked
            raise _Postponed(max(1.0, min(pause, LONGEST_PAUSE)), counted=True) from error

    return once


def _is_final(error: LoopaiException) -> bool:
    """Whether the same request would fail again, whoever sends it when."""
    if isinstance(error, ConnectionException):
        return error.hopeless
    return error.status_code is not None and 300 <= error.status_code < 400


def _exceeded(run: BatchRun, limits: Limits) -> bool:
    count, share = limits.error_count, limits.error_share
    return (count is not None and run.errors > count) or (
        share is not None and run.done >= ENOUGH_FOR_A_SHARE and run.errors > share * run.done
    )
