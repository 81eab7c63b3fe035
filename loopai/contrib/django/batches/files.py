"""Rows of a file that workers read range by range: the same file for all of them. What becomes of rows is not here."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Optional

from ....batch.formats.opening import CsvSource, JsonlSource, ParquetSource, open_source
from ....batch.formats.positions import START, Place
from ....batch.formats.source import Input, is_gzip
from ....batch.mapping import InputMapping
from ....batch.reporting.quality import Expectation
from ....batch.rows import Row
from ....batch.streams import is_plain, maker
from ....exceptions import ConfigurationError
from .. import keys
from ..models import BatchRun


@dataclass(frozen=True)
class GivenFile:
    """A file as its run keeps it: where it is, how it is read, and what it was when the run began.

    `rows` are those that the run reads of it.
    """

    path: str
    format: Optional[str] = None
    id_field: Optional[str] = None
    delimiter: Optional[str] = None
    quotechar: Optional[str] = None
    escapechar: Optional[str] = None
    encoding: str = "utf-8"
    types: Mapping[str, str] = field(default_factory=dict)
    allow_duplicates: bool = False
    rows: int = 0
    bytes: int = 0
    digest: str = ""

    def refuse_what_workers_cannot_read(self) -> None:
        """Raise `ConfigurationError` for standard input, a pipe or a gzipped file: none can be read from the middle."""
        if self.path == "-":
            raise ConfigurationError(
                "--engine celery cannot read standard input: workers read the input themselves. "
                "Name a file that all of them see, or take --engine inline"
            )
        if not os.path.isfile(self.path):
            return  # said where it is opened, or by its reader
        if is_gzip(Path(self.path)):
            raise ConfigurationError(
                f"{self.path} is gzipped, and workers read a file from the middle: gunzip it, or take --engine inline"
            )

    def open(self) -> JsonlSource | CsvSource | ParquetSource:
        """The file as rows. Raises `ConfigurationError`."""
        return open_source(
            self.path,
            self.format,
            delimiter=self.delimiter,
            quotechar=self.quotechar,
            escapechar=self.escapechar,
            types=self.types,
            encoding=self.encoding,
        )

    def check(self) -> None:
        """Raise `ConfigurationError` where this host has another file under that path, or none."""
        host = socket.gethostname()
        same = "every worker must see the run's input under this very path"
        try:
            found = os.stat(self.path)
            digest = _digest(self.path, found.st_size, found.st_mtime_ns, found.st_ino)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigurationError(f"{self.path} cannot be read on host {host} ({reason}): {same}") from error
        for what, was, now in (("bytes", self.bytes, found.st_size), ("digest", self.digest, digest)):
            if was != now:
                raise ConfigurationError(
                    f"{self.path} on host {host} is not the file that the run began with: its {what} is {now}, "
                    f"that one's {was}: {same}"
                )


@lru_cache(maxsize=8)
def _digest(path: str, size: int, changed: int, inode: int) -> str:
    # The others say that it is the file which was read before.
    return str(Input(path, None).fingerprint()["digest"])


class _Opened(threading.local):
    """The file that a worker read last: Parquet is read on from where its last part has ended."""

    file: Optional[GivenFile] = None
    source: JsonlSource | CsvSource | ParquetSource


_opened = _Opened()


class FileRows:
    """The rows of a file. A key of theirs is the `Place` after them; nothing is opened before it is needed."""

    kind = keys.LINE

    def __init__(self, file: GivenFile, mapping: Sequence[str], expect: Optional[str]) -> None:
        self.file = file
        self._mapping = InputMapping(mapping, [Expectation(expect).column] if expect else ())

    @cached_property
    def source(self) -> JsonlSource | CsvSource | ParquetSource:
        """The file, once it was seen to be the run's."""
        self.file.check()
        if self.file != _opened.file:
            _opened.source = self.file.open()
            _opened.file = self.file
        return _opened.source

    @property
    def plain(self) -> bool:
        """See `Rows`."""
        return is_plain(self.source)

    def extent(self, limit: Optional[int]) -> tuple[Optional[str], int]:
        """See `Rows`."""
        return (str(Place(self.file.rows)) if self.file.rows else None), self.file.rows

    def between(self, run: BatchRun, after: Optional[str], upto: str, most: int) -> list[Row]:
        """See `Rows`."""
        make = maker(self.source, self.file.id_field, self._mapping)
        return [make(record, number) for number, record in self._records(after, upto, most)]

    def bounds(self, run: BatchRun, after: Optional[str], upto: str, size: int, most: int) -> list[str]:
        """See `Rows`."""
        end, found = Place.of(upto).rows, []
        first = (START if after is None else Place.of(after)).rows
        for number, record in self._records(after, upto, size * most):
            if (number - first) % size == 0 and number < end:
                found.append(str(self.source.place(number, record[0])))
        return found

    def again(self, run: BatchRun, after: Optional[str], upto: str,
              written: Sequence[Mapping[str, Any]]) -> list[Optional[Row]]:  # fmt: skip
        """See `Rows`."""
        return list(self.between(run, after, upto, len(written)))

    def name(self, row: Row) -> str:
        """What a failed row is called; with its line where rows may share a key."""
        return f"{row.key} (line {row.line})" if self.file.allow_duplicates else row.key

    def _records(self, after: Optional[str], upto: str, most: int) -> Iterator[tuple[int, Any]]:
        place = START if after is None else Place.of(after)
        last = min(Place.of(upto).rows, place.rows + most)
        for number, record in enumerate(self.source.read_from(place), place.rows + 1):
            yield number, record
            if number >= last:
                return
