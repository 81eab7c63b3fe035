"""The client's own rate limit, by server and key, for all clients of a process."""

from __future__ import annotations

import os
from collections import deque
from threading import Lock
from typing import Any


class Pace:
    """The times at which requests were or will be sent; never more than `requests` in any `seconds`."""

    def __init__(self, requests: int, seconds: float) -> None:
        self._seconds = seconds
        self._last: deque[float] = deque(maxlen=requests)
        self._lock = Lock()

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be sent, without taking its turn."""
        with self._lock:
            return self._next(now) - now

    def take(self, now: float) -> float:
        """Take the next turn, and return the seconds until it has come."""
        with self._lock:
            turn = self._next(now)
            self._last.append(turn)
        return turn - now

    def _next(self, now: float) -> float:
        if len(self._last) < (self._last.maxlen or 0):
            return max(now, self._last[-1]) if self._last else now
        return max(now, self._last[0] + self._seconds)


_paces: dict[Any, Pace] = {}
_lock = Lock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603  # a thread of the parent may have held it
    _lock = Lock()
    _paces.clear()  # one set per process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def pace_of(base_url: str, key: Any, requests: int, seconds: float) -> Pace:
    """Return the pace that all clients with this server, key and limit share."""
    with _lock:
        found = _paces.get((base_url, key, requests, seconds))
        if found is None:
            found = _paces[base_url, key, requests, seconds] = Pace(requests, seconds)
        return found
