"""Every reply that is no success, and every success that is none, becomes the right exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from loopai import exceptions
from loopai._core import operations
from loopai._core.replies import failure, secrets_of, start_of
from loopai._core.wire import Reply
from loopai.models import python_name

EXAMPLES = Path(__file__).parents[1] / "contract" / "examples"
TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"

STATUSES = {
    "error.artifact_not_found": 404,
    "error.artifact_retrieval_error.list": 500,
    "error.artifact_retrieval_error.version": 500,
    "error.batch_execution_error": 500,
    "error.batch_validation_error": 500,
    "error.execution_error.development": 500,
    "error.execution_error.production": 500,
    "error.global.forbidden": 403,
    "error.global.internal_error.development": 500,
    "error.global.internal_error.production": 500,
    "error.global.invalid_operation": 409,
    "error.global.not_found": 404,
    "error.problem_details.unsupported_media_type": 415,
    "error.program_not_found": 404,
    "error.rate_limit.intended": 429,
    "error.subscription_not_found": 404,
    "error.task_already_exists": 409,
    "error.task_creation_error": 500,
    "error.task_not_found": 404,
    "error.task_retrieval_error": 500,
    "legacy.error.execution": 500,
    "legacy.error.not_found": 404,
}
"""Of those that are not 400 (the contract's table of codes)."""

KINDS = {
    400: exceptions.ValidationException,
    403: exceptions.AuthenticationException,
    404: exceptions.NotFoundException,
    409: exceptions.ConflictException,
    415: exceptions.ValidationException,
    429: exceptions.RateLimitException,
    500: exceptions.ServerException,
}
EXECUTION = {
    "error.batch_execution_error",
    "error.execution_error.development",
    "error.execution_error.production",
    "legacy.error.execution",
}
BROKEN_RULES = {
    "name": [
        "Task name is required",
        "Task name must contain only alphanumeric characters, underscores, hyphens, and periods",
    ],
    "latency_target_ms": ["Latency target must be between 1 and 60000 milliseconds"],
}
"""Of `error.fluent_validation`."""


def fail(reply: Reply, *, limited: bool = False, secrets: tuple[str, ...] = ()) -> Any:
    return failure(reply, "POST http://x/y", limited=limited, sent=0, now=0.0, secrets=secrets)


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*error.*.json")))
def test_every_example_of_an_error(name: str) -> None:
    """Class, code, trace id, status, body and errors of each shape the server has."""
    content = (EXAMPLES / f"{name}.json").read_bytes()
    body = json.loads(content)
    status = STATUSES.get(name, 400)
    error = fail(Reply(status, {}, content))
    assert type(error) is (exceptions.ExecutionException if name in EXECUTION else KINDS[status])
    assert error.status_code == status
    assert error.response == body
    assert error.code == body.get("code")
    assert error.trace_id == body.get("trace_id", body.get("traceId"))
    assert error.request == "POST http://x/y"
    assert error.message.startswith(body.get("message", body.get("title")))
    for fact in (str(status), error.code, error.trace_id, "POST http://x/y"):
        assert fact is None or fact in str(error)
    if status == 400:
        given = body.get("errors") or body.get("details")
        assert bool(error.errors) == (bool(given) and not isinstance(given, str))
        assert "request" not in error.errors
        for field, texts in error.errors.items():
            assert field == field.strip("$.")
            assert all(isinstance(text, str) and text in str(error) for text in texts)


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("error.fluent_validation", BROKEN_RULES),
        ("error.problem_details.route_guid", ["task_id"]),
        ("error.problem_details.query_int", ["limit"]),
        ("error.problem_details.missing_property", ["input"]),
        ("error.problem_details.empty_body", ["body"]),
    ],
)
def test_errors_by_python_names(name: str, errors: Any) -> None:
    """C# names and JSON paths become the names that Python uses."""
    found = fail(Reply(400, {}, (EXAMPLES / f"{name}.json").read_bytes())).errors
    assert (found if isinstance(errors, dict) else list(found)) == errors


def test_development_gives_the_reason() -> None:
    """A text in `details` is part of the message; the earlier server's execution id is read."""
    body = json.loads((EXAMPLES / "error.execution_error.development.json").read_bytes())
    error = fail(Reply(500, {}, json.dumps(body).encode()))
    assert error.message == f"{body['message']}: {body['details']}"
    assert fail(Reply(500, {}, json.dumps({**body, "details": body["message"]}).encode())).message == body["message"]
    legacy = fail(Reply(500, {}, (EXAMPLES / "legacy.error.execution.json").read_bytes()))
    assert legacy.execution_id == legacy.response["executionId"]


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        (
            {"$.items[0]": ["was missing required properties including: 'id', 'input'."], "request": ["r"]},
            ["items[0].id", "items[0].input"],
        ),
        ({"$.items[1].input.bodyText": ["x"], "request": ["r"]}, ["items[1].input.bodyText"]),
        ({"Items[0].Id": ["x"]}, ["items[0].id"]),
        ({"request": ["r"]}, ["request"]),
        ({"": ["x"], "request": ["r"]}, ["body"]),
        ({"$": ["x"]}, ["body"]),
        ({"name": "a text alone"}, ["name"]),
        ({"name": [1, None, {"a": 1}]}, ["name"]),
        ([], []),
        ("no", []),
        (None, []),
    ],
)
def test_shapes_of_errors(errors: Any, found: list[str]) -> None:
    """Whatever is in `errors`, it is texts by field, or nothing."""
    error = fail(Reply(400, {}, json.dumps({"title": "Bad", "errors": errors}).encode()))
    assert list(error.errors) == found
    assert all(isinstance(text, str) for texts in error.errors.values() for text in texts)


