"""`HandledEvent`: which webhook events were handled."""

from __future__ import annotations

from django.db import models


class HandledEvent(models.Model):
    """An event that was handled once, and is not handled again.

    The record holds nothing of the event's data. While it is there, a repetition of the delivery has no effect.
    """

    LONGEST_TYPE = 50
    """Characters of an event type that are recorded; a newer server's may be longer."""

    event_id = models.UUIDField(primary_key=True, help_text="The id inside the signed body.")
    event_type = models.CharField(max_length=LONGEST_TYPE)
    alias = models.CharField(max_length=100, help_text="Alias in the LOOPAI setting whose secret signed the event.")
    task_id = models.UUIDField(null=True, blank=True)
    sent_at = models.DateTimeField(help_text="By the signed body.")
    received_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        """What Django asks."""

        ordering = ["-received_at"]
        verbose_name = "handled event"
        verbose_name_plural = "handled events"

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id}"
