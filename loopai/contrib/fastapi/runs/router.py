"""`runs_router`: uploads that become runs, and what can be asked of them. Who carries them out is in `worker`."""

# ruff: noqa: FA100  # see below
# No `from __future__ import annotations`: FastAPI cannot look up what a router's functions close over.
import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from enum import Enum
from typing import Annotated, Any, Callable, Literal, Optional, Union
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from starlette.responses import HTMLResponse, StreamingResponse
from typing_extensions import TypedDict, Unpack

from ....batch.engine.event_loop import in_thread
from ....batch.formats.sinks import explain
from ....batch.locks import AlreadyLocked
from ....exceptions import ConfigurationError
from ..batch_document import BODY, BatchRoute, Events, row_of
from ..batch_events import JsonText, ResultEvent
from ..batch_formats import CSV, NDJSON
from ..batch_runs import Asked, Options
from ..batches import Format, ReadingOptions, asked_of, reading_asked, shared_options
from ..dependencies import loopai_state
from ..events import HEADERS, MEDIA_TYPE
from ..lifespan import CHECK, LOOKED_UP, SERVICE
from ..problems import RETRY_AFTER, ProblemRoute, RefusedRequest, documented_problem
from ..uploads import Gone, Upload, UploadError
from .events import RunEvents, is_over, place_of
from .folder import BUSY_FOR, REPORT, FolderBusy, FolderFull, Incoming, RunFolder, StoredRun, digest_of, owner_digest
from .output import PRIVATE, output_response
from .records import ENDED, RunPage, RunRecord, RunStatus
from .spooling import Spooler, add_run, kept_options, receive_into, record_of, router_name

LONGEST_KEY = 255
"""Characters of an Idempotency-Key; the draft of the header's standard names no limit, and Stripe takes as many."""

COMING_FOR = 2
"""Seconds after which the caller comes again whose first upload with a key is still coming."""

CLIENT_GONE = Response(status_code=499)
"""Nobody receives it."""

Owner = Optional[Callable[..., Any]]


class ProgressOfRun(TypedDict):
    """The run, whenever something of it has changed."""

    event: Literal["progress"]
    data: Annotated[RunStatus, JsonText()]


class ResetOfRun(TypedDict):
    """Failed rows run again: what was received before this event is no longer the output."""

    event: Literal["reset"]
    id: str
    data: str


class SummaryOfRun(TypedDict):
    """The run as it ended; the last event."""

    event: Literal["summary"]
    id: str
    data: Annotated[RunStatus, JsonText()]


RunEventList = list[Union[ResultEvent, ProgressOfRun, ResetOfRun, SummaryOfRun]]


class _RowsBesideForm:
    """Says what rows are in a word that generators of clients pass over.

    Of `items` beside a form, openapi-python-client makes `isinstance(body, list[Row])`, which Python does not know: no
    upload would work. Without, uploads are files there.
    """

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        made["unevaluatedItems"] = made.pop("items")
        return made


def _named(route: APIRoute) -> str:
    return route.name


def _gone(run_id: UUID) -> RefusedRequest:
    return RefusedRequest(404, "Not found", f"There is no run {run_id}")


def _owner_of(owner: Owner) -> Callable[..., Awaitable[str]]:
    """The dependency that gives the digest of the caller's name."""
    if owner is None:

        async def everybody() -> str:
            return owner_digest(None)

        return everybody

    async def caller(found: Annotated[Any, Depends(owner)]) -> str:
        if found is None or found == "":
            raise RefusedRequest(401, "Not authenticated", "Runs belong to callers who are known")
        return owner_digest(found)

    return caller


