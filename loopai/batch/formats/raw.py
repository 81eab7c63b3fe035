"""`MadeBytes`: a stream of bytes that are made as they are read, for the readers of the standard library."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import Any


class MadeBytes(io.RawIOBase):
    """A stream whose next bytes `more` gives."""

    _held = b""

    @abstractmethod
    def more(self, most: int) -> bytes:
        """The next bytes, where so many are wanted; none at the end. Those above it are kept for the next read."""

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
