"""`batch_router`: one POST of rows, whose results are streamed back as they finish; and `batch_response`."""

# ruff: noqa: FA100  # see below
# No `from __future__ import annotations`: FastAPI cannot look up what a router's functions close over.
import codecs
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from typing import Annotated, Any, Literal, Optional, Union, cast, get_type_hints
from uuid import UUID
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import TypeAdapter
from typing_extensions import Unpack

from ..._core.encoding import InputType
from ...batch.formats.csv import Dialect, check_types
from ...batch.mapping import InputMapping
from ...batch.options import FORMATS, REQUEST, STREAM, BatchOptions, BatchRequestOptions, options_in, table
from ...batch.reporting.quality import Expectation
from ...client import LoopaiClient
from ...exceptions import OptionError
from .batch_document import BODY, BatchRoute, Events, responses, row_of
from .batch_responses import BatchResponse
from .batch_runs import Asked, Options, Places
from .dependencies import get_loopai_for
from .lifespan import LOOKED_UP
from .problems import RefusedRequest, problem_response
from .uploads import Limits, Reading, kind_of, media_type_of


class ReadingOptions(BatchRequestOptions, total=False):
    """Options of all routers that read rows from an upload. `DEFAULTS` has their defaults."""

    input: Any
    output: Any
    keep: Iterable[str]
    max_rows: int
    max_bytes: int
    max_unpacked_bytes: int
    max_row_bytes: int
    max_ratio: float
    progress_every: float
    heartbeat_every: float
    idle_timeout: Optional[float]


class UploadOptions(ReadingOptions, total=False):
    """What `batch_router` and `batch_response` take besides the task."""

    nested: bool
    max_runs: int


DEFAULTS: UploadOptions = {
    "input": None,
    "output": None,
    "nested": False,
    "keep": (),
    # A small file can unpack to any number of rows.
    "max_rows": 1_000_000,
    # An upload is neither held in memory nor stored, so this limits the client's time, not the server's memory.
    "max_bytes": 1_000_000_000,
    "max_unpacked_bytes": 1_000_000_000,
    "max_row_bytes": 1_000_000,
    # Repetitive CSV stays far below.
    "max_ratio": 200.0,
    # Per process: each batch has up to `max_in_flight` requests and a thread.
    "max_runs": 8,
    # Often enough for a smooth display.
    "progress_every": 0.5,
    # Proxies give up after a minute (nginx's default).
    "heartbeat_every": 15.0,
    "idle_timeout": 60.0,
}

Format = Literal["csv", "jsonl", "json"]

KeyAsked = Annotated[Optional[str], Query(description="Member that is the row's key; without it, rows are numbered")]
FirstAsked = Annotated[int, Query(ge=0, description="Number of the first row")]
FormatAsked = Annotated[Optional[Format], Query(description="Format of the body, if its media type does not say it")]
"""The options about rows in a request's query, for every router; see `asked_of`."""

_FORMATS = {name: info for name, info in table(BatchOptions) if REQUEST in info.where and info.group == FORMATS}
"""Options of how an upload is read: of a router, and of each request's query."""

_OF_THE_STREAM = frozenset(name for name, info in table(BatchOptions) if STREAM in info.where) - _FORMATS.keys()
"""Options of the run itself. Rows are made here; from the mapping the run knows which members no row has."""

_CODINGS = frozenset({"", "identity", "gzip", "x-gzip"})

# Python's names. Others are not encodings of files, or take more than linear time (idna, punycode).
_ENCODINGS = frozenset({
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "ascii", "mac-roman", "koi8-r", "koi8-u",
    *(f"iso8859-{part}" for part in range(1, 17) if part != 12), *(f"cp125{page}" for page in range(9)), "cp437",
    "cp850", "cp852", "cp866", "cp932", "cp949", "shift_jis", "euc_jp", "euc_kr", "gb2312", "gbk", "gb18030", "big5",
})  # fmt: skip


