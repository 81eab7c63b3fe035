"""Let the event loop run during long work in a thread."""

from __future__ import annotations

import time

ROWS_AT_ONCE = 1000
"""Rows read between two calls of `release_gil`: some 5 ms of work."""

_PAUSE = 0.0001
"""Seconds: long enough for a thread that waits for the GIL to wake up and take it."""


def release_gil() -> None:
    """Let another thread run.

    CPython asks a thread to release the GIL after another has waited 5 ms for it, and restarts that count at each
    release. A loop that reads small pieces of a file releases the GIL for microseconds and takes it back before another
    thread wakes up, which can block an event loop for 200 ms and more.
    """
    time.sleep(_PAUSE)
