"""`health_router`: probes of this application, which do not flood the server behind it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from loopai.contrib.fastapi import LoopaiLifespan, LoopaiSettings, health_router
from loopai.contrib.fastapi.health import FRESH_FOR
from loopai.contrib.fastapi.testing import override_loopai, running

READY = b'{"status":"ready","timestamp":"2025-11-03T08:16:05Z"}'
NOT_READY = b'{"status":"not_ready","timestamp":"2025-11-03T08:16:05Z"}'


class Clock:
    """Stands until a test moves it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(server, clock) -> FastAPI:
    """An application with the router, on a raw server that is ready."""

    async def ready(asked, wire) -> None:
        await wire.answer(READY)

    server.behaviour = ready
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(base_url=server.url)))
    app.include_router(health_router(clock=clock))
    return app


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_a_probe_may_ask_with_head(app, path) -> None:
    """Some load balancers do; the status is that of `GET`, without a body."""
    with TestClient(app) as client:
        reply = client.head(path)
        assert (reply.status_code, reply.content) == (client.get(path).status_code, b"")


def test_live_asks_nobody(app, server) -> None:
    """It says that this process answers, whatever is behind it."""
    with TestClient(app) as client:
        assert client.get("/health/live").json() == {"status": "alive"}
    assert server.asked == []


def test_ready_has_the_upstream_s_state(app, server, clock) -> None:
    """503 while the server is not ready or cannot be reached, as a balancer understands it."""
    with TestClient(app) as client:
        reply = client.get("/health/ready")
        assert (reply.status_code, reply.json()) == (200, {"status": "ready", "upstream": "ready"})
        assert reply.headers["cache-control"] == "no-store"

        async def not_ready(asked, wire) -> None:
            await wire.answer(NOT_READY, "503 Service Unavailable")

        server.behaviour = not_ready
        clock.now += FRESH_FOR
        reply = client.get("/health/ready")
        assert (reply.status_code, reply.json()) == (503, {"status": "not_ready", "upstream": "not_ready"})

        async def gone(asked, wire) -> None:
            wire.reset()

        server.behaviour = gone
        clock.now += FRESH_FOR
        reply = client.get("/health/ready")
        assert (reply.status_code, reply.json()) == (503, {"status": "not_ready", "upstream": "unreachable"})
    assert [asked.target for asked in server.asked] == ["/api/v1/health/ready"] * 3


def test_an_answer_serves_for_a_while_good_or_bad(app, server, clock) -> None:
    """Probes in between ask nobody; a server that is down is not asked more often than one that is up."""
    with TestClient(app) as client:
        for _ in range(20):
            assert client.get("/health/ready").status_code == 200
        assert len(server.asked) == 1

        async def gone(asked, wire) -> None:
            wire.reset()

        server.behaviour = gone
        clock.now += FRESH_FOR
        for _ in range(20):
            assert client.get("/health/ready").status_code == 503
        assert len(server.asked) == 2


async def test_a_flood_of_probes_is_one_question(app, server, clock) -> None:
    """Those that come while it is asked wait for the same answer, and one that goes away does not take it along."""
    opened = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def slow(asked, wire) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(opened.wait(), loop))
        await wire.answer(READY)

    server.behaviour = slow
    async with (
        running(app) as served,
        httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://app") as client,
    ):
        first = asyncio.ensure_future(client.get("/health/ready"))
        await asyncio.to_thread(server.wait_until, lambda: server.in_flight == 1)
        flood = [asyncio.ensure_future(client.get("/health/ready")) for _ in range(200)]
        for _ in range(50):
            await asyncio.sleep(0)
        first.cancel()
        opened.set()
        replies = await asyncio.gather(*flood)
    assert {reply.status_code for reply in replies} == {200}
    assert len(server.asked) == 1


def test_one_router_in_two_applications_shares_nothing(make_server, clock) -> None:
    """Each has its own server's state."""

    async def ready(asked, wire) -> None:
        await wire.answer(READY)

    async def not_ready(asked, wire) -> None:
        await wire.answer(NOT_READY, "503 Service Unavailable")

    router = health_router(clock=clock)
    found = []
    for behaviour in (ready, not_ready):
        app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(base_url=make_server(behaviour).url)))
        app.include_router(router)
        with TestClient(app) as client:
            found.append(client.get("/health/ready").status_code)
    assert found == [200, 503]


def test_another_alias_and_other_paths(loopai_fake) -> None:
    """And a prefix, as for every router."""
    app = FastAPI()
    app.include_router(health_router(alias="eu", live_path="/live", ready_path="/ready"), prefix="/-")
    with override_loopai(app, loopai_fake, "eu"):
        client = TestClient(app)
        assert client.get("/-/live").status_code == 200
        assert client.get("/-/ready").json() == {"status": "ready", "upstream": "ready"}


def test_the_openapi_document_has_both_answers(app) -> None:
    """The 503 with the same shape."""
    answers = app.openapi()["paths"]["/health/ready"]["get"]["responses"]
    shape = {"application/json": {"schema": {"$ref": "#/components/schemas/Ready"}}}
    assert answers["200"]["content"] == answers["503"]["content"] == shape
