"""Detect a shutdown while responses are still being sent: servers end the lifespan only after the last one."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Callable, Optional


@contextmanager
def on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in the running loop when SIGTERM or SIGINT comes, before the server's own handler.

    Only in the main thread, as Python requires, and only if the server has a handler. Restored afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    ours: dict[int, Any] = {}
    theirs: dict[int, Any] = {}
    number: int
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            theirs[number] = handler
            ours[number] = _chained(loop, stop, handler)
            signal.signal(number, ours[number])
    try:
        yield
    finally:
        for number, handler in theirs.items():
            # Another one may have been set since, which is not ours to remove.
            if signal.getsignal(number) is ours[number]:
                signal.signal(number, handler)


def _chained(
    loop: asyncio.AbstractEventLoop, stop: Callable[[], None], handler: Callable[[int, Optional[FrameType]], Any]
) -> Callable[[int, Optional[FrameType]], Any]:
    def handle(number: int, frame: Optional[FrameType]) -> Any:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(stop)
        return handler(number, frame)

    return handle
