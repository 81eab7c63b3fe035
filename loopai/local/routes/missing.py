"""Endpoints of the contract that this server lacks: each says so, so that callers do not suspect the address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from .. import responses
from ..errors import ApiError

_PROGRAMS = "/api/v1/validation/programs"
_HOOKS = "/api/v1/webhooks"

MISSING = (
    ("GET", f"{_PROGRAMS}/{{program_id}}/summary", "validation summaries"),
    ("GET", f"{_PROGRAMS}/{{program_id}}/recommendations", "recommendations"),
    ("POST", f"{_PROGRAMS}/{{program_id}}/improve", "improving a program"),
    ("POST", f"{_PROGRAMS}/compare", "comparing programs"),
    ("POST", f"{_PROGRAMS}/canary/start", "canaries"),
    ("POST", f"{_PROGRAMS}/canary/{{canary_id}}/progress", "canaries"),
    ("POST", f"{_PROGRAMS}/canary/{{canary_id}}/rollback", "canaries"),
    ("GET", "/api/v1/validation/tasks/{task_id}/canary", "canaries"),
    ("POST", f"{_HOOKS}/subscribe", "webhooks"),
    ("DELETE", f"{_HOOKS}/{{subscription_id}}", "webhooks"),
    ("GET", _HOOKS, "webhooks"),
    ("GET", f"{_HOOKS}/{{subscription_id}}/history", "webhooks"),
)
"""Verb, path, and the name of the missing feature."""


def _refusing(feature: str) -> Callable[[Request], Awaitable[Response]]:
    async def refuse(_: Request) -> Response:
        text = f"The embedded server does not support {feature}: use a Loopai server that does"
        return responses.refused(ApiError(501, "NOT_SUPPORTED", text))

    return refuse


def add(app: FastAPI) -> None:
    """Add these endpoints, outside the documentation."""
    for method, path, feature in MISSING:
        app.add_api_route(path, _refusing(feature), methods=[method], include_in_schema=False)
