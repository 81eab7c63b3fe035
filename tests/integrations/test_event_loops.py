"""One asynchronous client in many event loops, one after the other and at once."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest
from asgiref.sync import async_to_sync

from loopai import ConfigurationError, LoopaiClient
from loopai.testing import FakeLoopai

pytestmark = pytest.mark.slow


def test_a_client_works_in_successive_loops(
    server: Any, transport_name: str, task: str, sockets: Callable[[], int]
) -> None:
    """100 calls of `asyncio.run` with one client work, and each loop takes its connections with it."""
    before = sockets()
    client = LoopaiClient(server.url, transport=transport_name)

    async def calls(turn: int) -> list[Any]:
        results = await asyncio.gather(*(client.execute(task, [turn, each]) for each in range(3)))
        return [result.output for result in results]

    for turn in range(100):
        assert asyncio.run(calls(turn)) == [[turn, each] for each in range(3)]
        if transport_name != "pyreqwest":  # its connections belong to no loop, and are used again
            assert sockets() == before
    asyncio.run(client.close())
    server.wait_until(lambda: server.open == 0)
    assert sockets() == before


def test_a_client_works_under_async_to_sync(
    server: Any, transport_name: str, task: str, sockets: Callable[[], int]
) -> None:
    """100 calls of `async_to_sync`, as Django makes them, work and leave no connection behind."""
    before = sockets()
    client = LoopaiClient(server.url, transport=transport_name)

    async def call(turn: int) -> Any:
        return (await client.execute(task, turn)).output

    for turn in range(100):
        assert async_to_sync(call)(turn) == turn
    async_to_sync(client.close)()
    server.wait_until(lambda: server.open == 0)
    assert sockets() == before


def test_a_client_works_in_two_loops_at_once(server: Any, transport_name: str, task: str) -> None:
    """Loops in different threads share a client and get each their own replies."""
    client = LoopaiClient(server.url, transport=transport_name)

    async def calls(loop: int) -> list[Any]:
        return [(await client.execute(task, [loop, turn])).output for turn in range(100)]

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda loop: asyncio.run(calls(loop)), range(2)))
    assert results == [[[loop, turn] for turn in range(100)] for loop in range(2)]
    asyncio.run(client.close())


# asyncio's own warning is right: nobody finalised what the loops still had open.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_loop_that_was_just_closed_does_no_harm(
    server: Any, transport_name: str, task: str, sockets: Callable[[], int]
) -> None:
    """Loops closed without finalising their generators cost a warning; their connections go when the next comes."""
    before = sockets()
    client = LoopaiClient(server.url, transport=transport_name)

    async def call(turn: int) -> Any:
        return (await client.execute(task, turn)).output

    for turn in range(10):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(call(turn)) == turn
        loop.close()
    asyncio.run(call(10))
    asyncio.run(client.close())
    gc.collect()
    server.wait_until(lambda: server.open == 0)
    assert sockets() == before


def test_trio_is_told_what_to_use_instead(tmp_path: Path) -> None:
    """Whatever is called: one sentence, with the synchronous client in a thread, which works."""
    trio = pytest.importorskip("trio")
    task = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
    fake = FakeLoopai()
    fake.task(task).returns("ok")
    client = LoopaiClient("http://127.0.0.1:9")

    async def entered() -> None:
        async with client:
            pass

    async def streamed() -> None:
        async for _ in client.batch_stream(task, [1]):
            pass

    calls: dict[str, Callable[[], Any]] = {
        "execute": lambda: client.execute(task, 1),
        "execute, coalesced": lambda: LoopaiClient("http://127.0.0.1:9", coalesce=True).execute(task, 1),
        "batch_execute": lambda: client.batch_execute(task, [1]),
        "batch_stream": streamed,
        "run_batch": lambda: client.run_batch(task, [1], tmp_path / "out.jsonl"),
        "bound": lambda: client.bind(task, input=int, output=str)(1),
        "load_program": lambda: client.load_program(task),
        "async with": entered,
        "close": client.close,
    }

    async def call_each() -> None:
        for name, call in calls.items():
            with pytest.raises(ConfigurationError) as raised:
                await call()
            assert "under trio use SyncLoopaiClient in a thread" in str(raised.value), name
        result = await trio.to_thread.run_sync(fake.client().execute, task, 1)
        assert result.output == "ok"

    trio.run(call_each)
