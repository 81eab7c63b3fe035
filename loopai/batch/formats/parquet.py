"""Read and write Parquet. The output's rows are kept as JSON lines until all have finished, then become one file."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from pydantic_core import from_json, to_json

from ...exceptions import ConfigurationError, OptionError
from .arrow import ArrowValues, Unsupported, array_of, errors_of, pyarrow, sample_of
from .packing import cut_off
from .sinks import ADDED, CONFIDENCE, ERROR, LATENCY, OUTPUT, STATUS, columns_json
from .source import FromInput, Input, Record
from .spool import output_text, replacing, spooled

_PARQUET_ROWS = 1000


class ParquetSource(FromInput):
    """Rows of a Parquet file, 1,000 at a time; `line` counts rows from 1."""

    def __init__(self, given: Input) -> None:
        super().__init__(given)
        self._pyarrow = pyarrow()
        self._seekable: Any = given.path
        self._rows = self._read = 0
        if given.path is None or given.packed or not given.repeatable:
            # Reading Parquet starts at the end of the file.
            self._seekable = tempfile.TemporaryFile(prefix="loopai-parquet-")  # noqa: SIM115  # lives with the source
            shutil.copyfileobj(given.open(), self._seekable)
            given.close()
            weakref.finalize(self, self._seekable.close)
            self.repeatable = True
        file = self._file()
        self.schema = file.schema_arrow
        self._rows = file.metadata.num_rows
        self.header: Optional[list[str]] = list(self.schema.names)
        twice = _twice(self._pyarrow, self.schema, "")
        if twice is not None:
            raise ConfigurationError(f"{self.name} has the column {twice!r} twice: rename one")
        self._values = ArrowValues(self._pyarrow, self.schema)

    def _file(self) -> Any:
        try:
            return self._pyarrow.parquet.ParquetFile(self._seekable)
        except (self._pyarrow.ArrowInvalid, OSError) as error:
            raise ConfigurationError(f"{self.name} is not a Parquet file: {error}") from None

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""
        self._read = 0
        batches = self._file().iter_batches(batch_size=_PARQUET_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (self._pyarrow.ArrowInvalid, OSError) as error:
                yield self._read + 1, None, f"row {self._read + 1}: {cut_off(error)}"
                return
            if batch is None:
                return
            for columns, problem in self._values.rows(batch):
                self._read += 1
                yield self._read, columns, problem and f"row {self._read}: {problem}"

    def fraction(self) -> Optional[float]:
        """The share of the file's rows that have been read."""
        return self._read / self._rows if self._rows else None


def _twice(arrow: Any, fields: Any, within: str) -> Optional[str]:
    """A duplicate name among columns or the members of a column, with its path."""
    names = Counter(field.name for field in fields)
    found = next((str(name) for name, count in names.items() if count > 1), None)
    if found is not None:
        return f"{within}{found}"
    structs = ((field, within + field.name) for field in fields if arrow.types.is_struct(field.type))
    return next((told for field, path in structs if (told := _twice(arrow, field.type, f"{path}."))), None)


def check_types(schema: Any) -> None:
    """Check that each input column can be written as it was read. Raises `OptionError` for the first that cannot."""
    arrow = pyarrow()
    for field in schema:
        try:
            made = array_of(arrow, [sample_of(arrow, field.type), None], field.type)
            table = arrow.table([made], arrow.schema([(field.name, field.type)]))
            rows = ArrowValues(arrow, table.schema).rows(table.to_batches()[0])
            # As `JsonlSink` writes them to the spool.
            values = [from_json(columns_json((row or {}).get(field.name), "constants")) for row, _ in rows]
            if not array_of(arrow, values, field.type).equals(made):
                raise Unsupported("its values do not come back as they were")
            arrow.parquet.write_table(table, io.BytesIO())
        except errors_of(arrow) as error:
            raise OptionError(
                "{output}: the column {column!r} of type {kind} cannot be written to Parquet ({problem}); "
                "write .jsonl or .csv",
                column=field.name, kind=str(field.type), problem=error,
            ) from None  # fmt: skip


def write_parquet(
    spool: Path, path: Union[str, os.PathLike[str]], schema: Any = None, header: Sequence[str] = ()
) -> None:
    """Write the Parquet file from the JSON lines in `spool`; a partial file never appears under its name.

    Columns have the types of `schema` (if the input was Parquet), otherwise a type that fits all their values, or JSON
    text if there is none. `loopai_output` is JSON text. The columns of `header` exist even without rows. Raises
    `OutputError`, which says where the rows are.
    """
    arrow = pyarrow()
    fields = _fields(arrow, spool, schema, header)
    fields += [(name, arrow.string()) for name in (STATUS, OUTPUT, ERROR)]
    fields += [(name, arrow.float64()) for name in (LATENCY, CONFIDENCE)]
    made = arrow.schema(fields)
    with replacing(path, spool, errors_of(arrow)) as part, arrow.parquet.ParquetWriter(part, made) as writer:
        for rows in spooled(spool):
            for row in rows:
                row[OUTPUT] = output_text(row)
            columns = [_column(arrow, rows, name, kind) for name, kind in fields]
            writer.write_table(arrow.table(columns, schema=made))


def _fields(arrow: Any, spool: Path, schema: Any, header: Sequence[str]) -> list[tuple[str, Any]]:
    given = {field.name: field.type for field in schema} if schema is not None else {}
    seen: dict[str, set[str]] = {name: set() for name in (*given, *header) if name not in ADDED}
    for rows in spooled(spool):
        for row in rows:
            for name, value in row.items():
                if name not in ADDED and name not in given:
                    seen.setdefault(name, set()).add(_sort_of(value))
    return [(name, given[name] if name in given else _type(arrow, sorts)) for name, sorts in seen.items()]


def _sort_of(value: Any) -> str:
    """The Arrow kind of a JSON value: whole numbers fit into a float, into 64 bits, or neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        if -(2**53) <= value <= 2**53:
            return "int"
        return "long" if -(2**63) <= value < 2**63 else "text"
    if value is None:
        return "null"
    return type(value).__name__ if isinstance(value, (bool, float)) else "text"


def _type(arrow: Any, sorts: set[str]) -> Any:
    sorts = sorts - {"null"}
    if sorts == {"bool"}:
        return arrow.bool_()
    if sorts and sorts <= {"int", "long"}:
        return arrow.int64()
    return arrow.float64() if sorts and sorts <= {"int", "float"} else arrow.string()


def _column(arrow: Any, rows: Sequence[dict[str, Any]], name: str, kind: Any) -> Any:
    values = [row.get(name) for row in rows]
    if arrow.types.is_string(kind):
        values = [value if value is None or isinstance(value, str) else to_json(value).decode() for value in values]
    try:
        return array_of(arrow, values, kind)
    except errors_of(arrow) as error:
        raise Unsupported(f"column {name!r} of type {kind}: {error}") from None
