"""Clients that go away: by choice their routes end with them, and the upstream calls, and the slots come back."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import threading
from typing import TYPE_CHECKING, Annotated

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Form, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.middleware.base import BaseHTTPMiddleware

from loopai import ConfigurationError
from loopai.contrib.fastapi import (
    CancelOnDisconnectRoute,
    LoopaiDep,
    LoopaiLifespan,
    LoopaiSettings,
    SyncLoopaiDep,
    cancel_on_disconnect,
)

if TYPE_CHECKING:
    from decimal import Decimal as Report


class Mail(BaseModel):
    text: str


class Told:
    """What routes were told of their end."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._changed = threading.Condition()

    def tell(self, event: str) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, *events: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.events == list(events), 10), self.events


@pytest.fixture
def told() -> Told:
    return Told()


def application(server, task, told, coalesce=False, connections=1) -> FastAPI:
    """The same route four ways: watched by decorator and by route class, and unwatched."""
    settings = LoopaiSettings(
        base_url=server.url, tasks={"echo": task}, max_retries=0, max_connections=connections, coalesce=coalesce
    )
    app = FastAPI(lifespan=LoopaiLifespan(settings))

    async def with_bounds():
        # What is entered in one task must be left in the same.
        try:
            yield await asyncio.wait_for(asyncio.sleep(0, "bounded"), 5)
        finally:
            told.tell("dependency over")

    async def check(mail: Mail, request: Request, ai: LoopaiDep, bounded: str = Depends(with_bounds)):
        assert bounded == "bounded"
        try:
            return (await ai.execute("echo", mail.text)).output
        except asyncio.CancelledError:
            told.tell("cancelled")
            await asyncio.sleep(0)  # what a route does to tidy up is not cancelled again
            told.tell("tidied")
            raise

    watched = APIRouter(route_class=CancelOnDisconnectRoute)
    watched.post("/class")(check)
    app.include_router(watched)
    app.post("/decorator")(cancel_on_disconnect(check))
    app.post("/unwatched")(check)
    app.state.check = check
    return app


def request(path: str, text: str = "hello") -> bytes:
    body = json.dumps({"text": text}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: app\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def reply(connection: socket.socket) -> tuple[int, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split(b" ")[1]), body


async def hang(asked, wire) -> None:
    """The server never answers."""
    await wire.hang()


@pytest.mark.parametrize("path", ["/class", "/decorator"])
@pytest.mark.parametrize("coalesce", [False, True])
@pytest.mark.parametrize("goodbye", ["close", "reset", "half"])
def test_the_upstream_call_is_cancelled_and_the_slot_comes_back(
    server, task, told, serve, body_of, path, coalesce, goodbye, caplog
) -> None:
    """With one connection to the server, the next client is served only if the first one's was let go."""
    server.behaviour = hang
    with caplog.at_level(logging.WARNING):
        served = serve(application(server, task, told, coalesce))
        with served.connect() as gone:
            gone.sendall(request(path))
            server.wait_until(lambda: server.in_flight == 1)
            if goodbye == "reset":
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if goodbye == "half":
                gone.shutdown(socket.SHUT_WR)
                told.wait_for("cancelled", "tidied", "dependency over")
        told.wait_for("cancelled", "tidied", "dependency over")
        server.wait_until(lambda: server.in_flight == 0 and server.open == 0)

        async def answer(asked, wire) -> None:
            value = asked.input if "input" in json.loads(asked.body) else None
            await wire.answer(body_of(value))

        if not coalesce:
            server.behaviour = answer
            with served.connect() as other:
                other.sendall(request(path, "next"))
                assert reply(other) == (200, b'"next"')
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_without_it_the_call_goes_on(server, task, told, serve, body_of) -> None:
    """FastAPI's own way: what was begun is done, with nobody to hear of it."""
    gate = threading.Event()

    async def wait(asked, wire) -> None:
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, 10)
        await wire.answer(body_of(asked.input))

    server.behaviour = wait
    served = serve(application(server, task, told))
    with served.connect() as gone:
        gone.sendall(request("/unwatched"))
        server.wait_until(lambda: server.in_flight == 1)
    gate.set()
    told.wait_for("dependency over")


@pytest.mark.parametrize("path", ["/class", "/decorator"])
def test_a_client_that_stays_is_answered(server, task, told, path) -> None:
    """Errors and refusals are those of any route, on one connection after the other."""
    with TestClient(application(server, task, told)) as client:
        for text in ("one", "two"):
            assert client.post(path, json={"text": text}).json() == text
        assert client.post(path, json={}).status_code == 422
    assert told.events == ["dependency over"] * 2 + ["dependency over"]


