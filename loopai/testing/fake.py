"""`FakeLoopai`: the transport that a test programs and inspects. Its replies are made in `_server`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from threading import RLock
from typing import Any, Callable, Union
from urllib.parse import urlsplit
from uuid import UUID

from pydantic_core import from_json
from typing_extensions import Unpack

from .._core.wire import Answer, Request
from ..client import LoopaiClient, SyncLoopaiClient
from ..options import ClientOptions
from ._server import OPERATIONS, FakeServer, name_as_id, route
from .programming import Call, FakeOperation, FakeTask, Faulty, reply

BASE_URL = "http://fake.loopai.test"
"""Address of a fake's clients: nothing is sent there, but messages name it."""


class FakeLoopai(Faulty):
    """An in-memory Loopai that answers as a test programs it. It is a transport for both clients.

    Task names are known without `tasks=`. A task that a test did not program raises `NotProgrammed`; other operations
    answer as a new server would. One fake serves any number of threads, event loops and clients. `now` returns the time
    in replies, an aware `datetime`.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        super().__init__(RLock())
        self._now = now
        self.tasks: Mapping[str, str] = _Names(self)
        self.reset()

    def __repr__(self) -> str:
        return f"<FakeLoopai tasks={len(self._server.tasks())} requests={len(self._requests)}>"

    def reset(self) -> None:
        """Forget all programming and all requests. A `FakeTask` from before becomes useless."""
        with self._lock:
            self.recovers()
            self._server = FakeServer(self._lock, self._now)
            self._operations: dict[str, FakeOperation] = {}
            self._requests: list[Request] = []

    # What a test programs and reads

    def task(self, name: Union[str, UUID]) -> FakeTask:
        """Return the task of that name or id, to program it or inspect its inputs."""
        return self._server.named(str(name))

    def operation(self, name: str) -> FakeOperation:
        """Return the operation of a client method (`"get_health"`, `"start_canary"`), to program it.

        Raises `ValueError` for an unknown name.
        """
        if name not in OPERATIONS:
            raise ValueError(f"no operation {name!r}: there are {', '.join(OPERATIONS)}")
        with self._lock:
            return self._operations.setdefault(name, FakeOperation(name, self._lock))

    @property
    def requests(self) -> list[Request]:
        """Every request so far, including those that met a fault."""
        with self._lock:
            return list(self._requests)

    @property
    def calls(self) -> list[Call]:
        """Every input sent to a task so far, alone or in a batch."""
        return self._server.log.calls()

    def client(self, **options: Unpack[ClientOptions]) -> SyncLoopaiClient:
        """A `SyncLoopaiClient` on this fake that makes no pauses between attempts. `options` are those of the class."""
        return SyncLoopaiClient(**self._options(options))

    def async_client(self, **options: Unpack[ClientOptions]) -> LoopaiClient:
        """A `LoopaiClient` on this fake that makes no pauses between attempts. `options` are those of the class."""
        return LoopaiClient(**self._options(options))

    def _options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"base_url": BASE_URL, "local": False, "retry_waits": False, **options, "transport": self}

    # The transport seam

    def send(self, request: Request) -> Answer:
        """Answer a request; see `Transport`. Raises `NotProgrammed`."""
        name, parts = route(request.method, urlsplit(request.url).path)
        body = from_json(request.content) if request.content else {}
        with self._lock:
            server = self._server
            self._requests.append(request)
            operation = self._operations.get(name or "")
            for place in (self, operation, server.task(parts.get("task_id") or body.get("task_id"))):
                # A client's look-up before a first execution does not use up a fault meant for the execution.
                counts = name != "list_artifacts" or place is operation
                fault = None if place is None else place.next_fault(counts=counts)
                if fault is not None:
                    return fault
        if operation is not None and operation.reply is not None:
            return operation.reply
        return reply(404, b"") if name is None else server.answer(name, parts, body)

    def close(self) -> None:
        """Do nothing: the fake outlives its clients."""

    async def asend(self, request: Request) -> Answer:
        """Answer a request; see `AsyncTransport`. Raises `NotProgrammed`."""
        await asyncio.sleep(0)  # a real transport lets others run here, and may be cancelled
        return self.send(request)

    async def aclose(self) -> None:
        """Do nothing: the fake outlives its clients."""

    def id_of(self, name: str) -> str:
        """The id of a task name: the same in every fake and process."""
        return self._server.id_of(name)

    def task_names(self) -> list[str]:
        """The names of the tasks that the test or the code under test named, oldest first."""
        return self._server.names()


class _Names(Mapping[str, str]):
    """The ids of task names: every name has one, so that an unknown name reaches the fake, which can say more."""

    def __init__(self, fake: FakeLoopai) -> None:
        self._fake = fake

    def __getitem__(self, name: str) -> str:
        if not isinstance(name, str) or name_as_id(name) is not None:
            raise KeyError(name)
        return self._fake.id_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fake.task_names())

    def __len__(self) -> int:
        return len(self._fake.task_names())
