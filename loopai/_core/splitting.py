"""Split a stream of bytes into the rows of JSONL or of a JSON array. Push parsers, which do not parse the rows.

Time is linear in the bytes fed, and at most `longest` bytes of a row are held: a longer row is skipped and reported as
`None`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

Piece = tuple[int, Optional[bytes]]
"""The line (JSONL) or the number (array) of a row, from 1, and its bytes; None for a row longer than the limit."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_BLANK = b" \t\r\n"
_BLANKS = re.compile(rb"[ \t\r\n]*")
_AT_TOP = re.compile(rb'["{}\[\],]')
_DEEPER = re.compile(rb'["{}\[\]]')
_TEXT = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_FLAT = re.compile(rb'[ \t\r\n]*(\{[^"{}\[\]]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"{}\[\]]*){0,200}\})[ \t\r\n]*,', re.DOTALL)
"""An object without nested brackets, and the comma after it: most elements match this fast path."""

_DEEP = 500
"""Nesting depth from which brackets are counted in blocks; no parser of rows accepts such depth."""

_OPENING, _CLOSING, _QUOTE, _COMMA = b"[{", b"]}", b'"', b","


class NotAnArray(ValueError):
    """The bytes are not a JSON array, or they end in the middle of one."""


class _Held:
    """The bytes of one row received so far, until there are more than `longest`."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._parts: list[bytes] = []
        self._size = 0
        self._too_long = False

    def __bool__(self) -> bool:
        return self._size > 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._longest:
            self._too_long = True
            self._parts.clear()
        elif part:
            self._parts.append(part)

    def take(self) -> Optional[bytes]:
        """Return the row, None if it is too long, and start the next one."""
        row = None if self._too_long else b"".join(self._parts)
        self._parts.clear()
        self._size, self._too_long = 0, False
        return row


class _Start:
    """Drops a byte order mark at the start, which may arrive in parts."""

    def __init__(self) -> None:
        self._held = b""
        self._over = False

    def passed(self, data: bytes) -> bytes:
        if self._over:
            return data
        self._held += data
        if len(self._held) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(self._held):
            return b""
        self._over = True
        return self.rest().removeprefix(BYTE_ORDER_MARK)

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return held


class LineSplitter:
    """Rows of JSONL. Blank lines are skipped, and so is a byte order mark at the start."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._held = _Held(longest)
        self._start = _Start()
        self._line = 1

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Return the rows that end in `data`."""
        data = self._start.passed(data)
        place = 0
        while place < len(data):
            if not self._held and data[place] in _BLANK:
                blanks = _BLANKS.match(data, place)
                begin = blanks.end() if blanks is not None else place
                self._line += data.count(b"\n", place, begin)
                place = begin
            end = data.find(b"\n", place)
            if end < 0:
                self._held.add(data[place:])
                return
            if self._held:
                self._held.add(data[place:end])
                yield self._line, self._held.take()
            else:
                yield self._line, data[place:end] if end - place <= self._longest else None
            self._line += 1
            place = end + 1

    def finish(self) -> Iterator[Piece]:
        """Return the last row, if no line break ended it."""
        self._held.add(self._start.rest())
        if self._held:
            yield self._line, self._held.take()


_AFTER = b" \t\r\n\x1a"
"""Characters allowed after an array; the last is the DOS end-of-file character."""


class ArraySplitter:
    """Elements of a JSON array, each the bytes between two of its commas. Raises `NotAnArray`."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._held = _Held(longest)
        self._start = _Start()
        self._number = self._depth = 0
        self._in_text = self._escaped = self._ended = False

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Return the elements that end in `data`."""
        data = self._start.passed(data)
        place = begin = self._opened(data)
        while self._depth and place < len(data):
            if self._in_text:
                place = self._end_of_text(data, place)
                continue
            if self._depth > _DEEP:
                place = self._end_of_window(data, place)
                continue
            if place == begin and self._depth == 1 and not self._held:
                flat = _FLAT.match(data, place)
                if flat is not None:
                    element = flat.group(1)
                    begin = place = flat.end()
                    self._number += 1
                    yield self._number, element if len(element) <= self._longest else None
                    continue
            found = (_AT_TOP if self._depth == 1 else _DEEPER).search(data, place)
            if found is None:
                break
            mark, place = found.group(), found.end()
            if mark == _QUOTE:
                self._in_text = True
            elif mark in _OPENING:
                self._depth += 1
            elif mark in _CLOSING:
                self._depth -= 1
            if mark == _COMMA or not self._depth:
                self._add(data[begin : place - 1])
                begin = place
                self._ended = not self._depth
                # An array without elements has no last one.
                if not self._ended or self._held or self._number:
                    self._number += 1
                    yield self._number, self._held.take()
        if self._depth:
            self._add(data[begin:])
        elif self._ended and data[begin:].strip(_AFTER):
            raise NotAnArray

    def finish(self) -> None:
        """Check that the array has ended. Raises `NotAnArray`."""
        if not self._ended:
            raise NotAnArray

    def _add(self, part: bytes) -> None:
        # Whitespace before an element is not part of it: there may be a lot.
        self._held.add(part if self._held else part.lstrip(b" \t\r\n"))

    def _opened(self, data: bytes) -> int:
        """Return the position after the opening bracket if it is in `data`; else 0."""
        if self._depth or self._ended:
            return 0
        start = data.lstrip(b" \t\r\n")
        if not start:
            return 0
        if start[:1] != b"[":
            raise NotAnArray
        self._depth = 1
        return len(data) - len(start) + 1

    def _end_of_window(self, data: bytes, place: int) -> int:
        """Count brackets in blocks while too few can close for an element to end."""
        quote = data.find(_QUOTE, place, place + _DEEP)
        end = quote if quote >= 0 else min(len(data), place + _DEEP)
        window = data[place:end]
        self._depth += sum(window.count(mark) for mark in (b"[", b"{"))
        self._depth -= sum(window.count(mark) for mark in (b"]", b"}"))
        self._in_text = quote >= 0
        return end + 1 if self._in_text else end

    def _end_of_text(self, data: bytes, place: int) -> int:
        if self._escaped:
            self._escaped = False
            return place + 1
        text = _TEXT.match(data, place)
        place = text.end() if text is not None else place
        if place < len(data):
            # This is the quote that ends the text, or a backslash whose character arrives with the next part.
            self._in_text = self._escaped = data[place] != _QUOTE[0]
            place += 1
        return place
