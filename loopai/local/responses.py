"""HTTP replies as the contract defines them: JSON in UTF-8, and a version header on the replies of actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from .errors import ApiError, BindingProblem

JSON = "application/json; charset=utf-8"
VERSIONS = {"api-supported-versions": "1.0"}


def json_text(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The response of an action, from JSON text."""
    return Response(content, status, {**VERSIONS, **(headers or {})}, JSON)


def json_of(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The response of an action."""
    return json_text(to_json(body), status, headers)


def refused(error: ApiError, *, by_action: bool = True) -> Response:
    """The contract's own error object."""
    return Response(to_json(error.wire()), error.status, {**(VERSIONS if by_action else {}), **error.headers}, JSON)


def unbound(problem: BindingProblem, traceparent: str | None) -> Response:
    """Problem details of model binding, which have no version header."""
    return Response(to_json(problem.wire(traceparent)), problem.status, media_type=JSON)
