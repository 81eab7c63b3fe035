"""`health_router`: liveness, and readiness with the upstream's state, which is cached between probes."""

# ruff: noqa: FA100  # see below
# No `from __future__ import annotations`: FastAPI cannot look up what a router's functions close over.
import asyncio
import time
from typing import Annotated, Callable, Optional
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from ...client import LoopaiClient
from ...exceptions import LoopaiException
from .dependencies import get_loopai_for

FRESH_FOR = 5.0
"""Seconds that an upstream's reply is cached; probes arrive every few seconds from every node."""

PROBE_BOUND = 2.0
"""Time limit for the upstream's readiness check, retries included, in seconds."""


class Live(BaseModel):
    """Whether this process answers."""

    status: str = "alive"


class Ready(BaseModel):
    """Whether this application accepts work. `upstream` is `ready`, `not_ready` or `unreachable`."""

    status: str
    upstream: str


class _Upstream:
    """The latest state of the upstream. Sends one request at a time."""

    def __init__(self, fresh_for: float, clock: Callable[[], float]) -> None:
        self._fresh_for = fresh_for
        self._clock = clock
        self._known: Optional[str] = None
        self._asked = 0.0
        self._asking: Optional[asyncio.Task[str]] = None

    async def state(self, client: LoopaiClient) -> str:
        if self._known is not None and self._clock() - self._asked < self._fresh_for:
            return self._known
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(self._ask(client))
        # A probe that disconnects does not cancel the request that others wait for.
        return await asyncio.shield(self._asking)

    async def _ask(self, client: LoopaiClient) -> str:
        try:
            answer = await client.with_options(deadline=PROBE_BOUND, max_retries=0).get_ready()
            self._known = "ready" if answer.ready else "not_ready"
        except LoopaiException:
            self._known = "unreachable"
        self._asked = self._clock()
        return self._known


def health_router(
    *,
    alias: str = "default",
    live_path: str = "/health/live",
    ready_path: str = "/health/ready",
    fresh_for: float = FRESH_FOR,
    clock: Callable[[], float] = time.monotonic,
) -> APIRouter:
    """Return a router with two probes. The one at `ready_path` responds 503 while the upstream of `alias` is not ready.

    `fresh_for` is how many seconds its state is cached.
    """
    router = APIRouter(tags=["health"])
    # By client: one router may be included in two applications, which share nothing.
    upstreams: WeakKeyDictionary[LoopaiClient, _Upstream] = WeakKeyDictionary()

    @router.head(live_path, include_in_schema=False)
    @router.get(live_path)
    async def live() -> Live:
        """Whether this process answers."""
        return Live()

    @router.head(ready_path, include_in_schema=False)
    @router.get(ready_path, responses={503: {"model": Ready, "description": "The upstream is not ready"}})
    async def ready(response: Response, client: Annotated[LoopaiClient, Depends(get_loopai_for(alias))]) -> Ready:
        """Return whether this application accepts work, with the upstream's state."""
        upstream = upstreams.get(client)
        if upstream is None:
            upstream = upstreams[client] = _Upstream(fresh_for, clock)
        state = await upstream.state(client)
        response.headers["Cache-Control"] = "no-store"
        if state != "ready":
            response.status_code = 503
        return Ready(status="ready" if state == "ready" else "not_ready", upstream=state)

    return router
