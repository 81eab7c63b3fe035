"""An upload on its way from the event loop to a thread that reads rows of it, no faster than the rows are wanted."""

# ruff: noqa: FA100  # Optional, as pydantic and FastAPI read annotations of this package at run time
import asyncio
import gzip
import importlib.util
import io
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any, Optional, cast

from pydantic_core import from_json

from ...batch import open_source
from ...batch.formats.opening import format_of
from ...batch.formats.source import LONGEST_LINE, Record
from ...exceptions import ConfigurationError

READ_AHEAD = 262_144
"""Bytes of an upload that are held: a few chunks of ordinary rows; then the client has to wait."""

_TO_TELL_GZIP = 2
"""Bytes that the first read gives at least, where there are so many: gzip is told by them."""

ROWS_AT_ONCE = 100
"""Rows read in one go of the thread: what the loop pays for the change of threads is divided among them."""

_BY_MEDIA_TYPE = {
    "application/json": "json",
    "application/jsonl": "jsonl",
    "application/json-lines": "jsonl",
    "application/ndjson": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/x-jsonlines": "jsonl",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
}


class UploadError(Exception):
    """The upload cannot be read on: it is no input of its format, or larger than allowed."""


class Gone(Exception):
    """The client went away in the middle of its upload."""


class Upload(io.RawIOBase):
    """The body: written by the event loop as it comes, read by a thread, which waits for it."""

    def __init__(self, most_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most_bytes
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._error: Optional[Exception] = None
        self._least = _TO_TELL_GZIP
        self.over = False
        self.received = 0

    async def write_part(self, part: bytes, more: bool) -> None:
        """Take what came. Returns when there is room for more, which is what holds the client back."""
        self.received += len(part)
        with self._changed:
            self._parts.append(part)
            self._held += len(part)
            self.over = not more
            if self.received > self._most:
                self._error = UploadError(f"the upload is larger than {self._most:,} bytes")
            self._room.clear()
            self._changed.notify_all()
            full = self._held > READ_AHEAD
        if full and more:
            await self._room.wait()

    def fail(self, error: Exception) -> None:
        """Have the thread see `error` instead of more bytes."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    @property
    def waiting(self) -> bool:
        """Whether the next read would wait for the client."""
        return not self._held and not self.over

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`; waits for the client. Raises `UploadError` and `Gone`."""
        with self._changed:
            self._changed.wait_for(lambda: self._held >= self._least or self.over or self._error is not None)
            if self._error is not None:
                raise self._error
            if not self._held:
                return 0
            if self._least > 1:
                self._least, self._parts = 1, deque([b"".join(self._parts)])
            while not self._parts[0]:
                self._parts.popleft()
            part = self._parts.popleft()
            count = min(len(buffer), len(part))
            buffer[:count] = part[:count]
            if count < len(part):
                self._parts.appendleft(part[count:])
            self._held -= count
            if self._held <= READ_AHEAD:
                self._loop.call_soon_threadsafe(self._room.set)
            return count


def kind_of(media_type: str, name: str) -> Optional[str]:
    """`csv`, `jsonl` or `json` by a file's name or a media type; `None` for others."""
    if name.lower().removesuffix(".gz").endswith(".json"):
        return "json"
    by_name = format_of(name)
    return by_name if by_name in {"csv", "jsonl"} else _BY_MEDIA_TYPE.get(media_type)


def records(upload: Upload, content_type: str, kind: Optional[str]) -> Iterator[Record]:
    """The rows of an upload, for a thread to iterate. Raises `UploadError` for what is none, and `Gone`."""
    stream: io.RawIOBase = upload
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        part = FilePart(upload, content_type)
        stream, kind = part, kind or part.kind()
    if kind is None:
        raise UploadError("what the rows are written in is not said: name the file .csv, .jsonl or .json")
    try:
        if kind == "json":
            yield from _elements(_unpacked(stream))
        else:
            yield from open_source("-", kind, stdin=cast("IO[bytes]", stream))
    except ConfigurationError as error:
        raise UploadError(str(error).replace("standard input", "the upload")) from None


def _unpacked(stream: io.RawIOBase) -> IO[bytes]:
    buffered = io.BufferedReader(stream)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered)) if buffered.peek(2)[:2] == b"\x1f\x8b" else buffered


_MARK = re.compile(rb'["\\\[\]{},]')
_OPENING, _CLOSING = b"[{", b"]}"


