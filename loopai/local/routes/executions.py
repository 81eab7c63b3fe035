"""Run programs on one input or a batch of rows; and batch validation, which only compares."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.responses import Response

from ... import models
from ..._core.limits import MOST_CONCURRENCY
from .. import bodies, comparison, responses, timestamps
from ..calls import ActionCall, action, failure
from ..documentation import route
from ..errors import ApiError, invalid
from ..records import Execution, milliseconds, new_id, number
from ..service import BatchRow, ExecutionFailed, InvalidInput, NoActiveProgram, Overtaken, RowResult, Seal, Single
from ..store import Transaction

FAILED = ("EXECUTION_ERROR", "An error occurred during program execution")
MISSING = frozenset({"TASK_NOT_FOUND", "ARTIFACT_NOT_FOUND"})
DEFAULT_CONCURRENCY = 10


def _executed(execution: Execution) -> Response:
    return responses.json_text(execution.wire())


@action(*FAILED)
async def execute(call: ActionCall) -> Response:
    """Run a task's active program, or a version of it, on one input.

    200 even if the program failed: check `status`. 404 for an unknown task or version, 500 `EXECUTION_ERROR` if no
    program could be made.
    """
    task_id = call.guid("task_id", "taskId")
    request = await call.body(bodies.EXECUTE)
    broken = bodies.broken_execute_rules(request)
    if broken:
        raise invalid(broken)
    if request["task_id"] != task_id:
        message = f"Task ID in route ({task_id}) does not match request body ({request['task_id']})"
        raise ApiError(400, "TASK_ID_MISMATCH", message)
    return await _execute(call, request)


@action(*FAILED)
async def execute_legacy(call: ActionCall) -> Response:
    """The same with the task in the body only, at the path that the earlier SDKs use."""
    request = await call.body(bodies.EXECUTE)
    broken = bodies.broken_execute_rules(request)
    if broken:
        raise invalid(broken)
    return await _execute(call, request)


async def _execute(call: ActionCall, request: dict[str, Any]) -> Response:
    def seal(transaction: Transaction, execution: Execution) -> None:
        call.keep(transaction, _executed(execution))

    async def run() -> Response:
        single = Single(request["input"], request["force_validation"], call.began, None if call.key is None else seal)
        task_id, version, timeout_ms = request["task_id"], request["version"], request["timeout_ms"]
        try:
            return _executed(await call.site.combiner.execute(task_id, version, timeout_ms, single))
        except (ExecutionFailed, InvalidInput, NoActiveProgram, Overtaken):
            await call.raise_if_answered()
            raise

    try:
        try:
            return await run()
        except NoActiveProgram:
            await call.site.generation.ensure(request["task_id"])
            return await run()
    except ExecutionFailed as error:
        if error.code in MISSING:
            raise ApiError(404, error.code, str(error)) from None
        raise failure(call.site.settings, *FAILED, str(error)) from None
    except InvalidInput as error:
        raise invalid(error.errors) from None


@action("BATCH_EXECUTION_ERROR", "Batch execution failed")
async def execute_batch(call: ActionCall) -> Response:
    """Run a task's program on many inputs; 200 even if all failed. Results are in the order of the inputs."""
    request = await call.body(bodies.BATCH_EXECUTE)
    concurrency = DEFAULT_CONCURRENCY if request["max_concurrency"] is None else request["max_concurrency"]
    if not 1 <= concurrency <= MOST_CONCURRENCY:
        message = f"MaxConcurrency must be between 1 and {MOST_CONCURRENCY}"
        raise ApiError(400, "INVALID_CONCURRENCY", message)
    rows = [BatchRow(item["id"], item["input"], item["force_validation"]) for item in request["items"]]
    started = timestamps.now()

    def operation(seal: Seal[list[RowResult]]) -> None:
        call.site.service.execute_batch(
            request["task_id"],
            rows,
            version=request["version"],
            timeout_ms=request["timeout_ms"],
            max_concurrency=concurrency,
            stop_on_first_error=request["stop_on_first_error"],
            stop=call.stop,
            seal=seal,
        )

    def executed(results: list[RowResult]) -> Response:
        return responses.json_text(_batch(call, request, results, started))

    try:
        try:
            return await call.commit(operation, executed, task_id=request["task_id"], pure=True)
        except NoActiveProgram:
            await call.site.generation.ensure(request["task_id"])
            return await call.commit(operation, executed, task_id=request["task_id"], pure=True)
    except ExecutionFailed as error:
        # The contract has no such failure for a whole batch: every row gets it.
        return executed([RowResult(row.id, None, str(error), 0.0, error.code) for row in rows])


