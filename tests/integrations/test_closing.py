"""Who closes what, and what becomes of calls made then or later."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, Callable

import pytest

from loopai import LoopaiClient, SyncLoopaiClient


async def test_closing_twice_is_no_error(server: Any, make_caller: Any, task: str) -> None:
    """`close` may be called again, and closes the connections the first time."""
    client = make_caller(server)
    await client.execute(task, "x")
    await client.close()
    await client.close()
    server.wait_until(lambda: server.open == 0)


async def test_closing_lets_calls_under_way_finish(make_server: Any, make_caller: Any, task: str, body_of: Any) -> None:
    """A call under way at `close` ends as it would have, and its connection is closed then."""
    gates: list[asyncio.Event] = []

    async def behaviour(asked: Any, wire: Any) -> None:
        gates.append(asyncio.Event())
        await gates[-1].wait()
        await wire.answer(body_of(asked.input))

    server = make_server(behaviour)
    client = make_caller(server)
    calls = [asyncio.ensure_future(client.execute(task, turn)) for turn in range(3)]
    await asyncio.to_thread(server.wait_until, lambda: server.in_flight == 3)
    await client.close()
    for gate in gates:
        server._loop.call_soon_threadsafe(gate.set)
    results = await asyncio.gather(*calls)
    assert [each.output for each in results] == [0, 1, 2]
    server.wait_until(lambda: server.open == 0)


async def test_a_closed_client_says_so(server: Any, make_caller: Any, task: str) -> None:
    """A call on a client that was closed raises before anything is sent."""
    client = make_caller(server)
    await client.close()
    with pytest.raises(RuntimeError, match="closed: make a new"):
        await client.execute(task, "x")
    assert server.asked == []


async def test_a_changed_copy_shares_the_connections(server: Any, make_caller: Any, task: str) -> None:
    """`with_options` opens no connection of its own, and closing the copy leaves them to the client."""
    client = make_caller(server)
    await client.execute(task, 1)
    copy = type(client)(client.client.with_options(timeout=5))
    assert (await copy.execute(task, 2)).output == 2
    await copy.close()
    with pytest.raises(RuntimeError, match="closed"):
        await copy.execute(task, 3)
    assert (await client.execute(task, 4)).output == 4
    assert server.accepted == 1


async def test_a_copy_of_a_closed_client_says_so(server: Any, make_caller: Any, task: str) -> None:
    """The connections are the client's: a copy made before it was closed cannot use them any more."""
    client = make_caller(server)
    await client.execute(task, 1)
    copy = type(client)(client.client.with_options(timeout=5))
    await client.close()
    with pytest.raises(RuntimeError, match="closed: make a new"):
        await copy.execute(task, 2)


async def test_a_client_that_nobody_closed_leaves_no_socket(
    server: Any, transport_name: str, task: str, sockets: Callable[[], int]
) -> None:
    """Collected without `close`, a client's connections go with it, and nothing warns."""
    before = sockets()
    await LoopaiClient(server.url, transport=transport_name).execute(task, 1)
    SyncLoopaiClient(server.url, transport=transport_name).execute(task, 2)
    gc.collect()
    await asyncio.to_thread(server.wait_until, lambda: server.open == 0)
    gc.collect()
    assert sockets() == before
