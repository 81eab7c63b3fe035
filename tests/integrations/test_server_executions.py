"""Executions and batches on the embedded server: which program runs, what is answered, what is recorded."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

import httpx

from loopai.local.app import create_app
from loopai.local.settings import Settings

NOWHERE = "11111111-2222-4333-8444-555555555555"
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
PROGRAM = """
def main(input):
    if input["text"] == "raise":
        raise ValueError("asked to fail")
    if input["text"] == "loop":
        while True:
            pass
    return None if input["text"] == "null" else {"version": VERSION, "text": input["text"]}
"""
WORDS = {"spam": ["prize", "winner", "cash", "claim"], "ham": ["lunch", "meeting", "notes", "minutes"]}
EXAMPLES = [
    {"input": {"text": f"{word} {other} number {at}"}, "output": {"label": label}}
    for label, words in WORDS.items()
    for at, word in enumerate(words)
    for other in words
]


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(data=tmp_path))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://loopai.test", timeout=60) as client:
            yield client


async def create(http: httpx.AsyncClient, versions: int = 1, **changes: Any) -> str:
    body = {"name": "t", "description": "d", "input_schema": SCHEMA, "output_schema": {}, "sampling_rate": 0}
    task_id: str = (await http.post("/api/v1/tasks", json={**body, **changes})).json()["id"]
    for version in range(1, versions + 1):
        code = PROGRAM.replace("VERSION", str(version))
        assert (await http.post(f"/api/v1/tasks/{task_id}/artifacts", json={"code": code})).status_code == 201
    return task_id


async def run(http: httpx.AsyncClient, task_id: str, text: Any = "hello", **members: Any) -> httpx.Response:
    body = {"task_id": task_id, "input": {"text": text}, **members}
    return await http.post(f"/api/v1/tasks/{task_id}/execute", json=body)


def records(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "loopai.db")) as database:
        return database.execute(
            "SELECT id, program_id, version, CAST(input AS TEXT), CAST(output AS TEXT), error_message, sampled"
            " FROM executions ORDER BY seq"
        ).fetchall()


async def test_an_execution_answers_with_its_output(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """The contract's members in their order, and a record with input, output and status."""
    task_id = await create(http)
    reply = await run(http, task_id)
    result = reply.json()
    assert reply.status_code == 200
    assert reply.headers["api-supported-versions"] == "1.0"
    assert list(result) == [
        "execution_id",
        "task_id",
        "program_id",
        "version",
        "status",
        "output",
        "latency_ms",
        "sampled_for_validation",
        "executed_at",
    ]
    assert (result["status"], result["output"]) == ("success", {"version": 1, "text": "hello"})
    assert result["latency_ms"] > 0
    assert result["sampled_for_validation"] is False
    [artifact] = (await http.get(f"/api/v1/tasks/{task_id}/artifacts")).json()
    assert result["program_id"] == artifact["id"]
    output = '{"version":1,"text":"hello"}'
    assert records(tmp_path) == [
        (result["execution_id"], artifact["id"], 1, '{"text":"hello"}', output, None, 0),
    ]


async def test_an_output_of_null_is_written(http: httpx.AsyncClient) -> None:
    """Null is an output, not the lack of one."""
    result = (await run(http, await create(http), "null")).json()
    assert result["status"] == "success"
    assert result["output"] is None


