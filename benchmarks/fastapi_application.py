"""The application that the `fastapi` group serves: one execution in several ways. Addresses are in the environment."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from loopai import LoopaiClient
from loopai.contrib.fastapi import LoopaiDep, LoopaiLifespan, LoopaiSettings, cancel_on_disconnect, get_loopai_for

from .peer import TASK_ID

MAIL = {"subject": "You have won", "body": "Claim your prize now: it is waiting for you, and only today."}
PEER = os.environ.get("BENCHMARK_PEER", "http://localhost:8080")
SLOW_PEER = os.environ.get("BENCHMARK_SLOW_PEER", PEER)
PATH = f"/api/v1/tasks/{TASK_ID}/execute"

errors: list[logging.LogRecord] = []


class Errors(logging.Handler):
    """Collects errors logged anywhere."""

    def emit(self, record: logging.LogRecord) -> None:
        errors.append(record)


@asynccontextmanager
async def one_httpx_client(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """As in a careful project without loopai."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=PEER, limits=limits, timeout=60) as client:
        yield {"httpx": client}


gathered = LoopaiSettings(base_url=PEER, coalesce=True)
slow = LoopaiSettings(base_url=SLOW_PEER)
app = FastAPI(
    lifespan=LoopaiLifespan(
        LoopaiSettings(base_url=PEER), aliases={"gathered": gathered, "slow": slow}, inner=one_httpx_client
    )
)
for name in ("", "uvicorn.error", "asyncio"):
    logging.getLogger(name).addHandler(Errors(logging.ERROR))


class Reached:
    """Records each request that reaches the application, by its query."""

    def __init__(self, app: ASGIApp, file: str) -> None:
        self.app = app
        self.file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            os.write(self.file, scope["query_string"] + b"\n")
        await self.app(scope, receive, send)


if "BENCHMARK_REACHED" in os.environ:
    app.add_middleware(Reached, file=os.environ["BENCHMARK_REACHED"])


async def nothing() -> None:
    """A dependency that returns nothing, to measure FastAPI's own cost for one."""


@app.get("/empty")
async def empty(_: Annotated[None, Depends(nothing)]) -> dict[str, str]:
    return {"label": "spam"}


@app.get("/gathered")
async def by_gathering(ai: Annotated[LoopaiClient, Depends(get_loopai_for("gathered"))]) -> dict[str, str]:
    output: dict[str, str] = (await ai.execute(TASK_ID, MAIL)).output
    return output


@app.get("/unused")
async def unused(ai: LoopaiDep) -> dict[str, str]:
    return {"label": "spam"}


@app.get("/default")
async def by_default(ai: LoopaiDep) -> dict[str, str]:
    output: dict[str, str] = (await ai.execute(TASK_ID, MAIL)).output
    return output


@app.get("/one-httpx-client")
async def by_one_client(request: Request) -> dict[str, str]:
    client: httpx.AsyncClient = request.state.httpx
    response = await client.post(PATH, json={"task_id": TASK_ID, "input": MAIL})
    response.raise_for_status()
    output: dict[str, str] = response.json()["output"]
    return output


@app.get("/httpx-client-a-request")
async def by_many_clients() -> dict[str, str]:
    async with httpx.AsyncClient(base_url=PEER, timeout=60) as client:
        response = await client.post(PATH, json={"task_id": TASK_ID, "input": MAIL})
        response.raise_for_status()
        output: dict[str, str] = response.json()["output"]
        return output


@app.get("/slow")
@cancel_on_disconnect
async def slowly(ai: Annotated[LoopaiClient, Depends(get_loopai_for("slow"))]) -> dict[str, str]:
    output: dict[str, str] = (await ai.execute(TASK_ID, MAIL)).output
    return output


@app.get("/held")
async def held(ai: Annotated[LoopaiClient, Depends(get_loopai_for("slow"))]) -> dict[str, int]:
    """What this process holds: upstream requests in flight, sockets, and errors logged so far."""
    in_flight = getattr(ai._transport, "in_flight")  # noqa: B009  # of the pool, which the type of transports hides
    return {"in_flight": in_flight, "sockets": len(os.listdir("/dev/fd")), "errors": len(errors)}
