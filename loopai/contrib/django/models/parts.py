"""Records that belong to a run: failed rows, and the parts of workers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Optional

from django.db import models
from django.db.models import Case, F, Q, When

from ....batch.reporting.quality import storable
from ....batch.resume.keys import digest
from .runs import BatchRun

LONGEST_MESSAGE = 2000
"""Most characters of a stored error; a server's error may quote the whole input."""


class BatchFailure(models.Model):
    """A failed row; `--retry-failed` repeats it."""

    run = models.ForeignKey(BatchRun, on_delete=models.CASCADE, related_name="failures")
    # Unique instead of the key: some collations treat "a" and "A" as equal.
    digest = models.CharField(max_length=32, editable=False)
    key = models.TextField(help_text="Primary key of the row.")
    code = models.CharField(max_length=50)
    message = models.TextField(blank=True)
    latency_ms = models.FloatField(null=True, blank=True, help_text="As reported by the server, in milliseconds.")
    compared = models.BooleanField(default=False, help_text="The row's right answer is known.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """What Django asks."""

        ordering = ["pk"]
        verbose_name = "failed row"
        constraints = [models.UniqueConstraint(fields=["run", "digest"], name="loopai_one_failure_a_row")]

    def __str__(self) -> str:
        return f"{self.key}: {self.code}"

    @classmethod
    def of(
        cls, key: str, code: str, message: str, latency_ms: Optional[float] = None, compared: bool = False
    ) -> BatchFailure:
        """Return the failure of a row, unsaved, with texts that every database accepts."""
        message = storable(message[:LONGEST_MESSAGE])
        return cls(digest=digest(key).hex(), key=storable(key), code=code, message=message, latency_ms=latency_ms,
                   compared=compared)  # fmt: skip


class PartQuerySet(models.QuerySet):
    """Parts by whether a worker has them."""

    def free(self, now: datetime) -> PartQuerySet:
        """Return parts that are unclaimed, or whose worker's lease has expired."""
        unleased: PartQuerySet = self.filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now), error="")
        return unleased


class BatchPart(models.Model):
    """A key range of a run, for one worker at a time. It is deleted with the transaction that finishes it."""

    run = models.ForeignKey(BatchRun, on_delete=models.CASCADE, related_name="parts")
    after = models.TextField(null=True, blank=True, help_text="The part begins after this key.")
    upto = models.TextField(help_text="The part ends with this key.")
    owner = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    lost = models.PositiveIntegerField(default=0, help_text="Workers that stopped responding while they ran it.")
    error = models.TextField(blank=True, help_text="Why the part was given up.")
    failed = models.BooleanField(default=False, help_text="The keys are those of recorded failures, which run again.")

    objects = PartQuerySet.as_manager()

    class Meta:
        """What Django asks."""

        ordering = ["pk"]
        verbose_name = "part of a run"
        verbose_name_plural = "parts of runs"

    def __str__(self) -> str:
        return f"({self.after or 'start'}, {self.upto}]"

    def acquire(self, owner: str, now: datetime, lease_seconds: float) -> bool:
        """Claim the part. `False` if another worker has it, or it is finished."""
        lease = now + timedelta(seconds=lease_seconds)
        free = self.row().free(now)
        # MySQL assigns from left to right: `lost` must see the previous owner.
        silent = Case(When(owner="", then=0), default=1)
        if not free.update(lost=F("lost") + silent, owner=owner, lease_until=lease, attempts=F("attempts") + 1):
            return False
        try:
            self.refresh_from_db()
        except type(self).DoesNotExist:
            return False
        return True

    def beat(self, now: datetime, lease_seconds: float) -> bool:
        """Extend the lease. `False` if another worker took the part."""
        lease = now + timedelta(seconds=lease_seconds)
        return bool(self.row().filter(owner=self.owner).update(lease_until=lease))

    def give_back(self) -> bool:
        """Delete the part, finished or no longer needed. `False` if another worker took it."""
        removed: int = self.row().filter(owner=self.owner).delete()[0]
        return bool(removed)

    def row(self) -> Any:
        """Return the part as a queryset in its own database, for changes by one UPDATE."""
        return type(self).objects.using(self._state.db).filter(pk=self.pk)

    def refresh_from_db(self, using: Optional[str] = None, *args: Any, **options: Any) -> None:
        """Read the part again, from its own database: a router may send reads to a replica."""
        super().refresh_from_db(using or self._state.db, *args, **options)
