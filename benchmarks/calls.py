"""The cost of one `execute` for the calling process, compared with httpx or pyreqwest used by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from pydantic import BaseModel
from pyreqwest.client import ClientBuilder

from loopai import LoopaiClient, SyncLoopaiClient

from .goals import TimesLess
from .measuring import Goal, Row, group
from .peer import TASK_ID, running

MAIL = {"subject": "You have won", "body": "Claim your prize now: it is waiting for you, and only today."}
PATH = f"/api/v1/tasks/{TASK_ID}/execute"
# Long enough for the slowest side with 500 callers: the cost is measured, not the timeout.
PATIENCE = 60.0
# Warm-up calls of each caller: with httpx, the first ones after connecting cost many times more.
WARMING = 4
# Minimum measured calls of each caller in a full run; fewer would measure the beginning.
FEWEST = 6
PLAIN = "plain httpx"
PLAIN_SYNC = "plain httpx.Client"


class Execution(BaseModel):
    """A model of the reply, as users of plain httpx would write it."""

    execution_id: UUID
    task_id: UUID
    program_id: UUID | None = None
    version: int | None = None
    status: str
    output: Any = None
    error_message: str | None = None
    latency_ms: float
    sampled_for_validation: bool = False
    executed_at: datetime | None = None


Call = Callable[[], Awaitable[object]]
SyncCall = Callable[[], object]


# The sides: each opens its client, and returns a function that makes one call.


@asynccontextmanager
async def by_httpx(base_url: str, callers: int) -> AsyncIterator[Call]:
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=PATIENCE) as client:

        async def call() -> Execution:
            response = await client.post(PATH, json={"task_id": TASK_ID, "input": MAIL})
            response.raise_for_status()
            return Execution.model_validate_json(response.content)

        yield call


@asynccontextmanager
async def by_pyreqwest(base_url: str, callers: int) -> AsyncIterator[Call]:
    async with ClientBuilder().error_for_status(True).pool_max_idle_per_host(callers).build() as client:
        url = base_url + PATH

        async def call() -> Execution:
            response = await client.post(url).body_json({"task_id": TASK_ID, "input": MAIL}).build().send()
            return Execution.model_validate_json(bytes(await response.bytes()))

        yield call


def by_loopai(**options: Any) -> Callable[[str, int], AbstractAsyncContextManager[Call]]:
    @asynccontextmanager
    async def side(base_url: str, callers: int) -> AsyncIterator[Call]:
        async with LoopaiClient(base_url, timeout=PATIENCE, max_connections=callers, **options) as client:
            yield lambda: client.execute(TASK_ID, MAIL)

    return side


@contextmanager
def by_httpx_sync(base_url: str, callers: int) -> Iterator[SyncCall]:
    limits = httpx.Limits(max_connections=callers, max_keepalive_connections=callers)
    with httpx.Client(base_url=base_url, limits=limits, timeout=PATIENCE) as client:

        def call() -> Execution:
            response = client.post(PATH, json={"task_id": TASK_ID, "input": MAIL})
            response.raise_for_status()
            return Execution.model_validate_json(response.content)

        yield call


def by_loopai_sync(**options: Any) -> Callable[[str, int], AbstractContextManager[SyncCall]]:
    @contextmanager
    def side(base_url: str, callers: int) -> Iterator[SyncCall]:
        with SyncLoopaiClient(base_url, timeout=PATIENCE, max_connections=callers, **options) as client:
            yield lambda: client.execute(TASK_ID, MAIL)

    return side


# One round: callers that call repeatedly, measured once all are connected.


@dataclass(frozen=True)
class Spent:
    """Microseconds per call: CPU time of this process, and wall time."""

    cpu: float
    wall: float


class Watch:
    """Measures from here on; includes the threads of Rust libraries."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def spent(self, calls: int) -> Spent:
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        return Spent(cpu / calls * 1e6, wall / calls * 1e6)


