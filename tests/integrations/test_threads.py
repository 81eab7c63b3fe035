"""One synchronous client in many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loopai import SyncLoopaiClient

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("max_connections", [4, 100])
def test_threads_share_a_client(server: Any, transport_name: str, task: str, max_connections: int) -> None:
    """16 threads with 200 calls each get each their own replies, over at most `max_connections` connections."""
    with SyncLoopaiClient(server.url, transport=transport_name, max_connections=max_connections) as client:

        def work(thread: int) -> list[Any]:
            return [client.execute(task, [thread, turn]).output for turn in range(200)]

        with ThreadPoolExecutor(16) as threads:
            results = list(threads.map(work, range(16)))
    assert results == [[[thread, turn] for turn in range(200)] for thread in range(16)]
    # pyreqwest may connect ahead, before the last reply's connection is idle again.
    ahead = 2 if transport_name == "pyreqwest" else 1
    assert server.accepted <= min(16, max_connections) * ahead
    assert server.most_in_flight <= min(16, max_connections)
