"""For tests of your application: replace its Loopai clients by a fake, and run its lifespan with httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Callable

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from ...client import LoopaiClient, SyncLoopaiClient
from ...testing import FakeLoopai
from .dependencies import get_loopai_for, get_sync_loopai_for
from .lifespan import overridden_in


@contextmanager
def override_loopai(app: FastAPI, fake: FakeLoopai, *aliases: str) -> Iterator[FakeLoopai]:
    """Let `fake` answer for the default alias and for `aliases`, whether the lifespan runs or not.

    Mounted applications have their own overrides: use `override_loopai` for each.
    """
    client, sync_client = fake.async_client(), fake.client()

    # Asynchronous, because FastAPI runs other functions in threads.
    async def give_client() -> LoopaiClient:
        return client

    async def give_sync_client() -> SyncLoopaiClient:
        return sync_client

    overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
    for alias in ("default", *aliases):
        overrides[get_loopai_for(alias)] = give_client
        overrides[get_sync_loopai_for(alias)] = give_sync_client
    before = {call: app.dependency_overrides[call] for call in overrides if call in app.dependency_overrides}
    app.dependency_overrides.update(overrides)
    # FastAPI's overrides do not apply to code that calls the dependencies itself, such as middleware.
    fakes = overridden_in(app)
    fakes_before = dict(fakes)
    fakes.update(dict.fromkeys(("default", *aliases), fake))
    try:
        yield fake
    finally:
        fakes.clear()
        fakes.update(fakes_before)
        for call in overrides:
            app.dependency_overrides.pop(call, None)
        app.dependency_overrides.update(before)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[ASGIApp]:
    """Run the lifespan of `app` and yield what to serve: `httpx.ASGITransport(served)` does not run lifespans.

    Raises what the lifespan raises.
    """
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            # One copy per connection, as in servers.
            await app({**scope, "state": dict(state or {})}, receive, send)

        yield served
