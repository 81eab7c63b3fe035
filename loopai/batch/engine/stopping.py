"""Stop a run before its rows end: on request, with time for the requests in flight."""

from __future__ import annotations

from typing import Callable


class Stop:
    """Ends a run early; call it from anywhere, signal handlers and other threads included.

    Requests in flight may take `grace` seconds more; other rows that were read are cancelled.
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

    def on_request(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when a stop is requested. Return a function that undoes this."""
        self._wake.append(wake)
        return lambda: self._wake.remove(wake)
