"""`run` and `run_sync`: rows in, a file or sink out, a summary back. One row at a time is `streams`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable, Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any, Callable, Optional, Union
from uuid import UUID

from ..exceptions import ConfigurationError, LoopaiException
from .engine.chunks import Answer, BatchCall, Chunk
from .engine.event_loop import adrive
from .engine.reader import Key, Reader
from .engine.scheduler import Limits, Scheduler
from .engine.stopping import Stop
from .engine.threads import drive
from .formats.opening import CsvSource, JsonlSource, ParquetSource, open_source
from .formats.sinks import Sink
from .mapping import InputMapping
from .reporting.quality import Expectation
from .reporting.statistics import Statistics, Summary, summary_of
from .reporting.watcher import Watcher
from .resume.checkpoint import NEW, OVERWRITE, RESUME, RETRY_FAILED, Checkpoint, check_apart, journal_of
from .resume.journal import Journal
from .resume.prescan import Prescan, prescan
from .rows import Outcome
from .streams import Mapped, Path, Rows, asender, call_for, is_plain, maker, sender

if TYPE_CHECKING:
    from ..client import LoopaiClient, SyncLoopaiClient

FINISHED = "finished"
FINISHED_BEFORE = "finished before"

_FILES = (JsonlSource, CsvSource, ParquetSource)


def mode_of(resume: bool, retry_failed: bool, overwrite: bool) -> str:
    """What becomes of an output that is there. Raises `ConfigurationError` where more than one is asked for."""
    asked = [mode for mode, given in ((RESUME, resume), (RETRY_FAILED, retry_failed), (OVERWRITE, overwrite)) if given]
    if len(asked) > 1:
        raise ConfigurationError("--resume, --retry-failed and --overwrite exclude each other: take one")
    return asked[0] if asked else NEW


@dataclass
class Run:
    """One run before it starts: checked, its files open. `outcome` is what the drivers fill."""

    call: BatchCall
    values: Union[Iterable[Any], AsyncIterable[Any]]
    reader: Reader
    scheduler: Scheduler
    tally: Statistics
    waits: bool
    ledger: Optional[Checkpoint] = None
    sink: Optional[Sink] = None
    journal: Optional[Journal] = None
    prescan: Optional[Prescan] = None
    watchers: Sequence[Watcher] = ()
    clock: Callable[[], float] = time.monotonic
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def finished_before(self) -> bool:
        """Whether an earlier run left nothing to do."""
        return self.ledger is not None and self.ledger.finished

    @property
    def total(self) -> Optional[int]:
        """Rows of the input, where it was read before."""
        return self.prescan.rows if self.prescan is not None else None

    def keep(self, outcomes: list[Outcome]) -> None:
        """Make outcomes durable, then count them."""
        if self.ledger is not None:
            self.ledger.commit(outcomes)
        else:
            length = self.sink.write(outcomes) if self.sink is not None else 0
            if self.journal is not None:
                self.journal.record(outcomes, length)
        self.tally.add(outcomes, self.clock())

    def tell(self) -> None:
        """Tell the watchers."""
        for watcher in self.watchers:
            watcher.update(self)

    def end(self) -> Summary:
        """Close a run whose rows have all ended, or that was stopped."""
        ended = self.scheduler.stopped or FINISHED
        if ended == FINISHED and self.ledger is not None:
            self.ledger.finish({"ok": self.tally.ok, "errors": self.tally.errors})
        if self.finished_before:
            ended = FINISHED_BEFORE
        summary = summary_of(self.tally, ended, self.reader.skipped, self.clock())
        for watcher in self.watchers:
            watcher.finish(self, summary)
        return summary

    def close(self) -> None:
        """Let go of files."""
        self.reader.close()
        if self.ledger is not None:
            self.ledger.close()


def prepare(
    call: BatchCall,
    rows: Rows,
    *,
    output: Union[Path, IO[bytes], None] = None,
    output_format: Optional[str] = None,
    key: Key = None,
    mapping: Mapped = None,
    mode: str = NEW,
    journal: Union[Path, Journal, None] = None,
    sink: Optional[Sink] = None,
    expect: Optional[str] = None,
    report: bool = False,
    limits: Optional[Limits] = None,
    allow_duplicates: bool = False,
    limit: Optional[int] = None,
    watchers: Sequence[Watcher] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Run:
    """Check everything that can be checked before a row is sent, and open output and journal.

    Raises `ConfigurationError`: `DuplicateKeys`, `JournalError`, or for options that do not fit.
    """
    limits = limits or Limits()
    expectation = Expectation(expect) if expect is not None else None
    if isinstance(rows, (str, os.PathLike)):
        rows = open_source(rows)
    source = rows if isinstance(rows, _FILES) else None
    check_apart(files_of(source, output, journal))
    mapped = InputMapping(mapping, [expectation.column] if expectation is not None else ())
    if source is not None and source.header is not None:
        mapped.check(source.header)
        named = [
            ("--id-field", key if isinstance(key, str) else None),
            ("--expect", expectation.column if expectation else None),
        ]
        for flag, column in named:
            _check_column(flag, column, source.header)
    found = None
    is_csv = output is not None and (output_format == "csv" or str(output).lower().endswith(".csv"))
    if source is not None and source.repeatable and (isinstance(key, str) or (is_csv and source.header is None)):
        found = prescan(source, key if isinstance(key, str) else None, allow_duplicates=allow_duplicates, limit=limit)
    facts = {
        "task": call.task_id,
        "input": source.fingerprint() if source is not None else None,
        "reading": source.reading if source is not None else None,
        "mapping": mapped.parts,
        "key": key if key is None or isinstance(key, str) else "(a function)",
    }
    ledger = None
    if output is not None:
        if mode in {"resume", "retry_failed"} and key is None and (source is None or not source.repeatable):
            raise ConfigurationError("rows that come but once are told apart by a key: name it with --id-field")
        header = source.header if source is not None else None
        ledger = Checkpoint(
            output,
            output_format,
            facts,
            mode,
            journal=journal if isinstance(journal, (str, os.PathLike)) else None,
            header=header or (found.columns if found is not None and found.columns else None),
            schema=getattr(source, "schema", None),
            by_line=allow_duplicates,
            limit=limit,
        )
    elif isinstance(journal, (str, os.PathLike)):
        raise ConfigurationError("a journal's path needs an output beside it; a sink brings a journal of its own")
    kept: Optional[Journal] = None
    if not isinstance(journal, (str, os.PathLike)):
        kept = journal
    try:
        reader = Reader(
            maker(rows, key, mapped),
            ledger.journal if ledger is not None else kept,
            check_keys=key is not None and not allow_duplicates and found is None,
            limit=limit,
        )
        tally = Statistics(clock(), expectation)
        if ledger is not None and (report or expectation is not None):
            for columns in ledger.earlier():
                tally.add_earlier(columns)
    except BaseException:
        if ledger is not None:
            ledger.close()
        raise
    waits = source is not None and not source.repeatable
    return Run(
        replace(call, plain=is_plain(rows)),
        rows,
        reader,
        Scheduler(limits),
        tally,
        waits,
        ledger,
        sink,
        kept,
        found,
        watchers,
        clock,
        facts,
    )


def files_of(source: object, output: object, journal: object) -> dict[str, Optional[Path]]:
    """The files of a run, by what they are to it."""
    written = output if isinstance(output, (str, os.PathLike)) else None
    named = journal if isinstance(journal, (str, os.PathLike)) else None
    return {
        "the input": source.name if isinstance(source, _FILES) and source.repeatable else None,
        "the output": written,
        "the journal": named if named is not None or written is None else journal_of(written),
    }


def _check_column(flag: str, path: Optional[str], header: Sequence[str]) -> None:
    if path is not None and path not in header and path.split(".")[0] not in header:
        raise ConfigurationError(f"{flag}: the input has no column {path!r} (columns: {', '.join(header)})")


def perform(
    run: Run,
    send: Callable[[Chunk], Answer],
    *,
    stop: Optional[Stop] = None,
    sleep: Optional[Callable[[float], None]] = None,
) -> Summary:
    """Run to the end with `send` in threads. Raises `OutputError`; a server's fault is in `run.scheduler.error`."""
    if isinstance(run.values, AsyncIterable):
        raise TypeError("run_sync takes synchronous rows: use run, with LoopaiClient, for asynchronous ones")
    if not run.finished_before:
        driver = drive(run.scheduler, run.values, run.reader, send, stop=stop, waits=run.waits, clock=run.clock,
                       sleep=sleep, tick=run.tell)  # fmt: skip
        try:
            for outcomes in driver:
                run.keep(outcomes)
                run.tell()
        finally:
            driver.close()
    return run.end()


