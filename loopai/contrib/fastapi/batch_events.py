"""What the events of `batch_router` carry, as types: for its code, and for the OpenAPI document."""

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
    """The type of an event's data: a text, which is JSON of the type that this annotates."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "contentMediaType": "application/json", "contentSchema": handler(schema)}


class BatchResult(TypedDict):
    """How one row ended: with the program's `output`, or with `error` and its `code`."""

    key: Annotated[str, Field(description="The member that the query's `key` names, or the row's number")]
    status: Annotated[Status, Field(description="`cancelled` rows were not run: post them again")]
    output: NotRequired[Annotated[Any, Field(description="The program's, any JSON value; of `ok` and `doubtful` rows")]]
    error: NotRequired[Annotated[Optional[str], Field(description="What went wrong; of the other rows")]]
    code: NotRequired[Annotated[Optional[Code], Field(description="The error's kind", examples=["program", "unfit"])]]
    latency_ms: NotRequired[Annotated[float, Field(description="The program's time, in milliseconds")]]
    confidence: NotRequired[Annotated[float, Field(description="How certain the program is, 0 to 1, where it says so")]]
    line: NotRequired[Annotated[int, Field(description="The row's number in the upload, or its line in a file")]]
    columns: NotRequired[Annotated[dict[str, Any], Field(description="Columns that the router keeps beside results")]]


class BatchProgress(TypedDict):
    """How far the run is."""

    read: Annotated[int, Field(description="Rows read from the upload")]
    done: Annotated[int, Field(description="Rows that ended")]
    ok: int
    doubtful: Annotated[int, Field(description="Rows whose program is less certain than `min_confidence`")]
    errors: int
    cancelled: int
    seconds: float
    rows_per_s: float
    fraction: Annotated[
        Optional[float], Field(description="Part of the upload that has come, 0 to 1; null where its length is unknown")
    ]
    accuracy: Annotated[
        Optional[float],
        Field(description="Part of the rows with the right answer, 0 to 1; null where nothing is expected"),
    ]


class BatchQuality(TypedDict):
    """Outputs beside the answers that were expected."""

    rows: int
    failed: int
    accuracy: Optional[float]
    interval: Annotated[
        Optional[list[float]], Field(description="From where to where the accuracy may be, at 95 % confidence")
    ]
    classes: Annotated[
        dict[str, dict[str, Optional[float]]], Field(description="`precision`, `recall`, `f1` and `rows` a label")
    ]
    labels: list[str]
    confusion: Annotated[list[list[int]], Field(description="A row for each expected label, in the order of `labels`")]


class BatchSummary(TypedDict):
    """What the run came to."""

    ended: Annotated[
        Literal["finished", "max_errors", "unreachable", "fatal_error", "unreadable_upload", "interrupted", "fault"],
        Field(description="`finished`, or why not all rows were run"),
    ]
    read: Annotated[int, Field(description="Rows read from the upload")]
    rows: Annotated[int, Field(description="Rows that ended or were cancelled")]
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
    """A row has ended."""

    event: Literal["result"]
    id: NotRequired[Annotated[str, Field(description="The row's key; left out where it has a line break")]]
    data: Annotated[BatchResult, JsonText()]


class ProgressEvent(TypedDict):
    """Comes steadily while rows end."""

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
"""A run's whole stream."""


def events_with(output: Optional[Any]) -> Any:
    """The type of a run's whole stream, whose outputs are of that type; None for any JSON value."""
    if output is None:
        return BatchEvents
    # Named for what they hold: an application may have several.
    name = re.sub(r"\W", "", getattr(output, "__name__", "Output"))
    described = Annotated[output, Field(description="The program's; of `ok` rows")]  # type: ignore[valid-type]  # as below
    members = {**get_type_hints(BatchResult, include_extras=True), "output": NotRequired[described]}
    make: Any = TypedDict  # type checkers know those alone that stand in the code
    result = make(f"BatchResultOf{name}", members)
    result.__doc__ = BatchResult.__doc__
    data = Annotated[result, JsonText()]  # type: ignore[valid-type]  # made at run time
    event = make(f"ResultOf{name}Event", {**get_type_hints(ResultEvent, include_extras=True), "data": data})
    event.__doc__ = ResultEvent.__doc__
    return list[Union[event, ProgressEvent, ErrorEvent, SummaryEvent]]  # type: ignore[valid-type]  # as above