def _batch(call: ActionCall, request: dict[str, Any], results: list[RowResult], started: int) -> bytes:
    succeeded = sum(1 for result in results if result.reason is None)
    latency_ms = sum(result.latency_ms for result in results)
    head = {
        "batch_id": new_id(),
        "task_id": request["task_id"],
        "version": request["version"] or 0,
        "total_items": len(results),
        "success_count": succeeded,
        "failure_count": len(results) - succeeded,
        "total_duration_ms": milliseconds(time.perf_counter() - call.began),
        "avg_latency_ms": number(round(latency_ms / len(results), 4)) if results else 0,
    }
    tail = {"started_at": timestamps.iso8601(started), "completed_at": timestamps.iso8601(timestamps.now())}
    items = b",".join(_result(result) for result in results)
    return b"".join((to_json(head)[:-1], b',"results":[', items, b"],", to_json(tail)[1:]))


def _result(result: RowResult) -> bytes:
    execution = result.execution
    head: dict[str, Any] = {"id": result.id}
    if execution is not None:
        head["execution_id"] = execution.id
    head["success"] = result.reason is None
    if execution is not None and execution.output is not None:
        outcome = b'"output":' + execution.output
    else:
        outcome = b'"error_message":' + to_json(result.reason)
        if result.code is not None:
            outcome += b',"code":' + to_json(result.code)
    tail: dict[str, Any] = {
        "latency_ms": number(result.latency_ms),
        "sampled_for_validation": execution is not None and execution.sampled,
    }
    if execution is not None and execution.confidence is not None:
        tail["confidence"] = number(execution.confidence)
    return b"".join((to_json(head)[:-1], b",", outcome, b",", to_json(tail)[1:]))


@action("BATCH_VALIDATION_ERROR", "Batch validation failed")
async def validate_batch(call: ActionCall) -> Response:
    """Compare the texts of outputs with those of expected outputs. Nothing is run or stored."""
    request = await call.body(bodies.BATCH_VALIDATE)
    return await call.parsing(lambda: _validated(call, request))


def _validated(call: ActionCall, request: dict[str, Any]) -> Response:
    valid = [given == expected for given, expected in comparison.pairs(call.content)]
    body = {
        "batch_id": new_id(),
        "task_id": request["task_id"],
        "total_items": len(valid),
        "valid_count": sum(valid),
        "invalid_count": len(valid) - sum(valid),
        "accuracy_rate": number(sum(valid) / len(valid)) if valid else 0,
        "results": [
            {
                "id": item["id"],
                "is_valid": is_valid,
                "message": "Valid" if is_valid else "Output does not match expected output",
                "confidence_score": int(is_valid),
            }
            for item, is_valid in zip(request["items"], valid)
        ],
        "total_duration_ms": milliseconds(time.perf_counter() - call.began),
    }
    return responses.json_of(body)


def add(app: FastAPI) -> None:
    """Add these endpoints."""
    refusals = {400, 415, 500}
    result, batch, validated = models.ExecutionResult, models.BatchExecuteResponse, models.BatchValidateResponse
    old, path = "/api/v1/tasks/execute", "/api/v1/tasks/{task_id}/execute"
    # The first of all routes, since it is called most; routes are tried in order.
    for_one = refusals | {404}
    route(app, "POST", path, execute, "executions", result, body=bodies.EXECUTE, refusals=for_one)
    route(app, "POST", old, execute_legacy, "executions", result, body=bodies.EXECUTE, refusals=for_one, old=True)
    run, compare = "/api/v1/batch/execute", "/api/v1/batch/validate"
    route(
        app,
        "POST",
        run,
        execute_batch,
        "batches",
        batch,
        body=bodies.BATCH_EXECUTE,
        refusals=refusals,
        name="batch_execute",
    )
    route(
        app,
        "POST",
        compare,
        validate_batch,
        "batches",
        validated,
        body=bodies.BATCH_VALIDATE,
        refusals={400, 415},
        name="batch_validate",
    )
