"""Health, liveness, readiness and metrics of the server."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from ... import models
from ..._version import __version__
from .. import responses, timestamps
from ..calls import ActionCall, Site, action
from ..documentation import route
from ..metrics import CONTENT_TYPE

FAILED = ("INTERNAL_ERROR", "An unexpected error occurred")
NOT_CACHED = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"}


def _healthy(call: ActionCall, status: str = "healthy") -> dict[str, Any]:
    return {
        "status": status,
        "timestamp": timestamps.iso8601(timestamps.now()),
        "version": __version__,
        "environment": call.site.settings.environment,
    }


async def _probe(call: ActionCall) -> tuple[str | None, int]:
    """Return what is wrong with the database (`None`: nothing), and how many milliseconds the check took."""
    began = time.perf_counter()
    reason = None
    try:
        await call.work(call.site.store.probe)
    except sqlite3.Error as error:
        reason = str(error)
    return reason, round((time.perf_counter() - began) * 1000)


@action(*FAILED)
async def health(call: ActionCall) -> Response:
    """The server runs."""
    return responses.json_of(_healthy(call))


@action(*FAILED)
async def detailed_health(call: ActionCall) -> Response:
    """Health by component; 503 with the same body if one is unhealthy."""
    reason, took = await _probe(call)
    database = {
        "status": "healthy" if reason is None else "unhealthy",
        "response_time": took,
        "message": "Database connection successful" if reason is None else f"Database connection failed: {reason}",
    }
    body = {
        **_healthy(call, "healthy" if reason is None else "degraded"),
        "components": {
            "api": {"status": "healthy", "response_time": round((time.perf_counter() - call.began) * 1000)},
            "database": database,
            "redis": {"status": "healthy", "response_time": 0, "message": "Redis not configured"},
        },
    }
    return responses.json_of(body, 200 if reason is None else 503)


@action(*FAILED)
async def ready(call: ActionCall) -> Response:
    """Whether the server accepts requests; 503 if not."""
    reason, _ = await _probe(call)
    body = {"status": "ready" if reason is None else "not_ready", "database": reason is None, "redis": True}
    return responses.json_of(body, 200 if reason is None else 503)


@action(*FAILED)
async def live(_: ActionCall) -> Response:
    """The process responds."""
    return responses.json_of({"status": "alive"})


async def plain_health(_: Request) -> Response:
    """Whether the process runs."""
    return PlainTextResponse("Healthy", headers=NOT_CACHED)


async def metrics(request: Request) -> Response:
    """Counters in Prometheus' text format."""
    site: Site = request.app.state.site
    return Response(await site.work(site.metrics.text), headers={"Content-Type": CONTENT_TYPE})


async def to_documentation(_: Request) -> Response:
    """Redirect browsers to the documentation."""
    return RedirectResponse("/docs")


def add(app: FastAPI) -> None:
    """Add these endpoints."""
    place, detailed, is_ready = "/api/v1/health", models.DetailedHealthResponse, models.ReadyResponse
    route(app, "GET", place, health, "health", models.HealthResponse, name="get_health")
    route(
        app,
        "GET",
        f"{place}/detailed",
        detailed_health,
        "health",
        detailed,
        also={503: detailed},
        name="get_detailed_health",
    )
    route(app, "GET", f"{place}/ready", ready, "health", is_ready, also={503: is_ready}, name="get_ready")
    route(app, "GET", f"{place}/live", live, "health", models.LiveResponse, name="get_live")
    app.get(
        "/metrics", summary="Metrics", operation_id="get_metrics", response_class=PlainTextResponse, tags=["health"]
    )(metrics)
    app.get(
        "/health",
        summary="Health in a word",
        operation_id="get_plain_health",
        response_class=PlainTextResponse,
        tags=["health"],
    )(plain_health)
    app.add_route("/", to_documentation, methods=["GET"], include_in_schema=False)
    # The real server answers any verb here; only GET is worth documenting.
    app.add_route("/health", plain_health, methods=["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
