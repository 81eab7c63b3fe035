"""One function for each endpoint: the request, and how to read the reply. Nothing is sent here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, wraps
from typing import Any, Callable, Generic, Optional, TypeVar, Union
from urllib.parse import quote, urlencode
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import Concatenate, ParamSpec

from .. import models
from ..exceptions import ExecutionException, LoopaiException, NotFoundException, ValidationException
from .encoding import encode
from .items import read_item, results_of
from .limits import MOST_CONCURRENCY, PROGRAM_TIMEOUT_MS
from .rowsets import Missing, rows_of
from .schemas import schema_of
from .texts import json_kind, shortened
from .unrun import names_missing
from .wire import Reply

GENERATION_SECONDS = 300.0
"""Extra seconds for an attempt while a program is made, and how long a call waits for one."""

T = TypeVar("T")
P = ParamSpec("P")
M = TypeVar("M", bound=BaseModel)

_OK = frozenset(range(200, 300))
_OK_OR_UNAVAILABLE = _OK | {503}


@dataclass
class Operation(Generic[T]):
    """One call before it is made. Not frozen, for the reason that `wire` gives.

    `repeats` says whether it may be sent again when an earlier attempt may have arrived; `pure`
    marks those that do so only because programs are pure, which `retry_unknown=False` holds back.
    `limited` marks the paths on which `INTERNAL_ERROR` means the rate limiter. `seconds` is added
    to the time an attempt may take. `addition` marks operations of the embedded server only. `secret` is sent in the
    body, and errors hide it if it is echoed. `private` marks replies that contain secrets of the server: errors show
    only the members of an error body. `again` makes the same operation for another task id.
    `parts` says how a batch is sent in several requests. `first` marks a first execution, for which a program may have
    to be made: it is not repeated after a timeout. `only_item` returns the members of the only item of a reply. `apart`
    marks items that belong to different callers.
    """

    name: str
    method: str
    path: str
    read: Callable[[Reply], T]
    content: bytes = field(default=b"", repr=False)
    repeats: bool = True
    pure: bool = False
    limited: bool = False
    addition: bool = False
    accepts: frozenset[int] = _OK
    seconds: float = 0.0
    refuse: Optional[Callable[[T], Optional[LoopaiException]]] = None
    task_id: Optional[str] = None
    version: Optional[int] = None
    items: int = 1
    secret: Optional[str] = field(default=None, repr=False)
    private: bool = False
    again: Optional[Callable[[str], Operation[T]]] = field(default=None, repr=False)
    callers: Sequence[Mapping[Any, Any]] = ()
    parts: Optional[BatchParts[T]] = field(default=None, repr=False)
    apart: bool = False
    first: bool = False
    only_item: Optional[Callable[[T], Mapping[str, Any]]] = field(default=None, repr=False)


@dataclass
class BatchParts(Generic[T]):
    """How a batch is sent in several requests: `whole` sends all items, `make` those at some positions.

    `make` takes the positions and how many items the server may run at a time. `given` converts the combined reply to
    the result of the call.
    """

    ids: Sequence[str]
    concurrency: int
    whole: Operation[models.BatchExecuteResponse]
    make: Callable[[Sequence[int], int], Operation[models.BatchExecuteResponse]]
    given: Callable[[models.BatchExecuteResponse], T]
    stop_on_first_error: bool = False
    apart: bool = False
    """Whether each item belongs to a different caller, who must not get another item's error."""

    @property
    def size(self) -> int:
        """How many items there are."""
        return len(self.ids)


def _of_task(
    build: Callable[Concatenate[str, P], Operation[T]],
) -> Callable[Concatenate[str, P], Operation[T]]:
    """Let the operation be made again if its task is a name that turns out to have another id."""

    @wraps(build)
    def made(task_id: str, /, *args: P.args, **options: P.kwargs) -> Operation[T]:
        operation = build(task_id, *args, **options)
        operation.again = lambda other: build(other, *args, **options)
        return operation

    return made


def _model(kind: type[M]) -> Callable[[Reply], M]:
    return lambda reply: kind.model_validate_json(reply.content)


def _models(kind: type[M]) -> Callable[[Reply], models.ReplyList[M]]:
    def read(reply: Reply) -> models.ReplyList[M]:
        decoded = from_json(reply.content)
        if not isinstance(decoded, list):
            raise ValueError(f"an array was expected, not {json_kind(decoded)}")
        return models.ReplyList(kind.model_validate_json(to_json(item)) for item in decoded)

    return read


