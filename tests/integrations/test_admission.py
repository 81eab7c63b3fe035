"""Never more requests in flight than connections, and what waiting for one costs."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from loopai import TimeoutException


async def test_calls_beyond_the_connections_wait_their_turn(
    make_server: Any, make_caller: Any, transport_name: str, task: str, body_of: Any
) -> None:
    """Ten times as many calls as connections all succeed, and the server never sees more than `max_connections`."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await asyncio.sleep(0.005)
        await wire.answer(body_of(asked.input))

    server = make_server(behaviour)
    client = make_caller(server, max_connections=10)
    results = await asyncio.gather(*(client.execute(task, turn) for turn in range(100)))
    assert [each.output for each in results] == list(range(100))
    assert server.most_in_flight <= 10
    if transport_name != "pyreqwest":  # which may connect ahead, before the last reply's connection is idle again
        assert server.accepted <= 10
    assert max(each.reply.queued for each in results) > 0


async def test_waiting_for_a_connection_does_not_count_to_timeout(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """Six calls of 0.3 s on one connection all keep a `timeout` of 1.5 s, which counts from admission."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await asyncio.sleep(0.3)
        await wire.answer(body_of(asked.input))

    client = make_caller(make_server(behaviour), max_connections=1, timeout=1.5)
    results = await asyncio.gather(*(client.execute(task, turn) for turn in range(6)))
    assert sum(each.reply.queued > 0.25 for each in results) == 5
    assert max(each.reply.elapsed for each in results) > 1.5


async def test_waiting_for_a_connection_counts_to_the_deadline(make_server: Any, make_caller: Any, task: str) -> None:
    """A call that gets no connection in time ends with its deadline, says so, and sends nothing."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await wire.hang()

    server = make_server(behaviour)
    client = make_caller(server, max_connections=1, timeout=2.0)
    hurried = type(client)(client.client.with_options(deadline=0.4))
    first = asyncio.ensure_future(client.execute(task, 0))
    await asyncio.to_thread(server.wait_until, lambda: server.in_flight == 1)
    began = time.monotonic()
    results = await asyncio.gather(*(hurried.execute(task, turn) for turn in range(3)), return_exceptions=True)
    assert 0.3 < time.monotonic() - began < 1.2
    for each in results:
        assert isinstance(each, TimeoutException)
        assert re.search(
            r"deadline of 0\.4 s: 1 attempt in 0\.4\d s, of which 0\.4\d s waiting for a conn", each.message
        )
    with pytest.raises(TimeoutException, match=r"timeout of 2 s: .* 0\.00 s waiting for a connection"):
        await first
    assert len(server.asked) == 1


async def test_a_call_that_timed_out_gives_its_place_to_the_next(
    make_server: Any, make_caller: Any, task: str, body_of: Any
) -> None:
    """After faults and timeouts every place is free again."""

    async def behaviour(asked: Any, wire: Any) -> None:
        if asked.input == "hang":
            await wire.hang()
        elif asked.input == "reset":
            wire.reset()
        else:
            await wire.answer(body_of(asked.input))

    client = make_caller(make_server(behaviour), max_connections=2, timeout=0.3)
    for _ in range(2):
        asked = ["hang", "reset", "hang", "reset"]
        failed = await asyncio.gather(*(client.execute(task, each) for each in asked), return_exceptions=True)
        assert all(isinstance(each, Exception) for each in failed)
    results = await asyncio.gather(*(client.execute(task, turn) for turn in range(8)))
    assert [each.output for each in results] == list(range(8))


@pytest.mark.parametrize("size", [1, 3])
async def test_a_place_is_not_lost_when_its_waiter_is_cancelled(
    make_server: Any, make_caller: Any, task: str, body_of: Any, size: int
) -> None:
    """A call cancelled while it waits leaves the queue; those behind it still get their turn."""

    async def behaviour(asked: Any, wire: Any) -> None:
        await asyncio.sleep(0.02)
        await wire.answer(body_of(asked.input))

    client = make_caller(make_server(behaviour), max_connections=size)
    calls = [asyncio.ensure_future(client.execute(task, turn)) for turn in range(12)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in calls[4:8]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [each.output for each in results[:4] + results[8:]] == [0, 1, 2, 3, 8, 9, 10, 11]
