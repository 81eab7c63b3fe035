"""One batch of `batch_router`: the upload is read in a thread, its rows run, and their results are written.

How it is answered (statuses, events, disconnects) is in `batch_responses`.
"""

# ruff: noqa: FA100  # Optional, as pydantic and FastAPI read annotations of this package at run time
import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Optional

from anyio import CapacityLimiter, to_thread
from pydantic import TypeAdapter, ValidationError

from ..._core.encoding import InputType
from ...batch import Outcome, Row
from ...batch.engine.reader import from_records
from ...batch.engine.scheduler import FATAL, INTERRUPTED, TOO_MANY_ERRORS, UNREACHABLE
from ...batch.engine.stopping import Stop
from ...batch.formats.members import members_of
from ...batch.formats.source import Record
from ...batch.mapping import InputMapping
from ...batch.reporting.quality import Expectation
from ...batch.reporting.statistics import Ended, Statistics, summary_of
from ...batch.rows import CANCELLED, UNFIT, UNSENDABLE
from ...client import LoopaiClient
from ...exceptions import (
    AuthenticationException,
    ConfigurationError,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    ValidationException,
)
from ...problems import Problem, problem_of
from .batch_events import BatchProgress, BatchResult
from .batch_formats import Csv, Format
from .events import Outbox
from .uploads import ROWS_AT_ONCE, WEIGHT_AT_ONCE, Gone, Limits, Reading, Rows, Upload, UploadError

UNREADABLE_UPLOAD: Final = "unreadable_upload"
FAULT: Final = "fault"
"""`ended` of a run that failed because of the upload, or because of this application."""

HEAVIEST = 8_000_000
"""Most weight (see `uploads.Unpacked`) of rows in progress at a time: with their requests and replies it limits the
memory of a run. A single row may weigh more; some hundred ordinary rows weigh much less."""

logger = logging.getLogger("loopai.fastapi")


@dataclass(frozen=True)
class Options:
    """What the runs of one router have in common."""

    task: str
    input: Optional[InputType[Any]]
    output: Optional[TypeAdapter[Any]]
    mapping: InputMapping
    keep: tuple[str, ...]
    expect: Optional[Expectation]
    run: Mapping[str, Any]
    reading: Reading
    formats: Mapping[str, Any]
    nested: bool
    limits: Limits
    max_rows: int
    max_runs: int
    progress_every: float
    heartbeat_every: float
    idle_timeout: Optional[float]


@dataclass
class Asked:
    """The options of one request about its rows."""

    kind: Optional[str]
    nested: bool
    content_type: str
    length: Optional[int]
    key: Optional[str]
    first: int
    reading: Reading


