"""When programs are made: a task's first one at once, and only once for all requests; later ones in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from .records import Artifact, Progress
from .service import Abandoned, ExecutionFailed
from .trainer import Told, Trainer
from .versions import Versions

MOST_REFUSALS = 10_000
"""Most failed tasks that are remembered."""

SMALL_JOB = 500_000
"""Examples up to this size in bytes train within seconds: they do not wait for larger ones."""

SMALL_AT_A_TIME = 2
LARGE_AT_A_TIME = 1

PATIENCE_SECONDS = 25.0
"""Seconds that an execution waits for its program before the client must retry: less than clients wait for a reply."""

WAITING = "waiting for other programs to be made"
"""The stage before the first one."""


class StillGenerating(Abandoned):
    """The program is not made yet, and nothing was executed: retry later."""

    code = "GENERATING"


class _Making:
    """A program that is being made, by `task`. It is `outdated` once the examples have changed."""

    def __init__(self, work: Callable[[Told], Coroutine[Any, Any, Artifact | None]]) -> None:
        self.began = time.monotonic()
        self.stage = WAITING
        self.outdated = False
        self.task = asyncio.create_task(work(self._tell))

    def _tell(self, stage: str) -> None:
        self.stage = stage

    @property
    def progress(self) -> Progress:
        return Progress(self.stage, time.monotonic() - self.began)


class Generation:
    """Trains tasks, a few at a time. For one event loop, which it never blocks.

    `patience` is how many seconds an execution waits.
    """

    def __init__(self, versions: Versions, trainer: Trainer, patience: float = PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._versions = versions
        self._trainer = trainer
        # One thread for each training, and one that reads the data for the next.
        self._threads = ThreadPoolExecutor(SMALL_AT_A_TIME + LARGE_AT_A_TIME + 1, thread_name_prefix="loopai-training")
        self._small = asyncio.Semaphore(SMALL_AT_A_TIME)
        self._large = asyncio.Semaphore(LARGE_AT_A_TIME)
        self._first: dict[str, _Making] = {}
        self._next: dict[str, _Making] = {}
        self._refusals: dict[str, str] = {}
        # New tasks that no request waits for yet: trained one after the other, after those that requests wait for.
        self._created: dict[str, float] = {}
        self._background: asyncio.Task[None] | None = None

    def start(self, task_id: str) -> None:
        """Begin to make the task's first program, without waiting."""
        self._created[task_id] = time.monotonic()
        if self._background is None:
            self._background = asyncio.create_task(self._make_created())

    def withdraw(self, task_id: str) -> None:
        """Record that the task has a program: one that no request waits for is not made."""
        self._created.pop(task_id, None)

    def progress(self, task_id: str) -> Progress | None:
        """Return what is being made for the task; `None` if nothing is."""
        making = self._next.get(task_id) or self._first.get(task_id)
        if making is not None:
            return making.progress
        began = self._created.get(task_id)
        return None if began is None else Progress(WAITING, time.monotonic() - began)

    async def ensure(self, task_id: str) -> None:
        """Wait until the task has an active program. Raises `ExecutionFailed`, `StillGenerating`."""
        if task_id in self._refusals:
            raise ExecutionFailed(self._refusals[task_id])
        making = self._next.get(task_id) or self._first_of(task_id)
        # The caller may give up, but others may wait for the same program.
        done, _ = await asyncio.wait({making.task}, timeout=self._patience)
        if not done:
            now = making.progress
            raise StillGenerating(f"The task's program is still being made: {now.stage}, since {now.seconds:.0f} s")
        made = making.task.result()
        if made is not None and made.status == "draft":
            run = asyncio.get_running_loop().run_in_executor
            raise ExecutionFailed(await run(self._threads, self._versions.why_draft, made))

    async def next_version(self, task_id: str) -> Artifact:
        """Make the task's next version from its examples. Raises `ExecutionFailed`."""
        made = await asyncio.shield(self.start_next(task_id))
        if made is None:
            raise ExecutionFailed("No version was made")
        return made

    def start_next(self, task_id: str) -> asyncio.Task[Artifact | None]:
        """Begin to make the task's next version, unless one is being made from the same examples."""
        self._refusals.pop(task_id, None)
        if task_id in self._created:
            self._first_of(task_id)
        before = self._next.get(task_id) or self._first.get(task_id)
        making = self._next[task_id] = _Making(partial(self._make_after, task_id, before))

        def finish(done: asyncio.Task[Artifact | None]) -> None:
            if self._next.get(task_id) is making:
                del self._next[task_id]
            if not done.cancelled():
                done.exception()  # the task shows it, if no request waits

        making.task.add_done_callback(finish)
        return making.task

    def reconsider(self, task_id: str) -> None:
        """Forget why there was no program: another version is active, or none."""
        self._refusals.pop(task_id, None)

    def forget(self, task_id: str) -> None:
        """Forget why nothing could be learnt: the task's examples have changed."""
        self._refusals.pop(task_id, None)
        for making in (self._first.get(task_id), self._next.get(task_id)):
            if making is not None:
                making.outdated = True

    def _first_of(self, task_id: str) -> _Making:
        self._created.pop(task_id, None)
        making = self._first.get(task_id)
        if making is None:
            making = self._first[task_id] = _Making(partial(self._make, task_id, self._make_first))
            making.task.add_done_callback(lambda done: self._finish(task_id, done))
        return making

    async def _make_created(self) -> None:
        while self._created:
            task_id = next(iter(self._created))
            await asyncio.wait({self._first_of(task_id).task})
        self._background = None

    async def _make_after(self, task_id: str, before: _Making | None, tell: Told) -> Artifact | None:
        if before is not None:
            await asyncio.wait({before.task})
            made = None if before.outdated else before.task.result()
            if made is not None:
                return made
        return await self._make(task_id, self._make_next, tell)

    async def _make(self, task_id: str, make: Callable[[str, Told], Artifact | None], tell: Told) -> Artifact | None:
        run = asyncio.get_running_loop().run_in_executor
        size = await run(self._threads, self._versions.examples_size, task_id)
        async with self._small if size <= SMALL_JOB else self._large:
            return await run(self._threads, make, task_id, tell)

    def _make_first(self, task_id: str, tell: Told) -> Artifact | None:
        job = self._versions.first_job(task_id)
        return None if job is None else self._versions.make_first(task_id, job, tell)

    def _make_next(self, task_id: str, tell: Told) -> Artifact:
        return self._versions.make_next(task_id, self._versions.next_job(task_id), tell)

    def _finish(self, task_id: str, done: asyncio.Task[Artifact | None]) -> None:
        outdated = self._first.pop(task_id).outdated
        if done.cancelled():
            return
        error = done.exception()
        if outdated or len(self._refusals) >= MOST_REFUSALS:
            return
        if isinstance(error, ExecutionFailed):
            self._refusals[task_id] = str(error)

    async def close(self) -> None:
        """Abort training in progress, and cancel what waits."""
        self._trainer.close()
        self._created.clear()
        under_way = [making.task for making in (*self._first.values(), *self._next.values())]
        for task in under_way:
            task.cancel()
        if self._background is not None:
            self._background.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._threads.shutdown(wait=True, cancel_futures=True)
