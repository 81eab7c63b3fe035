# ruff: noqa: E501  # one row an operation, to be read across
"""What each operation puts on the wire, and what it refuses to."""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Callable, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel

from loopai import LoopaiClient, models
from loopai.exceptions import ExecutionException, ValidationException

TASK = UUID("7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60")
PROGRAM = UUID("0b9e8d7c-6a5b-4c3d-9e2f-1a0b9c8d7e6f")
OTHER = UUID("3c4d5e6f-7a8b-4c9d-8e0f-2b3c4d5e6f70")


class Label(enum.Enum):
    SPAM = "spam"


class Email(BaseModel):
    subject: str
    sent: Optional[datetime] = None
    tags: list[str] = []


@dataclass
class Point:
    x: int
    y: Decimal


class Odd:
    """No JSON says this."""


ASKED: list[tuple[str, tuple[Any, ...], dict[str, Any], str, str, Any, str]] = [
    ("create_task", ("n", "d", {"type": "object"}, True), {}, "POST", "/api/v1/tasks",
     {"name": "n", "description": "d", "input_schema": {"type": "object"}, "output_schema": True}, "tasks.create.response"),
    ("create_task", ("n", "d", None, [1]), {"examples": iter([{"input": Label.SPAM, "output": 1}]), "accuracy_target": 0.5, "latency_target_ms": 5, "sampling_rate": 0.0},
     "POST", "/api/v1/tasks",
     {"name": "n", "description": "d", "input_schema": None, "output_schema": [1], "examples": [{"input": "spam", "output": 1}],
      "accuracy_target": 0.5, "latency_target_ms": 5, "sampling_rate": 0.0}, "tasks.create.response"),
    ("get_task", (TASK,), {}, "GET", f"/api/v1/tasks/{TASK}", None, "tasks.get.response"),
    ("get_task", ("spam",), {}, "GET", f"/api/v1/tasks/{TASK}", None, "tasks.get.response"),
    ("get_task", (str(TASK).upper(),), {}, "GET", f"/api/v1/tasks/{TASK}", None, "tasks.get.response"),
    ("list_tasks", (), {}, "GET", "/api/v1/tasks", None, "tasks.artifacts.list.response.empty"),
    ("get_task_by_name", ("spam filter",), {}, "GET", "/api/v1/tasks/by-name/spam%20filter", None, "tasks.get.response"),
    ("list_executions", (TASK,), {}, "GET", f"/api/v1/tasks/{TASK}/executions?limit=100", None,
     "tasks.artifacts.list.response.empty"),
    ("list_executions", ("spam", 5, "71", "error"), {}, "GET",
     f"/api/v1/tasks/{TASK}/executions?limit=5&before=71&status=error", None, "tasks.artifacts.list.response.empty"),
    ("export_executions", ("spam", "error"), {}, "GET", f"/api/v1/tasks/{TASK}/executions/export?status=error", None,
     "tasks.artifacts.list.response.empty"),
    ("list_artifacts", (TASK,), {}, "GET", f"/api/v1/tasks/{TASK}/artifacts", None, "tasks.artifacts.list.response"),
    ("get_artifact", (TASK, 2), {}, "GET", f"/api/v1/tasks/{TASK}/artifacts/2", None, "tasks.artifacts.get.response"),
    ("push_program", ("spam", "def main(input): ..."), {"activate": False}, "POST", f"/api/v1/tasks/{TASK}/artifacts",
     {"code": "def main(input): ...", "language": "python", "activate": False}, "tasks.artifacts.get.response"),
    ("activate", ("spam", 2), {}, "POST", f"/api/v1/tasks/{TASK}/artifacts/2/activate", {}, "tasks.artifacts.get.response"),
    ("retire", (TASK, 2), {}, "POST", f"/api/v1/tasks/{TASK}/artifacts/2/retire", {}, "tasks.artifacts.get.response"),
    ("generate", ("spam",), {}, "POST", f"/api/v1/tasks/{TASK}/generate", {}, "tasks.artifacts.get.response"),
    ("generate", (TASK,), {"wait": False}, "POST", f"/api/v1/tasks/{TASK}/generate", {"wait": False}, "tasks.get.response"),
    ("add_examples", (TASK, [{"input": 1, "output": 2}]), {}, "POST", f"/api/v1/tasks/{TASK}/examples",
     {"examples": [{"input": 1, "output": 2}]}, "tasks.get.response"),
    ("execute", (TASK, {"text": "x"}), {}, "POST", f"/api/v1/tasks/{TASK}/execute",
     {"task_id": str(TASK), "input": {"text": "x"}}, "execute.response.success"),
    ("execute", ("spam", None, 1, 5000, True), {}, "POST", f"/api/v1/tasks/{TASK}/execute",
     {"task_id": str(TASK), "input": None, "version": 1, "timeout_ms": 5000, "force_validation": True}, "execute.response.success"),
    ("batch_execute", (TASK, iter([1, None, {"a": "é"}])), {}, "POST", "/api/v1/batch/execute",
     {"task_id": str(TASK), "items": [{"id": "0", "input": 1}, {"id": "1", "input": None}, {"id": "2", "input": {"a": "é"}}], "max_concurrency": 10},
     "batch.execute.response.success"),
    ("batch_validate", ("spam", [{"id": "a", "input": 1, "output": 2, "expected_output": None}]), {}, "POST", "/api/v1/batch/validate",
     {"task_id": str(TASK), "items": [{"id": "a", "input": 1, "output": 2, "expected_output": None}]}, "batch.validate.response"),
    ("get_health", (), {}, "GET", "/api/v1/health", None, "health.response"),
    ("get_detailed_health", (), {}, "GET", "/api/v1/health/detailed", None, "health.detailed.response"),
    ("get_ready", (), {}, "GET", "/api/v1/health/ready", None, "health.ready.response"),
    ("get_live", (), {}, "GET", "/api/v1/health/live", None, "health.live.response"),
    ("get_plain_health", (), {}, "GET", "/health", None, "legacy.health.response"),
    ("get_metrics", (), {}, "GET", "/metrics", None, "health.response"),
    ("get_validation_summary", (PROGRAM,), {}, "GET", f"/api/v1/validation/programs/{PROGRAM}/summary", None, "validation.summary.response"),
    ("get_recommendations", (str(PROGRAM),), {}, "GET", f"/api/v1/validation/programs/{PROGRAM}/recommendations", None, "validation.recommendations.response"),
    ("improve_program", (PROGRAM,), {}, "POST", f"/api/v1/validation/programs/{PROGRAM}/improve", None, "validation.improve.response"),
    ("compare_programs", (PROGRAM, OTHER), {}, "POST", "/api/v1/validation/programs/compare",
     {"control_program_id": str(PROGRAM), "treatment_program_id": str(OTHER)}, "validation.compare.response"),
    ("compare_programs", (PROGRAM, OTHER, models.ComparisonConfiguration(minimum_sample_size=5)), {}, "POST", "/api/v1/validation/programs/compare",
     {"control_program_id": str(PROGRAM), "treatment_program_id": str(OTHER), "configuration": {"minimum_sample_size": 5}}, "validation.compare.response"),
    ("compare_programs", (PROGRAM, OTHER), {"configuration": {"required_confidence": 0.9}}, "POST", "/api/v1/validation/programs/compare",
     {"control_program_id": str(PROGRAM), "treatment_program_id": str(OTHER), "configuration": {"required_confidence": 0.9}}, "validation.compare.response"),
    ("start_canary", ("spam", PROGRAM), {}, "POST", "/api/v1/validation/programs/canary/start",
     {"task_id": str(TASK), "new_program_id": str(PROGRAM)}, "validation.canary.start.response"),
    ("progress_canary", (OTHER,), {}, "POST", f"/api/v1/validation/programs/canary/{OTHER}/progress", None, "validation.canary.progress.response.paused"),
    ("rollback_canary", (OTHER, ""), {}, "POST", f"/api/v1/validation/programs/canary/{OTHER}/rollback", {"reason": ""}, "validation.canary.rollback.response"),
    ("get_canary", ("spam",), {}, "GET", f"/api/v1/validation/tasks/{TASK}/canary", None, "validation.canary.active.response"),
    ("subscribe_webhook", ("http://x", [0, "CanaryRollback"]), {}, "POST", "/api/v1/webhooks/subscribe",
     {"url": "http://x", "event_types": ["programExecutionFailed", "canaryRollback"]}, "webhooks.subscribe.response"),
    ("subscribe_webhook", ("http://x", "abTestCompleted", "s", 0, 5, {"X": "y"}), {}, "POST", "/api/v1/webhooks/subscribe",
     {"url": "http://x", "event_types": ["abTestCompleted"], "secret": "s", "max_retries": 0, "timeout_seconds": 5, "headers": {"X": "y"}}, "webhooks.subscribe.response"),
    ("unsubscribe_webhook", (OTHER,), {}, "DELETE", f"/api/v1/webhooks/{OTHER}", None, "webhooks.list.response"),
    ("list_webhooks", (), {}, "GET", "/api/v1/webhooks", None, "webhooks.list.response"),
    ("get_webhook_history", (OTHER,), {"limit": 5}, "GET", f"/api/v1/webhooks/{OTHER}/history?limit=5", None, "webhooks.history.response"),
    ("get_webhook_history", (OTHER,), {}, "GET", f"/api/v1/webhooks/{OTHER}/history?limit=100", None, "webhooks.history.response"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "options", "method", "path", "body", "reply"),
    ASKED,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_operation(
    calls: Any, recorder: Any, example: Callable[[str], bytes],
    name: str, args: tuple[Any, ...], options: dict[str, Any], method: str, path: str, body: Any, reply: str,
) -> None:  # fmt: skip
    """Method, path and snake_case body without nulls that nobody gave; ids as text; the reply as its model."""
    args = tuple([1, None, {"a": "é"}] if isinstance(arg, Iterator) else arg for arg in args)
    if "examples" in options:
        options = {**options, "examples": iter([{"input": Label.SPAM, "output": 1}])}
    recorder.give(200, example(reply))
    result = calls(name, *args, client=calls.client(tasks={"spam": TASK}, api_key="k"), **options)
    (request,) = recorder.requests
    assert (request.method, request.url) == (method, f"http://loopai.test{path}")
    assert recorder.bodies == [body]
    assert request.headers["authorization"] == "Bearer k"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("loopai-python/")
    assert ("content-type" in request.headers) == (body is not None)
    if name == "unsubscribe_webhook":
        assert result is None
    elif name in {"get_metrics", "export_executions"}:
        assert result.reply.status_code == 200
    else:
        read = json.loads(example(reply))
        dumped = (
            [item.model_dump(mode="json") for item in result]
            if isinstance(result, list)
            else result.model_dump(mode="json")
        )
        assert dumped == read
        assert result.reply.status_code == 200


def test_every_public_operation_is_tested(calls: Any) -> None:
    """A method that is added fails here until its request is tested."""
    plain = {
        "close",
        "with_options",
        "bind",
        "local",
        "base_url",
        "api_key",
        "timeout",
        "max_retries",
        "config",
        "hooks",
        "transport",
    }
    public = {name for name in dir(calls.client()) if not name.startswith("_")} - plain
    elsewhere = {
        "batch_execute_advanced",
        "batch_stream",
        "run_batch",
        "load_program",
        "delete_executions",
        "delete_task",
    }
    assert public - elsewhere == {row[0] for row in ASKED}


VALUES: list[tuple[Any, Any]] = [
    (Email(subject="s", sent=datetime(2025, 1, 1, tzinfo=timezone.utc), tags=["a"]), {"subject": "s", "sent": "2025-01-01T00:00:00Z", "tags": ["a"]}),
    ({"day": date(2025, 1, 2), "price": Decimal("1.10"), "id": TASK}, {"day": "2025-01-02", "price": "1.10", "id": str(TASK)}),
    ([Label.SPAM, (1, 2), Point(1, Decimal(2))], ["spam", [1, 2], {"x": 1, "y": "2"}]),
    ({"text": "NaN and Infinity", "emoji": "🦜", "nul": "\x00"}, {"text": "NaN and Infinity", "emoji": "🦜", "nul": "\x00"}),
    ("bare", "bare"),
    (1.5, 1.5),
    (True, True),
    ({"nested": {"none": None, "empty": {}, "list": []}}, {"nested": {"none": None, "empty": {}, "list": []}}),
    ({1: "int key"}, {"1": "int key"}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "sent"), VALUES, ids=lambda value: type(value).__name__)
def test_inputs_of_many_kinds(
    calls: Any, recorder: Any, example: Callable[[str], bytes], value: Any, sent: Any
) -> None:
    """Models, dates, decimals and the like go as JSON, alone and in batches; nulls inside an input stay."""
    recorder.give(200, example("execute.response.success")).give(200, example("batch.execute.response.success"))
    calls("execute", TASK, value)
    calls("batch_execute", TASK, [value])
    assert recorder.bodies[0]["input"] == sent
    assert recorder.bodies[1]["items"] == [{"id": "0", "input": sent}]


ITSELF: list[Any] = []
ITSELF.append(ITSELF)
UNSENDABLE: list[tuple[Any, str, str]] = [
    ({"score": float("nan")}, ".score", "nan is not a JSON number"),
    ({"a": [1, {"b": float("-inf")}]}, ".a[1].b", "-inf is not a JSON number"),
    (float("inf"), "", "inf is not a JSON number"),
    ({"tags": {"a", "b"}}, ".tags", "a set has no order: pass a list"),
    (("x", frozenset()), "[1]", "a set has no order"),
    ({"text": "lone \ud800 surrogate"}, ".text", "a lone surrogate cannot be written as UTF-8: remove or replace it"),
    ({"a": {"lone \ud800": 1}}, ".a", "a lone surrogate cannot be written as UTF-8"),
    ({"a": [1, Odd()]}, ".a[1]", "Odd has no JSON form: pass a dict, a list, a text or a number"),
    (Odd(), "", "Odd has no JSON form"),
    ({"a": b"\xff"}, ".a", "these bytes are not UTF-8 text: pass them as text, in base64 for example"),
    (ITSELF, "", "nested too deeply, or contains itself"),
]


class Score(BaseModel):
    value: float


@pytest.mark.parametrize(
    ("value", "place", "reason"),
    [*UNSENDABLE, ({"s": [Score(value=float("nan"))]}, ".s[0].value", "nan is not")],
    ids=lambda value: value[:12] if isinstance(value, str) and value.isascii() else type(value).__name__,
)
def test_what_json_cannot_say_is_refused(calls: Any, recorder: Any, value: Any, place: str, reason: str) -> None:
    """Nothing is sent; the error names the very member, alone and in batches."""
    with pytest.raises(ValidationException) as raised:
        calls("execute", TASK, value)
    (name,) = raised.value.errors
    assert name == f"input{place}"
    assert reason in raised.value.errors[name][0]
    with pytest.raises(ValidationException) as raised:
        calls("batch_execute_advanced", task_id=TASK, items=[{"id": "a", "input": 1}, {"id": "b", "input": value}])
    (name,) = raised.value.errors
    assert name.startswith("body" if value is ITSELF else f"items[1].input{place}")
    assert recorder.requests == []


def test_a_task_that_cannot_be_sent(calls: Any, recorder: Any) -> None:
    """Examples and schemas are named as well."""
    with pytest.raises(ValidationException) as raised:
        calls("create_task", "n", "d", {}, {}, examples=[{"input": 1, "output": {1, 2}}])
    assert list(raised.value.errors) == ["examples[0].output"]
    with pytest.raises(ValidationException) as raised:
        calls("create_task", "n", "d", {}, Odd)
    assert list(raised.value.errors) == ["output_schema"]
    assert "neither a JSON schema nor a type that has one" in str(raised.value)
    assert recorder.requests == []


ITEM = {"id": "a", "input": 1}
FULL = {"task_id": str(TASK), "items": [ITEM, {"id": "b", "input": None, "force_validation": True}],
        "version": 2, "max_concurrency": 3, "stop_on_first_error": True, "timeout_ms": 50}  # fmt: skip


@pytest.mark.parametrize(
    "request_given",
    [
        models.BatchExecuteRequest.model_validate(FULL),
        FULL,
        {**FULL, "items": [models.BatchExecuteItem.model_validate(item) for item in FULL["items"]]},  # type: ignore[attr-defined]  # a list
        {**FULL, "task_id": "spam"},
        {**FULL, "task_id": TASK},
        models.BatchExecuteRequest.model_validate({**FULL, "task_id": "spam"}),
    ],
)
def test_a_batch_in_both_styles(calls: Any, recorder: Any, example: Callable[[str], bytes], request_given: Any) -> None:
    """As one request, model or dict, or by its parts: the same bytes."""
    recorder.give(200, example("batch.execute.response.partial_failure"))
    client = calls.client(tasks={"spam": TASK})
    response = calls("batch_execute_advanced", request_given, client=client)
    assert response.failure_count > 0
    parts = request_given if isinstance(request_given, dict) else {name: getattr(request_given, name) for name in FULL}
    calls("batch_execute_advanced", client=client, **parts)
    calls("batch_execute_advanced", request=request_given, client=client)
    assert recorder.bodies == [FULL] * 3


def test_parts_beside_a_request_win(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Who says more means it."""
    recorder.give(200, example("batch.execute.response.success"))
    item = {**ITEM, "id": "another"}
    calls("batch_execute_advanced", FULL, version=None, max_concurrency=7, items=iter([item]))
    assert recorder.bodies == [
        {"task_id": str(TASK), "items": [item], "max_concurrency": 7, "stop_on_first_error": True, "timeout_ms": 50}
    ]


def test_only_what_was_given_goes(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Defaults are the server's; `None` is as good as nothing; an empty batch is a batch."""
    recorder.give(200, example("batch.execute.response.empty"))
    calls("batch_execute_advanced", task_id=TASK, items=[], version=None, timeout_ms=None)
    calls("batch_execute_advanced", models.BatchExecuteRequest(task_id=TASK, items=[], max_concurrency=None))
    assert recorder.bodies == [{"task_id": str(TASK), "items": []}] * 2


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({}, {"task_id": ["is needed"], "items": ["is needed"]}),
        ({"task_id": TASK}, {"items": ["is needed"]}),
        ({"task_id": TASK, "items": [], "concurrency": 5}, {"concurrency": ["is not a member of a batch"]}),
        ({"taskId": TASK, "items": []}, {"task_id": ["is needed"], "taskId": ["is not a member of a batch"]}),
        ({"task_id": TASK, "items": [], "max_concurrency": 0}, {"max_concurrency": ["must be between 1 and 100"]}),
        ({"task_id": TASK, "items": [], "max_concurrency": 101}, {"max_concurrency": ["must be between 1 and 100"]}),
        ({"task_id": TASK, "items": [], "timeout_ms": "soon"}, ["timeout_ms"]),
        ({"task_id": TASK, "items": [{"id": "a"}]}, ["items[0].input"]),
        ({"task_id": TASK, "items": [ITEM, {"id": "b", "input": 1, "inptu": 2}]}, ["items[1].inptu"]),
        ({"task_id": TASK, "items": [models.BatchExecuteItem(id="a", input=1, forced=True)]}, ["items[0].forced"]),  # type: ignore[call-arg]  # on purpose
        ({"task_id": TASK, "items": [{"id": 5, "input": 1}, "x"]}, ["items[0].id", "items[1]"]),
        ({"task_id": 7, "items": []}, ["task_id"]),
    ],
)  # fmt: skip
def test_a_batch_that_is_none(calls: Any, recorder: Any, given: dict[str, Any], errors: Any) -> None:
    """Nothing is sent; every wrong item and member is named."""
    with pytest.raises(ValidationException) as raised:
        calls("batch_execute_advanced", given)
    found = raised.value.errors
    assert (found if isinstance(errors, dict) else list(found)) == errors
    assert recorder.requests == []


