"""Parts of a run: how the key range is split, taken and released. Messages about parts are sent elsewhere.

A part with more rows than a chunk is split into parts of one chunk each and one part for the rest, so a run of any
length has about a hundred parts at a time.
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
"""Owner of a run that was handed to workers: any worker may renew its lease, and end it."""

PART_LEASE_SECONDS = 20.0
"""How long a silent worker keeps its part; while a request is in flight, it sends a heartbeat every second."""

PARTS_AT_ONCE = 200
"""Parts made by one split: enough to keep many workers busy, few enough for one transaction and for a broker."""


def parts_of(run: BatchRun) -> Any:
    """Return the run's parts, from the run's database."""
    return BatchPart.objects.using(run.database).filter(run_id=run.pk)


def first_parts(run: BatchRun, resolved: ResolvedPlan) -> list[BatchPart]:
    """Return the parts of a run that starts or is resumed: those left from before, or one for all remaining rows.

    Call it in a transaction: if two processes resume one run, the second one finds the parts made by the first.
    """
    # Locks the run.
    run.row().update(refused_since=None)
    parts = parts_of(run)
    retries = run.mode == BatchRun.Mode.RETRY_FAILED
    if retries:
        parts.filter(failed=True).delete()  # rows that failed since they were made must be repeated too
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
    """The keys of the recorded failures, or of those in one part, in the order of a part of failed rows."""
    failures = failures_of(run)
    if part is not None:
        failures = failures.filter(pk__gt=int(part.after or 0), pk__lte=int(part.upto))
    return failures.values_list("pk", flat=True)


def take(part: BatchPart, owner: str) -> Optional[float]:
    """Take a part: return `None` on success, otherwise the seconds until the next attempt, 0 if it is finished."""
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
    """Release an unfinished part, so that it runs when the run is resumed."""
    part.row().filter(owner=part.owner).update(owner="", lease_until=None)


def postpone(run: BatchRun, part: BatchPart, seconds: float, counted: bool) -> None:
    """Release a part for `seconds`, and extend the run's lease as long. `counted`: the attempt counts as a failure."""
    now = timezone.now()
    mine = part.row().filter(owner=part.owner)
    # A little early: the message is delivered by another clock.
    until = now + timedelta(seconds=seconds * 0.9)
    mine.update(owner="", lease_until=until, **({} if counted else {"attempts": F("attempts") - 1}))
    mine_too = run.row().filter(owner=WORKERS, state=BatchRun.State.RUNNING)
    mine_too.filter(lease_until__lt=until + timedelta(seconds=LEASE_SECONDS)).update(
        lease_until=until + timedelta(seconds=LEASE_SECONDS)
    )


def beat(run: BatchRun) -> None:
    """Renew the run's lease if it is due; if several workers find it due, one of them does."""
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
    """Return a part's rows, the keys of failed rows that are gone, and whether there are too many rows for a part."""
    size = resolved.plan.chunk_size
    if part.failed:
        wanted = list(_failures(run, part).values_list("key", flat=True)[: size + 1])
        there = resolved.rows.by_key(wanted[:size])
        again = [resolved.rows.row(there[key], 0, None, retried=True) for key in wanted[:size] if key in there]
        return again, [key for key in wanted[:size] if key not in there], len(wanted) > size
    rows = list(resolved.rows.between(run, part.after, part.upto, size + 1))
    return rows[:size], [], len(rows) > size


def one_row_first(run: BatchRun, plan: Plan) -> bool:
    """Return whether one row must run alone first, for which the server makes the program; no row has ended yet."""
    has_program = plan.version is not None or plan.active_version is not None or plan.edge
    return not has_program and run.done == 0


def is_first(run: BatchRun, part: BatchPart) -> bool:
    """Return whether this is the part with the row that runs alone."""
    first: Optional[BatchPart] = parts_of(run).first()
    return first is not None and first.pk == part.pk


def held_back(run: BatchRun) -> list[int]:
    """Return the parts that waited for the row that ran alone."""
    return list(parts_of(run).free(timezone.now()).values_list("pk", flat=True)[:PARTS_AT_ONCE])


def refused_since(run: BatchRun) -> float:
    """Return for how many seconds the rate limiter has refused every request of the run, including this one."""
    now = timezone.now()
    run.row().filter(refused_since=None).update(refused_since=now)
    run.refresh_from_db(fields=["refused_since"])
    return 0.0 if run.refused_since is None else (now - run.refused_since).total_seconds()


def was_answered(run: BatchRun) -> None:
    """Record that the server answered a request of the run with something other than a rate limit refusal."""
    if run.refused_since is not None:
        run.row().update(refused_since=None)


def split(run: BatchRun, part: BatchPart, resolved: ResolvedPlan, *, alone: bool = False) -> list[BatchPart]:
    """Split a large part into small ones and one for the rest; with `alone`, into one of a single row and the rest.

    Raises `LeaseLost`.
    """
    size, most = (1, 1) if alone else (resolved.plan.chunk_size, PARTS_AT_ONCE)
    if part.failed:
        ends = [str(failure) for failure in _failures(run, part)[: most * size + 1]]
        bounds = ends[:-1][size - 1 :: size]
    else:
        # The last part reaches to the end of this one, so it covers keys that are added meanwhile.
        bounds = resolved.rows.bounds(run, part.after, part.upto, size, most)
    ranges = list(zip([part.after, *bounds], [*bounds, part.upto]))
    with transaction.atomic(using=run.database):
        if not part.give_back():
            raise LeaseLost(f"part {part.pk} of run {run.pk} was taken by another worker")
        return [_part(run, after, upto, failed=part.failed) for after, upto in ranges]


def settle(run: BatchRun) -> bool:
    """End a run that has no parts left, or must stop and has none in progress; return whether it was ended here."""
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
    """Give up on a part: the run ends once no other part is in progress, and `--resume` runs the part again."""
    part.row().filter(owner=part.owner).update(owner="", lease_until=None, error=storable(error))


def given_up(run: BatchRun) -> Optional[BatchPart]:
    """Return a part that was given up, which ends the run."""
    part: Optional[BatchPart] = parts_of(run).exclude(error="").first()
    return part


def abandoned(run: BatchRun, done_before: int) -> Iterable[int]:
    """Return the parts whose messages must be sent again.

    These are the parts of killed workers; and all parts, if no row has finished since the last check and no worker
    holds a part: a broker may hold back messages that a killed worker had fetched.
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
