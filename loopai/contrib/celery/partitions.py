"""Parts of a run: how the key range is cut up, taken and given back. Who passes messages about them is Celery's side.

A part that holds more rows than a chunk is split into parts of one chunk each and one that is the rest; so a run of any
length has some hundred parts at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Optional

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from ...batch.reporting.quality import storable
from ..django.batches.leases import BEAT_SECONDS, LEASE_SECONDS, was_killed
from ..django.batches.plan import Plan
from ..django.batches.queryset import KeyedRow
from ..django.batches.recording import LeaseLost, failures_of
from ..django.batches.run_lookup import ResolvedPlan
from ..django.models import BatchPart, BatchRun

WORKERS = "celery workers"
"""Owner of a run that was handed to workers: any of them may prolong its lease, and end it."""

PART_LEASE_SECONDS = 20.0
"""How long a silent worker keeps its part; it gives a sign of life every second while a request is in flight."""

PARTS_AT_ONCE = 200
"""Parts that one splitting makes: enough to keep many workers busy, few enough for one transaction and for a broker."""


def parts_of(run: BatchRun) -> Any:
    """Return the run's parts, from the run's database."""
    return BatchPart.objects.using(run.database).filter(run_id=run.pk)


def first_parts(run: BatchRun, resolved: ResolvedPlan) -> list[BatchPart]:
    """The parts of a run that begins or is resumed: those that are left from before, or one for all that remains.

    Call it in a transaction: of two who resume one run, the second finds what the first has made.
    """
    # Locks the run.
    run.row().update(refused_since=None)
    parts = parts_of(run)
    retries = run.mode == BatchRun.Mode.RETRY_FAILED
    if retries:
        parts.filter(failed=True).delete()  # what failed since they were made is to be repeated, too
    parts.filter(owner="").update(attempts=0, lost=0, error="")
    existing = list(parts.all())
    newest = _failures(run).last() if retries else None
    if newest is not None:
        existing.append(_part(run, "0", str(newest), failed=True))
    unsplit = run.upper_key is not None and all(part.failed for part in existing)
    if unsplit and run.remaining(resolved.rows.queryset).exists():
        existing.append(_part(run, run.mark, str(run.upper_key)))
    return existing


def _part(run: BatchRun, after: Optional[str], upto: str, *, failed: bool = False) -> BatchPart:
    made: BatchPart = parts_of(run).create(run_id=run.pk, after=after, upto=upto, failed=failed)
    return made


def _failures(run: BatchRun, part: Optional[BatchPart] = None) -> Any:
    """The keys of the failures on record, or of those in a part, in the order of a part of failed rows."""
    failures = failures_of(run)
    if part is not None:
        failures = failures.filter(pk__gt=int(part.after or 0), pk__lte=int(part.upto))
    return failures.values_list("pk", flat=True)


def take(part: BatchPart, owner: str) -> Optional[float]:
    """Take a part: `None` if it is ours, otherwise the seconds after which to try again, 0 if it is finished."""
    now = timezone.now()
    if part.acquire(owner, now, PART_LEASE_SECONDS):
        return None
    held = part.row().first()
    if held is None:
        return 0.0
    if held.owner and was_killed(held.owner):
        freed = part.row().filter(owner=held.owner)
        freed.update(lease_until=now - timedelta(seconds=1))
        if part.acquire(owner, now, PART_LEASE_SECONDS):
            return None
    left = 0.0 if held.lease_until is None else (held.lease_until - now).total_seconds()
    return max(1.0, left + 0.5)


def release(part: BatchPart) -> None:
    """Release a part that was not finished, so that it runs when the run is resumed."""
    part.row().filter(owner=part.owner).update(owner="", lease_until=None)


def postpone(run: BatchRun, part: BatchPart, seconds: float, counted: bool) -> None:
    """Give a part back until then; the run's lease lasts as long. `counted` says that the attempt was a failure."""
    now = timezone.now()
    mine = part.row().filter(owner=part.owner)
    # A little early: the message comes when the time is up by another clock.
    until = now + timedelta(seconds=seconds * 0.9)
    mine.update(owner="", lease_until=until, **({} if counted else {"attempts": F("attempts") - 1}))
    mine_too = run.row().filter(owner=WORKERS, state=BatchRun.State.RUNNING)
    mine_too.filter(lease_until__lt=until + timedelta(seconds=LEASE_SECONDS)).update(
        lease_until=until + timedelta(seconds=LEASE_SECONDS)
    )


def beat(run: BatchRun) -> None:
    """Prolong the run's lease if that is due; of several workers that find it due, one does."""
    now = timezone.now()
    known = run.heartbeat_at
    since = BEAT_SECONDS if known is None else (now - known).total_seconds()
    if since < BEAT_SECONDS:
        return
    run.heartbeat_at = now
    mine = run.row().filter(owner=WORKERS, heartbeat_at=known)
    mine.update(
        heartbeat_at=now,
        lease_until=now + timedelta(seconds=LEASE_SECONDS),
        active_seconds=F("active_seconds") + since,
    )