def test_items_to_validate_are_checked_alike(calls: Any, recorder: Any) -> None:
    """A member that is missing, and one too many."""
    with pytest.raises(ValidationException) as raised:
        calls("batch_validate", TASK, [{"id": "a", "input": 1, "output": 1, "expected": 1}])
    assert set(raised.value.errors) == {"items[0].expected", "items[0].expected_output"}
    assert recorder.requests == []


@pytest.mark.parametrize("concurrency", [0, -1, 101])
def test_concurrency_out_of_range(calls: Any, recorder: Any, concurrency: int) -> None:
    """The server would refuse it."""
    with pytest.raises(ValidationException, match="max_concurrency: must be between 1 and 100"):
        calls("batch_execute", TASK, [1], concurrency)
    assert recorder.requests == []


def test_event_types_are_checked_before_anything_is_sent(calls: Any, recorder: Any) -> None:
    """The error lists the types there are."""
    with pytest.raises(ValidationException) as raised:
        calls("subscribe_webhook", "http://x", ["canaryRolback"])
    assert list(raised.value.errors) == ["event_types"]
    assert "canaryRollback" in str(raised.value)
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("method", "args", "wrong"),
    [
        ("get_task", ("",), "task_id"),
        ("get_task", (None,), "task_id"),
        ("execute", (5, 1), "task_id"),
        ("start_canary", (TASK, "x"), "new_program_id"),
        ("compare_programs", ("x", PROGRAM), "control_program_id"),
        ("compare_programs", (PROGRAM, "../x"), "treatment_program_id"),
        ("progress_canary", ("",), "canary_id"),
        ("unsubscribe_webhook", (None,), "subscription_id"),
    ],
)
def test_ids_that_are_none(calls: Any, recorder: Any, method: str, args: tuple[Any, ...], wrong: str) -> None:
    """The argument is named, and nothing is asked."""
    with pytest.raises(ValidationException) as raised:
        calls(method, *args)
    assert list(raised.value.errors) == [wrong]
    assert recorder.requests == []


