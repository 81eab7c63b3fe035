"""The one table of batch options: name, type, default, help and check of each. Clients and commands use it.

To add one: a field of `BatchOptions`, the parameter of the clients' methods, and the item of `BatchRequestOptions`
where a request may have it; tests compare them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any, Callable, Optional, TypeVar, Union

from typing_extensions import TypedDict

from .._core.limits import LONGEST_TIMEOUT_MS, MOST_CONCURRENCY, PROGRAM_TIMEOUT_MS
from .._core.rowsets import Missing
from ..exceptions import OptionError
from ..modes import MODES, NEW, SKIPPING, Mode
from .engine.reader import Key
from .engine.stopping import Stop
from .formats.sinks import Sink
from .reporting.quality import Expectation
from .reporting.snapshot import Watcher
from .resume.journal import Journal

Path = Union[str, "PathLike[str]"]

ENOUGH_FOR_A_SHARE = 100
"""Finished rows from which a percentage of `max_errors` counts: of fewer rows, one failure would be too many."""

# Where an option can be given.
STREAM, RUN, FILE, QUERYSET, REQUEST = "stream", "run", "file", "queryset", "request"
PYTHON = frozenset({STREAM, RUN})
EVERYWHERE = frozenset({STREAM, RUN, FILE, QUERYSET, REQUEST})

# Headings of the options in a shell.
ROWS, RESULTS, RUNNING, AGAIN, FORMATS = "Rows", "Results", "How it runs", "Running it again", "Formats"

T = TypeVar("T")


@dataclass(frozen=True)
class OptionInfo:
    """What the table says about an option besides its name, type and default."""

    help: str
    read: Optional[Callable[[Any], Any]] = None
    metavar: Optional[str] = None
    flags: tuple[str, ...] = ()
    where: frozenset[str] = EVERYWHERE
    group: str = RUNNING
    repeated: bool = False

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it accepts, if it accepts only some."""
        return getattr(self.read, "choices", ())


def option(default: T, help: str, **info: Any) -> T:  # noqa: A002  # the word of argparse and Typer
    """Return a field of a table of options."""
    made: T = field(default=default, metadata={"option": OptionInfo(help, **info)})
    return made


class MaxErrors:
    """How many rows may fail before a run stops: a count (`20`), or a share (`"5%"`)."""

    def __init__(self, given: Union[int, str]) -> None:
        self.given = given
        self._count: Optional[int] = None
        self._share: Optional[float] = None
        text = str(given).strip()
        try:
            if isinstance(given, bool):
                raise ValueError  # the same text as for other invalid values
            if text.endswith("%"):
                self._share = float(text[:-1]) / 100
            else:
                self._count = int(text)
        except ValueError:
            self._count = -1
        if (self._count is not None and self._count < 0) or not 0 <= (self._share or 0) <= 1:
            raise ValueError("must be a count (20) or a share (5%)")

    def exceeded(self, errors: int, ended: int) -> bool:
        """Return whether `errors` failed rows of `ended` are too many."""
        if self._count is not None:
            return errors > self._count
        return self._share is not None and ended >= ENOUGH_FOR_A_SHARE and errors > self._share * ended

    def __str__(self) -> str:
        return str(self.given)


def whole(least: int, most: Optional[int] = None) -> Callable[[Any], int]:
    """Return a reader of whole numbers, passed as numbers or as texts."""

    def read(value: Any) -> int:
        try:
            number = int(value) if not isinstance(value, (bool, float)) else least - 1
        except (TypeError, ValueError):
            number = least - 1
        if number < least or (most is not None and number > most):
            upto = f"from {least}" if most is None else f"from {least} to {most:,}"
            raise ValueError(f"must be a whole number {upto}")
        return number

    return read


def _number(most: float, what: str) -> Callable[[Any], float]:
    """Return what reads a number from 0 to `most`, passed as a number or as text."""

    def read(value: Any) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= most:
            raise ValueError(f"must be a number {what}")
        return number

    return read


share = _number(1, "from 0 to 1")
seconds = _number(math.inf, "of seconds from 0")


