"""A reply's body as it arrives: decoded from its coding, counted, and given up once it is larger than is wanted."""

from __future__ import annotations

import zlib
from typing import Optional

START_KEPT = 65_536
"""Bytes that are kept of a body which is too large: enough for an error to say what came."""

_GZIP_OR_ZLIB, _BARE_DEFLATE = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class Undecodable(Exception):
    """The body is not in the coding that its header names."""


def is_plain(coding: str) -> bool:
    """Whether a body of this `Content-Encoding` is read here; others are decoded by the HTTP library."""
    return coding.strip().lower() in {"", "identity", "gzip", "x-gzip", "deflate"}


class ReplyBody:
    """Collects a body of at most `limit` bytes, decoded; `None` is without limit."""

    def __init__(self, limit: Optional[int], coding: str = "") -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        coded = coding.strip().lower() not in {"", "identity"}
        self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if coded else None
        self._begun = False
        self.cut = False

    def feed(self, data: bytes) -> bool:
        """Take what arrived; `False` once the body is too large. Raises `Undecodable`."""
        if self._decoder is None:
            return self._keep(data)
        # No more than one byte beyond the limit is ever unpacked.
        room = 0 if self._limit is None else self._limit - self._size + 1
        try:
            decoded = self._decoder.decompress(data, room)
        except zlib.error as error:
            if self._begun:
                raise Undecodable(str(error)) from None
            self._decoder = zlib.decompressobj(_BARE_DEFLATE)  # what some servers call deflate
            try:
                decoded = self._decoder.decompress(data, room)
            except zlib.error:
                raise Undecodable(str(error)) from None
        self._begun = self._begun or bool(data)
        return self._keep(decoded)

    def _keep(self, data: bytes) -> bool:
        self._parts.append(data)
        self._size += len(data)
        self.cut = self._limit is not None and self._size > self._limit
        return not self.cut

    def content(self) -> bytes:
        """Return what was collected, of a body that is too large its start."""
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return whole[:START_KEPT] if self.cut else whole
