"""No key in what people read: reprs, messages, log records, tracebacks with locals, pickles."""

from __future__ import annotations

import io
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any, Callable

import httpx
import pytest

from loopai import LoopaiClient, SyncLoopaiClient, models
from loopai._core.texts import scrub_messages, secrets_of, without
from loopai._core.wire import Headers, NoReply, Reply, Request
from loopai.config import resolve
from loopai.exceptions import ConfigurationError, LoopaiException

KEY = 'sk-live"\\7Qz0aXs3cr3t'
COOKIE = "session=c00kie-s3cr3t"
WEBHOOK = "whsec-Zz9"
TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
SECRETS = [KEY, COOKIE, WEBHOOK, json.dumps(KEY)[1:-1], repr(KEY)[1:-1], KEY[-12:], "c00kie-s3cr3t"]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that anything logs, at every level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setLevel(1)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)r %(exc_info)r"))
    names = ["", "loopai", "httpx", "httpcore", "asyncio"]
    before = [logging.getLogger(name).level for name in names]
    logging.getLogger().addHandler(handler)
    for name in names:
        logging.getLogger(name).setLevel(1)
    yield stream
    logging.getLogger().removeHandler(handler)
    for name, level in zip(names, before):
        logging.getLogger(name).setLevel(level)


def told(error: BaseException) -> str:
    """All that can be read of an error: text, repr, facts, pickle, and its traceback with every frame's locals."""
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    # The frames of the test itself name the secrets, as a user's own frames may.
    text = []
    seen: list[Any] = [trace]
    for link in seen:
        text += [
            line
            for frame in link.stack
            for line in [frame.filename, *(frame.locals or {}).values()]
            if "/loopai/" in frame.filename and "/tests/" not in frame.filename
        ]
        text += list(link.format_exception_only())
        seen += [other for other in (link.__cause__, link.__context__) if other is not None]
    facts = repr(vars(error)) if isinstance(error, LoopaiException) else ""
    pickled = pickle.dumps(error, 0).decode("latin-1") if isinstance(error, LoopaiException) else ""
    return "\n".join([*text, str(error), repr(error), repr(error.args), facts, pickled])


def assert_silent(text: str) -> None:
    assert text
    for secret in SECRETS:
        assert secret not in text


ECHOES = [
    Reply(
        401, {}, json.dumps({"code": "BAD_KEY", "message": f"key {KEY} is wrong", "details": f"Bearer {KEY}"}).encode()
    ),
    Reply(400, {}, json.dumps({"title": KEY, "errors": {KEY: [COOKIE], "x": [KEY]}, "traceId": KEY}).encode()),
    Reply(400, {}, json.dumps({"message": "m", "details": [{"property_name": KEY, "error_message": KEY}]}).encode()),
    Reply(500, {}, json.dumps({"code": KEY, "message": "m", "executionId": KEY, "list": [[KEY], {KEY: KEY}]}).encode()),
    Reply(403, {}, f"<html>Authorization: Bearer {KEY} Cookie: {COOKIE}</html>".encode()),
    Reply(502, {}, b"x" * 490 + f"{KEY}".encode() * 200),
    Reply(503, {}, b"{" + json.dumps(KEY).encode()),
    Reply(200, {}, f"<html>{KEY} {COOKIE}</html>".encode()),
    Reply(200, {}, json.dumps({"task_id": KEY}).encode()),
    Reply(307, {"location": f"https://other.test/?key={KEY}"}, b""),
    Reply(404, {"set-cookie": COOKIE, "www-authenticate": KEY}, b""),
    Reply(429, {"retry-after": "9999"}, json.dumps(KEY).encode()),
]


@pytest.mark.parametrize("echo", ECHOES, ids=lambda echo: str(echo.status))
def test_a_server_that_echoes_the_key(calls: Any, recorder: Any, log: io.StringIO, echo: Reply) -> None:
    """What comes back is blotted out wherever an error keeps it."""
    recorder.answers = [echo]
    client = calls.client(api_key=KEY, headers={"Cookie": COOKIE})
    with pytest.raises(LoopaiException) as raised:
        calls("execute", TASK, 1, client=client)
    assert recorder.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert_silent(told(raised.value))
    assert KEY not in log.getvalue()
    assert_silent(repr(client) + repr(client.config) + repr(vars(client)) + str(recorder.requests) + repr(echo))


def test_the_blot_leaves_the_kind_of_error(calls: Any, recorder: Any) -> None:
    """A key that is a word of the contract changes texts, not classes."""
    recorder.give(500, {"code": "EXECUTION_ERROR", "message": "EXECUTION_ERROR"})
    with pytest.raises(LoopaiException) as raised:
        calls("execute", TASK, 1, client=calls.client(api_key="EXECUTION_ERROR"))
    assert type(raised.value).__name__ == "ExecutionException"
    assert "EXECUTION_ERROR" not in told(raised.value)


