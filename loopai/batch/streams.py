"""`stream` and `stream_sync`: each row's outcome as it ends; what `batch_stream` of the clients is. Files: `runs`."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, Union
from uuid import UUID

from .._core.hooks import CallInfo, Hooks
from .._core.wire import Request
from ..exceptions import ServerException
from .engine.chunks import Answer, BatchCall, Chunk, TooLarge, Unsendable, prepared
from .engine.event_loop import adrive
from .engine.reader import Key, Make, Reader, from_records, from_values
from .engine.scheduler import Limits, Scheduler
from .engine.stopping import Stop
from .engine.threads import drive
from .formats.opening import CsvSource, JsonlSource, ParquetSource, open_source
from .mapping import InputMapping
from .resume.journal import FileJournal, Journal
from .resume.prescan import prescan
from .rows import Outcome, Row

if TYPE_CHECKING:
    from ..client import LoopaiClient, SyncLoopaiClient

C = TypeVar("C", "LoopaiClient", "SyncLoopaiClient")

Path = Union[str, "os.PathLike[str]"]
Rows = Union[Iterable[Any], AsyncIterable[Any], Path]
SyncRows = Union[Iterable[Any], Path]
RowKey = Key
AsyncOutcomes = AsyncGenerator[Outcome, None]
Outcomes = Iterator[Outcome]
Mapped = Union[Iterable[str], Mapping[str, str], None]

_FILES = (JsonlSource, CsvSource, ParquetSource)


def call_for(client: Union[LoopaiClient, SyncLoopaiClient], task: Union[str, UUID], **options: Any) -> BatchCall:
    """What each request of a run on `task` says. Raises `ValidationException` for a task nobody knows."""
    return BatchCall(client._task(task), **options)


class _Fresh(Hooks):
    """Once a reply was not its request's, each request has a connection of its own.

    Who sent one reply too many has put that connection one behind, and all that follow on it get their predecessor's.
    """

    def __init__(self) -> None:
        self._wanted = False

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        if self._wanted and isinstance(request.headers, dict):
            request.headers["connection"] = "close"

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        if isinstance(error, ServerException) and error.status_code == 200:
            self._wanted = True


@contextmanager
def _once(client: C, call: BatchCall, scheduler: Scheduler) -> Iterator[C]:
    """The client for a run's requests: one attempt each, as repeating is the scheduler's; its hooks hear of the run."""
    once = client.with_options(max_retries=0, deadline=None)
    batch: CallInfo = CallInfo("batch", "POST", "/api/v1/batch/execute", call.task_id, call.version, 0)
    once._hooks = (*(hook.batch_started(batch) for hook in client._hooks), _Fresh())
    error: Optional[BaseException] = None
    try:
        yield once
    except BaseException as raised:
        error = raised
        raise
    finally:
        for hook in client._hooks:
            hook.batch_ended(batch, error or scheduler.error)


@contextmanager
def sender(client: SyncLoopaiClient, call: BatchCall, scheduler: Scheduler) -> Iterator[Callable[[Chunk], Answer]]:
    """What sends the chunks of `scheduler`'s run through the client."""
    with _once(client, call, scheduler) as once:

        def send(chunk: Chunk) -> Answer:
            operation = prepared(chunk, call)
            if isinstance(operation, (TooLarge, Unsendable)):
                return operation
            return once._run(operation)

        yield send


@contextmanager
def asender(
    client: LoopaiClient, call: BatchCall, scheduler: Scheduler
) -> Iterator[Callable[[Chunk], Awaitable[Answer]]]:
    """As `sender`, for an event loop."""
    with _once(client, call, scheduler) as once:

        async def send(chunk: Chunk) -> Answer:
            operation = prepared(chunk, call)
            if isinstance(operation, (TooLarge, Unsendable)):
                return operation
            return await once._run(operation)

        yield send


def maker(rows: object, key: Key, mapping: InputMapping) -> Make:
    """What makes rows of the values of `rows`: of a source's records, or of a caller's own values."""
    if not isinstance(rows, _FILES):
        return from_values(key, mapping if mapping.parts or mapping.leaves_out else None)
    if key is None or isinstance(key, str):
        return from_records(mapping, key)
    by_number, by_key = from_records(mapping, None), from_values(key)

    def make(record: Any, number: int) -> Row:
        row = by_number(record, number)
        if row.error is None:
            row.key = by_key(row.columns, number).key
        return row

    return make


def is_plain(rows: object) -> bool:
    """Whether every value of these rows is one that JSON has."""
    return isinstance(rows, (JsonlSource, CsvSource))


class _Intake:
    """Where rows come from, and what makes rows of it."""

    def __init__(
        self, rows: Rows, key: Key, mapping: Mapped, journal: Optional[Journal], unique: bool, limit: Optional[int]
    ) -> None:
        if isinstance(rows, (str, os.PathLike)):
            rows = open_source(rows)
        self.values: Union[Iterable[Any], AsyncIterable[Any]] = rows
        self.waits = False
        mapped = InputMapping(mapping)
        # Numbers do not recur.
        check = key is not None and unique
        if isinstance(rows, _FILES):
            self.waits = not rows.repeatable
            if rows.header is not None:
                mapped.check(rows.header)
            if check and rows.repeatable and isinstance(key, str):
                prescan(rows, key, allow_duplicates=False, limit=limit)
                check = False
        self.reader = Reader(maker(rows, key, mapped), journal, check_keys=check, limit=limit)

    def call_of(self, call: BatchCall) -> BatchCall:
        """The call for these rows."""
        return replace(call, plain=is_plain(self.values))


