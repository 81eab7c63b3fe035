"""Handle the server's reports: they are shown on the inbox page until somebody has read them."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver

from loopai.contrib.django.signals import loopai_event
from loopai.models import WebhookEvent

from .models import Notice

TEXTS = {
    "programExecutionFailed": "A program failed on an input.",
    "validationFailed": "Verdicts did not hold when they were checked.",
    "programImproved": "There is a better spam filter: reclassify the inbox with it.",
    "canaryRollback": "A new version was taken back.",
    "canaryCompleted": "A new version of the filter is in use.",
    "abTestCompleted": "The comparison of two versions is complete.",
}


@receiver(loopai_event)
def keep_notice(event: WebhookEvent, alias: str, **_: Any) -> None:
    """Runs once an event, in the transaction that records the delivery."""
    text = event.message or TEXTS.get(str(event.event_type), "Something happened.")
    serious = event.severity in {"error", "critical"}
    Notice.objects.create(event_type=str(event.event_type), text=text[:500], is_serious=serious)