def _text(reply: Reply) -> models.ReplyText:
    return models.ReplyText(reply.content.decode("utf-8", "replace"))


def _nothing(_: Reply) -> None:
    return None


@lru_cache(maxsize=4096)
def _task_path(task_id: str, rest: str = "") -> str:
    return f"/api/v1/tasks/{quote(task_id, safe='')}{rest}"


def _checked(errors: Mapping[str, Optional[str]]) -> None:
    wrong = {name: [text] for name, text in errors.items() if text}
    if wrong:
        raise ValidationException("the request is not valid and was not sent", errors=wrong)


# Tasks and artifacts


def create_task(
    name: str,
    description: str,
    input_schema: Any,
    output_schema: Any,
    examples: Optional[Iterable[Any]],
    accuracy_target: Optional[float],
    latency_target_ms: Optional[int],
    sampling_rate: Optional[float],
) -> Operation[models.Task]:
    body = {
        "name": name,
        "description": description,
        "input_schema": schema_of(input_schema, "input_schema", "serialization"),
        "output_schema": schema_of(output_schema, "output_schema", "validation"),
        "examples": None if examples is None else list(rows_of(examples, "examples")),
        "accuracy_target": accuracy_target,
        "latency_target_ms": latency_target_ms,
        "sampling_rate": sampling_rate,
    }
    schemas = ("input_schema", "output_schema")
    given = {key: value for key, value in body.items() if value is not None or key in schemas}
    content = encode(given)
    return Operation("create_task", "POST", "/api/v1/tasks", _model(models.Task), content, repeats=False, limited=True)


@_of_task
def get_task(task_id: str) -> Operation[models.Task]:
    return Operation("get_task", "GET", _task_path(task_id), _model(models.Task), limited=True, task_id=task_id)


def list_tasks() -> Operation[models.ReplyList[models.Task]]:
    return Operation("list_tasks", "GET", "/api/v1/tasks", _models(models.Task), addition=True)


def _wrong_name(name: Any) -> Optional[str]:
    if not name:
        return "is needed"
    if not isinstance(name, str):
        return f"must be text, not {name!r}"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has half of a surrogate pair, which is not valid text"
    return None


def get_task_by_name(name: str) -> Operation[models.Task]:
    _checked({"name": _wrong_name(name)})
    # The server accepts a name of only dots, but URL parsers in between resolve it as a parent folder.
    path = f"/api/v1/tasks/by-name/{quote(name, safe='') if name.strip('.') else name.replace('.', '%2E')}"
    return Operation("get_task_by_name", "GET", path, _model(models.Task), addition=True)


@_of_task
def list_artifacts(task_id: str) -> Operation[models.ReplyList[models.ProgramArtifact]]:
    return Operation(
        "list_artifacts",
        "GET",
        _task_path(task_id, "/artifacts"),
        _models(models.ProgramArtifact),
        limited=True,
        task_id=task_id,
    )


@_of_task
def get_artifact(task_id: str, version: int) -> Operation[models.ProgramArtifact]:
    path = _task_path(task_id, f"/artifacts/{quote(str(version), safe='')}")
    read = _model(models.ProgramArtifact)
    return Operation("get_artifact", "GET", path, read, limited=True, task_id=task_id, version=version)


@_of_task
def push_program(task_id: str, code: str, language: str, activate: bool) -> Operation[models.ProgramArtifact]:
    return Operation(
        "push_program",
        "POST",
        _task_path(task_id, "/artifacts"),
        _model(models.ProgramArtifact),
        encode({"code": code, "language": language, "activate": activate}),
        repeats=False,
        addition=True,
        task_id=task_id,
    )


@_of_task
def activate(task_id: str, version: int) -> Operation[models.ProgramArtifact]:
    return _of_version("activate", task_id, version)


@_of_task
def retire(task_id: str, version: int) -> Operation[models.ProgramArtifact]:
    return _of_version("retire", task_id, version)


def _of_version(verb: str, task_id: str, version: int) -> Operation[models.ProgramArtifact]:
    path = _task_path(task_id, f"/artifacts/{quote(str(version), safe='')}/{verb}")
    read = _model(models.ProgramArtifact)
    return Operation(verb, "POST", path, read, b"{}", addition=True, task_id=task_id, version=version)