def _opened(journal: Union[Path, Journal, None], task: str, retry_failed: bool, by_line: bool) -> Optional[Journal]:
    if not isinstance(journal, (str, os.PathLike)):
        return journal
    return FileJournal(journal, {"task": task}, retry_failed=retry_failed, by_line=by_line)


def _close(given: object, journal: Optional[Journal], reader: Reader) -> None:
    reader.close()
    if journal is not given and isinstance(journal, FileJournal):
        journal.close()


async def stream(
    client: LoopaiClient,
    task: Union[str, UUID],
    rows: Rows,
    *,
    key: Key = None,
    mapping: Mapped = None,
    chunk_size: int = 100,
    max_in_flight: int = 4,
    max_concurrency: int = 10,
    ordered: bool = False,
    journal: Union[Path, Journal, None] = None,
    retry_failed: bool = False,
    allow_duplicates: bool = False,
    max_errors: Union[int, str, None] = None,
    limit: Optional[int] = None,
    timeout_ms: Optional[int] = None,
    version: Optional[int] = None,
    force_validation: bool = False,
    stop: Optional[Stop] = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Optional[Callable[[float], Awaitable[None]]] = None,
) -> AsyncGenerator[Outcome, None]:
    """Run rows through a task and give each one's `Outcome` as it ends.

    `rows` is any iterable, asynchronous or not, or the path of a CSV, JSONL or Parquet file (also gzipped); it is
    pulled only as fast as rows are sent. A value is the program's input itself, unless `mapping` (`["text=body"]`)
    says what the input is made of. `key` names a row: a (dotted) member or a function; without it, its number from 1.

    Rows travel `chunk_size` a request, at most `max_in_flight` requests at a time; `max_concurrency` (1–100) is how
    many of them the server runs at once. `ordered` gives outcomes in the order of the rows. With `journal` (a path),
    rows that ended in an earlier run are passed over, and with `retry_failed` only those that ended ok; a chunk's rows
    are recorded when your loop has gone past the last of them. A key that recurs ends as an error, unless
    `allow_duplicates`. `max_errors` (a count, or a share: `"5%"`) stops the run above it; `timeout_ms` bounds each
    row's program. `stop()` ends the run early.

    A row never raises: it ends `ok`, `error` or, where the run stopped first, `cancelled`. Requests are repeated
    without limit while the server rations; raises the `LoopaiException` where the server cannot be reached or refuses
    the run as a whole, and `ConfigurationError` for options that are wrong or a journal of another run.
    """
    call = call_for(client, task, max_concurrency=max_concurrency, timeout_ms=timeout_ms, version=version,
                    force_validation=force_validation)  # fmt: skip
    scheduler = Scheduler(Limits(chunk_size, max_in_flight, ordered, max_errors))
    kept = _opened(journal, call.task_id, retry_failed, allow_duplicates)
    intake = _Intake(rows, key, mapping, kept, not allow_duplicates, limit)
    with asender(client, intake.call_of(call), scheduler) as send:
        driver = adrive(scheduler, intake.values, intake.reader, send, stop=stop, clock=clock, sleep=sleep)
        try:
            async for outcomes in driver:
                given = 0
                try:
                    for outcome in outcomes:
                        yield outcome
                        given += 1
                finally:
                    if kept is not None:
                        kept.record(outcomes[:given], 0)
        finally:
            await driver.aclose()
            _close(journal, kept, intake.reader)
        if scheduler.error is not None:
            raise scheduler.error


def stream_sync(
    client: SyncLoopaiClient,
    task: Union[str, UUID],
    rows: Union[Iterable[Any], Path],
    *,
    key: Key = None,
    mapping: Mapped = None,
    chunk_size: int = 100,
    max_in_flight: int = 4,
    max_concurrency: int = 10,
    ordered: bool = False,
    journal: Union[Path, Journal, None] = None,
    retry_failed: bool = False,
    allow_duplicates: bool = False,
    max_errors: Union[int, str, None] = None,
    limit: Optional[int] = None,
    timeout_ms: Optional[int] = None,
    version: Optional[int] = None,
    force_validation: bool = False,
    stop: Optional[Stop] = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Optional[Callable[[float], None]] = None,
) -> Iterator[Outcome]:
    """As `stream`, from synchronous code: requests run in threads, `rows` are pulled in the calling one."""
    call = call_for(client, task, max_concurrency=max_concurrency, timeout_ms=timeout_ms, version=version,
                    force_validation=force_validation)  # fmt: skip
    scheduler = Scheduler(Limits(chunk_size, max_in_flight, ordered, max_errors))
    kept = _opened(journal, call.task_id, retry_failed, allow_duplicates)
    intake = _Intake(rows, key, mapping, kept, not allow_duplicates, limit)
    if isinstance(intake.values, AsyncIterable):
        raise TypeError("stream_sync takes synchronous rows: use stream, with LoopaiClient, for asynchronous ones")
    with sender(client, intake.call_of(call), scheduler) as send:
        driver = drive(
            scheduler, intake.values, intake.reader, send, stop=stop, waits=intake.waits, clock=clock, sleep=sleep
        )
        try:
            for outcomes in driver:
                given = 0
                try:
                    for outcome in outcomes:
                        yield outcome
                        given += 1
                finally:
                    if kept is not None:
                        kept.record(outcomes[:given], 0)
        finally:
            driver.close()
            _close(journal, kept, intake.reader)
        if scheduler.error is not None:
            raise scheduler.error
