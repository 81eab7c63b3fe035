"""The dependencies: `LoopaiDep`, `SyncLoopaiDep`, and those of other aliases."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import cache
from typing import Annotated, Any, Callable, Optional

from fastapi import Depends
from starlette.requests import HTTPConnection

from ...client import LoopaiClient, SyncLoopaiClient
from ...exceptions import ConfigurationError
from ...testing import FakeLoopai
from .lifespan import STATE_KEY, LoopaiState, overridden_in


def loopai_state(connection: HTTPConnection) -> LoopaiState:
    """Return the running application's clients. Raises `ConfigurationError`, which says what to do."""
    scope = connection.scope
    # The server's copy of the lifespan's state, which mounted applications also receive.
    state = scope["state"].get(STATE_KEY) if "state" in scope else None
    if state is None:
        raise ConfigurationError(_why_not(scope))
    loopai: LoopaiState = state
    return loopai


def _why_not(scope: Any) -> str:
    router = getattr(scope.get("app"), "router", None)
    # The outermost router stays in the request's scope; mounted applications overwrite `app` only.
    if scope.get("router", router) is not router:
        return (
            "no Loopai client in this application: it is mounted, and lifespans of mounted applications never run. "
            "Give the outer one `FastAPI(lifespan=loopai_lifespan)`: what is mounted inherits its clients. In a test "
            "type `with TestClient(app) as client:`"
        )
    return (
        "no Loopai client: no Loopai lifespan ran for this application. Type "
        "`app = FastAPI(lifespan=loopai_lifespan)`, or "
        " `FastAPI(lifespan=LoopaiLifespan(inner=your_lifespan))` to keep your own; a lifespan of your own that "
        "enters it must yield its state: `async with loopai_lifespan(app) as state: yield state`. In a test type "
        "`with TestClient(app) as client:` (a TestClient without `with` runs no lifespan); with httpx type "
        "`async with running(app) as served:` and `ASGITransport(served)`, where `running` is from "
        "loopai.contrib.fastapi.testing; or override the dependency with `override_loopai(app, fake)`. With uvicorn do "
        "not pass `--lifespan off`"
    )


def _client(connection: HTTPConnection, alias: str) -> LoopaiClient:
    fake = _override(connection, alias)
    return loopai_state(connection).client(alias) if fake is None else fake.async_client()


def client_of(app: Any, state: LoopaiState, alias: str) -> LoopaiClient:
    """The client of an alias, for work that belongs to no request. Raises `ConfigurationError` for an unknown one."""
    fake = overridden_in(app).get(alias)
    return state.client(alias) if fake is None else fake.async_client()


def _sync_client(connection: HTTPConnection, alias: str) -> SyncLoopaiClient:
    fake = _override(connection, alias)
    return loopai_state(connection).sync_client(alias) if fake is None else fake.client()


def _override(connection: HTTPConnection, alias: str) -> Optional[FakeLoopai]:
    # FastAPI's overrides do not apply to middleware, which calls these functions directly.
    app = connection.scope.get("app")
    return None if app is None else overridden_in(app).get(alias)


async def get_loopai(connection: HTTPConnection) -> LoopaiClient:
    """Return the application's client, in HTTP and websocket routes, also of mounted applications."""
    return _client(connection, "default")


async def get_sync_loopai(connection: HTTPConnection) -> SyncLoopaiClient:
    """Return the application's synchronous client, for `def` routes, which run in threads."""
    return _sync_client(connection, "default")


@cache
def get_loopai_for(alias: str) -> Callable[[HTTPConnection], Awaitable[LoopaiClient]]:
    """Return the dependency for the client of `alias`; always the same function, so that tests can override it."""

    async def get_loopai_of_alias(connection: HTTPConnection) -> LoopaiClient:
        return _client(connection, alias)

    return get_loopai if alias == "default" else get_loopai_of_alias


@cache
def get_sync_loopai_for(alias: str) -> Callable[[HTTPConnection], Awaitable[SyncLoopaiClient]]:
    """Like `get_loopai_for`, for `def` routes."""

    async def get_sync_loopai_of_alias(connection: HTTPConnection) -> SyncLoopaiClient:
        return _sync_client(connection, alias)

    return get_sync_loopai if alias == "default" else get_sync_loopai_of_alias


LoopaiDep = Annotated[LoopaiClient, Depends(get_loopai)]
"""A route's parameter `ai: LoopaiDep` is the application's client."""

SyncLoopaiDep = Annotated[SyncLoopaiClient, Depends(get_sync_loopai)]
"""Like `LoopaiDep`, in `def` routes."""
