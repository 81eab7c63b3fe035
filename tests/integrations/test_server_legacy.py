"""The embedded server as the SDKs 0.1.0 know a server: recognized by their User-Agent, or for every caller."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai import local

AGENTS = ["loopai-python/0.1.0", "loopai-typescript/0.1.0", "Loopai.Client/0.1.0"]
NOWHERE = "11111111-2222-4333-8444-555555555555"
PROGRAM = "def main(input):\n    return {'is_spam': input['some_text'] == 'spam'}"
TASK = {
    "name": "old",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"some_text": {"type": "string"}}, "required": ["some_text"]},
    "output_schema": {"type": "object"},
}


@pytest.fixture(params=[*AGENTS, "anything --legacy"])
def http(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with local.running(legacy="--legacy" in request.param) as server:
        headers = {"User-Agent": request.param.split(" ")[0]}
        with httpx.Client(base_url=server.base_url, headers=headers) as client:
            yield client


def create(http: httpx.Client) -> dict[str, Any]:
    task: dict[str, Any] = http.post("/api/v1/tasks", json=TASK).json()
    assert http.post(f"/api/v1/tasks/{task['id']}/artifacts", json={"code": PROGRAM}).status_code == 201
    return task


def test_health_is_json(http: httpx.Client) -> None:
    """With status, version and timestamp."""
    assert {"status", "version", "timestamp"} <= set(http.get("/health").json())


def test_tasks_have_camel_case_names(http: httpx.Client) -> None:
    """Their schemas stay as they were sent."""
    task = create(http)
    found = http.get(f"/api/v1/tasks/{task['id']}").json()
    assert found["inputSchema"] == TASK["input_schema"]
    assert {"accuracyTarget", "latencyTargetMs", "samplingRate", "createdAt"} <= set(found)
    assert not any("_" in name for name in found)


def test_executions_have_an_id(http: httpx.Client) -> None:
    """And an output, of which the names are the program's."""
    task = create(http)
    body = {"task_id": task["id"], "input": {"some_text": "spam"}, "version": None, "timeout_ms": None}
    result = http.post("/api/v1/tasks/execute", json=body).json()
    assert result["output"] == {"is_spam": True}
    assert {"id", "taskId", "version", "latencyMs", "sampledForValidation", "executedAt"} <= set(result)


def test_batches_have_camel_case_names(http: httpx.Client) -> None:
    """Also their items, which always have an execution's id."""
    task = create(http)
    items = [{"id": "0", "input": {"some_text": "spam"}}, {"id": "1", "input": 5}]
    reply = http.post("/api/v1/batch/execute", json={"taskId": task["id"], "items": items, "maxConcurrency": 2}).json()
    names = {
        "batchId",
        "taskId",
        "totalItems",
        "successCount",
        "failureCount",
        "startedAt",
        "completedAt",
        "avgLatencyMs",
    }
    assert names <= set(reply)
    assert [item["success"] for item in reply["results"]] == [True, False]
    assert all({"id", "executionId", "success", "latencyMs"} <= set(item) for item in reply["results"])
    assert reply["results"][0]["output"] == {"is_spam": True}


def test_refusals_have_a_message_and_errors_by_field(http: httpx.Client) -> None:
    """400 on an empty name and on an input against the schema, 404 on tasks that are not there."""
    reply = http.post("/api/v1/tasks", json={**TASK, "name": ""})
    assert (reply.status_code, list(reply.json()["errors"])) == (400, ["name"])
    task = create(http)
    reply = http.post("/api/v1/tasks/execute", json={"task_id": task["id"], "input": {}})
    assert reply.status_code == 400
    assert reply.json()["message"]
    assert list(reply.json()["errors"]) == ["input.some_text"]
    reply = http.post("/api/v1/tasks/execute", json={"task_id": "x", "input": {}})
    assert (reply.status_code, bool(reply.json()["message"])) == (400, True)
    for reply in (
        http.get(f"/api/v1/tasks/{NOWHERE}"),
        http.post("/api/v1/tasks/execute", json={"task_id": NOWHERE, "input": {}}),
    ):
        assert reply.status_code == 404
        assert "not found" in reply.json()["message"]


@pytest.mark.parametrize("agent", ["loopai-python/0.2.0", "loopai-python/0.1.01", "curl/8 loopai-python/0.1.0"])
def test_others_get_the_contract(agent: str) -> None:
    """A newer SDK, or something that only mentions an old one."""
    with local.running() as server:
        headers = {"User-Agent": agent}
        assert httpx.get(f"{server.base_url}/health", headers=headers).text == "Healthy"
        task = httpx.post(f"{server.base_url}/api/v1/tasks", json=TASK, headers=headers).json()
        assert "input_schema" in task
