"""The OpenAPI document: request bodies from `bodies`, replies from the client's models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .. import models
from . import bodies
from .binding import Body
from .idempotency import LONGEST_KEY

_REFUSALS: dict[int, str] = {
    400: "The request is not valid: the contract's own error object, or problem details",
    404: "Not found",
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


_LINKS = {
    method: {"operationId": method, "parameters": {"task_id": "$response.body#/id"}, "description": text}
    for method, text in (
        ("get_task", "The task"),
        ("execute", "Run its program"),
        ("list_artifacts", "Its programs"),
        ("push_program", "Add a program"),
    )
}
_PAGED = frozenset({"/api/v1/tasks", "/api/v1/tasks/{task_id}/executions"})
_DATES = frozenset(
    {"created_at", "updated_at", "deployed_at", "executed_at", "started_at", "completed_at", "timestamp"}
)

# Members that a reply may lack; every other one is always there.
_OPTIONAL: dict[str, frozenset[str]] = {
    "Task": frozenset({"active_version", "examples", "warnings", "questions", "generation"}),
    "GenerationState": frozenset({"stage", "seconds", "reason", "version", "program_status", "confidence_score"}),
    "ExecutionResult": frozenset({"output", "error_message", "memory_usage_mb", "confidence"}),
    "ExecutionRecord": frozenset({"output", "error_message", "memory_usage_mb", "confidence"}),
    "BatchExecuteResult": frozenset({"execution_id", "output", "error_message", "code", "confidence"}),
    "ProgramArtifact": frozenset(
        {"complexity_metrics", "deployed_at", "verified", "usage", "estimate", "notes", "questions"}
    ),
    "ComplexityMetrics": frozenset({"cyclomatic_complexity", "lines_of_code", "estimated_latency_ms"}),
    "ComponentHealth": frozenset({"message"}),
    "ReadyResponse": frozenset({"error"}),
    "ErrorResponse": frozenset({"details", "errors", "execution_id"}),
    "ProblemDetails": frozenset({"detail", "instance", "errors", "type"}),
}
_ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "ExecutionResult": {"status": ("success", "error")},
    "ExecutionRecord": {"status": ("success", "error")},
    "ProgramArtifact": {
        "status": ("draft", "validated", "active", "deprecated", "failed"),
        "synthesis_strategy": ("rule", "ml", "hybrid", "dsl", "auto"),
    },
    "GenerationState": {"status": ("running", "made", "failed")},
    "HealthResponse": {"status": ("healthy",)},
    "DetailedHealthResponse": {"status": ("healthy", "degraded")},
    "ComponentHealth": {"status": ("healthy", "unhealthy")},
    "ReadyResponse": {"status": ("ready", "not_ready")},
    "LiveResponse": {"status": ("alive",)},
}


_BODIES = (
    bodies.CREATE_TASK,
    bodies.EXECUTE,
    bodies.BATCH_EXECUTE,
    bodies.BATCH_VALIDATE,
    bodies.PUSH_PROGRAM,
    bodies.ADD_EXAMPLES,
    bodies.GENERATE,
    bodies.NOTHING,
)


class Action(APIRoute):
    """A route whose endpoint reads the request itself: FastAPI only documents it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint without FastAPI's layers."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        response: Response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


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
    query: Sequence[dict[str, Any]] = (),
    name: str | None = None,
    media_type: str | None = None,
) -> None:
    """Add an endpoint and its documentation, which is not checked at run time."""
    responses: dict[int | str, dict[str, Any]] = {
        code: {"model": other, "description": "Under way" if code == 202 else "Not ready"}
        for code, other in (also or {}).items()
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
        reference = {"$ref": f"#/components/schemas/{body.name}"}
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        parameters.append(_KEY)
    if query:
        parameters.extend(query)
    if media_type is not None:
        responses[status] = {
            "description": "A line of JSON each",
            "content": {media_type: {"schema": {"type": "string"}}},
        }
    _name_headers(responses, status, method, path)
    if (method, path) == ("POST", "/api/v1/tasks"):
        responses[status]["links"] = _LINKS
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
        operation_id=name or endpoint.__name__,
    )


def _name_headers(responses: dict[int | str, dict[str, Any]], status: int, method: str, path: str) -> None:
    """Return the documentation of a reply's headers."""
    told = responses.setdefault(status, {"description": "The result"})
    headers = told.setdefault("headers", {})
    if status == 201:
        headers["Location"] = _header("The address of the result", "uri")
    if method == "POST":
        headers["Idempotent-Replayed"] = _header(
            "`true` if this is the stored reply to an earlier request with the same key"
        )
    if path in _PAGED and method == "GET":
        headers["X-Next-Cursor"] = _header("The start of the next page, if there is one")
    if 429 in responses:
        responses[429]["headers"] = {"Retry-After": {**_header("Seconds to wait"), "schema": {"type": "integer"}}}


def _header(text: str, kind: str | None = None) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string", **({"format": kind} if kind else {})}}


def document_of(app: FastAPI, build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI document: FastAPI's, with replies as this server sends them.

    The client's models accept more than this server sends: other servers omit members.
    """
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = build()
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        _narrow(schema, _OPTIONAL.get(name, frozenset()), _ENUMS.get(name, {}))
    for operation in (found for path in document["paths"].values() for found in path.values()):
        for reply in operation["responses"].values():
            if len(reply.get("content", {})) > 1:
                # FastAPI adds its own default reply.
                del reply["content"]["application/json"]
    for body in _BODIES:
        _add_body(schemas, body.name, body.schema())
    document["components"]["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
    # With or without: a server may have no key.
    document["security"] = [{"apiKey": []}, {}]
    document["servers"] = [{"url": "/", "description": "This server"}]
    app.openapi_schema = document
    return document


def _narrow(schema: dict[str, Any], optional: Collection[str], enums: Mapping[str, Sequence[str]]) -> None:
    schema.pop("additionalProperties", None)
    properties = schema.get("properties", {})
    for name, stated in list(properties.items()):
        found = dict(stated)
        kinds = [kind for kind in found.get("anyOf", []) if kind != {"type": "null"}]
        if len(kinds) == 1:
            # Missing values are left out, never null.
            found = {**{key: item for key, item in found.items() if key != "anyOf"}, **kinds[0]}
        found.pop("default", None)
        if name in _DATES:
            found["format"] = "date-time"
        if name in enums:
            # Without the clients' alternative types, which allow values from newer servers.
            found.pop("anyOf", None)
            found.update(type="string", enum=list(enums[name]))
        properties[name] = found
    schema["required"] = [name for name in properties if name not in optional]


def _add_body(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    """Add a request body, and the items of its lists, as components of their own."""
    for member in schema["properties"].values():
        items = member.get("items", {})
        if "properties" in items:
            item = name.removesuffix("Request") + "Item"
            _add_body(schemas, item, items)
            member["items"] = {"$ref": f"#/components/schemas/{item}"}
    schemas[name] = {"title": name, **schema}
