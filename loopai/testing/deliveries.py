"""Webhook deliveries as the server makes them, for tests of their receivers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Optional, Union
from uuid import UUID, uuid4

from pydantic_core import to_json

from .. import models, webhooks

# In the header, the server names types as in its C# enumeration, from which the camelCase names derive.
_PASCAL = {"abTestCompleted": "ABTestCompleted"}


@dataclass(frozen=True)
class SignedWebhook:
    """A delivery: the body's bytes and the headers. Use `dataclasses.replace` to tamper with it."""

    body: bytes
    headers: dict[str, str] = field(repr=False)

    def as_django(self) -> dict[str, Any]:
        """Arguments for Django's test clients: `client.post(url, **delivery.as_django())`."""
        headers = {name: text for name, text in self.headers.items() if name != "Content-Type"}
        return {"data": self.body, "content_type": self.headers["Content-Type"], "headers": headers}

    def as_httpx(self) -> dict[str, Any]:
        """Arguments for httpx and Starlette's test client: `client.post(url, **delivery.as_httpx())`."""
        return {"content": self.body, "headers": self.headers}


def signed_webhook(
    event_type: Union[str, int] = "programExecutionFailed",
    *,
    secret: Optional[str],
    task_id: Union[UUID, str, None] = None,
    attempt: int = 1,
    **members: Any,
) -> SignedWebhook:
    """A delivery of an event of that type, byte for byte as the server writes and signs one.

    `members` set the body's other members (`id`, `program_id`, `message`, `data`, `timestamp`, `severity`); `attempt`
    is the delivery's number, from 1. With `secret=None` it is unsigned, as from a subscription without a secret.
    Raises `ValueError` for an event type that the server does not have.
    """
    name = str(models.event_type(event_type))
    body = {
        "id": uuid4(),
        "event_type": models.EVENT_TYPES.index(name),
        "task_id": task_id,
        "program_id": None,
        "message": f"{name} (made by the test)",
        "data": None,
        "timestamp": datetime.now(timezone.utc),
        "severity": None,
        **members,
    }
    content = to_json(body)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if secret is not None:
        headers[webhooks.SIGNATURE_HEADER] = webhooks.sign(content, secret)
    headers[webhooks.EVENT_ID_HEADER] = str(body["id"])
    headers[webhooks.EVENT_TYPE_HEADER] = _PASCAL.get(name, name[0].upper() + name[1:])
    headers[webhooks.DELIVERY_ATTEMPT_HEADER] = str(attempt)
    return SignedWebhook(content, headers)