def test_behind_middleware(server, task, told, serve) -> None:
    """Starlette's own base class wraps what a request receives."""
    server.behaviour = hang
    app = application(server, task, told)

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            return await call_next(request)

    app.add_middleware(Passing)
    served = serve(app)
    for path in ("/class", "/decorator"):
        told.events.clear()
        with served.connect() as gone:
            gone.sendall(request(path))
            server.wait_until(lambda: server.in_flight == 1)
        told.wait_for("cancelled", "tidied", "dependency over")
        server.wait_until(lambda: server.in_flight == 0)


def test_a_shutdown_s_cancellation_is_not_mistaken_for_a_disconnect(server, task, told) -> None:
    """Whoever cancels the request from outside sees it cancelled."""
    server.behaviour = hang
    app = application(server, task, told)

    async def run() -> None:
        import httpx

        from loopai.contrib.fastapi.testing import running

        async with (
            running(app) as served,
            httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://app") as client,
        ):
            for path in ("/class", "/decorator"):
                asking = asyncio.ensure_future(client.post(path, json={"text": "a"}))
                await asyncio.to_thread(server.wait_until, lambda: server.in_flight == 1)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                await asyncio.to_thread(server.wait_until, lambda: server.in_flight == 0)

    asyncio.run(run())


def test_a_route_may_answer_after_its_call_was_cancelled(serve, told) -> None:
    """What catches the cancellation goes on undisturbed, timeouts of its own included."""
    app = FastAPI()
    waiting = threading.Event()

    @app.get("/")
    @cancel_on_disconnect
    async def stubborn():
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.tell(await asyncio.wait_for(asyncio.sleep(0, "went on"), 5))
        return "answer"

    served = serve(app)
    with served.connect() as gone:
        gone.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        assert waiting.wait(10)
    told.wait_for("went on")


def test_a_route_that_reads_its_body_itself(serve) -> None:
    """However it does; what watches takes nothing away."""
    app = FastAPI()

    @app.post("/raw")
    @cancel_on_disconnect
    async def raw(request: Request) -> str:
        await asyncio.sleep(0)  # the watching has begun
        return (await request.body()).decode()

    @app.post("/stream")
    @cancel_on_disconnect
    async def stream(request: Request) -> str:
        await asyncio.sleep(0)
        return b"".join([part async for part in request.stream()]).decode()

    @app.post("/form")
    @cancel_on_disconnect
    async def form(request: Request, text: Annotated[str, Form()]) -> str:
        return text + str((await request.form())["text"])

    served = serve(app)
    assert httpx.post(f"{served.url}/raw", content="x" * 100_000).json() == "x" * 100_000
    assert httpx.post(f"{served.url}/stream", content=iter([b"one", b"two"])).json() == "onetwo"
    assert httpx.post(f"{served.url}/form", data={"text": "twice"}).json() == "twicetwice"


def test_the_decorator_keeps_what_fastapi_reads_of_a_route(server, task, told) -> None:
    """Parameters, body, response, description and name, in the OpenAPI document as well."""
    app, plain = FastAPI(), FastAPI()

    async def check(mail: Mail, ai: LoopaiDep, tasks: BackgroundTasks, times: int = 1) -> Mail:
        """Checks a mail."""
        return mail

    plain.post("/check")(check)
    app.post("/check")(cancel_on_disconnect(check))
    assert app.openapi() == plain.openapi()


def report(text: str) -> Report:
    return {"text": text}


def test_types_that_only_a_type_checker_knows(serve) -> None:
    """What FastAPI leaves alone in a plain route is left alone here; the other types are read."""
    app, plain = FastAPI(), FastAPI()

    async def check(mail: Mail, found: Annotated[dict, Depends(report)], times: int = 1) -> Report:
        return {"text": mail.text, "found": found["text"], "times": times}

    plain.post("/check", response_model=dict)(check)
    app.post("/check", response_model=dict)(cancel_on_disconnect(check))
    assert app.openapi() == plain.openapi()
    for each in (app, plain):
        reply = httpx.post(f"{serve(each).url}/check?text=b&times=2", json={"text": "a"})
        assert reply.json() == {"text": "a", "found": "b", "times": 2}


def test_a_def_route_cannot_be_watched() -> None:
    """A thread cannot be cancelled: said where it is written."""

    def check(mail: Mail, ai: SyncLoopaiDep): ...

    with pytest.raises(ConfigurationError, match="'check' is not an `async def` route"):
        cancel_on_disconnect(check)  # type: ignore[type-var]
