"""Parquet, read and written. The output's rows stand as JSON lines until all have ended, then become one file."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union

from pydantic_core import from_json, to_json

from ...exceptions import ConfigurationError
from ..resume.journal import sync_folder
from .positions import START, Place
from .sinks import ADDED, ERROR, LATENCY, OUTPUT, STATUS
from .source import FromInput, Input, Record, cut_off, is_gzip

_PARQUET_ROWS = 1000
_SLICE = 100
"""Rows of a batch that become Python's at a time: whoever reads a part of a file needs no more."""

_GROUP = 5000
"""Rows of a row group: what is held in memory while the file is written."""


def pyarrow() -> Any:
    """The library. Raises `ConfigurationError` where it is missing."""
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise ConfigurationError("reading and writing Parquet needs pyarrow: pip install pyarrow") from None
    return pyarrow


class _Batches:
    """The batches of a file from a row group on; `row` counts the rows before the one in hand."""

    def __init__(self, file: Any, row: int, group: int) -> None:
        self.row = row
        self._batches = file.iter_batches(batch_size=_PARQUET_ROWS, row_groups=range(group, file.num_row_groups))
        self._batch: Any = None

    def current(self) -> Any:
        """The batch in hand; `None` after the last."""
        if self._batch is None:
            self._batch = next(self._batches, None)
        return self._batch

    def passed(self) -> None:
        """Go on to the next."""
        self.row += len(self._batch)
        self._batch = None


class ParquetSource(FromInput):
    """Rows of a Parquet file, 1,000 at a time; `line` counts rows from 1."""

    def __init__(self, given: Input) -> None:
        super().__init__(given)
        self._pyarrow = pyarrow()
        self._seekable: Any = given.path
        self._rows = self._read = 0
        self._left: Optional[_Batches] = None
        if given.path is None or is_gzip(given.path):
            # Parquet is read from its end.
            self._seekable = tempfile.TemporaryFile(prefix="loopai-parquet-")  # noqa: SIM115  # lives with the source
            shutil.copyfileobj(given.open(), self._seekable)
            given.close()
            weakref.finalize(self, self._seekable.close)
            self.repeatable = True
        file = self._file()
        self.schema = file.schema_arrow
        self._metadata = file.metadata
        self._rows = self._metadata.num_rows
        self.header: Optional[list[str]] = list(self.schema.names)

    def _file(self) -> Any:
        try:
            return self._pyarrow.parquet.ParquetFile(self._seekable)
        except (self._pyarrow.ArrowInvalid, OSError) as error:
            raise ConfigurationError(f"{self.name} is no Parquet file: {error}") from None

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""
        return self.read_from(START)

    def place(self, rows: int, line: int) -> Place:
        """Where `read_from` has come to: after so many rows of the file."""
        return Place(rows, line)

    def read_from(self, place: Place) -> Iterator[Record]:
        """Read the rows in order from a place on.

        Of its row group, what is before the place is read and passed over; but not once more what an earlier reading
        has passed. A whole file is often one group, and workers read it part by part.
        """
        batches, self._left = self._left, None  # two readings at a time would take rows from one another
        before, group = self._group_of(place.rows)
        if batches is None or not before <= batches.row <= place.rows:
            batches = _Batches(self._file(), before, group)
        number, broken = place.rows, False
        try:
            while True:
                try:
                    batch = batches.current()
                except (self._pyarrow.ArrowInvalid, OSError) as error:
                    broken = True
                    yield number + 1, None, cut_off(error)
                    return
                if batch is None:
                    return
                for first in range(max(0, place.rows - batches.row), len(batch), _SLICE):
                    for columns in batch.slice(first, _SLICE).to_pylist():
                        number += 1
                        self._read = number
                        yield number, columns, None
                batches.passed()
        finally:
            self._left = None if broken else batches

    def _group_of(self, row: int) -> tuple[int, int]:
        """The row group that a row is in, after how many rows it begins."""
        before = 0
        for group in range(self._metadata.num_row_groups):
            rows = self._metadata.row_group(group).num_rows
            if before + rows > row:
                return before, group
            before += rows
        return before, self._metadata.num_row_groups

    def fraction(self) -> Optional[float]:
        """How much of the file has been read, by rows."""
        return self._read / self._rows if self._rows else None


