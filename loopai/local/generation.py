"""A task's first program is made once, however many first executions ask for it at the same time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from .records import Artifact
from .service import ExecutionFailed, Service
from .trainer import Trainer

MOST_REFUSALS = 10_000
"""Tasks of which it is kept that their examples teach nothing."""

SMALL_JOB = 500_000
"""Bytes up to which a training is over in seconds: those do not wait for larger ones."""

SMALL_AT_A_TIME = 2
LARGE_AT_A_TIME = 1


class Generation:
    """Has tasks trained, a few at a time. For one event loop, which it never holds up."""

    def __init__(self, service: Service, trainer: Trainer) -> None:
        self._service = service
        self._trainer = trainer
        # One thread for each that trains, and one to read what the others are to train on.
        self._threads = ThreadPoolExecutor(SMALL_AT_A_TIME + LARGE_AT_A_TIME + 1, thread_name_prefix="loopai-training")
        self._small = asyncio.Semaphore(SMALL_AT_A_TIME)
        self._large = asyncio.Semaphore(LARGE_AT_A_TIME)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[Artifact]] = set()
        self._refusals: dict[str, str] = {}

    async def ensure(self, task_id: str) -> None:
        """Wait until the task has an active program. Raises `ExecutionFailed`."""
        if task_id in self._refusals:
            raise ExecutionFailed(self._refusals[task_id])
        under_way = self._under_way.get(task_id)
        if under_way is None:
            under_way = self._under_way[task_id] = asyncio.create_task(self._generate(task_id))
            under_way.add_done_callback(lambda done: self._finish(task_id, done))
        # The caller may give up; those who wait for the same do not.
        await asyncio.shield(under_way)

    async def next_version(self, task_id: str) -> Artifact:
        """Make the task's next version from its examples. Raises `ExecutionFailed`."""
        made = asyncio.create_task(self._next(task_id))
        self._others.add(made)
        made.add_done_callback(self._others.discard)
        self._refusals.pop(task_id, None)
        return await asyncio.shield(made)

    def forget(self, task_id: str) -> None:
        """The task's examples have changed: what could not be learnt from the earlier ones may be learnt now."""
        self._refusals.pop(task_id, None)

    async def _next(self, task_id: str) -> Artifact:
        run = asyncio.get_running_loop().run_in_executor
        size = await run(self._threads, self._service.examples_size, task_id)
        async with self._small if size <= SMALL_JOB else self._large:
            job = await run(self._threads, partial(self._service.training_job, task_id, again=True))
            return await run(self._threads, self._service.generate_next, task_id, job or b"")

    async def _generate(self, task_id: str) -> None:
        run = asyncio.get_running_loop().run_in_executor
        size = await run(self._threads, self._service.examples_size, task_id)
        async with self._small if size <= SMALL_JOB else self._large:
            job = await run(self._threads, self._service.training_job, task_id)
            if job is not None:
                await run(self._threads, self._service.generate, task_id, job)

    def _finish(self, task_id: str, done: asyncio.Task[None]) -> None:
        del self._under_way[task_id]
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, ExecutionFailed) and len(self._refusals) < MOST_REFUSALS:
            self._refusals[task_id] = str(error)

    async def close(self) -> None:
        """Cut off the training under way; what waits is cancelled."""
        self._trainer.close()
        under_way = [*self._under_way.values(), *self._others]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
