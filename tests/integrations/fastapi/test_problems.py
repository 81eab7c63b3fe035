"""Problem documents: what an application answers where its Loopai call failed, and says so in its OpenAPI document."""

from __future__ import annotations

import logging
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from loopai import (
    AuthenticationException,
    ConflictException,
    ConnectionException,
    ExecutionException,
    LoopaiClient,
    NotFoundException,
    NotSupportedException,
    RateLimitException,
    ServerException,
    TimeoutException,
    ValidationException,
    models,
)
from loopai.contrib.fastapi import (
    LoopaiDep,
    LoopaiLifespan,
    LoopaiSettings,
    SyncLoopaiDep,
    batch_router,
    get_loopai_for,
    health_router,
    install_error_handlers,
    problems,
)
from loopai.contrib.fastapi.testing import override_loopai


def is_model(found) -> bool:
    return isinstance(found, type) and issubclass(found, models.LoopaiModel)


UPSTREAM = "http://loopai-7.internal.test:8080"


def app_that_raises(error: Exception) -> TestClient:
    """An application whose only route raises `error`."""
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def fails():
        raise error

    return TestClient(app)


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (NotFoundException("Task not found", status_code=404), 404, "Not found"),
        (ConflictException("It exists", status_code=409), 409, "Conflict"),
        (ValidationException("Not valid", status_code=400), 422, "Not valid"),
        (RateLimitException("Slow down", status_code=429), 429, "Too many requests"),
        (ServerException("Broken", status_code=500), 502, "Upstream failed"),
        (AuthenticationException("Wrong key", status_code=401), 502, "Upstream failed"),
        (NotSupportedException("No canaries", status_code=404), 502, "Upstream failed"),
        (ExecutionException("It failed"), 502, "Execution failed"),
        (ConnectionException("refused"), 503, "Upstream unreachable"),
        (TimeoutException("too late"), 504, "Upstream timed out"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_kind_of_error_has_its_status(error, status, title) -> None:
    """And is a problem document with that status in it, too."""
    reply = app_that_raises(error).get("/")
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert {name: reply.json()[name] for name in ("type", "title", "status")} == {
        "type": "about:blank",
        "title": title,
        "status": status,
    }


def test_a_refused_input_is_told_by_field() -> None:
    """What the server said of the request is for whoever made the request."""
    error = ValidationException("The input is not valid", errors={"input.subject": ["is needed"]}, trace_id="4bf92f")
    assert app_that_raises(error).get("/").json() == {
        "type": "about:blank",
        "title": "Not valid",
        "status": 422,
        "detail": "The input is not valid",
        "errors": {"input.subject": ["is needed"]},
        "trace_id": "4bf92f",
    }


@pytest.mark.parametrize(("seconds", "header"), [(7.2, "8"), (0.0, "1"), (None, "60")])
def test_rationing_says_when_to_come_again(seconds, header) -> None:
    """In whole seconds; a minute, which is what the server counts by, where it did not say."""
    reply = app_that_raises(RateLimitException("Slow down", retry_after=seconds)).get("/")
    assert reply.headers["retry-after"] == header


@pytest.mark.parametrize(
    "error",
    [
        ServerException(f"{UPSTREAM} said: at Db.Open()", status_code=500, response=f"at {UPSTREAM}"),
        ConnectionException(f"{UPSTREAM} refused", original_exception=OSError(UPSTREAM), request=f"POST {UPSTREAM}"),
        TimeoutException(f"{UPSTREAM} did not answer", request=f"POST {UPSTREAM}"),
        AuthenticationException(f"key of {UPSTREAM} is wrong", request=f"POST {UPSTREAM}"),
        ExecutionException(f"Traceback in {UPSTREAM}", result={"error": UPSTREAM}),
        RateLimitException(f"{UPSTREAM} rations", retry_after=1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_nothing_of_the_upstream_is_shown_and_all_of_it_logged(error, caplog) -> None:
    """Addresses, texts and traces of the server stay here; what failed is in the log."""
    with caplog.at_level(logging.WARNING, logger="loopai.fastapi"):
        reply = app_that_raises(error).get("/")
    assert "internal" not in reply.text
    assert "Traceback" not in reply.text
    if reply.status_code >= 500:
        assert [UPSTREAM in record.getMessage() for record in caplog.records] == [True]
    else:
        assert caplog.records == []


def test_other_errors_are_left_alone() -> None:
    """Ours are all that is handled."""
    with pytest.raises(LookupError):
        app_that_raises(LookupError("mine")).get("/")


def test_through_a_real_call(server, task) -> None:
    """From the server's reply to the application's."""

    async def missing(asked, wire) -> None:
        body = b'{"code":"TASK_NOT_FOUND","message":"Task not found","trace_id":"4bf92f"}'
        await wire.answer(body, "404 Not Found")

    server.behaviour = missing
    app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(base_url=server.url, max_retries=0)))
    install_error_handlers(app)

    @app.get("/")
    async def call(ai: LoopaiDep):
        await ai.execute(task, 1)

    with TestClient(app) as client:
        reply = client.get("/")
    assert reply.status_code == 404
    assert reply.json()["code"] == "TASK_NOT_FOUND"
    assert reply.json()["trace_id"] == "4bf92f"


@pytest.mark.parametrize(
    ("error", "code"),
    [(RateLimitException("later"), 1013), (ConnectionException("refused"), 1013), (ServerException("broken"), 1011)],
)
def test_a_websocket_is_closed_with_a_code(error, code) -> None:
    """After it was accepted; it has no status any more."""
    app = FastAPI()
    install_error_handlers(app)

    @app.websocket("/talk")
    async def talk(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_text()
        raise error

    with TestClient(app).websocket_connect("/talk") as websocket:
        websocket.send_text("hello")
        with pytest.raises(WebSocketDisconnect) as raised:
            websocket.receive_text()
    assert raised.value.code == code
    assert UPSTREAM not in raised.value.reason


def test_a_websocket_that_is_gone_is_left_alone() -> None:
    """Closing it again would be an error of its own."""
    app = FastAPI()
    install_error_handlers(app)
    over = []

    @app.websocket("/talk")
    async def talk(websocket: WebSocket):
        await websocket.accept()
        await websocket.close()
        over.append(True)
        raise ServerException("broken")

    with TestClient(app).websocket_connect("/talk") as websocket, pytest.raises(WebSocketDisconnect):
        websocket.receive_text()
    assert over == [True]


PROBLEMS = {"404", "409", "422", "429", "502", "503", "504"}


def documented(app: FastAPI) -> dict[str, set[str]]:
    """The statuses that each operation documents as problems."""
    schema = TestClient(app).get("/openapi.json").json()
    return {
        f"{method} {path}": {
            status
            for status, answer in operation["responses"].items()
            if answer.get("content", {}).get("application/problem+json")
            == {"schema": {"$ref": "#/components/schemas/Problem"}}
        }
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    }


def test_the_openapi_document_has_the_problems_of_routes_that_use_a_client() -> None:
    """Through any dependency, any alias, and routers included in routers; and of no others."""
    app, router, outer = FastAPI(), APIRouter(), APIRouter(prefix="/outer")

    def through(ai: SyncLoopaiDep) -> str:
        return ai.base_url

    @app.post("/direct/{name}")
    async def direct(name: int, ai: LoopaiDep): ...

    @app.get("/none")
    async def none(): ...

    @app.get("/hidden", include_in_schema=False)
    async def hidden(ai: LoopaiDep): ...

    @router.get("/nested")
    def nested(text: str = Depends(through)): ...

    @router.put("/alias")
    async def alias(ai: Annotated[LoopaiClient, Depends(get_loopai_for("eu"))]): ...

    outer.include_router(router, prefix="/inner")
    app.include_router(outer)
    app.include_router(router)
    app.mount("/mounted", FastAPI())
    install_error_handlers(app)
    assert documented(app) == {
        "post /direct/{name}": PROBLEMS,
        "get /none": set(),
        "get /outer/inner/nested": PROBLEMS,
        "put /outer/inner/alias": PROBLEMS,
        "get /nested": PROBLEMS,
        "put /alias": PROBLEMS,
    }
    schema = app.openapi()
    assert schema is app.openapi()
    assert schema["components"]["schemas"]["Problem"]["required"] == ["title", "status", "detail"]
    # FastAPI's own answer to an input that is not valid stays documented beside ours.
    assert "application/json" in schema["paths"]["/direct/{name}"]["post"]["responses"]["422"]["content"]


def test_our_routers_document_what_they_answer_themselves() -> None:
    """They handle what a client raises: of its statuses only those are theirs that they name."""
    app = FastAPI()
    app.include_router(batch_router("echo"))
    app.include_router(health_router())
    install_error_handlers(app)
    assert documented(app) == {
        "post /batch": {"408", "413", "415", "422", "502", "503"},
        "get /health/live": set(),
        "get /health/ready": set(),
    }


class Problem(BaseModel):
    """Homework."""

    question: str


def test_an_application_may_have_a_problem_of_its_own() -> None:
    """Each route's answers have the right one; where it has none, or ours, there is one only."""
    app, same = FastAPI(), FastAPI()

    @app.post("/problems")
    async def solve(problem: Problem, ai: LoopaiDep) -> Problem: ...

    @same.get("/problems", responses={404: {"model": problems.Problem}})
    async def show(ai: LoopaiDep): ...

    install_error_handlers(app)
    install_error_handlers(same)
    operation, models = app.openapi()["paths"]["/problems"]["post"], app.openapi()["components"]["schemas"]
    theirs = operation["responses"]["200"]["content"]["application/json"]["schema"]
    ours = operation["responses"]["404"]["content"]["application/problem+json"]["schema"]
    assert list(models[theirs["$ref"].rpartition("/")[2]]["properties"]) == ["question"]
    assert "detail" in models[ours["$ref"].rpartition("/")[2]]["properties"]
    assert [name for name in same.openapi()["components"]["schemas"] if "Problem" in name] == ["Problem"]


def test_an_application_without_loopai_routes_documents_nothing() -> None:
    """Not even the shape of a problem."""
    app = FastAPI()
    install_error_handlers(app)
    assert "Problem" not in app.openapi().get("components", {}).get("schemas", {})


def test_with_the_fake(loopai_fake) -> None:
    """What users write to test their own answers."""
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def call(ai: LoopaiDep):
        return (await ai.execute("spam", 1)).output

    loopai_fake.task("spam").fails("ZeroDivisionError: division by zero")
    with override_loopai(app, loopai_fake):
        reply = TestClient(app).get("/")
    assert (reply.status_code, reply.json()["title"]) == (502, "Execution failed")


@pytest.mark.parametrize("model", [value for value in vars(models).values() if is_model(value)])
def test_a_model_as_a_route_s_body_does_not_warn(model) -> None:
    """Warnings are errors here; in the answer too, and in the document."""

    async def take(body, many):
        return body

    take.__annotations__.update(body=model, many=list[model])
    app = FastAPI()
    app.post("/one", response_model=model)(take)
    assert app.openapi()["paths"]["/one"]
    assert TestClient(app).post("/one", json={}).status_code == 422
