"""A file or standard input as bytes, and the interface of every source of rows. Formats have modules of their own."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Optional, Protocol, Union, cast

from ...exceptions import ConfigurationError
from .packing import (
    BREAKS_OFF,
    LAYERS,
    LONGEST_MAGIC,
    ZippedFile,
    archive_of,
    document_in,
    packing_of,
    unpacked,
)

Record = tuple[int, Optional[dict[str, Any]], Optional[str]]
"""Line number from 1, columns, and the reason if the columns could not be read."""

LONGEST_LINE = 30_000_000
"""Longest row in bytes unless a source is told otherwise; the server accepts no larger request."""

_HEAD = 8192
"""Bytes that are read to detect an input's format; no more than one read of a file returns."""


class Source(Protocol):
    """Rows of one input. `repeatable` says whether iterating again starts over."""

    name: str
    repeatable: bool

    @property
    def header(self) -> Optional[list[str]]:
        """The columns that every row has, `None` if rows differ."""

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""

    def fingerprint(self) -> dict[str, Any]:
        """What identifies this input; without its content if it can be read only once."""

    def fraction(self) -> Optional[float]:
        """How much of the input has been read, from 0 to 1; `None` if unknown."""


class Input:
    """A file or standard input as a decompressed byte stream. Raises `ConfigurationError` if it cannot be read."""

    def __init__(self, path: Union[str, os.PathLike[str], None], stream: Optional[IO[bytes]]) -> None:
        self.path = None if path is None else Path(path)
        self.name = getattr(stream, "called", "standard input") if self.path is None else str(self.path)
        self._stream = stream
        self._raw: Optional[IO[bytes]] = None
        self._opened: Optional[io.BufferedReader] = None
        self._open: list[IO[bytes]] = []
        self._size = os.stat(self.path).st_size if self.path is not None else 0
        self.repeatable = self.path is not None and self.path.is_file()
        self.packed = False
        """Whether the input is compressed; known once it has been opened."""

    def head(self) -> bytes:
        """Return some of the first bytes, decompressed; all of a small input. Blocks until there are any."""
        opened = self.open()
        try:
            head = opened.peek(_HEAD)
        except BREAKS_OFF as error:
            self.close()
            raise ConfigurationError(f"{self.name}: its first line cannot be read: {error}") from None
        if self.repeatable:
            self.close()
            self._raw = None  # for the caller, nothing has been read
        else:
            self._opened = opened
        return head

    def open(self) -> io.BufferedReader:
        """Return the bytes from the start, buffered; compression is detected by the first bytes."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            return opened
        try:
            return self._unpacked(self._buffered())
        except BaseException:
            self.close()
            raise

    def is_zip(self) -> bool:
        """Whether the file itself is a zip archive."""
        if self.path is None or not self.repeatable:
            return False
        raw = self._buffered()
        try:
            return packing_of(raw.peek(LONGEST_MAGIC)) == "zip"
        except OSError as error:
            raise ConfigurationError(f"{self.name} cannot be read: {error.strerror}") from None
        finally:
            self.close()

    def _buffered(self) -> io.BufferedReader:
        if self.path is not None:
            try:
                self._raw = open(self.path, "rb")  # noqa: SIM115  # closed by `close`
            except OSError as error:
                raise ConfigurationError(f"{self.name} cannot be read: {error.strerror}") from None
            stream: IO[bytes] = self._raw
        elif self._stream is None:
            raise ConfigurationError(f"{self.name} can be read only once")
        else:
            stream, self._stream = self._stream, None
        buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
        self._open.append(buffered)
        return buffered

    def _unpacked(self, packed: io.BufferedReader) -> io.BufferedReader:
        for layer in range(LAYERS + 1):
            try:
                head = packed.peek(LONGEST_MAGIC)
            except BREAKS_OFF as error:
                raise ConfigurationError(f"{self.name}: its first line cannot be read: {error}") from None
            archive, packing = archive_of(head), packing_of(head)
            if archive is not None:
                raise ConfigurationError(f"{self.name} is {archive}: unpack it first")
            if packing is None:
                break
            if layer == LAYERS:
                raise ConfigurationError(f"{self.name} is compressed more than twice: unpack it first")
            if packing != "zip":
                packed = unpacked(packed, packing)
            elif layer:
                raise ConfigurationError(f"{self.name} is a compressed zip archive or workbook: unpack it first")
            elif self.path is None or not self.repeatable:
                return self._unpacked(self._kept(packed))
            elif document_in(ZippedFile(self.path, self.name).names) is not None:
                break  # a format that is itself a zip archive
            else:
                packed = ZippedFile(self.path, self.name).open()
            self.packed = True
            self._open.append(packed)
        return packed

    def _kept(self, stream: IO[bytes]) -> io.BufferedReader:
        """Copy a stream to a temporary file that lives as long as this: zip archives are read from their end."""
        file = tempfile.NamedTemporaryFile(prefix="loopai-input-")  # noqa: SIM115  # see above
        weakref.finalize(self, file.close)
        shutil.copyfileobj(stream, file)
        file.flush()
        self.path, self._size, self.repeatable = Path(file.name), file.tell(), True
        self.close()
        return self._buffered()

    def close(self) -> None:
        """Close whatever was opened."""
        while self._open:
            self._open.pop().close()

    def let_go(self) -> None:
        """Close whatever was opened for inspection and is not being read."""
        if self._opened is not None:
            self._opened = None
            self.close()

    def fingerprint(self) -> dict[str, Any]:
        """See `Source`."""
        if not self.repeatable or self.path is None:
            return {"name": self.name}
        found = blake2b(digest_size=16)
        with open(self.path, "rb") as file:
            for block in iter(partial(file.read, 1 << 20), b""):
                found.update(block)
        name = self.path.name if self.name == str(self.path) else self.name
        return {"name": name, "bytes": self._size, "digest": found.hexdigest()}

    def fraction(self) -> Optional[float]:
        """See `Source`."""
        if self._raw is None or not self._size:
            return None
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)


class FromInput:
    """What sources of all formats take from their input."""

    def __init__(self, given: Input) -> None:
        self._input = given
        self.name = given.name
        self.repeatable = given.repeatable

    @property
    def reading(self) -> Optional[dict[str, Any]]:
        """What affects how the bytes become rows; `None` if nothing does."""
        return None

    def let_go(self) -> None:
        """Close whatever was opened for inspection and is not being read."""
        self._input.let_go()

    def fingerprint(self) -> dict[str, Any]:
        """See `Source`."""
        return self._input.fingerprint()

    def fraction(self) -> Optional[float]:
        """See `Source`."""
        return self._input.fraction()


def too_long(line: int, longest: int) -> str:
    """The message for a row that is longer than the limit."""
    return f"line {line} is longer than {longest:,} bytes"
