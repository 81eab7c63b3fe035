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

from .. import keys
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
    """The parts of a run that begins or goes on: those that are left from before, or one for all that remains."""
    found = list(run.parts.using(run.database).all())
    newest: Any = run.failures.using(run.database).order_by("pk").values_list("pk", flat=True).last()
    again = run.mode == BatchRun.Mode.RETRY_FAILED and newest is not None
    if again and not any(part.failed for part in found):
        found.append(_part(run, "0", str(newest), failed=True))
    rest = all(part.failed for part in found)
    if rest and run.upper_key is not None and run.remaining(work.rows.queryset).exists():
        found.append(_part(run, run.mark, run.upper_key))
    return found


def _part(run: BatchRun, after: Optional[str], upto: str, failed: bool = False) -> BatchPart:
    made: BatchPart = run.parts.using(run.database).create(run=run, after=after, upto=upto, failed=failed)
    return made


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
    """The rows of a part, the keys of failed ones that are gone, and whether there are more than one chunk's."""
    size = work.plan.chunk_size
    if part.failed:
        wanted = [key for _, key in _failures(run, part)[: size + 1]]
        there = work.rows.by_key(wanted[:size])
        rows = [work.rows.row(there[key], 0, None, retried=True) for key in wanted if key in there]
        return rows, [key for key in wanted[:size] if key not in there], len(wanted) > size
    page = work.rows.page(_range(run, part, work), size + 1)
    rows = [work.rows.row(found, number, None) for number, found in enumerate(page[:size], 1)]
    return rows, [], len(page) > size


def split(run: BatchRun, part: BatchPart, work: Work) -> list[BatchPart]:
    """Make parts of one chunk each of a part, and one of the rest. Raises `LeaseLost`."""
    size = work.plan.chunk_size
    most = PARTS_AT_ONCE * size
    if part.failed:
        ends: list[str] = [str(pk) for pk, _ in _failures(run, part)[: most + 1]]
    else:
        ordered = _range(run, part, work).order_by("pk").values_list("pk", flat=True)
        ends = [keys.to_text(key) for key in ordered[: most + 1]]
    bounds = ends[size - 1 : most : size]
    if len(ends) <= most:
        # The last part is up to the end of this one, whichever keys come there meanwhile.
        bounds = bounds[: -(-len(ends) // size) - 1]
    ranges = list(zip([part.after, *bounds], [*bounds, part.upto]))
    with transaction.atomic(using=run.database):
        if not part.give_back():
            raise LeaseLost(f"part {part.pk} of run {run.pk} was taken by another worker")
        return [_part(run, after, upto, part.failed) for after, upto in ranges]


def _failures(run: BatchRun, part: BatchPart) -> Any:
    failures = run.failures.using(run.database).filter(pk__gt=int(part.after or 0), pk__lte=int(part.upto))
    return failures.order_by("pk").values_list("pk", "key")


def _range(run: BatchRun, part: BatchPart, work: Work) -> Any:
    found = run.remaining(work.rows.queryset).filter(pk__lte=keys.from_text(run.key_kind, part.upto))
    return found if part.after is None else found.filter(pk__gt=keys.from_text(run.key_kind, part.after))


def settle(run: BatchRun) -> None:
    """End a run that has no parts left, or was cancelled and has none under way."""
    parts = run.parts.using(run.database)
    now = timezone.now()
    if not parts.exists():
        run.end(WORKERS, BatchRun.State.FINISHED, now)
    elif run.cancel_requested and not parts.filter(lease_until__gte=now).exclude(owner="").exists():
        run.end(WORKERS, BatchRun.State.CANCELLED, now)


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
