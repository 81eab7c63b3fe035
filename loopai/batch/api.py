"""`stream` and `run`, and their synchronous twins: what `batch_stream` and `run_batch` of the clients call."""

from __future__ import annotations

import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from functools import partial
from typing import IO, Any, Callable, Optional, Union, cast

from typing_extensions import TypedDict, Unpack

from .._core.rowsets import Missing, cells_of, check_rows, raw_rows, row_of
from ..exceptions import OptionError
from ..modes import RETRY_FAILED
from .engine import event_loop, threads
from .engine.chunks import BatchCall
from .engine.driver import Driver
from .engine.reader import Clean, Key, Make, Reader, from_records, from_values
from .engine.run import Run
from .engine.scheduler import Scheduler
from .engine.sender import Sender
from .formats.csv import CsvSource
from .formats.lent import lent_file
from .formats.opening import FILE_SOURCES, FileSource, JsonSource, format_of, open_source
from .formats.spooled_rows import SpoolSource, from_spool
from .formats.xlsx_output import MOST_ROWS
from .mapping import InputMapping
from .options import BatchOptions, Path
from .reporting.quality import Expectation
from .reporting.statistics import Statistics, Summary
from .resume.checkpoint import Checkpoint, check_apart, journal_of
from .resume.journal import TASK_NAMES, FileJournal, Journal
from .resume.prescan import Prescan, prescan
from .rows import Outcome, Row

Rows = Union[Iterable[Any], AsyncIterable[Any], Path]
SyncRows = Union[Iterable[Any], Path]
Mapped = Union[Iterable[str], Mapping[str, str], None]
Output = Union[Path, IO[bytes], None]
AsyncOutcomes = AsyncGenerator[Outcome, None]
Outcomes = Iterator[Outcome]


class Handed(TypedDict, total=False):
    """What a client passes besides the options: names of the task besides its id, and a clock."""

    names: Collection[str]
    clock: Callable[[], float]


AsyncSleep = Optional[Callable[[float], Awaitable[None]]]
Sleep = Optional[Callable[[float], None]]


def stream(
    sender: Sender, task_id: str, rows: Rows, options: BatchOptions, *, sleep: AsyncSleep = None, **more: Unpack[Handed]
) -> AsyncOutcomes:
    """Run rows through a task in the running event loop, and yield each row's `Outcome` when it finishes.

    The caller's iterables are read in the loop; files and the journal are read and written in threads.
    """
    return event_loop.perform(_driver(sender, task_id, rows, options, emits=True, **more), sleep=sleep)


def stream_sync(
    sender: Sender, task_id: str, rows: SyncRows, options: BatchOptions, *, sleep: Sleep = None, **more: Unpack[Handed]
) -> Generator[Outcome, None, None]:
    """Like `stream`, for synchronous code: requests run in threads, rows are read in the calling thread."""
    return threads.perform(_driver(sender, task_id, rows, options, emits=True, **more), sleep=sleep)


async def run(
    sender: Sender,
    task_id: str,
    rows: Rows,
    output: Output,
    options: BatchOptions,
    *,
    sleep: AsyncSleep = None,
    **more: Unpack[Handed],
) -> Summary:
    """Run rows through a task into `output`, in the running event loop, and return the `Summary`.

    Raises `ConfigurationError` before a row is sent, `OutputError` if the output cannot be written, and
    `LoopaiException` if the server cannot be reached or rejects the run.
    """
    driver = _driver(sender, task_id, rows, options, output=output, **more)
    async for _ in event_loop.perform(driver, sleep=sleep):
        pass
    return cast("Summary", driver.summary)


def run_sync(
    sender: Sender,
    task_id: str,
    rows: SyncRows,
    output: Output,
    options: BatchOptions,
    *,
    sleep: Sleep = None,
    **more: Unpack[Handed],
) -> Summary:
    """Like `run`, for synchronous code."""
    return perform(_driver(sender, task_id, rows, options, output=output, **more), sleep=sleep)


def perform(driver: Driver, *, sleep: Sleep = None) -> Summary:
    """Perform a run that writes its outcomes to an output, and return its summary."""
    for _ in threads.perform(driver, sleep=sleep):
        pass
    return cast("Summary", driver.summary)


def _driver(
    sender: Sender,
    task_id: str,
    rows: Rows,
    options: BatchOptions,
    *,
    output: Output = None,
    emits: bool = False,
    **more: Unpack[Handed],
) -> Driver:
    opening = partial(prepare, task_id, rows, options, output=output, emits=emits, **more)
    return Driver(opening, sender, options.stop, emits=emits, may_block=_may_block(rows))


def _may_block(rows: object) -> bool:
    """Return whether reading may block until someone writes: a pipe, or standard input."""
    if isinstance(rows, (str, os.PathLike)):
        return not os.path.isfile(rows)
    if hasattr(rows, "read"):
        return True
    return isinstance(rows, FILE_SOURCES) and not rows.repeatable


