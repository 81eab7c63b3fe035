"""`signed_webhook`: a delivery as the server would make it, for the frameworks' test clients."""

from __future__ import annotations

import dataclasses
import json
from uuid import UUID

import httpx
import pytest

from loopai import models, webhooks
from loopai.testing import signed_webhook


@pytest.mark.parametrize("kind", models.EVENT_TYPES)
def test_a_delivery_of_every_type_passes_the_real_verification(kind: str) -> None:
    """Header and body agree, and the body says the type by number."""
    sent = signed_webhook(kind, secret="s")
    assert webhooks.parse_event(sent.body, sent.headers, "s").event_type == kind
    assert json.loads(sent.body)["event_type"] == models.EVENT_TYPES.index(kind)
    assert sent.headers["X-Loopai-Event-Type"].lower() == kind.lower()
    assert sent.headers["X-Loopai-Event-Type"][0].isupper()


def test_a_delivery_has_the_server_s_members_and_headers() -> None:
    """Compact JSON in the server's order with nulls written, and the four headers."""
    task_id = UUID("7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60")
    sent = signed_webhook(
        secret="s", task_id=task_id, attempt=2, id="af1b2c3d-4e5f-4061-8273-940516273849",
        message="Program execution failed", timestamp="2025-11-03T08:15:30.1234567Z",
    )  # fmt: skip
    assert sent.body == (
        b'{"id":"af1b2c3d-4e5f-4061-8273-940516273849","event_type":0,'
        b'"task_id":"7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60","program_id":null,"message":"Program execution failed",'
        b'"data":null,"timestamp":"2025-11-03T08:15:30.1234567Z","severity":null}'
    )
    assert sent.headers == {
        "Content-Type": "application/json; charset=utf-8",
        "X-Loopai-Signature": webhooks.sign(sent.body, "s"),
        "X-Loopai-Event-Id": "af1b2c3d-4e5f-4061-8273-940516273849",
        "X-Loopai-Event-Type": "ProgramExecutionFailed",
        "X-Loopai-Delivery-Attempt": "2",
    }


def test_each_delivery_is_an_event_of_its_own() -> None:
    """Two deliveries have two ids, so that a receiver does not take the second for a repetition."""
    assert signed_webhook(secret="s").headers["X-Loopai-Event-Id"] != signed_webhook(secret="s").headers[
        "X-Loopai-Event-Id"
    ]  # fmt: skip


def test_an_unsigned_and_a_tampered_delivery_can_be_made() -> None:
    """What a receiver must refuse is as easy to make as what it must take."""
    unsigned = signed_webhook(secret=None)
    with pytest.raises(webhooks.SignatureError):
        webhooks.parse_event(unsigned.body, unsigned.headers, "s")
    sent = signed_webhook(secret="s", data={"rows": 1})
    tampered = dataclasses.replace(sent, body=sent.body.replace(b'"rows":1', b'"rows":9'))
    with pytest.raises(webhooks.SignatureError):
        webhooks.parse_event(tampered.body, tampered.headers, "s")


def test_a_type_that_the_server_lacks_is_refused() -> None:
    """A misspelt type is the test's mistake and says so."""
    with pytest.raises(ValueError, match="unknown event type 'taskDeleted'"):
        signed_webhook("taskDeleted", secret="s")


def test_httpx_sends_the_very_bytes_that_were_signed() -> None:
    """`as_httpx` keeps body and headers through a request."""

    def receive(request: httpx.Request) -> httpx.Response:
        event = webhooks.parse_event(request.content, request.headers, "s")
        return httpx.Response(200, json={"got": str(event.event_type)})

    with httpx.Client(transport=httpx.MockTransport(receive)) as client:
        sent = signed_webhook("canaryCompleted", secret="s", message="größer 😀")
        assert client.post("http://app.test/hook", **sent.as_httpx()).json() == {"got": "canaryCompleted"}
