"""Executing one input or many, on every client and transport."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from loopai import (
    BatchExecuteItem,
    BatchExecuteRequest,
    ExecutionException,
    ExecutionRecord,
    NotFoundException,
    ValidationException,
)

from .conftest import Calls


async def test_an_execution_says_what_ran(calls: Calls, task: Any) -> None:
    """Output, ids, version and time of one run, and the reply it came with."""
    result = await calls.execute(task.id, {"text": "claim your prize"})
    assert (result.status, result.output, result.error_message) == ("success", {"label": "spam"}, None)
    assert (result.task_id, result.version) == (task.id, 1)
    assert result.id == result.execution_id is not None
    assert result.program_id == (await calls.get_artifact(task.id, 1)).id
    assert result.latency_ms > 0
    assert result.sampled_for_validation is False
    assert result.executed_at.utcoffset() is not None
    assert (result.reply.status_code, result.reply.attempts) == (200, 1)
    assert result.reply.headers["content-type"].startswith("application/json")
    assert result.reply.elapsed > 0


async def test_force_validation_marks_the_execution(calls: Calls, task: Any) -> None:
    """A forced execution is sampled whatever the rate."""
    assert (await calls.execute(task.id, {"text": "x"}, force_validation=True)).sampled_for_validation is True


async def test_an_output_may_be_null(calls: Calls, task: Any) -> None:
    """JSON null is an output like any other, and stays in the dump."""
    result = await calls.execute(task.id, {"text": "null"})
    assert result.output is None
    assert result.model_dump(mode="json")["output"] is None
    assert "output" in result.model_fields_set


async def test_a_failed_program_raises_with_its_result(calls: Calls, task: Any) -> None:
    """HTTP said 200; the client raises, or returns the result where asked to."""
    with pytest.raises(ExecutionException, match="asked to fail") as caught:
        await calls.execute(task.id, {"text": "raise"})
    assert caught.value.status_code == 200
    assert caught.value.result.status == "error"
    assert caught.value.execution_id == str(caught.value.result.execution_id)
    result = await calls.execute(task.id, {"text": "raise"}, raise_on_error=False)
    assert result.status == "error"
    assert "output" not in result.model_dump(mode="json")


async def test_a_program_that_loops_is_timed_out(calls: Calls, task: Any) -> None:
    """`timeout_ms` bounds the program, the text is the contract's, and the next call is right."""
    result = await calls.execute(task.id, {"text": "loop"}, timeout_ms=50, raise_on_error=False)
    assert (result.status, result.error_message) == ("error", "Execution timeout after 50ms")
    assert (await calls.execute(task.id, {"text": "lunch"})).output == {"label": "ham"}


@pytest.mark.parametrize(
    ("options", "field", "text"),
    [
        ({"version": 0}, "version", "Version must be greater than 0"),
        ({"timeout_ms": 0}, "timeout_ms", "Timeout must be between 1 and 60000 milliseconds"),
        ({"timeout_ms": 60001}, "timeout_ms", "Timeout must be between 1 and 60000 milliseconds"),
    ],
)
async def test_limits_are_named(calls: Calls, task: Any, options: dict[str, int], field: str, text: str) -> None:
    """A value out of range is refused by its field."""
    with pytest.raises(ValidationException) as caught:
        await calls.execute(task.id, {"text": "x"}, **options)
    assert caught.value.errors == {field: [text]}


@pytest.mark.addition("checked inputs")
async def test_an_input_against_the_schema_is_refused_by_path(calls: Calls, task: Any) -> None:
    """The embedded server checks inputs, which the real one does not."""
    with pytest.raises(ValidationException) as caught:
        await calls.execute(task.id, {"text": 5})
    assert caught.value.code == "VALIDATION_ERROR"
    assert list(caught.value.errors) == ["input.text"]


@pytest.mark.parametrize("known", [True, False])
async def test_an_unknown_task_or_version_is_not_found(calls: Calls, task: Any, known: bool) -> None:
    """The embedded server says so; where a published one says EXECUTION_ERROR, the client looks it up."""
    with pytest.raises(NotFoundException, match="not found") as caught:
        await calls.execute(task.id if known else uuid.uuid4(), {"text": "x"}, version=7 if known else None)
    assert caught.value.status_code == 404
    assert caught.value.code == ("ARTIFACT_NOT_FOUND" if known else "TASK_NOT_FOUND")


async def test_a_batch_keeps_the_order_and_counts(calls: Calls, task: Any) -> None:
    """One result an input, numbered in order; a failed item is a result, not an exception."""
    texts = ["prize", "raise", "lunch", "null"] * 5
    batch = await calls.batch_execute(task.id, [{"text": text} for text in texts], max_concurrency=3)
    assert [result.id for result in batch.results] == [str(number) for number in range(20)]
    assert (batch.total_items, batch.success_count, batch.failure_count, batch.version) == (20, 15, 5, 0)
    outputs = {"prize": {"label": "spam"}, "lunch": {"label": "ham"}, "raise": None, "null": None}
    assert [result.output for result in batch.results] == [outputs[text] for text in texts]
    assert all("asked to fail" in result.error_message for result in batch.failures())
    assert all(result.execution_id is not None for result in batch.results)
    assert batch.completed_at >= batch.started_at


async def test_an_empty_batch_is_a_batch(calls: Calls, task: Any) -> None:
    """No items, no results, no error."""
    batch = await calls.batch_execute(task.id, [])
    assert (batch.total_items, batch.avg_latency_ms, batch.results) == (0, 0, [])


