"""The contract's example bodies, each through its model and back."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from loopai import models
from loopai._core import operations
from loopai._core.wire import Reply

EXAMPLES = Path(__file__).parents[1] / "contract" / "examples"

MODELS: dict[str, type[BaseModel]] = {
    "batch.execute.request": models.BatchExecuteRequest,
    "batch.execute.response.empty": models.BatchExecuteResponse,
    "batch.execute.response.partial_failure": models.BatchExecuteResponse,
    "batch.execute.response.success": models.BatchExecuteResponse,
    "batch.execute.response.unknown_version": models.BatchExecuteResponse,
    "batch.validate.request": models.BatchValidateRequest,
    "batch.validate.response": models.BatchValidateResponse,
    "execute.request": models.ExecuteRequest,
    "execute.request.full": models.ExecuteRequest,
    "execute.response.output_null": models.ExecutionResult,
    "execute.response.program_error": models.ExecutionResult,
    "execute.response.success": models.ExecutionResult,
    "execute.response.timeout": models.ExecutionResult,
    "generator.request": models.GeneratorRequest,
    "generator.response": models.GeneratorResponse,
    "health.detailed.response": models.DetailedHealthResponse,
    "health.detailed.response.degraded": models.DetailedHealthResponse,
    "health.live.response": models.LiveResponse,
    "health.ready.response": models.ReadyResponse,
    "health.ready.response.exception": models.ReadyResponse,
    "health.ready.response.not_ready": models.ReadyResponse,
    "health.response": models.HealthResponse,
    "tasks.artifacts.get.response": models.ProgramArtifact,
    "tasks.create.request": models.CreateTaskRequest,
    "tasks.create.request.minimal": models.CreateTaskRequest,
    "tasks.create.response": models.Task,
    "tasks.get.response": models.Task,
    "tasks.get.response.no_program": models.Task,
    "validation.canary.active.response": models.CanaryDeployment,
    "validation.canary.progress.response.paused": models.CanaryDeployment,
    "validation.canary.progress.response.promoted": models.CanaryDeployment,
    "validation.canary.rollback.request": models.RollbackCanaryRequest,
    "validation.canary.rollback.response": models.CanaryDeployment,
    "validation.canary.start.request": models.StartCanaryRequest,
    "validation.canary.start.response": models.CanaryDeployment,
    "validation.compare.request": models.CompareProgramsRequest,
    "validation.compare.request.minimal": models.CompareProgramsRequest,
    "validation.compare.response": models.ComparisonResult,
    "validation.improve.response": models.ImprovementResult,
    "validation.recommendations.response": models.ImprovementRecommendation,
    "validation.recommendations.response.no_data": models.ImprovementRecommendation,
    "validation.summary.response": models.ValidationSummary,
    "validation.summary.response.no_data": models.ValidationSummary,
    "webhooks.delivery.payload": models.WebhookEvent,
    "webhooks.subscribe.request": models.SubscribeRequest,
    "webhooks.subscribe.response": models.WebhookSubscription,
}
LISTS: dict[str, type[BaseModel]] = {
    "tasks.artifacts.list.response": models.ProgramArtifact,
    "tasks.artifacts.list.response.empty": models.ProgramArtifact,
    "webhooks.history.response": models.WebhookDelivery,
    "webhooks.list.response": models.WebhookSubscription,
}
LEGACY: dict[str, type[BaseModel]] = {
    "legacy.batch.execute.request.camel": models.BatchExecuteRequest,
    "legacy.batch.execute.response": models.BatchExecuteResponse,
    "legacy.execute.response": models.ExecutionResult,
    "legacy.health.response": models.HealthResponse,
    "legacy.task.response": models.Task,
}
ERRORS = sorted(path.stem for path in EXAMPLES.glob("*error.*.json"))


def error_model(name: str) -> type[BaseModel]:
    return (
        models.ProblemDetails
        if "problem_details" in name or "fluent_validation.route" in name
        else models.ErrorResponse
    )


def read(name: str) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_bytes())


def test_every_example_file_is_tested() -> None:
    """A file that is added to the examples fails here until it has its model."""
    files = {path.name for path in EXAMPLES.iterdir()}
    assert files == {f"{name}.json" for name in [*MODELS, *LISTS, *LEGACY, *ERRORS]} | {"health.plain.response.txt"}
    assert len(ERRORS) > 25


@pytest.mark.parametrize("name", MODELS)
def test_a_body_dumps_back_as_it_came(name: str) -> None:
    """Members and omissions survive, and so do dates to the letter."""
    body = read(name)
    model = MODELS[name].model_validate_json(json.dumps(body))
    assert model.model_dump(mode="json") == body
    assert json.loads(model.model_dump_json()) == body
    assert MODELS[name].model_validate(body).model_dump(mode="json") == body
    assert not model.model_extra


@pytest.mark.parametrize("name", LISTS)
def test_a_list_dumps_back_as_it_came(name: str) -> None:
    """A list is read item by item."""
    body = read(name)
    assert [LISTS[name].model_validate(item).model_dump(mode="json") for item in body] == body


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_body_dumps_back_as_it_came(name: str) -> None:
    """Error bodies have models too, for whoever reads them elsewhere."""
    body = read(name)
    dumped = error_model(name).model_validate(body).model_dump(mode="json")
    assert dumped == {"execution_id" if key == "executionId" else key: value for key, value in body.items()}


def snake(value: Any) -> Any:
    if isinstance(value, list):
        return [snake(item) for item in value]
    if isinstance(value, dict):
        return {models.python_name(key): item for key, item in value.items()}
    return value


@pytest.mark.parametrize("name", LEGACY)
def test_the_earlier_dialect_reads_into_the_same_models(name: str) -> None:
    """camelCase members arrive under their snake_case names with the values that were sent."""
    body = read(name)
    dumped = LEGACY[name].model_validate(body).model_dump(mode="json")
    renamed = {
        ("execution_id" if key == "id" and name == "legacy.execute.response" else key): value
        for key, value in snake(body).items()
    }
    for many in ("results", "items"):
        if many in renamed:
            renamed[many] = snake(renamed[many])
    assert dumped == renamed


def test_the_earlier_execution_has_its_id_under_both_names() -> None:
    """`id` of the earlier server is `execution_id`, readable as `id` as well."""
    result = models.ExecutionResult.model_validate(read("legacy.execute.response"))
    assert result.id == result.execution_id == UUID(read("legacy.execute.response")["id"])
    assert result.succeeded
    assert result.reply is None


def test_plain_health_is_one_word() -> None:
    """`GET /health` is not JSON: its word becomes a status; the earlier server's JSON is read as well."""
    read_reply = operations.get_plain_health().read
    plain = (EXAMPLES / "health.plain.response.txt").read_bytes()
    assert read_reply(Reply(200, {}, plain)).status == "healthy"
    legacy = (EXAMPLES / "legacy.health.response.json").read_bytes()
    assert read_reply(Reply(200, {}, legacy)).version == json.loads(legacy)["version"]