def test_errors_of_a_transport(calls: Any, recorder: Any, log: io.StringIO) -> None:
    """Its frames held the headers: neither they nor their causes' are shown."""

    def send(headers: dict[str, str]) -> None:
        raw = dict(headers)
        try:
            raise OSError("inner")
        except OSError as error:
            raise ConnectionResetError(f"lost {len(raw)} headers") from error

    try:
        send({"authorization": KEY, "cookie": COOKIE})
    except ConnectionResetError as error:
        recorder.answers = [NoReply(error, arrived=True)]
    with pytest.raises(LoopaiException, match="lost 2 headers") as raised:
        calls("get_health", client=calls.client(api_key=KEY, headers={"cookie": COOKIE}))
    trace = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert trace.__cause__ is not None
    assert not trace.__cause__.stack
    assert_silent(told(raised.value))
    assert KEY not in log.getvalue()


@pytest.mark.parametrize("kind", ["down", "echo", "late"])
def test_through_httpx(kind: str, log: io.StringIO) -> None:
    """With httpx in between, its loggers at their most talkative."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        if kind == "down":
            raise httpx.ConnectError("refused", request=request)
        if kind == "late":
            raise httpx.ReadTimeout("late", request=request)
        return httpx.Response(400, json={"message": KEY})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        client = SyncLoopaiClient(
            "http://loopai.test", KEY, http_client=http, retry_waits=False, headers={"cookie": COOKIE}
        )
        with pytest.raises(LoopaiException) as raised:
            client.execute(TASK, {"text": "x"})
    assert_silent(told(raised.value))
    assert_silent(log.getvalue())


async def test_through_httpx_asynchronously(log: io.StringIO) -> None:
    """The same with a client of the user's in an event loop."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = LoopaiClient("http://loopai.test", KEY, http_client=http, max_retries=0, headers={"cookie": COOKIE})
        with pytest.raises(LoopaiException) as raised:
            await client.execute(TASK, {"text": "x"})
        await client.close()
        assert not http.is_closed
    assert_silent(told(raised.value))
    assert_silent(log.getvalue())


def test_through_the_default_transport(log: io.StringIO) -> None:
    """Nobody listens there: httpcore logs and raises, without the key."""
    client = SyncLoopaiClient("http://127.0.0.1:9", KEY, max_retries=1, retry_waits=False)
    with client, pytest.raises(LoopaiException) as raised:
        client.execute(TASK, {"text": "x"})
    assert_silent(told(raised.value))
    assert_silent(log.getvalue())


async def test_through_the_default_transport_asynchronously(log: io.StringIO) -> None:
    """The same in an event loop."""
    async with LoopaiClient("http://127.0.0.1:9", KEY, max_retries=1, retry_waits=False) as client:
        with pytest.raises(LoopaiException) as raised:
            await client.execute(TASK, {"text": "x"})
    assert_silent(told(raised.value))
    assert_silent(log.getvalue())


def test_what_crosses_the_seam_hides_its_headers() -> None:
    """A request or reply in a log shows method, address and status."""
    request = Request("POST", "http://x", {"authorization": KEY}, KEY.encode())
    assert_silent(repr(request))
    assert repr(Headers({"x-b": KEY, "authorization": KEY})) == "<headers authorization, x-b>"
    assert_silent(repr(Reply(200, {"set-cookie": COOKIE}, KEY.encode())))


