"""`runs_router`: the routes that take uploads as runs and report on them. `worker` runs them."""

# ruff: noqa: FA100  # see below
# No `from __future__ import annotations`: FastAPI cannot look up what a router's functions close over.
from collections.abc import Awaitable, Iterable
from enum import Enum
from functools import partial
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
from ..batch_events import JsonText, result_with
from ..batch_formats import CSV, NDJSON
from ..batch_runs import flaw_of
from ..batches import FirstAsked, FormatAsked, KeyAsked, ReadingOptions, asked_of, reading_asked, shared_options
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
"""The client has disconnected, so it receives nothing."""

Owner = Optional[Callable[..., Any]]


class ProgressOfRun(TypedDict):
    """The status of the run, whenever it has changed."""

    event: Literal["progress"]
    data: Annotated[RunStatus, JsonText()]


class ResetOfRun(TypedDict):
    """Failed rows run again: discard the results received before this event."""

    event: Literal["reset"]
    id: str
    data: str


class SummaryOfRun(TypedDict):
    """The final status of the run; the last event."""

    event: Literal["summary"]
    id: str
    data: Annotated[RunStatus, JsonText()]


class _RowsBesideForm:
    """Describe rows by a keyword that client generators ignore.

    From `items` beside a form, openapi-python-client makes `isinstance(body, list[Row])`, which is invalid Python, so
    that no upload works. Without it, uploads are files there.
    """

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        made["unevaluatedItems"] = made.pop("items")
        return made


def _named(route: APIRoute) -> str:
    return route.name


def _owner_of(owner: Owner) -> Callable[..., Awaitable[str]]:
    """Return the dependency for the digest of the caller's name."""
    if owner is None:

        async def everybody() -> str:
            return owner_digest(None)

        return everybody

    async def caller(found: Annotated[Any, Depends(owner)]) -> str:
        if found is None or found == "":
            raise RefusedRequest(401, "Not authenticated", "Runs require an authenticated caller")
        return owner_digest(found)

    return caller


