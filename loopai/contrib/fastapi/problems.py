"""Our exceptions as RFC 9457 problem documents, in answers and in the OpenAPI document."""

from __future__ import annotations

import math
from typing import Any, Optional

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from ...exceptions import (
    ConflictException,
    ConnectionException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    RateLimitException,
    TimeoutException,
    ValidationException,
)
from .dependencies import get_loopai, get_sync_loopai

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """A problem document (RFC 9457). `errors` maps fields to texts where the input was refused."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: Optional[str] = Field(default=None, description="The Loopai server's code")
    trace_id: Optional[str] = Field(default=None, description="The Loopai server's trace id, for its logs")
    errors: Optional[dict[str, list[str]]] = None


# The most particular class first. What a server said to our client is for its user where the request was at fault;
# where the server or the way to it was, it may name hosts and internals, and a text of our own stands for it.
_KINDS: tuple[tuple[type[LoopaiException], int, str, Optional[str]], ...] = (
    (NotFoundException, 404, "Not found", None),
    (ConflictException, 409, "Conflict", None),
    (ValidationException, 422, "Not valid", None),
    (RateLimitException, 429, "Too many requests", "Requests are rationed upstream: try again later."),
    (TimeoutException, 504, "Upstream timed out", "The Loopai server did not answer in time."),
    (ConnectionException, 503, "Upstream unreachable", "The Loopai server could not be reached."),
    (ExecutionException, 502, "Execution failed", "The task's program failed on this input, or could not be run."),
    (LoopaiException, 502, "Upstream failed", "The Loopai server did not do what it was asked."),
)


def problem_of(error: LoopaiException) -> tuple[Problem, dict[str, str]]:
    """The document and the headers that `error` becomes."""
    status, title, detail = next(
        (status, title, detail) for kind, status, title, detail in _KINDS if isinstance(error, kind)
    )
    headers = {}
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
    problem = Problem(
        title=title,
        status=status,
        detail=detail or error.message,
        code=error.code,
        trace_id=error.trace_id,
        errors=error.errors if isinstance(error, ValidationException) else None,
    )
    return problem, headers


async def _answer(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, LoopaiException):
        raise error
    problem, headers = problem_of(error)
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, problem.status, headers, media_type=MEDIA_TYPE)


def install_error_handlers(app: FastAPI) -> None:
    """Answer `LoopaiException` with problem documents, and document them on the routes that use a Loopai client."""
    app.add_exception_handler(LoopaiException, _answer)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        known = app.openapi_schema is not None
        schema = describe()
        if not known:
            _document(app, schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _document(app: FastAPI, schema: dict[str, Any]) -> None:
    problems = schema.setdefault("components", {}).setdefault("schemas", {})
    problems["Problem"] = Problem.model_json_schema()
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for route in app.routes:
        if not (isinstance(route, APIRoute) and route.include_in_schema and _uses_loopai(route.dependant)):
            continue
        for method in route.methods or ():
            responses = schema["paths"][route.path_format][method.lower()]["responses"]
            for _, status, title, _ in _KINDS:
                answer = responses.setdefault(str(status), {"description": title})
                answer.setdefault("content", {}).update(content)


def _uses_loopai(dependant: Any) -> bool:
    ours = {get_loopai, get_sync_loopai}
    call = dependant.call
    named = getattr(call, "__name__", "") in {"get_loopai_of_alias", "get_sync_loopai_of_alias"}
    return call in ours or named or any(_uses_loopai(inner) for inner in dependant.dependencies)
