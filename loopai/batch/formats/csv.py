"""Rows of CSV: dialect, types, and rows that cannot be read."""

from __future__ import annotations

import codecs
import csv
import io
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any, Callable, Optional

from pydantic_core import from_json

from ...exceptions import ConfigurationError, OptionError
from .source import BLOCK, LONGEST_LINE, FromInput, Input, Record, cut_off, too_long

_SAMPLE = 65536
_DELIMITERS = ",;\t|"
_QUOTES = "\"'"
_BREAKS_OFF = (EOFError, OSError, zlib.error)


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


@dataclass(frozen=True)
class Dialect:
    """How a CSV file separates, quotes and escapes, by the names of Python's `csv`.

    `None` for delimiter and quote character: found. `quotechar=""` is for a file that quotes nothing. A quote within
    quotes is doubled, or follows `escapechar` where there is one.
    """

    delimiter: Optional[str] = None
    quotechar: Optional[str] = None
    escapechar: Optional[str] = None

    def check(self) -> None:
        """Raise `ConfigurationError` for what is no dialect."""
        for name, mark in asdict(self).items():
            empty = mark == "" and name == "quotechar"
            if mark is not None and not empty and (len(mark) != 1 or mark in "\r\n"):
                tab = " (a tab is $'\\t' in a shell)" if name == "delimiter" else ""
                raise OptionError(f"{{{name}}} must be one character, not {{mark!r}}{{tab}}", mark=mark, tab=tab)
        marks = [mark for mark in (self.delimiter, self.quotechar, self.escapechar) if mark]
        if len(set(marks)) < len(marks):
            raise OptionError("{delimiter}, {quotechar} and {escapechar} must differ")

    def found(self, head: str) -> Dialect:
        """The dialect with what its header line tells: the delimiter that makes the most columns, and the quotes."""
        quote = self.quotechar
        if quote is None:
            # Only where it cannot be anything else: an apostrophe begins many a text.
            line = head.rstrip("\r\n")
            quote = next((mark for mark in _QUOTES if len(line) > 1 and line[0] == line[-1] == mark), _QUOTES[0])
            quote = quote if quote not in {self.delimiter, self.escapechar} else ""

        def columns(mark: str) -> int:
            return len(next(csv.reader([head], **Dialect(mark, quote, self.escapechar).options), []))

        marks = [mark for mark in _DELIMITERS if mark not in {quote, self.escapechar}]
        return Dialect(self.delimiter or max(marks, key=columns), quote, self.escapechar)

    @property
    def options(self) -> dict[str, Any]:
        """As `csv.reader` takes them, of a dialect that was found."""
        quotes: dict[str, Any] = {"quotechar": self.quotechar} if self.quotechar else {"quoting": csv.QUOTE_NONE}
        return {"delimiter": self.delimiter, "escapechar": self.escapechar, **quotes}


class _RowTooLong(Exception):
    """Ends the reading of one row."""


_LINES_HELD = 1000
"""Lines of one row whose quotes are counted together."""


class _Lines:
    """The lines of a text for `csv.reader`: of one row, no more than `longest` bytes.

    `csv` itself bounds fields only, for the whole process, and takes rows of any number of fields.
    """

    def __init__(self, head: str, text: IO[str], longest: int, quote: Optional[str]) -> None:
        self._head = head
        self._quote = quote
        self._quotes = 0
        self._readline = text.readline
        self._longest = longest
        self._row: list[str] = []
        self._size = 0
        self.skipped = 0
        """Lines that `csv.reader` has not seen."""

    def begin_row(self) -> None:
        """What comes next belongs to another row."""
        self._size = self._quotes = 0
        self._row.clear()

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._head or self._readline(self._longest + 1)
        if not line:
            raise StopIteration
        if self._head:
            # The first line may be longer than what was read of it to find its dialect.
            rest = "" if line.endswith(("\n", "\r")) else self._readline(self._longest)
            line, self._head = line + rest, ""
        if len(self._row) >= _LINES_HELD:
            self._quotes += self._quotes_in_row()
            self._row.clear()
        self._row.append(line)
        self._size += len(line) if line.isascii() else len(line.encode("utf-8", "surrogatepass"))
        if self._size > self._longest:
            raise _RowTooLong
        return line

    def _quotes_in_row(self) -> int:
        quote = self._quote
        return sum(line.count(quote) for line in self._row) if quote else 0

    def skip_row(self) -> None:
        """Skip the rest of a row that is too long: to the first line break that is not within quotes."""
        quote, quotes = self._quote, self._quotes + self._quotes_in_row()
        line = self._row[-1]
        self.skipped += line.endswith(("\n", "\r"))
        while line and not (line.endswith(("\n", "\r")) and quotes % 2 == 0):
            line = self._readline(BLOCK)
            self.skipped += line.endswith(("\n", "\r"))
            quotes += line.count(quote) if quote else 0
        self.begin_row()


_FOUND = Dialect()


