"""`MadeBytes`: a stream whose bytes are produced on demand, for the standard library's readers."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any


class MadeBytes(io.RawIOBase):
    """A stream that gets its next bytes from `more`."""

    _held = b""

    @abstractmethod
    def more(self, most: int) -> bytes:
        """Return the next bytes, about `most`; empty at the end. Surplus bytes are kept for the next read."""

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        held = self._held or self.more(len(buffer))
        count = min(len(buffer), len(held))
        buffer[:count] = held[:count]
        self._held = held[count:]
        return count
