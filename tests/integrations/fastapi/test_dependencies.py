"""`LoopaiDep` and its kin, wherever FastAPI takes a dependency, and what they say where there is no client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount

from loopai import ConfigurationError, LoopaiClient
from loopai.contrib.fastapi import (
    LoopaiDep,
    LoopaiLifespan,
    LoopaiSettings,
    SyncLoopaiDep,
    get_loopai,
    get_loopai_for,
    get_sync_loopai_for,
    loopai_lifespan,
)
from loopai.contrib.fastapi.testing import running


@pytest.fixture
def lifespan(server, task):
    """A lifespan on the raw server, with a second alias on another address of it."""
    settings = LoopaiSettings(base_url=server.url, tasks={"echo": task}, max_retries=0)
    other = LoopaiSettings(base_url=server.url.replace("127.0.0.1", "localhost"), tasks={"echo": task}, timeout=5)
    return LoopaiLifespan(settings, aliases={"other": other})


def echoing(app):
    """Routes of `app` that ask for the client."""

    @app.get("/echo/{text}")
    async def echo(text: str, ai: LoopaiDep):
        return (await ai.execute("echo", text)).output

    return app


def test_a_websocket_route(lifespan) -> None:
    """The same annotation; the client serves all messages."""
    app = FastAPI(lifespan=lifespan)

    @app.websocket("/talk")
    async def talk(websocket: WebSocket, ai: LoopaiDep):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_json((await ai.execute("echo", text)).output)

    with TestClient(app) as client, client.websocket_connect("/talk") as websocket:
        for text in ("one", "two"):
            websocket.send_text(text)
            assert websocket.receive_json() == text


def test_a_background_task(lifespan) -> None:
    """It runs after the response, with the client still open."""
    app = FastAPI(lifespan=lifespan)
    found = []

    async def later(ai: LoopaiClient) -> None:
        found.append((await ai.execute("echo", "later")).output)

    @app.post("/work")
    async def work(ai: LoopaiDep, tasks: BackgroundTasks):
        tasks.add_task(later, ai)
        return "taken"

    with TestClient(app) as client:
        assert client.post("/work").json() == "taken"
    assert found == ["later"]


def test_mounted_applications_inherit_the_clients(lifespan) -> None:
    """FastAPI under FastAPI, two deep, and FastAPI under plain Starlette."""
    innermost, inner = echoing(FastAPI()), echoing(FastAPI())
    inner.mount("/deeper", innermost)
    app = FastAPI(lifespan=lifespan)
    app.mount("/inner", inner)
    with TestClient(app) as client:
        assert client.get("/inner/echo/a").json() == "a"
        assert client.get("/inner/deeper/echo/b").json() == "b"
    with TestClient(Starlette(routes=[Mount("/api", app=echoing(FastAPI()))], lifespan=lifespan)) as client:
        assert client.get("/api/echo/c").json() == "c"


def test_other_aliases(lifespan) -> None:
    """Each alias has a client of its own, asynchronous and synchronous."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/both")
    async def both(ai: LoopaiDep, other: Annotated[LoopaiClient, Depends(get_loopai_for("other"))]):
        assert (await other.execute("echo", 1)).output == 1
        return [ai.base_url == other.base_url, ai.timeout, other.timeout]

    @app.get("/sync")
    def sync(other: Annotated[object, Depends(get_sync_loopai_for("other"))], ai: SyncLoopaiDep):
        return [ai.timeout, other.timeout]

    with TestClient(app) as client:
        assert client.get("/both").json() == [False, 30.0, 5.0]
        assert client.get("/sync").json() == [30.0, 5.0]


def test_an_unknown_alias_is_named_with_those_there_are(lifespan) -> None:
    """The error says what to type."""
    app = FastAPI(lifespan=lifespan)

    @app.get("/eu")
    async def eu(ai: Annotated[LoopaiClient, Depends(get_loopai_for("eu"))]): ...

    with TestClient(app) as client, pytest.raises(ConfigurationError, match=r"'eu': the lifespan has default, other"):
        client.get("/eu")


def test_a_brought_client_has_no_synchronous_twin() -> None:
    """The error says what it would take."""
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiClient("http://mine.test")))

    @app.get("/sync")
    def sync(ai: SyncLoopaiDep): ...

    with TestClient(app) as client, pytest.raises(ConfigurationError, match="needs LoopaiSettings"):
        client.get("/sync")


def test_the_dependency_of_an_alias_is_one_function() -> None:
    """So that FastAPI asks once a request, and `dependency_overrides` find it."""
    assert get_loopai_for("eu") is get_loopai_for("eu")
    assert get_loopai_for("default") is get_loopai