_UNKNOWN_CALLER = documented_problem("The caller is not authenticated")
_OF_ONE_RUN: dict[Union[int, str], dict[str, Any]] = {
    401: _UNKNOWN_CALLER,
    404: documented_problem("There is no such run, or it belongs to another caller"),
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
    """Return a router whose POST stores an upload and responds 202; its rows run in the background.

    Uploads and their options (`input`, `mapping`, `keep`, `expect`, `encoding`, limits) are those of `batch_router`. An
    upload is streamed to the disk and becomes a run once it is complete. `keep` names the columns of the output
    (default: all). A run keeps its options even if the application is deployed with other ones. `output` is a type,
    which no file keeps: results are checked with that of the application that runs the rows.

    Each process that serves the router runs what waits in `folder`, and what a process that died has left. If the
    server cannot be reached, a run is tried again after 1, 5, 15 and 60 minutes. A run ends early when it is cancelled,
    when more rows fail than `max_errors` allows, and when the server refuses it.

    `owner` is a dependency that returns the caller's name (a text, a number or a UUID): callers see only their own
    runs. If it returns `None` or `""`, the response is 401. With `owner=None` all callers share all runs. `name`
    separates the runs of this router from those of other routers with the same folder, and names its routes.

    Raises `ConfigurationError` for invalid options.
    """
    if not isinstance(folder, RunFolder):
        raise ConfigurationError(f"runs_router needs a RunFolder, not {type(folder).__name__}")
    for unknown in ("max_runs", "nested"):
        if unknown in options:
            hint = ": it is one of RunFolder" if unknown == "max_runs" else ""
            raise ConfigurationError(f"runs_router has no option {unknown!r}{hint}")
    shared = shared_options(task, options)
    kept = kept_options(options)
    answers = Answers(str(task), folder, name, alias, shared, kept)
    if shared.output is not None:
        folder.flaws[answers.router] = partial(flaw_of, shared.output)
    caller, service = _owner_of(owner), FolderService(folder)
    router = APIRouter(tags=list(tags), route_class=ProblemRoute, generate_unique_id_function=_named)
    uploads = APIRouter(route_class=BatchRoute, generate_unique_id_function=_named)
    row = row_of(options.get("input"), shared.mapping)
    events_told = list[Union[result_with(options.get("output")), ProgressOfRun, ResetOfRun, SummaryOfRun]]  # type: ignore[misc, valid-type]  # made at run time
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
                "description": "The run, which waits or is active",
                "headers": {"Location": {"description": "The run's address", "schema": {"type": "string"}}},
            },
            401: _UNKNOWN_CALLER,
            408: documented_problem("The upload sent no data for too long"),
            409: {
                **documented_problem("The first upload with this Idempotency-Key is still in progress"),
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
            503: {**documented_problem("Too many runs are waiting"), "headers": RETRY_AFTER},
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
        key: KeyAsked = None,
        first: FirstAsked = 1,
        format: FormatAsked = None,  # noqa: A002  # the query's name
        formats: Annotated[Optional[dict[str, Any]], Depends(reading_asked())] = None,
    ) -> Any:
        """Upload rows to be run in the background.

        The response comes when the upload is complete and on the disk. `Location` is the address of the run.
        """
        loopai_state(request).start(service, request.scope["app"])
        asked = asked_of(request, shared, key=key, first=first, format=format, formats=formats)
        try:
            run, _ = await answers.start(request, owner, asked, idempotency_key)
        except Gone:
            return CLIENT_GONE
        # Without the host, which may have another name behind a proxy.
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
        """Return a run: its state, progress, speed and error."""
        run = await answers.find(owner, run_id)
        return await _if_there(run_id, run.told)

    @router.delete(
        f"{path}/{{run_id}}",
        name=f"{name}_delete",
        status_code=202,
        response_model=RunStatus,
        responses={
            202: {"description": "The run is cancelled; an active one ends within a second"},
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
            202: {"description": "The run will continue"},
            **_OF_ONE_RUN,
            409: documented_problem("The run is active, or has no rows left to run"),
            503: {**documented_problem("Too many runs are waiting"), "headers": RETRY_AFTER},
            507: documented_problem("The disk is full"),
        },
    )
    async def resume(
        request: Request,
        run_id: Named,
        owner: Caller,
        retry_failed: Annotated[bool, Query(description="Run failed rows again")] = False,
    ) -> Any:
        """Resume a run that was cancelled or has stopped, or repeat the failed rows of a finished one.

        A run that waits for the Loopai server is tried again at once.
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
                "model": events_told,
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
        """Follow a run: `result` for each finished row, `progress`, and `summary` at its end.

        If failed rows run again, earlier event ids are no longer valid: `reset` is sent first, then all results.
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
                "description": "The finished rows, with their results",
                "content": {NDJSON: _FILE, CSV: _FILE},
                "headers": {"ETag": {"description": "Of run and generation", "schema": {"type": "string"}}},
            },
            206: {"description": "A part of them", "content": {NDJSON: _FILE}},
            **_OF_ONE_RUN,
            416: documented_problem("The output is shorter than that"),
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
        """Download the output so far.

        JSONL supports ranges: to get what was added after N bytes, request `bytes=N-` with the ETag as `If-Range`. In
        CSV, texts that a spreadsheet would run as a formula start with an apostrophe.
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
                **documented_problem("There is no report until the run has ended or waits"),
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
            told = "There is no report until the run has ended or waits"
            raise RefusedRequest(409, "Conflict", told, {"Retry-After": str(COMING_FOR)}) from None
        policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(page, headers={**PRIVATE, "Content-Security-Policy": policy})

    setattr(start, LOOKED_UP, (alias, shared.task))
    setattr(start, SERVICE, service)
    setattr(start, CHECK, lambda _: folder.open())
    return router


async def _if_there(run_id: UUID, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work` in a thread. Raises `RefusedRequest` if the run was removed meanwhile."""
    try:
        return await in_thread(work, *arguments)
    except FileNotFoundError:
        raise gone(run_id) from None
