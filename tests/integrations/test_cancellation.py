"""Calls cancelled at random moments give back what they held."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any, Callable

import pytest

from loopai import LoopaiClient


@pytest.mark.skipif(
    sys.version_info < (3, 10),
    reason="anyio's last release for Python 3.9 loses a connection when it is cancelled in the moment it is made",
)
@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
async def test_cancelled_calls_leave_nothing_in_flight_and_no_socket(
    make_server: Any, transport_name: str, task: str, body_of: Any, sockets: Callable[[], int], rounds: int
) -> None:
    """Of 1,000 calls half are cancelled: queued, connecting, sent, half read. After each round all places are free."""
    chance = random.Random(7)

    async def behaviour(asked: Any, wire: Any) -> None:
        await asyncio.sleep(chance.random() * 0.004)
        body = body_of(asked.input)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        await wire.send(head + body[:20])
        await asyncio.sleep(chance.random() * 0.002)
        await wire.send(body[20:])

    server = make_server(behaviour)
    before = sockets()
    async with LoopaiClient(server.url, transport=transport_name, max_connections=50, max_retries=0) as client:
        pool: Any = client._transport
        for _ in range(rounds):
            calls = [asyncio.ensure_future(client.execute(task, turn)) for turn in range(1000)]
            doomed = chance.sample(range(1000), 500)
            for place in doomed:
                asyncio.get_running_loop().call_later(chance.random() * 0.15, calls[place].cancel)
            results = await asyncio.gather(*calls, return_exceptions=True)
            cancelled = sum(isinstance(each, asyncio.CancelledError) for each in results)
            assert 100 < cancelled <= 500
            assert [each.output for each in results if not isinstance(each, asyncio.CancelledError)] == [
                turn for turn in range(1000) if not isinstance(results[turn], asyncio.CancelledError)
            ]
            assert pool.in_flight == 0
            # pyreqwest closes in a thread of its own what a cancelled call had open.
            server.wait_until(lambda: sockets() <= before + 50)
            # Every place is free: as many calls as there are connections are under way at once.
            again = await asyncio.gather(*(client.execute(task, turn) for turn in range(50)))
            assert [each.output for each in again] == list(range(50))
        # The server notices a moment later that a connection was dropped: by then its place has a new one.
        assert server.most_in_flight <= 2 * 50
    server.wait_until(lambda: server.open == 0)
    assert sockets() == before
