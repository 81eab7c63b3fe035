"""A file or standard input as bytes, and what every source of rows is. Formats are in `sources`, `csvs`, `parquet`."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Optional, Protocol, Union, cast

from ...exceptions import ConfigurationError

Record = tuple[int, Optional[dict[str, Any]], Optional[str]]
"""Line number from 1, columns, and the reason where the columns could not be read."""

LONGEST_LINE = 30_000_000
"""Bytes of one row that are read unless a source is told otherwise; the server takes no larger request."""

BLOCK = 32_768
"""Bytes read at a time where rows are cut out of what is read; whoever waits for a row is not kept long by one."""


class Source(Protocol):
    """Rows of one input. `repeatable` says whether iterating again starts over."""

    name: str
    repeatable: bool

    @property
    def header(self) -> Optional[list[str]]:
        """The columns every row has, `None` where rows differ."""

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""

    def fingerprint(self) -> dict[str, Any]:
        """What tells this input from another; without content where it can be read only once."""

    def fraction(self) -> Optional[float]:
        """How much of the input has been read, from 0 to 1; `None` where nobody knows."""


class Input:
    """A file or standard input as a stream of bytes, unpacked."""

    def __init__(self, path: Union[str, os.PathLike[str], None], stream: Optional[IO[bytes]]) -> None:
        self.path = None if path is None else Path(path)
        self.name = getattr(stream, "called", "standard input") if self.path is None else str(self.path)
        self._stream = stream
        self._raw: Optional[IO[bytes]] = None
        self._open: list[IO[bytes]] = []
        self._size = os.stat(self.path).st_size if self.path is not None else 0
        self.repeatable = self.path is not None and self.path.is_file()

    def open(self) -> IO[bytes]:
        """The bytes from the start, buffered; gzip is recognised by its first bytes."""
        if self.path is not None:
            self._raw = open(self.path, "rb")  # noqa: SIM115  # closed by `close`
            stream: IO[bytes] = self._raw
        elif self._stream is None:
            raise ConfigurationError(f"{self.name} can be read only once")
        else:
            stream, self._stream = self._stream, None
        buffered: io.BufferedReader = (
            stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))
        )
        self._open.append(buffered)
        if buffered.peek(2)[:2] != b"\x1f\x8b":
            return buffered
        unpacked = gzip.GzipFile(fileobj=buffered)
        self._open.append(cast("IO[bytes]", unpacked))
        return io.BufferedReader(unpacked)

    def close(self) -> None:
        """Let go of what was opened."""
        while self._open:
            self._open.pop().close()

    def fingerprint(self) -> dict[str, Any]:
        """See `Source`."""
        if not self.repeatable or self.path is None:
            return {"name": self.name}
        found = blake2b(digest_size=16)
        with open(self.path, "rb") as file:
            for block in iter(partial(file.read, 1 << 20), b""):
                found.update(block)
        return {"name": self.path.name, "bytes": self._size, "digest": found.hexdigest()}

    def fraction(self) -> Optional[float]:
        """See `Source`."""
        if self._raw is None or not self._size:
            return None
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)


class FromInput:
    """What sources of all formats have from their input."""

    def __init__(self, given: Input) -> None:
        self._input = given
        self.name = given.name
        self.repeatable = given.repeatable

    @property
    def reading(self) -> Optional[dict[str, Any]]:
        """What makes other rows of the same bytes; `None` where nothing does."""
        return None

    def fingerprint(self) -> dict[str, Any]:
        """See `Source`."""
        return self._input.fingerprint()

    def fraction(self) -> Optional[float]:
        """See `Source`."""
        return self._input.fraction()


def too_long(line: int, longest: int) -> str:
    """What is said of a row that is longer than a source reads."""
    return f"line {line} is longer than {longest:,} bytes"


def cut_off(error: Exception) -> str:
    """What is said where an input breaks off."""
    return f"the input ends in the middle ({error}): what follows is not read"


def is_gzip(path: Path) -> bool:
    """Whether the file starts as gzip does."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"