async def test_a_program_that_fails_is_200_with_its_message(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """`status` is `error`, there is no output, and the failure is on record."""
    task_id = await create(http)
    reply = await run(http, task_id, "raise")
    result = reply.json()
    assert reply.status_code == 200
    assert result["status"] == "error"
    assert "asked to fail" in result["error_message"]
    assert "output" not in result
    assert records(tmp_path)[0][4:6] == (None, result["error_message"])


async def test_a_program_that_loops_ends_with_its_time(http: httpx.AsyncClient) -> None:
    """`timeout_ms` bounds the program, and the next call is right."""
    task_id = await create(http)
    result = (await run(http, task_id, "loop", timeout_ms=100)).json()
    assert (result["status"], result["error_message"]) == ("error", "Execution timeout after 100ms")
    assert (await run(http, task_id)).json()["status"] == "success"


async def test_the_highest_active_version_runs_and_any_other_on_demand(http: httpx.AsyncClient) -> None:
    """Drafts run too when they are asked for, and a new version is seen at once."""
    task_id = await create(http, versions=2)
    draft = {"code": PROGRAM.replace("VERSION", "3"), "activate": False}
    await http.post(f"/api/v1/tasks/{task_id}/artifacts", json=draft)
    versions = [(await run(http, task_id, version=version)).json()["version"] for version in (None, 1, 2, 3)]
    assert versions == [2, 1, 2, 3]


async def test_an_unknown_task_or_version_is_404(http: httpx.AsyncClient) -> None:
    """As the published server declares, and does not do."""
    task_id = await create(http)
    for reply, code, reason in (
        (await run(http, NOWHERE), "TASK_NOT_FOUND", f"Task with ID {NOWHERE} not found"),
        (
            await run(http, task_id, version=9),
            "ARTIFACT_NOT_FOUND",
            f"Program artifact version 9 for task {task_id} not found",
        ),
    ):
        body = reply.json()
        assert reply.status_code == 404
        assert (body["code"], body["message"]) == (code, reason)


async def test_the_rules_of_execute_come_before_the_task(http: httpx.AsyncClient) -> None:
    """Broken rules, then ids that differ, are 400."""
    reply = await run(http, NOWHERE, version=0, timeout_ms=0)
    assert [detail["property_name"] for detail in reply.json()["details"]] == ["Version", "TimeoutMs"]
    other = await http.post(f"/api/v1/tasks/{NOWHERE}/execute", json={"task_id": NOWHERE[::-1], "input": 1})
    assert (other.status_code, "$.task_id" in other.json()["errors"]) == (400, True)
    task = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
    mismatch = (await http.post(f"/api/v1/tasks/{NOWHERE}/execute", json={"task_id": task, "input": 1})).json()
    assert mismatch["code"] == "TASK_ID_MISMATCH"
    assert mismatch["message"] == f"Task ID in route ({NOWHERE}) does not match request body ({task})"


async def test_an_input_that_does_not_fit_the_schema_is_refused(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """400 naming the path; nothing runs and nothing is recorded."""
    reply = await run(http, await create(http), 5)
    assert reply.status_code == 400
    assert reply.json()["code"] == "VALIDATION_ERROR"
    assert reply.json()["details"] == [
        {"property_name": "input.text", "error_message": '5 is not of type "string"'},
    ]
    assert records(tmp_path) == []


async def test_checking_inputs_can_be_switched_off(tmp_path: Path) -> None:
    """Then the program sees what was sent, in executions and batches."""
    app = create_app(Settings(data=tmp_path, check_inputs=False))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://loopai.test") as http:
            task_id = await create(http)
            assert (await run(http, task_id, 5)).json()["output"] == {"version": 1, "text": 5}
            items = [{"id": "a", "input": {"text": 5}}]
            batch = await http.post("/api/v1/batch/execute", json={"task_id": task_id, "items": items})
            assert batch.json()["success_count"] == 1


@pytest.mark.parametrize(("rate", "forced", "sampled"), [(0, False, False), (1, False, True), (0, True, True)])
async def test_sampling_follows_the_rate_or_is_forced(
    http: httpx.AsyncClient, rate: float, forced: bool, sampled: bool
) -> None:
    """A rate of 0 never samples, 1 always does, and a call can ask for it."""
    task_id = await create(http, sampling_rate=rate)
    result = (await run(http, task_id, force_validation=forced)).json()
    assert result["sampled_for_validation"] is sampled


async def test_the_earlier_sdks_path_and_spelling_work(http: httpx.AsyncClient) -> None:
    """`POST /tasks/execute` takes the task from the body; camelCase is read wherever snake_case is."""
    task_id = await create(http)
    body = {"taskId": task_id, "input": {"text": "a"}, "version": None, "timeoutMs": None, "forceValidation": True}
    result = (await http.post("/api/v1/tasks/execute", json=body)).json()
    assert (result["output"]["text"], result["sampled_for_validation"]) == ("a", True)
    batch = {
        "taskId": task_id,
        "items": [{"id": "0", "input": {"text": "a"}, "forceValidation": False}],
        "maxConcurrency": 10,
        "stopOnFirstError": False,
        "timeoutMs": None,
    }
    assert (await http.post("/api/v1/batch/execute", json=batch)).json()["success_count"] == 1


@pytest.mark.slow
async def test_the_first_execution_makes_the_program(http: httpx.AsyncClient) -> None:
    """Learnt from the task's own examples, and made once however many ask at the same moment."""
    task_id = await create(http, versions=0, examples=EXAMPLES)
    replies = await asyncio.gather(*(run(http, task_id, "claim cash prize") for _ in range(5)))
    assert [reply.json()["output"] for reply in replies] == [{"label": "spam"}] * 5
    [artifact] = (await http.get(f"/api/v1/tasks/{task_id}/artifacts")).json()
    assert (artifact["status"], artifact["deployment_percentage"], artifact["version"]) == ("active", 100, 1)
    assert (artifact["synthesis_strategy"], artifact["llm_provider"]) == ("ml", "local")
    assert artifact["confidence_score"] > 0.5
    assert artifact["generation_time_sec"] > 0
    assert (await http.get(f"/api/v1/tasks/{task_id}")).json()["active_version"] == 1


async def test_examples_that_teach_nothing_are_a_failed_execution(http: httpx.AsyncClient) -> None:
    """500 with the remedy; in a batch every row says so; nothing is stored, and a pushed program then runs."""
    task_id = await create(http, versions=0)
    reply = await run(http, task_id)
    assert (reply.status_code, reply.json()["code"]) == (500, "EXECUTION_ERROR")
    reason = reply.json()["details"]
    assert reason.startswith("Program generation failed: ")
    items = [{"id": "a", "input": {"text": "x"}}]
    batch = (await http.post("/api/v1/batch/execute", json={"task_id": task_id, "items": items})).json()
    assert batch["results"] == [
        {
            "id": "a",
            "success": False,
            "error_message": reason,
            "code": "EXECUTION_ERROR",
            "latency_ms": 0,
            "sampled_for_validation": False,
        }
    ]
    assert (await http.get(f"/api/v1/tasks/{task_id}/artifacts")).json() == []
    await http.post(f"/api/v1/tasks/{task_id}/artifacts", json={"code": "def main(input):\n    return 1"})
    assert (await run(http, task_id)).json()["output"] == 1


async def batch(http: httpx.AsyncClient, task_id: str, texts: list[Any], **members: Any) -> httpx.Response:
    items = [{"id": str(at), "input": {"text": text}} for at, text in enumerate(texts)]
    return await http.post("/api/v1/batch/execute", json={"task_id": task_id, "items": items, **members})


async def test_a_batch_answers_row_by_row_in_order(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """Rows that failed, that did not fit and that succeeded stand as sent, with records of what ran."""
    task_id = await create(http)
    reply = await batch(http, task_id, ["a", "raise", 5, "null", "loop"], timeout_ms=100)
    body = reply.json()
    assert reply.status_code == 200
    assert list(body) == [
        "batch_id",
        "task_id",
        "version",
        "total_items",
        "success_count",
        "failure_count",
        "total_duration_ms",
        "avg_latency_ms",
        "results",
        "started_at",
        "completed_at",
    ]
    assert (body["version"], body["total_items"], body["success_count"], body["failure_count"]) == (0, 5, 2, 3)
    good, failed, unfit, null, late = body["results"]
    assert list(good) == ["id", "execution_id", "success", "output", "latency_ms", "sampled_for_validation"]
    assert good["output"] == {"version": 1, "text": "a"}
    assert list(failed) == ["id", "execution_id", "success", "error_message", "latency_ms", "sampled_for_validation"]
    assert (failed["success"], "asked to fail" in failed["error_message"]) == (False, True)
    assert ("execution_id" in unfit, unfit["error_message"]) == (False, 'input.text: 5 is not of type "string"')
    assert (null["success"], null["output"]) == (True, None)
    assert late["error_message"] == "Execution timeout after 100ms"
    ran = [result["execution_id"] for result in body["results"] if "execution_id" in result]
    assert [record[0] for record in records(tmp_path)] == ran


async def test_a_batch_of_nothing_is_answered(http: httpx.AsyncClient) -> None:
    """No rows, no average."""
    body = (await batch(http, await create(http), [])).json()
    assert (body["total_items"], body["avg_latency_ms"], body["results"]) == (0, 0, [])


async def test_an_unknown_task_or_version_fails_every_row(http: httpx.AsyncClient) -> None:
    """The batch itself is 200, and its version is the one that was asked for."""
    task_id = await create(http)
    for body, reason in (
        ((await batch(http, NOWHERE, ["a"])).json(), f"Task with ID {NOWHERE} not found"),
        (
            (await batch(http, task_id, ["a"], version=9)).json(),
            f"Program artifact version 9 for task {task_id} not found",
        ),
    ):
        assert [result["error_message"] for result in body["results"]] == [reason]
        assert "execution_id" not in body["results"][0]
    assert body["version"] == 9


async def test_stop_on_first_error_skips_what_comes_after(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """Rows run in groups of `max_concurrency`; after a failed one the rest says it was skipped."""
    task_id = await create(http)
    texts = ["a", "b", "raise", "c", "d", "e"]
    body = (await batch(http, task_id, texts, max_concurrency=2, stop_on_first_error=True)).json()
    assert [result["success"] for result in body["results"]] == [True, True, False, True, False, False]
    skipped = body["results"][4:]
    assert {result["error_message"] for result in skipped} == {"Skipped: stop_on_first_error"}
    assert len(records(tmp_path)) == 4


@pytest.mark.parametrize(("limit", "status"), [(0, 400), (101, 400), (1, 200), (100, 200), (None, 200)])
async def test_concurrency_is_bounded(http: httpx.AsyncClient, limit: Any, status: int) -> None:
    """1 to 100, null for the default."""
    reply = await batch(http, await create(http), ["a"], max_concurrency=limit)
    assert reply.status_code == status
    if status == 400:
        assert reply.json()["code"] == "INVALID_CONCURRENCY"
        assert reply.json()["message"] == "MaxConcurrency must be between 1 and 100"


@pytest.mark.parametrize(
    ("timeout_ms", "message"),
    [(0, "Execution timeout after 0ms"), (-2, "Execution error: timeout_ms must be at least -1, not -2"), (-1, None)],
)
async def test_time_outs_of_a_batch_are_not_range_checked(
    http: httpx.AsyncClient, timeout_ms: int, message: str | None
) -> None:
    """They fail the rows instead; -1 is the longest there is."""
    [result] = (await batch(http, await create(http), ["a"], timeout_ms=timeout_ms)).json()["results"]
    assert result.get("error_message") == message


async def test_outputs_are_validated_by_comparison(http: httpx.AsyncClient) -> None:
    """Equal texts are valid; nothing is looked up."""
    items = [
        {"id": "a", "input": 1, "output": {"label": "spam"}, "expected_output": {"label": "spam"}},
        {"id": "b", "input": 1, "output": 1, "expected_output": 2},
    ]
    reply = await http.post("/api/v1/batch/validate", json={"task_id": NOWHERE, "items": items})
    body = reply.json()
    assert (body["total_items"], body["valid_count"], body["invalid_count"], body["accuracy_rate"]) == (2, 1, 1, 0.5)
    assert body["results"] == [
        {"id": "a", "is_valid": True, "message": "Valid", "confidence_score": 1},
        {
            "id": "b",
            "is_valid": False,
            "message": "Output does not match expected output",
            "confidence_score": 0,
        },
    ]
    empty = (await http.post("/api/v1/batch/validate", json={"task_id": NOWHERE, "items": []})).json()
    assert empty["accuracy_rate"] == 0


async def test_executions_that_arrive_together_keep_apart(tmp_path: Path) -> None:
    """Each of 60 gets its own result, its own error or its own refusal, and is recorded once."""
    app = create_app(Settings(data=tmp_path))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://loopai.test") as http:
            task = {"name": "t", "description": "d", "input_schema": {"type": "integer"}, "output_schema": {}}
            task_id = (await http.post("/api/v1/tasks", json=task)).json()["id"]
            code = (
                "def main(input):\n    if input % 3 == 0:\n        raise ValueError(str(input))\n    return input * 2"
            )
            await http.post(f"/api/v1/tasks/{task_id}/artifacts", json={"code": code})

            async def run(value: object) -> httpx.Response:
                return await http.post(f"/api/v1/tasks/{task_id}/execute", json={"task_id": task_id, "input": value})

            for _ in range(3):
                await run(1)  # from the first few on it is known how long the program takes
            values = [str(at) if at % 5 == 0 else at for at in range(60)]
            replies = await asyncio.gather(*map(run, values))
            for value, reply in zip(values, replies):
                if isinstance(value, str):
                    assert reply.status_code == 400
                elif value % 3 == 0:
                    assert reply.json()["error_message"] == str(value)
                else:
                    assert reply.json()["output"] == value * 2
            recorded = (await http.get(f"/api/v1/tasks/{task_id}/executions?limit=1000")).json()
            ran = [value for value in values if isinstance(value, int)]
            assert sorted(found["input"] for found in recorded) == sorted([1, 1, 1, *ran])
            assert len({found["execution_id"] for found in recorded}) == len(recorded)


async def test_an_input_that_loops_does_not_hold_up_the_others(http: httpx.AsyncClient) -> None:
    """Quick programs run in one group at a time; another begins beside a group that takes long."""
    body = {"name": "loop", "description": "d", "input_schema": {}, "output_schema": {}}
    task_id = (await http.post("/api/v1/tasks", json=body)).json()["id"]
    code = "def main(input):\n    while input < 0:\n        pass\n    return input\n"
    await http.post(f"/api/v1/tasks/{task_id}/artifacts", json={"code": code})

    async def run(value: int) -> Any:
        request = {"task_id": task_id, "input": value, "timeout_ms": 3000}
        return (await http.post(f"/api/v1/tasks/{task_id}/execute", json=request)).json()

    for value in range(3):
        await run(value)  # from the first few on it is known how long the program takes
    looping = asyncio.create_task(run(-1))
    for _ in range(100):
        await asyncio.sleep(0)  # until it runs, and no other joins its group
    done = asyncio.gather(*map(run, range(20)))
    await asyncio.wait({looping, done}, return_when=asyncio.FIRST_COMPLETED)
    assert not looping.done()
    assert [reply["output"] for reply in await done] == list(range(20))
    assert (await looping)["status"] == "error"


async def test_an_output_that_nests_too_deep_is_its_own_rows_error(http: httpx.AsyncClient) -> None:
    """Alone, and in a batch beside others; what is recorded can be read again."""
    code = "def main(n):\n    out = n\n    for _ in range(n):\n        out = [out]\n    return out\n"
    body = {"name": "deep", "description": "d", "input_schema": {}, "output_schema": {}, "sampling_rate": 0}
    task_id = (await http.post("/api/v1/tasks", json=body)).json()["id"]
    await http.post(f"/api/v1/tasks/{task_id}/artifacts", json={"code": code})
    alone = await http.post(f"/api/v1/tasks/{task_id}/execute", json={"task_id": task_id, "input": 300})
    assert (alone.status_code, alone.json()["status"]) == (200, "error")
    items = [{"id": str(depth), "input": depth} for depth in (1, 300, 5000, 2)]
    batch = await http.post("/api/v1/batch/execute", json={"task_id": task_id, "items": items})
    assert batch.status_code == 200
    assert [item["success"] for item in batch.json()["results"]] == [True, False, False, True]
    assert "deep" in batch.json()["results"][1]["error_message"]
    listed = await http.get(f"/api/v1/tasks/{task_id}/executions")
    assert listed.status_code == 200