class one_of:  # noqa: N801  # like `whole` and `seconds`, which also read values
    """A reader of one of several words; `None` is allowed if `optional`."""

    def __init__(self, *choices: str, optional: bool = False) -> None:
        self.choices = choices
        self._optional = optional

    def __call__(self, value: Any) -> Optional[str]:
        """Return the word. Raises `ValueError` for another."""
        if value is None and self._optional:
            return None
        if value not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}")
        return str(value)


def _optional(read: Callable[[Any], T]) -> Callable[[Any], Optional[T]]:
    return lambda value: None if value is None else read(value)


def _max_errors(value: Any) -> Optional[MaxErrors]:
    return value if value is None or isinstance(value, MaxErrors) else MaxErrors(value)


def _required_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


text = _optional(_required_text)
"""Reads a text, or nothing."""


def _key(value: Any) -> Any:
    if value is None or isinstance(value, str) or callable(value):
        return value
    raise ValueError("must be the name of a column, or a function")


def _having(*methods: str, what: str) -> Callable[[Any], Any]:
    """Reads an object with these methods, or nothing."""

    def read(value: Any) -> Any:
        if value is not None and not all(callable(getattr(value, method, None)) for method in methods):
            raise ValueError(f"must be {what}")
        return value

    return read


def _journal(value: Any) -> Any:
    if isinstance(value, (str, PathLike)):
        return value
    return _having("ended", "record", what="a path or a journal")(value)


def _watchers(value: Any) -> list[Any]:
    read = _having("update", "finish", what="a list of objects with update() and finish()")
    try:
        return [read(each) for each in value]
    except TypeError:
        raise ValueError("must be a list of objects with update() and finish()") from None


def _mapping(value: Any) -> Any:
    if value is None or (isinstance(value, Mapping) and all(isinstance(part, str) for part in value.values())):
        return value
    if not isinstance(value, (str, bytes, Mapping)):
        try:
            parts = list(value)
        except TypeError:
            parts = [None]
        if all(isinstance(part, str) for part in parts):
            return parts
    raise ValueError("must be a list of MEMBER=COLUMN, or a mapping of members to columns")


def _types(value: Any) -> dict[str, str]:
    """Return CSV types by column, passed as a mapping or as texts `COLUMN=TYPE`."""
    if isinstance(value, Mapping):
        return {str(name): str(kind) for name, kind in value.items()}
    if isinstance(value, str) or not isinstance(value, (Iterable, type(None))):
        raise ValueError("must be a list of COLUMN=TYPE, or a mapping of columns to types")
    types = {}
    for each in value or ():
        name, equals, kind = str(each).rpartition("=")
        if not (name and equals and kind):
            raise ValueError(f"must be COLUMN=TYPE, and {each!r} is not")
        types[name] = kind
    return types


_FILES = frozenset({STREAM, RUN, FILE})
_TEXTS = _FILES | {REQUEST}