def run_sync(
    client: SyncLoopaiClient,
    task: Union[str, UUID],
    rows: Union[Iterable[Any], Path],
    output: Union[Path, IO[bytes], None] = None,
    *,
    key: Key = None,
    mapping: Mapped = None,
    chunk_size: int = 100,
    max_in_flight: int = 4,
    max_concurrency: int = 10,
    ordered: bool = False,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    journal: Union[Path, Journal, None] = None,
    sink: Optional[Sink] = None,
    expect: Optional[str] = None,
    allow_duplicates: bool = False,
    max_errors: Union[int, str, None] = None,
    limit: Optional[int] = None,
    timeout_ms: Optional[int] = None,
    version: Optional[int] = None,
    force_validation: bool = False,
    stop: Optional[Stop] = None,
    watchers: Sequence[Watcher] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Optional[Callable[[float], None]] = None,
) -> Summary:
    """As `run`, from synchronous code: requests run in threads, `rows` are pulled in the calling one."""
    call = call_for(client, task, max_concurrency=max_concurrency, timeout_ms=timeout_ms, version=version,
                    force_validation=force_validation)  # fmt: skip
    made = prepare(
        call,
        rows,
        output=output,
        key=key,
        mapping=mapping,
        mode=mode_of(resume, retry_failed, overwrite),
        journal=journal,
        sink=sink,
        expect=expect,
        limits=Limits(chunk_size, max_in_flight, ordered, max_errors),
        allow_duplicates=allow_duplicates,
        limit=limit,
        watchers=watchers,
        clock=clock,
    )
    try:
        with sender(client, made.call, made.scheduler) as send:
            return _raised(perform(made, send, stop=stop, sleep=sleep), made.scheduler.error)
    finally:
        made.close()


