"""What the OpenAPI document says of an endpoint: bodies from `bodies`, replies from the client's models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from .. import models
from .binding import Body
from .idempotency import LONGEST_KEY

_REFUSALS: dict[int, str] = {
    400: "The request is not valid: the contract's own error object, or problem details",
    404: "There is none",
    409: "The name is taken",
    415: "The body is not JSON",
    500: "It could not be done; `details` says why",
}
ALWAYS = {
    401: "The API key is missing or wrong (only where the server has one)",
    413: "The body is too large",
    422: "The Idempotency-Key was used for another request",
    429: "Too many requests (only where the server has a limit)",
}

_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request repeated under its key is answered as the first time, for a day",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
}
_PATH: dict[str, dict[str, Any]] = {
    "task_id": {"type": "string", "format": "uuid"},
    "version": {"type": "integer", "format": "int32", "minimum": 1},
    "name": {"type": "string", "pattern": r"^[a-zA-Z0-9_\-.]+$"},
}


class Action(APIRoute):
    """A route whose endpoint reads the request itself: FastAPI documents it and does not take part in each call."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint as it is."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def route(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[[Request], Awaitable[Response]],
    tag: str,
    model: Any,
    status: int = 200,
    *,
    body: Body | None = None,
    refusals: Collection[int] = (),
    also: Mapping[int, Any] | None = None,
    old: bool = False,
) -> None:
    """Add an endpoint and document it. Nothing of the documentation is checked at run time."""
    responses: dict[int | str, dict[str, Any]] = {
        code: {"model": other, "description": "Not ready"} for code, other in (also or {}).items()
    }
    for code in refusals:
        kind: Any = models.ErrorResponse | models.ProblemDetails if code == 400 else models.ErrorResponse
        responses[code] = {"model": models.ProblemDetails if code == 415 else kind, "description": _REFUSALS[code]}
    for code, text in ALWAYS.items():
        if code in {401, 429} or body is not None:
            responses[code] = {"model": models.ErrorResponse, "description": text}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in _PATH.items()
        if f"{{{name}}}" in path
    ]
    extra: dict[str, Any] = {"parameters": parameters}
    if body is not None:
        schema = {"title": body.name, **body.schema()}
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        parameters.append(_KEY)
    text = (endpoint.__doc__ or "").strip()
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        response_model=model,
        status_code=status,
        responses=responses,
        tags=[tag],
        summary=text.split("\n")[0].rstrip("."),
        description=text,
        deprecated=old or None,
        openapi_extra=extra,
    )