@_of_task
def add_examples(task_id: str, examples: Iterable[Any]) -> Operation[models.Task]:
    content = encode({"examples": list(rows_of(examples, "examples"))})
    path = _task_path(task_id, "/examples")
    return Operation("add_examples", "POST", path, _model(models.Task), content, addition=True, task_id=task_id)


@_of_task
def generate(task_id: str) -> Operation[models.ProgramArtifact]:
    path = _task_path(task_id, "/generate")
    read = _model(models.ProgramArtifact)
    return Operation(
        "generate", "POST", path, read, b"{}", repeats=False, addition=True, seconds=GENERATION_SECONDS, task_id=task_id
    )


@_of_task
def start_generating(task_id: str) -> Operation[models.Task]:
    path = _task_path(task_id, "/generate")
    content = encode({"wait": False})
    return Operation(
        "generate", "POST", path, _model(models.Task), content, repeats=False, addition=True, task_id=task_id
    )


def can_wait() -> Operation[None]:
    """Ask whether the server makes programs when tasks are created: servers that can list tasks do."""
    return Operation("create_task(wait=True)", "GET", "/api/v1/tasks?limit=1", _nothing, addition=True)


@_of_task
def delete_task(task_id: str) -> Operation[None]:
    return Operation("delete_task", "DELETE", _task_path(task_id), _nothing, addition=True, task_id=task_id)


# Executions


_execution_result = _model(models.ExecutionResult)


@_of_task
def execute(
    task_id: str,
    input_data: Any,
    version: Optional[int],
    timeout_ms: Optional[int],
    force_validation: bool,
    raise_on_error: bool,
) -> Operation[models.ExecutionResult]:
    content = encode(input_data, "input")
    return Operation(
        "execute",
        "POST",
        _task_path(task_id, "/execute"),
        _execution_result,
        _execution(task_id, content, version, timeout_ms, force_validation),
        pure=True,
        limited=True,
        refuse=failed_program if raise_on_error else None,
        task_id=task_id,
        version=version,
    )


@lru_cache(maxsize=4096)
def _bare_execution(task_id: str) -> bytes:
    return b'{"task_id":%b,"input":' % to_json(task_id)


def _execution(
    task_id: str, content: bytes, version: Optional[int], timeout_ms: Optional[int], force_validation: bool
) -> bytes:
    if version is None and timeout_ms is None and not force_validation:
        return _bare_execution(task_id) + content + b"}"
    options = {"task_id": task_id, **_run_options(version, timeout_ms)}
    if force_validation:
        options["force_validation"] = True
    return to_json(options)[:-1] + b',"input":' + content + b"}"


def _run_options(version: Optional[int], timeout_ms: Optional[int]) -> dict[str, Any]:
    given = {"version": version, "timeout_ms": timeout_ms}
    return {name: value for name, value in given.items() if value is not None}


@_of_task
def execute_group(
    task_id: str,
    contents: Sequence[bytes],
    version: Optional[int],
    timeout_ms: Optional[int],
    force_validation: bool,
) -> Operation[models.ReplyList[models.ExecutionResult]]:
    """Several executions with encoded inputs as one request; a single one is sent like an ordinary call."""
    if len(contents) == 1:
        return Operation(
            "execute",
            "POST",
            _task_path(task_id, "/execute"),
            _single_result,
            _execution(task_id, contents[0], version, timeout_ms, force_validation),
            pure=True,
            limited=True,
            task_id=task_id,
            version=version,
            apart=True,
        )
    forced = b',"force_validation":true' if force_validation else b""
    items = [b'{"id":"%d","input":%b%b}' % (n, content, forced) for n, content in enumerate(contents)]
    limit_ms = timeout_ms or PROGRAM_TIMEOUT_MS

    def make(places: Sequence[int], concurrency: int) -> Operation[models.BatchExecuteResponse]:
        options = {"task_id": task_id, "max_concurrency": concurrency, **_run_options(version, timeout_ms)}
        return Operation(
            "execute",
            "POST",
            "/api/v1/batch/execute",
            _batch_of([str(place) for place in places]),
            to_json(options)[:-1] + b',"items":[' + b",".join([items[place] for place in places]) + b"]}",
            pure=True,
            limited=True,
            seconds=math.ceil(len(places) / concurrency) * limit_ms / 1000,
            task_id=task_id,
            version=version,
            items=len(places),
        )

    def given(batch: models.BatchExecuteResponse) -> models.ReplyList[models.ExecutionResult]:
        made = models.ReplyList(_result_of_item(batch.task_id, item, version) for item in batch.results)
        made.reply = batch.reply
        return made

    # At most 100 items are sent together, and the server runs them all at the same time.
    ids, most = [str(place) for place in range(len(items))], len(items)
    whole = make(range(most), most)
    parts: BatchParts[Any] = BatchParts(ids, most, whole, make, given, apart=True)
    made: Operation[Any] = replace(whole, parts=parts, apart=True)
    made.read = lambda reply: given(whole.read(reply))
    return made