STRANGE = ["newMember", "id_2", "reply", "_reply", "model_dump", "model_fields_set", "self", "", "__class__", "é"]


FREE = {"input_schema", "output_schema", "examples", "input", "output", "expected_output", "headers", "components"}
"""Members that hold what somebody else decides: strangers there would change it rather than extend it."""


def with_strangers(value: Any) -> Any:
    """The body with members that nobody knows in each of its objects."""
    if isinstance(value, list):
        return [with_strangers(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: item if key in FREE else with_strangers(item) for key, item in value.items()}
    return {**inner, **{name: {"nested": [1, None, {"deep": True}]} for name in STRANGE}}


@pytest.mark.parametrize("name", [*MODELS, *LISTS])
def test_unknown_members_are_never_fatal(name: str) -> None:
    """A newer server adds members anywhere: they are kept and dumped again, and hide nothing of the model's own."""
    kind = {**MODELS, **LISTS}[name]
    bodies = read(name)
    for body in bodies if isinstance(bodies, list) else [bodies]:
        strange = with_strangers(body)
        model = kind.model_validate_json(json.dumps(strange))
        assert model.model_dump(mode="json") == strange
        assert model.model_extra is not None
        assert set(STRANGE) <= set(model.model_extra)
        assert getattr(model, "reply", None) is None


def test_naive_dates_are_utc_and_keep_their_writing() -> None:
    """A date without offset is UTC; its seventh digit comes back, also after pickle and copy."""
    body = read("tasks.get.response")
    task = models.Task.model_validate(body)
    assert task.created_at == datetime(2025, 11, 3, 8, 15, 30, 123456, tzinfo=timezone.utc)
    assert task.created_at.utcoffset() == timedelta(0)
    for copied in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task), task.model_copy(deep=True)):
        assert copied == task
        assert copied.model_dump(mode="json") == body
    moved = task.created_at + timedelta(hours=1)
    assert task.model_copy(update={"created_at": moved}).model_dump(mode="json")["created_at"] == (
        "2025-11-03T09:15:30.123456Z"
    )


def test_a_date_with_an_offset_keeps_it() -> None:
    """An offset is neither lost nor recomputed."""
    health = models.HealthResponse.model_validate({"status": "ok", "timestamp": "2025-01-01T00:00:00.5+02:00"})
    assert health.timestamp == datetime(2024, 12, 31, 22, 0, 0, 500000, tzinfo=timezone.utc)
    assert health.model_dump(mode="json")["timestamp"] == "2025-01-01T00:00:00.5+02:00"


