"""Write outcomes as JSONL and CSV. The journal records a sink's length, and resuming cuts the file to it."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Optional, Protocol, Union

from pydantic_core import from_json, to_json

from ..._core.encoding import python_of
from ...exceptions import ConfigurationError, OptionError, OutputError
from ..durability import sync_file
from ..gil import ROWS_AT_ONCE, release_gil
from ..rows import Outcome
from .members import member_columns, member_of, member_values

STATUS = "loopai_status"
OUTPUT = "loopai_output"
ERROR = "loopai_error"
LATENCY = "loopai_latency_ms"
CONFIDENCE = "loopai_confidence"
KEY = "loopai_key"
ADDED = (STATUS, OUTPUT, ERROR, LATENCY, CONFIDENCE)

_PLAIN_CELLS = frozenset({str, int, float, bool, type(None), dict, list})

NOTHING_KEPT = "Nothing was kept to resume from; pass {output} FILE, or {journal} FILE."


class Sink(Protocol):
    """Receives outcomes in the order in which they finish."""

    def write(self, outcomes: Sequence[Outcome]) -> int:
        """Write the outcomes durably, and return the length in bytes including them. Raises `OutputError`."""

    def close(self) -> None:
        """Write remaining data, and close."""


def explain(error: OSError, name: str, *, resumable: bool = True) -> OutputError:
    """Return the error for a failed write; `resumable` says whether there is a journal."""
    again = "run again with {resume}" if resumable else "run again"
    if error.errno == errno.ENOSPC:
        return OutputError("{name}: the disk is full. Free some space, then " + again, name=name)
    if error.errno == errno.EDQUOT:
        return OutputError("{name}: the disk quota is used up. Free some space, then " + again, name=name)
    if error.errno == errno.EPIPE:
        rest = "Run again with {resume} to continue" if resumable else NOTHING_KEPT
        return OutputError("{name}: the reader of the output has closed it. " + rest, name=name)
    return OutputError("{name} cannot be written: {problem}", name=name, problem=error.strerror or error)


def columns_of(outcome: Outcome) -> dict[str, Any]:
    """Return an output row: the row's own columns, or its key if it has none, plus the columns that Loopai adds."""
    row = outcome.row
    own = row.columns
    # An unreadable row has only a key.
    made: dict[str, Any] = {KEY: row.key} if own is None else {**own}
    made[STATUS] = outcome.status
    made[OUTPUT] = outcome.output
    made[ERROR] = outcome.error
    made[LATENCY] = outcome.latency_ms
    made[CONFIDENCE] = outcome.confidence
    return made


def check_writable(option: str, path: Path) -> None:
    """Check that a file can be written, before the run starts. Raises `OptionError`, which names the option."""
    folder = path.absolute().parent
    if path.is_dir():
        raise OptionError(f"{{{option}}}: {{path}} is a folder; name a file in it", path=path)
    if not folder.is_dir():
        raise OptionError(f"{{{option}}}: folder not found: {{folder}}", folder=path.parent)
    # Pipes and devices are written in place; files are replaced, or need other files beside them.
    special = path.exists() and not path.is_file()
    for place in (path,) if special else (folder, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise OptionError(f"{{{option}}}: no permission to write {{place}}", place=place)


class _File:
    """An output file, written from a known length on. Pipes and devices are only appended to."""

    def __init__(self, target: Union[str, os.PathLike[str], IO[bytes]], length: Optional[int]) -> None:
        if isinstance(target, (str, os.PathLike)):
            self.name = os.fspath(target)
            # Not "a": the file may need truncating.
            flags = os.O_RDWR | os.O_CREAT if length is not None or not _is_pipe(target) else os.O_WRONLY
            try:
                descriptor = os.open(target, flags, 0o666)
            except OSError as error:
                raise ConfigurationError(f"{self.name} cannot be opened: {error.strerror}") from None
            self._file: IO[bytes] = os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "wb", 0)
        else:
            self.name = "standard output"
            self._file = target
        self._ours = isinstance(target, (str, os.PathLike))
        # Streams of the caller are never truncated.
        self._seekable = self._ours and stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self.length = length or 0
        if self._seekable:
            size = os.fstat(self._file.fileno()).st_size
            if size < self.length:
                self._file.close()
                raise OptionError(
                    "{name} has {size:,} bytes where its journal has {length:,}: it was changed; "
                    "start again with {overwrite}",
                    name=self.name,
                    size=size,
                    length=self.length,
                )
            self._file.truncate(self.length)
            self._file.seek(self.length)

    def append(self, content: bytes) -> int:
        try:
            view = memoryview(content)
            while view:
                written = self._file.write(view)
                view = view[len(view) if written is None else written :]
            if self._seekable:
                sync_file(self._file)
            else:
                self._file.flush()
        except OSError as error:
            if self._seekable:
                # Remove the partial rows after a full disk, or they would leave a torn line.
                with contextlib.suppress(OSError):
                    self._file.truncate(self.length)
            raise explain(error, self.name) from error
        self.length += len(content)
        return self.length

    def close(self) -> None:
        if self._ours:
            with contextlib.suppress(BrokenPipeError):  # reported by the failed write
                self._file.close()


