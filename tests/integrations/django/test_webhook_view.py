"""The webhook view: what is signed and new is handled once; everything else changes nothing and learns nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, Callable
from uuid import uuid4

import django
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core.asgi import get_asgi_application
from django.db import connection, transaction
from django.dispatch import Signal
from django.test import AsyncClient, Client, override_settings
from django.urls import reverse

from loopai.contrib.django import signals
from loopai.contrib.django.models import HandledEvent
from loopai.contrib.django.views import LARGEST_DELIVERY
from loopai.models import EVENT_TYPES, WebhookEvent
from loopai.testing import SignedWebhook, signed_webhook
from loopai.webhooks import sign

pytestmark = pytest.mark.django_db(transaction=True)

PATHS = ["/loopai/webhook/", "/async-webhook/"]


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any, str]]]:
    """What receivers of every signal are told."""
    told: list[tuple[str, Any, str]] = []
    connected: list[tuple[Signal, Any]] = []
    for name, signal in {"loopai_event": signals.loopai_event, **signals.BY_TYPE}.items():

        def receiver(sender: Any, event: Any, alias: str, name: str = name, **_: Any) -> None:
            assert sender is WebhookEvent
            told.append((name, event.id, alias))

        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))
    yield told
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def receiving() -> Iterator[Callable[[Callable[..., None]], None]]:
    """Connects a receiver of every event until the end of the test."""
    connected: list[Any] = []

    def connect(receiver: Callable[..., None]) -> None:
        signals.loopai_event.connect(receiver)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        signals.loopai_event.disconnect(receiver)


@pytest.fixture(params=["wsgi", "asgi"])
def post(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Posts a delivery to a path, under WSGI or ASGI, with Django's own CSRF checks."""

    def under_wsgi(path: str, delivery: SignedWebhook, **extra: Any) -> Any:
        client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        return client.post(path, **{**delivery.as_django(), **extra})

    def under_asgi(path: str, delivery: SignedWebhook, **extra: Any) -> Any:
        async def post() -> Any:
            client = AsyncClient(enforce_csrf_checks=True, raise_request_exception=False)
            return await client.post(path, **{**delivery.as_django(), **extra})

        return async_to_sync(post)()

    return under_wsgi if request.param == "wsgi" else under_asgi


def test_the_urls_are_included_under_a_name() -> None:
    """`loopai:webhook` is the name to give to subscriptions."""
    assert reverse("loopai:webhook") == "/loopai/webhook/"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_an_event_reaches_both_signals_once(path: str, event_type: str, post: Any, heard: list[Any]) -> None:
    """The general signal and the one of its type are sent; the delivery is on record, without the event's data."""
    delivery = signed_webhook(event_type, secret="old secret", task_id=uuid4(), data={"private": "text"})
    answer = post(path, delivery)
    assert (answer.status_code, answer.content) == (204, b"")
    record = HandledEvent.objects.get()
    assert heard == [("loopai_event", record.event_id, "default"), (event_type, record.event_id, "default")]
    body = json.loads(delivery.body)
    assert (str(record.event_id), record.event_type, str(record.task_id)) == (body["id"], event_type, body["task_id"])
    assert record.sent_at.isoformat()[:19] == body["timestamp"][:19]
    assert (record.alias, str(record)) == ("default", f"{event_type} {record.event_id}")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("event_type", [6, "taskArchived", "t" * 200])
def test_an_event_type_of_a_newer_server_reaches_the_general_signal(
    path: str, event_type: Any, post: Any, heard: list[Any]
) -> None:
    """It has no signal of its own yet; its name or number is on record, and its delivery is not handled twice."""
    named = str(event_type) if isinstance(event_type, str) else "TaskArchived"
    delivery = changed(resigned(event_type=event_type), X_Loopai_Event_Type=named)
    assert [post(path, delivery).status_code for _ in range(2)] == [204, 204]
    record = HandledEvent.objects.get()
    assert heard == [("loopai_event", record.event_id, "default")]
    assert record.event_type == str(event_type)[: HandledEvent.LONGEST_TYPE]


def test_the_alias_is_that_of_the_secret(post: Any, heard: list[Any]) -> None:
    """One address serves several servers; receivers learn which one spoke."""
    assert post(PATHS[0], signed_webhook(secret="other secret")).status_code == 204
    assert {alias for _, _, alias in heard} == {"other"}


