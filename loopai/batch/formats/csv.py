"""Rows of CSV: dialect, types, and rows that cannot be read."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from typing import IO, Any, Callable, NamedTuple, Optional

from ...exceptions import ConfigurationError, OptionError
from ..reporting.one_line import counted
from .columns import REMEDY, named, numbered
from .encoding import checked, encoding_of, not_in
from .json import read_json
from .packing import BLOCK, BREAKS_OFF, cut_off
from .source import LONGEST_LINE, FromInput, Input, Record, too_long

_SAMPLE = 65536
_ROWS_COMPARED = 20
"""Rows that are compared with the header, to tell it from a title."""
_DELIMITERS = ",;\t|"
_QUOTES = "\"'"
_BLANK = " \r\n\"'" + _DELIMITERS
_NO_TEXT = re.compile("[\\x00-\\x08\\x0e-\\x19\\x1b-\\x1f]")
_END_OF_FILE = "\x1a"  # DOS end-of-file character
_MARK = "\ufeff"  # a second byte order mark, or one that the given encoding keeps
_COMMENTS = ("# ", "##")
"""A line that begins so is a comment if the next line does too; a single column may be called `#`."""
_UNCLOSED = "unexpected end of data"
"""The message of `csv` for it."""
_SEPARATOR = re.compile(r"\"?sep=(.)\"?[ ,;]*\Z", re.IGNORECASE)
"""How a file declares its delimiter to Excel, in a line before the header."""


def _number(text: str) -> float:
    _check_digits(text)
    found = float(text)
    if not math.isfinite(found):
        raise ValueError("JSON has no such number")
    return found


def _json(text: str) -> Any:
    return read_json(text.encode("utf-8", "surrogatepass"))


def _integer(text: str) -> int:
    _check_digits(text)
    return int(text)


def _check_digits(text: str) -> None:
    if "_" in text:
        raise ValueError("is a number in Python only")


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


def check_types(types: Mapping[str, str]) -> None:
    """Raise `OptionError` for an unknown column type."""
    for name, kind in types.items():
        if kind not in _TYPES:
            raise OptionError(
                "{types} {column}={kind}: a type is one of {known}", column=name, kind=kind, known=", ".join(_TYPES)
            )


@dataclass(frozen=True)
class Dialect:
    """How a CSV file separates, quotes and escapes, with the names of Python's `csv`, and where its rows begin.

    Delimiter and quote character are detected if `None`; `quotechar=""` is for a file without quotes. A quote within
    quotes is doubled, or follows `escapechar` if there is one. The first `skip_lines` lines are skipped, and so are
    lines that start with `comment`. With `no_header` the first row is data, and columns are `column_1`, ….
    """

    delimiter: Optional[str] = None
    quotechar: Optional[str] = None
    escapechar: Optional[str] = None
    skip_lines: int = 0
    comment: Optional[str] = None
    no_header: bool = False

    def check(self) -> None:
        """Raise `ConfigurationError` for an invalid dialect."""
        if self.comment is not None and (not self.comment.strip() or not self.comment.isprintable()):
            raise OptionError("{comment} must be the characters that a comment starts with, not {mark!r}",
                              mark=self.comment)  # fmt: skip
        marks = (("delimiter", self.delimiter), ("quotechar", self.quotechar), ("escapechar", self.escapechar))
        for name, mark in marks:
            empty = mark == "" and name == "quotechar"
            if mark is not None and not empty and (len(mark) != 1 or mark in "\r\n"):
                tab = " (a tab is $'\\t' in a shell)" if name == "delimiter" else ""
                raise OptionError(f"{{{name}}} must be one character, not {{mark!r}}{{tab}}", mark=mark, tab=tab)
        given = [mark for _, mark in marks if mark]
        if len(set(given)) < len(given):
            raise OptionError("{delimiter}, {quotechar} and {escapechar} must differ")

    def found(self, head: str) -> Dialect:
        """The dialect completed from the header line: the delimiter that makes the most columns, and the quotes."""
        quote = self.quotechar
        if quote is None:
            # Only if it cannot be anything else: many texts begin with an apostrophe.
            line = head.rstrip("\r\n")
            quote = next((mark for mark in _QUOTES if len(line) > 1 and line[0] == line[-1] == mark), _QUOTES[0])
            quote = quote if quote not in {self.delimiter, self.escapechar} else ""

        def columns(mark: str) -> int:
            return len(next(csv.reader([head], **Dialect(mark, quote, self.escapechar).options), []))

        marks = [mark for mark in _DELIMITERS if mark not in {quote, self.escapechar}]
        return replace(self, delimiter=self.delimiter or max(marks, key=columns), quotechar=quote)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments for `csv.reader`, once the dialect is complete."""
        quotes: dict[str, Any] = {"quotechar": self.quotechar} if self.quotechar else {"quoting": csv.QUOTE_NONE}
        return {"delimiter": self.delimiter, "escapechar": self.escapechar, **quotes}