def rows_of(run: BatchRun, part: BatchPart, resolved: ResolvedPlan) -> tuple[list[KeyedRow], list[str], bool]:
    """The rows of a part, the keys of failed ones that are gone, and whether there are more than a part may have."""
    size = resolved.plan.chunk_size
    if part.failed:
        wanted = list(_failures(run, part).values_list("key", flat=True)[: size + 1])
        there = resolved.rows.by_key(wanted[:size])
        again = [resolved.rows.row(there[key], 0, None, retried=True) for key in wanted[:size] if key in there]
        return again, [key for key in wanted[:size] if key not in there], len(wanted) > size
    rows = list(resolved.rows.between(run, part.after, part.upto, size + 1))
    return rows[:size], [], len(rows) > size


def one_row_first(run: BatchRun, plan: Plan) -> bool:
    """Whether one row of the run goes alone: for it the server makes the task's program. Then none has ended yet."""
    has_program = plan.version is not None or plan.active_version is not None or plan.edge
    return not has_program and run.done == 0


def is_first(run: BatchRun, part: BatchPart) -> bool:
    """Whether this is the part whose row goes alone."""
    first: Optional[BatchPart] = parts_of(run).first()
    return first is not None and first.pk == part.pk


def held_back(run: BatchRun) -> list[int]:
    """The parts that waited for the row that went alone."""
    return list(parts_of(run).free(timezone.now()).values_list("pk", flat=True)[:PARTS_AT_ONCE])


def refused_since(run: BatchRun) -> float:
    """Return for how many seconds the rate limiter has refused every request of the run, this one included."""
    now = timezone.now()
    run.row().filter(refused_since=None).update(refused_since=now)
    run.refresh_from_db(fields=["refused_since"])
    return 0.0 if run.refused_since is None else (now - run.refused_since).total_seconds()


def was_answered(run: BatchRun) -> None:
    """A request of the run was answered by more than a refusal."""
    if run.refused_since is not None:
        run.row().update(refused_since=None)


def split(run: BatchRun, part: BatchPart, resolved: ResolvedPlan, *, alone: bool = False) -> list[BatchPart]:
    """Make small parts of a large one, and one of the rest; with `alone` one of a row, and the rest.

    Raises `LeaseLost`.
    """
    size, most = (1, 1) if alone else (resolved.plan.chunk_size, PARTS_AT_ONCE)
    if part.failed:
        ends = [str(failure) for failure in _failures(run, part)[: most * size + 1]]
        bounds = ends[:-1][size - 1 :: size]
    else:
        # The last part is up to the end of this one, whichever keys come there meanwhile.
        bounds = resolved.rows.bounds(run, part.after, part.upto, size, most)
    ranges = list(zip([part.after, *bounds], [*bounds, part.upto]))
    with transaction.atomic(using=run.database):
        if not part.give_back():
            raise LeaseLost(f"part {part.pk} of run {run.pk} was taken by another worker")
        return [_part(run, after, upto, failed=part.failed) for after, upto in ranges]


def settle(run: BatchRun) -> bool:
    """End a run that has no parts left, or is to stop and has none in progress; whether that was done here."""
    parts = parts_of(run)
    now = timezone.now()
    if not parts.exists():
        return run.end(WORKERS, BatchRun.State.FINISHED, now)
    if parts.filter(lease_until__gte=now).exclude(owner="").exists():
        return False
    failed = given_up(run)
    if failed is not None:
        return run.end(WORKERS, BatchRun.State.STOPPED, now, failed.error)
    return run.cancel_requested and run.end(WORKERS, BatchRun.State.CANCELLED, now)


def give_up(part: BatchPart, error: str) -> None:
    """Give a part back that cannot be done: the run ends once no other is in progress, and `--resume` takes it."""
    part.row().filter(owner=part.owner).update(owner="", lease_until=None, error=storable(error))


def given_up(run: BatchRun) -> Optional[BatchPart]:
    """Return a part that was given up, by which the run is to end."""
    part: Optional[BatchPart] = parts_of(run).exclude(error="").first()
    return part


def abandoned(run: BatchRun, done_before: int) -> Iterable[int]:
    """Parts whose messages have to be sent once more.

    Those of killed workers; and all, where since the last look no row has ended and nobody is at one: a broker may
    keep messages that a killed worker had fetched.
    """
    parts = parts_of(run)
    now = timezone.now()
    for held in parts.filter(lease_until__gte=now).exclude(owner=""):
        if was_killed(held.owner):
            parts.filter(pk=held.pk, owner=held.owner).update(lease_until=now - timedelta(seconds=1))
    if given_up(run) is not None:
        return []
    idle = run.done == done_before and not parts.filter(lease_until__gte=now).exists()
    wanted = parts.free(now) if idle else parts.filter(lease_until__lt=now)
    return list(wanted.values_list("pk", flat=True)[: 2 * PARTS_AT_ONCE])
