"""Parquet, read and written. The output's rows stand as JSON lines until all have ended, then become one file."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from pydantic_core import from_json, to_json

from ...exceptions import ConfigurationError
from ..durability import replace_file
from .packing import cut_off
from .sinks import ADDED, ERROR, LATENCY, OUTPUT, STATUS
from .source import FromInput, Input, Record

_PARQUET_ROWS = 1000

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


class ParquetSource(FromInput):
    """Rows of a Parquet file, 1,000 at a time; `line` counts rows from 1."""

    def __init__(self, given: Input) -> None:
        super().__init__(given)
        self._pyarrow = pyarrow()
        self._seekable: Any = given.path
        self._rows = self._read = 0
        if given.path is None or given.packed or not given.repeatable:
            # Parquet is read from its end.
            self._seekable = tempfile.TemporaryFile(prefix="loopai-parquet-")  # noqa: SIM115  # lives with the source
            shutil.copyfileobj(given.open(), self._seekable)
            given.close()
            weakref.finalize(self, self._seekable.close)
            self.repeatable = True
        file = self._file()
        self.schema = file.schema_arrow
        self._rows = file.metadata.num_rows
        self.header: Optional[list[str]] = list(self.schema.names)

    def _file(self) -> Any:
        try:
            return self._pyarrow.parquet.ParquetFile(self._seekable)
        except (self._pyarrow.ArrowInvalid, OSError) as error:
            raise ConfigurationError(f"{self.name} is no Parquet file: {error}") from None

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""
        self._read = 0
        batches = self._file().iter_batches(batch_size=_PARQUET_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (self._pyarrow.ArrowInvalid, OSError) as error:
                yield self._read + 1, None, cut_off(error)
                return
            if batch is None:
                return
            for columns in batch.to_pylist():
                self._read += 1
                yield self._read, columns, None

    def fraction(self) -> Optional[float]:
        """How much of the file has been read, by rows."""
        return self._read / self._rows if self._rows else None


def write_parquet(spool: Path, path: Union[str, os.PathLike[str]], schema: Any = None) -> None:
    """Make the Parquet file of the JSON lines in `spool`: whole under its name, or not there at all.

    Columns have the types of `schema` (the input's, where that was Parquet), otherwise those that all their values
    share; what shares none is JSON text. `loopai_output` is JSON text.
    """
    arrow = pyarrow()
    fields = _fields(arrow, spool, schema)
    made = arrow.schema([*fields, (STATUS, arrow.string()), (OUTPUT, arrow.string()), (ERROR, arrow.string()),
                         (LATENCY, arrow.float64())])  # fmt: skip
    part = Path(f"{os.fspath(path)}.part")
    with arrow.parquet.ParquetWriter(part, made) as writer:
        for rows in _groups(spool):
            columns = [_column(arrow, [row.get(name) for row in rows], kind) for name, kind in fields]
            columns.append(arrow.array([row[STATUS] for row in rows], arrow.string()))
            outputs = [to_json(row[OUTPUT]).decode() if row[STATUS] == "ok" else None for row in rows]
            columns.append(arrow.array(outputs, arrow.string()))
            columns.append(arrow.array([row[ERROR] for row in rows], arrow.string()))
            columns.append(arrow.array([row[LATENCY] for row in rows], arrow.float64()))
            writer.write_table(arrow.table(columns, schema=made))
    replace_file(part, Path(path))


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


def _fields(arrow: Any, spool: Path, schema: Any) -> list[tuple[str, Any]]:
    given = {field.name: field.type for field in schema} if schema is not None else {}
    seen: dict[str, set[type]] = {}
    for rows in _groups(spool):
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