@dataclass(frozen=True)
class BatchOptions:
    """The options of one batch. Values may be texts, as in a shell. Raises `OptionError`."""

    key: Key = option(
        None,
        "Column that names each row; without it, rows are numbered.",
        read=_key,
        metavar="COLUMN",
        flags=("--key", "--id-field"),
        where=_FILES,
        group=ROWS,
    )
    mapping: Union[Iterable[str], Mapping[str, str], None] = option(
        None,
        "Member of the input, and the column it is taken from; may be repeated.",
        read=_mapping,
        metavar="NAME=COLUMN",
        flags=("--map", "-m"),
        group=ROWS,
        repeated=True,
    )
    allow_duplicates: bool = option(False, "Allow rows to share a key.", where=_FILES, group=ROWS)
    limit: Optional[int] = option(
        None,
        "Run at most N rows.",
        read=_optional(whole(0)),
        metavar="N",
        where=EVERYWHERE - {REQUEST},
        group=ROWS,
    )
    missing: Missing = option(
        "null",
        "How missing values in DataFrames and Series are sent: as null, or as an error of their row.",
        read=one_of("null", "error"),
        where=PYTHON,
        group=ROWS,
    )
    expect: Optional[str] = option(
        None,
        "Column with the right answer (LABEL, or LABEL=output.PATH): reports accuracy.",
        read=text,
        metavar="COLUMN",
        where=EVERYWHERE - {STREAM},
        group=RESULTS,
    )
    chunk_size: int = option(100, "Rows per request (100).", read=whole(1), metavar="N")
    max_in_flight: int = option(4, "Requests in flight at a time (4).", read=whole(1), metavar="N")
    max_concurrency: int = option(
        10,
        f"Rows of a request that the server runs at a time, 1 to {MOST_CONCURRENCY} (10).",
        read=whole(1, MOST_CONCURRENCY),
        metavar="N",
    )
    ordered: bool = option(False, "Write results in the order of the rows.", where=_FILES)
    max_errors: Union[int, str, MaxErrors, None] = option(
        None, "Stop when more than N rows, or P %, have failed.", read=_max_errors, metavar="N|P%"
    )
    min_confidence: Optional[float] = option(
        None,
        "Mark rows as doubtful whose program is less certain than this, from 0 to 1.",
        read=_optional(share),
        metavar="SHARE",
        group=RESULTS,
    )
    timeout_ms: Optional[int] = option(
        None,
        f"Time limit for a row's program, in milliseconds ({PROGRAM_TIMEOUT_MS}).",
        read=_optional(whole(1, LONGEST_TIMEOUT_MS)),
        metavar="MS",
    )
    version: Optional[int] = option(
        None,
        "Version of the task's program, instead of the active one.",
        read=_optional(whole(1)),
        metavar="N",
        flags=("--task-version",),
    )
    force_validation: bool = option(False, "Have the server validate every result.", where=_FILES)
    mode: Mode = option(
        NEW,
        "What to do with an earlier run: resume it, retry_failed (resume, and repeat failed rows), overwrite it, or "
        "continue (resume it if it is unfinished).",
        read=one_of(*MODES),
        where=EVERYWHERE - {REQUEST},
        group=AGAIN,
    )
    journal: Union[Path, Journal, None] = option(
        None,
        "File that records finished rows (default: beside the output).",
        read=_journal,
        metavar="FILE",
        where=_FILES,
        group=AGAIN,
    )
    sink: Optional[Sink] = option(
        None,
        "Object that outcomes are written to.",
        read=_having("write", "close", what="an object with write() and close()"),
        where=frozenset({RUN}),
    )
    output_format: Optional[str] = option(
        None,
        "Format of the output: csv, jsonl, parquet or xlsx (default: by its name).",
        read=one_of("csv", "jsonl", "parquet", "xlsx", optional=True),
        metavar="FORMAT",
        where=frozenset({RUN, FILE, QUERYSET}),
        group=FORMATS,
    )
    nested: bool = option(
        False,
        "Write results as JSON only, without a column for each member (CSV and Excel).",
        where=frozenset({RUN, FILE, QUERYSET}),
        group=FORMATS,
    )
    format: Optional[str] = option(
        None,
        "Format of the input: csv, jsonl, json, parquet or xlsx (default: by its name).",
        read=one_of("csv", "jsonl", "json", "parquet", "xlsx", optional=True),
        metavar="FORMAT",
        where=_FILES,
        group=FORMATS,
    )
    delimiter: Optional[str] = option(
        None, "Delimiter of a CSV file (default: detected).", read=text, metavar="CHAR", where=_TEXTS, group=FORMATS
    )
    quotechar: Optional[str] = option(
        None, "Quote character of a CSV file (default: detected); '' for none.", read=text, metavar="CHAR",
        where=_TEXTS, group=FORMATS,
    )  # fmt: skip
    escapechar: Optional[str] = option(
        None, "Escape character of a CSV file, if quotes are not doubled.", read=text, metavar="CHAR",
        where=_TEXTS, group=FORMATS,
    )  # fmt: skip
    encoding: str = option(
        "utf-8",
        "Encoding of a CSV or JSON file (utf-8).",
        read=_required_text,
        metavar="NAME",
        where=_TEXTS,
        group=FORMATS,
    )
    skip_lines: int = option(
        0, "Lines to skip before the header (0).", read=whole(0), metavar="N", where=_TEXTS, group=FORMATS
    )
    comment: Optional[str] = option(
        None,
        "Prefix of comment lines in a CSV file.",
        read=text,
        metavar="TEXT",
        where=_TEXTS,
        group=FORMATS,
    )
    no_header: bool = option(
        False,
        "The first line is a row, not a header; columns are called column_1, column_2, ….",
        where=_TEXTS,
        group=FORMATS,
    )
    sheet: Optional[str] = option(
        None,
        "Sheet of an Excel workbook (default: its only one).",
        read=text,
        metavar="NAME",
        where=_FILES,
        group=FORMATS,
    )
    types: Union[Mapping[str, str], Iterable[str], None] = option(
        None,
        "Type of a CSV column: str, int, float, bool or json; may be repeated.",
        read=_types,
        metavar="COLUMN=TYPE",
        flags=("--type",),
        where=_TEXTS,
        group=FORMATS,
        repeated=True,
    )
    stop: Optional[Stop] = option(
        None, "Call it to end the run early.", read=_having("on_request", what="a loopai.Stop"), where=PYTHON
    )
    watchers: Sequence[Watcher] = option(
        (), "Objects that are called while the run is in progress.", read=_watchers, where=frozenset({RUN})
    )

    def __post_init__(self) -> None:
        for name, info in table(type(self)):
            if info.read is None:
                continue
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, info.read(value))
            except ValueError as error:
                raise OptionError(f"{{{name}}} {{problem}}, not {{value!r}}", problem=error, value=value) from None

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as texts for people, without the caller's objects."""
        found = {}
        for item in fields(BatchOptions):
            value = getattr(self, item.name)
            if isinstance(value, Mapping):
                value = [f"{name}={part}" for name, part in value.items()]
            if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
                value = ", ".join(value)
            if value and value != item.default and isinstance(value, (str, int, float, MaxErrors)):
                found[item.name] = str(value)
        return found

    @property
    def resumes(self) -> bool:
        """Whether finished rows are skipped."""
        return self.mode in SKIPPING

    @property
    def expectation(self) -> Optional[Expectation]:
        """What outputs are compared with; `None` without an expected column. Raises `OptionError`."""
        return None if self.expect is None else Expectation(self.expect)

    def too_many(self, errors: int, ended: int) -> bool:
        """Return whether `errors` failed rows of `ended` stop the run."""
        return isinstance(self.max_errors, MaxErrors) and self.max_errors.exceeded(errors, ended)