def write_parquet(
    spool: Path, path: Union[str, os.PathLike[str]], schema: Any = None, tick: Callable[[], None] = lambda: None
) -> None:
    """Make the Parquet file of the JSON lines in `spool`: whole under its name, or not there at all.

    `tick` is called every few thousand rows.

    Columns have the types of `schema` (the input's, where that was Parquet), otherwise those that all their values
    share; what shares none is JSON text. `loopai_output` is JSON text.
    """
    arrow = pyarrow()
    fields = _fields(arrow, spool, schema, tick)
    made = arrow.schema([*fields, (STATUS, arrow.string()), (OUTPUT, arrow.string()), (ERROR, arrow.string()),
                         (LATENCY, arrow.float64())])  # fmt: skip
    part = Path(f"{os.fspath(path)}.part")
    with arrow.parquet.ParquetWriter(part, made) as writer:
        for rows in _groups(spool):
            tick()
            columns = [_column(arrow, [row.get(name) for row in rows], kind) for name, kind in fields]
            columns.append(arrow.array([row[STATUS] for row in rows], arrow.string()))
            outputs = [to_json(row[OUTPUT]).decode() if row[STATUS] == "ok" else None for row in rows]
            columns.append(arrow.array(outputs, arrow.string()))
            columns.append(arrow.array([row[ERROR] for row in rows], arrow.string()))
            columns.append(arrow.array([row[LATENCY] for row in rows], arrow.float64()))
            writer.write_table(arrow.table(columns, schema=made))
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(Path(path).parent)


def _groups(spool: Path) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    with open(spool, "rb") as file:
        for line in file:
            rows.append(from_json(line))
            if len(rows) >= _GROUP:
                yield rows
                rows = []
    if rows:
        yield rows


def _fields(arrow: Any, spool: Path, schema: Any, tick: Callable[[], None]) -> list[tuple[str, Any]]:
    given = {field.name: field.type for field in schema} if schema is not None else {}
    seen: dict[str, set[type]] = {}
    for rows in _groups(spool):
        tick()
        for row in rows:
            for name, value in row.items():
                if name not in ADDED:
                    seen.setdefault(name, set()).add(type(value))
    names = [name for name in given if name in seen] + [name for name in seen if name not in given]
    return [(name, given[name] if name in given else _type(arrow, seen[name])) for name in names]


def _type(arrow: Any, kinds: set[type]) -> Any:
    kinds = kinds - {type(None)}
    if kinds == {bool}:
        return arrow.bool_()
    if kinds == {int}:
        return arrow.int64()
    if kinds and kinds <= {int, float}:
        return arrow.float64()
    return arrow.string()


def _column(arrow: Any, values: Sequence[Any], kind: Any) -> Any:
    types = arrow.types
    if types.is_string(kind) or types.is_large_string(kind):
        return arrow.array([value if value is None or isinstance(value, str) else to_json(value).decode()
                            for value in values], kind)  # fmt: skip
    if types.is_binary(kind) or types.is_large_binary(kind):
        import base64

        return arrow.array([None if value is None else base64.urlsafe_b64decode(value) for value in values], kind)
    if types.is_temporal(kind) or types.is_decimal(kind):
        # JSON has them as texts.
        return arrow.array([None if value is None else str(value) for value in values], arrow.string()).cast(kind)
    try:
        return arrow.array(values, kind)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError) as error:
        raise ConfigurationError(f"a column of type {kind} cannot be written: {error}; write JSONL") from None
