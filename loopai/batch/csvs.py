"""Rows of CSV: dialect, types, and rows that cannot be read."""

from __future__ import annotations

import codecs
import csv
import io
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Callable, Optional

from pydantic_core import from_json

from ..exceptions import ConfigurationError
from .inputs import LONGEST_LINE, FromInput, Input, Record, cut_off
from .places import Place

_SAMPLE = 65536
_DELIMITERS = ",;\t|"


def _number(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError("JSON has no such number")
    return found


def _json(text: str) -> Any:
    return from_json(text, allow_inf_nan=False)


def _integer(text: str) -> int:
    return int(text)


def _boolean(text: str) -> bool:
    found = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.strip().lower())
    if found is None:
        raise ValueError("is neither true nor false")
    return found


_TYPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _integer,
    "float": _number,
    "bool": _boolean,
    "json": _json,
}


class CsvSource(FromInput):
    """CSV with a header line; the delimiter is found among `, ; tab |` unless it is given.

    Values are texts, unless `types` (column → `int`, `float`, `bool`, `json`, `str`) or the header itself
    (`age:int`) says otherwise; an empty cell of a typed column is `None`. Raises `ConfigurationError` for an unknown
    type, a header that names a column twice, or none.
    """

    def __init__(
        self,
        given: Input,
        delimiter: Optional[str] = None,
        types: Optional[Mapping[str, str]] = None,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(given)
        self._delimiter = delimiter
        self._types = dict(types or {})
        self._encoding = "utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding
        self._header: Optional[list[str]] = None
        self._opened: Optional[tuple[IO[str], Any]] = None
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise ConfigurationError(f"--encoding: {encoding!r} is no encoding that Python knows") from None
        for name, kind in self._types.items():
            if kind not in _TYPES:
                raise ConfigurationError(f"--type {name}={kind}: a type is one of {', '.join(_TYPES)}")

    @property
    def header(self) -> Optional[list[str]]:
        """The columns, without the types that the header line may have named."""
        if self._header is None:
            self._opened = self._open()
            if self.repeatable:
                self._opened[0].close()
                self._input.close()
                self._opened = None
        return self._header

    def _open(self, place: Optional[Place] = None) -> tuple[IO[str], Any]:
        text = io.TextIOWrapper(self._input.open(), self._encoding, errors="surrogateescape", newline="")
        try:
            return text, self._reader(text, place)
        except BaseException:
            text.close()
            self._input.close()
            raise

    def _reader(self, text: IO[str], place: Optional[Place]) -> Any:
        # The module's only bound is the process's; its default of 131,072 refuses an ordinary e-mail.
        if csv.field_size_limit() < LONGEST_LINE:
            csv.field_size_limit(LONGEST_LINE)
        try:
            head = text.readline(_SAMPLE)
        except (EOFError, OSError, zlib.error) as error:
            raise ConfigurationError(f"{self.name}: its first line cannot be read: {error}") from None
        delimiter = self._delimiter or _delimiter_of(head)
        # A text that is iterated does not tell where it is; one that is read by lines is a little slower.
        lines = text if place is None else iter(text.readline, "")
        reader = csv.reader(_chained(head, lines), delimiter=delimiter, strict=True)
        try:
            names = next(reader, [])
        except (csv.Error, EOFError, OSError, zlib.error) as error:
            raise ConfigurationError(f"{self.name}: its first line is no CSV header: {error}") from None
        self._header = self._typed(names)
        if place is not None and place.offset:
            text.seek(place.offset)
            reader = csv.reader(iter(text.readline, ""), delimiter=delimiter, strict=True)
        return reader

    def _typed(self, names: Sequence[str]) -> list[str]:
        header = []
        for name in names:
            column, colon, kind = name.strip().rpartition(":")
            if colon and kind in _TYPES:
                self._types.setdefault(column, kind)
                header.append(column)
            else:
                header.append(name.strip())
        if not any(header):
            raise ConfigurationError(f"{self.name} is empty: a CSV input starts with a line that names its columns")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise ConfigurationError(f"{self.name}: its header names the column {twice[0]!r} twice")
        missing = sorted(self._types.keys() - set(header))
        if missing:
            raise ConfigurationError(f"--type names {missing[0]!r}; the columns are {', '.join(header)}")
        return header

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order."""
        text, reader = self._opened or self._open()
        self._opened = None
        return self._rows(text, reader, 0)

    def place(self, rows: int, line: int) -> Place:
        """Where `read_from` has come to, after so many rows of the file; its lines are counted here."""
        text, reader, lines = self._place
        return Place(rows, lines + reader.line_num, text.tell())

    def read_from(self, place: Place) -> Iterator[Record]:
        """Read the rows of a file in order from a place on, which `place` gave."""
        text, reader = self._open(place)
        lines = place.lines if place.offset else 0
        self._place = text, reader, lines
        return self._rows(text, reader, lines)

    def _rows(self, text: IO[str], reader: Any, before: int) -> Iterator[Record]:
        header = self._header or []
        typed = [(name, _TYPES[kind], kind) for name, kind in self._types.items() if kind != "str"]
        width = len(header)
        try:
            while True:
                line = before + reader.line_num + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield line, None, f"line {line} is no CSV: {error}"
                    continue
                except (EOFError, OSError, zlib.error) as error:
                    yield line, None, cut_off(error)
                    return
                if len(cells) != width:
                    if cells:
                        told = f"line {line} has {len(cells)} fields where the header has {width}"
                        yield line, None, told
                    continue
                columns: dict[str, Any] = dict(zip(header, cells))
                problem = _convert(columns, typed, line) if typed else None
                if problem is None and not "".join(cells).isascii():
                    problem = _undecodable(cells, line, self._encoding)
                yield (line, None, problem) if problem else (line, columns, None)
        finally:
            text.close()
            self._input.close()


def _chained(head: str, rest: Iterable[str]) -> Iterator[str]:
    if head:
        yield head
    yield from rest


def _delimiter_of(head: str) -> str:
    return max(_DELIMITERS, key=lambda mark: len(next(csv.reader([head], delimiter=mark), [])))


def _convert(
    columns: dict[str, Any], typed: Sequence[tuple[str, Callable[[str], Any], str]], line: int
) -> Optional[str]:
    for name, convert, kind in typed:
        cell = columns[name]
        try:
            columns[name] = convert(cell) if cell else None
        except ValueError:
            return f"line {line}: {name} is {cell[:40]!r}, which is no {kind}"
    return None


def _undecodable(cells: Sequence[str], line: int, encoding: str) -> Optional[str]:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return f"line {line} is not {encoding.replace('-sig', '')}: name its encoding with --encoding"
    return None
