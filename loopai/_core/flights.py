"""Share work between callers that need the same at the same time: one leads, the others wait for its result."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import Future
from functools import partial
from typing import Callable, Generic, Optional, TypeVar

from .flow import Performer, Steps, Wanted

R = TypeVar("R")

LOOK_AGAIN = 1.0
"""Seconds after which a waiting caller checks whether the leader still exists: a signal handler may raise in it at any
step, and then it does not land."""


class Flight(Generic[R]):
    """A caller's place: it leads, or waits. The leader must hold it until it calls `land`."""

    def __init__(self, flights: Flights[R], key: str, settled: Future[R], *, leads: bool) -> None:
        self.leads = leads
        self.settled = settled
        self._flights = flights
        self._key = key

    def is_under_way(self) -> bool:
        """Whether the leader is still working."""
        return self._flights.is_under_way(self._key, self.settled)

    def land(self, result: R) -> None:
        """Let the waiting callers continue with this result."""
        self._flights.land(self._key, self.settled, result)

    def waited(
        self, most: Optional[float], clock: Callable[[], float], began: float, performer: Performer
    ) -> Steps[bool]:
        """Wait until it lands or its leader is gone; False if it is still under way `most` seconds after `began`."""
        while self.is_under_way():
            left = LOOK_AGAIN if most is None else min(most - (clock() - began), LOOK_AGAIN)
            if left <= 0:
                return False
            yield Wanted(partial(performer.waited, self.settled, left))
        return True


class Flights(Generic[R]):
    """The flights under way, by key. Thread-safe; a forked child starts with none."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        # Weak: the leader holds its flight, which disappears with its leader.
        self._led: dict[str, weakref.ref[Flight[R]]] = {}

    def take(self, key: str) -> Flight[R]:
        """Return the flight to lead, or to wait for."""
        if self._pid != os.getpid():  # the parent's callers, and any lock they held, do not exist here
            self._start()
        with self._lock:
            led = self._of(key)
            if led is not None and not led.settled.done():
                return Flight(self, key, led.settled, leads=False)
            mine: Flight[R] = Flight(self, key, Future(), leads=True)
            # Mark it as running: a caller that stops waiting must not cancel it for the others.
            mine.settled.set_running_or_notify_cancel()
            self._led[key] = weakref.ref(mine)
            return mine

    def is_under_way(self, key: str, settled: Future[R]) -> bool:
        """Whether this flight's leader is still working."""
        with self._lock:
            led = self._of(key)
            return led is not None and led.settled is settled and not settled.done()

    def land(self, key: str, settled: Future[R], result: R) -> None:
        """Settle a flight; once is enough."""
        with self._lock:
            if not settled.done():
                settled.set_result(result)
            led = self._of(key)
            if led is None or led.settled is settled:
                self._led.pop(key, None)

    def _of(self, key: str) -> Optional[Flight[R]]:
        led = self._led.get(key)
        return None if led is None else led()
