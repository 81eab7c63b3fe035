"""`batch_router`: one POST of rows or of a file, answered by its results as they come, as server-sent events."""

# ruff: noqa: FA100  # see below
# No `from __future__ import annotations`: FastAPI cannot look up what a router's functions close over.
import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, Literal, Optional, Union
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter, ValidationError
from starlette.types import Message, Receive, Scope, Send

from ...batch import Outcome, Row
from ...batch.engine.reader import from_records
from ...batch.engine.run import FINISHED
from ...batch.engine.scheduler import FATAL, TOO_MANY_ERRORS, UNREACHABLE
from ...batch.formats.source import Record
from ...batch.mapping import InputMapping
from ...batch.options import BatchOptions
from ...batch.reporting.quality import Expectation
from ...batch.reporting.statistics import Ended, Statistics, summary_of
from ...batch.rows import UNFIT
from ...client import LoopaiClient
from ...exceptions import AuthenticationException, LoopaiException, NotFoundException, NotSupportedException
from .batch_document import BODY, BatchRoute, Events, responses, row_of
from .batch_events import BatchProgress, BatchResult
from .dependencies import get_loopai_for
from .events import HEADERS, HEARTBEAT, Outbox, event
from .problems import Problem, problem_of
from .uploads import ROWS_AT_ONCE, Gone, Upload, UploadError, kind_of, records

LARGEST_UPLOAD = 1_000_000_000
"""Bytes; an upload is neither held in memory nor kept, so this bounds a client's patience and not the server's."""

MOST_ROWS = 1_000_000
"""Rows of one upload; a small file can unpack to any number."""

MOST_RUNS = 8
"""Batches that one process runs at a time: each has up to `max_in_flight` requests and a thread."""

PROGRESS_EVERY = 0.5
"""Seconds between progress events while rows end: what a page shows moves steadily."""

HEARTBEAT_EVERY = 15.0
"""Seconds without an event after which a heartbeat is sent; proxies give up after a minute (nginx's default)."""

BUSY_FOR = 5
"""Seconds after which a client that found all runs taken may come again."""

logger = logging.getLogger("loopai.fastapi")


@dataclass(frozen=True)
class _Options:
    """What one router's runs have in common."""

    task: str
    given: Optional[TypeAdapter[Any]]
    mapping: InputMapping
    keep: tuple[str, ...]
    expect: Optional[Expectation]
    run: Mapping[str, Any]
    max_rows: int
    max_bytes: int
    progress_every: float
    heartbeat_every: float


@dataclass
class _BatchQuery:
    """What one request says of its rows."""

    kind: Optional[str]
    content_type: str
    length: Optional[int]
    key: Optional[str]
    first: int
    runs: "_Runs" = field(repr=False)


