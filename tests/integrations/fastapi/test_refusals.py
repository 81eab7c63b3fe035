"""What our routers refuse is a problem document, whatever handlers the application has, and OpenAPI says so."""

from __future__ import annotations

import gzip
from typing import Annotated, Any, Callable

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.testclient import TestClient

from loopai.contrib.fastapi import (
    LoopaiDep,
    Problem,
    WebhookEventDep,
    batch_response,
    batch_router,
    install_error_handlers,
    webhook_router,
)
from loopai.contrib.fastapi.testing import override_loopai
from loopai.testing import signed_webhook

HOOK = "/webhooks/loopai"
PROBLEM = "application/problem+json"
JSON = {"content-type": "application/json"}


def on_event(event: Any) -> None:
    """Handles nothing."""


class Handling:
    """A store in which every event is being handled."""

    async def claim(self, event_id: Any) -> str:
        return "handling"

    async def finish(self, event_id: Any) -> None: ...

    async def release(self, event_id: Any) -> None: ...


@pytest.fixture
def app(loopai_fake):
    """An application with all routers, limits that are soon reached, and a route that makes a batch itself."""
    loopai_fake.task("echo").computes(lambda given: given)
    app = FastAPI()
    app.include_router(batch_router("echo", max_bytes=1000, max_rows=3))
    app.include_router(batch_router("echo", path="/busy", name="busy", max_runs=0))
    app.include_router(webhook_router("secret", on_event, store=Handling(), max_bytes=1000))

    @app.post("/mine")
    async def mine(request: Request, ai: LoopaiDep):
        return batch_response(ai, "echo", request, max_bytes=1000)

    with override_loopai(app, loopai_fake):
        yield app


Post = Callable[[TestClient], httpx.Response]

REFUSALS: dict[str, tuple[str, int, Post]] = {
    "declared too large": ("/batch", 413, lambda c: c.post("/batch", content=b"x" * 2000, headers=JSON)),
    "comes too large": (
        "/batch", 413, lambda c: c.post("/batch", content=iter([b'[{"a":"' + b"x" * 2000]), headers=JSON),
    ),
    "no format": ("/batch", 415, lambda c: c.post("/batch", content=b"x", headers={"content-type": "text/html"})),
    "coding": ("/batch", 415, lambda c: c.post("/batch", content=b"[]", headers={**JSON, "content-encoding": "br"})),
    "damaged gzip": ("/batch", 422, lambda c: c.post("/batch", content=gzip.compress(b"[]")[:-9], headers=JSON)),
    "no array": ("/batch", 422, lambda c: c.post("/batch", content=b"{}", headers=JSON)),
    "empty": ("/batch", 422, lambda c: c.post("/batch", content=b"", headers=JSON)),
    "query: format": ("/batch", 422, lambda c: c.post("/batch?format=xml", content=b"[]", headers=JSON)),
    "query: first": ("/batch", 422, lambda c: c.post("/batch?first=-1", content=b"[]", headers=JSON)),
    "query: encoding": ("/batch", 422, lambda c: c.post("/batch?encoding=idna", content=b"[]", headers=JSON)),
    "query: long encoding": ("/batch", 422, lambda c: c.post(f"/batch?encoding={'x' * 99}", json=[])),
    "form without a boundary": (
        "/batch", 422, lambda c: c.post("/batch", content=b"x", headers={"content-type": "multipart/form-data"}),
    ),
    "busy": ("/busy", 503, lambda c: c.post("/busy", json=[{"a": 1}])),
    "forged event": (HOOK, 400, lambda c: c.post(HOOK, **signed_webhook(secret="guess").as_httpx())),
    "large event": (HOOK, 413, lambda c: c.post(HOOK, content=b"x" * 2000)),
    "large event by parts": (HOOK, 413, lambda c: c.post(HOOK, content=iter([b"x" * 900] * 3))),
    "event that is handled": (HOOK, 409, lambda c: c.post(HOOK, **signed_webhook(secret="secret").as_httpx())),
    "own route, too large": ("/mine", 413, lambda c: c.post("/mine", content=b"x" * 2000, headers=JSON)),
    "own route, no format": ("/mine", 415, lambda c: c.post("/mine", content=b"x")),
}  # fmt: skip


@pytest.mark.parametrize("handlers", [False, True])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_a_problem_document(app, name, handlers) -> None:
    """Also where the application answers `HTTPException` in a way of its own; where it can be tried again, when."""
    if handlers:
        install_error_handlers(app)
        app.add_exception_handler(HTTPException, lambda request, error: 1 / 0)
    path, status, post = REFUSALS[name]
    reply = post(TestClient(app))
    assert (reply.status_code, reply.headers["content-type"]) == (status, PROBLEM)
    problem = Problem.model_validate_json(reply.content)
    assert problem.status == status
    assert problem.title
    assert problem.detail
    assert ("retry-after" in reply.headers) == (status in {409, 503})
    if path != "/mine":
        answers = app.openapi()["paths"][path]["post"]["responses"]
        assert str(status) in answers


def test_every_error_is_documented_as_a_problem(app) -> None:
    """With its members; nothing of FastAPI's own form is left."""
    schema = app.openapi()
    assert schema["components"]["schemas"]["Problem"]["required"] == ["title", "status", "detail"]
    for path in ("/batch", HOOK):
        answers = schema["paths"][path]["post"]["responses"]
        for status, answer in answers.items():
            if int(status) >= 400:
                assert list(answer["content"]) == [PROBLEM]
                assert answer["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_what_is_wrong_with_the_query_stands_by_its_place(app) -> None:
    """For programs in `errors`, for people in `detail`."""
    problem = TestClient(app).post("/batch?first=-1&format=xml", json=[]).json()
    assert set(problem["errors"]) == {"query.first", "query.format"}
    assert "query.first" in problem["detail"]


def test_what_others_refuse_is_theirs() -> None:
    """A dependency that the application adds to our router, and our dependency on its own route."""

    async def signed_in(token: Annotated[str, Header()] = "") -> None:
        if not token:
            raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Bearer"})

    app = FastAPI()
    app.include_router(webhook_router("secret", on_event), dependencies=[Depends(signed_in)])

    @app.post("/own")
    async def own(event: WebhookEventDep) -> None: ...

    client = TestClient(app)
    reply = client.post(HOOK)
    assert (reply.status_code, reply.json(), reply.headers["www-authenticate"]) == (
        401, {"detail": "who are you?"}, "Bearer",
    )  # fmt: skip
