"""Tasks and programs on the embedded server, as its HTTP interface has them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

import httpx

from loopai.local.app import create_app
from loopai.local.settings import Settings

NEW = {
    "name": "spam-filter",
    "description": "Label a message",
    "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "output_schema": {"type": "object"},
    "examples": [{"input": {"text": "claim your prize"}, "output": {"label": "spam"}}],
    "accuracy_target": 0.75,
    "latency_target_ms": 50,
    "sampling_rate": 0.25,
}
NOWHERE = "11111111-2222-4333-8444-555555555555"
ECHO = "def main(input):\n    return input\n"


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(data=tmp_path))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://loopai.test:81") as client:
            yield client


async def create(http: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    reply = await http.post("/api/v1/tasks", json={**NEW, **changes})
    assert reply.status_code == 201, reply.text
    task: dict[str, Any] = reply.json()
    return task


async def test_a_created_task_answers_with_what_was_sent(http: httpx.AsyncClient) -> None:
    """201 with the task, its members in the contract's order, and where it is found."""
    reply = await http.post("/api/v1/tasks", json=NEW)
    task = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == f"http://loopai.test:81/api/v1/Tasks/{task['id']}"
    assert reply.headers["api-supported-versions"] == "1.0"
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert list(task) == ["id", *NEW, "total_versions", "created_at", "updated_at", "warnings", "generation"]
    assert {name: task[name] for name in NEW} == NEW
    assert task["total_versions"] == 0
    assert task["created_at"] == task["updated_at"]
    assert task["created_at"].endswith("Z")


async def test_a_task_with_what_is_needed_takes_the_defaults(http: httpx.AsyncClient) -> None:
    """Schemas may be any JSON value, null included."""
    body = {"name": "a", "description": "b", "input_schema": None, "output_schema": "any"}
    task = (await http.post("/api/v1/tasks", json=body)).json()
    assert (task["input_schema"], task["output_schema"], task["examples"]) == (None, "any", [])
    assert (task["accuracy_target"], task["latency_target_ms"], task["sampling_rate"]) == (0.9, 10, 0.1)


async def test_the_longest_names_and_descriptions_are_stored(http: httpx.AsyncClient) -> None:
    """What passes the rules is kept whole."""
    task = await create(http, name="n" * 200, description="d" * 5000)
    assert (await http.get(f"/api/v1/tasks/by-name/{'n' * 200}")).json() == task


async def test_a_name_that_is_taken_is_a_conflict(http: httpx.AsyncClient) -> None:
    """409, also for two at the same moment."""
    replies = await asyncio.gather(*(http.post("/api/v1/tasks", json=NEW) for _ in range(5)))
    assert sorted(reply.status_code for reply in replies) == [201, 409, 409, 409, 409]
    refused = next(reply.json() for reply in replies if reply.status_code == 409)
    assert refused["code"] == "TASK_ALREADY_EXISTS"
    assert refused["message"] == "Task with name 'spam-filter' already exists"
    assert list(refused) == ["code", "message", "trace_id", "timestamp"]


async def test_broken_rules_are_told_together(http: httpx.AsyncClient) -> None:
    """400 with every rule, named as the real server's properties."""
    reply = await http.post("/api/v1/tasks", json={**NEW, "name": "", "latency_target_ms": 60001})
    body = reply.json()
    assert reply.status_code == 400
    assert (body["code"], body["message"]) == ("VALIDATION_ERROR", "Request validation failed")
    assert [detail["property_name"] for detail in body["details"]] == ["Name", "Name", "LatencyTargetMs"]


async def test_tasks_are_found_by_id_and_name_and_listed(http: httpx.AsyncClient) -> None:
    """The oldest is first; an id may have any form that .NET reads."""
    first, second = await create(http), await create(http, name="second")
    bare = first["id"].replace("-", "").upper()
    for path in (first["id"], f"{{{first['id']}}}", f"({first['id']})", bare, "by-name/spam-filter"):
        assert (await http.get(f"/api/v1/tasks/{path}")).json() == first
    assert (await http.get("/api/v1/tasks")).json() == [
        {key: task[key] for key in task if key not in {"examples", "warnings", "generation"}}
        for task in (first, second)
    ]


