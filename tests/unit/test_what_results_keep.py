"""A result keeps its reply wherever it goes; a reply's headers and id are found as HTTP has them."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Callable

import pytest

from loopai import models
from loopai.exceptions import (
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    TimeoutException,
    ValidationException,
)

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"

COPIES: list[Callable[[Any], Any]] = [
    copy.copy, copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result)),
    lambda result: result.model_copy() if hasattr(result, "model_copy") else copy.copy(result),
    lambda result: result.model_copy(deep=True) if hasattr(result, "model_copy") else copy.copy(result),
    lambda result: copy.copy(pickle.loads(pickle.dumps(copy.deepcopy(result)))),
]  # fmt: skip


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    ("method", "args", "reply"),
    [
        ("execute", (TASK, 1), "execute.response.success"),
        ("list_tasks", (), "tasks.artifacts.list.response.empty"),
        ("get_metrics", (), "health.response"),
    ],
)
def test_copies_keep_the_reply(
    calls: Any, recorder: Any, example: Callable[[str], bytes], copied: Any, method: str, args: Any, reply: str
) -> None:
    """Status, headers and id; the copy equals the original."""
    recorder.give(200, example(reply), x_request_id="r-1", content_type="application/json")
    result = calls(method, *args)
    other = copied(result)
    assert other == result
    assert other.reply.status_code == 200
    for name in ("content-type", "Content-Type", "CONTENT-TYPE"):
        assert other.reply.headers[name] == "application/json"
        assert name in other.reply.headers
    assert other.reply.headers == {"x-request-id": "r-1", "content-type": "application/json"}
    assert other.request_id == result.request_id == other.reply.request_id == "r-1"


def test_ones_own_objects_have_no_reply() -> None:
    """Nor do their copies."""
    item = models.BatchExecuteItem(id="a", input=1)
    for copied in COPIES:
        assert copied(item).reply is None
        assert copied(item).request_id is None
    assert item.model_copy(update={"id": "b"}).id == "b"


@pytest.mark.parametrize(
    ("headers", "body", "found"),
    [
        ({"x_request_id": "r-1"}, {"message": "m", "trace_id": "t"}, "r-1"),
        ({}, {"message": "m", "trace_id": "t"}, "t"),
        ({}, {"message": "m"}, None),
    ],
)
def test_an_error_has_the_requests_id(calls: Any, recorder: Any, headers: Any, body: Any, found: Any) -> None:
    """The reply's header, else the trace id of its body."""
    recorder.give(404, body, **headers)
    with pytest.raises(NotFoundException) as raised:
        calls("get_task", TASK)
    assert raised.value.request_id == found
    assert pickle.loads(pickle.dumps(raised.value)).request_id == found


def test_a_failed_program_has_the_requests_id(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Though its reply is a 200."""
    recorder.give(200, example("execute.response.program_error"), x_request_id="r-1")
    with pytest.raises(ExecutionException) as raised:
        calls("execute", TASK, 1)
    assert raised.value.request_id == "r-1"


def test_exceptions_are_made_as_before() -> None:
    """By position, as the first version had it."""
    base = LoopaiException("m", 418, {"a": 1})
    assert (base.message, base.status_code, base.response) == ("m", 418, {"a": 1})
    invalid = ValidationException("m", 400, {"name": ["is taken"]})
    assert (invalid.status_code, invalid.errors) == (400, {"name": ["is taken"]})
    failed = ExecutionException("m", 500, "e-1")
    assert (failed.status_code, failed.execution_id) == (500, "e-1")
    cause = OSError("gone")
    for kind in (ConnectionException, TimeoutException):
        assert kind("m", cause).original_exception is cause
        assert kind("m", original_exception=cause).original_exception is cause
