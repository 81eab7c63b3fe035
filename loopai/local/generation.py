"""A task's first program is made once, however many first executions ask for it at the same time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from .service import ExecutionFailed, Service

MOST_REFUSALS = 10_000
"""Tasks of which it is remembered that their examples teach nothing; tasks never change."""


class Generation:
    """Trains in one thread of its own, one task at a time, so that executions go on meanwhile."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loopai-training")
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._refusals: dict[str, str] = {}

    async def ensure(self, task_id: str) -> None:
        """Wait until the task has an active program. Raises `ExecutionFailed`."""
        if task_id in self._refusals:
            raise ExecutionFailed(self._refusals[task_id])
        under_way = self._under_way.get(task_id)
        if under_way is None:
            under_way = asyncio.get_running_loop().run_in_executor(self._thread, self._service.generate, task_id)
            self._under_way[task_id] = under_way
            under_way.add_done_callback(lambda done: self._finish(task_id, done))
        # The caller may give up; those who wait for the same do not.
        await asyncio.shield(under_way)

    def _finish(self, task_id: str, done: asyncio.Future[None]) -> None:
        del self._under_way[task_id]
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, ExecutionFailed) and len(self._refusals) < MOST_REFUSALS:
            self._refusals[task_id] = str(error)

    def close(self) -> None:
        """Let the training under way end; what waits for the thread is cancelled."""
        self._thread.shutdown(wait=True, cancel_futures=True)