class Places:
    """How many batches may be in progress at a time, each until its response and its thread have ended."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    def take(self) -> bool:
        """Take a slot, if one is free."""
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """Release a slot."""
        self.taken -= 1


class _Weights:
    """The weight of the rows in progress, which limits how many large ones there are."""

    def __init__(self) -> None:
        self._by_row: dict[int, int] = {}
        self._total = 0
        self._less = asyncio.Event()

    @property
    def rows(self) -> int:
        return len(self._by_row)

    async def room(self, weight: int) -> None:
        """Wait until rows of that weight may be added."""
        while self._total and self._total + weight > HEAVIEST:
            self._less.clear()
            await self._less.wait()

    def put(self, row: Row, weight: int) -> None:
        """Count the row."""
        self._by_row[id(row)] = weight
        self._total += weight

    def drop(self, row: Row) -> None:
        """Release the input and columns of a finished row, even if the row itself is still referenced."""
        row.input = row.columns = None
        self._total -= self._by_row.pop(id(row), 0)
        self._less.set()


@dataclass
class UploadRun:
    """One batch. `work` puts what happens into `outbox`; `stop` ends it early."""

    client: LoopaiClient
    options: Options
    asked: Asked
    format: Format
    refusal: Optional[tuple[Problem, Mapping[str, str]]] = None
    """Why no row was run; the problem and its headers are the whole answer if it has not started yet."""
    stop: Stop = field(default_factory=lambda: Stop(0.0))

    def __post_init__(self) -> None:
        self.upload = Upload(self.options.limits.max_bytes)
        self.outbox = Outbox()
        self.decided = asyncio.Event()
        """Set once a row has ended, or the run has."""
        self._thread = threading.Lock()
        self._reading = False
        self._over: Optional[Callable[[], None]] = None
        self._statistics = Statistics(time.monotonic(), self.options.expect)
        self._make = from_records(self.options.mapping, self.asked.key)
        self._limiter = CapacityLimiter(1)
        self._loop = asyncio.get_running_loop()
        self._weights = _Weights()
        self._read = 0
        self._progress_due = 0.0
        self._moved = time.monotonic()
        self._unreadable: Optional[UploadError] = None

    def close(self, then: Callable[[], None]) -> None:
        """Delete temporary data, and call `then` in the loop once the thread has ended."""
        self.outbox.close()
        with self._thread:
            self._over = then
            if self._reading:
                return
        then()

    def received(self) -> None:
        """Record that upload data was received."""
        self._moved = time.monotonic()

    def idle_for(self) -> Optional[float]:
        """Return the seconds without upload data, if all of it was read and no row runs; None otherwise."""
        if self.upload.over or not self.upload.waiting or self._weights.rows:
            return None
        return time.monotonic() - self._moved

    async def work(self) -> None:
        """Run all rows. Ends the outbox, whatever happens."""
        ended: Ended = "finished"
        problem: Optional[Problem] = None
        headers: Mapping[str, str] = {}
        try:
            try:
                await self._results()
            except LoopaiException as error:
                refused = isinstance(
                    error, (AuthenticationException, ExecutionException, NotFoundException, NotSupportedException)
                )
                ended = FATAL if refused else UNREACHABLE
                problem, headers = problem_of(error)
                self._log(error)
            except UploadError as error:
                ended = UNREADABLE_UPLOAD
                problem = Problem(title="The upload cannot be read", status=error.status, detail=str(error))
            except Gone:
                ended = INTERRUPTED
            except Exception as error:  # noqa: BLE001  # logged with its traceback; the stream ends as documented
                ended = FATAL if isinstance(error, ConfigurationError) else FAULT
                problem = Problem(title="Internal error", status=500, detail="The application failed: see its log.")
                self._log(error)
            if ended == "finished" and self._statistics.cancelled:
                ended = INTERRUPTED if self.stop.requested else TOO_MANY_ERRORS
            now = time.monotonic()
            if problem is not None:
                if not self._statistics.done:
                    self.refusal = problem, headers
                self.outbox.put(self.format.error(problem, ended))
            self._progress(now)
            summary = summary_of(self._statistics, ended, 0, now).to_dict()
            self.outbox.put(self.format.summary({**summary, "read": self._read}))
        finally:
            self.decided.set()
            self.outbox.end()

    def _log(self, error: Exception) -> None:
        logger.error("batch of %s: %s %s", self.options.task, type(error).__name__, error, exc_info=error)

    async def _results(self) -> None:
        if isinstance(self.format, Csv) and not self.asked.nested:
            self.format.members = members_of((await self.client.get_task(self.options.task)).output_schema)
        rows = self._rows()
        outcomes = self.client.batch_stream(
            self.options.task, rows, key=self.asked.key, stop=self.stop, **self.options.run
        )
        try:
            async for outcome in outcomes:
                self._check_output(outcome)
                now = self._moved = time.monotonic()
                self._statistics.add([outcome], now)
                self.outbox.put(self.format.result(self._result(outcome)))
                self._weights.drop(outcome.row)
                if outcome.status != CANCELLED:
                    self.decided.set()
                if now >= self._progress_due:
                    self._progress(now)
                if self.upload.over and self.outbox.waiting and not self.stop.requested:
                    await self.outbox.room()
            if self._unreadable is not None:
                raise self._unreadable
        finally:
            self.upload.fail(Gone())
            await outcomes.aclose()
            await rows.aclose()

    def _check_output(self, outcome: Outcome) -> None:
        if self.options.output is None or not outcome.has_output:
            return
        flaw = flaw_of(self.options.output, outcome.output)
        if flaw is not None:
            outcome.fail(flaw)

    def _result(self, outcome: Outcome) -> BatchResult:
        result: BatchResult = {
            "key": outcome.key,
            "status": outcome.status,
        }
        if outcome.has_output:
            result["output"] = outcome.output
        else:
            result["error"], result["code"] = outcome.error, outcome.code
        if outcome.latency_ms is not None:
            result["latency_ms"] = outcome.latency_ms
        if outcome.confidence is not None:
            result["confidence"] = outcome.confidence
        if outcome.row.line is not None:
            result["line"] = outcome.row.line
        columns = outcome.row.columns
        if self.options.keep and columns is not None:
            result["columns"] = {name: columns[name] for name in self.options.keep if name in columns}
        return result

    def _progress(self, now: float) -> None:
        self._progress_due = now + self.options.progress_every
        statistics, quality = self._statistics, self._statistics.quality
        length, received = self.asked.length, self.upload.received
        progress: BatchProgress = {
            "read": self._read,
            "done": statistics.done,
            "ok": statistics.ok,
            "doubtful": statistics.doubtful,
            "errors": statistics.errors,
            "cancelled": statistics.cancelled,
            "seconds": round(now - statistics.started, 3),
            "rows_per_s": round(statistics.rate(now), 1),
            "fraction": None if not length else round(min(1.0, received / length), 4),
            "accuracy": None if quality is None else quality.accuracy,
        }
        self.outbox.put(self.format.progress(progress))

    async def _rows(self) -> AsyncGenerator[Row, None]:
        found = Rows(self.upload, self.asked.content_type, self.asked.kind, self.options.limits, self.asked.reading)
        while True:
            # Before reading: a waiting row takes as much memory as a running one.
            await self._weights.room(WEIGHT_AT_ONCE)
            # A thread that waits for the client is abandoned when the run ends; closing the upload ends it.
            read = await to_thread.run_sync(self._next_records, found, abandon_on_cancel=True, limiter=self._limiter)
            more = bool(read)
            read.reverse()
            while read:
                # Keep no reference here to a row that has finished.
                record, weight = read.pop()
                self._read += 1
                if self._read > self.options.max_rows:
                    self._unreadable = UploadError(f"the upload has more than {self.options.max_rows:,} rows", 413)
                    return
                row = self._row(record, self.asked.first + self._read - 1)
                await self._weights.room(weight)
                self._weights.put(row, weight)
                yield row
                del record, row
            if not more:
                return

    def _next_records(self, found: Rows) -> list[tuple[Record, int]]:
        read: list[tuple[Record, int]] = []
        if not self._begin_reading():
            return read
        began = before = found.weight
        try:
            for record in islice(found, ROWS_AT_ONCE):
                weight = found.weight
                read.append((record, weight - before))
                before = weight
                if self.upload.waiting or weight - began > WEIGHT_AT_ONCE:
                    break
        except UploadError as error:
            # The rows before it are run, and then the error is reported.
            self._unreadable = error
        finally:
            self._end_reading()
        return read

    def _begin_reading(self) -> bool:
        with self._thread:
            self._reading = self._over is None
            return self._reading

    def _end_reading(self) -> None:
        with self._thread:
            self._reading = False
            if self._over is not None:
                with suppress(RuntimeError):  # the loop is closed: nothing waits for it
                    self._loop.call_soon_threadsafe(self._over)

    def _row(self, record: Record, number: int) -> Row:
        row = self._make(record, number)
        check_input(row, self.options.input)
        return row


def check_input(row: Row, given: Optional[InputType[Any]]) -> None:
    """Validate the row's input against its type, and replace it by the result; the row fails if it does not fit."""
    if given is None or row.error is not None:
        return
    try:
        row.input = given.form(row.input, "input")
    except ValidationError as error:
        row.error, row.code = f"line {row.line}: {_first(error)}", UNFIT
    except ValidationException as error:
        row.error, row.code = f"line {row.line}: {error.message}", UNSENDABLE


def flaw_of(wanted: TypeAdapter[Any], output: Any) -> Optional[str]:
    """Return what keeps an output from being of its type; `None` if it is."""
    try:
        wanted.validate_python(output)
    except ValidationError as error:
        return f"output: {_first(error)}"
    return None


def _first(error: ValidationError) -> str:
    """Return the first error, with its place."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place + ': ' if place else ''}{problem['msg']}"