class _Answers:
    """What the routes of one router do."""

    def __init__(self, task: str, folder: RunFolder, name: str, alias: str, shared: Options, kept: dict[str, Any]):
        self.task, self.folder, self.alias = task, folder, alias
        self.router = router_name(name, task)
        self.shared = shared
        self.kept = kept

    async def start(self, request: Request, owner: str, asked: Asked, key: Optional[str]) -> tuple[RunStatus, bool]:
        """Take the upload, and give the run; whether the key had made it before. Raises `RefusedRequest`, `Gone`."""
        if not key:
            return await self._take(request, owner, asked, None), False
        digest = self.folder.key_digest(owner, self.router, key)
        try:
            held = await in_thread(self.folder.lock_key, digest)
        except AlreadyLocked:
            raise RefusedRequest(
                409,
                "Conflict",
                "The upload with this Idempotency-Key is still coming",
                {"Retry-After": str(COMING_FOR)},
            ) from None
        try:
            claimed = await in_thread(self.folder.claimed, digest, owner)
            if claimed is None:
                return await self._take(request, owner, asked, digest), False
        finally:
            await in_thread(self.folder.release_key, digest, held)
        run, content = claimed
        found = await self._read(request, asked, None)
        if self._content(found) != content:
            raise RefusedRequest(422, "Not valid", "The Idempotency-Key was used for another upload, or other options")
        with suppress(FileNotFoundError):
            return await in_thread(run.told), True
        raise RefusedRequest(409, "Conflict", "The run of this Idempotency-Key was removed meanwhile")

    def _content(self, spooler: Spooler) -> str:
        return digest_of(spooler.content, repr(sorted(self.kept.items())), repr(self.shared.mapping.parts))

    async def _take(self, request: Request, owner: str, asked: Asked, key: Optional[str]) -> RunStatus:
        try:
            incoming: Incoming = await in_thread(self.folder.reserve, owner, asked.length or 0)
        except FolderFull as full:
            raise _refused(full) from None
        except FolderBusy as busy:
            raise RefusedRequest(503, "Busy", str(busy), {"Retry-After": str(BUSY_FOR)}) from None
        except OSError as error:
            raise _disk(error) from None
        try:
            spooler = await self._read(request, asked, incoming)
            return await in_thread(self._add, incoming, owner, key, spooler)
        except OSError as error:
            raise _disk(error) from None
        finally:
            await in_thread(incoming.close)

    def _add(self, incoming: Incoming, owner: str, key: Optional[str], spooler: Spooler) -> RunStatus:
        record = record_of(owner, self.router, self.task, self.alias, self.kept)
        claim = None if key is None else (key, self._content(spooler))
        return add_run(self.folder, incoming, record, claim).told()

    async def _read(self, request: Request, asked: Asked, incoming: Optional[Incoming]) -> Spooler:
        """Read the upload into the place, or just read it. Raises `RefusedRequest`, `Gone` and `OSError`."""
        upload = Upload(self.shared.limits.max_bytes)
        spooler = Spooler(upload, asked, self.shared, incoming)
        feeding = asyncio.ensure_future(receive_into(upload, request.receive, self.shared.idle_timeout))
        feeding.add_done_callback(lambda task: _tell(task, upload))
        try:
            # A thread of its own: one that waits for a client is in nobody's way.
            await to_thread.run_sync(spooler.work, limiter=CapacityLimiter(1))
        except UploadError as error:
            raise RefusedRequest(error.status, "The upload cannot be read", str(error)) from None
        except FolderFull as full:
            raise _refused(full) from None
        finally:
            upload.fail(Gone())
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return spooler

    async def find(self, owner: str, run_id: UUID) -> StoredRun:
        """The caller's run. Raises `RefusedRequest` where it is none."""
        run = await in_thread(self.folder.find, owner, self.router, run_id)
        if run is None:
            raise _gone(run_id)
        return run

    def resume(self, run: StoredRun, retry_failed: bool) -> RunStatus:
        """Have a run that has ended wait again. Blocks; raises `RefusedRequest`."""
        try:
            with run.locked(at_rest=True):
                record = run.read()
                if record.state in ENDED:
                    self._again(run, record, retry_failed)
                elif retry_failed:
                    raise RefusedRequest(409, "Conflict", "The run has not ended: cancel it, or wait for its end")
                else:
                    record.not_before = None
                    run.write(record)
        except AlreadyLocked:
            raise RefusedRequest(409, "Conflict", "The run is at work") from None
        except FolderFull as full:
            raise _refused(full) from None
        except OSError as error:
            raise _disk(error) from None
        self.folder.wake()
        return run.told()

    def _again(self, run: StoredRun, record: RunRecord, retry_failed: bool) -> None:
        if record.state == "finished" and not retry_failed:
            raise RefusedRequest(
                409, "Conflict", "The run is finished; its failed rows run again with retry_failed=true"
            )
        if record.state == "finished" and not record.errors:
            raise RefusedRequest(409, "Conflict", "The run is finished, and no row has failed")
        record.again_as = self.folder.recorded(run).generation + 1 if retry_failed and record.errors else None
        record.state, record.reason, record.error = "waiting", None, None
        record.not_before = record.ended = None
        self.folder.put_back(run, record)

    def delete(self, run: StoredRun) -> Optional[RunStatus]:
        """Remove a run that has ended, or cancel it. Give what is told of a run that is still there. Blocks."""
        try:
            held = run.lock_at_rest()
        except AlreadyLocked:
            run.cancel()
            return run.told()
        try:
            record = run.read()
            if record.state not in ENDED:
                found = self.folder.recorded(run)
                record.state, record.ended = "cancelled", self.folder.clock()
                record.reason = record.error = record.not_before = None
                record.ok, record.doubtful, record.errors = found.ok, found.doubtful, found.errors
                record.figures = run.figures()
                run.end(record)
                return run.told(record)
            run.remove()
        finally:
            held.close()
        return None


