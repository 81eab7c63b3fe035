"""Webhook deliveries: sign, verify and read them. No framework, no network: views call these functions.

Only the body of a delivery is signed, so pass the body exactly as it was received::

    >>> from loopai import webhooks
    >>> body = (
    ...     b'{"id":"af1b2c3d-4e5f-4061-8273-940516273849","event_type":3,'
    ...     b'"task_id":null,"timestamp":"2025-11-03T08:15:30Z"}'
    ... )
    >>> headers = {"X-Loopai-Signature": webhooks.sign(body, "old secret")}
    >>> event = webhooks.parse_event(body, headers, ["new secret", "old secret"], tolerance=None)
    >>> event.event_type == "canaryRollback"
    True

WebhookError                the delivery is rejected
├── SignatureError          unsigned, signed with another secret, or changed in transit
├── PayloadError            signed correctly, but not an event
├── MismatchError           the unsigned headers contradict the signed body
└── StaleError              the event is older than the tolerance, or in the future
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Callable, Optional, Union
from uuid import UUID

from pydantic import ValidationError

from . import models
from .exceptions import ConfigurationError

__all__ = [
    "DELIVERY_ATTEMPT_HEADER",
    "EVENT_ID_HEADER",
    "EVENT_TYPE_HEADER",
    "SIGNATURE_HEADER",
    "TOLERANCE",
    "MismatchError",
    "PayloadError",
    "SignatureError",
    "StaleError",
    "WebhookError",
    "parse_event",
    "sign",
    "verify",
]

# Names as the server writes them.
SIGNATURE_HEADER = "X-Loopai-Signature"
EVENT_ID_HEADER = "X-Loopai-Event-Id"
EVENT_TYPE_HEADER = "X-Loopai-Event-Type"
DELIVERY_ATTEMPT_HEADER = "X-Loopai-Delivery-Attempt"


class WebhookError(Exception):
    """The delivery is rejected: reply 400 and change nothing. The message contains no secret and no signature."""


class SignatureError(WebhookError):
    """None of the secrets signed this body."""


class PayloadError(WebhookError):
    """The signature is right, but the body is not an event. The message names the member."""


class MismatchError(WebhookError):
    """A header's event id or type is not that of the signed body, as when an old delivery is replayed as a new one."""


class StaleError(WebhookError):
    """The event's signed time is too old, or too far in the future: the delivery may be a replay."""


TOLERANCE = 3600.0
"""Seconds that an event may be old. It must exceed the time for which the server repeats a delivery (some minutes), as
the signed time is that of the event; within it, tell repetitions apart by the event's id."""

AHEAD = 300.0
"""Seconds that an event may lie in the future: clocks differ."""


def sign(body: bytes, secret: str) -> str:
    """Return the `X-Loopai-Signature` of a body: `sha256=` and the HMAC-SHA256 in lower-case hexadecimal.

    Raises `TypeError` for a body that is not bytes, `ConfigurationError` for an empty secret.
    """
    return _signature(_raw(body), _keys([secret])[0])


def verify(body: bytes, signature: Optional[str], secrets: Union[str, Iterable[str]]) -> bool:
    """Return whether one of `secrets` signed `body`. While you rotate secrets, pass the new and the old one.

    The comparison takes constant time. Raises `TypeError` for a body
    that is not bytes, `ConfigurationError` for no secret or an empty one.
    """
    raw, keys = _raw(body), _keys(secrets)
    given = (signature or "").encode("utf-8", "replace")
    genuine = False
    for key in keys:
        # No early exit: its time would reveal which secret matched.
        genuine |= hmac.compare_digest(_signature(raw, key).encode(), given)
    return genuine


def parse_event(
    body: bytes,
    headers: Mapping[str, str],
    secrets: Union[str, Iterable[str]],
    *,
    tolerance: Optional[float] = TOLERANCE,
    clock: Callable[[], float] = time.time,
) -> models.WebhookEvent:
    """Verify a delivery's signature and time, and return its event.

    Names in `headers` are case-insensitive. Event id and type may be missing there, but must not differ from the body.
    An event is rejected if it happened more than `tolerance` seconds ago, or is more than five minutes ahead of `clock`
    (seconds since 1970); `tolerance=None` checks neither. Use `event.id` to detect repeated deliveries. Raises
    `SignatureError`, `PayloadError`, `MismatchError` or `StaleError`, and whatever `verify` raises.
    """
    signatures = _values(headers, SIGNATURE_HEADER)
    # A repeated header is rejected: which of the two counts would depend on the web server.
    genuine = verify(body, signatures[0] if len(signatures) == 1 else None, secrets)
    del secrets  # debug pages and error trackers would show this frame's variables
    if not signatures:
        raise SignatureError(f"the delivery has no {SIGNATURE_HEADER}: was the subscription made with a secret?")
    if not genuine:
        raise SignatureError(
            f"{SIGNATURE_HEADER} fits none of the secrets: these must be the subscription's, "
            "and the body the bytes exactly as received"
        )
    try:
        event = models.WebhookEvent.model_validate_json(body)
    except (OverflowError, RecursionError) as error:
        raise PayloadError(f"the body is not an event: {error}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise PayloadError(f"the body is not an event: {place + ': ' if place else ''}{problem['msg']}") from None
    for given in _values(headers, EVENT_ID_HEADER):
        if not _is_id(given, event.id):
            raise MismatchError(f"{EVENT_ID_HEADER} is not the id in the signed body")
    for given in _values(headers, EVENT_TYPE_HEADER):
        if not _is_type(given, event.event_type):
            raise MismatchError(f"{EVENT_TYPE_HEADER} is not the event_type in the signed body ({event.event_type})")
    if tolerance is not None:
        _check_time(event.timestamp, tolerance, clock())
    return event


def _check_time(moment: datetime, tolerance: float, now: float) -> None:
    # Not `timestamp()`: at the ends of the calendar some platforms overflow.
    age = now - (moment - _EPOCH).total_seconds()
    if age > tolerance:
        raise StaleError(f"the event is {age:,.0f} seconds old; at most {tolerance:,.0f} are accepted")
    if age < -AHEAD:
        raise StaleError(f"the event is {-age:,.0f} seconds in the future: check this machine's clock")


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _signature(body: bytes, key: bytes) -> str:
    return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()


def _raw(body: bytes) -> bytes:
    if not isinstance(body, bytes):
        raise TypeError(
            f"pass the raw body as bytes, not {type(body).__name__}: request.body in Django, await request.body() in "
            "FastAPI; a body that was decoded and encoded again has another signature"
        )
    return body


def _keys(secrets: Union[str, Iterable[str]]) -> list[bytes]:
    given = [secrets] if isinstance(secrets, (str, bytes)) else list(secrets)
    if not given:
        raise ConfigurationError("no webhook secret is set: anybody could send events")
    for secret in given:
        if not isinstance(secret, str):
            raise TypeError(f"a webhook secret is a text, not {type(secret).__name__}")
        if not secret.strip():
            raise ConfigurationError("a webhook secret is empty: anybody could sign with it")
    return [secret.encode() for secret in given]


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    return [value for given, value in headers.items() if given.lower() == name.lower()]


def _is_id(text: str, event_id: UUID) -> bool:
    try:
        return UUID(text) == event_id
    except ValueError:
        return False


def _is_type(text: str, kind: Union[str, int]) -> bool:
    try:
        return models.event_type(text) == kind
    except ValueError:
        pass
    if isinstance(kind, models.EventType):
        return False
    # An event type of a newer server: the name of its number is unknown here.
    return isinstance(kind, int) or text.lower() == kind.lower()