def source_of(rows: object, options: BatchOptions) -> Optional[FileSource]:
    """Return the file that `rows` is or names, or `None`. Raises `ConfigurationError`, `ValidationException`."""
    if isinstance(rows, FILE_SOURCES):
        return rows
    if isinstance(rows, (str, os.PathLike)):
        return open_file(rows, options)
    lent = lent_file(rows)
    if lent is None:
        check_rows(rows, "rows", asynchronous=True)
        return None
    kind = options.format or (format_of(lent.path) if lent.path else None)
    if kind is None:
        raise OptionError("cannot infer the format of {name}; pass {format}", name=lent.called)
    return open_file("-", replace(options, format=kind), stdin=cast("IO[bytes]", lent))


def open_file(path: Path, options: BatchOptions, stdin: Optional[IO[bytes]] = None) -> FileSource:
    """Open the file at `path` as the options say; `-` is standard input. Raises `ConfigurationError`."""
    return open_source(
        path,
        options.format,
        delimiter=options.delimiter,
        quotechar=options.quotechar,
        escapechar=options.escapechar,
        types=cast("Mapping[str, str]", options.types),
        encoding=options.encoding,
        skip_lines=options.skip_lines,
        comment=options.comment,
        no_header=options.no_header,
        sheet=options.sheet,
        stdin=stdin,
    )


def call_of(task_id: str, options: BatchOptions, *, plain: bool = False) -> BatchCall:
    """Return what all requests of a run share. `plain` inputs contain only JSON values."""
    return BatchCall(
        task_id, options.max_concurrency, options.timeout_ms, options.version, options.force_validation, plain
    )


