"""Requests and replies of the server, as pydantic models.

Every model accepts snake_case and camelCase, keeps unknown members as attributes, and dumps to JSON what
the wire held: `model_dump(mode="json")` writes snake_case, omits what the sender omitted, and writes dates
as they were received; `model_dump()` has every field. Naive dates are UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Optional, TypeVar, Union, get_args
from uuid import UUID

from pydantic import (
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
)
from pydantic.alias_generators import to_camel
from typing_extensions import Self

from .display import MOST_ROWS, ShortText, fields_table, rows_table

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

T = TypeVar("T")

SHORT_LIST = 3
"""Members of a list that its repr shows; for longer lists it shows the length."""


class ReplyHeaders(Mapping[str, str]):
    """A reply's headers. Names are case-insensitive; iterating yields them in lower case."""

    __slots__ = ("_found",)

    def __init__(self, found: Mapping[str, str]) -> None:
        # Names in lower case, as transports give them; read from the reply at the first access.
        self._found = found

    def __getitem__(self, name: str) -> str:
        return self._found[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"<headers {', '.join(sorted(self._found))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return ReplyHeaders, (dict(self._found),)


@dataclass
class ReplyInfo:
    """How a call was answered: the last reply's status and headers, and how the time was spent.

    `elapsed` is the whole call in seconds: `queued` waiting for a connection, `paused` between attempts, the
    rest on the wire. `attempts` counts the last one too; a redirect that was followed belongs to its attempt.
    """

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    elapsed: float
    attempts: int
    queued: float = 0.0
    paused: float = 0.0

    @property
    def request_id(self) -> Optional[str]:
        """The reply's `X-Request-Id`; `None` if it has none."""
        return self.headers.get("x-request-id") or None


class WireTime(datetime):
    """An aware `datetime` that remembers the server's spelling (a seventh digit, no offset)."""

    wire: Optional[str] = None

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _wire_time, (datetime.combine(self.date(), self.timetz()), self.wire)


def _wire_time(moment: datetime, wire: Optional[str]) -> WireTime:
    time = WireTime.combine(moment, moment.timetz(), moment.tzinfo or timezone.utc)
    time.wire = wire
    return time


def _read_time(value: Any, handler: ValidatorFunctionWrapHandler) -> WireTime:
    return _wire_time(handler(value), value if isinstance(value, str) else None)


def _write_time(value: datetime) -> str:
    wire = getattr(value, "wire", None)
    return wire if wire is not None else value.isoformat().replace("+00:00", "Z")


Timestamp = Annotated[
    datetime, WrapValidator(_read_time), PlainSerializer(_write_time, return_type=str, when_used="json")
]
"""An aware datetime. A value without offset is UTC."""

# The values of today's server. Newer servers may send others, so each field accepts any text.
ExecutionStatus = Literal["success", "error", "timeout"]
GenerationStatus = Literal["running", "made", "failed"]
ArtifactStatus = Literal["draft", "validated", "active", "deprecated", "failed"]
SynthesisStrategy = Literal["rule", "ml", "hybrid", "dsl", "auto"]
Readiness = Literal["ready", "not_ready"]
Confidence = Literal["high", "medium", "low"]
Recommendation = Literal["promote", "rollback", "continue", "manual_review"]
CanaryStage = Literal[
    "NotStarted", "Stage1_5Percent", "Stage2_25Percent", "Stage3_50Percent", "Stage4_100Percent", "Completed"
]
CanaryStatus = Literal["InProgress", "Paused", "RolledBack", "Completed", "Failed"]
CanaryAction = Literal["started", "promoted", "rolled_back"]
Severity = Literal["info", "warning", "error", "critical"]
EventTypeName = Literal[
    "programExecutionFailed",
    "validationFailed",
    "programImproved",
    "canaryRollback",
    "canaryCompleted",
    "abTestCompleted",
]

EVENT_TYPES: tuple[EventTypeName, ...] = get_args(EventTypeName)
"""Webhook event types in the order of the server's enumeration: a delivery writes the index."""


class EventType(str):
    """A webhook event type by its camelCase name; remembers whether it was written as number or in PascalCase."""

    __slots__ = ("wire",)
    wire: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return event_type, (self.wire,)


def event_type(value: Union[int, str]) -> EventType:
    """Return the event type named by `value`: 0–5, `canaryRollback` or `CanaryRollback`. Raises `ValueError`."""
    name: Optional[str] = None
    if isinstance(value, int) and not isinstance(value, bool):
        name = EVENT_TYPES[value] if 0 <= value < len(EVENT_TYPES) else None
    elif isinstance(value, str):
        name = next((known for known in EVENT_TYPES if known.lower() == value.lower()), None)
        if value.isdecimal() and int(value) < len(EVENT_TYPES):
            name = EVENT_TYPES[int(value)]
    if name is None:
        raise ValueError(f"unknown event type {value!r}: one of {', '.join(EVENT_TYPES)}, or its number 0–5")
    known_type = EventType(name)
    known_type.wire = value
    return known_type


def _read_event_type(value: Any, handler: ValidatorFunctionWrapHandler) -> Union[EventType, str, int]:
    if isinstance(value, EventType):
        return value
    written: Union[str, int] = handler(value)
    try:
        return event_type(written)
    except ValueError:
        return written  # an event type of a newer server


EventTypeField = Annotated[
    Union[
        EventTypeName,
        Annotated[str, Field(min_length=1)],
        Annotated[int, Field(strict=True, ge=0)],
    ],
    WrapValidator(_read_event_type),
    PlainSerializer(lambda value: getattr(value, "wire", value), when_used="json"),
]


def _both_spellings(name: str) -> AliasChoices:
    return AliasChoices(name, to_camel(name))


class LoopaiModel(BaseModel):
    """Base class of all models: accepts both spellings, dumps what was sent, and keeps the reply it came with."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=_both_spellings),
        defer_build=True,
        extra="allow",
        protected_namespaces=(),
        ser_json_inf_nan="constants",
    )
    # A slot, not a private attribute: that would cost each instance a microsecond, and be part of comparisons.
    __slots__ = ("_reply",)

    @property
    def reply(self) -> Optional[ReplyInfo]:
        """Status, headers and timing of the reply; `None` for nested objects and objects that you made."""
        try:
            # Not `self._reply`: if the slot is empty, that would read a member of the server with the same name.
            reply: Optional[ReplyInfo] = object.__getattribute__(self, "_reply")
        except AttributeError:
            return None
        return reply

    @property
    def request_id(self) -> Optional[str]:
        """The `X-Request-Id` of the reply; `None` if it has none."""
        return None if self.reply is None else self.reply.request_id

    def __copy__(self) -> Self:
        return self._with_reply_of(super().__copy__())

    def __deepcopy__(self, memo: Optional[dict[int, Any]] = None) -> Self:
        return self._with_reply_of(super().__deepcopy__(memo))

    def _with_reply_of(self, copied: Self) -> Self:
        if self.reply is not None:
            object.__setattr__(copied, "_reply", self.reply)
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "reply": self.reply}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        reply = state.pop("reply", None)
        super().__setstate__(state)
        if reply is not None:
            object.__setattr__(self, "_reply", reply)

    def __repr_args__(self) -> Iterator[tuple[Optional[str], Any]]:
        """Keep the repr short: no empty members, long values cut, only the length of long lists."""
        for name, value in super().__repr_args__():
            if value is not None and value != []:
                yield name, ShortText(value)

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        return fields_table(type(self).__name__, {name: value for name, value in self if value is not None})

    # With a return type, pydantic's JSON schema would be a plain object instead of the model's own.
    @model_serializer(mode="wrap", when_used="json")
    def _as_sent(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # see above
        given = self.model_fields_set
        return {name: value for name, value in handler(self).items() if name in given}


class ReplyList(list[T], Generic[T]):
    """A list from one reply; `reply` has its status, headers and timing."""

    reply: Optional[ReplyInfo] = None

    def __repr__(self) -> str:
        return (
            f"[{', '.join(map(repr, self))}]"
            if len(self) <= SHORT_LIST
            else f"<{len(self):,} {type(self[0]).__name__}>"
        )

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        members = (each for each in self[:MOST_ROWS] if isinstance(each, BaseModel))
        columns = list(dict.fromkeys(name for each in members for name, value in each if value is not None))
        rows = ([getattr(each, name, None) for name in columns] for each in self)
        return rows_table(f"{len(self):,} in all", columns, rows, len(self))

    @property
    def request_id(self) -> Optional[str]:
        """The `X-Request-Id` of the reply; `None` if it has none."""
        return None if self.reply is None else self.reply.request_id


class ReplyText(str):
    """A text from one reply; `reply` has its status, headers and timing."""

    reply: Optional[ReplyInfo] = None

    @property
    def request_id(self) -> Optional[str]:
        """The `X-Request-Id` of the reply; `None` if it has none."""
        return None if self.reply is None else self.reply.request_id


# Tasks, programs, executions


class CreateTaskRequest(LoopaiModel):
    """The body of `create_task`. `latency_target_ms` is in milliseconds; target and rate are shares from 0 to 1."""

    name: str
    description: str
    input_schema: Any
    output_schema: Any
    examples: list[Any] = Field(default_factory=list)
    accuracy_target: float = 0.9
    latency_target_ms: int = 10
    sampling_rate: float = 0.1


class OpenQuestion(LoopaiModel):
    """An input for which programs that fit all examples return different `answers`: add an example with its output."""

    input: Any = None
    answers: list[Any] = Field(default_factory=list)


class GenerationState(LoopaiModel):
    """The state of the last attempt to make a program: `status` is `running`, `made` or `failed`.

    While it is running, `stage` names the current step, and `seconds` how long it has run. Then either `reason` says
    why there is no program, or `version`, `program_status` (`active` or `draft`) and `confidence_score` describe it.
    """

    status: Union[GenerationStatus, str]
    stage: Optional[str] = None
    seconds: Optional[float] = None
    reason: Optional[str] = None
    version: Optional[int] = None
    program_status: Optional[Union[ArtifactStatus, str]] = None
    confidence_score: Optional[float] = None


class Task(LoopaiModel):
    """A task as the server stores it. `active_version` is `None` while no program is active.

    The embedded server also reports doubts. `warnings` are sentences for people: a schema that checks nothing,
    examples that teach no program, a score below `accuracy_target`. `questions` are the inputs whose output would
    decide between programs that fit all examples. `generation` is the state of the newest program. Other servers
    leave these out.
    """

    id: UUID
    name: str
    description: str
    input_schema: Any = None
    output_schema: Any = None
    examples: list[Any] = Field(default_factory=list)
    accuracy_target: float = 0.9
    latency_target_ms: int = 10
    sampling_rate: float = 0.1
    active_version: Optional[int] = None
    total_versions: int = 0
    created_at: Timestamp
    updated_at: Optional[Timestamp] = None
    warnings: list[str] = Field(default_factory=list)
    questions: list[OpenQuestion] = Field(default_factory=list)
    generation: Optional[GenerationState] = None


class ExecuteRequest(LoopaiModel):
    """The body of `execute`. `timeout_ms` is the time limit of the program, not of the call."""

    task_id: UUID
    version: Optional[int] = None
    input: Any
    force_validation: bool = False
    timeout_ms: Optional[int] = None


class ExecutionResult(LoopaiModel):
    """One run of a program. `status` is `success`, `error` or `timeout`; `output` is any JSON value.

    `confidence` is how certain the program is of its output, from 0 to 1. Only programs of the embedded server that
    choose among labels have it; it is `None` elsewhere.
    After a coalesced call, `program_id`, `version` and `executed_at` are `None`: a batch reply does not have them.
    """

    execution_id: Optional[UUID] = Field(
        default=None, validation_alias=AliasChoices("execution_id", "executionId", "id")
    )
    task_id: UUID
    program_id: Optional[UUID] = None
    version: Optional[int] = None
    status: Union[ExecutionStatus, str] = "success"
    output: Any = None
    error_message: Optional[str] = None
    latency_ms: float = 0.0
    memory_usage_mb: Optional[float] = None
    sampled_for_validation: bool = False
    executed_at: Optional[Timestamp] = None
    confidence: Optional[float] = Field(default=None, ge=0, le=1)

    @property
    def id(self) -> Optional[UUID]:
        """`execution_id`, under its name in SDK 0.1.0."""
        return self.execution_id

    @property
    def succeeded(self) -> bool:
        """Whether the program returned an output."""
        return self.status == "success"


class DeletedExecutions(LoopaiModel):
    """How many recorded executions were deleted."""

    deleted: int


class ExecutionRecord(ExecutionResult):
    """An execution as the embedded server recorded it: the result and its `input`."""

    input: Any = None


class ComplexityMetrics(LoopaiModel):
    """Measures of a program's source; `None` if not measured."""

    cyclomatic_complexity: Optional[int] = None
    lines_of_code: Optional[int] = None
    estimated_latency_ms: Optional[float] = None


class GenerationUsage(LoopaiModel):
    """What a language model needed to write a program: requests, and input and output tokens."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class ProgramArtifact(LoopaiModel):
    """One version of a task's program. `deployment_percentage` is 100 after generation, a 0–1 share after a canary.

    For a program that a language model wrote, `verified` says whether it was checked with examples that the model did
    not see, and `usage` what it needed; `generation_cost` is in dollars. They are `None` for other programs.

    For a program that the embedded server made, `estimate` says whether `confidence_score` is R², `notes` what people
    should know (a score below the target, how it compares with the previous version), and `questions` the inputs whose
    output would decide between programs that fit all examples.
    """

    id: UUID
    task_id: UUID
    version: int
    language: str = "python"
    code: str
    synthesis_strategy: Union[SynthesisStrategy, str] = "auto"
    confidence_score: float = 0.5
    complexity_metrics: Optional[ComplexityMetrics] = None
    llm_provider: Optional[str] = None
    llm_model: Optional[str] = None
    generation_cost: float = 0.0
    generation_time_sec: float = 0.0
    status: Union[ArtifactStatus, str] = "draft"
    deployment_percentage: float = 0.0
    created_at: Timestamp
    deployed_at: Optional[Timestamp] = None
    verified: Optional[bool] = None
    usage: Optional[GenerationUsage] = None
    estimate: Optional[bool] = None
    notes: list[str] = Field(default_factory=list)
    questions: list[OpenQuestion] = Field(default_factory=list)


class GeneratorRequest(LoopaiModel):
    """The request of a server to a program generator (`POST /generate`)."""

    task_id: UUID
    task_name: str
    input_schema: Any
    output_schema: Any
    description: str
    examples: list[Any] = Field(default_factory=list)
    constraints: Optional[str] = None
    target_runtime: str = "deno"


class GeneratorComplexity(LoopaiModel):
    """A generator's own measure of the program it wrote."""

    lines_of_code: Optional[int] = None
    cyclomatic_complexity: Optional[int] = None
    estimated_tokens: Optional[int] = None


class GeneratorResponse(LoopaiModel):
    """The reply of a program generator."""

    success: bool
    code: Optional[str] = None
    language: str = "typescript"
    complexity: Optional[GeneratorComplexity] = None
    error_message: Optional[str] = None
    metadata: Any = None
    generated_at: Optional[Timestamp] = None


# Batches


class BatchExecuteItem(LoopaiModel):
    """One row of a batch. You choose `id`; the result has it too."""

    id: str
    input: Any
    force_validation: bool = False


class BatchExecuteRequest(LoopaiModel):
    """The body of a batch. `max_concurrency` is 1–100; `timeout_ms` is the time limit of each item, in milliseconds."""

    task_id: Union[UUID, str]
    items: list[BatchExecuteItem]
    version: Optional[int] = None
    max_concurrency: Optional[int] = 10
    stop_on_first_error: bool = False
    timeout_ms: Optional[int] = None


class BatchExecuteResult(LoopaiModel):
    """One row's result. `execution_id` is `None` if the row failed before it ran; `confidence` is as on a result.

    `code` says why such a row did not run (embedded server only): `VALIDATION_ERROR`, `SKIPPED`,
    `EXECUTION_ERROR` (no program), `TASK_NOT_FOUND`, `ARTIFACT_NOT_FOUND`.
    """

    id: str
    execution_id: Optional[UUID] = None
    success: bool
    output: Any = None
    error_message: Optional[str] = None
    code: Optional[str] = None
    latency_ms: float = 0.0
    sampled_for_validation: bool = False
    confidence: Optional[float] = Field(default=None, ge=0, le=1)


class BatchExecuteResponse(LoopaiModel):
    """The results of a batch, in the order of its rows. `version` is 0 if the request had none."""

    batch_id: UUID
    task_id: UUID
    version: int = 0
    total_items: int
    success_count: int
    failure_count: int
    total_duration_ms: float = 0.0
    avg_latency_ms: float = 0.0
    results: list[BatchExecuteResult] = Field(default_factory=list)
    started_at: Optional[Timestamp] = None
    completed_at: Optional[Timestamp] = None

    def failures(self) -> Iterator[BatchExecuteResult]:
        """The rows that failed, in the order of the request."""
        return (result for result in self.results if not result.success)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the results as a pandas DataFrame; see `loopai.frames`."""
        from .frames import to_pandas

        return to_pandas(self.results)

    def to_polars(self) -> polars.DataFrame:
        """Return the results as a polars DataFrame; see `loopai.frames`."""
        from .frames import to_polars

        return to_polars(self.results)

    def to_arrow(self) -> pyarrow.Table:
        """Return the results as a pyarrow Table; see `loopai.frames`."""
        from .frames import to_arrow

        return to_arrow(self.results)

    def _repr_html_(self) -> str:
        columns = ("id", "success", "output", "error_message", "latency_ms")
        rows = ([getattr(result, name) for name in columns] for result in self.results)
        return rows_table(f"{self.success_count:,} ok, {self.failure_count:,} failed", columns, rows, len(self.results))


class BatchValidateItem(LoopaiModel):
    """An output and the expected one."""

    id: str
    input: Any
    output: Any
    expected_output: Any


class BatchValidateRequest(LoopaiModel):
    """The body of `batch_validate`."""

    task_id: Union[UUID, str]
    items: list[BatchValidateItem]


class BatchValidateResult(LoopaiModel):
    """Whether one output equals the expected one."""

    id: str
    is_valid: bool
    message: Optional[str] = None
    confidence_score: float = 0.0


class BatchValidateResponse(LoopaiModel):
    """How many outputs equal the expected ones; `accuracy_rate` is a share from 0 to 1."""

    batch_id: UUID
    task_id: UUID
    total_items: int
    valid_count: int
    invalid_count: int
    accuracy_rate: float
    results: list[BatchValidateResult] = Field(default_factory=list)
    total_duration_ms: float = 0.0


# Health


class HealthResponse(LoopaiModel):
    """Whether the server runs. `environment` decides whether errors include their reason."""

    status: Union[Literal["healthy", "degraded"], str]
    timestamp: Optional[Timestamp] = None
    version: Optional[str] = None
    environment: Optional[str] = None


class ComponentHealth(LoopaiModel):
    """One component of the server; `response_time` is in milliseconds."""

    status: Union[Literal["healthy", "unhealthy"], str]
    response_time: Optional[float] = None
    message: Optional[str] = None


class DetailedHealthResponse(HealthResponse):
    """Health by component. A degraded server replies 503 in the same form, which is a result, not an error."""

    components: dict[str, ComponentHealth] = Field(default_factory=dict)


class ReadyResponse(LoopaiModel):
    """Whether the server accepts work. `not_ready` comes with 503, which is a result, not an error."""

    status: Union[Readiness, str]
    database: Optional[bool] = None
    redis: Optional[bool] = None
    error: Optional[str] = None

    @property
    def ready(self) -> bool:
        """Whether `status` is `ready`."""
        return self.status == "ready"


class LiveResponse(LoopaiModel):
    """The reply of a live server."""

    status: Union[Literal["alive"], str]


# Validation, comparison, canaries


class ImprovementRecommendation(LoopaiModel):
    """Whether a program should be improved, and why. `confidence` is `high`, `medium` or `low`."""

    should_improve: bool
    validation_rate: float
    failed_validations_count: int
    common_errors: list[str] = Field(default_factory=list)
    suggested_fixes: list[str] = Field(default_factory=list)
    confidence: Union[Confidence, str] = "low"


class ValidationStatistics(LoopaiModel):
    """Counts over a program's validated executions; rate and score are shares from 0 to 1."""

    total_validations: int
    valid_count: int
    invalid_count: int
    average_score: float
    validation_rate: float


class ValidationSummary(LoopaiModel):
    """A program's validation statistics and its recommendation."""

    program_id: UUID
    statistics: ValidationStatistics
    recommendations: ImprovementRecommendation


class ImprovementResult(LoopaiModel):
    """The draft made by an improvement."""

    success: bool
    new_program_id: Optional[UUID] = None
    new_version: Optional[int] = None
    changes_applied: list[str] = Field(default_factory=list)


class ComparisonConfiguration(LoopaiModel):
    """Thresholds of a comparison. Omitted members take the server's default."""

    minimum_sample_size: int = 100
    required_confidence: float = 0.95
    max_degradation_threshold: float = 0.05
    min_improvement_threshold: float = 0.02
    test_duration_hours: int = 24


class CompareProgramsRequest(LoopaiModel):
    """The body of `compare_programs`: two programs, and thresholds."""

    control_program_id: UUID
    treatment_program_id: UUID
    configuration: Optional[ComparisonConfiguration] = None


class ProgramMetrics(LoopaiModel):
    """Figures of one program's recent executions: latencies in milliseconds, rates as shares from 0 to 1."""

    average_latency_ms: float
    p50_latency_ms: float
    p95_latency_ms: float
    p99_latency_ms: float
    validation_rate: float
    error_rate: float
    total_executions: int
    successful_executions: int
    failed_executions: int


class ComparisonStatistics(LoopaiModel):
    """Two programs' figures side by side, and whether the difference is significant."""

    control_metrics: ProgramMetrics
    treatment_metrics: ProgramMetrics
    performance_delta: float
    p_value: float
    is_significant: bool
    control_sample_size: int
    treatment_sample_size: int


class ComparisonResult(LoopaiModel):
    """`recommendation` is `promote`, `rollback`, `continue` or `manual_review`."""

    task_id: UUID
    control_program_id: UUID
    treatment_program_id: UUID
    statistics: ComparisonStatistics
    recommendation: Union[Recommendation, str]
    confidence: Union[Confidence, str]
    compared_at: Timestamp


class StartCanaryRequest(LoopaiModel):
    """The body of `start_canary`: the draft to deploy next to a task's active program."""

    task_id: UUID
    new_program_id: UUID


class RollbackCanaryRequest(LoopaiModel):
    """The body of `rollback_canary`. `reason` has at most 500 characters."""

    reason: str


class CanaryStep(LoopaiModel):
    """One entry of a canary's history; `percentage` is a share from 0 to 1."""

    stage: Union[CanaryStage, str]
    percentage: float
    action: Union[CanaryAction, str]
    reason: Optional[str] = None
    timestamp: Timestamp


class CanaryDeployment(LoopaiModel):
    """A new program that is deployed in stages. Stages and `status` (`InProgress`, `Paused`, …) are PascalCase."""

    id: UUID
    task_id: UUID
    new_program_id: UUID
    current_program_id: UUID
    current_stage: Union[CanaryStage, str]
    current_percentage: float
    status: Union[CanaryStatus, str]
    status_reason: Optional[str] = None
    history: list[CanaryStep] = Field(default_factory=list)
    started_at: Timestamp
    completed_at: Optional[Timestamp] = None


# Webhooks


class SubscribeRequest(LoopaiModel):
    """The body of `subscribe_webhook`. `max_retries` is the total number of attempts per delivery."""

    url: str
    event_types: list[EventTypeField]
    secret: Optional[str] = Field(default=None, repr=False)
    max_retries: int = 3
    timeout_seconds: int = 30
    headers: Optional[dict[str, str]] = Field(default=None, repr=False)


class WebhookSubscription(SubscribeRequest):
    """A subscription as the server stores it. The server returns `secret` in plain text; the repr hides it."""

    id: UUID
    # Types that this version does not know are kept as received.
    event_types: list[Annotated[Union[EventTypeField, int, str], Field(union_mode="left_to_right")]]
    is_active: bool = True
    created_at: Timestamp


class WebhookDelivery(LoopaiModel):
    """One attempt to deliver an event; `duration_ms` is in milliseconds."""

    id: UUID
    subscription_id: UUID
    event_id: UUID
    url: str
    success: bool
    status_code: Optional[int] = None
    response_body: Optional[str] = None
    error_message: Optional[str] = None
    attempt_number: int
    attempted_at: Timestamp
    duration_ms: float


class WebhookEvent(LoopaiModel):
    """An event as delivered. `event_type` equals its camelCase name, however the server wrote it."""

    id: UUID
    event_type: EventTypeField
    task_id: Optional[UUID] = None
    program_id: Optional[UUID] = None
    message: Optional[str] = None
    data: Any = None
    timestamp: Timestamp
    severity: Optional[Union[Severity, str]] = None


# Errors


class ErrorDetail(LoopaiModel):
    """One violated rule; `property_name` is the server's name (`LatencyTargetMs`)."""

    property_name: str
    error_message: str


class ErrorResponse(LoopaiModel):
    """The server's own error object. `details` is a text in Development, and a list if validation failed."""

    code: Optional[str] = None
    message: str
    details: Optional[Union[list[ErrorDetail], str, Any]] = None
    trace_id: Optional[str] = None
    timestamp: Optional[Timestamp] = None
    # The earlier server's dialect.
    errors: Optional[dict[str, list[str]]] = None
    execution_id: Optional[str] = None


class ProblemDetails(LoopaiModel):
    """The error of model binding, before an operation is reached (RFC 9457; `traceId` is camelCase on the wire)."""

    model_config = ConfigDict(alias_generator=None)

    type: Optional[str] = None
    title: str
    status: int
    detail: Optional[str] = None
    instance: Optional[str] = None
    errors: Optional[dict[str, list[str]]] = None
    traceId: Optional[str] = None  # noqa: N815  # the wire's own spelling, kept so that it dumps back equal

    @property
    def trace_id(self) -> Optional[str]:
        """The trace id, under the name used everywhere else."""
        return self.traceId


_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_INSIDE_INPUT = re.compile(r"(?:^|\.)input(?=[.\[])", re.IGNORECASE)


def python_name(server_name: str) -> str:
    """Return the Python name of a field that the server names in C# or as a JSON path.

    `Items[0].LatencyMs` → `items[0].latency_ms`; `$.items[0].id` → `items[0].id`. The names in a JSON path are those
    that were sent, and below `input` they are the caller's own: both stay as they are.
    """
    if server_name.startswith("$"):
        return server_name[1:].lstrip(".")
    inside = _INSIDE_INPUT.search(server_name)
    end = inside.end() if inside else len(server_name)
    return _WORD.sub("_", server_name[:end]).lower() + server_name[end:]


# Models are built at first use, which keeps the import fast. From here on pydantic must not defer: FastAPI makes
# a type adapter of a route's body, and silences pydantic's warnings only while it does.
for _model in list(vars().values()):
    if isinstance(_model, type) and issubclass(_model, LoopaiModel):
        _model.model_config["defer_build"] = False
del _model
