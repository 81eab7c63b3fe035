"""The dependencies: `LoopaiDep`, `SyncLoopaiDep`, and others by alias."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from functools import cache
from typing import Annotated, Any, Callable, Optional

from fastapi import Depends
from starlette.requests import HTTPConnection

from ...client import LoopaiClient, SyncLoopaiClient
from ...exceptions import ConfigurationError
from ...testing import FakeLoopai
from .lifespan import STATE_KEY, LoopaiLifespan, LoopaiState, overridden_in


def loopai_state(connection: HTTPConnection) -> LoopaiState:
    """The running application's clients. Raises `ConfigurationError` that says why there are none and what to type."""
    scope = connection.scope
    # The server's copy of the lifespan's state, which mounted applications get too.
    state = scope["state"].get(STATE_KEY) if "state" in scope else None
    if state is None:
        raise ConfigurationError(_why_not(scope))
    found: LoopaiState = state
    return found


def _why_not(scope: Any) -> str:
    router = getattr(scope.get("app"), "router", None)
    # The first router that a request meets stays in its scope; each mounted application overwrites `app` only.
    outer = scope.get("router", router)
    if _is_ours(getattr(outer, "lifespan_context", None)):
        return (
            "no Loopai client: the application has the Loopai lifespan, but it did not run. In a test type "
            "`with TestClient(app) as client:` (a TestClient without `with` runs no lifespan); with httpx type "
            "`async with running(app) as served:` and `ASGITransport(served)`, where `running` is from "
            "loopai.contrib.fastapi.testing; or override the dependency with `override_loopai(app, fake)`. With "
            "uvicorn do not pass `--lifespan off`. A lifespan of your own that enters it must yield its state: "
            "`async with loopai_lifespan(app) as state: yield state`"
        )
    if outer is not router:
        has_ours = _is_ours(getattr(router, "lifespan_context", None))
        what = "it has a Loopai lifespan, but is mounted" if has_ours else "it is mounted"
        return (
            f"no Loopai client in this application: {what} under one that has none, and lifespans of mounted "
            "applications never run. Give the outer one `FastAPI(lifespan=loopai_lifespan)`: what is mounted "
            "inherits its clients"
        )
    return (
        "no Loopai client: this application has no Loopai lifespan. Type `app = FastAPI(lifespan=loopai_lifespan)`, or "
        "`FastAPI(lifespan=LoopaiLifespan(inner=your_lifespan))` to keep your own"
    )


def _is_ours(lifespan: Any) -> bool:
    # `include_router` wraps an application's lifespan, once for each router, in functions that close over it; a
    # lifespan of the user's may enter ours, which it has as a global.
    waiting, seen = [lifespan], set()
    while waiting:
        each = inspect.unwrap(waiting.pop())
        if isinstance(each, LoopaiLifespan):
            return True
        if inspect.isfunction(each) and each not in seen:
            seen.add(each)
            names = inspect.getclosurevars(each)
            waiting += [*names.nonlocals.values(), *(it for it in names.globals.values() if not inspect.isfunction(it))]
    return False


def _client(connection: HTTPConnection, alias: str) -> LoopaiClient:
    fake = _override(connection, alias)
    return loopai_state(connection).client(alias) if fake is None else fake.async_client()


def _sync_client(connection: HTTPConnection, alias: str) -> SyncLoopaiClient:
    fake = _override(connection, alias)
    return loopai_state(connection).sync_client(alias) if fake is None else fake.client()


def _override(connection: HTTPConnection, alias: str) -> Optional[FakeLoopai]:
    # FastAPI's own overrides do not reach middleware, which calls these functions itself.
    app = connection.scope.get("app")
    return None if app is None else overridden_in(app).get(alias)


async def get_loopai(connection: HTTPConnection) -> LoopaiClient:
    """The application's client, in HTTP and websocket routes, of mounted applications too."""
    return _client(connection, "default")


async def get_sync_loopai(connection: HTTPConnection) -> SyncLoopaiClient:
    """The application's synchronous client, for `def` routes, which run in threads."""
    return _sync_client(connection, "default")


@cache
def get_loopai_for(alias: str) -> Callable[[HTTPConnection], Awaitable[LoopaiClient]]:
    """The dependency that gives the client of `alias`; the same function each time, so that tests can override it."""

    async def get_loopai_of_alias(connection: HTTPConnection) -> LoopaiClient:
        return _client(connection, alias)

    return get_loopai if alias == "default" else get_loopai_of_alias


@cache
def get_sync_loopai_for(alias: str) -> Callable[[HTTPConnection], Awaitable[SyncLoopaiClient]]:
    """As `get_loopai_for`, for `def` routes."""

    async def get_sync_loopai_of_alias(connection: HTTPConnection) -> SyncLoopaiClient:
        return _sync_client(connection, alias)

    return get_sync_loopai if alias == "default" else get_sync_loopai_of_alias


LoopaiDep = Annotated[LoopaiClient, Depends(get_loopai)]
"""A route's parameter `ai: LoopaiDep` is the application's client."""

SyncLoopaiDep = Annotated[SyncLoopaiClient, Depends(get_sync_loopai)]
"""As `LoopaiDep`, in `def` routes."""
