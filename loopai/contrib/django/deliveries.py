"""Handle a webhook delivery: verify its body, record it once, send signals. HTTP is in `views`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, router, transaction

from ...batch.reporting.quality import storable
from ...models import WebhookEvent
from ...webhooks import SIGNATURE_HEADER, WebhookError, parse_event, verify
from .conf import aliases, config_of
from .models import HandledEvent
from .signals import BY_TYPE, loopai_event

logger = logging.getLogger("loopai.webhooks")


class Refused(Exception):
    """The delivery is rejected; the reply does not say why."""


def read(body: bytes, headers: Mapping[str, str]) -> tuple[WebhookEvent, str]:
    """Return the event of a delivery, and the alias whose secret signed it. Raises `Refused`."""
    configs = {alias: config_of(alias) for alias in aliases()}
    secrets = {alias: config.webhook_secrets for alias, config in configs.items()}
    every = [secret for found in secrets.values() for secret in found]
    if not every:
        logger.error("a webhook delivery was refused: no alias of LOOPAI has WEBHOOK_SECRETS")
        raise Refused
    try:
        signature = next((text for name, text in headers.items() if name.lower() == SIGNATURE_HEADER.lower()), None)
        signed = (alias for alias, found in secrets.items() if found and verify(body, signature, found))
        alias = next(signed, next(iter(configs)))
        event = parse_event(body, headers, every, tolerance=configs[alias].webhook_tolerance)
    except WebhookError as error:
        logger.warning("a webhook delivery was refused: %s", error)
        raise Refused from None
    return event, alias


def _as_text(data: Any) -> str:
    return "" if data is None else storable(json.dumps(data, ensure_ascii=False, indent=2))


def handle(event: WebhookEvent, alias: str) -> bool:
    """Record the event and send its signals, in one transaction; `False` if it was handled before.

    The record is the claim: a simultaneous second delivery waits for this one. An exception of a receiver, or a crash,
    rolls back the claim and everything that receivers wrote, so that the next delivery is handled.
    """
    using = router.db_for_write(HandledEvent)
    kind = str(event.event_type)
    with transaction.atomic(using=using):
        try:
            with transaction.atomic(using=using):
                HandledEvent.objects.using(using).create(
                    event_id=event.id,
                    event_type=kind[: HandledEvent.LONGEST_TYPE],
                    alias=alias,
                    task_id=event.task_id,
                    severity="" if event.severity is None else str(event.severity)[: HandledEvent.LONGEST_SEVERITY],
                    message=storable(event.message or ""),
                    payload=_as_text(event.data),
                    sent_at=event.timestamp,
                )
        except IntegrityError:
            return False
        loopai_event.send(WebhookEvent, event=event, alias=alias)
        if kind in BY_TYPE:
            BY_TYPE[kind].send(WebhookEvent, event=event, alias=alias)
    return True
