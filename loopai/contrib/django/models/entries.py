"""`PendingRow`: the outbox of `enrich`. `enrichment` adds and processes entries."""

from __future__ import annotations

from django.db import models


class PendingRow(models.Model):
    """A row that waits for a declaration of `enrich`, written in the transaction that saved the row.

    It is deleted in the transaction that writes the row's results. Another save of the row increments `revision` and
    releases the entry from its worker, so that no result for the old row is written.
    """

    class State(models.TextChoices):
        """Whether the row will run. A failed one waits for a save, a new program or a request to retry."""

        PENDING = "pending", "pending"
        FAILED = "failed", "failed"

    LONGEST_NAME = 100
    """Most characters of a declaration's name."""

    # One unique index, of declaration and key: with a second one, concurrent saves would deadlock on MariaDB.
    id = models.CharField(primary_key=True, max_length=32, editable=False)
    declaration = models.CharField(max_length=LONGEST_NAME, help_text="Name of the declaration of enrich.")
    key = models.TextField(help_text="Primary key of the row.")
    revision = models.BigIntegerField(default=1, help_text="Incremented by each save of the row.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    due_at = models.DateTimeField(help_text="Earliest time at which it may run.")
    tries = models.PositiveIntegerField(default=0, help_text="Failed attempts since the last save.")
    owner = models.CharField(max_length=200, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    code = models.CharField(max_length=50, blank=True, default="")
    message = models.TextField(blank=True, default="", help_text="Why the last attempt failed.")
    version = models.PositiveIntegerField(null=True, blank=True, help_text="Version of the program that failed.")
    created_at = models.DateTimeField(help_text="When a save of the row first created this entry.")

    class Meta:
        """Django's options."""

        ordering = ["due_at"]
        verbose_name = "pending row"
        indexes = [models.Index(fields=["declaration", "state", "due_at"], name="loopai_pending_due")]

    def __str__(self) -> str:
        return f"{self.declaration}: {self.key}"