class BatchRequestOptions(TypedDict, total=False):
    """The options of the table that batches of FastAPI accept, by name and type."""

    mapping: Union[Iterable[str], Mapping[str, str], None]
    expect: Optional[str]
    chunk_size: int
    max_in_flight: int
    max_concurrency: int
    max_errors: Union[int, str, MaxErrors, None]
    min_confidence: Optional[float]
    timeout_ms: Optional[int]
    version: Optional[int]
    delimiter: Optional[str]
    quotechar: Optional[str]
    escapechar: Optional[str]
    encoding: str
    skip_lines: int
    comment: Optional[str]
    no_header: bool
    types: Union[Mapping[str, str], Iterable[str], None]


def table(options: type) -> Iterator[tuple[str, OptionInfo]]:
    """Yield name and description of each option of a table."""
    for item in fields(options):
        if "option" in item.metadata:
            yield item.name, item.metadata["option"]


def options_in(where: str, given: Mapping[str, Any]) -> BatchOptions:
    """Return options by name, of those allowed in `where`. Raises `OptionError`."""
    known = [name for name, info in table(BatchOptions) if where in info.where]
    for name in given:
        if name not in known:
            raise OptionError("{name} is not an option here; there are {known}", name=name, known=", ".join(known))
    return BatchOptions(**given)