class _RowTooLong(Exception):
    """Ends the reading of one row."""


_LINES_HELD = 1000
"""Lines of one row whose quotes are counted together."""


class _Lines:
    """The lines of a text for `csv.reader`: at most `longest` bytes for one row. Comments are skipped.

    `csv` itself only limits fields, for the whole process, and accepts rows with any number of fields.
    """

    def __init__(self, text: IO[str], longest: int, comment: Optional[str]) -> None:
        self._head = ""
        self._comment = comment
        self.quote: Optional[str] = None
        self._quotes = 0
        self._text = text
        self._longest = longest
        self._row: list[str] = []
        self._size = 0
        self._ended = 0
        """Number of complete lines read."""
        self.row_line = 1
        """First line of the current row."""

    def begin_row(self) -> None:
        """Start a new row with the next line."""
        self._size = self._quotes = 0
        self.row_line = self._ended + 1
        self._row.clear()

    def skip_lines(self, count: int) -> None:
        """Skip lines, whatever they contain."""
        for _ in range(count):
            line = self._readline(BLOCK)
            if not line:
                return
            self._read_to_end(line)

    def find_first(self, blank: str) -> str:
        """Skip comments and lines of only `blank`; return the start of the next line, which is read again."""
        self.begin_row()
        while self._is_comment(head := self._readline(_SAMPLE)) or (head and not head.strip(blank)):
            self._read_to_end(head)
            self.begin_row()
        self._head = head
        return head

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        head, self._head = self._head, ""
        # The first line may be longer than the part that was read.
        line = head if head.endswith(("\n", "\r")) else head + self._readline(self._longest + 1)
        while not self._row and self._is_comment(line):
            self._read_to_end(line)
            self.begin_row()
            line = self._readline(self._longest + 1)
        if not line:
            raise StopIteration
        if len(self._row) >= _LINES_HELD:
            self._quotes += self._quotes_in_row()
            self._row.clear()
        self._row.append(line)
        self._size += len(line) if line.isascii() else len(line.encode("utf-8", "surrogatepass"))
        if self._size > self._longest:
            raise _RowTooLong
        return line

    def _readline(self, most: int) -> str:
        line = self._text.readline(most)
        if line.endswith(("\n", "\r")):
            self._ended += 1
        elif line.endswith(_END_OF_FILE) and len(line) < most:
            return line.rstrip(_END_OF_FILE)
        return line

    def _is_comment(self, line: str) -> bool:
        return self._comment is not None and line.startswith(self._comment)

    def _read_to_end(self, line: str) -> None:
        while line and not line.endswith(("\n", "\r")):
            line = self._readline(BLOCK)

    def _quotes_in_row(self) -> int:
        quote = self.quote
        return sum(line.count(quote) for line in self._row) if quote else 0

    def skip_row(self) -> None:
        """Skip the rest of a row that is too long, up to the first line break outside quotes."""
        quote, quotes = self.quote, self._quotes + self._quotes_in_row()
        line = self._row[-1]
        while line and not (line.endswith(("\n", "\r")) and quotes % 2 == 0):
            line = self._readline(BLOCK)
            quotes += line.count(quote) if quote else 0
        self.begin_row()


_FOUND = Dialect()


class _Begun(NamedTuple):
    """A CSV whose header was read; `first` is a row that was read with it, and that row's first line."""

    text: IO[str]
    lines: _Lines
    reader: Any
    first: Optional[tuple[int, list[str]]]