class CsvSource(FromInput):
    """CSV with a header line; how it separates and quotes is found unless `dialect` says so.

    Values are texts, unless `types` (column → `int`, `float`, `bool`, `json`, `str`) or the header itself
    (`age:int`) says otherwise; an empty cell of a typed column is `None`. What is said to be UTF-8 and starts with
    the byte order mark of UTF-16 is read as that. A row of more than `longest` bytes ends as an error.
    Raises `ConfigurationError` for an unknown type or encoding, a header that names a column twice, or none.
    """

    def __init__(
        self,
        given: Input,
        dialect: Dialect = _FOUND,
        types: Optional[Mapping[str, str]] = None,
        encoding: str = "utf-8",
        longest: int = LONGEST_LINE,
    ) -> None:
        super().__init__(given)
        dialect.check()
        self._longest = longest
        self._dialect = dialect
        self._types = dict(types or {})
        self._encoding = "utf-8-sig" if is_utf8(encoding) else encoding
        self._header: Optional[list[str]] = None
        self._opened: Optional[tuple[IO[str], _Lines, Any]] = None
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise OptionError("{encoding}: unknown encoding {value!r}", value=encoding) from None
        for name, kind in self._types.items():
            if kind not in _TYPES:
                raise OptionError(
                    "{types} {column}={kind}: a type is one of {known}", column=name, kind=kind, known=", ".join(_TYPES)
                )

    @property
    def reading(self) -> dict[str, Any]:
        """What makes other rows of the same bytes: dialect, encoding and types, as given or found."""
        if self.header is None:
            return {}
        return {**asdict(self._dialect), "encoding": self._encoding, "types": dict(sorted(self._types.items()))}

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

    def _open(self) -> tuple[IO[str], _Lines, Any]:
        stream = self._input.open()
        try:
            text = io.TextIOWrapper(stream, self._encoding_of(stream), errors="surrogateescape", newline="")
            return text, *self._reader(text)
        except BaseException:
            stream.close()
            self._input.close()
            raise

    def _encoding_of(self, stream: IO[bytes]) -> str:
        if self._encoding == "utf-8-sig" and isinstance(stream, io.BufferedReader):
            try:
                # No UTF-8 has either of their bytes.
                if stream.peek(2)[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
                    self._encoding = "utf-16"
            except _BREAKS_OFF as error:
                raise self._no_first_line(error) from None
        return self._encoding

    def _no_first_line(self, error: Exception) -> ConfigurationError:
        return ConfigurationError(f"{self.name}: its first line cannot be read: {error}")

    def _reader(self, text: IO[str]) -> tuple[_Lines, Any]:
        # The module's only bound is the process's; its default of 131,072 refuses an ordinary e-mail.
        if csv.field_size_limit() < LONGEST_LINE:
            csv.field_size_limit(LONGEST_LINE)
        try:
            head = text.readline(_SAMPLE)
        except _BREAKS_OFF as error:
            raise self._no_first_line(error) from None
        except UnicodeError:
            raise OptionError(
                "{name}: line 1 or one soon after is not {codec}; pass its {encoding}",
                name=self.name,
                codec=self._encoding.replace("-sig", ""),
            ) from None
        self._dialect = self._dialect.found(head)
        lines = _Lines(head, text, self._longest, self._dialect.quotechar)
        reader = csv.reader(lines, strict=True, **self._dialect.options)
        try:
            names = next(reader, [])
        except _RowTooLong:
            raise ConfigurationError(f"{self.name}: {too_long(1, self._longest)}") from None
        except (csv.Error, *_BREAKS_OFF) as error:
            raise ConfigurationError(f"{self.name}: its first line is no CSV header: {error}") from None
        self._header = self._typed(names)
        return lines, reader

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
        twice = sorted(name for name, count in Counter(header).items() if count > 1)
        if twice:
            raise ConfigurationError(f"{self.name}: its header names the column {twice[0]!r} twice")
        missing = sorted(self._types.keys() - set(header))
        if missing:
            raise OptionError(
                "{types}: the input has no column {column!r} (columns: {columns})",
                column=missing[0],
                columns=", ".join(header),
            )
        return header

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order. The file is opened with the first row."""
        text, lines, reader = self._opened or self._open()
        self._opened = None
        header = self._header or []
        typed = [(name, _TYPES[kind], kind) for name, kind in self._types.items() if kind != "str"]
        width = len(header)
        try:
            while True:
                lines.begin_row()
                line = reader.line_num + lines.skipped + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except _RowTooLong:
                    yield line, None, too_long(line, self._longest)
                    try:
                        lines.skip_row()
                    except _BREAKS_OFF as error:
                        yield line + 1, None, cut_off(error)
                        return
                    except UnicodeError:
                        yield line + 1, None, f"{_not_in(f'line {line + 1}', self._encoding)}; what follows is not read"
                        return
                    continue
                except csv.Error as error:
                    yield line, None, f"line {line} is no CSV: {error}"
                    continue
                except _BREAKS_OFF as error:
                    yield line, None, cut_off(error)
                    return
                except UnicodeError:
                    # Text is decoded in blocks. In one that has no text, nothing tells where a character begins.
                    told = _not_in(f"line {line} or one soon after", self._encoding)
                    yield line, None, f"{told}; what follows is not read"
                    return
                if len(cells) != width:
                    if cells:
                        yield line, None, self._misfit(cells, line, width)
                    continue
                columns: dict[str, Any] = dict(zip(header, cells))
                problem = _convert(columns, typed, line) if typed else None
                if problem is None and not "".join(cells).isascii():
                    problem = _undecodable(cells, line, self._encoding)
                yield (line, None, problem) if problem else (line, columns, None)
        finally:
            text.close()
            self._input.close()

    def _misfit(self, cells: Sequence[str], line: int, width: int) -> str:
        told = f"line {line} has {len(cells)} fields where the header has {width}"
        if self._dialect.quotechar == '"' and any(cell.startswith("'") for cell in cells):
            told += "; if ' quotes its fields, pass it as quotechar"
        return told


def is_utf8(encoding: str) -> bool:
    """Whether that is a name of UTF-8."""
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


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
        return _not_in(f"line {line}", encoding)
    return None


def _not_in(place: str, encoding: str) -> str:
    return f"{place} is not {encoding.replace('-sig', '')}: pass the encoding of the file"