async def test_an_advanced_batch_takes_requests_and_parts(calls: Calls, task: Any) -> None:
    """Items as models or dicts, as one request or by its parts, with ids of one's own."""
    items: list[Any] = [
        BatchExecuteItem(id="mail-1", input={"text": "prize"}, force_validation=True),
        {"id": "mail-2", "input": {"text": "lunch"}},
    ]
    by_parts = await calls.batch_execute_advanced(task_id=task.id, items=items, version=1, timeout_ms=1000)
    request = BatchExecuteRequest(task_id=task.id, items=[items[0]], max_concurrency=1)
    by_request = await calls.batch_execute_advanced(request)
    assert [result.id for result in by_parts.results] == ["mail-1", "mail-2"]
    assert [result.sampled_for_validation for result in by_parts.results] == [True, False]
    assert by_parts.version == 1
    assert by_request.results[0].output == {"label": "spam"}


async def test_items_that_never_ran_have_no_execution(calls: Calls, task: Any) -> None:
    """An unknown version fails each item by itself."""
    batch = await calls.batch_execute_advanced(task_id=task.id, items=[{"id": "a", "input": {"text": "x"}}], version=9)
    assert (batch.results[0].success, batch.results[0].execution_id) == (False, None)
    assert "not found" in batch.results[0].error_message


@pytest.mark.addition("skipping after an error")
async def test_a_batch_stops_on_the_first_error(calls: Calls, task: Any) -> None:
    """`stop_on_first_error` leaves the rest unrun; every item still has its result."""
    items = [{"id": str(number), "input": {"text": "raise" if number == 0 else "lunch"}} for number in range(50)]
    batch = await calls.batch_execute_advanced(
        task_id=task.id, items=items, max_concurrency=1, stop_on_first_error=True
    )
    assert len(batch.results) == 50
    assert batch.results[0].error_message is not None
    assert batch.results[-1].success is False


async def test_batch_validate_compares(calls: Calls, task: Any) -> None:
    """Outputs beside expected outputs, counted."""
    items = [
        {"id": "a", "input": {}, "output": {"label": "spam"}, "expected_output": {"label": "spam"}},
        {"id": "b", "input": {}, "output": {"label": "spam"}, "expected_output": {"label": "ham"}},
    ]
    answer = await calls.batch_validate(task.id, items)
    assert (answer.total_items, answer.valid_count, answer.invalid_count, answer.accuracy_rate) == (2, 1, 1, 0.5)
    assert [result.is_valid for result in answer.results] == [True, False]
    assert [result.message for result in answer.results] == ["Valid", "Output does not match expected output"]


@pytest.mark.addition("pushing programs")
@pytest.mark.parametrize("value", [1, 1.5, "text", True, None, [1, {"a": None}], {"deep": {"er": []}}])
async def test_any_json_value_goes_through_unchanged(calls: Calls, name: str, value: Any) -> None:
    """Inputs and outputs are any JSON value, unicode included."""
    task = await calls.create_task(name, "echo", {}, {})
    await calls.push_program(task.id, "def main(input):\n    return {'echo': input, 'text': 'naïve 🎈'}\n")
    result = await calls.execute(task.id, value)
    assert result.output == {"echo": value, "text": "naïve 🎈"}


SURE = """
def main_with_confidence(input):
    return input["text"], input["sure"]

def main(input):
    return main_with_confidence(input)[0]
"""


@pytest.mark.addition("pushing programs")
async def test_a_program_says_how_certain_it_is(calls: Calls) -> None:
    """On the result of an execution and of each item of a batch; nothing where the program does not say."""
    task = await calls.create_task(f"sure-{uuid.uuid4().hex[:12]}", "echo", {}, {})
    await calls.push_program(task.id, SURE)
    assert (await calls.execute(task.id, {"text": "a", "sure": 0.75})).confidence == 0.75
    assert (await calls.execute(task.id, {"text": "a", "sure": None})).confidence is None
    batch = await calls.batch_execute(task.id, [{"text": "a", "sure": share} for share in (0.5, None, 1)])
    assert [item.confidence for item in batch.results] == [0.5, None, 1.0]


@pytest.mark.addition("records of executions")
async def test_recorded_executions_are_listed_exported_and_deleted(calls: Calls, task: Any) -> None:
    """Newest first with their inputs, by status, a page at a time; the export has all, and age deletes."""
    for text in ("one", "two", "raise"):
        await calls.execute(task.id, {"text": text}, raise_on_error=False)
    found = await calls.list_executions(task.id, 2)
    assert [record.input["text"] for record in found] == ["raise", "two"]
    assert [record.status for record in found] == ["error", "success"]
    before = found.reply.headers["x-next-cursor"]
    rest = await calls.list_executions(task.id, 2, before)
    assert [(record.input["text"], record.output) for record in rest] == [("one", {"label": "ham"})]
    assert "x-next-cursor" not in rest.reply.headers
    assert [record.input["text"] for record in await calls.list_executions(task.id, status="error")] == ["raise"]
    exported = await calls.export_executions(task.id)
    assert [ExecutionRecord.model_validate_json(line).input["text"] for line in exported.splitlines()] == [
        "raise", "two", "one",
    ]  # fmt: skip
    assert len((await calls.export_executions(task.id, "success")).splitlines()) == 2
    assert (await calls.delete_executions(36_500)).deleted == 0
    with pytest.raises(ValidationException):
        await calls.list_executions(task.id, 0)
    with pytest.raises(ValidationException):
        await calls.delete_executions(-1)
