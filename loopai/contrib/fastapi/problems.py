"""Loopai's exceptions as RFC 9457 problem documents, in responses and in the OpenAPI document."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Callable, Optional, Union

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.websockets import WebSocketState

from ...exceptions import LoopaiException, ValidationException
from ...problems import KINDS, MEDIA_TYPE, Problem, problem_of
from .dependencies import get_loopai
from .lifespan import routes_of

TRY_AGAIN_LATER, INTERNAL_ERROR = 1013, 1011
"""Close codes of websockets (RFC 6455 and its registry)."""

logger = logging.getLogger("loopai.fastapi")


def problem_response(problem: Problem, headers: Optional[Mapping[str, str]] = None) -> JSONResponse:
    """Return the response with this problem."""
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, problem.status, None if headers is None else dict(headers), media_type=MEDIA_TYPE)


class RefusedRequest(HTTPException):
    """A refused request. Our routers respond with a problem document; in other routes the application responds."""

    def __init__(self, status: int, title: str, detail: str, headers: Optional[dict[str, str]] = None) -> None:
        super().__init__(status, detail, headers)
        self.problem = Problem(title=title, status=status, detail=detail)


class ProblemRoute(APIRoute):
    """A route that responds to refused and invalid requests with problem documents, whatever handlers are installed."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler; see FastAPI's `APIRoute`."""
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
    """Return the OpenAPI description of a response that is a problem document."""
    return {"description": description, "model": Problem, "content": _ProblemContent()}


class _ProblemContent(dict[str, Any]):
    """Make FastAPI document the model under its own media type; it would use that of the route's other responses."""

    def setdefault(self, key: str, default: Any = None) -> Any:
        return super().setdefault(MEDIA_TYPE, default)


RETRY_AFTER = {"Retry-After": {"description": "In seconds", "schema": {"type": "integer"}}}
"""The OpenAPI description of the header."""


async def _answer(connection: Union[Request, WebSocket], error: Exception) -> Optional[JSONResponse]:
    if not isinstance(error, LoopaiException):
        raise error
    problem, headers = problem_of(error)
    if problem.status >= 500:
        # The problem document omits the cause, so log it, with the exception for error trackers. Errors contain no key.
        logger.error("%s: %s %s", connection.url.path, type(error).__name__, error, exc_info=error)
    elif isinstance(error, ValidationException):
        # The route made the rejected input: its author must know.
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
    """Respond to `LoopaiException` with problem documents, and document them on routes with a Loopai client.

    `app` is a FastAPI application, or a Starlette application, which has no OpenAPI document. Websockets are closed
    with 1013 (try again later) or 1011. Mounted applications have their own handlers: call this for each. Upstream
    errors are logged by the logger `loopai.fastapi`.
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
    # An application may have its own `Problem`.
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
            for _, status, title, _ in KINDS:
                answer = responses.setdefault(str(status), {"description": title})
                answer.setdefault("content", {}).update(content)


def _is_ours(endpoint: Any) -> bool:
    # Our routers handle what a client raises, and document what they answer themselves.
    return str(getattr(endpoint, "__module__", "")).startswith(f"{__package__}.")


def _uses_loopai(dependant: Any) -> bool:
    call = dependant.call
    named = getattr(call, "__module__", "") == get_loopai.__module__
    return named or any(_uses_loopai(inner) for inner in dependant.dependencies)
