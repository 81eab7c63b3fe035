"""`Combiner`: run and record executions of one program that arrive together in one thread.

A thread, a message to the sandbox and a transaction each cost more than a small program.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial

from .records import Execution
from .service import Service, Single

Results = list["Execution | Exception"]
Key = tuple[str, "int | None", "int | None"]

MOST_GROUPS = 8
"""Concurrent groups for a slow program, so that each execution runs alone."""
GROUPED_AT_ONCE = 16
"""Executions in all groups of a program together: a fast program has one large group at a time."""

OVERDUE_SECONDS = 0.05
"""Seconds that a group may take before another one runs beside it."""


class _Lane:
    def __init__(self) -> None:
        self.waiting: deque[tuple[Single, asyncio.Future[Execution]]] = deque()
        self.draining: set[asyncio.Task[None]] = set()
        self.most_groups = MOST_GROUPS
        self.overdue = 0


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
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane()
            self._size(key, lane)
        future: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        lane.waiting.append((single, future))
        self._start(key, lane)
        return await future

    def _start(self, key: Key, lane: _Lane) -> None:
        if len(lane.draining) < min(MOST_GROUPS, lane.most_groups + lane.overdue):
            task = asyncio.create_task(self._drain(key, lane))
            lane.draining.add(task)
            task.add_done_callback(lane.draining.discard)

    @contextmanager
    def _relieved(self, key: Key, lane: _Lane) -> Iterator[None]:
        """Let another group run beside a slow one, since the program may loop on an input."""
        is_overdue = False

        def relieve() -> None:
            nonlocal is_overdue
            is_overdue = True
            lane.overdue += 1
            self._start(key, lane)

        timer = asyncio.get_running_loop().call_later(OVERDUE_SECONDS, relieve)
        try:
            yield
        finally:
            timer.cancel()
            lane.overdue -= is_overdue

    def _size(self, key: Key, lane: _Lane) -> int:
        """Current number of executions per group, which determines the number of groups."""
        size = self._service.group_size(*key[:2])
        lane.most_groups = max(1, min(MOST_GROUPS, GROUPED_AT_ONCE // size))
        return size

    async def _drain(self, key: Key, lane: _Lane) -> None:
        while lane.waiting:
            async with self._turn(key[0]):
                size = self._size(key, lane)
                # Let waiting requests join: a thread and a transaction cost more than an execution.
                waited_for = 0
                while waited_for < len(lane.waiting) < size:
                    waited_for = len(lane.waiting)
                    await asyncio.sleep(0)
                group: list[tuple[Single, asyncio.Future[Execution]]] = []
                while lane.waiting and len(group) < size:
                    single, future = lane.waiting.popleft()
                    # Its caller may have gone away meanwhile.
                    if not future.done():
                        group.append((single, future))
                if group:
                    with self._relieved(key, lane):
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
        except Exception as error:  # noqa: BLE001  # raised to each waiting caller
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