def test_webhook_secrets(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """The server returns them in clear: no repr shows them, and no error that echoes them."""
    body = {**json.loads(example("webhooks.subscribe.response")), "secret": WEBHOOK, "headers": {"X": COOKIE}}
    recorder.give(201, body).give(200, [body]).give(400, {"message": f"bad secret {WEBHOOK}"})
    subscription = calls("subscribe_webhook", "http://x", ["canaryRollback"], WEBHOOK)
    assert subscription.secret == WEBHOOK
    assert recorder.bodies[0]["secret"] == WEBHOOK
    assert_silent(repr(subscription) + str(subscription) + repr(recorder.requests))
    assert_silent(repr(calls("list_webhooks")))
    assert_silent(repr(models.SubscribeRequest(url="http://x", event_types=[0], secret=WEBHOOK)))
    with pytest.raises(LoopaiException) as raised:
        calls("subscribe_webhook", "http://x", ["canaryRollback"], WEBHOOK)
    assert raised.value.message == "bad secret ***"
    assert WEBHOOK not in repr(vars(raised.value))


SUBSCRIPTION = {
    "id": TASK,
    "url": "http://x",
    "event_types": ["canaryRollback"],
    "secret": WEBHOOK,
    "headers": {"Authorization": f"Bearer {KEY}", "Cookie": COOKIE},
    "created_at": "2026-11-28T23:14:34.2561689Z",
}


def spoilt(**members: Any) -> bytes:
    return json.dumps([SUBSCRIPTION, {**SUBSCRIPTION, **members}]).encode()


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, spoilt(id=WEBHOOK)),
        (200, spoilt(secret=[WEBHOOK])),
        (200, spoilt(created_at=WEBHOOK)),
        (200, spoilt(event_types=WEBHOOK)),
        (200, spoilt(headers={"Cookie": [COOKIE]})),
        (200, spoilt(headers=WEBHOOK)),
        (200, json.dumps([[SUBSCRIPTION]]).encode()),
        (200, spoilt()[: spoilt().index(WEBHOOK.encode()) + len(WEBHOOK)]),
        (200, f"<html>{WEBHOOK} {KEY}</html>".encode()),
        (500, spoilt()),
        (500, json.dumps({**SUBSCRIPTION, "code": "INTERNAL_ERROR", "message": "An error occurred"}).encode()),
        (502, b"bad gateway: " + spoilt()),
        (404, spoilt()),
        (429, spoilt()),
    ],
)
@pytest.mark.parametrize("method", ["list_webhooks", "subscribe_webhook"])
def test_secrets_that_only_the_reply_has(
    calls: Any, recorder: Any, log: io.StringIO, method: str, status: int, content: bytes
) -> None:
    """A reply with subscriptions that cannot be read, or that is an error: nothing of it but the error is kept."""
    recorder.give(status, content)
    arguments = ("http://x", ["canaryRollback"]) if method == "subscribe_webhook" else ()
    with pytest.raises(LoopaiException) as raised:
        calls(method, *arguments, client=calls.client(max_retries=0))
    assert_silent(told(raised.value))
    assert_silent(log.getvalue() + "nothing else")
    assert raised.value.status_code == status
    if b"INTERNAL_ERROR" in content:
        assert raised.value.response == {"code": "INTERNAL_ERROR", "message": "An error occurred"}
    elif status in {200, 502}:
        assert "may hold secrets" in raised.value.message


def test_a_client_and_its_configuration() -> None:
    """The key can be read where it is asked for, and nowhere else."""
    client = SyncLoopaiClient("http://loopai.test/", KEY, headers={"x-team-token": COOKIE}, transport=_Nothing())
    assert client.api_key == KEY
    assert_silent(repr(client) + str(client) + repr(client.config) + repr(client.with_options(timeout=1)))
    assert "api_key=set" in repr(client)
    assert "api_key=none" in repr(client.with_options(api_key=None))
    with pytest.raises(TypeError, match="cannot be pickled: make one in each process"):
        pickle.dumps(client)


class _Nothing:
    def send(self, request: Request) -> Reply:
        return Reply(404, {}, b"")

    def close(self) -> None:
        """Hold nothing."""


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{COOKIE}@x",
        f"http://{COOKIE}@x",
        f"user:{COOKIE}@x",
        f"ftp://u:{COOKIE}@x",
        f"http://u:{COOKIE}@[x",
    ],
)
def test_a_base_url_with_a_password_is_refused_untold(url: str) -> None:
    """It would end in every message: the error says so without it."""
    with pytest.raises(ConfigurationError, match="base_url must not carry a user or password") as raised:
        resolve({"base_url": url})
    assert_silent(told(raised.value))
    with pytest.raises(ConfigurationError, match="LOOPAI_BASE_URL must not carry") as raised:
        resolve({}, {"LOOPAI_BASE_URL": url})
    assert_silent(told(raised.value))


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": -1},
        {"api_key": f"{KEY}\n.{KEY}"},
        {"headers": {"a": f"{COOKIE}\n"}},
        {"headers": f"a b={COOKIE}"},
        {"api_key": 5},
    ],
)
def test_wrong_options_beside_a_key(wrong: dict[str, Any]) -> None:
    """The traceback's frames show neither key nor environment."""
    with pytest.raises(ConfigurationError) as raised:
        resolve({"api_key": KEY, **wrong}, {"LOOPAI_API_KEY": KEY})
    assert_silent(told(raised.value))


@pytest.mark.parametrize("key", ["k", "test", "key 1"])
def test_a_short_key_does_not_riddle_the_texts(key: str) -> None:
    """It is hidden where it stands as a word, and left within other words: errors stay readable."""
    secrets = secrets_of({"authorization": f"Bearer {key}"})
    told = f"unknown task 'latest': monkey 12 tests, token Bearer {key}ing; refused {key!r} and ({key})"
    expected = f"unknown task 'latest': monkey 12 tests, token Bearer {key}ing; refused '***' and (***)"
    assert without(told, secrets) == expected
    reply = json.dumps({"error_message": told, "output": told}).encode()
    assert json.loads(scrub_messages(reply, secrets)) == {"error_message": expected, "output": told}


def test_a_long_key_is_hidden_wherever_it_stands() -> None:
    """Also glued to other words."""
    secrets = secrets_of({"authorization": "Bearer sk-12345"})
    assert without("xsk-12345y and Bearer sk-12345", secrets) == "x***y and ***"
