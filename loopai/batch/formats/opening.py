"""Open the source of rows at a path, chosen by its name or first bytes. Mapping is done elsewhere."""

from __future__ import annotations

import os
import re
import sys
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Optional, Union

from ...exceptions import ConfigurationError, OptionError
from .csv import CsvSource, Dialect
from .encoding import is_utf8
from .json import JsonSource
from .packing import ZippedFile, document_in, without_packing
from .parquet import ParquetSource
from .source import Input, Record, Source
from .xlsx import XlsxSource

__all__ = [
    "FILE_SOURCES",
    "CsvSource",
    "FileSource",
    "JsonSource",
    "ParquetSource",
    "Record",
    "Source",
    "XlsxSource",
    "format_of",
    "open_source",
]

FileSource = Union[JsonSource, CsvSource, ParquetSource, XlsxSource]
FILE_SOURCES = (JsonSource, CsvSource, ParquetSource, XlsxSource)

FORMATS = ("csv", "jsonl", "json", "parquet", "xlsx")

_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}

_OTHERS = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel workbook before 2007 (.xls), or an encrypted one",
    b"%PDF-": "a PDF",
    b"ARROW1": "a Feather or Arrow file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"SQLite format 3\0": "a SQLite database",
    b"<": "HTML or XML",
    b"{\\rtf": "a rich text document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
}
"""First bytes of unsupported files that may hold rows, whatever their names."""

_JSON = re.compile(rb'(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*"')
"""The first characters of a JSON file of rows, which no CSV header has."""

_TEXT = frozenset({"csv", "jsonl", "json"})


def format_of(path: Union[str, os.PathLike[str]]) -> Optional[str]:
    """`csv`, `jsonl`, `json`, `parquet` or `xlsx` by the file's name, compressed or not; `None` for another name."""
    return _SUFFIXES.get(Path(without_packing(Path(path).name.lower())).suffix)


def open_source(
    path: Union[str, os.PathLike[str]],
    format: Optional[str] = None,  # noqa: A002  # the flag's name
    *,
    delimiter: Optional[str] = None,
    quotechar: Optional[str] = None,
    escapechar: Optional[str] = None,
    types: Optional[Mapping[str, str]] = None,
    encoding: str = "utf-8",
    skip_lines: int = 0,
    comment: Optional[str] = None,
    no_header: bool = False,
    sheet: Optional[str] = None,
    stdin: Optional[IO[bytes]] = None,
) -> FileSource:
    """Return the source at `path`; `-` is standard input, JSONL unless `format` or its first bytes say otherwise.

    Raises `ConfigurationError` for a file that is missing, unreadable or of unknown format.
    """
    given, kind = _named(path, stdin)
    kind = format or kind
    if format is not None and format not in FORMATS:
        raise OptionError("{format} must be one of {known}, not {value!r}", known=", ".join(FORMATS), value=format)
    found = _found(given)
    if found is not None and found != kind:
        if format is not None:
            raise OptionError("{format}: {name} is {found}, not {value}", name=given.name, found=found, value=format)
        kind = found
    if found is None and kind in {"parquet", "xlsx"}:
        article = "a Parquet file" if kind == "parquet" else "an Excel workbook (.xlsx)"
        raise ConfigurationError(f"{given.name} is not {article}")
    if format is None and kind == "csv" and is_json(given.head()):
        raise OptionError(
            "{name} looks like JSON, not CSV: pass {format} json, or {format} csv if it is CSV", name=given.name
        )
    if kind is None:
        raise OptionError("cannot infer the format from {path!r}; pass {format}", path=os.fspath(path))
    dialect = Dialect(delimiter, quotechar, escapechar, skip_lines, comment, no_header)
    _check_options(kind, dialect, types, encoding, sheet)
    if kind == "csv":
        return CsvSource(given, dialect, types, encoding)
    if kind == "parquet":
        return ParquetSource(given)
    if kind == "xlsx":
        return XlsxSource(given, sheet, dialect)
    source = JsonSource(given, encoding)
    source.check()
    return source


def _named(path: Union[str, os.PathLike[str]], stdin: Optional[IO[bytes]]) -> tuple[Input, Optional[str]]:
    """Return the input, and its format as far as its name says."""
    if str(path) == "-":
        # Use a separate reader: at exit the interpreter waits for a thread that reads sys.stdin.
        stream = stdin if stdin is not None else open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
        return Input(None, stream), "jsonl"
    if not os.path.exists(path):
        raise ConfigurationError(f"file not found: {os.fspath(path)}")
    if os.path.isdir(path):
        raise ConfigurationError(f"{os.fspath(path)} is a folder; name a file, or - for standard input")
    given = Input(path, None)
    kind = format_of(path)
    if kind is None and given.is_zip():
        # `mails.zip` does not say; the file inside it has a name of its own.
        member = ZippedFile(Path(path))
        kind = None if document_in(member.names) is not None else format_of(member.name)
    return given, kind


def other_format(head: bytes) -> Optional[str]:
    """Describe an unsupported binary file with these first bytes; `None` for others."""
    return next((told for magic, told in _OTHERS.items() if head.startswith(magic)), None)


def is_json(head: bytes) -> bool:
    """Whether a file with these first bytes holds rows of JSON; no CSV file begins so."""
    return _JSON.match(head) is not None


def _found(given: Input) -> Optional[str]:
    """The format according to the first bytes; `None` for text. Raises `ConfigurationError` if it is unsupported."""
    head = given.head()
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04") and given.path is not None:
        told = document_in(ZippedFile(given.path, given.name).names)
        if told == "xlsx":
            return told
        raise ConfigurationError(f"{given.name} is {told}: save it as .xlsx or CSV")
    told = other_format(head) or other_format(head.removeprefix(BOM_UTF8).lstrip())
    if told is not None:
        raise ConfigurationError(f"{given.name} is {told}: save it as CSV, JSONL or .xlsx")
    return None


def _check_options(
    kind: str, dialect: Dialect, types: Optional[Mapping[str, str]], encoding: str, sheet: Optional[str]
) -> None:
    """Check that the options fit the format. Raises `OptionError`."""
    if kind != "csv" and (types or not dialect.delimiter is dialect.quotechar is dialect.escapechar is None):
        raise OptionError("{types}, {delimiter}, {quotechar} and {escapechar} are for CSV")
    if kind not in {"csv", "xlsx"} and (dialect.skip_lines or dialect.no_header):
        raise OptionError("{skip_lines} and {no_header} are for CSV and .xlsx")
    if kind != "csv" and dialect.comment is not None:
        raise OptionError("{comment} is for CSV")
    if kind not in _TEXT and not is_utf8(encoding):
        raise OptionError("{encoding} is for CSV and JSON")
    if kind != "xlsx" and sheet is not None:
        raise OptionError("{sheet} is for .xlsx")