def _raised(summary: Summary, error: Optional[LoopaiException]) -> Summary:
    if error is not None:
        raise error
    return summary


async def run(
    client: LoopaiClient,
    task: Union[str, UUID],
    rows: Rows,
    output: Union[Path, IO[bytes], None] = None,
    *,
    key: Key = None,
    mapping: Mapped = None,
    chunk_size: int = 100,
    max_in_flight: int = 4,
    max_concurrency: int = 10,
    ordered: bool = False,
    resume: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    journal: Union[Path, Journal, None] = None,
    sink: Optional[Sink] = None,
    expect: Optional[str] = None,
    allow_duplicates: bool = False,
    max_errors: Union[int, str, None] = None,
    limit: Optional[int] = None,
    timeout_ms: Optional[int] = None,
    version: Optional[int] = None,
    force_validation: bool = False,
    stop: Optional[Stop] = None,
    watchers: Sequence[Watcher] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Optional[Callable[[float], Awaitable[None]]] = None,
) -> Summary:
    """Run rows through a task into `output`, and give the `Summary`.

    `rows`, `key`, `mapping` and the limits are those of `stream`. `output` is the path of a JSONL, CSV or Parquet file
    (or a stream of bytes, which gets JSONL); beside it lies its journal (`journal` names another place), by which
    `resume` passes over rows that have ended, and `retry_failed` repeats those that did not end ok. `overwrite` starts
    again; an output that exists is refused otherwise. `sink` and `journal` may be objects of the protocols instead.
    With `expect` (`label`, or `label=output.verdict`) the summary has `quality`, and that column is not sent.

    Raises `ConfigurationError` for options that do not fit, keys that recur, or a journal of another run; `OutputError`
    where the output cannot be written on; and the `LoopaiException` where the server cannot be reached or refuses the
    run. After each of them, `resume` goes on.
    """
    call = call_for(client, task, max_concurrency=max_concurrency, timeout_ms=timeout_ms, version=version,
                    force_validation=force_validation)  # fmt: skip
    # Reading a file through for its keys takes its time, which is not the loop's.
    made = await asyncio.to_thread(
        prepare,
        call,
        rows,
        output=output,
        key=key,
        mapping=mapping,
        mode=mode_of(resume, retry_failed, overwrite),
        journal=journal,
        sink=sink,
        expect=expect,
        limits=Limits(chunk_size, max_in_flight, ordered, max_errors),
        allow_duplicates=allow_duplicates,
        limit=limit,
        watchers=watchers,
        clock=clock,
    )
    try:
        with asender(client, made.call, made.scheduler) as send:
            if not made.finished_before:
                driver = adrive(made.scheduler, made.values, made.reader, send, stop=stop, clock=clock, sleep=sleep)
                try:
                    async for outcomes in driver:
                        await asyncio.to_thread(made.keep, outcomes)
                        made.tell()
                finally:
                    await driver.aclose()
            return _raised(await asyncio.to_thread(made.end), made.scheduler.error)
    finally:
        made.close()