def _is_pipe(path: Union[str, os.PathLike[str]]) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


class JsonlSink:
    """JSON lines: one object per row. NaN is written as null; with `nan="constants"`, as Python's JSON writes it."""

    def __init__(
        self, target: Union[str, os.PathLike[str], IO[bytes]], length: Optional[int] = None, *, nan: bool = False
    ) -> None:
        self._file = _File(target, length)
        self._nan: Literal["null", "constants"] = "constants" if nan else "null"
        self.name = self._file.name

    def write(self, outcomes: Sequence[Outcome]) -> int:
        """See `Sink`."""
        lines = [columns_json(columns_of(outcome), self._nan) for outcome in outcomes]
        return self._file.append(b"\n".join(lines) + b"\n") if lines else self._file.length

    def close(self) -> None:
        """See `Sink`."""
        self._file.close()


def columns_json(columns: Any, nan: Literal["null", "constants"] = "null") -> bytes:
    """Return a row's columns, or the value of one, as one line of JSON, whatever values they hold."""
    try:
        return to_json(columns, inf_nan_mode=nan, bytes_mode="base64", fallback=_as_json)
    except ValueError:
        return to_json(_as_text(columns), inf_nan_mode=nan, bytes_mode="base64", fallback=_as_json)


def delimiter_of(path: Union[str, os.PathLike[str]]) -> str:
    """Return the delimiter of a CSV output: a tab if its name ends in `.tsv`."""
    return "\t" if os.fspath(path).lower().endswith(".tsv") else ","


