"""What type checkers must see of the clients; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Literal, Optional, Union
from uuid import UUID

import httpx
from pydantic import BaseModel
from typing_extensions import Unpack, assert_type

from loopai import (
    NOT_GIVEN,
    BatchExecuteResponse,
    BoundTask,
    CanaryDeployment,
    ClientOptions,
    ConnectionException,
    EdgeProgram,
    ExecutionResult,
    HealthResponse,
    LoopaiClient,
    ProgramArtifact,
    ReplyInfo,
    ReplyList,
    SyncBoundTask,
    SyncEdgeProgram,
    SyncLoopaiClient,
    Task,
    WebhookDelivery,
    WebhookEvent,
)


class Email(BaseModel):
    subject: str


class Verdict(BaseModel):
    label: str


async def asynchronous() -> None:
    async with LoopaiClient("http://localhost:8080", None, 5.0, None, deadline=10, http_client=None) as client:
        assert_type(client, LoopaiClient)
        assert_type(client.base_url, str)
        assert_type(client.api_key, Optional[str])
        assert_type(client.timeout, Optional[float])
        assert_type(client.max_retries, Optional[int])
        assert_type(await client.create_task("n", "d", Email, {"type": "string"}), Task)
        assert_type(await client.create_task("n", "d", {}, {}, wait=True, on_progress=print), Task)
        assert_type(await client.generate("n"), ProgramArtifact)
        assert_type(await client.generate("n", on_progress=print), ProgramArtifact)
        assert_type(await client.generate("n", wait=False), Task)
        result = await client.execute("spam", Email(subject="x"), timeout_ms=5, raise_on_error=False)
        assert_type(result, ExecutionResult)
        assert_type(result.id, Optional[UUID])
        assert_type(result.reply, Optional[ReplyInfo])
        assert_type(await client.batch_execute(UUID(int=0), [1, "a"]), BatchExecuteResponse)
        assert_type(await client.list_artifacts("spam"), ReplyList[ProgramArtifact])
        assert_type(await client.get_canary("spam"), Optional[CanaryDeployment])
        assert_type(await client.get_health(), HealthResponse)
        classify = client.bind("spam", input=Email, output=Verdict)
        assert_type(classify, BoundTask[Email, Verdict])
        assert_type(await classify(Email(subject="x")), Verdict)
        assert_type(client.with_options(timeout=1, deadline=None, headers={"x-team": "ml"}), LoopaiClient)
        assert_type(await client.load_program("spam"), EdgeProgram)
        assert_type(await client.get_webhook_history(UUID(int=0)), ReplyList[WebhookDelivery])
        await client.subscribe_webhook("https://hooks.test", ["canaryRollback", 3])
        await client.batch_execute_advanced(task_id="spam", items=[{"id": "a", "input": 1}])
    LoopaiClient(timeout=NOT_GIVEN, http_client=httpx.AsyncClient())
    LoopaiClient(transport="pyreqwest")


def synchronous() -> None:
    with SyncLoopaiClient.local() as client:
        assert_type(client, SyncLoopaiClient)
        assert_type(client.execute("spam", {"subject": "x"}), ExecutionResult)
        classify = client.bind("spam", input=Email, output=Verdict)
        assert_type(classify, SyncBoundTask[Email, Verdict])
        assert_type(classify(Email(subject="x")), Verdict)
        assert_type(client.load_program("spam"), SyncEdgeProgram)
        labels = client.bind("spam", input=str, output=Literal["spam", "ham"])
        assert_type(labels, SyncBoundTask[str, Literal["spam", "ham"]])
        assert_type(labels("Lunch?"), Literal["spam", "ham"])
        either = client.bind("spam", input=Union[Email, str], output=Union[Verdict, None])
        assert_type(either, SyncBoundTask[Union[Email, str], Optional[Verdict]])
        assert_type(either("Lunch?"), Optional[Verdict])
        assert_type(client.bind("spam", input=dict[str, str], output=list[int])({}), list[int])
        if labels("Lunch?") == "spma":  # type: ignore[comparison-overlap]  # pyright: ignore[reportUnnecessaryComparison]
            return
        labels(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a text is due
        classify("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # an Email is due
        client.execute("spam")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # the input is missing
        client.create_task("n")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # schemas are missing
    SyncLoopaiClient(timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # seconds are a number
    SyncLoopaiClient(http_client=httpx.AsyncClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # not a sync one
    SyncLoopaiClient(transport="pyrequest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    LoopaiClient(transport="pyrequest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.with_options(timeot=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.with_options(base_url="http://x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # belongs to the connections
    client.with_options(timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SyncLoopaiClient.local(max_retires=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    LoopaiClient.local(max_retires=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.subscribe_webhook("https://hooks.test", ["canaryRolback"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


def wrapped(**options: Unpack[ClientOptions]) -> SyncLoopaiClient:
    """A function of the user's that passes options on."""
    return SyncLoopaiClient.local("data", **options)


def read(result: ExecutionResult, event: WebhookEvent, error: ConnectionException) -> None:
    """What a server sends may be any text, as a newer one may send what is not known here."""
    assert_type(result.status, Union[Literal["success", "error", "timeout"], str])
    assert_type(error.retryable, bool)
    if result.status == "cancelled" or event.event_type in {"taskArchived", 6}:
        return
