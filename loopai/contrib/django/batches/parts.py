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

from ..models import BatchPart, BatchRun, LeaseLost
from .leases import BEAT_SECONDS, LEASE_SECONDS, was_killed
from .rows import KeyedRow
from .runs import Work

WORKERS = "celery workers"
"""Owner of a run that was handed to workers: any of them may prolong its lease, and end it."""

PART_LEASE_SECONDS = 20.0
"""How long a silent worker keeps its part; it gives a sign of life every second while a request is under way."""

PARTS_AT_ONCE = 200
"""Parts that one splitting makes: enough to keep many workers busy, few enough for one transaction and for a broker."""


def first_parts(run: BatchRun, work: Work) -> list[BatchPart]:
    """The parts of a run that begins or goes on: those that are left from before, or one for all that remains.

    Call it in a transaction: of two who have one run go on, the second finds what the first has made.
    """
    # Locks the run.
    BatchRun.objects.using(run.database).filter(pk=run.pk).update(state=F("state"))
    parts = run.parts.using(run.database)
    retries = run.mode == BatchRun.Mode.RETRY_FAILED
    if retries:
        parts.filter(failed=True).delete()  # what failed since they were made is to be repeated, too
    parts.filter(owner="").update(attempts=0)
    found = list(parts.all())
    newest = _failures(run).last() if retries else None
    if newest is not None:
        found.append(_part(run, "0", str(newest), failed=True))
    unsplit = run.upper_key is not None and all(part.failed for part in found)
    if unsplit and run.remaining(work.rows.queryset).exists():
        found.append(_part(run, run.mark, str(run.upper_key)))
    return found


def _part(run: BatchRun, after: Optional[str], upto: str, *, failed: bool = False) -> BatchPart:
    made: BatchPart = run.parts.using(run.database).create(run=run, after=after, upto=upto, failed=failed)
    return made


def _failures(run: BatchRun, part: Optional[BatchPart] = None) -> Any:
    """The keys of the failures on record, or of those in a part, in the order of a part of failed rows."""
    failures: Any = run.failures.using(run.database)
    if part is not None:
        failures = failures.filter(pk__gt=int(part.after or 0), pk__lte=int(part.upto))
    return failures.order_by("pk").values_list("pk", flat=True)


def take(part: BatchPart, owner: str) -> Optional[float]:
    """Take a part: `None` if it is ours, otherwise the seconds after which to try again, 0 if it is finished."""
    now = timezone.now()
    if part.acquire(owner, now, PART_LEASE_SECONDS):
        return None
    held = BatchPart.objects.using(part._state.db).filter(pk=part.pk).first()
    if held is None:
        return 0.0
    if held.owner and was_killed(held.owner):
        freed = BatchPart.objects.using(part._state.db).filter(pk=part.pk, owner=held.owner)
        freed.update(lease_until=None, owner="")
        if part.acquire(owner, now, PART_LEASE_SECONDS):
            return None
    left = 0.0 if held.lease_until is None else (held.lease_until - now).total_seconds()
    return max(1.0, left + 0.5)


def release(part: BatchPart) -> None:
    """Give a part back that was not done, for whoever goes on with the run."""
    BatchPart.objects.using(part._state.db).filter(pk=part.pk, owner=part.owner).update(owner="", lease_until=None)


def postpone(run: BatchRun, part: BatchPart, seconds: float, counted: bool) -> None:
    """Give a part back until then; the run's lease lasts as long. `counted` says that the attempt was a failure."""
    now = timezone.now()
    mine = BatchPart.objects.using(run.database).filter(pk=part.pk, owner=part.owner)
    # A little early: the message comes when the time is up by another clock.
    until = now + timedelta(seconds=seconds * 0.9)
    mine.update(owner="", lease_until=until, **({} if counted else {"attempts": F("attempts") - 1}))
    mine_too = BatchRun.objects.using(run.database).filter(pk=run.pk, owner=WORKERS, state=BatchRun.State.RUNNING)
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
    mine = BatchRun.objects.using(run.database).filter(pk=run.pk, owner=WORKERS, heartbeat_at=known)
    mine.update(
        heartbeat_at=now,
        lease_until=now + timedelta(seconds=LEASE_SECONDS),
        active_seconds=F("active_seconds") + since,
    )


def rows_of(run: BatchRun, part: BatchPart, work: Work) -> tuple[list[KeyedRow], list[str], bool]:
    """The rows of a part, the keys of failed ones that are gone, and whether there are more than a part may have."""
    size = work.plan.chunk_size
    if part.failed:
        wanted = list(_failures(run, part).values_list("key", flat=True)[: size + 1])
        there = work.rows.by_key(wanted[:size])
        again = [work.rows.row(there[key], 0, None, retried=True) for key in wanted[:size] if key in there]
        return again, [key for key in wanted[:size] if key not in there], len(wanted) > size
    rows = list(work.rows.between(run, part.after, part.upto, size + 1))
    return rows[:size], [], len(rows) > size


def split(run: BatchRun, part: BatchPart, work: Work) -> list[BatchPart]:
    """Make small parts of a large one, and one of the rest. Raises `LeaseLost`."""
    size = work.plan.chunk_size
    if part.failed:
        ends = [str(failure) for failure in _failures(run, part)[: PARTS_AT_ONCE * size + 1]]
        bounds = ends[:-1][size - 1 :: size]
    else:
        # The last part is up to the end of this one, whichever keys come there meanwhile.
        bounds = work.rows.bounds(run, part.after, part.upto, size, PARTS_AT_ONCE)
    ranges = list(zip([part.after, *bounds], [*bounds, part.upto]))
    with transaction.atomic(using=run.database):
        if not part.give_back():
            raise LeaseLost(f"part {part.pk} of run {run.pk} was taken by another worker")
        return [_part(run, after, upto, failed=part.failed) for after, upto in ranges]


def settle(run: BatchRun) -> bool:
    """End a run that has no parts left, or was cancelled and has none under way; whether that was done here."""
    parts = run.parts.using(run.database)
    now = timezone.now()
    if not parts.exists():
        return run.end(WORKERS, BatchRun.State.FINISHED, now)
    if run.cancel_requested and not parts.filter(lease_until__gte=now).exclude(owner="").exists():
        return run.end(WORKERS, BatchRun.State.CANCELLED, now)
    return False


def abandoned(run: BatchRun, done_before: int) -> Iterable[int]:
    """Parts whose messages have to be sent once more.

    Those of killed workers; and all, where since the last look no row has ended and nobody is at one: a broker may
    keep messages that a killed worker had fetched.
    """
    parts = run.parts.using(run.database)
    now = timezone.now()
    for held in parts.filter(lease_until__gte=now).exclude(owner=""):
        if was_killed(held.owner):
            parts.filter(pk=held.pk, owner=held.owner).update(lease_until=now - timedelta(seconds=1))
    idle = run.done == done_before and not parts.filter(lease_until__gte=now).exists()
    wanted = parts.free(now) if idle else parts.filter(lease_until__lt=now)
    return list(wanted.values_list("pk", flat=True)[: 2 * PARTS_AT_ONCE])