def _single_result(reply: Reply) -> models.ReplyList[models.ExecutionResult]:
    return models.ReplyList([_execution_result(reply)])


def _batch(reply: Reply) -> models.BatchExecuteResponse:
    """Read the reply to a batch, in which an unreadable result becomes a failed item."""
    try:
        return models.BatchExecuteResponse.model_validate_json(reply.content)
    except ValidationError:
        parts = results_of(reply.content)
        if parts is None:
            raise
    frame, contents = parts
    batch = models.BatchExecuteResponse.model_validate_json(frame)
    batch.results = [read_item(models.BatchExecuteResult, content) for content in contents]
    batch.success_count = sum(item.success for item in batch.results)
    batch.failure_count = len(batch.results) - batch.success_count
    return batch


def _batch_of(ids: Sequence[str]) -> Callable[[Reply], models.BatchExecuteResponse]:
    """Return a reader for the reply to these items, whose ids differ, that restores their order."""

    def read(reply: Reply) -> models.BatchExecuteResponse:
        batch = _batch(reply)
        by_id = {item.id: item for item in batch.results}
        if by_id.keys() != set(ids):
            raise ValueError(f"{len(ids)} items were sent, and these came back: {', '.join(by_id) or 'none'}")
        batch.results = [by_id[name] for name in ids]
        return batch

    return read


def _batch_by_place(count: int) -> Callable[[Reply], models.BatchExecuteResponse]:
    """Return a reader for the reply to `count` items, whose ids may repeat."""

    def read(reply: Reply) -> models.BatchExecuteResponse:
        batch = _batch(reply)
        if len(batch.results) != count:
            raise ValueError(f"{count} items were sent, and {len(batch.results)} came back")
        return batch

    return read


def _batch_in_order(ids: Sequence[str]) -> Callable[[Reply], models.BatchExecuteResponse]:
    """Return a reader for a batch of the caller's items, whose ids may repeat, that restores their order.

    A reply whose ids all differ is unchanged: its ids identify the results.
    """
    sent = set(ids)

    def read(reply: Reply) -> models.BatchExecuteResponse:
        batch = _batch(reply)
        came = [item.id for item in batch.results]
        if came == list(ids) or (came and sent.isdisjoint(came)):
            return batch
        if Counter(came) != Counter(ids):
            raise ValueError(f"{len(ids)} items were sent, and these came back: {', '.join(came)[:200] or 'none'}")
        by_id: dict[str, list[models.BatchExecuteResult]] = {}
        for item in reversed(batch.results):
            by_id.setdefault(item.id, []).append(item)
        batch.results = [by_id[name].pop() for name in ids]
        return batch

    return read


def _result_of_item(task_id: UUID, item: models.BatchExecuteResult, version: Optional[int]) -> models.ExecutionResult:
    values = {
        "execution_id": item.execution_id,
        "task_id": task_id,
        "version": version,
        "status": "success" if item.success else "error",
        "latency_ms": item.latency_ms,
        "sampled_for_validation": item.sampled_for_validation,
        "confidence": item.confidence,
    }
    told = "output" if item.success else "error_message"
    values[told] = getattr(item, told)
    # Not `model_construct`, which takes four times as long as validating again.
    return models.ExecutionResult.model_validate(values)


def failed_program(result: models.ExecutionResult) -> Optional[LoopaiException]:
    """Return the exception for an execution whose program failed; `None` if it succeeded.

    It is a `NotFoundException` if the result of a batch reports an unknown task or version.
    """
    if result.succeeded:
        return None
    if names_missing(result.succeeded, result.execution_id, result.error_message):
        return NotFoundException(shortened(result.error_message or ""))
    execution_id = None if result.execution_id is None else str(result.execution_id)
    status = None if result.reply is None else result.reply.status_code
    message = shortened(result.error_message or "") or f"the program ended with status {result.status!r}"
    return ExecutionException(message, execution_id=execution_id, result=result, status_code=status)