def test_def_routes_run_their_calls_at_the_same_time(lifespan, server, body_of) -> None:
    """Each in a thread of its own, over connections of one client."""
    app = FastAPI(lifespan=lifespan)
    together = threading.Barrier(3, timeout=10)

    async def meet(asked, wire) -> None:
        await asyncio.get_running_loop().run_in_executor(None, together.wait)
        await wire.answer(body_of(asked.input))

    server.behaviour = meet

    @app.get("/sync/{text}")
    def sync(text: str, ai: SyncLoopaiDep):
        return ai.execute("echo", text).output

    async def ask() -> list[str]:
        async with (
            running(app) as served,
            httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://app") as client,
        ):
            replies = await asyncio.gather(*(client.get(f"/sync/{text}") for text in "abc"))
            return [reply.json() for reply in replies]

    assert asyncio.run(ask()) == ["a", "b", "c"]


def test_as_the_dependency_of_a_router_an_application_and_another_dependency(lifespan) -> None:
    """`dependencies=[Depends(get_loopai)]`, and a dependency of the user's that yields."""
    over = []

    async def labelled(ai: LoopaiDep) -> AsyncIterator[str]:
        yield (await ai.execute("echo", "label")).output
        over.append((await ai.execute("echo", "over")).output)

    router = APIRouter(dependencies=[Depends(get_loopai)])

    @router.get("/label")
    async def label(text: str = Depends(labelled)):
        return text

    app = FastAPI(lifespan=lifespan, dependencies=[Depends(get_loopai)])
    app.include_router(router, prefix="/v1", dependencies=[Depends(get_loopai)])
    outer = APIRouter()
    outer.include_router(router, prefix="/v2")
    app.include_router(outer)
    with TestClient(app) as client:
        assert client.get("/v1/label").json() == "label"
        assert client.get("/v2/label").json() == "label"
    assert over == ["over", "over"]


def test_overrides_of_the_user_s_own(lifespan) -> None:
    """`dependency_overrides` works on each dependency by itself."""
    app = echoing(FastAPI(lifespan=lifespan))
    mine = LoopaiClient("http://mine.test")

    @app.get("/address")
    async def address(ai: LoopaiDep, other: Annotated[LoopaiClient, Depends(get_loopai_for("other"))]):
        return [ai.base_url, other.timeout]

    app.dependency_overrides[get_loopai] = lambda: mine
    with TestClient(app) as client:
        assert client.get("/address").json() == ["http://mine.test", 5.0]


def error_of(app, path="/echo/a", root_path="") -> str:
    """What a request without a client raises."""
    with pytest.raises(ConfigurationError) as raised:
        TestClient(app, root_path=root_path).get(path)
    return str(raised.value)


def test_the_lifespan_is_there_and_did_not_run(lifespan) -> None:
    """A TestClient without `with`: plain, behind included routers, in a lifespan of the user's, and mounted."""

    @asynccontextmanager
    async def mine(app):
        async with loopai_lifespan(app) as state:
            yield state

    @asynccontextmanager
    async def over_another(app):
        async with lifespan(app) as state:
            yield state

    with_router = FastAPI(lifespan=lifespan)
    for _ in range(2):
        with_router.include_router(echoing(APIRouter()))
    outer = FastAPI(lifespan=lifespan)
    outer.mount("/inner", echoing(FastAPI()))
    for app, path in (
        (echoing(FastAPI(lifespan=lifespan)), "/echo/a"),
        (with_router, "/echo/a"),
        (echoing(FastAPI(lifespan=mine)), "/echo/a"),
        (echoing(FastAPI(lifespan=over_another)), "/echo/a"),
        (outer, "/inner/echo/a"),
    ):
        told = error_of(app, path)
        assert "no Loopai client" in told
        assert "`with TestClient(app) as client:`" in told


def test_the_application_is_mounted_under_one_without_the_lifespan(lifespan) -> None:
    """Its own lifespan, if it has one, never runs: the outer application needs it."""
    for inner in (echoing(FastAPI()), echoing(FastAPI(lifespan=lifespan))):
        outer = FastAPI()
        outer.mount("/inner", inner)
        told = error_of(outer, "/inner/echo/a")
        assert "it is mounted" in told
        assert "Give the outer one `FastAPI(lifespan=loopai_lifespan)`" in told


def test_there_is_no_lifespan_at_all() -> None:
    """Also where another lifespan runs, and behind a proxy's `root_path`."""

    @asynccontextmanager
    async def another(app):
        yield

    for app, root_path in ((FastAPI(), ""), (FastAPI(lifespan=another), ""), (FastAPI(), "/api")):
        told = error_of(echoing(app), root_path=root_path)
        assert "no Loopai lifespan ran for this application" in told
        assert "`app = FastAPI(lifespan=loopai_lifespan)`" in told


def test_what_the_error_says_to_type_works(lifespan) -> None:
    """`with TestClient`, and `running` for httpx."""
    app = echoing(FastAPI(lifespan=lifespan))
    with TestClient(app) as client:
        assert client.get("/echo/a").json() == "a"

    async def ask() -> str:
        async with (
            running(app) as served,
            httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://app") as client,
        ):
            return (await client.get("/echo/b")).json()

    assert asyncio.run(ask()) == "b"
