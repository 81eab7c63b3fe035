"""Where rows are read from: the source that a path names, and JSONL. Mapping is not done here."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Optional, Union

from pydantic_core import from_json

from ..._core.splitting import LineSplitter
from ..._core.texts import json_kind
from ...exceptions import ConfigurationError, OptionError
from .csv import CsvSource, Dialect, is_utf8
from .parquet import ParquetSource
from .source import BLOCK, LONGEST_LINE, FromInput, Input, Record, Source, cut_off, too_long

__all__ = ["CsvSource", "JsonlSource", "ParquetSource", "Record", "Source", "format_of", "open_source"]


class JsonlSource(FromInput):
    """One JSON object a line; blank lines are skipped, and a line of more than `longest` bytes ends as an error."""

    header: Optional[list[str]] = None

    def __init__(self, given: Input, longest: int = LONGEST_LINE) -> None:
        super().__init__(given)
        self._longest = longest

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""
        lines = LineSplitter(self._longest)
        last = 0
        file = self._input.open()
        try:
            while True:
                try:
                    block = file.read1(BLOCK)  # type: ignore[attr-defined]  # what `Input` opens is buffered
                except (EOFError, OSError, zlib.error) as error:
                    yield last + 1, None, cut_off(error)
                    return
                for last, line in lines.feed(block) if block else lines.finish():
                    yield self._record(last, line)
                if not block:
                    return
        finally:
            self._input.close()

    def _record(self, number: int, line: Optional[bytes]) -> Record:
        if line is None:
            return number, None, too_long(number, self._longest)
        try:
            columns = from_json(line, allow_inf_nan=False)
        except ValueError as error:
            return number, None, f"line {number} is no JSON: {_within_line(error)}"
        if type(columns) is not dict:
            return number, None, f"line {number} is {json_kind(columns)}: each line must be an object {{…}}"
        return number, columns, None


def _within_line(error: ValueError) -> str:
    # The parser counts lines of its own, and its second begins after ours has ended.
    return re.sub(r" at line \d+ column 0$", "", str(error)).replace(" at line 1 column", " at column")


def format_of(path: Union[str, os.PathLike[str]]) -> Optional[str]:
    """`csv`, `jsonl` or `parquet` by the file's name, gzipped or not; `None` for another name."""
    name = Path(path).name.lower()
    suffix = Path(name[:-3] if name.endswith(".gz") else name).suffix
    return {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}.get(suffix)


def open_source(
    path: Union[str, os.PathLike[str]],
    format: Optional[str] = None,  # noqa: A002  # the flag's name
    *,
    delimiter: Optional[str] = None,
    quotechar: Optional[str] = None,
    escapechar: Optional[str] = None,
    types: Optional[Mapping[str, str]] = None,
    encoding: str = "utf-8",
    stdin: Optional[IO[bytes]] = None,
) -> Union[JsonlSource, CsvSource, ParquetSource]:
    """The source that `path` names; `-` is standard input, JSONL unless `format` says otherwise.

    Raises `ConfigurationError` for a file that is missing or of no known format.
    """
    if str(path) == "-":
        # A reader of our own: the interpreter waits at exit for whoever reads sys.stdin.
        stream = stdin if stdin is not None else open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
        given = Input(None, stream)
        kind = format or "jsonl"
    else:
        if not os.path.exists(path):
            raise ConfigurationError(f"file not found: {os.fspath(path)}")
        if os.path.isdir(path):
            raise ConfigurationError(f"{os.fspath(path)} is a folder; name a file, or - for standard input")
        given = Input(path, None)
        kind = format or format_of(path) or ""
    if kind == "csv":
        return CsvSource(given, Dialect(delimiter, quotechar, escapechar), types, encoding)
    if types or not is_utf8(encoding) or not delimiter is quotechar is escapechar is None:
        raise OptionError(
            "{types}, {encoding}, {delimiter}, {quotechar} and {escapechar} are for CSV: JSONL and Parquet have types "
            "of their own, and JSONL is UTF-8"
        )
    if kind == "jsonl":
        return JsonlSource(given)
    if kind == "parquet":
        return ParquetSource(given)
    known = "csv, jsonl, parquet"
    if format:
        raise OptionError("{format} must be one of {known}, not {value!r}", known=known, value=format)
    raise OptionError("cannot infer the format from {path!r}; pass {format}", path=os.fspath(path))
