"""An upload that the event loop receives and a thread reads rows from, no faster than rows are run."""

# ruff: noqa: FA100  # Optional, as pydantic and FastAPI read annotations of this package at run time
import asyncio
import gzip
import importlib.util
import io
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import IO, Any, Optional, Union, cast

from ..._core.splitting import NotAnArray
from ...batch.formats.csv import CsvSource, Dialect
from ...batch.formats.encoding import AsUtf8, encoding_of, is_utf8, not_in
from ...batch.formats.json import JsonSource, elements
from ...batch.formats.opening import format_of, is_json, other_format
from ...batch.formats.packing import BLOCK, BREAKS_OFF, LAYERS, LONGEST_MAGIC, archive_of, packing_of
from ...batch.formats.source import Input, Record
from ...exceptions import ConfigurationError

READ_AHEAD = 262_144
"""Bytes of an upload that are buffered: a few chunks of ordinary rows. Above it the client has to wait."""

ROWS_AT_ONCE = 100
"""Rows that the thread reads at a time: they share the cost of switching threads."""

WEIGHT_AT_ONCE = 1_000_000
"""Weight (see `Unpacked`) of the rows that the thread reads at a time."""

RATIO_FROM = 10_000_000
"""Unpacked bytes from which the ratio is checked: smaller files may be as repetitive as they like."""

_FIRST_READ = LONGEST_MAGIC
"""Minimum bytes of the first read, if the file is that large: they show how it is compressed."""

_LONGEST_BOUNDARY = 200
"""Bytes; RFC 2046 allows 70, and the parser's own limit depends on its version."""

_PART_HEADERS = 16_384
"""Bytes of the headers of one part of a form."""

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
    """The upload cannot be read: it has the wrong format, or is too large. `status` is for the response."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


class Gone(Exception):
    """The client disconnected during its upload."""


@dataclass(frozen=True)
class Limits:
    """The limits of an upload, in bytes: of its size, of its decompressed size, and of one row.

    `ratio` is how many times its size it may unpack to, from `RATIO_FROM` bytes unpacked on.
    """

    max_bytes: int
    max_unpacked_bytes: int
    max_row_bytes: int
    ratio: float


@dataclass(frozen=True)
class Reading:
    """How the text of an upload is read. `asked` are the CSV options in the request itself."""

    encoding: str = "utf-8"
    dialect: Dialect = field(default_factory=Dialect)
    types: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()


class Upload(io.RawIOBase):
    """The body of a request: the event loop writes it as it arrives, and a thread reads it, waiting if necessary."""

    def __init__(self, most_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most_bytes
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._error: Optional[Exception] = None
        self._least = _FIRST_READ
        self.over = False
        self.received = 0
        self.taken = 0
        """Bytes that the thread has read."""

    async def write_part(self, part: bytes, more: bool) -> None:
        """Add received bytes. Returns when there is room for more, so that the client has to wait."""
        self.received += len(part)
        with self._changed:
            self._parts.append(part)
            self._held += len(part)
            self.over = not more
            if self.received > self._most:
                self._error = UploadError(f"the upload is larger than {self._most:,} bytes", 413)
            self._room.clear()
            self._changed.notify_all()
            full = self._held > READ_AHEAD
        if full and more:
            await self._room.wait()

    def fail(self, error: Exception) -> None:
        """Make the thread's next read raise `error`, unless another error is set."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error that the next read would raise."""
        if self._error is not None:
            raise self._error

    @property
    def waiting(self) -> bool:
        """Whether the next read would wait for the client."""
        return self._held < self._least and not self.over

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
            self.taken += count
            if self._held <= READ_AHEAD:
                self._loop.call_soon_threadsafe(self._room.set)
            return count


def kind_of(media_type: str, name: str) -> Optional[str]:
    """Return `csv`, `jsonl` or `json` by a file's name or media type; `None` for others."""
    by_name = format_of(name)
    return by_name if by_name in {"csv", "jsonl", "json"} else _BY_MEDIA_TYPE.get(media_type)