def _encoding(name: str) -> str:
    """Return the encoding's name. Raises `OptionError` for an unsupported one."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        found = ""
    if found not in _ENCODINGS:
        raise OptionError(
            "{encoding} {value!r} is unknown; use for example utf-8, utf-16, latin-1 or cp1252", value=name
        )
    return found


def _reading(options: BatchOptions, asked: Iterable[str] = ()) -> Reading:
    """Return how uploads are read. Raises `OptionError`."""
    dialect = Dialect(**{item.name: getattr(options, item.name) for item in fields(Dialect)})
    types = cast("Mapping[str, str]", options.types)
    dialect.check()
    check_types(types)
    return Reading(_encoding(options.encoding), dialect, types, tuple(name for name in asked if name != "encoding"))


def reading_asked() -> Callable[..., dict[str, Any]]:
    """A dependency that returns the query's options for reading the upload, named as in the table."""

    def asked(**query: Any) -> dict[str, Any]:
        return {name: value for name, value in query.items() if value is not None}

    types = get_type_hints(BatchOptions)
    asked.__signature__ = inspect.Signature([  # type: ignore[attr-defined]  # what FastAPI reads
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Optional[list[str] if info.repeated else types[name]], Query(description=info.help)],
        )
        for name, info in _FORMATS.items()
    ])  # fmt: skip
    return asked


def shared_options(task: Union[str, UUID], given: Mapping[str, Any]) -> Options:
    """Return what all uploads of a route share; `given` are `UploadOptions`. Raises `ConfigurationError`."""
    own = cast("UploadOptions", {name: given.get(name, default) for name, default in DEFAULTS.items()})
    shared = {name: value for name, value in given.items() if name not in DEFAULTS}
    batch = options_in(REQUEST, shared)
    return Options(
        task=str(task),
        input=None if own["input"] is None else InputType(own["input"]),
        output=None if own["output"] is None else TypeAdapter(own["output"]),
        mapping=InputMapping(batch.mapping),
        keep=tuple(own["keep"]),
        expect=None if batch.expect is None else Expectation(batch.expect),
        run={name: value for name, value in shared.items() if name in _OF_THE_STREAM},
        reading=_reading(batch),
        formats={name: shared[name] for name in _FORMATS if name in shared},
        nested=own["nested"],
        limits=Limits(own["max_bytes"], own["max_unpacked_bytes"], own["max_row_bytes"], own["max_ratio"]),
        max_rows=own["max_rows"],
        max_runs=own["max_runs"],
        progress_every=own["progress_every"],
        heartbeat_every=own["heartbeat_every"],
        idle_timeout=own["idle_timeout"],
    )


def asked_of(
    request: Request,
    options: Options,
    *,
    key: Optional[str],
    first: int,
    format: Optional[Format],  # noqa: A002  # the query's name
    formats: Optional[Mapping[str, Any]] = None,
    nested: Optional[bool] = None,
) -> Asked:
    """Return a request's options for its upload, before any of it is read. Raises `RefusedRequest`."""
    content_type = request.headers.get("content-type", "")
    media_type = media_type_of(content_type)
    declared = request.headers.get("content-length", "")
    length = int(declared[:20]) if declared.isdigit() else None
    if length is not None and length > options.limits.max_bytes:
        raise RefusedRequest(413, "Too large", f"At most {options.limits.max_bytes} bytes")
    if request.headers.get("content-encoding", "").strip().lower() not in _CODINGS:
        raise RefusedRequest(415, "Unsupported media type", "Content-Encoding must be gzip, or none")
    kind = format or kind_of(media_type, "")
    if kind is None and media_type != "multipart/form-data":
        remedy = "Send JSON, JSONL or CSV, say so as Content-Type, or in the query: format=csv"
        raise RefusedRequest(415, "Unsupported media type", remedy)
    try:
        reading = _reading(options_in(REQUEST, {**options.formats, **formats}), formats) if formats else options.reading
    except OptionError as error:
        raise RefusedRequest(422, "Not valid", str(error)) from None
    return Asked(kind, options.nested if nested is None else nested, content_type, length, key, first, reading)


def _response(
    client: LoopaiClient,
    request: Request,
    options: Options,
    places: Places,
    **asked: Any,
) -> Response:
    accept = request.headers.get("accept", "")
    return BatchResponse(client, options, asked_of(request, options, **asked), places, accept)


