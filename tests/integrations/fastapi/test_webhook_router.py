"""`webhook_router` and `webhook_event`: whose deliveries are taken, and each event once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Annotated
from uuid import uuid4

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from loopai import ConfigurationError, webhooks
from loopai.contrib.fastapi import (
    LoopaiLifespan,
    LoopaiSettings,
    MemoryEventStore,
    WebhookEventDep,
    webhook_event,
    webhook_router,
)
from loopai.models import WebhookEvent
from loopai.testing import signed_webhook

PATH = "/webhooks/loopai"


@pytest.fixture
def taken() -> list[WebhookEvent]:
    """The events that were handled."""
    return []


@pytest.fixture
def client(taken) -> TestClient:
    """An application that takes what is signed with the new secret or the old one."""

    async def on_event(event: WebhookEvent) -> None:
        taken.append(event)

    app = FastAPI()
    app.include_router(webhook_router(["new", "old"], on_event))
    return TestClient(app)


def test_a_signed_delivery_is_handled(client, taken) -> None:
    """And answered 204, with nothing to read."""
    task_id = uuid4()
    reply = client.post(
        PATH, **signed_webhook("canaryRollback", secret="new", task_id=task_id, message="back").as_httpx()
    )
    assert (reply.status_code, reply.content) == (204, b"")
    assert [(event.event_type, event.task_id, event.message) for event in taken] == [
        ("canaryRollback", task_id, "back")
    ]


def test_secrets_rotate(client, taken) -> None:
    """Both count while there are two."""
    for secret in ("new", "old"):
        assert client.post(PATH, **signed_webhook(secret=secret).as_httpx()).status_code == 204
    assert client.post(PATH, **signed_webhook(secret="older").as_httpx()).status_code == 400
    assert len(taken) == 2


def test_what_is_not_genuine_is_refused_without_a_reason(client, taken) -> None:
    """A forger learns nothing; nothing is handled."""
    genuine = signed_webhook(secret="new")
    forged = {
        "unsigned": signed_webhook(secret=None),
        "signed with another secret": signed_webhook(secret="guess"),
        "body tampered with": replace(genuine, body=genuine.body.replace(b"made by the test", b"made by someone")),
        "header tampered with": replace(genuine, headers={**genuine.headers, webhooks.EVENT_ID_HEADER: str(uuid4())}),
        "old body as another type": replace(
            genuine, headers={**genuine.headers, webhooks.EVENT_TYPE_HEADER: "CanaryRollback"}
        ),
        "no event": replace(genuine, body=b"{}", headers={webhooks.SIGNATURE_HEADER: webhooks.sign(b"{}", "new")}),
        "no JSON": replace(genuine, body=b"\xff", headers={webhooks.SIGNATURE_HEADER: webhooks.sign(b"\xff", "new")}),
        "empty": replace(genuine, body=b""),
    }
    replies = {name: client.post(PATH, **delivery.as_httpx()) for name, delivery in forged.items()}
    assert {name: reply.status_code for name, reply in replies.items()} == dict.fromkeys(forged, 400)
    assert len({reply.text for reply in replies.values()}) == 1
    assert taken == []


def test_a_replayed_delivery_is_answered_and_not_handled(client, taken) -> None:
    """Whoever replays it, under whatever attempt's number."""
    event_id = uuid4()
    for attempt in (1, 1, 2):
        delivery = signed_webhook(secret="new", id=event_id, attempt=attempt)
        assert client.post(PATH, **delivery.as_httpx()).status_code == 204
    assert [event.id for event in taken] == [event_id]


def test_a_large_body_is_refused_before_it_is_read(taken) -> None:
    """By its declared length, and by what came where none was declared."""
    read = []

    async def on_event(event: WebhookEvent) -> None:
        taken.append(event)

    app = FastAPI()
    app.include_router(webhook_router("new", on_event, max_bytes=2000))

    def chunks():
        for number in range(100):
            read.append(number)
            yield b"x" * 1000

    fitting = signed_webhook(secret="new", data={"text": "x" * 1000})
    large = signed_webhook(secret="new", data={"text": "x" * 2000})
    client = TestClient(app)
    assert client.post(PATH, **fitting.as_httpx()).status_code == 204
    assert client.post(PATH, **large.as_httpx()).status_code == 413
    assert client.post(PATH, content=chunks()).status_code == 413
    assert len(taken) == 1