@pytest.mark.parametrize("path", PATHS)
def test_a_repetition_is_acknowledged_and_not_handled(path: str, post: Any, heard: list[Any]) -> None:
    """The server repeats what it is not sure of; the number of the attempt is unsigned and counts for nothing."""
    delivery = signed_webhook(secret="new secret")
    again = dataclasses.replace(delivery, headers={**delivery.headers, "X-Loopai-Delivery-Attempt": "2"})
    bare = dataclasses.replace(
        delivery, headers={name: text for name, text in delivery.headers.items() if "Event" not in name}
    )
    assert [post(path, each).status_code for each in (delivery, delivery, again, bare)] == [204] * 4
    assert len(heard) == 2
    assert HandledEvent.objects.count() == 1


def changed(delivery: SignedWebhook, **headers: Any) -> SignedWebhook:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    kept = {name: text for name, text in delivery.headers.items() if name not in named}
    return dataclasses.replace(delivery, headers={**kept, **{n: t for n, t in named.items() if t is not None}})


def resigned(**members: Any) -> SignedWebhook:
    """A body with members that the server does not send, rightly signed."""
    delivery = signed_webhook(secret="new secret")
    body = json.dumps({**json.loads(delivery.body), **members}).encode()
    return dataclasses.replace(changed(delivery, X_Loopai_Signature=sign(body, "new secret")), body=body)


GENUINE = signed_webhook("canaryRollback", secret="new secret")
BAD = {
    "unsigned": signed_webhook(secret=None),
    "signed by another": signed_webhook(secret="guessed"),
    "tampered": dataclasses.replace(GENUINE, body=GENUINE.body.replace(b"canary", b"Canary")),
    "signature cut": changed(GENUINE, X_Loopai_Signature=GENUINE.headers["X-Loopai-Signature"][:-1]),
    "signature empty": changed(GENUINE, X_Loopai_Signature=""),
    "signature not ascii": changed(GENUINE, X_Loopai_Signature="sha256=é"),
    "replayed as another event": changed(GENUINE, X_Loopai_Event_Id=str(uuid4())),
    "replayed as another type": changed(GENUINE, X_Loopai_Event_Type="CanaryCompleted"),
    "oversized": signed_webhook(secret="new secret", data="x" * LARGEST_DELIVERY),
    "wrong content type": changed(GENUINE, Content_Type="text/plain"),
    "form": changed(GENUINE, Content_Type="application/x-www-form-urlencoded"),
    "id of a wrong type": resigned(id=7),
    "event type of a wrong type": resigned(event_type=["canaryRollback"]),
    "event type without a name": resigned(event_type=""),
    "event type of no number": resigned(event_type=-1),
    "no timestamp": resigned(timestamp=None),
}