def batch_router(
    task: Union[str, UUID],
    *,
    alias: str = "default",
    path: str = "/batch",
    name: str = "batch",
    tags: Iterable[Union[str, Enum]] = ("batch",),
    **options: Unpack[UploadOptions],
) -> APIRouter:
    """Return a router with one POST route that runs the rows of its body through `task` and streams the results.

    The body is a JSON array or JSONL of objects, or a file (CSV, JSONL, JSON, which may be gzipped), as the body itself
    or as the file of a form.

    `encoding`, `types` and the options of CSV (`delimiter`, `quotechar`, `escapechar`, `skip_lines`, `comment`,
    `no_header`) say how uploads are read, unless the query has them.

    - `mapping`: how the program's input is made of a row, such as `["text=body"]`.
    - `input`, `output`: types, such as pydantic models, of the input and the program's output.
    - `keep`: columns of the row to return with each result.
    - `nested`: leave out the columns for the members of the output, which CSV results have (`output.label`), unless the
      query has it.
    - `expect`: column with the right answer, for the accuracy: `label`, or `label=output.verdict`.
    - `encoding`: encoding of CSV files, unless the query names another.
    - Other `options` are those of `batch_stream` (`chunk_size`, `max_errors`, `version`, …).

    Events: `result` for each row, whose id is the row's key; `progress` every `progress_every` seconds while rows
    finish; a heartbeat after `heartbeat_every` seconds without an event; `error`, with a problem document, if the run
    cannot continue; `summary`, always the last. They are server-sent events, or JSON lines or CSV (of the results) if
    the request accepts `application/x-ndjson` or `text/csv`. The response starts when the first row finishes, or after
    `heartbeat_every` seconds. If no row can run, it has the status of the problem instead.

    The upload is read only as fast as rows run. Its limits: `max_bytes`; `max_unpacked_bytes`; `max_ratio`, how many
    times its size it may unpack to, checked from 10 MB on; `max_rows`; and `max_row_bytes`, above which a row fails.
    The run ends if the client disconnects, or sends nothing for `idle_timeout` seconds while nothing runs (None for no
    limit). To continue, the client sends the rows whose keys it has not received. The query can name the member that is
    the key (`key=id`; otherwise rows are numbered from `first`), and the format, if neither file name nor media type
    say it.

    `name` and `tags` are those of the route. Responds 408, 413, 415 or 422 if the upload cannot be read, and 503 while
    `max_runs` batches are running. Raises `ConfigurationError` for invalid options.
    """
    shared = shared_options(task, options)
    places = Places(shared.max_runs)
    router = APIRouter(tags=list(tags), route_class=BatchRoute)
    row = row_of(options.get("input"), shared.mapping)

    @router.post(
        path,
        name=name,
        response_class=Events,
        responses=responses(shared.limits, options.get("output")),
        openapi_extra={"requestBody": BODY},
    )
    async def batch(
        request: Request,
        rows: Annotated[list[row], Body(default_factory=list)],  # type: ignore[valid-type]  # the router's own
        client: Annotated[LoopaiClient, Depends(get_loopai_for(alias))],
        key: KeyAsked = None,
        first: FirstAsked = 1,
        format: FormatAsked = None,  # noqa: A002  # the query's name
        formats: Annotated[Optional[dict[str, Any]], Depends(reading_asked())] = None,
        nested: Annotated[
            Optional[bool], Query(description="CSV results without a column for each member of the output")
        ] = None,
    ) -> Response:
        """Run rows through the task. Events are streamed while they run, results in the order in which rows finish.

        `result` for each row, `progress`, `error` if the run cannot continue, and `summary` at the end. To continue an
        interrupted run, send the rows whose results have not arrived.
        """
        asked = {"key": key, "first": first, "format": format, "formats": formats, "nested": nested}
        return _response(client, request, shared, places, **asked)

    setattr(batch, LOOKED_UP, (alias, shared.task))
    return router


_places: "WeakKeyDictionary[Any, Places]" = WeakKeyDictionary()
"""The limits of routes that use `batch_response`, by application."""


def batch_response(
    client: LoopaiClient,
    task: Union[str, UUID],
    request: Request,
    *,
    key: Optional[str] = None,
    first: int = 1,
    format: Optional[Format] = None,  # noqa: A002  # the query's name
    **options: Unpack[UploadOptions],
) -> Response:
    """Return a response that runs the rows of `request`'s body, for your own route (plain Starlette, too).

    The route must not read the body: its parameters are the request, and dependencies that do not read it. Options are
    those of `batch_router`; `max_runs` counts all such responses of one application. Like the router, it rejects
    requests with problem documents. Raises `ConfigurationError` for invalid options.
    """
    shared = shared_options(task, options)
    places = _places.setdefault(request.scope["app"], Places(shared.max_runs))
    places.most = shared.max_runs
    try:
        return _response(client, request, shared, places, key=key, first=first, format=format)
    except RefusedRequest as refusal:
        return problem_response(refusal.problem)
