"""`health_router`: live, and ready with the upstream's state, which is asked rarely however often probes come."""

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
"""Seconds an upstream's answer serves for; probes come every few seconds from every node."""

PROBE_BOUND = 2.0
"""Seconds an upstream may take to say that it is ready, attempts and pauses included."""


class Live(BaseModel):
    """This process answers."""

    status: str = "alive"


class Ready(BaseModel):
    """Whether this application takes work. `upstream` is `ready`, `not_ready` or `unreachable`."""

    status: str
    upstream: str


class _Upstream:
    """The last word on the upstream, and one question at a time."""

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
        # A probe that goes away does not take the question from the others.
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
    """A router with two probes; ready answers 503 while the upstream of `alias` is not. `fresh_for` is in seconds."""
    router = APIRouter(tags=["health"])
    # By client: one router may be included in two applications, which share nothing.
    upstreams: WeakKeyDictionary[LoopaiClient, _Upstream] = WeakKeyDictionary()

    @router.head(live_path, include_in_schema=False)
    @router.get(live_path)
    async def live() -> Live:
        """This process answers."""
        return Live()

    @router.head(ready_path, include_in_schema=False)
    @router.get(ready_path, responses={503: {"model": Ready, "description": "The upstream is not ready"}})
    async def ready(response: Response, client: Annotated[LoopaiClient, Depends(get_loopai_for(alias))]) -> Ready:
        """Whether this application takes work, with the upstream's state."""
        upstream = upstreams.get(client)
        if upstream is None:
            upstream = upstreams[client] = _Upstream(fresh_for, clock)
        state = await upstream.state(client)
        response.headers["Cache-Control"] = "no-store"
        if state != "ready":
            response.status_code = 503
        return Ready(status="ready" if state == "ready" else "not_ready", upstream=state)

    return router
