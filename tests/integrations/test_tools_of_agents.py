"""A bound task is a tool as it stands, to the libraries that agents are made with."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from loopai.testing import FakeLoopai

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of theirs are not ours


class Mail(BaseModel):
    text: str


class Verdict(BaseModel):
    label: str


GIVEN = {"value": {"text": "Free money"}}
SPAM = Verdict(label="spam")


@pytest.fixture(params=["sync", "async"])
def bound(request: pytest.FixtureRequest) -> Any:
    fake = FakeLoopai()
    fake.task("spam filter").returns({"label": "spam"})
    client: Any = fake.client() if request.param == "sync" else fake.async_client()
    return client.bind("spam filter", input=Mail, output=Verdict)


def test_langchain(bound: Any) -> None:
    """`tool(bound)`, called in its loop or without one."""
    tools = pytest.importorskip("langchain_core.tools")
    tool = tools.tool(bound)
    assert tool.name == "spam_filter"
    assert "spam filter" in tool.description
    asynchronous = asyncio.iscoroutinefunction(bound.function)
    assert (asyncio.run(tool.ainvoke(GIVEN)) if asynchronous else tool.invoke(GIVEN)) == SPAM


def test_fastmcp(bound: Any) -> None:
    """`server.tool(bound)`."""
    fastmcp = pytest.importorskip("fastmcp")
    server = fastmcp.FastMCP("test")
    server.tool(bound)

    async def call() -> Any:
        async with fastmcp.Client(server) as client:
            (tool,) = await client.list_tools()
            return tool, await client.call_tool(tool.name, GIVEN)

    tool, result = asyncio.run(call())
    assert tool.name == "spam_filter"
    assert result.structured_content == {"label": "spam"}


def test_pydantic_ai(bound: Any) -> None:
    """`Agent(tools=[bound])`."""
    pydantic_ai = pytest.importorskip("pydantic_ai")
    models = pytest.importorskip("pydantic_ai.models.test")
    agent = pydantic_ai.Agent(models.TestModel(), tools=[bound])
    # Not `run_sync`, which leaves an event loop open.
    assert asyncio.run(agent.run("Is it spam?")).output == '{"spam_filter":{"label":"spam"}}'


def test_llama_index(bound: Any) -> None:
    """`FunctionTool.from_defaults(bound)`."""
    tools = pytest.importorskip("llama_index.core.tools")
    asynchronous = asyncio.iscoroutinefunction(bound.function)
    tool = tools.FunctionTool.from_defaults(**({"async_fn": bound} if asynchronous else {"fn": bound}))
    assert tool.metadata.name == "spam_filter"
    mail = Mail(text="Free money")
    made = asyncio.run(tool.acall(value=mail)) if asynchronous else tool.call(value=mail)
    assert made.raw_output == SPAM
