"""Cuts off blocking reads whose time is up: httpx bounds each read, so a reply that drips would never end."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import socket
import threading
import time
from typing import Optional


class Alarm:
    """Shuts the socket it holds when its time comes; `rang` tells that it did."""

    def __init__(self) -> None:
        self.rang = False
        self.done = False
        self.socket: Optional[socket.socket] = None

    def ring(self) -> None:
        """Wake whoever blocks on the socket."""
        self.rang = True
        if self.socket is not None:
            with contextlib.suppress(OSError):  # closed meanwhile: the call is over
                self.socket.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """One daemon thread a process, started by the first alarm, for all clients."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._wake = threading.Condition()
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._thread: Optional[threading.Thread] = None

    def set(self, alarm: Alarm, seconds: float) -> None:
        """Ring `alarm` in `seconds` unless it is done by then."""
        if self._pid != os.getpid():
            self._reset()
        moment = time.monotonic() + seconds
        with self._wake:
            heapq.heappush(self._heap, (moment, next(self._order), alarm))
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="loopai-watchdog", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is alarm:
                self._wake.notify()

    def _watch(self) -> None:
        while True:
            with self._wake:
                while self._heap and self._heap[0][2].done:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._wake.wait()
                    continue
                moment, _, alarm = self._heap[0]
                now = time.monotonic()
                if moment > now:
                    self._wake.wait(moment - now)
                    continue
                heapq.heappop(self._heap)
                if not alarm.done:
                    alarm.ring()


watchdog = Watchdog()