async def test_reading_stops_at_the_limit() -> None:
    """What is sent without end is not read to its end."""
    app = FastAPI()
    app.include_router(webhook_router("new", print, max_bytes=2000))
    asked, sent = [], []

    async def receive():
        asked.append(True)
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
        "headers": [], "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("app", 80),
        "client": ("test", 1), "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert len(asked) == 3


def test_a_handler_that_fails_gets_the_next_delivery(taken) -> None:
    """The server hears of the failure, and repeats; what was handled then is not handled again."""
    failures = [LookupError("the database is away")]

    async def on_event(event: WebhookEvent) -> None:
        if failures:
            raise failures.pop()
        taken.append(event)

    app = FastAPI()
    app.include_router(webhook_router("new", on_event))
    client = TestClient(app, raise_server_exceptions=False)
    delivery = signed_webhook(secret="new").as_httpx()
    assert [client.post(PATH, **delivery).status_code for _ in range(3)] == [500, 204, 204]
    assert len(taken) == 1


async def test_a_delivery_that_comes_while_the_event_is_handled_shall_come_again() -> None:
    """Answered 204 it would be lost where the handler fails in the end."""
    started, end = asyncio.Event(), asyncio.Event()
    failing = [True]

    async def on_event(event: WebhookEvent) -> None:
        started.set()
        await end.wait()
        if failing.pop():
            raise LookupError

    app = FastAPI()
    app.include_router(webhook_router("new", on_event))
    delivery = signed_webhook(secret="new").as_httpx()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        first = asyncio.ensure_future(client.post(PATH, **delivery))
        await started.wait()
        meanwhile = await client.post(PATH, **delivery)
        end.set()
        assert (meanwhile.status_code, meanwhile.headers["retry-after"]) == (409, "1")
        assert (await first).status_code == 500
        failing.append(False)
        assert (await client.post(PATH, **delivery)).status_code == 204


async def test_a_handler_that_is_cancelled_gets_the_next_delivery(taken) -> None:
    """As at shutdown."""
    started = asyncio.Event()

    async def on_event(event: WebhookEvent) -> None:
        if not started.is_set():
            started.set()
            await asyncio.Event().wait()
        taken.append(event)

    app = FastAPI()
    app.include_router(webhook_router("new", on_event))
    delivery = signed_webhook(secret="new").as_httpx()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        first = asyncio.ensure_future(client.post(PATH, **delivery))
        await started.wait()
        first.cancel()
        await asyncio.wait({first})
        assert (await client.post(PATH, **delivery)).status_code == 204
    assert len(taken) == 1


def test_a_store_of_the_user_s_own_serves_several_processes(taken) -> None:
    """Two applications with one store handle an event once between them."""

    class Rows:
        """A table, as a test has it."""

        def __init__(self) -> None:
            self.rows = {}
            self.log = []

        async def claim(self, event_id):
            self.log.append("claim")
            if event_id in self.rows:
                return self.rows[event_id]
            self.rows[event_id] = "handling"
            return "ours"

        async def finish(self, event_id):
            self.log.append("finish")
            self.rows[event_id] = "handled"

        async def release(self, event_id):
            self.log.append("release")
            del self.rows[event_id]

    async def on_event(event: WebhookEvent) -> None:
        if event.message == "bad":
            raise LookupError
        taken.append(event)

    store = Rows()
    clients = []
    for _ in range(2):
        app = FastAPI()
        app.include_router(webhook_router("new", on_event, store=store))
        clients.append(TestClient(app, raise_server_exceptions=False))
    delivery = signed_webhook(secret="new").as_httpx()
    assert [client.post(PATH, **delivery).status_code for client in clients] == [204, 204]
    assert len(taken) == 1
    assert clients[0].post(PATH, **signed_webhook(secret="new", message="bad").as_httpx()).status_code == 500
    assert store.log == ["claim", "finish", "claim", "claim", "release"]


async def test_the_memory_of_a_process_is_bounded() -> None:
    """The oldest events are forgotten first."""
    store = MemoryEventStore(size=2)
    events = [uuid4() for _ in range(3)]
    for event in events:
        assert await store.claim(event) == "ours"
        await store.finish(event)
    assert [await store.claim(event) for event in reversed(events)] == ["handled", "handled", "ours"]


