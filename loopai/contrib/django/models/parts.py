"""What belongs to a run: rows that failed, and parts that were handed to workers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import F, Q

from .runs import BatchRun


class BatchFailure(models.Model):
    """A row that ended as an error; `--retry-failed` repeats it."""

    run = models.ForeignKey(BatchRun, on_delete=models.CASCADE, related_name="failures")
    # Unique in the key's place: some collations take "a" and "A" for one.
    digest = models.CharField(max_length=32, editable=False)
    key = models.TextField(help_text="Primary key of the row.")
    code = models.CharField(max_length=50)
    message = models.TextField(blank=True)
    latency_ms = models.FloatField(null=True, blank=True, help_text="The server's figure, in milliseconds.")
    compared = models.BooleanField(default=False, help_text="The row's right answer is known.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """What Django asks."""

        ordering = ["pk"]
        verbose_name = "failed row"
        constraints = [models.UniqueConstraint(fields=["run", "digest"], name="loopai_one_failure_a_row")]

    def __str__(self) -> str:
        return f"{self.key}: {self.code}"


class PartQuerySet(models.QuerySet):
    """Parts by whether somebody is at them."""

    def free(self, now: datetime) -> PartQuerySet:
        """Those that nobody took, or whose worker is silent for longer than its lease."""
        found: PartQuerySet = self.filter(Q(lease_until__isnull=True) | Q(lease_until__lt=now))
        return found


class BatchPart(models.Model):
    """A key range of a run, for one worker at a time. It is deleted with the transaction that finishes it."""

    run = models.ForeignKey(BatchRun, on_delete=models.CASCADE, related_name="parts")
    after = models.TextField(null=True, blank=True, help_text="The part begins after this key.")
    upto = models.TextField(help_text="The part ends with this key.")
    owner = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    failed = models.BooleanField(default=False, help_text="Keys are those of failed rows on record, to be repeated.")

    objects = PartQuerySet.as_manager()

    class Meta:
        """What Django asks."""

        ordering = ["pk"]
        verbose_name = "part of a run"
        verbose_name_plural = "parts of runs"

    def __str__(self) -> str:
        return f"({self.after or 'start'}, {self.upto}]"

    def acquire(self, owner: str, now: datetime, lease_seconds: float) -> bool:
        """Take the part. `False` where another worker is at it, or it is finished."""
        lease = now + timedelta(seconds=lease_seconds)
        free = self._rows().free(now)
        if not free.update(owner=owner, lease_until=lease, attempts=F("attempts") + 1):
            return False
        self.owner, self.lease_until = owner, lease
        self.attempts += 1
        return True

    def beat(self, now: datetime, lease_seconds: float) -> bool:
        """Prolong the lease. `False` where another worker took the part."""
        lease = now + timedelta(seconds=lease_seconds)
        return bool(self._rows().filter(owner=self.owner).update(lease_until=lease))

    def give_back(self) -> bool:
        """Delete the part, finished or not wanted. `False` where another worker took it."""
        removed: int = self._rows().filter(owner=self.owner).delete()[0]
        return bool(removed)

    def _rows(self) -> Any:
        return type(self).objects.using(self._state.db).filter(pk=self.pk)
