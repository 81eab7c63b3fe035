"""What type checkers must see of the public surface; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Optional
from uuid import UUID

import httpx
from pydantic import BaseModel
from typing_extensions import assert_type

from loopai import (
    NOT_GIVEN,
    BatchExecuteResponse,
    BoundTask,
    ExecutionResult,
    HealthResponse,
    LoopaiClient,
    ProgramArtifact,
    SyncBoundTask,
    SyncLoopaiClient,
    Task,
)
from loopai.models import CanaryDeployment, ReplyInfo, ReplyList


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
        assert_type(client.with_options(timeout=1), LoopaiClient)
        await client.batch_execute_advanced(task_id="spam", items=[{"id": "a", "input": 1}])
    LoopaiClient(timeout=NOT_GIVEN, http_client=httpx.AsyncClient())


def synchronous() -> None:
    with SyncLoopaiClient.local() as client:
        assert_type(client, SyncLoopaiClient)
        assert_type(client.execute("spam", {"subject": "x"}), ExecutionResult)
        classify = client.bind("spam", input=Email, output=Verdict)
        assert_type(classify, SyncBoundTask[Email, Verdict])
        assert_type(classify(Email(subject="x")), Verdict)
        classify("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # an Email is due
        client.execute("spam")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # the input is missing
        client.create_task("n")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # schemas are missing
    SyncLoopaiClient(timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # seconds are a number
    SyncLoopaiClient(http_client=httpx.AsyncClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # not a sync one
