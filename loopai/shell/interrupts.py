"""SIGINT and SIGTERM during a run: the first ends it properly, a second one at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable, Optional

from ..batch.engine.stopping import Stop


class Interrupts:
    """The signal that arrived, if any."""

    def __init__(self) -> None:
        self.signal: Optional[int] = None

    @property
    def exit_code(self) -> int:
        """The exit code that shells expect after this signal (130 for SIGINT, 143 for SIGTERM)."""
        return 128 + (self.signal or signal.SIGINT)


@contextmanager
def interrupts(stop: Stop, say: Callable[[str], None]) -> Iterator[Interrupts]:
    """In this context, the first SIGINT or SIGTERM calls `stop`, and a second one raises `KeyboardInterrupt`.

    Does nothing outside of the main thread, which alone can handle signals.
    """
    came = Interrupts()

    def handle(number: int, _: Optional[FrameType]) -> None:
        if came.signal is not None:
            raise KeyboardInterrupt
        came.signal = number
        stop()
        say(f"Stopping: requests in flight may take {stop.grace:g} s more. A second signal stops at once.")

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, handle)
    try:
        yield came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
