"""CommandResult a run before its rows end: on request, with time for what is under way."""

from __future__ import annotations

from typing import Callable, Optional

from .scheduler import INTERRUPTED, Scheduler


class Stop:
    """Ends a run early: call it from anywhere (signal handlers and other threads too).

    What is under way may take `grace` seconds more; rows that were pulled and have not ended are cancelled.
    """

    def __init__(self, grace: float = 30.0) -> None:
        self.grace = grace
        self.requested = False
        self._wake: list[Callable[[], None]] = []

    def __call__(self) -> None:
        """Ask the run to end."""
        self.requested = True
        for wake in list(self._wake):
            wake()

    def on_request(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when the run is to end."""
        self._wake.append(wake)


class Grace:
    """Whether the time is up for what was under way when the run was stopped."""

    def __init__(self, scheduler: Scheduler, stop: Stop) -> None:
        self._scheduler = scheduler
        self._stop = stop
        self._until: Optional[float] = None

    def left(self, now: float) -> Optional[float]:
        """Seconds left to what is under way; `None` without bound."""
        if self._stop.requested:
            self._scheduler.stop(INTERRUPTED)
        if self._scheduler.stopped is None:
            return None
        if self._until is None:
            self._until = now + self._stop.grace
        return max(0.0, self._until - now)


def shorter(one: Optional[float], other: Optional[float]) -> Optional[float]:
    """The shorter of two waits; `None` is without bound."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
