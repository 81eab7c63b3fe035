"""The clients the contract suite runs on: in process and over a socket, asynchronous and synchronous, by transport.

With `LOOPAI_CONTRACT_URL` set, the suite runs against the server there and over a socket only: how an interpreter too
old for the embedded server is tested, and a published server, which gets its programs from the stub at
`--generator-port`. What a test marked `addition` needs, a published server does not have.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from loopai import LoopaiClient, SyncLoopaiClient

from .generator import generating

SERVER_URL = os.environ.get("LOOPAI_CONTRACT_URL")
TRANSPORTS = [name for name in ("httpx", "httpx2", "pyreqwest") if importlib.util.find_spec(name) is not None]
WAYS = [f"socket-{name}" for name in TRANSPORTS] + ([] if SERVER_URL else ["in-process"])

PROGRAM = """
def main(input):
    text = input["text"]
    if text == "raise":
        raise ValueError("asked to fail")
    if text == "loop":
        while True:
            pass
    if text == "null":
        return None
    return {"label": "spam" if "prize" in text else "ham"}
"""

TYPESCRIPT = """
interface Mail { text: string }
export async function main(input: Mail): Promise<{label: string} | null> {
  if (input.text === "raise") throw new Error("asked to fail");
  if (input.text === "loop") for (;;);
  if (input.text === "null") return null;
  return { label: input.text.includes("prize") ? "spam" : "ham" };
}
"""
"""`PROGRAM` for a published server, which runs TypeScript."""


class Calls:
    """One face for both clients: every method is awaited, and a synchronous one runs in a thread."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        async def run(*args: Any, **options: Any) -> Any:
            if inspect.iscoroutinefunction(method):
                return await method(*args, **options)
            return await asyncio.to_thread(method, *args, **options)

        return run


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    if SERVER_URL:
        yield SERVER_URL
        return
    if sys.version_info < (3, 10):
        pytest.skip("the embedded server needs Python 3.10: set LOOPAI_CONTRACT_URL to a running one")
    from loopai import local

    with local.running() as server:
        yield server.base_url


@pytest.fixture(scope="session")
def published(server_url: str) -> bool:
    """Whether the server is a published one, without the additions of the embedded server."""
    return bool(SERVER_URL) and httpx.get(f"{server_url}/api/v1/tasks").status_code in {404, 405, 501}


@pytest.fixture(scope="session", autouse=True)
def generator(request: pytest.FixtureRequest) -> Iterator[None]:
    """The stub of the generator service, where a port for it is given."""
    port = request.config.getoption("--generator-port")
    if port is None:
        yield
        return
    with generating(port):
        yield


@pytest.fixture(autouse=True)
def has_additions(request: pytest.FixtureRequest) -> None:
    """Skip a test that needs an addition where the server has none."""
    mark = request.node.get_closest_marker("addition")
    if mark is not None and SERVER_URL and request.getfixturevalue("published"):
        pytest.skip(f"needs an addition of the embedded server: {mark.args[0]}")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    way: str = request.param
    return way


@pytest.fixture(params=["async", "sync"])
async def calls(request: pytest.FixtureRequest, way: str, server_url: str) -> AsyncIterator[Calls]:
    where: dict[str, Any] = (
        {"local": True} if way == "in-process" else {"base_url": server_url, "transport": way.partition("-")[2]}
    )
    if request.param == "async":
        async with LoopaiClient(**where) as client:
            yield Calls(client)
    else:
        with SyncLoopaiClient(**where) as sync_client:
            yield Calls(sync_client)


@pytest.fixture
def name() -> str:
    return f"task-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def task(request: pytest.FixtureRequest, calls: Calls, name: str) -> Any:
    """A task with a program of our own as its active version."""
    published = bool(SERVER_URL) and request.getfixturevalue("published")
    made = await calls.create_task(
        name,
        f"CODE:{TYPESCRIPT}" if published else "Label a message",
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        {"type": "object", "properties": {"label": {"enum": ["spam", "ham"]}}},
        sampling_rate=0.0,
    )
    if published:
        await calls.execute(made.id, {"text": "lunch"})  # which has the server ask for a program
    else:
        await calls.push_program(made.id, PROGRAM)
    return made
