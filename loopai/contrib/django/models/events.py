"""`HandledEvent`: which webhook events were handled."""

from __future__ import annotations

from django.db import models


class HandledEvent(models.Model):
    """An event that was handled once, and is not handled again.

    While the record exists, a repeated delivery has no effect. `loopai_prune` removes it, with the message and payload.
    """

    LONGEST_TYPE = 50
    """Most characters of an event type that are stored; a newer server's may be longer."""

    LONGEST_SEVERITY = 50
    """The same for a severity."""

    event_id = models.UUIDField(primary_key=True, help_text="The id inside the signed body.")
    event_type = models.CharField(max_length=LONGEST_TYPE)
    alias = models.CharField(max_length=100, help_text="Alias in the LOOPAI setting whose secret signed the event.")
    task_id = models.UUIDField(null=True, blank=True)
    severity = models.CharField(max_length=LONGEST_SEVERITY, blank=True)
    message = models.TextField(blank=True, help_text="The server's message.")
    payload = models.TextField(blank=True, help_text="The event's data, as JSON.")
    sent_at = models.DateTimeField(help_text="Time in the signed body.")
    received_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        """Django's options."""

        ordering = ["-received_at"]
        verbose_name = "handled event"
        verbose_name_plural = "handled events"

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id}"
