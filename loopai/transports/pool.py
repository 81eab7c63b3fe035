"""Connections: as many as there are admitted requests, and none inherited across a fork.

Connections belong to one process (sync), or to one process and event loop (async). They are opened when needed, and
dropped when a request on them fails, times out or is cancelled. The transport defines what a connection is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from typing import Any, Callable, Optional, Protocol

import anyio

from .._core.wire import Answer, NoReply, Reply, Request
from .admission import AsyncSlots, Slots, Turn, time_left
from .watchdog import Chore, watchdog

LONGEST_IDLE = 30.0
"""Seconds after which an idle connection is closed when a newer one is returned; servers close theirs about then."""


SWEEP = 2.0
"""Seconds between checks for idle connections that their server has closed."""


def hung_up(sock: Any) -> bool:
    """Return whether the server has closed an idle connection: then the socket is readable without a request."""
    if sock is None:
        return False
    try:
        descriptor = sock.fileno()
        if descriptor < 0:
            return False
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([descriptor], [], [], 0)[0])
    except (OSError, ValueError):
        return False


class Connection(Protocol):
    """A connection, which carries one request at a time."""

    idle_since: float

    def hung_up(self) -> bool:
        """Whether the server has closed it."""

    def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        """Send and read the whole reply within `timeout` seconds."""

    def close(self) -> None:
        """Close the socket."""

    def abandon(self) -> None:
        """Close only the socket of a connection that an exception left in an unknown state."""


class AsyncConnection(Protocol):
    """Like `Connection`, for an event loop."""

    idle_since: float

    def hung_up(self) -> bool:
        """Whether the server has closed it."""

    async def exchange(self, request: Request, timeout: Optional[float], queued: float) -> Answer:
        """Send and read the whole reply within `timeout` seconds."""

    async def aclose(self) -> None:
        """Close the socket."""


def closed() -> RuntimeError:
    """Raised for a request after the client was closed."""
    return RuntimeError("the connections of this client are closed: make a new client")


class Owner(Protocol):
    """An owner of connections of this process."""

    def disown(self) -> Any:
        """Start fresh in a forked child; return what belongs to the parent."""


class Forked:
    """Reset the clients of a forked child before anything else runs there."""

    def __init__(self) -> None:
        self._pools: weakref.WeakSet[Owner] = weakref.WeakSet()
        # What a child inherits must not be used or closed (the sockets are the parent's) nor collected (asyncio would
        # warn): it is kept here, unreachable for clients.
        self._inherited: list[Any] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)

    def tell(self, pool: Owner) -> None:
        """Reset `pool` in every child that is forked from now on."""
        self._pools.add(pool)

    def _in_child(self) -> None:
        for pool in list(self._pools):
            self._inherited.append(pool.disown())


forked = Forked()


class SyncPool:
    """Connections of one client, for this process. A `Transport`."""

    def __init__(self, connect: Callable[[], Connection], size: int) -> None:
        self._connect = connect
        self._size = size
        self._closed = False
        self._start()
        forked.tell(self)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._slots = Slots(self._size)
        self._idle: list[Connection] = []
        self._in_flight = 0
        self._sweeper: Optional[Chore] = None
        # For a client that was never closed: collecting open sockets would cause warnings.
        self._finalizer = weakref.finalize(self, _close_all, self._idle)

    def disown(self) -> Any:
        """Start fresh in a forked child; return what belongs to the parent."""
        parents = self._idle
        self._finalizer.detach()
        # With a new lock, too: a thread that does not exist here may have held it when the process forked.
        self._start()
        return parents

    @property
    def in_flight(self) -> int:
        """Requests in flight in this process."""
        return self._in_flight

    def send(self, request: Request) -> Answer:
        """Send one request; see `Transport`."""
        slots, turn = self._slots, Turn()
        try:
            queued = slots.admit(request, turn)
            if isinstance(queued, NoReply):
                return queued
            return self._exchange(request, queued)
        finally:
            slots.release(turn)

    def _exchange(self, request: Request, queued: float) -> Answer:
        with self._lock:
            if self._closed:
                raise closed()
            connection = self._idle.pop() if self._idle else None
            self._in_flight += 1
        answer: Optional[Answer] = None
        try:
            if connection is None:
                connection = self._connect()
            answer = connection.exchange(request, time_left(request, queued), queued)
            return answer
        finally:
            dropped = self._put_back(connection, isinstance(answer, Reply))
            if dropped is not None:
                if answer is None:
                    dropped.abandon()
                else:
                    dropped.close()
            if self._sweeper is None and not self._closed:
                self._sweep_later()

    def _put_back(self, connection: Optional[Connection], reusable: bool) -> Optional[Connection]:
        """Keep the connection if it can be reused; return a connection to close: this one, or one idle for too long."""
        with self._lock:
            self._in_flight -= 1
            if connection is None or not reusable or self._closed:
                return connection
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
            stale = self._idle[0].idle_since < connection.idle_since - LONGEST_IDLE
            return self._idle.pop(0) if stale else None

    def _sweep_later(self) -> None:
        me = weakref.ref(self)

        def run() -> None:
            pool = me()
            if pool is not None:
                pool.sweep()

        self._sweeper = Chore(run)
        watchdog.set(self._sweeper, SWEEP)

    def sweep(self) -> None:
        """Close idle connections that their server has closed, or that were unused for too long."""
        oldest = time.monotonic() - LONGEST_IDLE
        with self._lock:
            self._sweeper = None
            gone = [each for each in self._idle if each.idle_since < oldest or each.hung_up()]
            self._idle[:] = [each for each in self._idle if each not in gone]
            left = bool(self._idle)
        _close_all(gone)
        if left and not self._closed:
            self._sweep_later()

    def close(self) -> None:
        """Close idle connections; those in use close when their call ends."""
        with self._lock:
            self._closed = True
            idle = self._idle[:]
            self._idle.clear()  # not a new list: the finalizer has this one
        _close_all(idle)


def _close_all(idle: list[Connection]) -> None:
    while idle:
        idle.pop().close()


class _LoopPool:
    """Connections of one client in one event loop."""

    def __init__(self, connect: Callable[[], AsyncConnection], size: int) -> None:
        self.connect = connect
        self.slots = AsyncSlots(size)
        self.idle: list[AsyncConnection] = []
        self.closed = False
        self.guard: Optional[AsyncGenerator[None, None]] = None
        self.sweeper: Optional[asyncio.TimerHandle] = None
        self.closing: set[asyncio.Task[None]] = set()

    async def send(self, request: Request) -> Answer:
        queued = 0.0 if self.slots.take() else await self.slots.admit(request)
        if isinstance(queued, NoReply):
            return queued
        try:
            return await self._exchange(request, queued)
        finally:
            self.slots.release()

    async def _exchange(self, request: Request, queued: float) -> Answer:
        if self.closed:
            raise closed()
        connection = self.idle.pop() if self.idle else self.connect()
        dropped: Optional[AsyncConnection] = connection
        try:
            answer = await connection.exchange(request, time_left(request, queued), queued)
            if isinstance(answer, Reply) and not self.closed:
                dropped = self._keep(connection)
        finally:
            if dropped is not None:
                with anyio.CancelScope(shield=True):
                    await dropped.aclose()
        return answer

    def _keep(self, connection: AsyncConnection) -> Optional[AsyncConnection]:
        connection.idle_since = time.monotonic()
        self.idle.append(connection)
        if self.sweeper is None:
            self.sweeper = asyncio.get_running_loop().call_later(SWEEP, _sweep, weakref.ref(self))
        return self.idle.pop(0) if self.idle[0].idle_since < connection.idle_since - LONGEST_IDLE else None

    def sweep(self) -> None:
        """Like that of `SyncPool`, in the loop."""
        loop = asyncio.get_running_loop()
        oldest = time.monotonic() - LONGEST_IDLE
        gone = [each for each in self.idle if each.idle_since < oldest or each.hung_up()]
        self.idle[:] = [each for each in self.idle if each not in gone]
        for connection in gone:
            task = loop.create_task(connection.aclose())
            self.closing.add(task)
            task.add_done_callback(self.closing.discard)
        self.sweeper = loop.call_later(SWEEP, _sweep, weakref.ref(self)) if self.idle else None

    async def aclose(self) -> None:
        self.closed = True
        if self.sweeper is not None:
            self.sweeper.cancel()
        while self.idle:
            await self.idle.pop().aclose()


def _sweep(pool: weakref.ref[_LoopPool]) -> None:
    found = pool()
    if found is not None and not found.closed:
        found.sweep()


_Loops = dict[asyncio.AbstractEventLoop, _LoopPool]


class AsyncPool:
    """Connections of one client, by event loop. An `AsyncTransport`."""

    def __init__(self, connect: Callable[[], AsyncConnection], size: int) -> None:
        self._connect = connect
        self._size = size
        self._closed = False
        self._start()
        forked.tell(self)

    def _start(self) -> None:
        self._loops: _Loops = {}
        # For a client that was never closed: its loops close its connections, to avoid warnings.
        self._finalizer = weakref.finalize(self, _leave, self._loops)
        self._finalizer.atexit = False

    def disown(self) -> Any:
        """Start fresh in a forked child; return what belongs to the parent."""
        parents = self._loops
        self._finalizer.detach()
        self._start()
        return parents

    @property
    def in_flight(self) -> int:
        """Requests in flight in this process, over all its loops."""
        return sum(pool.slots.taken for pool in list(self._loops.values()))

    async def asend(self, request: Request) -> Answer:
        """Send one request; see `AsyncTransport`."""
        loop = asyncio.get_running_loop()
        pool = self._loops.get(loop)
        if pool is None:
            pool = await self._enter(loop)
        return await pool.send(request)

    async def _enter(self, loop: asyncio.AbstractEventLoop) -> _LoopPool:
        if self._closed:
            raise closed()
        for other in list(self._loops):
            if other.is_closed():  # closed by hand, its generators never finalised
                self._loops.pop(other, None)
        pool = self._loops[loop] = _LoopPool(self._connect, self._size)
        pool.guard = _until_the_loop_ends(self._loops, loop, pool)
        await pool.guard.__anext__()
        return pool

    async def aclose(self) -> None:
        """Close the idle connections of the running loop; other loops close theirs when they end."""
        self._closed = True
        for other in list(self._loops.values()):
            other.closed = True
        pool = self._loops.get(asyncio.get_running_loop())
        if pool is not None and pool.guard is not None:
            await pool.aclose()
            await pool.guard.aclose()


def _leave(loops: _Loops) -> None:
    for loop, pool in list(loops.items()):
        if pool.guard is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in this moment
                loop.call_soon_threadsafe(loop.create_task, pool.guard.aclose())


async def _until_the_loop_ends(
    loops: _Loops, loop: asyncio.AbstractEventLoop, pool: _LoopPool
) -> AsyncGenerator[None, None]:
    # asyncio.run and asgiref finalise a loop's async generators before they close it; Python does so for a client
    # that nobody closed, when it collects it.
    try:
        yield
    finally:
        loops.pop(loop, None)
        await pool.aclose()
