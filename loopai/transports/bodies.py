"""A reply's body as it arrives: decompressed, counted, and abandoned once it exceeds the limit."""

from __future__ import annotations

import zlib
from typing import Optional

START_KEPT = 65_536
"""Bytes kept of a body that is too large: enough for an error to show what kind of body it is."""

_GZIP_OR_ZLIB, _BARE_DEFLATE = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class Undecodable(Exception):
    """The body is not compressed as its header says."""


_ASKED_FOR = frozenset({"gzip", "x-gzip", "deflate"})
_COMPRESSED = _ASKED_FOR | {"br", "zstd"}
"""The codings that HTTP libraries decode. Other names are inventions of servers for an unencoded body."""


def _coding_of(header: str) -> Optional[str]:
    """Return the coding of a body, `None` for none. Raises `Undecodable` for one that no request accepts."""
    codings = [name for name in (part.strip().lower() for part in header.split(",")) if name in _COMPRESSED]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _ASKED_FOR:
        raise Undecodable(f"its coding is {', '.join(codings)[:100]!r}, and gzip or deflate was asked for")
    return codings[0]


class ReplyBody:
    """Collects a body of at most `limit` decompressed bytes; `None` for no limit.

    Raises `Undecodable` for a coding that no request asks for: HTTP libraries decompress those in one go.
    """

    def __init__(self, limit: Optional[int], coding: str = "") -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        coded = _coding_of(coding) is not None
        self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if coded else None
        self._begun = False
        self.cut = False

    def feed(self, data: bytes) -> bool:
        """Add received bytes; return `False` once the body is too large. Raises `Undecodable`."""
        if self._decoder is None:
            return self._keep(data)
        # Never decompress more than one byte beyond the limit.
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
        """Return the body, or the start of one that is too large."""
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return whole[:START_KEPT] if self.cut else whole