def test_a_handler_that_is_no_coroutine_runs_in_a_thread(taken) -> None:
    """So that it may block; an object with an asynchronous method is asynchronous."""

    class Handler:
        async def __call__(self, event: WebhookEvent) -> None:
            taken.append(asyncio.get_running_loop())

    def blocking(event: WebhookEvent) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        taken.append(event)

    for handler in (blocking, Handler()):
        app = FastAPI()
        app.include_router(webhook_router("new", handler))
        assert TestClient(app).post(PATH, **signed_webhook(secret="new").as_httpx()).status_code == 204
    assert len(taken) == 2


def test_secrets_of_the_settings(taken) -> None:
    """Where the router is given none, those of the lifespan's alias count."""

    async def on_event(event: WebhookEvent) -> None:
        taken.append(event)

    settings = LoopaiSettings(webhook_secrets=["new", "old"])
    eu = LoopaiSettings(webhook_secrets=["eu"])
    app = FastAPI(lifespan=LoopaiLifespan(settings, aliases={"eu": eu}))
    app.include_router(webhook_router(on_event=on_event))
    app.include_router(webhook_router(on_event=on_event, alias="eu", path="/eu"))
    with TestClient(app) as client:
        assert client.post(PATH, **signed_webhook(secret="old").as_httpx()).status_code == 204
        assert client.post("/eu", **signed_webhook(secret="eu").as_httpx()).status_code == 204
        assert client.post("/eu", **signed_webhook(secret="old").as_httpx()).status_code == 400
    assert len(taken) == 2


AGES = [
    # Options of the router; those of the settings; how many seconds ago the event was, or a date; the status.
    ({}, {}, 3500, 204),
    ({}, {}, 3700, 400),
    ({}, {}, -200, 204),
    ({}, {}, -400, 400),
    ({"tolerance": 60}, {}, 90, 400),
    ({"tolerance": 60}, {"webhook_tolerance": None}, 90, 400),
    ({"tolerance": None}, {"webhook_tolerance": 60}, 10_000_000, 204),
    ({}, {"webhook_tolerance": 60}, 90, 400),
    ({}, {"webhook_tolerance": None}, 10_000_000, 204),
    ({}, {}, "0001-01-01T00:00:00+14:00", 400),
    ({}, {}, "9999-12-31T23:59:59-14:00", 400),
]


@pytest.mark.parametrize(("options", "configured", "age", "status"), AGES)
def test_an_event_of_another_time_is_refused(taken, options, configured, age, status) -> None:
    """By the router's tolerance or that of the settings, one hour unless they say otherwise."""
    moment = age if isinstance(age, str) else datetime.now(timezone.utc) - timedelta(seconds=age)
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(webhook_secrets=["s"], **configured)))
    app.include_router(webhook_router(on_event=taken.append, **options))
    with TestClient(app) as client:
        assert client.post(PATH, **signed_webhook(secret="s", timestamp=moment).as_httpx()).status_code == status
    assert bool(taken) == (status == 204)


def test_no_secret_is_an_error_of_the_configuration(taken) -> None:
    """Never an open door: where it is written, or at the first delivery."""
    for secrets in ("", [], [""], ["new", ""]):
        with pytest.raises(ConfigurationError, match="anybody could send events"):
            webhook_router(secrets, taken.append)
    with pytest.raises(ConfigurationError, match="on_event"):
        webhook_router("new")
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings()))
    app.include_router(webhook_router(on_event=taken.append))
    with pytest.raises(ConfigurationError, match="LOOPAI_WEBHOOK_SECRETS"), TestClient(app):
        pass
    assert taken == []


mine = webhook_event("new")


def test_the_event_as_a_dependency_of_a_route_of_the_user_s() -> None:
    """The raw bytes are what counts."""
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(webhook_secrets=["configured"])))

    @app.post("/mine")
    async def receive(event: Annotated[WebhookEvent, Depends(mine)]):
        return event.id

    @app.post("/configured")
    async def configured(event: WebhookEventDep):
        return event.id

    with TestClient(app) as client:
        for path, secret in (("/mine", "new"), ("/configured", "configured")):
            delivery = signed_webhook(secret=secret)
            # Written with other white space, the same JSON has another signature.
            rewritten = replace(delivery, body=json.dumps(json.loads(delivery.body), indent=1).encode())
            reply = client.post(path, **delivery.as_httpx())
            assert reply.json() == json.loads(delivery.body)["id"]
            assert client.post(path, **rewritten.as_httpx()).status_code == 400


def test_the_openapi_document_has_the_answers(client) -> None:
    """Those that a sender may get."""
    operation = client.get("/openapi.json").json()["paths"][PATH]["post"]
    assert set(operation["responses"]) == {"204", "400", "409", "413"}
