"""Parts of a run: how the key range is cut up, taken and given back. Who passes messages about them is Celery's side.

A part that holds more rows than a chunk is split into parts of one chunk each and one that is the rest; so a run of any
length has some hundred parts at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Optional

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from ....batch.rows import Row
from ..models import BatchPart, BatchRun, LeaseLost
from .leases import BEAT_SECONDS, LEASE_SECONDS, was_killed
from .runs import Work
from .stores import Store, store_of

WORKERS = "celery workers"
"""Owner of a run that was handed to workers: any of them may prolong its lease, and end it."""

PART_LEASE_SECONDS = 20.0
"""How long a silent worker keeps its part; it gives a sign of life every second while a request is under way."""

JOIN_LEASE_SECONDS = 120.0
"""The same for the last part, which may be at one large file for a while."""

READ_LEASE_SECONDS = 120.0
"""The same while rows of a file are looked for: before them, and up to as many as splitting goes, much is read."""

PARTS_AT_ONCE = 200
"""Parts that one splitting makes: enough to keep many workers busy, few enough for one transaction and for a broker."""


def first_parts(run: BatchRun, work: Work) -> list[BatchPart]:
    """The parts of a run that begins or goes on: those that are left from before, or one for all that remains.

    Call it in a transaction: of two who have one run go on, the second finds what the first has made.
    """
    # Locks the run.
    BatchRun.objects.using(run.database).filter(pk=run.pk).update(state=F("state"))
    parts = run.parts.using(run.database)
    # Made anew: a message, or a worker, may still be at that of before, which others come ahead of by now.
    parts.filter(joins=True).delete()
    retries = run.mode == BatchRun.Mode.RETRY_FAILED
    if retries:
        parts.filter(failed=True).delete()  # what failed since they were made is to be repeated, too
    parts.filter(owner="").update(attempts=0)
    found = list(parts.all())
    newest = store_of(run, work).newest_failed() if retries else None
    if newest is not None:
        found.append(_part(run, "0", str(newest), failed=True))
    if all(part.failed for part in found) and run.upper_key is not None and _remain(run, work):
        found.append(_part(run, run.mark, run.upper_key))
    if work.plan.output is not None:
        _part(run, None, "", joins=True)
    return found


def _remain(run: BatchRun, work: Work) -> bool:
    if work.plan.output is not None:
        return run.mark != run.upper_key  # as each of its rows is written once, there are no others
    return bool(run.remaining(work.table.queryset).exists())


def _part(run: BatchRun, after: Optional[str], upto: str, *, failed: bool = False, joins: bool = False) -> BatchPart:
    made: BatchPart = run.parts.using(run.database).create(run=run, after=after, upto=upto, failed=failed, joins=joins)
    return made


def joining(run: BatchRun) -> list[BatchPart]:
    """The part that joins what the others wrote, once it is the last; otherwise none."""
    parts = run.parts.using(run.database)
    return [] if parts.filter(joins=False).exists() else list(parts.all())


def lease_seconds(part: BatchPart) -> float:
    """How long a silent worker keeps that part."""
    return JOIN_LEASE_SECONDS if part.joins else PART_LEASE_SECONDS


def take(part: BatchPart, owner: str) -> Optional[float]:
    """Take a part: `None` if it is ours, otherwise the seconds after which to try again, 0 if it is finished."""
    now = timezone.now()
    seconds = lease_seconds(part)
    if part.acquire(owner, now, seconds):
        return None
    held = BatchPart.objects.using(part._state.db).filter(pk=part.pk).first()
    if held is None:
        return 0.0
    if held.owner and was_killed(held.owner):
        freed = BatchPart.objects.using(part._state.db).filter(pk=part.pk, owner=held.owner)
        freed.update(lease_until=None, owner="")
        if part.acquire(owner, now, seconds):
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


def rows_of(run: BatchRun, part: BatchPart, work: Work, store: Store) -> tuple[list[Row], list[str], bool]:
    """The rows of a part, the keys of failed ones that are gone, and whether there are more than a part may have."""
    if part.failed:
        units = store.failed(part, store.units + 1)
        return *store.again(units[: store.units]), len(units) > store.units
    size = work.plan.chunk_size
    rows = list(work.rows.between(run, part.after, part.upto, size + 1))
    return rows[:size], [], len(rows) > size


def split(run: BatchRun, part: BatchPart, work: Work, store: Store) -> list[BatchPart]:
    """Make small parts of a large one, and one of the rest. Raises `LeaseLost`."""
    if part.failed:
        ends = [str(unit) for unit in store.failed(part, PARTS_AT_ONCE * store.units + 1)]
        bounds = ends[:-1][store.units - 1 :: store.units]
    else:
        # The last part is up to the end of this one, whichever keys come there meanwhile.
        bounds = work.rows.bounds(run, part.after, part.upto, work.plan.chunk_size, PARTS_AT_ONCE)
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
    parts = parts.filter(joins=not parts.filter(joins=False).exists())
    now = timezone.now()
    for held in parts.filter(lease_until__gte=now).exclude(owner=""):
        if was_killed(held.owner):
            parts.filter(pk=held.pk, owner=held.owner).update(lease_until=now - timedelta(seconds=1))
    idle = run.done == done_before and not parts.filter(lease_until__gte=now).exists()
    wanted = parts.free(now) if idle else parts.filter(lease_until__lt=now)
    return list(wanted.values_list("pk", flat=True)[: 2 * PARTS_AT_ONCE])
