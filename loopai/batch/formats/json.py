"""Rows of JSON: one object per line, or the elements of one array. The first byte decides which."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any, Optional

from pydantic_core import from_json

from ..._core.splitting import BYTE_ORDER_MARK, ArraySplitter, LineSplitter, NotAnArray
from ..._core.texts import json_kind
from ...exceptions import ConfigurationError, OptionError
from .encoding import AsUtf8, checked, encoding_of, is_utf8, not_in
from .packing import BLOCK, BREAKS_OFF, cut_off
from .source import LONGEST_LINE, FromInput, Input, Record

_BLANKS = b" \t\r\n"
_END_OF_FILE = b"\x1a"  # DOS end-of-file character

# What JSON parsers return for a number that is too large for a float.
_INFINITE = (float("inf"), float("-inf"))


def read_json(text: bytes) -> Any:
    """Return the value. Raises `ValueError` for invalid JSON, and for a number that is too large."""
    value = from_json(text, allow_inf_nan=False)
    if _has_infinity(value):
        raise ValueError("a number in it is too large: write it as text")
    return value


def _has_infinity(value: Any) -> bool:
    rest: list[Any] = [[value]]
    while rest:
        within = rest.pop()
        for item in within.values() if type(within) is dict else within:
            kind = type(item)
            if kind is dict or kind is list:
                rest.append(item)
            elif kind is float and item in _INFINITE:
                return True
    return False


def elements(stream: IO[bytes], longest: int) -> Iterator[Record]:
    """Yield the elements of a JSON array of any length, one at a time. Raises `NotAnArray`."""
    splitter = ArraySplitter(longest)
    while block := stream.read1(BLOCK):  # type: ignore[attr-defined]  # a buffered reader
        for number, element in splitter.feed(block):
            yield _record("row", number, element, longest)
    splitter.finish()


def _record(unit: str, number: int, text: Optional[bytes], longest: int) -> Record:
    if text is None:
        return number, None, f"{unit} {number} is longer than {longest:,} bytes"
    try:
        columns = read_json(text)
        if type(columns) is dict:
            return number, columns, None
        problem = f"is {json_kind(columns)}: each row must be an object {{…}}"
    except ValueError as error:
        if "invalid unicode code point" in str(error):
            return number, None, not_in(f"{unit} {number}", "utf-8")
        problem = f"is not JSON: {_within_line(error)}"
    return number, None, f"{unit} {number} {problem}"


def _within_line(error: ValueError) -> str:
    # The parser counts lines of its own, and may report its second line once ours has ended.
    return re.sub(r" at line \d+ column 0$", "", str(error)).replace(" at line 1 column", " at column")


class JsonSource(FromInput):
    """One JSON object per line, blank lines skipped, or one array of objects; the first byte decides which.

    A row of more than `longest` bytes fails. UTF-16 and UTF-32 are detected if the encoding is UTF-8. Raises
    `ConfigurationError` for anything other than lines or an array.
    """

    header: Optional[list[str]] = None

    def __init__(self, given: Input, encoding: str = "utf-8", longest: int = LONGEST_LINE) -> None:
        super().__init__(given)
        self._longest = longest
        self._given_encoding = checked(encoding)
        self._encoding = self._given_encoding
        self._is_array: Optional[bool] = None

    @property
    def reading(self) -> Optional[dict[str, Any]]:
        """See `FromInput`."""
        return None if is_utf8(self._given_encoding) else {"encoding": self._given_encoding}

    def check(self) -> None:
        """Check that there are rows of JSON, judging by the first bytes. Raises `ConfigurationError`."""
        head = self._input.head()
        self._encoding = encoding_of(head, self._given_encoding)
        if not is_utf8(self._encoding):
            head = head.decode(self._encoding, "ignore").encode()
        start = head.removeprefix(BYTE_ORDER_MARK).lstrip(_BLANKS).rstrip(_END_OF_FILE)
        self._is_array = start.startswith(b"[")
        if not start or self._is_array:
            return
        if not start.startswith(b"{"):
            first = start.decode("utf-8", "replace")[:1]
            raise OptionError(
                "{name} starts with {first!r}: JSON rows are one object {{…}} a line, or an array of objects. "
                "Pass {format} if it is another format",
                name=self.name,
                first=first,
            )
        line, _, rest = start.partition(b"\n")
        following = rest.lstrip(_BLANKS)
        if following and not following.startswith(b"{") and _is_cut(line):
            raise ConfigurationError(
                f"{self.name} holds one object over several lines: JSON rows are one object {{…}} a line, "
                "or an array of objects"
            )

        if _is_followed(line) and (not following or _is_followed(following.partition(b"\n")[0])):
            raise ConfigurationError(
                f"{self.name} has several objects in a line, or commas between them: JSON rows are one object {{…}} a "
                "line, or an array of objects"
            )

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""
        if self._is_array is None:
            self.check()
        file: IO[bytes] = self._input.open()
        if not is_utf8(self._encoding):
            file = io.BufferedReader(AsUtf8(file, self._encoding), BLOCK)
        rows = elements(file, self._longest) if self._is_array else self._lines(file)
        last = 0
        try:
            for record in rows:
                last = record[0]
                yield record
        except NotAnArray:
            yield last + 1, None, f"after row {last}, the array ends in the middle, or something else follows it"
        except BREAKS_OFF as error:
            yield last + 1, None, f"{'row' if self._is_array else 'line'} {last + 1}: {cut_off(error)}"
        except UnicodeError:
            yield last + 1, None, f"{not_in(f'what follows line or row {last}', self._encoding)}; it is not read"
        finally:
            self._input.close()

    def _lines(self, file: IO[bytes]) -> Iterator[Record]:
        splitter = LineSplitter(self._longest)
        while block := file.read1(BLOCK):  # type: ignore[attr-defined]  # a buffered reader
            for number, line in splitter.feed(block):
                # No row starts with whitespace.
                if line is None or line[:1] != _END_OF_FILE or line.strip() != _END_OF_FILE:
                    yield _record("line", number, line, self._longest)
        for number, line in splitter.finish():
            last = None if line is None else line.rstrip(_END_OF_FILE)
            if last != b"":
                yield _record("line", number, last, self._longest)


def _is_cut(line: bytes) -> bool:
    """Whether a JSON value is still open at the end of this line."""
    try:
        from_json(line)
    except ValueError as error:
        return str(error).startswith("EOF")
    return False


def _is_followed(line: bytes) -> bool:
    """Whether another object, or a comma, follows the object that begins the line."""
    text = line.decode("utf-8", "replace").strip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip()[:1] in {"{", ","}
