"""`runs_router`: uploads that become runs, and what can be asked of them. Who carries them out is in `worker`."""

# ruff: noqa: FA100  # see below
# No `from __future__ import annotations`: FastAPI cannot look up what a router's functions close over.
from collections.abc import Awaitable, Iterable
from enum import Enum
from typing import Annotated, Any, Callable, Literal, Optional, Union
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from starlette.responses import HTMLResponse, StreamingResponse
from typing_extensions import TypedDict, Unpack

from ....batch.engine.event_loop import in_thread
from ....exceptions import ConfigurationError
from ..batch_document import BODY, BatchRoute, Events, row_of
from ..batch_events import JsonText, ResultEvent
from ..batch_formats import CSV, NDJSON
from ..batches import Format, ReadingOptions, asked_of, reading_asked, shared_options
from ..dependencies import loopai_state
from ..events import HEADERS, MEDIA_TYPE
from ..lifespan import CHECK, LOOKED_UP, SERVICE
from ..problems import RETRY_AFTER, ProblemRoute, RefusedRequest, documented_problem
from ..uploads import Gone
from .answers import COMING_FOR, Answers, gone
from .events import RunEvents, is_over, place_of
from .folder import RunFolder, owner_digest
from .output import PRIVATE, csv_response, output_response
from .records import ENDED, RunPage, RunStatus
from .spooling import kept_options
from .stored import REPORT
from .worker import FolderService

LONGEST_KEY = 255
"""Characters of an Idempotency-Key; the draft of the header's standard names no limit, and Stripe takes as many."""

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
    for unknown in ("output", "max_runs", "nested"):
        if unknown in options:
            hint = ": it is one of RunFolder" if unknown == "max_runs" else ""
            raise ConfigurationError(f"runs_router has no option {unknown!r}{hint}")
    shared = shared_options(task, options)
    kept = kept_options(options)
    answers = Answers(str(task), folder, name, alias, shared, kept)
    caller, service = _owner_of(owner), FolderService(folder)
    router = APIRouter(tags=list(tags), route_class=ProblemRoute, generate_unique_id_function=_named)
    uploads = APIRouter(route_class=BatchRoute, generate_unique_id_function=_named)
    row = row_of(options.get("input"), shared.mapping)
    Named = Annotated[UUID, Path(description="The run's id")]  # noqa: N806  # a type
    Caller = Annotated[str, Depends(caller)]  # noqa: N806
    limits = shared.limits

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
        loopai_state(request).start(service, request.scope["app"])
        asked = asked_of(request, shared, key=key, first=first, format=format, formats=formats)
        try:
            run, _ = await answers.start(request, owner, asked, idempotency_key)
        except Gone:
            return CLIENT_GONE
        # Without the host, of which a proxy may have another name.
        response.headers["Location"] = f"{request.url.path.rstrip('/')}/{run.id}"
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
        loopai_state(request).start(service, request.scope["app"])
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
        nested: Annotated[bool, Query(description="CSV without a column for each member of the output")] = False,
    ) -> Any:
        """Download the output as far as it goes.

        JSONL has ranges: to get what was added, ask for `bytes=N-` after N bytes, with the ETag as `If-Range`. In CSV,
        texts that a spreadsheet would run as a formula have an apostrophe before them.
        """
        run = await answers.find(owner, run_id)

        def answer() -> Response:
            record = run.read()
            if format == "csv":
                return csv_response(run, () if nested else record.members)
            return output_response(run, request, ended=record.state in ENDED)

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
    setattr(start, SERVICE, service)
    setattr(start, CHECK, lambda _: folder.open())
    return router


async def _if_there(run_id: UUID, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do it in a thread. Raises `RefusedRequest` where the run was removed meanwhile."""
    try:
        return await in_thread(work, *arguments)
    except FileNotFoundError:
        raise gone(run_id) from None