class Rows:
    """The rows of an upload, for a thread to iterate. Raises `UploadError` if it has none, and `Gone`.

    `kind` is their format, and `header` names the columns of CSV, once they are known; `seen` is called with the bytes
    of the file as they are read.
    """

    def __init__(
        self,
        upload: Upload,
        content_type: str,
        kind: Optional[str],
        limits: Limits,
        reading: Optional[Reading] = None,
        seen: Optional[Callable[[bytes], None]] = None,
    ) -> None:
        self._upload = upload
        self._content_type = content_type
        self.kind = kind
        self.header: Optional[list[str]] = None
        self._limits = limits
        self._reading = reading or Reading()
        self._seen = seen
        self._unpacked: Optional[Unpacked] = None
        self._records = self._read()

    @property
    def weight(self) -> int:
        """The weight of the bytes read so far; see `Unpacked`."""
        return 0 if self._unpacked is None else self._unpacked.weight

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def _read(self) -> Iterator[Record]:
        stream: io.RawIOBase = self._upload
        if media_type_of(self._content_type) == "multipart/form-data":
            part = FilePart(self._upload, self._content_type)
            stream, self.kind = part, self.kind or part.kind()
        kind = self.kind
        if kind is None:
            raise UploadError("unknown format: name the file .csv, .jsonl or .json, or pass format= in the query", 415)
        reading = self._reading
        if kind != "csv" and reading.asked:
            raise UploadError(f"{', '.join(reading.asked)} in the query: for CSV only")
        buffered = self._unpack(stream)
        longest = self._limits.max_row_bytes
        if kind == "csv" and is_json(buffered.peek(LONGEST_MAGIC)):  # type: ignore[attr-defined]  # as below
            raise UploadError("the upload looks like JSON, not CSV: pass format=json or format=jsonl in the query")
        try:
            if kind == "json":
                yield from elements(_as_utf8(buffered, reading.encoding), longest)
            elif kind == "jsonl":
                yield from JsonSource(Input(None, buffered), reading.encoding, longest)
            else:
                source = CsvSource(Input(None, buffered), reading.dialect, reading.types, reading.encoding, longest)
                self.header = source.header
                yield from source
        except NotAnArray:
            raise UploadError(_NO_ARRAY) from None
        except UnicodeError as error:
            raise UploadError(not_in("the upload", getattr(error, "encoding", reading.encoding))) from None
        except ConfigurationError as error:
            raise UploadError(str(error).replace("standard input", "the upload")) from None

    def _unpack(self, stream: io.RawIOBase) -> IO[bytes]:
        """Return the unpacked bytes of the file, counted."""
        packed: IO[bytes] = io.BufferedReader(stream if self._seen is None else _Seen(stream, self._seen))
        for _ in range(LAYERS):
            if _packing(packed) != "gzip":
                break
            packed = Unpacked(gzip.GzipFile(fileobj=packed), self._upload, self._limits).buffered()
        packing = _packing(packed)
        if packing == "gzip":
            raise UploadError("the upload is gzipped more than twice")
        if packing is not None:
            raise UploadError(f"the upload is {packing}: send the file itself, or gzipped", 415)
        start: bytes = packed.peek(LONGEST_MAGIC)  # type: ignore[attr-defined]  # a buffered reader
        told = "a Parquet file" if start.startswith(b"PAR1") else other_format(start)
        if told is not None:
            raise UploadError(f"the upload is {told}: send CSV, JSON or JSONL", 415)
        # Again if it is compressed, which costs a copy: the last stream counts the bytes that rows are made of.
        self._unpacked = Unpacked(packed, self._upload, self._limits)
        return self._unpacked.buffered()


def _as_utf8(stream: IO[bytes], encoding: str) -> IO[bytes]:
    found = encoding_of(stream.peek(BLOCK), encoding)  # type: ignore[attr-defined]  # a buffered reader
    return stream if is_utf8(found) else io.BufferedReader(AsUtf8(stream, found), BLOCK)