class _Runs:
    """How many batches this router has under way."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = 0


class _Run:
    """One batch: the upload is read, rows run, and events are put into the outbox."""

    def __init__(self, client: LoopaiClient, options: _Options, asked: _BatchQuery) -> None:
        self._client = client
        self._options = options
        self._asked = asked
        self._make = from_records(options.mapping, asked.key)
        self._reading = CapacityLimiter(1)
        self._progress_due = 0.0
        self._read = 0
        self._unreadable: Optional[UploadError] = None
        self.upload = Upload(options.max_bytes)
        self.outbox = Outbox()
        self.tally = Statistics(time.monotonic(), options.expect)

    async def work(self) -> None:
        """Run all rows. Ends the outbox, whatever happens."""
        ended: Ended = FINISHED
        problem: Optional[Problem] = None
        try:
            try:
                await self._results()
            except LoopaiException as error:
                logger.warning("batch of %s: %s %s", self._options.task, type(error).__name__, error)
                refused = isinstance(error, (AuthenticationException, NotFoundException, NotSupportedException))
                ended, problem = FATAL if refused else UNREACHABLE, problem_of(error)[0]
            except UploadError as error:
                ended = "unreadable_upload"
                problem = Problem(title="The upload cannot be read", status=422, detail=str(error))
            if ended == FINISHED and self.tally.cancelled:
                ended = TOO_MANY_ERRORS
            if problem is not None:
                self.outbox.put(event("error", problem.model_dump(exclude_none=True)))
            self._progress(time.monotonic())
            summary = summary_of(self.tally, ended, 0, time.monotonic()).to_dict()
            self.outbox.put(event("summary", {**summary, "read": self._read}))
        finally:
            self.outbox.end()

    async def _results(self) -> None:
        rows = self._rows()
        outcomes = self._client.batch_stream(self._options.task, rows, key=self._asked.key, **self._options.run)
        try:
            async for outcome in outcomes:
                now = time.monotonic()
                self.tally.add([outcome], now)
                self.outbox.put(event("result", self._told(outcome), outcome.key))
                if now >= self._progress_due:
                    self._progress(now)
                if self.upload.over and self.outbox.waiting:
                    await self.outbox.room()
            if self._unreadable is not None:
                raise self._unreadable
        finally:
            self.upload.fail(Gone())
            await outcomes.aclose()
            await rows.aclose()

    def _told(self, outcome: Outcome) -> BatchResult:
        told: BatchResult = {"key": outcome.key, "status": outcome.status}
        if outcome.ok:
            told["output"] = outcome.output
        else:
            told["error"], told["code"] = outcome.error, outcome.code
        if outcome.latency_ms is not None:
            told["latency_ms"] = outcome.latency_ms
        if outcome.row.line is not None:
            told["line"] = outcome.row.line
        columns = outcome.row.columns
        if self._options.keep and columns is not None:
            told["columns"] = {name: columns[name] for name in self._options.keep if name in columns}
        return told

    def _progress(self, now: float) -> None:
        self._progress_due = now + self._options.progress_every
        tally, quality = self.tally, self.tally.quality
        read = self.upload.received
        told: BatchProgress = {
            "read": self._read,
            "done": tally.done,
            "ok": tally.ok,
            "errors": tally.errors,
            "cancelled": tally.cancelled,
            "seconds": round(now - tally.started, 3),
            "rows_per_s": round(tally.rate(now), 1),
            "fraction": None if not self._asked.length else round(min(1.0, read / self._asked.length), 4),
            "accuracy": None if quality is None else quality.accuracy,
        }
        self.outbox.put(event("progress", told))

    async def _rows(self) -> AsyncGenerator[Row, None]:
        records_read = records(self.upload, self._asked.content_type, self._asked.kind)
        while True:
            # A thread that waits for a client is left behind when the run ends; the upload sends it home.
            read = await to_thread.run_sync(
                self._next_records, records_read, abandon_on_cancel=True, limiter=self._reading
            )
            for record in read:
                self._read += 1
                if self._read > self._options.max_rows:
                    self._unreadable = UploadError(f"the upload has more than {self._options.max_rows:,} rows")
                    return
                yield self._row(record, self._asked.first + self._read - 1)
            if not read:
                return

    def _next_records(self, records_read: Iterator[Record]) -> list[Record]:
        read: list[Record] = []
        try:
            for record in islice(records_read, ROWS_AT_ONCE):
                read.append(record)
                if self.upload.waiting:
                    break
        except UploadError as error:
            # The rows before it are run, and then it is told.
            self._unreadable = error
        return read

    def _row(self, record: Record, number: int) -> Row:
        row = self._make(record, number)
        given = self._options.given
        if given is None or row.error is not None:
            return row
        try:
            row.input = given.dump_python(given.validate_python(row.input), mode="json", by_alias=True)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            row.error, row.code = f"line {row.line}: {place + ': ' if place else ''}{problem['msg']}", UNFIT
        return row


class _BatchResponse(Events):
    """Reads the upload and sends events at the same time; a client that goes away ends the run."""

    def __init__(self, client: LoopaiClient, options: _Options, asked: _BatchQuery) -> None:
        super().__init__(headers=HEADERS)
        # Of unknown length.
        del self.headers["content-length"]
        self._client, self._options, self._asked = client, options, asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette's `Response`."""
        runs = self._asked.runs
        if runs.now >= runs.most:
            busy = JSONResponse({"detail": "All batches are taken"}, 503, {"Retry-After": str(BUSY_FOR)})
            await busy(scope, receive, send)
            return
        runs.now += 1
        run = _Run(self._client, self._options, self._asked)
        try:
            receiving = asyncio.ensure_future(_receive(receive, run.upload))
            others = [asyncio.ensure_future(run.work()), asyncio.ensure_future(self._send(send, run))]
            try:
                with suppress(Gone):
                    await _until_one_ends(receiving, others)
            finally:
                run.upload.fail(Gone())
                for task in (receiving, *others):
                    task.cancel()
                await asyncio.gather(receiving, *others, return_exceptions=True)
        finally:
            runs.now -= 1
            run.outbox.close()

    async def _send(self, send: Send, run: _Run) -> None:
        await _write(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while (data := await run.outbox.take(self._options.heartbeat_every)) is not None:
            await _write(send, {"type": "http.response.body", "body": data or HEARTBEAT, "more_body": True})
        await _write(send, {"type": "http.response.body", "body": b"", "more_body": False})


async def _write(send: Send, message: Message) -> None:
    try:
        await send(message)
    except OSError:  # how ASGI servers may say, since version 2.4 of HTTP in it, that the client is gone
        raise Gone from None


async def _receive(receive: Receive, upload: Upload) -> None:
    """Write the body into the upload; ends when the client is gone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        await upload.write_part(message.get("body", b""), message.get("more_body", False))


async def _until_one_ends(receiving: "asyncio.Task[None]", others: list["asyncio.Task[None]"]) -> None:
    """Wait until all has been sent, or the client is gone; raises what a task raised."""
    waiting = {receiving, *others}
    while waiting & set(others):
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if receiving in done:
            return


def batch_router(
    task: Union[str, UUID],
    *,
    input: Optional[Any] = None,  # noqa: A002  # the name that `bind` gives it
    mapping: Union[Iterable[str], Mapping[str, str], None] = None,
    keep: Iterable[str] = (),
    expect: Optional[str] = None,
    alias: str = "default",
    path: str = "/batch",
    chunk_size: int = 100,
    max_in_flight: int = 4,
    max_concurrency: int = 10,
    max_errors: Union[int, str, None] = None,
    timeout_ms: Optional[int] = None,
    version: Optional[int] = None,
    max_rows: int = MOST_ROWS,
    max_bytes: int = LARGEST_UPLOAD,
    max_runs: int = MOST_RUNS,
    progress_every: float = PROGRESS_EVERY,
    heartbeat_every: float = HEARTBEAT_EVERY,
) -> APIRouter:
    """A router whose one POST runs the rows of its body through `task`, and answers with events as they end.

    The body is a JSON array or JSONL of objects, or a file (CSV, JSONL, JSON, each also gzipped), plain or as a form's
    file. `mapping` says what of a row is the program's input (`["text=body"]`), `input` (a type, such as a pydantic
    model) what it must be; `keep` names columns that come back with each result, and `expect` (`label`, or
    `label=output.verdict`) the column that has the right answer, for the accuracy. Rows travel as in `batch_stream`.

    Events: `result` for each row, whose id is the row's key; `progress` every `progress_every` seconds while rows end;
    a comment after `heartbeat_every` seconds without any; `error` with a problem document where the run could not go
    on; `summary` at the end, always. Reading the upload keeps step with the rows. A client that goes away ends its
    run; it resumes by posting the rows whose keys it has not seen. The query names the member that is the key
    (`key=id`; else rows are numbered from `first`) and the format, where neither name nor type say it.

    Answers 413 above `max_bytes`, 415 for another type, and 503 while `max_runs` batches are under way.
    """
    run: dict[str, Any] = {
        "chunk_size": chunk_size,
        "max_in_flight": max_in_flight,
        "max_concurrency": max_concurrency,
        "max_errors": max_errors,
        "timeout_ms": timeout_ms,
        "version": version,
    }
    BatchOptions(**run)
    options = _Options(
        str(task),
        None if input is None else TypeAdapter(input),
        InputMapping(mapping),
        tuple(keep),
        None if expect is None else Expectation(expect),
        run,
        max_rows,
        max_bytes,
        progress_every,
        heartbeat_every,
    )
    runs = _Runs(max_runs)
    router = APIRouter(tags=["batch"], route_class=BatchRoute)
    row = row_of(input, options.mapping)

    @router.post(path, response_class=Events, responses=responses(max_bytes), openapi_extra={"requestBody": BODY})
    async def batch(
        request: Request,
        rows: Annotated[list[row], Body(default_factory=list)],  # type: ignore[valid-type]  # the router's own
        client: Annotated[LoopaiClient, Depends(get_loopai_for(alias))],
        key: Annotated[
            Optional[str], Query(description="Member that names a row; without it rows are numbered")
        ] = None,
        first: Annotated[int, Query(ge=0, description="Number of the first row")] = 1,
        format: Annotated[  # noqa: A002  # the query's name
            Optional[Literal["csv", "jsonl", "json"]],
            Query(description="What the body is written in, where its type does not say so"),
        ] = None,
    ) -> Response:
        """Run rows through the task; events come while they run, results in the order in which rows end.

        `result` for each row, `progress`, `error` where the run cannot go on, and `summary` at the end. To go on
        after a run that broke off, post the rows whose results have not come.
        """
        content_type = request.headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        declared = request.headers.get("content-length", "")
        length = int(declared) if declared.isdigit() else None
        if length is not None and length > options.max_bytes:
            raise HTTPException(413, f"At most {options.max_bytes} bytes")
        kind = format or kind_of(media_type, "")
        if kind is None and media_type != "multipart/form-data":
            raise HTTPException(415, "Send JSON, JSONL or CSV, say so as Content-Type, or in the query: format=csv")
        return _BatchResponse(client, options, _BatchQuery(kind, content_type, length, key, first, runs))

    return router
