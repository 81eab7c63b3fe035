"""`BatchRun`: the record of a batch. Commands and engines run it.

A run belongs to one owner at a time by a lease, which a heartbeat extends. Every change of state is one UPDATE that
names the expected state, so that only one of two processes succeeds.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from datetime import datetime, timedelta
from typing import Any, Optional

from django.db import DEFAULT_DB_ALIAS, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from .... import modes
from ....batch.reporting.quality import Quality, storable
from ....batch.reporting.snapshot import Snapshot
from ....option_names import in_shell
from .. import keys
from ..signals import batch_requested

_MODE_FLAGS = frozenset(map(in_shell, modes.MODE_FLAGS))


_REPORTED = ("mapping", "filters", "excludes", "save_to", "only_empty", "version", "active_version", "expect", "limit")
"""The options of a run that its report shows."""


class BatchRunManager(models.Manager):
    """Look-ups of runs."""

    def latest_of(self, fingerprint: str) -> Optional[BatchRun]:
        """Return the newest run with that fingerprint, which `--resume` continues."""
        latest: Optional[BatchRun] = self.filter(fingerprint=fingerprint).order_by("-pk").first()
        return latest


class BatchRun(models.Model):
    """One run of a task over rows: its options, progress and worker."""

    class State(models.TextChoices):
        """The state of a run. A `RUNNING` run whose lease has expired was killed."""

        PENDING = "pending", "pending"
        RUNNING = "running", "running"
        FINISHED = "finished", "finished"
        CANCELLED = "cancelled", "cancelled"
        STOPPED = "stopped", "stopped"
        INTERRUPTED = "interrupted", "interrupted"

    class Mode(models.TextChoices):
        """What the next worker does. `RETRY_FAILED`: the failed rows, then the remaining ones."""

        RUN = "run", "run"
        RESUME = modes.RESUME, "resume"
        RETRY_FAILED = modes.RETRY_FAILED, "retry failed rows"

    class Engine(models.TextChoices):
        """Where the run is executed."""

        INLINE = "inline", "inline"
        CELERY = "celery", "Celery"

    task = models.CharField(max_length=200, help_text="Name or id of the task.")
    alias = models.CharField(max_length=100, default="default", help_text="Alias in the LOOPAI setting.")
    source = models.CharField(max_length=500, help_text="The queryset's model and manager method.")
    engine = models.CharField(max_length=20, choices=Engine.choices, default=Engine.INLINE)
    fingerprint = models.CharField(max_length=64, db_index=True, help_text="Digest of task, source and mapping.")
    options = models.JSONField(default=dict, blank=True, help_text="The run's options.")
    command = models.JSONField(default=list, blank=True, help_text="The command as it was typed, word by word.")

    state = models.CharField(max_length=20, choices=State.choices, default=State.PENDING, db_index=True)
    mode = models.CharField(max_length=20, choices=Mode.choices, default=Mode.RUN)
    cancel_requested = models.BooleanField(default=False)
    error = models.TextField(blank=True, help_text="Why the run stopped.")

    mark = models.TextField(null=True, blank=True, help_text="Every row up to this key is finished.")
    upper_key = models.TextField(null=True, blank=True, help_text="The highest key when the run began.")
    finished_ranges = models.JSONField(
        default=list, blank=True, help_text="Finished ranges beyond the mark: after, up to."
    )
    total = models.PositiveBigIntegerField(null=True, blank=True)
    ok = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    skipped = models.PositiveBigIntegerField(default=0)
    tally = models.JSONField(default=dict, blank=True, help_text="What workers counted, without failed rows.")
    compared = models.PositiveBigIntegerField(default=0, help_text="Rows whose right answer is known (--expect).")
    correct = models.PositiveBigIntegerField(default=0, help_text="Compared rows whose result was right.")

    started_by = models.CharField(max_length=200, blank=True, help_text="User and host that started it.")
    owner = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    refused_since = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when the rate limiter has refused every request."
    )

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    active_seconds = models.FloatField(default=0.0, help_text="Working time, without the pauses between resumes.")

    objects = BatchRunManager()

    class Meta:
        """Django's options."""

        ordering = ["-pk"]
        verbose_name = "batch run"

    def __str__(self) -> str:
        return f"{self.task} over {self.source}"

    @staticmethod
    def fingerprint_of(**what: Any) -> str:
        """A digest of what identifies a run: task, source, filter, mapping, targets."""
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    # Figures to show

    @property
    def done(self) -> int:
        """Finished rows, with any status."""
        return int(self.ok + self.errors + self.skipped)

    @property
    def accuracy(self) -> Optional[float]:
        """Share of right answers among rows compared with `--expect`; `None` if none was. Failed rows do not count."""
        counted = self.tally.get("quality")
        if counted is not None:
            return Quality.load(counted).accuracy
        return self.correct / self.compared if self.compared else None

    def snapshot(self) -> Snapshot:
        """Return the run's figures: rows, speed (`rate`, rows a second), share done (`fraction`), seconds `left`."""
        return Snapshot(
            self.ok,
            self.errors,
            self.skipped,
            self.total,
            self.active_seconds,
            name=self.task,
            task=self.options.get("task_id"),
            source=self.source,
            options=self._reported(),
        )

    def _reported(self) -> dict[str, str]:
        """The options of the run, as its report shows them."""
        given = {name: self.options.get(name) for name in _REPORTED}
        texts = {
            name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in given.items() if value
        }
        return {name: text for name, text in texts.items() if text}

    def is_live(self, now: Optional[datetime] = None) -> bool:
        """Whether a worker is running it."""
        held = self.lease_until is not None and self.lease_until >= (now or timezone.now())
        return self.state == self.State.RUNNING and held

    def is_stalled(self, now: Optional[datetime] = None) -> bool:
        """Whether its owner was killed, or cannot reach the database: the lease has expired."""
        return self.state == self.State.RUNNING and not self.is_live(now)

    def command_line(self, *flags: str) -> str:
        """Return the command that continues the run with these flags (`--resume`); empty if no command started it."""
        words = [word for word in self.command if word not in _MODE_FLAGS]
        return shlex.join([*words, *flags]) if words else ""

    # Requests by people

    def request_cancel(self, now: Optional[datetime] = None) -> bool:
        """Cancel the run: its owner ends it after the chunks in progress; without an owner it ends now.

        `False` if there is nothing to cancel.
        """
        now = now or timezone.now()
        live = Q(state=self.State.RUNNING, lease_until__gte=now)
        if self.row().filter(live).update(cancel_requested=True):
            self.cancel_requested = True
            return True
        idle = Q(state=self.State.PENDING) | self._stalled(now)
        return self._change(idle, state=self.State.CANCELLED, finished_at=now, owner="", lease_until=None)

    def request_resume(self, now: Optional[datetime] = None) -> bool:
        """Request that the run is resumed. `False` if it is finished, or a worker has it."""
        return self._request(self.Mode.RESUME, self._ended_early(now or timezone.now()))

    def request_retry(self, now: Optional[datetime] = None) -> bool:
        """Request that failed rows run again, then the remaining ones. `False` if none failed, or a worker has it."""
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

    # For engines

    @property
    def database(self) -> str:
        """The alias of the database that holds the run, and must hold the rows: a chunk is one transaction."""
        return str(self._state.db or DEFAULT_DB_ALIAS)

    def acquire(self, owner: str, now: datetime, lease_seconds: float) -> bool:
        """Acquire a run that is pending, or whose owner's lease has expired. `False` if it is not free."""
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
        """Extend the lease, and read `cancel_requested`. `False` if the run no longer belongs to the owner."""
        return self._change(
            Q(state=self.State.RUNNING, owner=owner),
            lease_until=now + timedelta(seconds=lease_seconds),
            heartbeat_at=now,
            active_seconds=F("active_seconds") + self._since_beat(now),
        )

    def end(
        self, owner: str, state: Any, now: datetime, error: str = "", *, compared: int = 0, correct: int = 0
    ) -> bool:
        """End the run with this state, and release the lease. `False` if it no longer belongs to the owner.

        `compared` and `correct` are counts of rows that are added to the run's.
        """
        done: dict[str, Any] = {"mode": self.Mode.RUN, "finished_ranges": []} if state == self.State.FINISHED else {}
        return self._change(
            Q(state=self.State.RUNNING, owner=owner),
            state=state,
            error=storable(error),
            finished_at=now,
            owner="",
            lease_until=None,
            active_seconds=F("active_seconds") + self._since_beat(now),
            compared=F("compared") + compared,
            correct=F("correct") + correct,
            **done,
        )

    def remaining(self, queryset: Any) -> Any:
        """Return the queryset without finished rows, and without rows that were added after the run began.

        The database decides which keys are before and after another.
        """

        def key(text: str) -> Any:
            return keys.from_text(queryset.model, text)

        if self.mark is not None:
            queryset = queryset.filter(pk__gt=key(self.mark))
        if self.upper_key is not None:
            queryset = queryset.filter(pk__lte=key(self.upper_key))
        for after, upto in self.finished_ranges:
            inside = Q(pk__lte=key(upto)) & (Q() if after is None else Q(pk__gt=key(after)))
            queryset = queryset.exclude(inside)
        return queryset

    def row(self) -> Any:
        """Return the run as a queryset in its own database, for changes by one UPDATE."""
        return type(self).objects.using(self.database).filter(pk=self.pk)

    def refresh_from_db(self, using: Optional[str] = None, *args: Any, **options: Any) -> None:
        """Read the run again, from its own database: a router may send reads to a replica."""
        super().refresh_from_db(using or self.database, *args, **options)

    def _change(self, expected: Q, **values: Any) -> bool:
        """Update the run if its state is as expected, and read it again."""
        changed = bool(self.row().filter(expected).update(**values))
        try:
            self.refresh_from_db()
        except self.DoesNotExist:
            return False  # deleted meanwhile
        return changed

    def _since_beat(self, now: datetime) -> float:
        return 0.0 if self.heartbeat_at is None else max(0.0, (now - self.heartbeat_at).total_seconds())
