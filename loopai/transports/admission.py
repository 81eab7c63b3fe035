"""Limit the requests in flight: others wait, as long as their call's deadline allows."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from typing import Optional, Union

from .._core.wire import NoReply, Request


def time_left(request: Request, queued: float) -> Optional[float]:
    """Return the seconds that an admitted attempt may take: its timeout, or the rest of the call's deadline."""
    if request.queue_timeout is None:
        return request.timeout
    left = request.queue_timeout - queued
    return left if request.timeout is None else min(request.timeout, left)


def not_admitted(queued: float) -> NoReply:
    """Return the failure of an attempt for which no connection became free."""
    error = TimeoutError(f"no connection came free in {queued:.2f} s: raise max_connections or the deadline")
    return NoReply(error, arrived=False, timed_out=True, queued=queued)


def _too_late(request: Request, queued: float) -> bool:
    # The connection may become free just as the deadline passes.
    return request.queue_timeout is not None and queued >= request.queue_timeout


class Turn:
    """One request's slot among those in flight, which is free again when it is no longer referenced."""

    __slots__ = ("__weakref__",)


_LOOK_AGAIN = 1.0
"""Seconds after which a waiting thread checks by itself: the thread that should wake it may have been interrupted."""


class Slots:
    """Admission of threads.

    A signal handler may raise an exception between any two steps (Celery's soft limits). So slots are not counted but
    tied to the turns themselves: a turn that is lost frees its slot.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken: weakref.WeakSet[Turn] = weakref.WeakSet()
        # Bare locks only: the parts of `threading` that are written in Python can be interrupted while they hold one.
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def admit(self, request: Request, turn: Turn) -> Union[float, NoReply]:
        """Give `turn` a slot. Return how many seconds that took, or the failure of a request that got none."""
        with self._lock:
            if len(self._taken) < self._size:
                self._taken.add(turn)
                return 0.0
        began = time.monotonic()
        while True:
            gate = threading.Lock()
            gate.acquire()
            with self._lock:
                queued = time.monotonic() - began
                if _too_late(request, queued):
                    return not_admitted(queued)
                if len(self._taken) < self._size:
                    self._taken.add(turn)
                    return queued
                self._waiting.append(gate)
            left = _LOOK_AGAIN if request.queue_timeout is None else request.queue_timeout - queued
            if not gate.acquire(timeout=min(left, _LOOK_AGAIN)):
                with self._lock:
                    if gate in self._waiting:
                        self._waiting.remove(gate)

    def release(self, turn: Turn) -> None:
        """Give the slot, if taken, to the thread that has waited longest, or free it."""
        with self._lock:
            self._taken.discard(turn)
            if self._waiting:
                self._waiting.popleft().release()


class AsyncSlots:
    """Admission in one event loop, first come, first served.

    asyncio's own semaphore loses slots to cancellation on Python 3.9, and looks at all waiters on each acquisition.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def taken(self) -> int:
        """Slots in use."""
        return self._size - self._free

    def take(self) -> bool:
        """Take a slot if one is free; `admit` without waiting."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def admit(self, request: Request) -> Union[float, NoReply]:
        """Take a slot. Return how many seconds that took, or the failure of a request that got none."""
        if self.take():
            return 0.0
        began = time.monotonic()
        admitted = await self._wait(request.queue_timeout)
        queued = time.monotonic() - began
        if not admitted:
            return not_admitted(queued)
        if _too_late(request, queued):
            self.release()
            return not_admitted(queued)
        return queued

    async def _wait(self, timeout: Optional[float]) -> bool:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        timer = None if timeout is None else loop.call_later(timeout, _give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()  # the slot came in the moment of cancellation
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def release(self) -> None:
        """Give a slot to the request that has waited longest, or free it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._free += 1


def _give_up(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)