async def test_what_is_not_there_is_404_with_the_contracts_codes(http: httpx.AsyncClient) -> None:
    """Task, name and artifact have codes and messages of their own; artifacts of an unknown task are none."""
    task = await create(http)
    for path, code, message in (
        (NOWHERE, "TASK_NOT_FOUND", f"Task with ID {NOWHERE} not found"),
        ("by-name/none", "TASK_NOT_FOUND", "Task with name 'none' not found"),
        (
            f"{task['id']}/artifacts/9",
            "ARTIFACT_NOT_FOUND",
            f"Artifact version 9 for task {task['id']} not found",
        ),
    ):
        reply = await http.get(f"/api/v1/tasks/{path}")
        assert (reply.status_code, reply.json()["code"], reply.json()["message"]) == (404, code, message)
    none = await http.get(f"/api/v1/tasks/{NOWHERE}/artifacts")
    assert (none.status_code, none.json()) == (200, [])


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/api/v1/tasks/not-a-guid", "taskId", "not-a-guid"),
        ("/api/v1/tasks/execute", "taskId", "execute"),
        (f"/api/v1/tasks/{{{NOWHERE}", "taskId", f"{{{NOWHERE}"),
        (f"/api/v1/tasks/{NOWHERE}/artifacts/one", "version", "one"),
        (f"/api/v1/tasks/{NOWHERE}/artifacts/2147483648", "version", "2147483648"),
    ],
)
async def test_path_values_of_the_wrong_type_are_problems(
    http: httpx.AsyncClient, path: str, name: str, value: str
) -> None:
    """400 problem details under the parameter's name, going on with the caller's trace, without the version header."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    reply = await http.get(path, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    body = reply.json()
    assert reply.status_code == 400
    assert list(body) == ["type", "title", "status", "errors", "traceId"]
    assert body["errors"] == {name: [f"The value '{value}' is not valid."]}
    assert body["traceId"].startswith(f"00-{trace}-")
    assert "api-supported-versions" not in reply.headers


async def test_a_pushed_program_becomes_the_active_version(http: httpx.AsyncClient) -> None:
    """201 with the artifact; the task's counts follow at once; older versions stay as they are."""
    task = await create(http)
    place = f"/api/v1/tasks/{task['id']}/artifacts"
    reply = await http.post(place, json={"code": ECHO})
    first = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == f"http://loopai.test:81/api/v1/Tasks/{task['id']}/artifacts/1"
    assert (first["version"], first["status"], first["deployment_percentage"]) == (1, "active", 100)
    assert (first["language"], first["code"]) == ("python", ECHO)
    assert first["created_at"] == first["deployed_at"]
    draft = (await http.post(place, json={"code": ECHO, "language": "python", "activate": False})).json()
    assert (draft["version"], draft["status"], draft["deployment_percentage"]) == (2, "draft", 0)
    assert "deployed_at" not in draft
    state = (await http.get(f"/api/v1/tasks/{task['id']}")).json()
    assert (state["active_version"], state["total_versions"]) == (1, 2)
    third = (await http.post(place, json={"code": ECHO})).json()
    state = (await http.get(f"/api/v1/tasks/{task['id']}")).json()
    assert (state["active_version"], state["total_versions"]) == (3, 3)
    assert (await http.get(place)).json() == [first, draft, third]
    assert (await http.get(f"{place}/2")).json() == draft


@pytest.mark.parametrize(
    ("program", "member"),
    [
        ({"code": "def main(input) return"}, "Code"),
        ({"code": ""}, "Code"),
        ({"code": "answer = 42"}, "Code"),
        ({"code": "main = 42"}, "Code"),
        ({"code": "raise ValueError('at load')"}, "Code"),
        ({"code": ECHO, "language": "cobol"}, "Language"),
    ],
)
async def test_what_does_not_load_is_no_program(http: httpx.AsyncClient, program: Any, member: str) -> None:
    """400 under the member at fault, with the reason; no version is made."""
    task = await create(http)
    reply = await http.post(f"/api/v1/tasks/{task['id']}/artifacts", json=program)
    assert reply.status_code == 400
    assert reply.json()["code"] == "VALIDATION_ERROR"
    [detail] = reply.json()["details"]
    assert detail["property_name"] == member
    assert detail["error_message"]
    assert (await http.get(f"/api/v1/tasks/{task['id']}/artifacts")).json() == []


async def test_a_program_needs_a_task(http: httpx.AsyncClient) -> None:
    """404 for an unknown one."""
    reply = await http.post(f"/api/v1/tasks/{NOWHERE}/artifacts", json={"code": ECHO})
    assert (reply.status_code, reply.json()["code"]) == (404, "TASK_NOT_FOUND")


async def test_texts_come_back_as_they_were_sent(http: httpx.AsyncClient) -> None:
    """Emoji, control characters, HTML and numbers of any length survive storing."""
    values = ["😀 \u0000 </script> ß", 12345678901234567890123, 1e-7, -0.5, True, None, {"": []}]
    task = await create(http, description="😀 <b>&'\"", examples=values)
    read = (await http.get(f"/api/v1/tasks/{task['id']}")).json()
    assert (read["description"], read["examples"]) == ("😀 <b>&'\"", values)
