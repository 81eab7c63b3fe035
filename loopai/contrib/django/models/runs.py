"""`BatchRun`: what the database knows of a batch. Who carries it out is in the commands and engines.

A run belongs to one owner at a time by a lease, which a heartbeat prolongs; every change of state is one UPDATE that
names the state it expects, so that of two who try one succeeds.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from django.db import DEFAULT_DB_ALIAS, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from ....batch.reporting.statistics import Statistics
from ....batch.resume.keys import digest
from .. import keys
from ..ranges import Mark, advanced
from ..signals import batch_requested

if TYPE_CHECKING:
    from .parts import BatchPart

LONGEST_MESSAGE = 2000
"""Characters kept of a failure's text; a server's error may quote the whole input."""

_MODE_FLAGS = frozenset({"--resume", "--retry-failed", "--overwrite"})


class LeaseLost(Exception):
    """The run, or the part of it, is somebody else's by now: roll back what you wrote, and stop."""


class Failure(NamedTuple):
    """A row that ended as an error: its key as text, the kind of error, and a text for people.

    `latency_ms` is the server's figure; `compared` says that the row's right answer is known.
    """

    key: str
    code: str
    message: str
    latency_ms: Optional[float] = None
    compared: bool = False


def _kept(text: str) -> str:
    """The text as every database takes it: PostgreSQL refuses NUL, and no one takes half a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _digest(key: str) -> str:
    return digest(key).hex()


class BatchRunManager(models.Manager):
    """Runs by what they do."""

    def latest_of(self, fingerprint: str) -> Optional[BatchRun]:
        """The newest run of that fingerprint: what `--resume` goes on with."""
        found: Optional[BatchRun] = self.filter(fingerprint=fingerprint).order_by("-pk").first()
        return found


class BatchRun(models.Model):
    """One run of a task over rows: what, how far, who is at it."""

    class State(models.TextChoices):
        """Where a run is. `RUNNING` without a lease that holds was killed."""

        PENDING = "pending", "pending"
        RUNNING = "running", "running"
        FINISHED = "finished", "finished"
        CANCELLED = "cancelled", "cancelled"
        STOPPED = "stopped", "stopped"
        INTERRUPTED = "interrupted", "interrupted"

    class Mode(models.TextChoices):
        """What whoever takes the run next is to do. `RETRY_FAILED`: the failed rows, then what remains."""

        RUN = "run", "run"
        RESUME = "resume", "resume"
        RETRY_FAILED = "retry_failed", "retry failed rows"

    class Engine(models.TextChoices):
        """What carries the run out."""

        INLINE = "inline", "inline"
        CELERY = "celery", "Celery"

    task = models.CharField(max_length=200, help_text="Name or id of the task.")
    alias = models.CharField(max_length=100, default="default", help_text="Alias in the LOOPAI setting.")
    source = models.CharField(max_length=500, help_text="The queryset's model and manager method.")
    engine = models.CharField(max_length=20, choices=Engine.choices, default=Engine.INLINE)
    fingerprint = models.CharField(max_length=64, db_index=True, help_text="Of task, source and mapping.")
    options = models.JSONField(default=dict, blank=True, help_text="What the run was asked for, by option.")
    command = models.JSONField(default=list, blank=True, help_text="The command as it was typed, word by word.")

    state = models.CharField(max_length=20, choices=State.choices, default=State.PENDING, db_index=True)
    mode = models.CharField(max_length=20, choices=Mode.choices, default=Mode.RUN)
    cancel_requested = models.BooleanField(default=False)
    error = models.TextField(blank=True, help_text="Why the run stopped.")

    key_kind = models.CharField(max_length=10, default=keys.INTEGER)
    mark = models.TextField(null=True, blank=True, help_text="Every row up to this key is finished.")
    upper_key = models.TextField(null=True, blank=True, help_text="The highest key when the run began.")
    finished_ranges = models.JSONField(default=list, blank=True, help_text="Finished beyond the mark: after, up to.")
    total = models.PositiveBigIntegerField(null=True, blank=True)
    ok = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    skipped = models.PositiveBigIntegerField(default=0)
    tally = models.JSONField(default=dict, blank=True, help_text="What workers counted, but for rows that failed.")

    owner = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    active_seconds = models.FloatField(default=0.0, help_text="Time at work, without the pauses between resumes.")

    objects = BatchRunManager()

    class Meta:
        """What Django asks."""

        ordering = ["-pk"]
        verbose_name = "batch run"

    def __str__(self) -> str:
        return f"{self.task} over {self.source}"

    @staticmethod
    def fingerprint_of(**what: Any) -> str:
        """The fingerprint of what makes a run the same run: task, source, filter, mapping, targets."""
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    # What is shown

    @property
    def done(self) -> int:
        """Rows that ended, whichever way."""
        return int(self.ok + self.errors + self.skipped)

    @property
    def share(self) -> Optional[float]:
        """How much is done, 0 to 1; `None` where the number of rows is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def rows_per_second(self) -> Optional[float]:
        """Rows a second of time at work; skipped ones cost nothing and do not count."""
        return (self.ok + self.errors) / self.active_seconds if self.active_seconds > 0 else None

    @property
    def seconds_left(self) -> Optional[float]:
        """Seconds until the end at the speed so far; `None` where that cannot be told."""
        speed = self.rows_per_second
        return max(0, self.total - self.done) / speed if self.total and speed else None

    def is_live(self, now: Optional[datetime] = None) -> bool:
        """Whether somebody is at it."""
        held = self.lease_until is not None and self.lease_until >= (now or timezone.now())
        return self.state == self.State.RUNNING and held

    def is_stalled(self, now: Optional[datetime] = None) -> bool:
        """Whether its owner was killed, or cannot reach the database: the lease has run out."""
        return self.state == self.State.RUNNING and not self.is_live(now)

    def command_line(self, *flags: str) -> str:
        """The command to type so that the run goes on as `flags` say (`--resume`); empty where none started it."""
        words = [word for word in self.command if word not in _MODE_FLAGS]
        return shlex.join([*words, *flags]) if words else ""

    # What people ask for

    def request_cancel(self, now: Optional[datetime] = None) -> bool:
        """Have the run cancelled: by its owner after the chunks under way, or here where nobody is at it.

        `False` if there is nothing to cancel.
        """
        now = now or timezone.now()
        live = Q(state=self.State.RUNNING, lease_until__gte=now)
        if self._rows().filter(live).update(cancel_requested=True):
            self.cancel_requested = True
            return True
        idle = Q(state=self.State.PENDING) | self._stalled(now)
        return self._change(idle, state=self.State.CANCELLED, finished_at=now, owner="", lease_until=None)

    def request_resume(self, now: Optional[datetime] = None) -> bool:
        """Have the run go on where it stopped. `False` if it is finished, or somebody is at it."""
        return self._request(self.Mode.RESUME, self._ended_early(now or timezone.now()))

    def request_retry(self, now: Optional[datetime] = None) -> bool:
        """Have the failed rows repeated, then what remains. `False` if none failed, or somebody is at it."""
        ended = Q(state=self.State.FINISHED) | self._ended_early(now or timezone.now())
        return self._request(self.Mode.RETRY_FAILED, ended & Q(errors__gt=0))

    def _request(self, mode: Any, expected: Q) -> bool:
        clean = {"cancel_requested": False, "error": "", "finished_at": None, "owner": "", "lease_until": None}
        if not self._change(expected, state=self.State.PENDING, mode=mode, **clean):
            return False
        transaction.on_commit(lambda: batch_requested.send(BatchRun, run=self), using=self.database)
        return True

    def _stalled(self, now: datetime) -> Q:
        return Q(state=self.State.RUNNING) & (Q(lease_until__isnull=True) | Q(lease_until__lt=now))

    def _ended_early(self, now: datetime) -> Q:
        ended = (self.State.CANCELLED, self.State.STOPPED, self.State.INTERRUPTED)
        return Q(state__in=ended) | self._stalled(now)

    # What engines do

    @property
    def database(self) -> str:
        """The alias of the database that holds the run, and must hold the rows: a chunk is one transaction."""
        return str(self._state.db or DEFAULT_DB_ALIAS)

    def acquire(self, owner: str, now: datetime, lease_seconds: float) -> bool:
        """Become the owner of a run that is pending, or whose owner's lease has run out. `False` if it is not free."""
        free = Q(state=self.State.PENDING) | self._stalled(now) | Q(state=self.State.RUNNING, owner=owner)
        return self._change(
            free,
            state=self.State.RUNNING,
            owner=owner,
            lease_until=now + timedelta(seconds=lease_seconds),
            heartbeat_at=now,
            started_at=Coalesce(F("started_at"), now, output_field=models.DateTimeField()),
        )

    def beat(self, owner: str, now: datetime, lease_seconds: float) -> bool:
        """Prolong the lease, and learn whether to cancel (`cancel_requested`). `False` if the run is not yours now."""
        return self._change(
            Q(state=self.State.RUNNING, owner=owner),
            lease_until=now + timedelta(seconds=lease_seconds),
            heartbeat_at=now,
            active_seconds=F("active_seconds") + self._since_beat(now),
        )

    def end(self, owner: str, state: Any, now: datetime, error: str = "") -> bool:
        """End as `state` and give the lease back. `False` if the run is not yours now."""
        done: dict[str, Any] = {"mode": self.Mode.RUN, "finished_ranges": []} if state == self.State.FINISHED else {}
        return self._change(
            Q(state=self.State.RUNNING, owner=owner),
            state=state,
            error=_kept(error),
            finished_at=now,
            owner="",
            lease_until=None,
            active_seconds=F("active_seconds") + self._since_beat(now),
            **done,
        )

    def remaining(self, queryset: Any) -> Any:
        """The queryset without the rows that are finished, and without those that came after the run began.

        What is before and after a key, the database says.
        """

        def key(text: str) -> Any:
            return keys.from_text(self.key_kind, text)

        if self.mark is not None:
            queryset = queryset.filter(pk__gt=key(self.mark))
        if self.upper_key is not None:
            queryset = queryset.filter(pk__lte=key(self.upper_key))
        for after, upto in self.finished_ranges:
            inside = Q(pk__lte=key(upto)) & (Q() if after is None else Q(pk__gt=key(after)))
            queryset = queryset.exclude(inside)
        return queryset

    def record_chunk(
        self,
        after: Mark,
        upto: str,
        *,
        ok: int = 0,
        failures: Collection[Failure] = (),
        skipped: int = 0,
        owner: Optional[str] = None,
        part: Optional[BatchPart] = None,
        tally: Optional[Statistics] = None,
    ) -> None:
        """Note that the rows after the key `after` (`None`: from the first) up to the key `upto` have ended.

        Call it in the transaction that writes their results (`transaction.atomic(using=run.database)`), which reads
        nothing before it writes: SQLite refuses to write then where another process wrote meanwhile. `owner` is yours
        where one process carries out the run, `part` where it was handed to you, with what it counted beside
        (`tally`). Raises `LeaseLost` where it is not yours now, which must undo that transaction.
        """
        counts = {"ok": ok, "errors": len(failures), "skipped": skipped}
        # Without a savepoint: what fails here undoes the caller's transaction, too.
        with transaction.atomic(using=self.database, savepoint=False):
            if owner is not None:
                # The only one who moves the mark: what was read when the run was acquired is the latest.
                mark, ranges = advanced(self.mark, self.finished_ranges, after, upto)
                self._count(owner, part, counts, mark=mark, finished_ranges=ranges)
                for name, number in counts.items():
                    setattr(self, name, getattr(self, name) + number)
            else:
                # The UPDATE comes first: it locks the run, so that the ranges read next are the latest.
                self._count(None, part, counts)
                self.refresh_from_db(fields=["mark", "finished_ranges", *counts, "tally", "cancel_requested"])
                mark, ranges = advanced(self.mark, self.finished_ranges, after, upto)
                self._rows().update(mark=mark, finished_ranges=ranges, tally=self._merged(tally))
            self.mark, self.finished_ranges = mark, ranges
            self._replace_failures(failures)

    def record_retried(
        self,
        *,
        ok: Collection[str] = (),
        failures: Collection[Failure] = (),
        skipped: Collection[str] = (),
        owner: Optional[str] = None,
        part: Optional[BatchPart] = None,
        tally: Optional[Statistics] = None,
    ) -> None:
        """Note how rows ended that had failed before: the keys of those now right or gone, and those failed again.

        Call it as `record_chunk`. Raises `LeaseLost`.
        """
        with transaction.atomic(using=self.database, savepoint=False):
            self._count(owner, part, {})
            right, gone = self._forget_failures(ok), self._forget_failures(skipped)
            self._rows().update(ok=F("ok") + right, skipped=F("skipped") + gone, errors=F("errors") - (right + gone))
            self._replace_failures(failures)
            self.refresh_from_db(fields=["ok", "errors", "skipped", "tally", "cancel_requested"])
            if tally is not None:
                self._rows().update(tally=self._merged(tally))

    def hand_out(self, ranges: Iterable[tuple[Mark, str]]) -> list[BatchPart]:
        """Parts of the run for workers to take: for each range what comes after one key up to another."""
        with transaction.atomic(using=self.database):
            # One by one: not every database gives the keys of many back.
            return [self.parts.using(self.database).create(run=self, after=after, upto=upto) for after, upto in ranges]

    def _rows(self) -> Any:
        return type(self).objects.using(self.database).filter(pk=self.pk)

    def _change(self, expected: Q, **values: Any) -> bool:
        """Change what is as expected, and read the run anew."""
        changed = bool(self._rows().filter(expected).update(**values))
        try:
            self.refresh_from_db()
        except self.DoesNotExist:
            return False  # deleted meanwhile
        return changed

    def _since_beat(self, now: datetime) -> float:
        return 0.0 if self.heartbeat_at is None else max(0.0, (now - self.heartbeat_at).total_seconds())

    def _count(self, owner: Optional[str], part: Optional[BatchPart], more: Mapping[str, int], **changed: Any) -> None:
        if (owner is None) == (part is None):
            raise ValueError("give owner, where one process carries out the run, or part, where workers do")
        rows = self._rows().filter(state=self.State.RUNNING)
        if owner is not None:
            rows = rows.filter(owner=owner)
        counts = {name: F(name) + number for name, number in more.items()}
        if not rows.update(state=self.State.RUNNING, **counts, **changed):
            raise LeaseLost(f"run {self.pk} is not {owner or 'running'} now")
        if part is not None and not part.give_back():
            raise LeaseLost(f"part {part.pk} of run {self.pk} was taken by another worker")

    def _merged(self, tally: Optional[Statistics]) -> dict[str, Any]:
        """What was counted so far, with that; to be asked while the run is locked."""
        if tally is None:
            return dict(self.tally)
        whole = Statistics.load(self.tally) if self.tally else tally
        if whole is not tally:
            whole.merge(tally)
        self.tally = whole.dump()
        return dict(self.tally)

    def _forget_failures(self, found: Iterable[str]) -> int:
        digests = [_digest(key) for key in found]
        removed: int = self._failures().filter(digest__in=digests).delete()[0] if digests else 0
        return removed

    def _replace_failures(self, failures: Collection[Failure]) -> None:
        self._forget_failures(failure.key for failure in failures)
        kind = self.failures.model
        self._failures().bulk_create(
            kind(
                run=self,
                digest=_digest(failure.key),
                key=_kept(failure.key),
                code=failure.code,
                message=_kept(failure.message[:LONGEST_MESSAGE]),
                latency_ms=failure.latency_ms,
                compared=failure.compared,
            )
            for failure in failures
        )

    def _failures(self) -> Any:
        return self.failures.using(self.database)
