"""What type checkers must see of the FastAPI integration; checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Optional

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from typing_extensions import assert_type

from loopai import ExecutionResult, LoopaiClient, SyncLoopaiClient, WebhookEvent
from loopai.contrib.fastapi import (
    LoopaiDep,
    LoopaiLifespan,
    LoopaiSettings,
    SyncLoopaiDep,
    WebhookEventDep,
    batch_router,
    cancel_on_disconnect,
    get_loopai_for,
    health_router,
    install_error_handlers,
    webhook_router,
)
from loopai.contrib.fastapi.testing import override_loopai
from loopai.testing import FakeLoopai


class Email(BaseModel):
    text: str


def on_event(event: WebhookEvent) -> None:
    if event.event_type == "canaryRollback":
        print(event.task_id)


app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(timeout=5), aliases={"other": LoopaiClient()}))
install_error_handlers(app)
assert_type(batch_router("spam", input=Email, mapping=["text=body"], keep=["id"], max_errors="5%"), APIRouter)
batch_router("spam", chunk_sise=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
batch_router("spam", chunk_size="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
app.include_router(webhook_router("secret", on_event))
app.include_router(health_router())
OtherDep = Annotated[LoopaiClient, Depends(get_loopai_for("other"))]


@app.post("/check")
@cancel_on_disconnect
async def check(email: Email, ai: LoopaiDep, other: OtherDep) -> Optional[str]:
    assert_type(ai, LoopaiClient)
    assert_type(other, LoopaiClient)
    result = await ai.execute("spam", email)
    assert_type(result, ExecutionResult)
    return str(result.output)


@app.post("/sync")
def check_in_a_thread(email: Email, ai: SyncLoopaiDep) -> str:
    assert_type(ai, SyncLoopaiClient)
    return str(ai.execute("spam", email).output)


@app.post("/hook")
async def hook(event: WebhookEventDep) -> None:
    assert_type(event, WebhookEvent)


def test(fake: FakeLoopai) -> None:
    with override_loopai(app, fake, "other") as answering:
        assert_type(answering, FakeLoopai)
    assert_type(fake.client(timeout=5), SyncLoopaiClient)
    assert_type(fake.async_client(coalesce=True), LoopaiClient)


def wrong(handler: Callable[[str], None], fake: FakeLoopai) -> None:
    batch_router("spam", chunksize=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    webhook_router("secret", handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # takes an event
    LoopaiLifespan(aliases={"other": 5})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    fake.client(timeot=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