def batch_execute(
    request: models.BatchExecuteRequest, task_id: Optional[str] = None
) -> Operation[models.BatchExecuteResponse]:
    """Return the batch as one request; `task_id` is its task, if more than the id's text is known."""
    return _batch_execute(str(request.task_id) if task_id is None else task_id, request)


@_of_task
def _batch_execute(task_id: str, request: models.BatchExecuteRequest) -> Operation[models.BatchExecuteResponse]:
    concurrency = 10 if request.max_concurrency is None else request.max_concurrency
    _checked(
        {
            "max_concurrency": None
            if 1 <= concurrency <= MOST_CONCURRENCY
            else f"must be between 1 and {MOST_CONCURRENCY}"
        }
    )
    limit_ms = PROGRAM_TIMEOUT_MS if request.timeout_ms is None else max(request.timeout_ms, 0)
    members = {name: value for name, value in _given(request).items() if value is not None}

    def asked(
        items: Sequence[models.BatchExecuteItem],
        concurrency: int,
        read: Callable[[Reply], models.BatchExecuteResponse],
        **changed: Any,
    ) -> Operation[models.BatchExecuteResponse]:
        body = {**members, "task_id": task_id, "items": [_given(item) for item in items], **changed}
        return Operation(
            "batch_execute",
            "POST",
            "/api/v1/batch/execute",
            read,
            encode(body),
            pure=True,
            limited=True,
            seconds=math.ceil(len(items) / concurrency) * limit_ms / 1000,
            task_id=task_id,
            version=request.version,
            items=len(items),
        )

    def make(places: Sequence[int], concurrency: int) -> Operation[models.BatchExecuteResponse]:
        items = [request.items[place] for place in places]
        return asked(items, concurrency, _batch_by_place(len(places)), max_concurrency=concurrency)

    ids = [item.id for item in request.items]
    whole = asked(request.items, concurrency, _batch_in_order(ids))
    stops = bool(request.stop_on_first_error)
    return replace(whole, parts=BatchParts(ids, concurrency, whole, make, lambda batch: batch, stops))


def _given(model: BaseModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in model.model_fields_set}


def batch_of(
    task_id: str, inputs: Iterable[Any], max_concurrency: int, missing: Missing = "null"
) -> models.BatchExecuteRequest:
    """Return the batch of bare inputs, numbered "0", "1", … in order."""
    rows = enumerate(rows_of(inputs, "inputs", missing))
    items = [models.BatchExecuteItem(id=str(number), input=item) for number, item in rows]
    return models.BatchExecuteRequest(task_id=task_id, items=items, max_concurrency=max_concurrency)


Item = Union[BaseModel, Mapping[str, Any]]


def items_of(kind: type[M], items: Iterable[Item], missing: Missing = "null") -> list[M]:
    """Return items as models; raises `ValidationException`, naming item and field, for invalid or unknown members."""
    checked, errors = [], {}
    for number, item in enumerate(rows_of(items, "items", missing)):
        known = kind.model_fields
        values = dict(item) if isinstance(item, Mapping) else item
        members = values if isinstance(values, dict) else getattr(item, "model_extra", None) or {}
        for name in members.keys() - known.keys():
            errors[f"items[{number}].{name}"] = [f"unknown member; an item has {', '.join(known)}"]
        if isinstance(item, kind):
            checked.append(item)
            continue
        try:
            checked.append(kind.model_validate(values))
        except ValidationError as error:
            for problem in error.errors(include_url=False, include_input=False):
                place = ".".join(str(part) for part in problem["loc"])
                errors[f"items[{number}]" + (f".{place}" if place else "")] = [problem["msg"]]
    if errors:
        raise ValidationException("the items are not valid and were not sent", errors=errors)
    return checked


def batch_validate(
    task_id: str, items: Iterable[Item], missing: Missing = "null"
) -> Operation[models.BatchValidateResponse]:
    return _batch_validate(task_id, items_of(models.BatchValidateItem, items, missing))


@_of_task
def _batch_validate(task_id: str, items: list[models.BatchValidateItem]) -> Operation[models.BatchValidateResponse]:
    return Operation(
        "batch_validate",
        "POST",
        "/api/v1/batch/validate",
        _model(models.BatchValidateResponse),
        encode({"task_id": task_id, "items": [_given(item) for item in items]}),
        limited=True,
        task_id=task_id,
        items=len(items),
    )


