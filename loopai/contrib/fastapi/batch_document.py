"""The OpenAPI documentation of `batch_router`'s request and responses. The events' types are in `batch_events`."""

# ruff: noqa: FA100  # FastAPI reads these annotations at run time
from collections.abc import Coroutine
from typing import Annotated, Any, Callable, Optional, Union

from fastapi import Request, Response
from pydantic import WithJsonSchema

from ...batch.mapping import InputMapping
from .batch_events import events_with
from .events import MEDIA_TYPE
from .problems import RETRY_AFTER, ProblemRoute, documented_problem
from .uploads import Limits


class Events(Response):
    """A response of events."""

    media_type = MEDIA_TYPE


class _Unread(Request):
    """A request whose body is left for the response to read: FastAPI sees none."""

    async def body(self) -> bytes:
        """Return nothing; see Starlette's `Request`."""
        return b""


class BatchRoute(ProblemRoute):
    """A route whose body parameter exists only in the OpenAPI document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which reads no body."""
        handle = super().get_route_handler()

        async def handle_unread(request: Request) -> Response:
            return await handle(_Unread(request.scope, request.receive))

        return handle_unread


def row_of(given: Optional[Any], mapping: InputMapping) -> Any:
    """Return the type of a row: the input itself, unless it is made from columns."""
    if not mapping.parts:
        return dict[str, Any] if given is None else given
    # A dotted path may be the name of a column, or lead into one.
    columns = list(dict.fromkeys(path for path in mapping.sources if "." not in path))
    schema = {"type": "object", "title": "Row", "properties": {name: {} for name in columns}, "required": columns}
    return Annotated[dict[str, Any], WithJsonSchema(schema)]


_FILE = {"type": "string", "format": "binary"}

BODY = {
    "description": "Rows, or a file of rows: JSON, JSONL or CSV, also gzipped, as the body or in a form",
    "required": True,
    "content": {
        "application/x-ndjson": {"schema": _FILE},
        "text/csv": {"schema": _FILE},
        "multipart/form-data": {"schema": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]}},
    },
}
"""What FastAPI does not know of the request; it adds the array of rows."""

_EXAMPLE = """id: 7
event: result
data: {"key":"7","status":"ok","output":{"label":"spam"},"latency_ms":0.41}

"""


def responses(limits: Limits, output: Optional[Any]) -> dict[Union[int, str], dict[str, Any]]:
    """Document each status and its content; `output` is the type of the program's output."""
    return {
        200: {
            "model": events_with(output),
            "description": "The events of the run, streamed as they happen",
            "content": {
                MEDIA_TYPE: {"example": _EXAMPLE},
                "application/x-ndjson": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        408: documented_problem("The upload sent no data for too long"),
        413: documented_problem(
            f"The upload is larger than {limits.max_bytes:,} bytes, or unpacks to more than "
            f"{limits.max_unpacked_bytes:,}"
        ),
        415: documented_problem("Neither JSON nor JSONL nor CSV"),
        422: documented_problem("The query is not valid, or the upload cannot be read"),
        502: documented_problem("The Loopai server refused the run"),
        503: {
            **documented_problem("Too many batches are running, or the Loopai server cannot be reached"),
            "headers": RETRY_AFTER,
        },
    }
