"""The dependencies: `LoopaiDep`, `SyncLoopaiDep`, and others by alias."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cache
from typing import Annotated, Any, Callable

from fastapi import Depends
from starlette.requests import HTTPConnection

from ...client import LoopaiClient, SyncLoopaiClient
from ...exceptions import ConfigurationError
from .lifespan import STATE_KEY, LoopaiLifespan, LoopaiState


def loopai_state(connection: HTTPConnection) -> LoopaiState:
    """The running application's clients. Raises `ConfigurationError` that says why there are none and what to type."""
    state = connection.scope.get("state", {}).get(STATE_KEY)
    if state is None:
        raise ConfigurationError(_why_not(connection.scope))
    found: LoopaiState = state
    return found


def _why_not(scope: Any) -> str:
    app = scope.get("app")
    has_ours = _is_ours(getattr(getattr(app, "router", None), "lifespan_context", None))
    mounted = bool(scope.get("root_path")) and scope.get("root_path") != getattr(app, "root_path", "")
    if mounted:
        what = "its lifespan never runs, as it is mounted under another application" if has_ours else "it is mounted"
        return (
            f"no Loopai client in this application: {what}. Lifespans of mounted applications never run: give the "
            "outer one `FastAPI(lifespan=loopai_lifespan)`; mounted ones inherit its clients"
        )
    if has_ours:
        return (
            "no Loopai client: this application has the lifespan, but it did not run. In a test type "
            "`with TestClient(app) as client:` (a TestClient without `with` runs no lifespan); under httpx's "
            "ASGITransport run `async with app.router.lifespan_context(app)` around it, or override the dependency; "
            "with uvicorn do not pass `--lifespan off`"
        )
    return (
        "no Loopai client: this application has no Loopai lifespan. Type `app = FastAPI(lifespan=loopai_lifespan)`, or "
        "`FastAPI(lifespan=LoopaiLifespan(inner=your_lifespan))` to keep your own. If yours enters it by itself, it did not "
        "run: in a test type `with TestClient(app) as client:`"
    )


def _is_ours(lifespan: Any) -> bool:
    # `include_router` wraps an application's lifespan in functions that close over it.
    if isinstance(lifespan, LoopaiLifespan):
        return True
    cells = getattr(getattr(lifespan, "__wrapped__", lifespan), "__closure__", None) or ()
    return any(_is_ours(cell.cell_contents) for cell in cells)


async def get_loopai(connection: HTTPConnection) -> LoopaiClient:
    """The application's client, in HTTP and websocket routes, of mounted applications too."""
    return loopai_state(connection).client()


async def get_sync_loopai(connection: HTTPConnection) -> SyncLoopaiClient:
    """The application's synchronous client, for `def` routes, which run in threads."""
    return loopai_state(connection).sync_client()


@cache
def get_loopai_for(alias: str) -> Callable[[HTTPConnection], Awaitable[LoopaiClient]]:
    """The dependency that gives the client of `alias`; the same function each time, so that tests can override it."""

    async def get_loopai_of_alias(connection: HTTPConnection) -> LoopaiClient:
        return loopai_state(connection).client(alias)

    return get_loopai if alias == "default" else get_loopai_of_alias


@cache
def get_sync_loopai_for(alias: str) -> Callable[[HTTPConnection], Awaitable[SyncLoopaiClient]]:
    """As `get_loopai_for`, for `def` routes."""

    async def get_sync_loopai_of_alias(connection: HTTPConnection) -> SyncLoopaiClient:
        return loopai_state(connection).sync_client(alias)

    return get_sync_loopai if alias == "default" else get_sync_loopai_of_alias


LoopaiDep = Annotated[LoopaiClient, Depends(get_loopai)]
"""A route's parameter `ai: LoopaiDep` is the application's client."""

SyncLoopaiDep = Annotated[SyncLoopaiClient, Depends(get_sync_loopai)]
"""As `LoopaiDep`, in `def` routes."""