@pytest.mark.parametrize("details", [[1, "x", None], [{}], [{"property_name": None}], {"a": 1}, 5, [[]]])
def test_strange_details_are_not_fatal(details: Any) -> None:
    """What is no list of rules leaves no more than an unnamed one."""
    error = fail(Reply(400, {}, json.dumps({"code": 5, "message": ["x"], "details": details}).encode()))
    assert isinstance(error, exceptions.ValidationException)
    assert error.code is None


@pytest.mark.parametrize(
    ("server_name", "name"),
    [
        ("LatencyTargetMs", "latency_target_ms"),
        ("taskId", "task_id"),
        ("PValue", "p_value"),
        ("P50LatencyMs", "p50_latency_ms"),
        ("LLMProvider", "llm_provider"),
        ("Items[0].ForceValidation", "items[0].force_validation"),
        ("$.items[0].id", "items[0].id"),
        ("$[0].id", "[0].id"),
        ("$", ""),
        ("", ""),
        ("name", "name"),
        ("Input.bodyText", "input.bodyText"),
        ("Items[2].Input.bodyText", "items[2].input.bodyText"),
        ("input[0].bodyText", "input[0].bodyText"),
        ("InputSchema", "input_schema"),
    ],
)
def test_python_names(server_name: str, name: str) -> None:
    """C# names turn; what the caller named keeps its name."""
    assert python_name(server_name) == name


BODIES: dict[str, bytes] = {
    "html": b"<html><body>502 Bad Gateway</body></html>",
    "empty": b"",
    "truncated": b'{"execution_id": "c2d3e4f5-0617',
    "wrong types": b'{"task_id": 5, "status": [], "id": {}, "name": 1, "results": 3}',
    "list": b"[1, 2]",
    "number": b"17",
    "null": b"null",
    "text": b'"Healthy or not"',
    "not utf-8": b'{"message": "\xff\xfe"}',
    "binary": bytes(range(256)),
    "deep": b"[" * 5000 + b"]" * 5000,
    "deep object": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "endless number": b'{"message": ' + b"9" * 5000 + b"}",
    "nan": b'{"latency_ms": NaN}',
    "surrogate": b'{"message": "\\ud800"}',
    "utf-16": '{"message": "x"}'.encode("utf-16"),
    "bom": b'\xef\xbb\xbf{"message": "x"}',
    "long": b"x" * 100_000,
}
OPERATIONS = [
    operations.execute(TASK, 1, None, None, False, True),
    operations.get_task(TASK),
    operations.list_artifacts(TASK),
    operations.batch_execute(operations.batch_of(TASK, [1], 10)),
    operations.get_ready(),
    operations.get_plain_health(),
    operations.execute_group(TASK, [b"1", b"2"], None, None, False),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.name for operation in OPERATIONS])
@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("body", BODIES)
def test_a_success_that_is_none(play: Callable[..., Any], operation: Any, status: int, body: str) -> None:
    """The error has the status and the start of the body, and says what was expected."""
    content = BODIES[body]
    call = play(operation, [Reply(status, {}, content)])
    error = call.error
    assert type(error) is exceptions.ServerException
    assert len(call.requests) == 1
    assert error.message.startswith("the reply is not what a Loopai server sends: ")
    assert error.status_code == status
    assert error.response == start_of(content)
    assert len(error.response) <= 501
    assert ("its body is empty" in error.message) == (content == b"")
    assert error.request is not None


@pytest.mark.parametrize("status", [400, 401, 404, 405, 418, 429, 500, 502, 503])
@pytest.mark.parametrize("body", BODIES)
def test_an_error_that_is_not_the_servers(play: Callable[..., Any], status: int, body: str) -> None:
    """A proxy's words do for a message where there are none of the server."""
    error = play(OPERATIONS[0], [Reply(status, {}, BODIES[body])], max_retries=0).error
    assert isinstance(error, exceptions.LoopaiException)
    assert error.status_code == status
    assert error.message
    assert len(error.message) < 600
    if body in {"html", "long"}:
        assert str(error.response).startswith(BODIES[body][:30].decode())


def test_a_404_of_nobody_asks_for_the_address() -> None:
    """The likeliest mistake is named."""
    assert "is base_url right?" in fail(Reply(404, {}, b"")).message
    assert fail(Reply(405, {}, b"")).message == "the server does not have this operation"
    assert fail(Reply(501, {}, b"")).message == "the server does not have this operation"
    assert fail(Reply(500, {}, b"")).message == "the server answered 500 with an empty body"
    assert type(fail(Reply(408, {}, b""))) is exceptions.TimeoutException
    assert type(fail(Reply(418, {}, b"{}"))) is exceptions.LoopaiException
    assert fail(Reply(500, {}, b'{"detail": "from the edge"}')).message == "from the edge"


def test_a_batch_that_is_not_the_one_sent(play: Callable[..., Any], example: Callable[[str], bytes]) -> None:
    """Results of a coalesced request that belong to nobody are refused."""
    group = operations.execute_group(TASK, [b"1", b"2"], None, None, False)
    error = play(group, [Reply(200, {}, example("batch.execute.response.success"))]).error
    assert "2 items were sent, and these came back: a" in error.message


def test_secrets_are_longest_first_and_escaped() -> None:
    """A key within a key is found as the whole; JSON's spelling of it too."""
    headers = {"authorization": "Bearer abc", "x-api-key": 'q"t', "accept": "json", "cookie": ""}
    assert secrets_of(headers, "abc", None) == ["Bearer abc", 'q\\"t', "abc", 'q"t']
    assert start_of(b'key q\\"t of Bearer abc', secrets_of(headers)) == "key *** of ***"
    assert start_of(b"x" * 498 + b"sk-12345", ["sk-12345"]) == "x" * 498 + "**…"