class CsvSource(FromInput):
    """CSV with a header line; delimiter and quotes are detected unless `dialect` sets them.

    Values are texts, unless `types` (column → `int`, `float`, `bool`, `json`, `str`) or the header itself
    (`age:int`) says otherwise; an empty cell of a typed column is `None`. UTF-16 and UTF-32 are detected if the
    encoding is UTF-8. A row of more than `longest` bytes fails. A column without a name is `column_3`. Raises
    `ConfigurationError` for an unknown type or encoding, a duplicate column name, a missing header, and a header that
    no row below fits.
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
        self._given = self._dialect = dialect
        self._types = dict(types or {})
        self._encoding = checked(encoding)
        self._header: Optional[list[str]] = None
        self._opened: Optional[_Begun] = None
        check_types(self._types)

    @property
    def reading(self) -> dict[str, Any]:
        """What affects how the bytes become rows: dialect, encoding and types, as given or detected."""
        if self.header is None:
            return {}
        return {**asdict(self._dialect), "encoding": self._encoding, "types": dict(sorted(self._types.items()))}

    @property
    def header(self) -> Optional[list[str]]:
        """The columns, without types that the header line may contain."""
        if self._header is None:
            self._opened = self._open()
            if self.repeatable:
                self._opened.text.close()
                self._input.close()
                self._opened = None
        return self._header

    def _open(self) -> _Begun:
        # The only limit in `csv` is process-wide; its default of 131,072 refuses an ordinary e-mail.
        if csv.field_size_limit() < LONGEST_LINE:
            csv.field_size_limit(LONGEST_LINE)
        if self._header is None:
            head = self._input.head()
            self._encoding = encoding_of(head, self._encoding)
            self._compare(head.decode(self._encoding, "replace"))
        stream = self._input.open()
        try:
            text = io.TextIOWrapper(stream, self._encoding, errors="surrogateescape", newline="")
            begun, names = self._begin(text)
            self._header = self._named(names, begun.lines.row_line)
        except BaseException:
            stream.close()
            self._input.close()
            raise
        else:
            return begun

    def _begin(self, text: IO[str]) -> tuple[_Begun, list[str]]:
        """Find where rows begin and how they are written; return the column names as they are in the text."""
        dialect = self._given
        lines = _Lines(text, self._longest, dialect.comment)
        try:
            lines.skip_lines(dialect.skip_lines)
            head = lines.find_first("\r\n" if dialect.no_header else _BLANK)
            told = _SEPARATOR.match(head.rstrip("\r\n"))
            if told is not None:
                next(lines)
                dialect = dialect if dialect.delimiter else replace(dialect, delimiter=told.group(1))
                head = lines.find_first("\r\n" if dialect.no_header else _BLANK)
        except BREAKS_OFF as error:
            raise ConfigurationError(f"{self.name}: its first line cannot be read: {error}") from None
        except UnicodeError:
            raise self._not_text(f"line {lines.row_line} or one soon after") from None
        if _NO_TEXT.search(head) is not None:
            raise OptionError(
                "{name}: line {line} is not text: is it a CSV file? If it is, pass its {encoding}, such as utf-16-le",
                name=self.name, line=lines.row_line,
            )  # fmt: skip
        self._dialect = dialect.found(head)
        lines.quote = self._dialect.quotechar
        reader = csv.reader(lines, strict=True, **self._dialect.options)
        try:
            row = next(reader, [])
        except _RowTooLong:
            raise ConfigurationError(f"{self.name}: {too_long(lines.row_line, self._longest)}") from None
        except (csv.Error, *BREAKS_OFF) as error:
            raise ConfigurationError(f"{self.name}: its first line is not CSV header: {error}") from None
        if dialect.no_header:
            return _Begun(text, lines, reader, (lines.row_line, row)), numbered(len(row))
        return _Begun(text, lines, reader, None), row

    def _compare(self, sample: str) -> None:
        """Refuse a line that only looks like a header: a title above it, or a line that is not delimited."""
        text = io.StringIO(sample, newline="")
        begun, names = self._begin(text)
        if self._given.no_header:
            return
        width, rest = len(names), text.read()
        told = ""
        if names and names[0].startswith(_COMMENTS) and rest.startswith("#"):
            told = "a # in front, like the line below it"
        elif width > 1:
            widths = self._widths(rest, self._dialect)
            if len(widths) > 1 and width not in widths:
                told = f"{width} columns, and none of the rows below it has as many"
        else:
            for mark in self._given.delimiter or _DELIMITERS:
                widths = self._widths(rest, replace(self._dialect, delimiter=mark))
                wide = Counter(found for found in widths if found > 1).most_common(1)
                most = wide[0][1] if wide else 0
                # A few sentences in a column of texts may contain a delimiter.
                if most == len(widths) > 0 or (most > 1 and most * 2 >= len(widths)):
                    told = f"1 column, and rows below it have {wide[0][0]}"
                    break
        if told:
            raise OptionError(
                "{name}: line {line} has {told}. " + REMEDY + "; pass {delimiter} if rows are split otherwise",
                name=self.name, line=begun.lines.row_line, told=told,
            )  # fmt: skip

    def _widths(self, text: str, dialect: Dialect) -> list[int]:
        """The number of cells in each of the first readable rows."""
        lines = _Lines(io.StringIO(text, newline=""), self._longest, dialect.comment)
        widths = []
        with suppress(csv.Error, _RowTooLong):  # that row fails on its own when it is read
            for cells in islice(csv.reader(lines, strict=True, **dialect.options), _ROWS_COMPARED):
                lines.begin_row()
                if cells:
                    widths.append(len(cells))
        return widths

    def _not_text(self, place: str) -> OptionError:
        codec = self._encoding.replace("-sig", "")
        hint = " (files of Excel are often cp1252)" if codec == "utf-8" else ""
        return OptionError(
            "{name}: {place} is not {codec}; pass its {encoding}{hint}",
            name=self.name, place=place, codec=codec, hint=hint,
        )  # fmt: skip

    def _named(self, names: Sequence[str], line: int) -> list[str]:
        if not any(name.strip() for name in names):
            raise ConfigurationError(f"{self.name} is empty: a CSV input starts with a line that names its columns")
        if not "".join(names).isascii() and not _is_text(names):
            raise self._not_text(f"line {line}")
        columns, kinds = [], []
        for name in (name.strip().lstrip(_MARK).strip() for name in names):
            column, colon, kind = name.rpartition(":")
            typed = bool(colon) and kind in _TYPES
            columns.append(column if typed else name)
            kinds.append(kind if typed else "")
        header = named(columns, self.name, line)
        for name, kind in zip(header, kinds):
            if kind:
                self._types.setdefault(name, kind)
        missing = sorted(self._types.keys() - set(header))
        if missing:
            raise OptionError(
                "{types}: the input has no column {column!r} (columns: {columns})",
                column=missing[0],
                columns=", ".join(header),
            )
        return header

    def let_go(self) -> None:
        """See `FromInput`."""
        if self._opened is not None:
            self._opened.text.close()
            self._opened = None
        super().let_go()

    def __iter__(self) -> Iterator[Record]:
        """Read the rows in order. The file is opened with the first row."""
        begun = self._opened or self._open()
        self._opened = None
        lines = begun.lines
        try:
            if begun.first is not None:
                yield self._row(*begun.first)
            while True:
                lines.begin_row()
                try:
                    cells = next(begun.reader)
                except StopIteration:
                    return
                except _RowTooLong:
                    line = lines.row_line
                    yield line, None, too_long(line, self._longest)
                    try:
                        lines.skip_row()
                    except BREAKS_OFF as error:
                        yield line + 1, None, f"line {line + 1}: {cut_off(error)}"
                        return
                    except UnicodeError:
                        yield line + 1, None, f"{not_in(f'line {line + 1}', self._encoding)}; what follows is not read"
                        return
                    continue
                except csv.Error as error:
                    told = f"line {lines.row_line} is not CSV: {error}"
                    if str(error) == _UNCLOSED:
                        told += "; a quote that opens there is not closed, and what follows was read as its text"
                    yield lines.row_line, None, told
                    continue
                except BREAKS_OFF as error:
                    yield lines.row_line, None, f"line {lines.row_line}: {cut_off(error)}"
                    return
                except UnicodeError:
                    # Text is decoded in blocks. In an undecodable block, character boundaries are unknown.
                    told = not_in(f"line {lines.row_line} or one soon after", self._encoding)
                    yield lines.row_line, None, f"{told}; what follows is not read"
                    return
                if cells and (len(cells) > 1 or cells[0].strip(_END_OF_FILE) or not cells[0]):
                    yield self._row(lines.row_line, cells)
        finally:
            begun.text.close()
            self._input.close()

    def _row(self, line: int, cells: list[str]) -> Record:
        header = self._header or []
        if len(cells) != len(header):
            return line, None, self._misfit(cells, line, len(header))
        columns: dict[str, Any] = dict(zip(header, cells))
        problem = _convert(columns, self._converters, line) if self._types else None
        if problem is None and not "".join(cells).isascii() and not _is_text(cells):
            problem = not_in(f"line {line}", self._encoding)
        return (line, None, problem) if problem else (line, columns, None)

    @cached_property
    def _converters(self) -> list[tuple[str, Callable[[str], Any], str]]:
        return [(name, _TYPES[kind], kind) for name, kind in self._types.items() if kind != "str"]

    def _misfit(self, cells: Sequence[str], line: int, width: int) -> str:
        told = f"line {line} has {counted(len(cells), 'field')} where the header has {width}"
        if self._dialect.quotechar == '"' and any(cell.startswith("'") for cell in cells):
            told += "; if ' quotes its fields, pass it as quotechar"
        return told


def _convert(
    columns: dict[str, Any], typed: Sequence[tuple[str, Callable[[str], Any], str]], line: int
) -> Optional[str]:
    for name, convert, kind in typed:
        cell = columns[name]
        try:
            columns[name] = convert(cell) if cell else None
        except ValueError:
            return f"line {line}: {name} is {cell[:40]!r}, which is not a valid {kind}"
    return None


def _is_text(cells: Sequence[str]) -> bool:
    """Whether all cells were valid text in the file's encoding."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True