def _elements(stream: IO[bytes]) -> Iterator[Record]:
    """The elements of a JSON array, one at a time, whatever the array's length."""
    number = 0
    for element in _split(stream):
        number += 1
        try:
            row = from_json(element)
        except ValueError as error:
            yield number, None, f"row {number} is no JSON: {error}"
            continue
        if type(row) is dict:
            yield number, row, None
        else:
            yield number, None, f"row {number} is a JSON {type(row).__name__}: each row must be an object {{…}}"


def _split(stream: IO[bytes]) -> Iterator[bytes]:
    """The bytes between the commas of the outermost array."""
    held, depth, in_text, started, place = b"", 0, False, 0, 0
    ended = False
    while True:
        try:
            part = stream.read1(65536)  # type: ignore[attr-defined]  # both kinds of stream have it
        except (EOFError, OSError) as error:
            raise UploadError(f"the upload ends in the middle ({error})") from None
        if not part:
            break
        held = held[started:] + part
        place, started = place - started, 0
        while (match := _MARK.search(held, place)) is not None:
            mark, at = match.group(), match.start()
            place = match.end()
            if in_text:
                if mark == b"\\":
                    if place == len(held):  # what is escaped comes with the next part
                        place = at
                        break
                    place += 1
                elif mark == b'"':
                    in_text = False
                continue
            if ended or (not depth and (mark != b"[" or held[started:at].strip(b" \t\r\n\xef\xbb\xbf"))):
                raise UploadError("the body is no JSON array of rows: [{…}, {…}]")
            if mark == b'"':
                in_text = True
            elif mark in _OPENING:
                depth += 1
                started = place if depth == 1 else started
            elif mark in _CLOSING:
                depth -= 1
            if (depth == 1 and mark == b",") or not depth:
                element = held[started:at]
                started, ended = place, not depth
                if mark == b"," or element.strip():
                    yield element
        else:
            place = len(held)
        if len(held) - started > LONGEST_LINE:
            raise UploadError(f"a row is longer than {LONGEST_LINE:,} bytes")
    if not ended or held[started:].strip():
        raise UploadError("the body is no JSON array of rows, or ends in the middle of one: [{…}, {…}]")


class FilePart(io.RawIOBase):
    """The first file of a `multipart/form-data` body, read while it comes."""

    def __init__(self, upload: Upload, content_type: str) -> None:
        if importlib.util.find_spec("python_multipart") is None:
            raise UploadError(
                "this server takes no forms: send the file itself as the body (pip install python-multipart)"
            )
        from python_multipart.multipart import MultipartParser, parse_options_header

        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise UploadError("the form names no boundary")
        self._upload = upload
        self._options: Callable[[bytes], tuple[bytes, dict[bytes, bytes]]] = parse_options_header
        self._name = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._wanted = False
        self._found = self._over = False
        self._bytes = b""
        self._least = _TO_TELL_GZIP
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": self._on_name,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_end,
            },
        )

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        named = b"filename" in self._options(self._headers.get(b"content-disposition", b""))[1]
        if named and not self._found:
            self._found = self._wanted = True
            self._file_headers = self._headers
        self._headers = {}

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._bytes += data[start:end]

    def _on_end(self) -> None:
        self._over = self._over or self._wanted
        self._wanted = False

    def _feed(self) -> bool:
        """Parse the next bytes; `False` where there are no more."""
        from python_multipart.exceptions import MultipartParseError

        part = self._upload.read(65536)
        if not part:
            return False
        try:
            self._parser.write(part)
        except MultipartParseError as error:
            raise UploadError(f"the form cannot be read: {error}") from None
        return True

    def kind(self) -> Optional[str]:
        """The file's format by its name or type. Raises `UploadError` for a form without a file."""
        while not self._found and self._feed():
            pass
        if not self._found:
            raise UploadError("the form has no file")
        name = self._options(self._file_headers.get(b"content-disposition", b""))[1].get(b"filename", b"")
        media_type = self._options(self._file_headers.get(b"content-type", b""))[0]
        return kind_of(media_type.decode("latin-1").lower(), name.decode("utf-8", "replace"))

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`. Raises as `Upload` does."""
        while len(self._bytes) < self._least and not self._over:
            if not self._feed():
                raise UploadError("the form ends in the middle of its file")
        self._least = 1
        count = min(len(buffer), len(self._bytes))
        buffer[:count] = self._bytes[:count]
        self._bytes = self._bytes[count:]
        return count
