"""Admission and connections: never more requests in flight than connections, and none inherited.

Connections belong to one process (sync) or one process and event loop (async). They are made when first needed
and dropped with whatever broke, timed out or was cancelled on them. What a connection is, its transport says.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from typing import Any, Callable, Optional, Protocol

import anyio

from .._core.wire import Answer, NoReply, Reply, Request

LONGEST_IDLE = 30.0
"""Seconds after which an idle connection is closed when a fresher one comes back; servers close theirs about then."""


class Connection(Protocol):
    """Something that carries one request at a time."""

    idle_since: float

    def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        """Send and read the whole reply within `timeout` seconds."""

    def close(self) -> None:
        """Close the socket."""


class AsyncConnection(Protocol):
    """As `Connection`, for an event loop."""

    idle_since: float

    async def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        """Send and read the whole reply within `timeout` seconds."""

    async def aclose(self) -> None:
        """Close the socket."""


def time_left(request: Request, queued: float) -> Optional[float]:
    """Seconds an admitted attempt may take: its timeout, and what waiting left of the call's deadline."""
    if request.queue_timeout is None:
        return request.timeout
    left = max(0.0, request.queue_timeout - queued)
    return left if request.timeout is None else min(request.timeout, left)


def not_admitted(queued: float) -> NoReply:
    """The answer for an attempt that no connection came free for."""
    error = TimeoutError(f"no connection came free in {queued:.2f} s: raise max_connections or the deadline")
    return NoReply(error, arrived=False, timed_out=True, queued=queued)


# What a forked child inherits must neither be used nor closed (its sockets are the parent's) nor collected (asyncio's
# would warn): it is kept here, unreachable for any client.
_inherited: list[Any] = []


class SyncPool:
    """Connections of one client, for this process. A `Transport`."""

    def __init__(self, connect: Callable[[], Connection], size: int) -> None:
        self._connect = connect
        self._size = size
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._slots = threading.BoundedSemaphore(self._size)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    @property
    def in_flight(self) -> int:
        """Requests under way in this process."""
        return len(self._busy) if self._pid == os.getpid() else 0

    def _own(self) -> None:
        if self._pid != os.getpid():
            # The parent's lock may have been held by a thread that does not exist here.
            _inherited.append((self._idle, self._busy, self._slots, self._lock))
            self._lock = threading.Lock()
            self._reset()

    def send(self, request: Request) -> Answer:
        """Send one request; see `Transport`."""
        self._own()
        slots, queued = self._slots, 0.0
        if not slots.acquire(blocking=False):
            began = time.monotonic()
            admitted = slots.acquire(timeout=request.queue_timeout)
            queued = time.monotonic() - began
            if not admitted:
                return not_admitted(queued)
        try:
            return self._exchange(request, queued)
        finally:
            slots.release()

    def _exchange(self, request: Request, queued: float) -> Answer:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        self._busy.add(connection)
        reusable = False
        try:
            answer = connection.exchange(request, time_left(request, queued), queued)
            reusable = isinstance(answer, Reply)
            return answer
        finally:
            self._busy.discard(connection)
            if reusable:
                self._keep(connection)
            else:
                connection.close()

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        with self._lock:
            stale = self._idle.pop(0) if self._idle[0].idle_since < connection.idle_since - LONGEST_IDLE else None
        if stale is not None:
            stale.close()

    def close(self) -> None:
        """Close idle connections; those in use close when their call ends."""
        self._own()
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class _LoopPool:
    """Connections of one client in one event loop."""

    def __init__(self, connect: Callable[[], AsyncConnection], size: int) -> None:
        self.connect = connect
        self.slots = asyncio.Semaphore(size)
        self.idle: list[AsyncConnection] = []
        self.in_flight = 0
        self.guard = self._until_the_loop_ends()

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        # asyncio.run and asgiref finalise a loop's async generators before they close it.
        try:
            yield
        finally:
            await self.aclose()

    async def send(self, request: Request) -> Answer:
        queued = 0.0
        if self.slots.locked():
            began = time.monotonic()
            try:
                with anyio.fail_after(request.queue_timeout):
                    await self.slots.acquire()
            except TimeoutError:
                return not_admitted(time.monotonic() - began)
            queued = time.monotonic() - began
        else:
            await self.slots.acquire()
        self.in_flight += 1
        try:
            return await self._exchange(request, queued)
        finally:
            self.in_flight -= 1
            self.slots.release()

    async def _exchange(self, request: Request, queued: float) -> Answer:
        connection = self.idle.pop() if self.idle else self.connect()
        reusable = False
        try:
            answer = await connection.exchange(request, time_left(request, queued), queued)
            reusable = isinstance(answer, Reply)
        finally:
            if reusable:
                connection.idle_since = time.monotonic()
                self.idle.append(connection)
            else:
                with anyio.CancelScope(shield=True):
                    await connection.aclose()
        if self.idle and self.idle[0].idle_since < connection.idle_since - LONGEST_IDLE:
            await self.idle.pop(0).aclose()
        return answer

    async def aclose(self) -> None:
        idle, self.idle = self.idle, []
        for connection in idle:
            await connection.aclose()


class AsyncPool:
    """Connections of one client, by event loop. An `AsyncTransport`."""

    def __init__(self, connect: Callable[[], AsyncConnection], size: int) -> None:
        self._connect = connect
        self._size = size
        self._pid = os.getpid()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPool] = weakref.WeakKeyDictionary()

    @property
    def in_flight(self) -> int:
        """Requests under way in this process, over all its loops."""
        return sum(pool.in_flight for pool in list(self._loops.values())) if self._pid == os.getpid() else 0

    async def asend(self, request: Request) -> Answer:
        """Send one request; see `AsyncTransport`."""
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop) if self._pid == os.getpid() else None
        if pool is None:
            pool = await self._enter(loop)
        return await pool.send(request)

    async def _enter(self, loop: asyncio.AbstractEventLoop) -> _LoopPool:
        if self._pid != os.getpid():
            _inherited.append(dict(self._loops))
            self._pid, self._loops = os.getpid(), weakref.WeakKeyDictionary()
        pool = self._loops[loop] = _LoopPool(self._connect, self._size)
        await pool.guard.__anext__()
        return pool

    async def aclose(self) -> None:
        """Close the idle connections of the running loop; other loops close theirs when they end."""
        if self._pid == os.getpid():
            pool = self._loops.pop(asyncio.get_running_loop(), None)
            if pool is not None:
                await pool.guard.aclose()