class _Seen(io.RawIOBase):
    """A stream that passes its bytes to a callback as they are read."""

    def __init__(self, stream: io.RawIOBase, seen: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._tell = seen

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        count = self._stream.readinto(buffer) or 0
        self._tell(bytes(buffer[:count]))
        return count


def _packing(stream: IO[bytes]) -> Optional[str]:
    start: bytes = stream.peek(LONGEST_MAGIC)  # type: ignore[attr-defined]  # a buffered reader
    if start.startswith(b"PK\x03\x04"):
        return "a zip archive or an Excel workbook"
    return packing_of(start) or archive_of(start)


class Unpacked(io.RawIOBase):
    """The unpacked bytes of a stream. Raises `UploadError` above a limit, and `Gone` once the run has ended.

    `weight` estimates the memory of the rows in the bytes read so far: their characters, and what Python adds for each
    value, list and object. It is counted here because `bytes.count` costs little compared with parsing.
    """

    def __init__(self, packed: Union[IO[bytes], gzip.GzipFile], upload: Upload, limits: Limits) -> None:
        self._packed: Any = packed
        self._upload = upload
        self._limits = limits
        self._size = 0
        self.weight = 0

    def buffered(self) -> IO[bytes]:
        """A buffered reader of it."""
        return cast("IO[bytes]", io.BufferedReader(self, BLOCK))

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`. Raises `UploadError` and `Gone`."""
        self._upload.check()
        try:
            data: bytes = self._packed.read1(len(buffer))
        except BREAKS_OFF as error:
            raise UploadError(f"the upload ends in the middle or is damaged: {error}") from None
        size = len(data)
        buffer[:size] = data
        self._size += size
        self._check_size()
        # An object with one member takes 184 bytes, a list with one item 88, a text 49 and its characters: up to four
        # bytes each outside Latin script.
        self.weight += size if data.isascii() else 4 * size
        self.weight += 64 * (data.count(b",") + data.count(b"[") + data.count(b";") + data.count(b"\t"))
        self.weight += 200 * data.count(b"{")
        return size

    def _check_size(self) -> None:
        most, ratio = self._limits.max_unpacked_bytes, self._limits.ratio
        if self._size > most:
            raise UploadError(f"the upload unpacks to more than {most:,} bytes", 413)
        if self._size > max(RATIO_FROM, ratio * self._upload.taken):
            raise UploadError(f"the upload unpacks to more than {ratio:g} times its size", 413)


def media_type_of(content_type: str) -> str:
    """Return the media type of a content type, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


_NO_ARRAY = "the body is not a JSON array of rows, or it ends in the middle of one: [{…}, {…}]"


class FilePart(io.RawIOBase):
    """The file of a `multipart/form-data` body, read as it arrives. An empty file input is no file."""

    def __init__(self, upload: Upload, content_type: str) -> None:
        if importlib.util.find_spec("python_multipart") is None:
            raise UploadError(
                "this server takes no forms: send the file itself as the body (pip install python-multipart)", 415
            )
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise UploadError("the form names no boundary")
        if len(boundary) > _LONGEST_BOUNDARY:
            raise UploadError(f"the form's boundary is longer than {_LONGEST_BOUNDARY} characters")
        self._upload = upload
        self._options: Callable[[bytes], tuple[bytes, dict[bytes, bytes]]] = parse_options_header
        self._name = self._value = b""
        self._header_bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._wanted = False
        self._found = self._over = self._another = False
        self._bytes = b""
        self._least = _FIRST_READ
        self._unfit = FormParserError
        try:
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
        except FormParserError as error:
            raise UploadError(f"the form cannot be read: {error}") from None

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_bytes += size + 1
        if self._header_bytes > _PART_HEADERS:
            raise UploadError(f"the headers of a part of the form are longer than {_PART_HEADERS:,} bytes")

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_headers(self) -> None:
        name = self._name_of(self._headers.get(b"content-disposition", b""))
        self._another = self._another or bool(name and self._found)
        if name and not self._found:
            self._found = self._wanted = True
            self._file_name, self._file_headers = name, self._headers
        self._headers, self._header_bytes = {}, 0

    def _name_of(self, disposition: bytes) -> str:
        name = self._options(disposition)[1].get(b"filename", b"")
        if name or b"filename*" not in disposition.lower():
            return name.decode("utf-8", "replace")
        # As RFC 5987 has names that are not ASCII; some clients send no other.
        message = Message()
        message["content-disposition"] = disposition.decode("latin-1")
        return message.get_filename("")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._bytes += data[start:end]

    def _on_end(self) -> None:
        self._over = self._over or self._wanted
        self._wanted = False

    def _feed(self) -> bool:
        """Parse the next bytes; return `False` if there are none."""
        part = self._upload.read(BLOCK)
        if not part:
            return False
        try:
            self._parser.write(part)
        except self._unfit as error:
            raise UploadError(f"the form cannot be read: {error}") from None
        return True

    def kind(self) -> Optional[str]:
        """The file's format by its name or type. Raises `UploadError` for a form without a file."""
        while not self._found and self._feed():
            pass
        if not self._found:
            raise UploadError("the form has no file")
        media_type = self._options(self._file_headers.get(b"content-type", b""))[0]
        return kind_of(media_type.decode("latin-1").lower(), self._file_name)

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`. Raises as `Upload` does."""
        while len(self._bytes) < self._least and not self._over:
            if not self._feed():
                raise UploadError("the form ends in the middle of its file")
        while not (self._bytes or self._another) and self._feed():
            pass
        if self._another and not self._bytes:
            raise UploadError("the form has more than one file: send each in a request of its own")
        self._least = 1
        count = min(len(buffer), len(self._bytes))
        buffer[:count] = self._bytes[:count]
        self._bytes = self._bytes[count:]
        return count
