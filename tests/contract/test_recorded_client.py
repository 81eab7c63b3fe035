"""Each recorded reply goes through the call that would have received it, on both clients."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Callable

import httpx
import pytest
from pydantic import BaseModel

from loopai import (
    ConflictException,
    LoopaiClient,
    LoopaiException,
    NotFoundException,
    RateLimitException,
    SyncLoopaiClient,
    ValidationException,
)
from loopai._core.unrun import is_unrun

from .recordings import LINES, Line

ID = str(uuid.UUID(int=7))

Use = Callable[[Any], Any]


def _body(line: Line) -> Any:
    try:
        return json.loads(line.body or b"null")
    except ValueError:
        return None


def _execute(line: Line) -> Use:
    sent = _body(line)
    version = sent.get("version") if isinstance(sent, dict) and isinstance(sent.get("version"), int) else None
    return lambda client: client.execute(ID, {"text": "x"}, version=version, raise_on_error=False)


def _batch(line: Line) -> Use:
    replied = line.json or {}
    ids = [result["id"] for result in replied.get("results", ())] or ["a"]
    if line.status == 200 and not replied["results"]:
        ids = []
    items = [{"id": each, "input": {}} for each in ids]
    request = {"task_id": ID, "items": items, "max_concurrency": 1}
    return lambda client: client.batch_execute_advanced(request)


def _validate(line: Line) -> Use:
    ids = [result["id"] for result in (line.json or {}).get("results", ())]
    items = [{"id": each, "input": {}, "output": 1, "expected_output": 1} for each in ids or ["a"]]
    return lambda client: client.batch_validate(ID, items)


def _plain(method: str, *args: Any, **options: Any) -> Callable[[Line], Use]:
    return lambda line: lambda client: getattr(client, method)(*args, **options)


CALLS: tuple[tuple[str, str, Callable[[Line], Use]], ...] = (
    ("POST", r"/api/v1/tasks/?", _plain("create_task", "name", "d", {}, {})),
    ("POST", r".*/tasks/(.*/)?execute/?", _execute),
    ("GET", r".*/tasks/[^/]+/execute", _execute),
    ("OPTIONS", r".*", _plain("unsubscribe_webhook", ID)),
    ("GET", r"/api/v1/tasks", _plain("list_tasks")),
    ("GET", r".*/artifacts", _plain("list_artifacts", ID)),
    ("GET", r".*/artifacts/[^/]+", _plain("get_artifact", ID, 1)),
    ("GET|PUT|DELETE|HEAD", r".*/tasks/[^/]+(\?.*)?", _plain("get_task", ID)),
    ("POST", r".*/batch/execute", _batch),
    ("POST", r".*/batch/validate", _validate),
    ("GET", r".*/summary", _plain("get_validation_summary", ID)),
    ("GET", r".*/recommendations", _plain("get_recommendations", ID)),
    ("POST", r".*/improve", _plain("improve_program", ID)),
    ("POST", r".*/compare", _plain("compare_programs", ID, ID)),
    ("POST", r".*/canary/start", _plain("start_canary", ID, ID)),
    ("POST", r".*/progress", _plain("progress_canary", ID)),
    ("POST", r".*/rollback", _plain("rollback_canary", ID, "why")),
    ("GET", r".*/canary", _plain("get_canary", ID)),
    ("POST", r".*/webhooks/subscribe", _plain("subscribe_webhook", "https://x.test/", ["canaryRollback"])),
    ("GET", r".*/webhooks", _plain("list_webhooks")),
    ("GET", r".*/history(\?.*)?", _plain("get_webhook_history", ID)),
    ("DELETE|GET", r".*/webhooks/[^/]+", _plain("unsubscribe_webhook", ID)),
    ("GET|POST", r"/health", _plain("get_plain_health")),
    ("GET", r"/api/v1/health", _plain("get_health")),
    ("GET", r".*/health/detailed", _plain("get_detailed_health")),
    ("GET", r".*/health/ready", _plain("get_ready")),
    ("GET", r".*/health/live", _plain("get_live")),
    ("GET", r"/api/v1/metrics|/metrics", _plain("get_metrics")),
    ("GET", r"/|.*/nothing", _plain("get_health")),
)


def use_of(line: Line) -> Use:
    for methods, path, call in CALLS:
        if re.fullmatch(methods, line.method) and re.fullmatch(path, line.path, re.IGNORECASE):
            return call(line)
    raise AssertionError(f"no call for {line.method} {line.path}")


def play(line: Line, synchronous: bool) -> Any:
    """What the client makes of the reply: a result, or the exception."""
    headers = {
        name: value for name, value in line.headers.items() if name.lower() not in {"content-length", "location"}
    }

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(line.status, headers=headers, content=line.reply.encode("utf-8", "surrogatepass"))

    use = use_of(line)
    try:
        if synchronous:
            with (
                httpx.Client(transport=httpx.MockTransport(answer)) as http,
                SyncLoopaiClient("http://s.test", http_client=http, max_retries=0) as client,
            ):
                return use(client)

        async def run() -> Any:
            async with (
                httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http,
                LoopaiClient("http://s.test", http_client=http, max_retries=0) as client,
            ):
                return await use(client)

        return asyncio.run(run())
    except LoopaiException as error:
        return error


def same(value: Any, told: Any, path: str) -> None:
    """The value has all that the reply told, in its types."""
    if isinstance(value, BaseModel):
        for name, item in told.items():
            same(getattr(value, name), item, f"{path}.{name}")
    elif isinstance(told, list):
        assert len(value) == len(told), path
        for at, (mine, other) in enumerate(zip(value, told)):
            same(mine, other, f"{path}[{at}]")
    elif isinstance(told, dict) and isinstance(value, Mapping):
        assert value.keys() == told.keys(), path
        for name, item in told.items():
            same(value[name], item, f"{path}.{name}")
    elif path.endswith(".error_message") and is_unrun(False, None, None, told):
        # The server failed to run the item; without retries the client says so.
        assert told in value, path
        assert "may have run" in value, path
    elif isinstance(value, datetime):
        assert value.tzinfo is not None, path
        assert value.replace(microsecond=0, tzinfo=None).isoformat() == told[:19], path
    elif isinstance(value, uuid.UUID):
        assert str(value) == told, path
    elif isinstance(value, str) and value.startswith("the server failed to run it ("):
        # Nothing is sent again here, and the error says that the item may have run.
        assert told[:200] in value, path
    else:
        assert value == told, path


TYPES = {400: ValidationException, 404: NotFoundException, 409: ConflictException}


@pytest.mark.parametrize("synchronous", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize("line", LINES, ids=[line.label for line in LINES])
def test_a_recorded_reply_is_read(line: Line, synchronous: bool) -> None:
    """A result has every member that the reply has; an error has its status, code, message and fields."""
    made = play(line, synchronous)
    if 200 <= line.status < 300:
        if isinstance(made, LoopaiException):
            raise made
        if line.status == 204:
            assert made is None
        elif line.json is not None:
            same(made, line.json, line.name)
        return
    assert isinstance(made, LoopaiException)
    assert made.status_code == line.status
    assert isinstance(made, TYPES.get(line.status, LoopaiException))
    told = line.json
    texts = [text for found in (getattr(made, "errors", None) or {}).values() for text in found]
    if isinstance(told, dict) and "code" in told:
        assert made.code == told["code"]
        # What may be the limiter's refusal is told in words of our own.
        limited = told["code"] == "INTERNAL_ERROR" and "limit" in made.message
        assert made.message.startswith(told["message"]) or limited
        if isinstance(told.get("details"), str) and not limited:
            assert told["details"] in str(made)
        assert made.trace_id == told.get("trace_id")
        for detail in told["details"] if isinstance(told.get("details"), list) else ():
            assert detail["error_message"] in texts
    elif isinstance(told, dict):
        for key, found in told.get("errors", {}).items():
            assert key == "request" or set(found) <= set(texts)
        assert made.trace_id == told["traceId"]
    else:
        assert made.code is None
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), again.status_code, again.code, str(again)) == (
        type(made),
        made.status_code,
        made.code,
        str(made),
    )


def recorded(label: str) -> Line:
    [line] = [line for line in LINES if line.label == label]
    return line


@pytest.mark.parametrize("synchronous", [True, False], ids=["sync", "async"])
def test_what_the_limiter_refused_may_be_sent_again(synchronous: bool) -> None:
    """Its 500 has none of its headers."""
    for label in ("limiter.execute.31-Production", "limiter.execute.32-Production"):
        assert isinstance(play(recorded(label), synchronous), RateLimitException)


@pytest.mark.parametrize("synchronous", [True, False], ids=["sync", "async"])
def test_values_come_out_as_programs_gave_them(synchronous: bool) -> None:
    """Numbers, text beyond the basic plane, null as an output and none at all."""
    echoed = play(recorded("program.echo-Production"), synchronous)
    assert echoed.output["d"] == "é😀<>&"
    assert (echoed.output["c"], echoed.output["h"]) == (12345678901234567000, 1e-07)
    null = play(recorded("program.null-Production"), synchronous)
    assert (null.status, null.output, null.error_message) == ("success", None, None)
    failed = play(recorded("program.throw_multiline-Production"), synchronous)
    assert (failed.status, failed.error_message) == ("error", "a\nb")


@pytest.mark.parametrize("synchronous", [True, False], ids=["sync", "async"])
def test_a_secret_of_a_reply_is_not_shown(synchronous: bool) -> None:
    """A subscription is returned with its secret in clear; no repr has it."""
    line = recorded("webhook.subscribe-Production")
    made = play(line, synchronous)
    assert made.secret is not None
    assert made.secret == line.json["secret"]
    assert made.secret not in repr(made)