def _tell(task: "asyncio.Future[bool]", upload: Upload) -> None:
    """Have the thread hear that no more of the upload comes."""
    if task.cancelled() or task.exception() is not None or not task.result():
        upload.fail(Gone())


def _refused(full: FolderFull) -> RefusedRequest:
    if full.status == 507:
        return RefusedRequest(507, "Insufficient storage", full.message)
    return RefusedRequest(503, "Busy", full.message, {"Retry-After": str(BUSY_FOR)})


def _disk(error: OSError) -> RefusedRequest:
    told = str(explain(error, "the folder of runs", resumable=False))
    return RefusedRequest(507, "Insufficient storage", told)


_UNKNOWN_CALLER = documented_problem("The caller is not known")
_OF_ONE_RUN: dict[Union[int, str], dict[str, Any]] = {
    401: _UNKNOWN_CALLER,
    404: documented_problem("There is no such run, or it is another caller's"),
    422: documented_problem("The id or the query is not valid"),
}
_FILE = {"schema": {"type": "string"}}
_EXAMPLE = """event: result
id: 0-148
data: {"key":"7","status":"ok","output":{"label":"spam"},"latency_ms":0.41,"columns":{"id":"7"}}

"""


def runs_router(
    task: Union[str, UUID],
    folder: RunFolder,
    *,
    owner: Owner,
    alias: str = "default",
    path: str = "/runs",
    name: str = "runs",
    tags: Iterable[Union[str, Enum]] = ("runs",),
    **options: Unpack[ReadingOptions],
) -> APIRouter:
    """Return a router whose POST keeps an upload and answers 202, and whose rows run in the background.

    The upload is what `batch_router` takes, with its `input`, `mapping`, `keep`, `expect`, `encoding` and limits. It is
    streamed to the disk, and a run is there once it is whole. `keep` names the columns that stay in the output, which
    has all of them otherwise. A run keeps what it was made with, whatever the application is made with later.

    Each process that serves the router takes up runs of `folder` that wait, and those that another has left when it
    died. A server that cannot be reached is tried again after 1, 5, 15 and 60 minutes; a run ends early when it is
    cancelled, when more rows fail than `max_errors` allows, and when the server refuses it.

    `owner` is a dependency that gives the caller's name (a text, a number or a UUID): each caller sees no runs but
    their own. One that gives `None` or `""` is answered 401. `owner=None` says that all callers share all runs.
    `name` tells the runs of this router from those of others over the same folder, and names its routes.

    Raises `ConfigurationError` for options that do not fit.
    """
    if not isinstance(folder, RunFolder):
        raise ConfigurationError(f"runs_router needs a RunFolder, not {type(folder).__name__}")
    for unknown in ("output", "max_runs"):
        if unknown in options:
            hint = ": it is one of RunFolder" if unknown == "max_runs" else ""
            raise ConfigurationError(f"runs_router has no option {unknown!r}{hint}")
    shared = shared_options(task, options)
    kept = kept_options(options)
    answers = _Answers(str(task), folder, name, alias, shared, kept)
    caller = _owner_of(owner)
    router = APIRouter(tags=list(tags), route_class=ProblemRoute, generate_unique_id_function=_named)
    uploads = APIRouter(route_class=BatchRoute, generate_unique_id_function=_named)
    row = row_of(options.get("input"), shared.mapping)
    Named = Annotated[UUID, Path(description="The run's id")]  # noqa: N806  # a type
    Caller = Annotated[str, Depends(caller)]  # noqa: N806
    limits = shared.limits

    def address(request: Request, run: RunStatus) -> str:
        return str(request.url.replace(query="", path=f"{request.url.path.rstrip('/')}/{run.id}", fragment=""))

    @uploads.post(
        path,
        name=f"{name}_start",
        status_code=202,
        response_model=RunStatus,
        responses={
            202: {
                "description": "The run, which waits or is at work",
                "headers": {"Location": {"description": "The run's address", "schema": {"type": "string"}}},
            },
            401: _UNKNOWN_CALLER,
            408: documented_problem("Nothing of the upload came for too long"),
            409: {
                **documented_problem("The first upload with this Idempotency-Key is still coming"),
                "headers": RETRY_AFTER,
            },
            413: documented_problem(
                f"The upload is larger than {limits.max_bytes:,} bytes, or unpacks to more than "
                f"{limits.max_unpacked_bytes:,}"
            ),
            415: documented_problem("Neither JSON nor JSONL nor CSV"),
            422: documented_problem(
                "The query is not valid, the upload cannot be read, or the Idempotency-Key was used for another"
            ),
            503: {**documented_problem("As many runs are waiting as may"), "headers": RETRY_AFTER},
            507: documented_problem("The folder of runs, or its disk, is full"),
        },
        openapi_extra={"requestBody": BODY},
    )
    async def start(
        request: Request,
        response: Response,
        owner: Caller,
        rows: Annotated[list[row], _RowsBesideForm(), Body(default_factory=list)],  # type: ignore[valid-type]  # its own
        idempotency_key: Annotated[
            Optional[str], Header(max_length=LONGEST_KEY, description="The same key and upload give the same run")
        ] = None,
        key: Annotated[
            Optional[str], Query(description="Member that names a row; without it rows are numbered")
        ] = None,
        first: Annotated[int, Query(ge=0, description="Number of the first row")] = 1,
        format: Annotated[  # noqa: A002  # the query's name
            Optional[Format], Query(description="What the body is written in, where its type does not say so")
        ] = None,
        formats: Annotated[Optional[dict[str, Any]], Depends(reading_asked())] = None,
    ) -> Any:
        """Upload rows to be run in the background.

        The answer comes once the upload is whole and on the disk. Ask for the run at its `Location`.
        """
        loopai_state(request).start(folder, request.scope["app"])
        asked = asked_of(request, shared, key=key, first=first, format=format, formats=formats)
        try:
            run, _ = await answers.start(request, owner, asked, idempotency_key)
        except Gone:
            return CLIENT_GONE
        response.headers["Location"] = address(request, run)
        return run

    router.include_router(uploads)

    @router.get(
        path,
        name=f"{name}_list",
        response_model=RunPage,
        responses={401: _UNKNOWN_CALLER, 422: documented_problem("The query is not valid")},
    )
    async def listed(
        owner: Caller,
        limit: Annotated[int, Query(ge=1, le=100, description="Runs of one page")] = 20,
        before: Annotated[Optional[UUID], Query(description="`next` of the page before")] = None,
    ) -> Any:
        """List your runs, newest first."""
        runs, more = await in_thread(folder.page, owner, answers.router, before, limit)
        return RunPage(runs=runs, next=more)

    @router.get(f"{path}/{{run_id}}", name=f"{name}_get", response_model=RunStatus, responses=_OF_ONE_RUN)
    async def get(run_id: Named, owner: Caller) -> Any:
        """Return a run: its state, how far it has come, how fast it is, and what is wrong."""
        run = await answers.find(owner, run_id)
        return await _if_there(run_id, run.told)

    @router.delete(
        f"{path}/{{run_id}}",
        name=f"{name}_delete",
        status_code=202,
        response_model=RunStatus,
        responses={
            202: {"description": "The run is cancelled; while a process runs it, within a second"},
            204: {"description": "The run had ended, and is removed with its upload and output"},
            **_OF_ONE_RUN,
        },
    )
    async def delete(run_id: Named, owner: Caller) -> Any:
        """Cancel a run, or remove one that has ended."""
        run = await answers.find(owner, run_id)
        told = await _if_there(run_id, answers.delete, run)
        folder.wake()
        return Response(status_code=204) if told is None else told

    @router.post(
        f"{path}/{{run_id}}/resume",
        name=f"{name}_resume",
        status_code=202,
        response_model=RunStatus,
        responses={
            202: {"description": "The run waits to continue"},
            **_OF_ONE_RUN,
            409: documented_problem("The run is at work, or there is nothing left of it to run"),
            503: {**documented_problem("As many runs are waiting as may"), "headers": RETRY_AFTER},
            507: documented_problem("The disk is full"),
        },
    )
    async def resume(
        request: Request,
        run_id: Named,
        owner: Caller,
        retry_failed: Annotated[bool, Query(description="Run the rows again that have failed")] = False,
    ) -> Any:
        """Continue a run that was cancelled or has stopped, or repeat the failed rows of one that has ended.

        A run that waits for the Loopai server tries again at once.
        """
        loopai_state(request).start(folder, request.scope["app"])
        run = await answers.find(owner, run_id)
        return await _if_there(run_id, answers.resume, run, retry_failed)

    @router.get(
        f"{path}/{{run_id}}/events",
        name=f"{name}_events",
        response_class=Events,
        responses={
            200: {
                "model": RunEventList,
                "description": "The events of the run; to continue after one, send its id as Last-Event-ID",
                "content": {MEDIA_TYPE: {"example": _EXAMPLE}},
            },
            204: {"description": "The run has ended, and there are no events after that id"},
            **_OF_ONE_RUN,
        },
    )
    async def events(
        request: Request,
        run_id: Named,
        owner: Caller,
        last_event_id: Annotated[
            Optional[str], Header(max_length=100, description="The id of the last event received")
        ] = None,
        after: Annotated[
            Optional[str], Query(max_length=100, description="The same, for a page that is opened again")
        ] = None,
    ) -> Any:
        """Follow a run: `result` for each row that has ended, `progress`, and `summary` at its end.

        Where failed rows run again, ids of before count no longer: `reset` comes first, then all results.
        """
        state = loopai_state(request)
        run = await answers.find(owner, run_id)
        place = place_of(last_event_id or after or "")
        if await _if_there(run_id, is_over, run, place):
            return Response(status_code=204)
        made = RunEvents(run, place, state=state, every=shared.progress_every, heartbeat_every=shared.heartbeat_every)
        return StreamingResponse(made.stream(), headers={**HEADERS, **PRIVATE}, media_type=MEDIA_TYPE)

    @router.get(
        f"{path}/{{run_id}}/output",
        name=f"{name}_output",
        response_class=Response,
        responses={
            200: {
                "description": "The rows that have ended so far, with their results",
                "content": {NDJSON: _FILE, CSV: _FILE},
                "headers": {"ETag": {"description": "Of run and generation", "schema": {"type": "string"}}},
            },
            206: {"description": "A part of them", "content": {NDJSON: _FILE}},
            **_OF_ONE_RUN,
            416: documented_problem("The output does not reach as far"),
        },
    )
    async def output(
        request: Request,
        run_id: Named,
        owner: Caller,
        format: Annotated[  # noqa: A002  # the query's name
            Literal["jsonl", "csv"], Query(description="CSV is made of the whole output, and has no ranges")
        ] = "jsonl",
    ) -> Any:
        """Download the output as far as it goes.

        JSONL has ranges: to get what was added, ask for `bytes=N-` after N bytes, with the ETag as `If-Range`. In CSV,
        texts that a spreadsheet would run as a formula have an apostrophe before them.
        """
        run = await answers.find(owner, run_id)

        def answer() -> Response:
            ended = run.read().state in ENDED
            return output_response(run, request, ended=ended, as_csv=format == "csv")

        return await _if_there(run_id, answer)

    @router.get(
        f"{path}/{{run_id}}/report",
        name=f"{name}_report",
        response_class=HTMLResponse,
        responses={
            **_OF_ONE_RUN,
            409: {
                **documented_problem("There is no report before the run has ended or waits"),
                "headers": RETRY_AFTER,
            },
        },
    )
    async def report(run_id: Named, owner: Caller) -> Any:
        """Return a page about the run, as `loopai batch --report` writes it."""
        run = await answers.find(owner, run_id)
        try:
            page = await in_thread((run.path / REPORT).read_bytes)
        except FileNotFoundError:
            told = "There is no report before the run has ended or waits"
            raise RefusedRequest(409, "Conflict", told, {"Retry-After": str(COMING_FOR)}) from None
        policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(page, headers={**PRIVATE, "Content-Security-Policy": policy})

    setattr(start, LOOKED_UP, (alias, shared.task))
    setattr(start, SERVICE, folder)
    setattr(start, CHECK, lambda _: folder.open())
    return router


async def _if_there(run_id: UUID, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do it in a thread. Raises `RefusedRequest` where the run was removed meanwhile."""
    try:
        return await in_thread(work, *arguments)
    except FileNotFoundError:
        raise _gone(run_id) from None
