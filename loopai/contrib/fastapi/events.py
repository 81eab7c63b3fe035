"""Server-sent events: how one is written, and where events wait until the client reads them.

FastAPI's own support and sse-starlette detect a disconnect by calling `receive`, which would consume the upload: here
the upload is still coming in while events are sent.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any, Optional

from pydantic_core import to_json

MEDIA_TYPE = "text/event-stream"

HEADERS = {
    "Cache-Control": "no-store",
    # Asks nginx, and proxies that follow it, not to buffer events.
    "X-Accel-Buffering": "no",
}

HEARTBEAT = b": heartbeat\n\n"
"""A comment, which readers ignore; proxies see that the connection is alive."""

IN_MEMORY = 1_048_576
"""Bytes of events that wait in memory; more than that wait on the disk."""

ENOUGH_WAITING = 262_144
"""Bytes of waiting events above which a run whose upload is complete pauses."""

AT_ONCE = 65_536
"""Bytes sent in one piece: what a socket accepts without waiting."""


def event(name: str, data: Any, event_id: Optional[str] = None) -> bytes:
    """One event with JSON data. An id with a line break or NUL, which the format cannot carry, is left out."""
    named = "" if event_id is None or not _ID_BREAKS.isdisjoint(event_id) else f"id: {event_id}\n"
    return f"event: {name}\n{named}data: ".encode() + to_json(data) + b"\n\n"


_ID_BREAKS = frozenset("\r\n\0")


class Outbox:
    """A queue of events between the run, which adds them, and the response, which sends them.

    A client that reads nothing before its upload is complete (browsers, most HTTP libraries) must not stop the run:
    each side would wait for the other. So during the upload only the disk limits what waits; afterwards
    `ENOUGH_WAITING` does.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # closed by `close`
        self._read_to = self._written_to = 0
        self._closed = False
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Bytes that have not been sent yet."""
        return self._written_to - self._read_to

    def put(self, data: bytes) -> None:
        """Add events; never waits."""
        self._file.seek(self._written_to)
        self._file.write(data)
        self._written_to += len(data)
        self._filled.set()

    async def room(self) -> None:
        """Wait until few bytes are waiting."""
        while self.waiting > ENOUGH_WAITING:
            self._drained.clear()
            await self._drained.wait()

    def end(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._filled.set()

    async def take(self, timeout: float) -> Optional[bytes]:
        """Return some of the waiting bytes; empty bytes after `timeout` seconds without any; `None` at the end."""
        if not self.waiting and not self._closed:
            self._filled.clear()
            try:
                await asyncio.wait_for(self._filled.wait(), timeout)
            except asyncio.TimeoutError:
                return b""
        if not self.waiting:
            return None
        self._file.seek(self._read_to)
        data = self._file.read(AT_ONCE)
        self._read_to += len(data)
        if not self.waiting:
            # Start again at the beginning of the file, so that it does not grow with the run.
            self._file.seek(0)
            self._file.truncate()
            self._read_to = self._written_to = 0
        self._drained.set()
        return data

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()