async def spend(side: AbstractAsyncContextManager[Call], callers: int, calls: int) -> Spent:
    async with side as call:

        async def caller(times: int) -> None:
            for _ in range(times):
                await call()

        await asyncio.gather(*(caller(WARMING) for _ in range(callers)))
        watch = Watch()
        await asyncio.gather(*(caller(calls // callers) for _ in range(callers)))
        return watch.spent(calls // callers * callers)


def spend_in_threads(side: AbstractContextManager[SyncCall], callers: int, calls: int) -> Spent:
    with side as call:

        def caller(times: int) -> None:
            for _ in range(times):
                call()

        def together(times: int) -> None:
            threads = [threading.Thread(target=caller, args=(times,)) for _ in range(callers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        together(WARMING)
        watch = Watch()
        together(calls // callers)
        return watch.spent(calls // callers * callers)


class Measured:
    """One side of a row. The row of wall time, if there is one, uses the rounds of the row of CPU time."""

    def __init__(self, spent: Callable[[], Spent]) -> None:
        self._spent = spent
        self._walls: deque[float] = deque()

    def cpu(self) -> float:
        spent = self._spent()
        self._walls.append(spent.wall)
        return spent.cpu

    def wall(self) -> float:
        return self._walls.popleft()


AsyncSide = Callable[[str, int], AbstractAsyncContextManager[Call]]
SyncSide = Callable[[str, int], AbstractContextManager[SyncCall]]


@group("calls")
def calls(quick: bool) -> Iterator[list[Row]]:
    share = 0.05 if quick else 1.0
    with running() as instant, running(0.1) as slow:

        def measured(side: AsyncSide, base_url: str, callers: int, calls: int) -> Measured:
            number = max(callers * (1 if quick else FEWEST), int(calls * share))
            return Measured(lambda: asyncio.run(spend(side(base_url, callers), callers, number)))

        def measured_sync(side: SyncSide, callers: int, calls: int) -> Measured:
            number = max(callers * (1 if quick else FEWEST), int(calls * share))
            return Measured(lambda: spend_in_threads(side(instant, callers), callers, number))

        def row(what: str, side: AsyncSide, callers: int, calls: int, goal: Goal) -> Row:
            mine, plain = measured(side, instant, callers, calls), measured(by_httpx, instant, callers, 2000)
            return Row(what, mine.cpu, PLAIN, plain.cpu, "µs CPU", goal)

        def sync_row(what: str, side: SyncSide, calls: int, goal: Goal) -> Row:
            mine, plain = measured_sync(side, 16, calls), measured_sync(by_httpx_sync, 16, 1600)
            return Row(what, mine.cpu, PLAIN_SYNC, plain.cpu, "µs CPU", goal)

        default, rust = by_loopai(transport="httpx"), by_loopai(transport="pyreqwest")
        gathered, gathered_rust = (by_loopai(transport=name, coalesce=True) for name in ("httpx", "pyreqwest"))
        gathered_sync = by_loopai_sync(transport="httpx", coalesce=True)
        late, late_plain = (measured(side, slow, 500, 3000) for side in (default, by_httpx))
        mine, raw = measured(rust, instant, 100, 5000), measured(by_pyreqwest, instant, 100, 5000)
        yield [
            row("execute, 1 at a time", default, 1, 2000, Goal(1.0)),
            row("execute, 100 concurrent", default, 100, 4000, TimesLess(3)),
            row("execute, 500 concurrent", default, 500, 4000, TimesLess(3)),
            Row("execute, 500 concurrent, 100 ms a reply", late.cpu, PLAIN, late_plain.cpu, "µs CPU", TimesLess(8)),
            Row("the same rounds by the clock", late.wall, PLAIN, late_plain.wall, "µs", TimesLess(7)),
            row("execute, pyreqwest, 1 at a time", rust, 1, 1000, TimesLess(3)),
            row("execute, pyreqwest, 100 concurrent", rust, 100, 4000, TimesLess(14)),
            Row("the same", mine.cpu, "raw pyreqwest and pydantic", raw.cpu, "µs CPU", Goal(1.6)),
            row("execute, coalesced, 100 concurrent", gathered, 100, 10000, TimesLess(60)),
            row("execute, coalesced, pyreqwest, 100 concurrent", gathered_rust, 100, 20000, TimesLess(150)),
            sync_row("execute, pyreqwest, 16 threads", by_loopai_sync(transport="pyreqwest"), 3200, TimesLess(4)),
            sync_row("execute, 16 threads", by_loopai_sync(transport="httpx"), 1600, Goal(1.0)),
            sync_row("execute, coalesced, 16 threads", gathered_sync, 4800, TimesLess(4)),
        ]