def prepare(
    task_id: str,
    rows: Rows,
    options: BatchOptions,
    abandoned: Callable[[], bool] = lambda: False,
    *,
    output: Output = None,
    names: Collection[str] = (),
    emits: bool = False,
    report: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Run:
    """Check what can be checked before a row is sent, and open input, output and journal. Blocks.

    `names` are other names of the task, which its journal may have. With `report`, or if a watcher `counts_earlier`,
    rows of earlier runs count too. Raises `ConfigurationError` (`OptionError`, `DuplicateKeys`, `JournalError`).
    """
    source = source_of(rows, options)
    key = options.key
    check_apart(files_of(source, output, options.journal))
    mapping, expectation = mapping_of(source, options)
    scanned = _prescanned(source, output, options, abandoned)
    if scanned is not None and scanned.rows > MOST_ROWS and output is not None and _kind_of(output, options) == "xlsx":
        raise OptionError(
            "an Excel sheet holds {most:,} rows, and the input has {rows:,}; pass {output} NAME.csv",
            most=MOST_ROWS, rows=scanned.rows,
        )  # fmt: skip
    values, clean = (source, None) if source is not None else _values(rows, options.missing)
    facts = {
        "task": str(task_id),
        TASK_NAMES: sorted(names),
        "input": source.fingerprint() if source is not None else None,
        "reading": source.reading if source is not None else None,
        "mapping": mapping.parts,
        "key": key if key is None or isinstance(key, str) else "(a function)",
    }
    checkpoint: Optional[Checkpoint] = None
    journal: Optional[Journal] = None
    path = options.journal if isinstance(options.journal, (str, os.PathLike)) else None
    if output is not None:
        if options.resumes and key is None and (source is None or not source.repeatable):
            raise OptionError(f"{{{options.mode}}} needs {{key}} where rows can be read only once")
        checkpoint = Checkpoint(
            output,
            options.output_format,
            facts,
            options.mode,
            journal=path,
            header=_output_header(source, scanned),
            schema=getattr(source, "schema", None),
            by_line=options.allow_duplicates,
            limit=options.limit,
            nested=options.nested,
        )
        journal = checkpoint.journal
    elif path is None:
        journal = cast("Optional[Journal]", options.journal)
    elif emits:
        journal = FileJournal(
            path,
            {"task": str(task_id), TASK_NAMES: sorted(names)},
            retry_failed=options.mode == RETRY_FAILED,
            by_line=options.allow_duplicates,
        )
    else:
        raise OptionError("{journal} needs {output}: a sink has a journal of its own")
    made = Run(
        call_of(task_id, options, plain=isinstance(source, (JsonSource, CsvSource))),
        values,
        Reader(
            maker(source, key, mapping, clean), journal, check_keys=_check_keys(options, scanned), limit=options.limit
        ),
        Scheduler(options, members=mapping.members, flaw=source.flaw if isinstance(source, SpoolSource) else None),
        Statistics(clock(), expectation),
        reads_ahead=source is not None,
        may_block=source is not None and not source.repeatable,
        checkpoint=checkpoint,
        sink=options.sink,
        journal=journal if checkpoint is None else None,
        owns_journal=path is not None,
        prescan=scanned,
        watchers=options.watchers,
        clock=clock,
        facts=facts,
        options=options.given(),
    )
    try:
        report = report or any(getattr(watcher, "counts_earlier", False) for watcher in options.watchers)
        if checkpoint is not None and (report or expectation is not None):
            for columns in checkpoint.earlier():
                made.statistics.add_earlier(columns)
    except BaseException:
        made.close()
        raise
    return made


def mapping_of(source: Optional[FileSource], options: BatchOptions) -> tuple[InputMapping, Optional[Expectation]]:
    """Return what makes the inputs and what outputs are compared with, checked against the header of a file.

    Raises `OptionError`.
    """
    expectation = options.expectation
    mapping = InputMapping(options.mapping, [expectation.column] if expectation is not None else ())
    if source is not None and source.header is not None:
        mapping.check(source.header)
        _check_column("key", options.key if isinstance(options.key, str) else None, source.header)
        _check_column("expect", expectation.column if expectation is not None else None, source.header)
    return mapping, expectation


def _prescanned(
    source: Optional[FileSource], output: Output, options: BatchOptions, abandoned: Callable[[], bool]
) -> Optional[Prescan]:
    """Read the file once in advance, if keys must be compared or the columns of a CSV output be known."""
    if source is None or not source.repeatable:
        return None
    key = options.key if isinstance(options.key, str) else None
    to_csv = output is not None and _kind_of(output, options) == "csv"
    if key is None and not (to_csv and source.header is None):
        return None
    return prescan(source, key, allow_duplicates=options.allow_duplicates, limit=options.limit, abandoned=abandoned)


def _kind_of(output: Output, options: BatchOptions) -> Optional[str]:
    named = format_of(output) if isinstance(output, (str, os.PathLike)) else None
    return options.output_format or named


def _check_keys(options: BatchOptions, scanned: Optional[Prescan]) -> bool:
    """Return whether keys are compared while rows are read. Row numbers need no check."""
    return options.key is not None and not options.allow_duplicates and scanned is None


def _output_header(source: Optional[FileSource], scanned: Optional[Prescan]) -> Optional[Sequence[str]]:
    if source is not None and source.header is not None:
        return source.header
    return scanned.columns or None if scanned is not None else None


def _values(rows: object, missing: Missing) -> tuple[Union[Iterable[Any], AsyncIterable[Any]], Clean]:
    """Return what to iterate for the caller's rows, and what turns each value into a row's columns."""
    frame = raw_rows(rows, "rows")
    if frame is not None:
        return frame, lambda row, number: cells_of(row, f"rows[{number - 1}]", missing)
    values = cast("Union[Iterable[Any], AsyncIterable[Any]]", rows)
    return values, lambda row, number: row if type(row) is dict else row_of(row, f"rows[{number - 1}]", missing)


def maker(source: Optional[FileSource], key: Key, mapping: InputMapping, clean: Optional[Clean] = None) -> Make:
    """Return what makes rows of a source's records, or of the caller's values after `clean`."""
    if source is None:
        return from_values(key, mapping if mapping.parts or mapping.leaves_out else None, clean)
    if isinstance(source, SpoolSource):
        return from_spool
    if key is None or isinstance(key, str):
        return from_records(mapping, key)
    by_number, by_key = from_records(mapping, None), from_values(key)

    def make(record: Any, number: int) -> Row:
        row = by_number(record, number)
        if row.error is None:
            row.key = by_key(row.columns, number).key
        return row

    return make


def rows_of(rows: Rows, options: BatchOptions) -> tuple[Union[Iterable[Any], AsyncIterable[Any]], Reader]:
    """What is iterated for rows of a caller's, and what makes rows of it: for those who keep rows to run them later.

    Raises `ConfigurationError`.
    """
    source = source_of(rows, options)
    mapping, _ = mapping_of(source, options)
    values, clean = (source, None) if source is not None else _values(rows, options.missing)
    make = maker(source, options.key, mapping, clean)
    return values, Reader(make, check_keys=_check_keys(options, None), limit=options.limit)


def files_of(source: Optional[FileSource], output: object, journal: object) -> dict[str, Optional[Path]]:
    """Return the files of a run by their role."""
    written = output if isinstance(output, (str, os.PathLike)) else None
    named = journal if isinstance(journal, (str, os.PathLike)) else None
    return {
        "the input": source.name if source is not None and source.repeatable else None,
        "the output": written,
        "the journal": named if named is not None or written is None else journal_of(written),
    }


def _check_column(name: str, path: Optional[str], header: Sequence[str]) -> None:
    if path is not None and path not in header and path.split(".")[0] not in header:
        raise OptionError(
            f"{{{name}}}: the input has no column {{column!r}} (columns: {{columns}})",
            column=path,
            columns=", ".join(header),
        )
