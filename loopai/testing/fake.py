"""`FakeLoopai`: a Loopai in memory behind the transport seam. How it answers is here; what a test programs is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import RLock
from typing import TYPE_CHECKING, Any, Callable, Optional, Union
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from pydantic_core import from_json

from .._core.wire import Answer, Request
from ..client import LoopaiClient, SyncLoopaiClient
from .programming import Call, FakeOperation, FakeTask, Faulty, NotProgrammed, ProgramError, how_to_program, reply

if TYPE_CHECKING:
    from ..models import EventType  # noqa: F401

BASE_URL = "http://fake.loopai.test"
"""Address of the clients that a fake makes: never asked, but read in messages."""

LATENCY_MS = 1.5
"""Milliseconds that each run is said to have taken: the fake measures nothing, so that results compare equal."""

_STAGES = (("Stage1_5Percent", 0.05), ("Stage2_25Percent", 0.25), ("Stage3_50Percent", 0.5), ("Stage4_100Percent", 1.0))

_NO_ADVICE = {
    "should_improve": False,
    "validation_rate": 0,
    "failed_validations_count": 0,
    "common_errors": [],
    "suggested_fixes": [],
    "confidence": "low",
}
_NO_RUNS = {
    "average_latency_ms": 0,
    "p50_latency_ms": 0,
    "p95_latency_ms": 0,
    "p99_latency_ms": 0,
    "validation_rate": 0,
    "error_rate": 0,
    "total_executions": 0,
    "successful_executions": 0,
    "failed_executions": 0,
}

Answered = tuple[int, Any]


@dataclass(frozen=True)
class _Asked:
    """A request as handlers read it: the path's parts by name, and the body."""

    parts: Mapping[str, str]
    body: Any


class _Names(Mapping[str, str]):
    """The ids of task names. Every name has one; iterating gives those that a test named."""

    def __init__(self, fake: FakeLoopai) -> None:
        self._fake = fake

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str) or _uuid(name) is not None:
            raise KeyError(name)
        return self._fake.id_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter([task.name for task in self._fake.known_tasks() if _uuid(task.name) is None])

    def __len__(self) -> int:
        return len(list(iter(self)))


class FakeLoopai(Faulty):
    """A Loopai in memory, which answers as a test programs it. It is a transport for both clients.

    Task names are known without `tasks=`. Nothing is shared between two fakes; one serves any number of threads,
    event loops and clients. `now` gives the time that replies carry, an aware `datetime`.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        super().__init__(RLock())
        self.now = now
        self.tasks: Mapping[str, str] = _Names(self)
        self.reset()

    def __repr__(self) -> str:
        tasks, requests = len(self.known_tasks()), len(self._requests)
        return f"<FakeLoopai: {tasks} task{'s'[:tasks != 1]}, {requests} request{'s'[:requests != 1]}>"

    def reset(self) -> None:
        """Forget everything: what was programmed, and what was asked."""
        with self._lock:
            self.recovers()
            self._by_id: dict[str, FakeTask] = {}
            self._asked_names: dict[str, str] = {}
            self._operations: dict[str, FakeOperation] = {}
            self._requests: list[Request] = []
            self._calls: list[Call] = []
            self.canaries: dict[str, dict[str, Any]] = {}
            self.webhooks: dict[str, dict[str, Any]] = {}

    # What a test programs and reads

    def task(self, name: Union[str, UUID]) -> FakeTask:
        """The task of that name or id, to be programmed and asked what it was given."""
        task_id = _uuid(str(name)) or self.id_of(str(name))
        with self._lock:
            return self._by_id.setdefault(task_id, FakeTask(str(name), task_id, self._lock))

    def operation(self, name: str) -> FakeOperation:
        """The operation of that name (`"get_health"`, `"start_canary"`: the client's methods), to be programmed."""
        if name not in _HANDLERS:
            raise ValueError(f"no operation {name!r}: known are {', '.join(_HANDLERS)}")
        with self._lock:
            return self._operations.setdefault(name, FakeOperation(name, self._lock))

    @property
    def requests(self) -> list[Request]:
        """Every request so far, attempts that met a fault included."""
        with self._lock:
            return list(self._requests)

    @property
    def calls(self) -> list[Call]:
        """Every input given to a task so far, alone or in a batch."""
        with self._lock:
            return list(self._calls)

    def client(self, **options: Any) -> SyncLoopaiClient:
        """A `SyncLoopaiClient` on this fake, which does not pause between attempts. `options` are the class's."""
        return SyncLoopaiClient(**self._options(options))

    def async_client(self, **options: Any) -> LoopaiClient:
        """A `LoopaiClient` on this fake, which does not pause between attempts. `options` are the class's."""
        return LoopaiClient(**self._options(options))

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"base_url": BASE_URL, "local": False, "retry_waits": False, **options, "transport": self}

    # The transport seam

    def send(self, request: Request) -> Answer:
        """Answer a request; see `Transport`. Raises `NotProgrammed`."""
        path = urlsplit(request.url).path
        name, parts = _routed(request.method, path)
        asked = _Asked(parts, from_json(request.content) if request.content else {})
        with self._lock:
            self._requests.append(request)
            operation = self._operations.get(name or "")
            task = self._by_id.get(str(parts.get("task_id") or asked.body.get("task_id")))
            for place in (self, operation, task):
                fault = place.next_fault() if place is not None else None
                if fault is not None:
                    return fault
            if operation is not None and operation.reply is not None:
                return operation.reply
        if name is None:
            return reply(404, b"")
        return reply(*_HANDLERS[name](self, asked))

    def close(self) -> None:
        """Do nothing: the fake outlives its clients."""

    async def asend(self, request: Request) -> Answer:
        """Answer a request; see `AsyncTransport`. Raises `NotProgrammed`."""
        await asyncio.sleep(0)  # a real transport lets others run, and may be cancelled
        return self.send(request)

    async def aclose(self) -> None:
        """Do nothing: the fake outlives its clients."""

    # What handlers need

    def id_of(self, name: str) -> str:
        """The id of a task name: the same in every fake and process."""
        task_id = str(uuid5(NAMESPACE_URL, f"{BASE_URL}/tasks/{name}"))
        with self._lock:
            self._asked_names[task_id] = name
        return task_id

    def known_tasks(self) -> list[FakeTask]:
        """The tasks that a test named or the code under test created, oldest first."""
        with self._lock:
            return [task for task in self._by_id.values() if not task.unknown]

    def known(self, task_id: str) -> Optional[FakeTask]:
        """The task of that id, `None` where the server would not have it."""
        task = self._by_id.get(task_id)
        return None if task is None or task.unknown else task

    def run(self, task_id: str, call: Mapping[str, Any], item_id: Optional[str] = None) -> dict[str, Any]:
        """Run one input: what an execution and a batch item have in common. Raises `LookupError` for an unknown task."""
        task = self._by_id.get(task_id)
        if task is None:
            raise NotProgrammed(how_to_program(self._asked_names.get(task_id, task_id)))
        forced = bool(call.get("force_validation"))
        made = Call(task.name, call["input"], call.get("version"), call.get("timeout_ms"), forced, item_id)
        with self._lock:
            self._calls.append(made)
        if task.unknown:
            raise LookupError(f"Task with ID {task_id} not found")
        outcome = {"execution_id": uuid4(), "latency_ms": LATENCY_MS, "sampled_for_validation": forced}
        try:
            return {**outcome, "output": task.run(made)}
        except ProgramError as error:
            return {**outcome, "error_message": str(error)}


def _uuid(text: str) -> Optional[str]:
    try:
        return str(UUID(text))
    except ValueError:
        return None
