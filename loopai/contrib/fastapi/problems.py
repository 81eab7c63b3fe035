"""Our exceptions as RFC 9457 problem documents, in answers and in the OpenAPI document."""

from __future__ import annotations

import logging
import math
from collections.abc import Coroutine, Mapping
from typing import Any, Callable, Optional, Union

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.websockets import WebSocketState

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
from .dependencies import get_loopai
from .lifespan import routes_of

MEDIA_TYPE = "application/problem+json"

RATIONED_FOR = 60
"""Seconds to wait where a server rations without saying for how long: its limiter counts by the minute."""

TRY_AGAIN_LATER, INTERNAL_ERROR = 1013, 1011
"""Codes that a websocket is closed with (RFC 6455 and its registry)."""

logger = logging.getLogger("loopai.fastapi")


class Problem(BaseModel):
    """A problem document (RFC 9457). `errors` maps fields to texts where the input was refused."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: Optional[str] = Field(default=None, description="The Loopai server's code")
    trace_id: Optional[str] = Field(default=None, description="The Loopai server's trace id, for its logs")
    errors: Optional[dict[str, list[str]]] = None


def problem_response(problem: Problem, headers: Optional[Mapping[str, str]] = None) -> JSONResponse:
    """The answer that says it."""
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, problem.status, None if headers is None else dict(headers), media_type=MEDIA_TYPE)


class RefusedRequest(HTTPException):
    """A request that is refused: a problem document from our routers; in another's route what its application makes."""

    def __init__(self, status: int, title: str, detail: str, headers: Optional[dict[str, str]] = None) -> None:
        super().__init__(status, detail, headers)
        self.problem = Problem(title=title, status=status, detail=detail)


class ProblemRoute(APIRoute):
    """A route that answers refusals, and what is not valid, with problem documents, whatever handlers there are."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler; see FastAPI's `APIRoute`."""
        handle = super().get_route_handler()

        async def handle_refusals(request: Request) -> Response:
            try:
                return await handle(request)
            except RefusedRequest as error:
                return problem_response(error.problem, error.headers)
            except RequestValidationError as error:
                return problem_response(_not_valid(error))

        return handle_refusals


def _not_valid(error: RequestValidationError) -> Problem:
    errors: dict[str, list[str]] = {}
    for each in error.errors():
        errors.setdefault(".".join(str(part) for part in each["loc"]), []).append(each["msg"])
    detail = "; ".join(f"{place}: {text}" for place, texts in errors.items() for text in texts)
    return Problem(title="Not valid", status=422, detail=detail, errors=errors)


def documented_problem(description: str) -> dict[str, Any]:
    """What the OpenAPI document says of an answer that is a problem document."""
    schema = jsonable_encoder(Problem.model_json_schema(), exclude_none=True)
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


RETRY_AFTER = {"Retry-After": {"description": "In seconds", "schema": {"type": "integer"}}}
"""What the OpenAPI document says of the header."""


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
    if retry_after is None and status == 429:
        retry_after = RATIONED_FOR
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


async def _answer(connection: Union[Request, WebSocket], error: Exception) -> Optional[JSONResponse]:
    if not isinstance(error, LoopaiException):
        raise error
    problem, headers = problem_of(error)
    if problem.status >= 500:
        # The document does not say it, so the log has to, with the exception for error trackers. Errors hold no key.
        logger.error("%s: %s %s", connection.url.path, type(error).__name__, error, exc_info=error)
    elif isinstance(error, ValidationException):
        # The route made the input that was refused: its author has to know.
        logger.warning("%s: %s %s", connection.url.path, type(error).__name__, error, exc_info=error)
    if isinstance(connection, WebSocket):
        await _end(connection, problem)
        return None
    return problem_response(problem, headers)


async def _end(websocket: WebSocket, problem: Problem) -> None:
    ended = WebSocketState.DISCONNECTED
    if ended not in {websocket.client_state, websocket.application_state}:
        code = TRY_AGAIN_LATER if problem.status in {429, 503} else INTERNAL_ERROR
        await websocket.close(code, problem.title)


def install_error_handlers(app: Starlette) -> None:
    """Answer `LoopaiException` with problem documents, and document them on the routes that use a Loopai client.

    `app` is a FastAPI application, or one of Starlette, which has no document. A websocket is closed with 1013 (try
    again later) or 1011. Mounted applications have handlers of their own: install these on each. What was wrong
    upstream is logged under `loopai.fastapi`.
    """
    app.add_exception_handler(LoopaiException, _answer)  # type: ignore[arg-type]  # told as (Request, …) -> Response
    if not isinstance(app, FastAPI):
        return
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        known = app.openapi_schema is not None
        schema = describe()
        if not known:
            _document(app, schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _document(app: FastAPI, schema: dict[str, Any]) -> None:
    models = schema.setdefault("components", {}).setdefault("schemas", {})
    ours = jsonable_encoder(Problem.model_json_schema(), exclude_none=True)  # as FastAPI has it
    # An application may have a `Problem` of its own.
    name = "Problem" if models.get("Problem", ours) == ours else "LoopaiProblem"
    content = {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    for route in routes_of(app):
        dependant = getattr(route, "dependant", None)
        if dependant is None or _is_ours(dependant.call) or not _uses_loopai(dependant):
            continue
        models.setdefault(name, ours)
        operations = schema.get("paths", {}).get(route.path_format, {})  # without those that are left out of it
        for method in route.methods or ():
            responses = operations.get(method.lower(), {}).get("responses", {})
            for _, status, title, _ in _KINDS:
                answer = responses.setdefault(str(status), {"description": title})
                answer.setdefault("content", {}).update(content)


def _is_ours(endpoint: Any) -> bool:
    # Our routers handle what a client raises, and document what they answer themselves.
    return str(getattr(endpoint, "__module__", "")).startswith(f"{__package__}.")


def _uses_loopai(dependant: Any) -> bool:
    call = dependant.call
    named = getattr(call, "__module__", "") == get_loopai.__module__
    return named or any(_uses_loopai(inner) for inner in dependant.dependencies)