class CsvSink:
    """CSV: the row's columns, five more (`loopai_output` is JSON), and one for each of the output's `members`.

    `header` names the columns; without it, the first rows do. Without outcomes, only a header is written. A later row
    with another column raises `OutputError`, since a header that is written cannot grow.
    """

    def __init__(
        self,
        target: Union[str, os.PathLike[str], IO[bytes]],
        length: Optional[int] = None,
        header: Optional[Sequence[str]] = None,
        members: Sequence[str] = (),
    ) -> None:
        self._file = _File(target, length)
        self.name = self._file.name
        self.members = members
        """The output's members that get a column. May be set until the header is written."""
        # The output of an earlier batch already has columns with these names: as in JSONL, they are replaced.
        self._names: Optional[list[str]] = None if header is None else [name for name in header if name not in ADDED]
        self.started = bool(length)
        """Whether the header is written."""
        self._delimiter = delimiter_of(self.name)
        if self.started:
            with open(self.name, encoding="utf-8", newline="") as file:
                written = next(csv.reader(file, delimiter=self._delimiter))
            end = written.index(STATUS) if STATUS in written else len(written)
            self._names = written[:end]
            self.members = [member_of(name) for name in written[end + len(ADDED) :]]

    def write(self, outcomes: Sequence[Outcome]) -> int:
        """See `Sink`."""
        if not outcomes and (self.started or self._names is None):
            return self._file.length
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self._delimiter)
        if self._names is None:
            named = dict.fromkeys(name for outcome in outcomes for name in outcome.row.columns or ())
            self._names = [name for name in named if name not in ADDED] or [KEY]
        names = self._names
        if not self.started:
            writer.writerow([*names, *ADDED, *member_columns(self.members, names)])
        known = {*names, *ADDED}
        for outcome in outcomes:
            own = outcome.row.columns
            if own is None:
                own = {KEY: outcome.row.key} if KEY in known else {}
            if not own.keys() <= known:
                more = next(name for name in own if name not in known)
                raise OutputError(
                    "row {row!r} has the column {column!r}, which the header of {name} lacks; "
                    "write JSONL ({output} ….jsonl), whose rows may differ",
                    row=outcome.row.key,
                    column=more,
                    name=self.name,
                )
            output = None if not outcome.has_output else to_json(outcome.output, inf_nan_mode="null").decode()
            writer.writerow([
                *(cell_of(own.get(name)) for name in names),
                outcome.status, output, outcome.error, outcome.latency_ms, outcome.confidence,
                *map(cell_of, member_values(outcome.output if outcome.has_output else None, self.members)),
            ])  # fmt: skip
        length = self._file.append(text.getvalue().encode("utf-8", "replace"))
        self.started = True
        return length

    def close(self) -> None:
        """See `Sink`."""
        self._file.close()


def _as_json(value: Any) -> Any:
    """Return a JSON value for a column's value that JSON cannot express, such as a numpy scalar."""
    plain = python_of(value)
    if plain is not value:
        return plain
    return dict(value) if isinstance(value, Mapping) else str(value)


def _as_text(value: Any) -> Any:
    """Return the value without lone surrogates, which UTF-8 cannot encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_as_text(name): _as_text(item) for name, item in value.items()}
    return [_as_text(item) for item in value] if isinstance(value, list) else value


def cell_of(value: Any) -> Any:
    """Return a column's value for CSV: its JSON text without quotes; objects and lists as JSON."""
    if type(value) not in _PLAIN_CELLS:
        value = python_of(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (str, int, float)):
        return value
    text = columns_json(value)
    return from_json(text) if text.startswith(b'"') else text.decode()


def read_back(path: Union[str, os.PathLike[str]], kind: str, length: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the rows in the first `length` bytes of an output, each as written and as columns, without the header."""
    with open(path, "rb") as file:
        lines = _csv_rows(file, length, delimiter_of(path)) if kind == "csv" else _json_rows(file, length)
        for number, line in enumerate(lines):
            if not number % ROWS_AT_ONCE:
                release_gil()
            yield line


def _json_rows(file: IO[bytes], length: int) -> Iterator[tuple[bytes, dict[str, Any]]]:
    while file.tell() < length:
        line = file.readline()
        yield line, from_json(line)


def _csv_rows(file: IO[bytes], length: int, delimiter: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    taken: list[bytes] = []

    def lines() -> Iterator[str]:
        while file.tell() < length:
            line = file.readline()
            taken.append(line)
            yield line.decode("utf-8", "surrogatepass")

    reader = csv.reader(lines(), delimiter=delimiter)
    header = next(reader, [])
    taken.clear()
    for cells in reader:
        columns: dict[str, Any] = dict(zip(header, cells))
        for name, read in ((OUTPUT, from_json), (LATENCY, float), (CONFIDENCE, float)):
            columns[name] = read(columns[name]) if columns.get(name) else None
        yield b"".join(taken), columns
        taken.clear()


def csv_header(path: Union[str, os.PathLike[str]]) -> bytes:
    """Return the header line of a CSV output as written; a rewritten output starts with it."""
    with open(path, "rb") as file:
        lines_of = (line.decode("utf-8", "surrogatepass") for line in file)
        reader = csv.reader(lines_of, delimiter=delimiter_of(path))
        next(reader, None)
        lines = reader.line_num
    with open(path, "rb") as file:
        return b"".join(file.readline() for _ in range(lines))