# Health


def get_health() -> Operation[models.HealthResponse]:
    return Operation("get_health", "GET", "/api/v1/health", _model(models.HealthResponse))


def get_detailed_health() -> Operation[models.DetailedHealthResponse]:
    read = _model(models.DetailedHealthResponse)
    return Operation("get_detailed_health", "GET", "/api/v1/health/detailed", read, accepts=_OK_OR_UNAVAILABLE)


def get_ready() -> Operation[models.ReadyResponse]:
    read = _model(models.ReadyResponse)
    return Operation("get_ready", "GET", "/api/v1/health/ready", read, accepts=_OK_OR_UNAVAILABLE)


def get_live() -> Operation[models.LiveResponse]:
    return Operation("get_live", "GET", "/api/v1/health/live", _model(models.LiveResponse))


_HEALTH_WORDS = frozenset({"healthy", "degraded", "unhealthy"})  # what ASP.NET's health endpoint writes


def _plain_health(reply: Reply) -> models.HealthResponse:
    text = reply.content.decode("utf-8", "replace").strip()
    # The earlier server answers this path with the JSON of /api/v1/health.
    if text.startswith("{"):
        return models.HealthResponse.model_validate_json(text)
    if text.lower() not in _HEALTH_WORDS:
        raise ValueError("Healthy, Degraded or Unhealthy was expected")
    return models.HealthResponse(status=text.lower())


def get_plain_health() -> Operation[models.HealthResponse]:
    return Operation("get_plain_health", "GET", "/health", _plain_health)


def get_metrics() -> Operation[models.ReplyText]:
    return Operation("get_metrics", "GET", "/metrics", _text)


# Recorded executions


def _executions_query(**given: Any) -> str:
    try:
        query = urlencode({name: value for name, value in given.items() if value is not None})
    except UnicodeEncodeError as error:
        text = f"has half of a surrogate pair, which is not valid text: {error.object!r}"
        raise ValidationException(text, errors={"query": [text]}) from None
    return f"?{query}" if query else ""


@_of_task
def list_executions(
    task_id: str, limit: int, before: Optional[str], status: Optional[str]
) -> Operation[models.ReplyList[models.ExecutionRecord]]:
    path = _task_path(task_id, f"/executions{_executions_query(limit=limit, before=before, status=status)}")
    read = _models(models.ExecutionRecord)
    return Operation("list_executions", "GET", path, read, addition=True, task_id=task_id)


@_of_task
def export_executions(task_id: str, status: Optional[str]) -> Operation[models.ReplyText]:
    path = _task_path(task_id, f"/executions/export{_executions_query(status=status)}")
    return Operation("export_executions", "GET", path, _text, addition=True, task_id=task_id)


def delete_executions(older_than_days: int) -> Operation[models.DeletedExecutions]:
    path = f"/api/v1/executions{_executions_query(older_than_days=older_than_days)}"
    return Operation("delete_executions", "DELETE", path, _model(models.DeletedExecutions), addition=True)


# Validation, comparison, canaries


def _program_path(program_id: str, rest: str) -> str:
    return f"/api/v1/validation/programs/{quote(program_id, safe='')}/{rest}"


def get_validation_summary(program_id: str) -> Operation[models.ValidationSummary]:
    path = _program_path(program_id, "summary")
    return Operation("get_validation_summary", "GET", path, _model(models.ValidationSummary))


def get_recommendations(program_id: str) -> Operation[models.ImprovementRecommendation]:
    path = _program_path(program_id, "recommendations")
    return Operation("get_recommendations", "GET", path, _model(models.ImprovementRecommendation))


def improve_program(program_id: str) -> Operation[models.ImprovementResult]:
    path = _program_path(program_id, "improve")
    return Operation("improve_program", "POST", path, _model(models.ImprovementResult), repeats=False)


def compare_programs(
    control_program_id: str,
    treatment_program_id: str,
    configuration: Union[models.ComparisonConfiguration, Mapping[str, Any], None],
) -> Operation[models.ComparisonResult]:
    body: dict[str, Any] = {
        "control_program_id": control_program_id,
        "treatment_program_id": treatment_program_id,
    }
    if configuration is not None:
        body["configuration"] = _given(configuration) if isinstance(configuration, BaseModel) else configuration
    return Operation(
        "compare_programs",
        "POST",
        "/api/v1/validation/programs/compare",
        _model(models.ComparisonResult),
        encode(body),
    )