def test_your_own_objects_dump_what_you_gave() -> None:
    """Defaults that nobody set are left to the server; dates of your own are written with their offset."""
    assert models.BatchExecuteItem(id="a", input=None).model_dump(mode="json") == {"id": "a", "input": None}
    assert models.BatchExecuteItem(id="a", input=1).model_dump() == {"id": "a", "input": 1, "force_validation": False}
    moment = datetime(2025, 1, 1, tzinfo=timezone.utc)
    health = models.HealthResponse(status="ok", timestamp=moment)
    assert health.model_dump(mode="json") == {"status": "ok", "timestamp": "2025-01-01T00:00:00Z"}


@pytest.mark.parametrize("written", [3, "3", "canaryRollback", "CanaryRollback", "CANARYROLLBACK"])
def test_event_types_compare_by_name_however_written(written: Any) -> None:
    """Number, camelCase and PascalCase name the same event, and are written back as they came."""
    body = {**read("webhooks.delivery.payload"), "event_type": written}
    event = models.WebhookEvent.model_validate(body)
    assert event.event_type == "canaryRollback"
    assert event.model_dump(mode="json")["event_type"] == written
    again = pickle.loads(pickle.dumps(event))
    assert again == event
    assert again.model_dump(mode="json")["event_type"] == written
    assert models.WebhookEvent(**{**event.model_dump(), "event_type": event.event_type}) == event


@pytest.mark.parametrize("unknown", [6, -1, "6", "²", "canary", "program_execution_failed", "", True])
def test_unknown_event_types_are_named(unknown: Any) -> None:
    """The error lists the types there are."""
    with pytest.raises(ValueError, match=r"unknown event type .*programExecutionFailed"):
        models.event_type(unknown)


@pytest.mark.parametrize("newer", [6, "taskArchived", "TaskArchived", "7"])
def test_event_types_of_a_newer_server_are_kept(newer: Any) -> None:
    """They are read as they were written, and written back so; a subscription may list them as well."""
    event = models.WebhookEvent.model_validate({**read("webhooks.delivery.payload"), "event_type": newer})
    assert event.event_type == newer
    assert event.model_dump(mode="json")["event_type"] == newer
    assert pickle.loads(pickle.dumps(event)) == event
    listed = {**read("webhooks.subscribe.response"), "event_types": ["canaryRollback", newer]}
    assert models.WebhookSubscription.model_validate(listed).event_types == ["canaryRollback", newer]


@pytest.mark.parametrize("wrong", [-1, True, "", None, 1.5, ["canaryRollback"]])
def test_what_is_no_event_type_is_refused(wrong: Any) -> None:
    """Neither a name nor a number."""
    with pytest.raises(ValidationError):
        models.WebhookEvent.model_validate({**read("webhooks.delivery.payload"), "event_type": wrong})


SERVER_VALUES = [
    (f"{model.__name__}.{name}", model, name)
    for model in vars(models).values()
    if inspect.isclass(model) and issubclass(model, models.LoopaiModel)
    for name, field in model.model_fields.items()
    if get_origin(field.annotation) is Union and any(get_origin(one) is Literal for one in get_args(field.annotation))
]


@pytest.mark.parametrize(("model", "name"), [row[1:] for row in SERVER_VALUES], ids=[row[0] for row in SERVER_VALUES])
def test_a_newer_servers_value_is_kept(model: Any, name: str) -> None:
    """Each field that lists the values of today's server reads any other text, and writes it back."""
    adapter = TypeAdapter(model.model_fields[name].annotation)
    assert adapter.validate_python("newerThanThis") == "newerThanThis"
    assert adapter.dump_python(adapter.validate_json('"newerThanThis"'), mode="json") == "newerThanThis"


def test_every_closed_text_of_the_server_is_listed() -> None:
    """`status`, `stage`, `confidence` and the like say which values today's server gives."""
    closed = {"status", "stage", "current_stage", "action", "confidence", "recommendation", "severity"}
    listed = {row[0] for row in SERVER_VALUES}
    for model in vars(models).values():
        if inspect.isclass(model) and issubclass(model, models.LoopaiModel) and model is not models.ProblemDetails:
            texts = {
                name
                for name in closed & model.model_fields.keys()
                if "float" not in str(model.model_fields[name].annotation)
            }
            # A stage of a generation is a sentence for people.
            assert {f"{model.__name__}.{name}" for name in texts} - {"GenerationState.stage"} <= listed


def test_failures_of_a_batch() -> None:
    """`failures()` gives the rows that failed, in order."""
    batch = models.BatchExecuteResponse.model_validate(read("batch.execute.response.partial_failure"))
    assert [row.id for row in batch.failures()] == [row.id for row in batch.results if not row.success]
    assert len(list(batch.failures())) == batch.failure_count


def test_readiness_and_trace_ids_under_one_name() -> None:
    """`ready` is the status as a flag; `trace_id` is there in both error shapes."""
    assert models.ReadyResponse.model_validate(read("health.ready.response")).ready
    assert not models.ReadyResponse.model_validate(read("health.ready.response.not_ready")).ready
    problem = read("error.problem_details.route_guid")
    assert models.ProblemDetails.model_validate(problem).trace_id == problem["traceId"]
