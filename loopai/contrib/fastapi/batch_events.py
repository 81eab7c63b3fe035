"""The data of `batch_router`'s events, as types for the code and the OpenAPI document."""

# ruff: noqa: FA100  # pydantic reads these annotations at run time
import re
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import (  # pydantic takes typing's own from Python 3.12 on only
    NotRequired,
    TypedDict,
    get_type_hints,
)

from ...batch.rows import Code, Status
from ...problems import Problem


class JsonText:
    """The type of an event's data: a text that is JSON of the annotated type."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": handler(schema)}


class BatchResult(TypedDict):
    """The result of one row: the program's `output`, or `error` and its `code`."""

    key: Annotated[str, Field(description="The member that the query's `key` names, or the row's number")]
    status: Annotated[Status, Field(description="`cancelled` rows did not run: send them again")]
    output: NotRequired[
        Annotated[Any, Field(description="The program's output, any JSON value, of `ok` and `doubtful` rows")]
    ]
    error: NotRequired[Annotated[Optional[str], Field(description="What went wrong, of the other rows")]]
    code: NotRequired[Annotated[Optional[Code], Field(description="The error's kind", examples=["program", "unfit"])]]
    latency_ms: NotRequired[Annotated[float, Field(description="The program's time, in milliseconds")]]
    confidence: NotRequired[
        Annotated[float, Field(description="How certain the program is, from 0 to 1, if it says so")]
    ]
    line: NotRequired[Annotated[int, Field(description="The row's number in the upload, or its line in a file")]]
    columns: NotRequired[
        Annotated[dict[str, Any], Field(description="Columns of the row that the router returns with the result")]
    ]


class BatchProgress(TypedDict):
    """The progress of the run."""

    read: Annotated[int, Field(description="Rows read from the upload")]
    done: Annotated[int, Field(description="Rows that ended")]
    ok: int
    doubtful: Annotated[int, Field(description="Rows whose program is less certain than `min_confidence`")]
    errors: int
    cancelled: int
    seconds: float
    rows_per_s: float
    fraction: Annotated[
        Optional[float],
        Field(description="Share of the upload that has been received, from 0 to 1; null if its length is unknown"),
    ]
    accuracy: Annotated[
        Optional[float],
        Field(description="Share of rows with the right answer, from 0 to 1; null without expected answers"),
    ]


class BatchQuality(TypedDict):
    """How outputs compare with the expected answers."""

    rows: int
    failed: int
    accuracy: Optional[float]
    interval: Annotated[Optional[list[float]], Field(description="The 95 % confidence interval of the accuracy")]
    classes: Annotated[
        dict[str, dict[str, Optional[float]]], Field(description="`precision`, `recall`, `f1` and `rows` of each label")
    ]
    labels: list[str]
    confusion: Annotated[list[list[int]], Field(description="A row for each expected label, in the order of `labels`")]


class BatchSummary(TypedDict):
    """The summary of the run."""

    ended: Annotated[
        Literal["finished", "max_errors", "unreachable", "fatal_error", "unreadable_upload", "interrupted", "fault"],
        Field(description="`finished`, or why not all rows ran"),
    ]
    read: Annotated[int, Field(description="Rows read from the upload")]
    rows: Annotated[int, Field(description="Rows that finished or were cancelled")]
    ok: int
    doubtful: Annotated[int, Field(description="Rows whose program is less certain than `min_confidence`")]
    errors: int
    cancelled: int
    skipped: int
    repeated: Annotated[int, Field(description="Rows that were sent more than once")]
    seconds: float
    rows_per_s: float
    latency_ms: Annotated[dict[str, Optional[float]], Field(description="`mean`, `p50`, `p95` and `p99`")]
    errors_by_kind: dict[str, int]
    last_error: Optional[str]
    quality: Optional[BatchQuality]


class ResultEvent(TypedDict):
    """A row has finished."""

    event: Literal["result"]
    id: NotRequired[Annotated[str, Field(description="The row's key; omitted if it has a line break")]]
    data: Annotated[BatchResult, JsonText()]


class ProgressEvent(TypedDict):
    """Sent regularly while rows finish."""

    event: Literal["progress"]
    data: Annotated[BatchProgress, JsonText()]


class ErrorEvent(TypedDict):
    """The run cannot continue."""

    event: Literal["error"]
    data: Annotated[Problem, JsonText()]


class SummaryEvent(TypedDict):
    """The last event, always."""

    event: Literal["summary"]
    data: Annotated[BatchSummary, JsonText()]


BatchEvents = list[Union[ResultEvent, ProgressEvent, ErrorEvent, SummaryEvent]]
"""All events of a run."""


def events_with(output: Optional[Any]) -> Any:
    """Return the type of all events of a run with outputs of that type; None for any JSON value."""
    if output is None:
        return BatchEvents
    return list[Union[result_with(output), ProgressEvent, ErrorEvent, SummaryEvent]]  # type: ignore[misc]  # made at run time


def result_with(output: Optional[Any]) -> Any:
    """Return the type of a row's event, with an output of that type; None for any JSON value."""
    if output is None:
        return ResultEvent
    # Named after the output type: an application may have several.
    name = re.sub(r"\W", "", getattr(output, "__name__", "Output"))
    described = Annotated[output, Field(description="The program's output, of `ok` rows")]  # type: ignore[valid-type]  # as below
    members = {**get_type_hints(BatchResult, include_extras=True), "output": NotRequired[described]}
    make: Any = TypedDict  # type checkers only understand literal definitions
    result = make(f"BatchResultOf{name}", members)
    result.__doc__ = BatchResult.__doc__
    data = Annotated[result, JsonText()]  # type: ignore[valid-type]  # made at run time
    event = make(f"ResultOf{name}Event", {**get_type_hints(ResultEvent, include_extras=True), "data": data})
    event.__doc__ = ResultEvent.__doc__
    return event
