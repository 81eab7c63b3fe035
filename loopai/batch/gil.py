"""Long work in a thread, and the event loop beside it."""

from __future__ import annotations

import time

ROWS_AT_ONCE = 1000
"""Rows read between two calls of `release_gil`: some 5 ms of work."""

_PAUSE = 0.0001
"""Seconds: long enough for a thread that waits for the GIL to wake up and take it."""


def release_gil() -> None:
    """Let another thread run.

    CPython asks a thread to hand the GIL over once another has waited 5 ms for it, and starts to count anew each time
    the GIL is released. A loop that reads small pieces of a file releases it for some microseconds at a time, takes it
    again before anybody has woken up, and so keeps an event loop out for 200 ms and more.
    """
    time.sleep(_PAUSE)
