"""How each client waits, and runs work, besides the requests of a call; `_core` decides what for."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, wait
from typing import Any, Callable, Optional


class LoopPerformer:
    """As in an event loop: returns awaitables. See `loopai._core.flow.Performer`."""

    async def waited(self, flight: Future[Any], seconds: Optional[float]) -> bool:
        """See `Performer`."""
        over = asyncio.wrap_future(flight)
        try:
            await asyncio.wait({over}, timeout=seconds)
            return over.done()
        finally:
            over.cancel()

    async def aside(self, work: Callable[[], Any]) -> Any:
        """See `Performer`."""
        return await asyncio.to_thread(work)


class ThreadPerformer:
    """As in the calling thread. See `loopai._core.flow.Performer`."""

    def waited(self, flight: Future[Any], seconds: Optional[float]) -> bool:
        """See `Performer`."""
        return bool(wait([flight], seconds).done)

    def aside(self, work: Callable[[], Any]) -> Any:
        """See `Performer`."""
        return work()