@_of_task
def start_canary(task_id: str, new_program_id: str) -> Operation[models.CanaryDeployment]:
    content = encode({"task_id": task_id, "new_program_id": new_program_id})
    path = "/api/v1/validation/programs/canary/start"
    read = _model(models.CanaryDeployment)
    return Operation("start_canary", "POST", path, read, content, repeats=False, task_id=task_id)


def progress_canary(canary_id: str) -> Operation[models.CanaryDeployment]:
    path = f"/api/v1/validation/programs/canary/{quote(canary_id, safe='')}/progress"
    return Operation("progress_canary", "POST", path, _model(models.CanaryDeployment), repeats=False)


def rollback_canary(canary_id: str, reason: str) -> Operation[models.CanaryDeployment]:
    path = f"/api/v1/validation/programs/canary/{quote(canary_id, safe='')}/rollback"
    content = encode({"reason": reason})
    return Operation("rollback_canary", "POST", path, _model(models.CanaryDeployment), content, repeats=False)


def _canary_or_none(reply: Reply) -> Optional[models.CanaryDeployment]:
    return None if reply.status == 204 else models.CanaryDeployment.model_validate_json(reply.content)


@_of_task
def get_canary(task_id: str) -> Operation[Optional[models.CanaryDeployment]]:
    path = f"/api/v1/validation/tasks/{quote(task_id, safe='')}/canary"
    return Operation("get_canary", "GET", path, _canary_or_none, task_id=task_id)


# Webhooks


def subscribe_webhook(
    url: str,
    event_types: Sequence[Union[str, int]],
    secret: Optional[str],
    max_retries: Optional[int],
    timeout_seconds: Optional[int],
    headers: Optional[Mapping[str, str]],
) -> Operation[models.WebhookSubscription]:
    kinds = [event_types] if isinstance(event_types, (str, int)) else event_types
    try:
        names = [str(models.event_type(kind)) for kind in kinds]
    except ValueError as error:
        raise ValidationException(str(error), errors={"event_types": [str(error)]}) from None
    body = {
        "url": url,
        "event_types": names,
        "secret": secret,
        "max_retries": max_retries,
        "timeout_seconds": timeout_seconds,
        "headers": headers,
    }
    return Operation(
        "subscribe_webhook",
        "POST",
        "/api/v1/webhooks/subscribe",
        _model(models.WebhookSubscription),
        encode({key: value for key, value in body.items() if value is not None}),
        repeats=False,
        secret=secret,
        private=True,
    )


def unsubscribe_webhook(subscription_id: str) -> Operation[None]:
    path = f"/api/v1/webhooks/{quote(subscription_id, safe='')}"
    return Operation("unsubscribe_webhook", "DELETE", path, _nothing)


def list_webhooks() -> Operation[models.ReplyList[models.WebhookSubscription]]:
    read = _models(models.WebhookSubscription)
    return Operation("list_webhooks", "GET", "/api/v1/webhooks", read, private=True)


def get_webhook_history(subscription_id: str, limit: int) -> Operation[models.ReplyList[models.WebhookDelivery]]:
    path = f"/api/v1/webhooks/{quote(subscription_id, safe='')}/history?{urlencode({'limit': limit})}"
    return Operation("get_webhook_history", "GET", path, _models(models.WebhookDelivery))


@lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    return str(UUID(text))


def id_of(value: Union[str, UUID], what: str) -> str:
    """Return `value` as an id; raises `ValidationException` naming `what`."""
    try:
        return _canonical(str(value))
    except ValueError:
        text = f"{value!r} is not a UUID"
        raise ValidationException(f"{what}: {text}", errors={what: [text]}) from None


def task_of(value: Union[str, UUID], names: Mapping[str, str]) -> Optional[str]:
    """Return the id that `value` is, or has in `names`; `None` for another name.

    Raises `ValidationException` for a value that is neither a text nor a UUID.
    """
    if not isinstance(value, (str, UUID)) or value == "":
        text = f"{value!r} is neither a UUID nor a name"
        raise ValidationException(f"task_id: {text}", errors={"task_id": [text]})
    wrong = _wrong_name(value) if isinstance(value, str) else None
    if wrong is not None:
        raise ValidationException(f"task_id: {value!r} {wrong}", errors={"task_id": [wrong]})
    try:
        return _canonical(names.get(value, value) if isinstance(value, str) else str(value))
    except ValueError:
        return None