def test_a_failed_program_raises_unless_told_not_to(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Client option, and argument of the call before it."""
    recorder.give(200, example("execute.response.program_error"))
    quiet = calls.client(raise_on_error=False)
    assert calls("execute", TASK, 1, client=quiet).status == "error"
    assert calls("execute", TASK, 1, raise_on_error=False).status == "error"
    with pytest.raises(ExecutionException):
        calls("execute", TASK, 1)
    with pytest.raises(ExecutionException):
        calls("execute", TASK, 1, client=quiet, raise_on_error=True)


async def test_calls_of_one_moment_travel_together(recorder: Any, example: Callable[[str], bytes]) -> None:
    """With `coalesce=True` two calls are one request with the two inputs, and each gets its own result."""
    row = {"success": True, "latency_ms": 1}
    rows = [{**row, "id": "1", "output": "one"}, {**row, "id": "0", "output": "zero"}]
    recorder.give(200, {**json.loads(example("batch.execute.response.empty")), "results": rows})
    client = LoopaiClient("http://loopai.test", transport=recorder, coalesce=True)

    results = await asyncio.gather(client.execute(TASK, {"n": 0}), client.execute(TASK, {"n": 1}))
    assert [result.output for result in results] == ["zero", "one"]
    assert [result.reply is not None and result.reply.status_code for result in results] == [200, 200]
    assert recorder.bodies == [
        {
            "task_id": str(TASK),
            "max_concurrency": 2,
            "items": [{"id": "0", "input": {"n": 0}}, {"id": "1", "input": {"n": 1}}],
        }
    ]


def test_a_call_alone_goes_as_it_would(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Coalescing waits for nobody who is not there; a failed program raises as ever."""
    recorder.give(200, example("execute.response.success")).give(200, example("execute.response.program_error"))
    client = calls.client(coalesce=True)
    assert calls("execute", TASK, 1, 2, 3, True, client=client).output == {"label": "spam"}
    assert recorder.requests[0].url.endswith("/execute")
    assert recorder.bodies == [
        {"task_id": str(TASK), "input": 1, "version": 2, "timeout_ms": 3, "force_validation": True}
    ]
    with pytest.raises(ExecutionException, match="Cannot read"):
        calls("execute", TASK, 1, client=client)
    assert calls("execute", TASK, 1, client=client, raise_on_error=False).status == "error"


def test_pauses_are_made_by_the_driver(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """A pause of a moment is really made, and counted."""
    recorder.give(429, {}, retry_after="0.01").give(200, example("execute.response.success"))
    result = calls("execute", TASK, 1, client=calls.client(retry_waits=True))
    assert result.reply.attempts == 2
    assert 0.01 <= result.reply.paused <= result.reply.elapsed
