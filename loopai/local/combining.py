"""`Combiner`: run and record executions of one program that arrive together in one thread.

A thread, a message to the sandbox and a transaction each cost more than a small program.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

from .records import Execution
from .service import Service, Single

Results = list["Execution | Exception"]
Key = tuple[str, "int | None", "int | None"]

MOST_GROUPS = 8
"""Groups at a time for a slow program, so that each execution runs alone."""
MOST_GROUPS_OF_QUICK = 2
"""Groups at a time for a fast program: fewer threads wait less for each other."""


class _Lane:
    def __init__(self) -> None:
        self.waiting: deque[tuple[Single, asyncio.Future[Execution]]] = deque()
        self.draining: set[asyncio.Task[None]] = set()


class Combiner:
    """Groups executions by task, version and time limit, in one event loop.

    `run` runs blocking work in a worker thread; `turn` waits until the task may use one.
    """

    def __init__(
        self,
        service: Service,
        run: Callable[[Callable[[], Results]], Awaitable[Results]],
        turn: Callable[[str], AbstractAsyncContextManager[None]],
    ) -> None:
        self._service = service
        self._run = run
        self._turn = turn
        self._lanes: dict[Key, _Lane] = {}

    async def execute(self, task_id: str, version: int | None, timeout_ms: int | None, single: Single) -> Execution:
        """Run one input. Raises what `Service.execute` raises."""
        key = (task_id, version, timeout_ms)
        lane = self._lanes.setdefault(key, _Lane())
        future: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        lane.waiting.append((single, future))
        quick = self._service.group_size(task_id, version) > 1
        if len(lane.draining) < (MOST_GROUPS_OF_QUICK if quick else MOST_GROUPS):
            task = asyncio.create_task(self._drain(key, lane))
            lane.draining.add(task)
            task.add_done_callback(lane.draining.discard)
        return await future

    async def _drain(self, key: Key, lane: _Lane) -> None:
        task_id, version, _ = key
        while lane.waiting:
            async with self._turn(task_id):
                size = self._service.group_size(task_id, version)
                group: list[tuple[Single, asyncio.Future[Execution]]] = []
                while lane.waiting and len(group) < size:
                    single, future = lane.waiting.popleft()
                    # Its caller may have gone away meanwhile.
                    if not future.done():
                        group.append((single, future))
                if group:
                    await self._run_group(key, group)
        if self._lanes.get(key) is lane:
            del self._lanes[key]

    async def _run_group(self, key: Key, group: list[tuple[Single, asyncio.Future[Execution]]]) -> None:
        task_id, version, timeout_ms = key
        singles = [single for single, _ in group]
        work = partial(self._service.execute_group, task_id, singles, version=version, timeout_ms=timeout_ms)
        results: Results
        try:
            results = await self._run(work)
        except Exception as error:  # noqa: BLE001  # raised to each of those who wait
            results = [error] * len(group)
        except asyncio.CancelledError:
            for _, future in group:
                future.cancel()
            raise
        for (_, future), result in zip(group, results):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def close(self) -> None:
        """Wait until nothing is in progress."""
        await asyncio.gather(*(task for lane in self._lanes.values() for task in lane.draining), return_exceptions=True)
