"""List, export and delete recorded executions. These are additions to the contract."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from ... import models
from .. import responses, timestamps
from ..calls import LARGEST_PAGE, ActionCall, action
from ..documentation import route
from ..errors import ApiError

DEFAULT_PAGE = 100
EXPORTED_AT_ONCE = 500
LONGEST_DAYS = 36_500
LAST = 2**63 - 1
PAGE = (
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}},
    {"name": "before", "in": "query", "schema": {"type": "integer", "minimum": 0}},
    {"name": "status", "in": "query", "schema": {"type": "string", "enum": ["success", "error"]}},
)
AGE = (
    {
        "name": "older_than_days",
        "in": "query",
        "required": True,
        "schema": {"type": "integer", "minimum": 0, "maximum": LONGEST_DAYS},
    },
)
FAILED = ("EXECUTION_RETRIEVAL_ERROR", "An error occurred while retrieving executions")


def _status(call: ActionCall) -> str | None:
    status = call.request.query_params.get("status")
    if status not in {None, "success", "error"}:
        raise ApiError(400, "INVALID_STATUS", "status must be success or error")
    return status


@action(*FAILED)
async def list_executions(call: ActionCall) -> Response:
    """List a task's recorded executions with their inputs, newest first, a page at a time.

    The header X-Next-Cursor, if present, is the next page's `before`.
    """
    task_id, status = call.guid("task_id", "taskId"), _status(call)
    limit = call.query("limit", 1, LARGEST_PAGE, DEFAULT_PAGE) or DEFAULT_PAGE
    before = call.query("before", 0, LAST, None)
    found = await call.work(lambda: call.site.store.executions(task_id, limit + 1, before, status))
    page = found[:limit]
    headers = {"X-Next-Cursor": str(page[-1][0])} if len(found) > limit else {}
    content = b"[" + b",".join(execution.record() for _, execution in page) + b"]"
    return responses.json_text(content, 200, headers)


@action(*FAILED)
async def export_executions(call: ActionCall) -> Response:
    """Export all recorded executions of a task, newest first, one line of JSON each (NDJSON)."""
    task_id, status = call.guid("task_id", "taskId"), _status(call)

    async def lines() -> AsyncIterator[bytes]:
        before: int | None = None
        while True:
            read = functools.partial(call.site.store.executions, task_id, EXPORTED_AT_ONCE, before, status)
            page = await call.work(read)
            if page:
                yield b"".join(execution.record() + b"\n" for _, execution in page)
                before = page[-1][0]
            if len(page) < EXPORTED_AT_ONCE:
                return

    return StreamingResponse(lines(), headers=responses.VERSIONS, media_type="application/x-ndjson")


@action("EXECUTION_DELETION_ERROR", "An error occurred while deleting executions")
async def delete_executions(call: ActionCall) -> Response:
    """Delete recorded executions of all tasks that are older than `older_than_days`; the file shrinks."""
    days = call.query("older_than_days", 0, LONGEST_DAYS, None)
    if days is None:
        raise ApiError(400, "MISSING_AGE", "older_than_days is required: a number of days, 0 for all executions")
    deleted = await call.work(lambda: call.site.store.delete_executions(timestamps.days_ago(days)))
    await call.work(call.site.store.shrink)
    return responses.json_of({"deleted": deleted})


def add(app: FastAPI) -> None:
    """Add these endpoints."""
    place = "/api/v1/tasks/{task_id}/executions"
    route(app, "GET", place, list_executions, "executions", list[models.ExecutionRecord], refusals={400}, query=PAGE)
    path, lines = f"{place}/export", "application/x-ndjson"
    route(app, "GET", path, export_executions, "executions", None, refusals={400}, query=PAGE[2:], media_type=lines)
    route(
        app,
        "DELETE",
        "/api/v1/executions",
        delete_executions,
        "executions",
        models.DeletedExecutions,
        refusals={400},
        query=AGE,
    )