def refused_as(answer: Any) -> tuple[Any, ...]:
    return answer.status_code, answer.content, sorted(answer.headers.items())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_delivery_changes_nothing_and_learns_nothing(
    path: str, kind: str, post: Any, heard: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Every one gets the same 400 without a body; nothing is recorded, nobody hears of it, no secret is logged."""
    with caplog.at_level(logging.DEBUG):
        answer = post(path, BAD[kind])
    assert refused_as(answer) == refused_as(post(path, BAD["unsigned"]))
    assert (answer.status_code, answer.content) == (400, b"")
    assert not heard
    assert not HandledEvent.objects.exists()
    assert "secret" not in caplog.text.replace("fits none of the secrets", "").replace("made with a secret?", "")


@pytest.mark.parametrize("path", PATHS)
def test_an_oversized_body_that_does_not_say_so_is_not_read_whole(path: str, heard: list[Any]) -> None:
    """Under ASGI a body may come in chunks without a length; no more than the limit is taken."""
    delivery = BAD["oversized"]
    sent: list[Any] = []

    async def run() -> None:
        parts = [delivery.body[start : start + 65536] for start in range(0, len(delivery.body), 65536)]
        messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        messages.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> Any:
            return messages.pop(0) if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.lower().encode(), text.encode()) for name, text in delivery.headers.items()]
        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers, "scheme": "http",
            "http_version": "1.1", "server": ("testserver", 80), "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip
        await get_asgi_application()(scope, receive, send)

    async_to_sync(run)()
    assert sent[0]["status"] == 400
    assert not heard


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["get", "put", "delete", "options"])
def test_only_post_is_taken(path: str, method: str, client: Client) -> None:
    """Anything else is answered 405."""
    assert getattr(client, method)(path).status_code == 405


AGES = [
    # The setting of the alias; how many seconds ago the event was, or a date as written; the status.
    ({}, 3500, 204),
    ({}, 3700, 400),
    ({}, -200, 204),
    ({}, -400, 400),
    ({"WEBHOOK_TOLERANCE": 60}, 30, 204),
    ({"WEBHOOK_TOLERANCE": 60}, 90, 400),
    ({"WEBHOOK_TOLERANCE": None}, 10_000_000, 204),
    ({}, "0001-01-01T00:00:00+14:00", 400),
    ({}, "9999-12-31T23:59:59-14:00", 400),
]


@pytest.mark.parametrize(("setting", "age", "status"), AGES)
def test_an_event_of_another_time_is_refused(
    setting: dict[str, Any], age: Any, status: int, post: Any, heard: list[Any]
) -> None:
    """By the setting of the alias whose secret signed it, one hour unless it says otherwise."""
    now = datetime.now(timezone.utc)
    moment = age if isinstance(age, str) else now - timedelta(seconds=age)
    aliases = {"default": {"WEBHOOK_SECRETS": ["s"], **setting}, "other": {"WEBHOOK_SECRETS": ["o"]}}
    with override_settings(LOOPAI=aliases):
        assert post(PATHS[0], signed_webhook(secret="s", timestamp=moment)).status_code == status
    assert bool(heard) == (status == 204)
    assert HandledEvent.objects.exists() == (status == 204)


@override_settings(LOOPAI={"default": {}})
def test_without_secrets_every_delivery_is_refused(
    post: Any, heard: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The sender gets the same answer; the log says what is missing."""
    assert refused_as(post(PATHS[0], GENUINE))[:2] == (400, b"")
    assert "no alias of LOOPAI has WEBHOOK_SECRETS" in caplog.text
    assert not heard


@pytest.mark.parametrize("path", PATHS)
def test_what_a_receiver_raises_releases_the_claim(path: str, post: Any, receiving: Any, heard: list[Any]) -> None:
    """A failed handling leaves nothing behind, and the server's next attempt is handled."""
    down = [True]

    def receiver(**_: Any) -> None:
        Group.objects.create(name="written by the receiver")
        if down:
            raise RuntimeError("a receiver is down")

    receiving(receiver)
    delivery = signed_webhook(secret="new secret")
    assert post(path, delivery).status_code == 500
    assert not HandledEvent.objects.exists()
    assert not Group.objects.exists()
    down.clear()
    assert post(path, delivery).status_code == 204
    assert post(path, delivery).status_code == 204
    assert Group.objects.count() == 1
    assert HandledEvent.objects.count() == 1


@pytest.mark.skipif(django.VERSION < (5, 0), reason="Django 4.2 has no async receivers")
@pytest.mark.parametrize("path", PATHS)
def test_an_async_receiver_writes_in_the_same_transaction(path: str, post: Any, receiving: Any) -> None:
    """What it wrote is undone with the claim where another receiver fails."""
    down = [True]

    async def writes(**_: Any) -> None:
        await Group.objects.acreate(name="written asynchronously")
        if down:
            raise RuntimeError("a receiver is down")

    receiving(writes)
    delivery = signed_webhook(secret="new secret")
    assert post(path, delivery).status_code == 500
    assert not Group.objects.exists()
    down.clear()
    assert post(path, delivery).status_code == 204
    assert Group.objects.count() == 1


def test_slow_work_waits_for_the_commit(post: Any, receiving: Any) -> None:
    """`transaction.on_commit` in a receiver runs once, after the record is there."""
    ran: list[int] = []

    def receiver(**_: Any) -> None:
        transaction.on_commit(lambda: ran.append(HandledEvent.objects.count()))

    receiving(receiver)
    delivery = signed_webhook(secret="new secret")
    post(PATHS[0], delivery)
    post(PATHS[0], delivery)
    assert ran == [1]


@pytest.mark.parametrize("first_fails", [False, True])
def test_deliveries_at_the_same_time_are_handled_once(receiving: Any, first_fails: bool) -> None:
    """The second waits for the first: handled then, it is a repetition; failed, it is the one that is handled."""
    inside, go_on, coming = threading.Event(), threading.Event(), threading.Event()
    handled: list[int] = []

    def receiver(**_: Any) -> None:
        handled.append(1)
        if len(handled) == 1:
            inside.set()
            assert go_on.wait(10)
            if first_fails:
                raise RuntimeError("a receiver is down")

    receiving(receiver)
    delivery = signed_webhook(secret="new secret")
    answers: list[int] = []

    def post() -> None:
        if inside.is_set():
            coming.set()
        try:
            client = Client(raise_request_exception=False)
            answers.append(client.post(PATHS[0], **delivery.as_django()).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=post) for _ in range(2)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    assert coming.wait(10)
    go_on.set()  # the second waits in the database, or has not come there yet: both must end alike
    for thread in threads:
        thread.join(20)
    assert sorted(answers) == ([204, 500] if first_fails else [204, 204])
    assert len(handled) == (2 if first_fails else 1)
    assert HandledEvent.objects.count() == 1
