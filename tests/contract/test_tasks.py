"""Creating tasks and looking them up, on every client and transport."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydantic import BaseModel

from loopai import ConflictException, ExecutionException, NotFoundException, ValidationException

from .conftest import PROGRAM, Calls


async def test_a_created_task_reads_back_as_it_was_made(calls: Calls, name: str) -> None:
    """What `create_task` answers is what `get_task` answers, targets to the last digit."""
    made = await calls.create_task(
        name, "d", {"type": "object"}, {"type": "string"}, [{"input": {}, "output": "x"}], 0.95, 20, 0.1
    )
    read = await calls.get_task(made.id)
    assert (read.name, read.description, read.input_schema, read.output_schema) == (
        name,
        "d",
        {"type": "object"},
        {"type": "string"},
    )
    assert (read.accuracy_target, read.latency_target_ms, read.sampling_rate) == (0.95, 20, 0.1)
    assert read.examples == [{"input": {}, "output": "x"}]
    assert made.created_at.utcoffset() is not None
    assert made.created_at == read.created_at
    assert read.active_version is None
    assert read.total_versions == 0
    assert made.reply.status_code == 201
    assert made.reply.headers["location"].lower().endswith(f"/api/v1/tasks/{made.id}")


async def test_defaults_are_the_servers(calls: Calls, name: str) -> None:
    """What is not given takes the server's default."""
    made = await calls.create_task(name, "d", {}, {})
    assert (made.accuracy_target, made.latency_target_ms, made.sampling_rate, made.examples) == (0.9, 10, 0.1, [])


async def test_schemas_may_be_pydantic_classes(calls: Calls, name: str) -> None:
    """A model class stands for its JSON schema."""

    class Mail(BaseModel):
        subject: str

    made = await calls.create_task(name, "d", Mail, str)
    assert made.input_schema["properties"]["subject"]["type"] == "string"
    assert made.output_schema == {"type": "string"}


async def test_every_broken_rule_is_named_by_its_python_field(calls: Calls) -> None:
    """All rules that fail are reported together."""
    with pytest.raises(ValidationException) as caught:
        await calls.create_task("", " ", {}, {}, accuracy_target=1.5, latency_target_ms=0, sampling_rate=-1)
    assert caught.value.code == "VALIDATION_ERROR"
    assert caught.value.trace_id
    assert caught.value.errors == {
        "name": [
            "Task name is required",
            "Task name must contain only alphanumeric characters, underscores, hyphens, and periods",
        ],
        "description": ["Task description is required"],
        "accuracy_target": ["Accuracy target must be between 0.0 and 1.0"],
        "latency_target_ms": ["Latency target must be between 1 and 60000 milliseconds"],
        "sampling_rate": ["Sampling rate must be between 0.0 and 1.0"],
    }


async def test_a_taken_name_is_a_conflict(calls: Calls, task: Any) -> None:
    """Names are unique."""
    with pytest.raises(ConflictException) as caught:
        await calls.create_task(task.name, "d", {}, {})
    assert caught.value.code == "TASK_ALREADY_EXISTS"
    assert caught.value.message == f"Task with name '{task.name}' already exists"


async def test_an_unknown_task_is_not_found(calls: Calls) -> None:
    """404 with the server's own words."""
    task_id = uuid.uuid4()
    with pytest.raises(NotFoundException) as caught:
        await calls.get_task(task_id)
    assert caught.value.code == "TASK_NOT_FOUND"
    assert caught.value.message == f"Task with ID {task_id} not found"
    assert caught.value.status_code == 404


@pytest.mark.addition("looking tasks up by name")
async def test_a_task_is_found_by_its_name(calls: Calls, task: Any) -> None:
    """A name stands wherever an id does; a name that nobody has is not found."""
    assert (await calls.get_task(task.name)).id == task.id
    assert (await calls.list_artifacts(task.name))[0].task_id == task.id
    assert (await calls.execute(task.name, {"text": "prize"})).output == {"label": "spam"}
    batch = await calls.batch_execute(task.name, [{"text": "prize"}])
    assert batch.task_id == task.id
    with pytest.raises(NotFoundException, match="no-such-task"):
        await calls.execute("no-such-task", 1)


@pytest.mark.addition("listing tasks")
async def test_additions_list_and_find_tasks(calls: Calls, task: Any) -> None:
    """The embedded server lists tasks and finds one by its name."""
    assert task.id in [found.id for found in await calls.list_tasks()]
    assert (await calls.get_task_by_name(task.name)).id == task.id
    with pytest.raises(NotFoundException):
        await calls.get_task_by_name("no-such-task-anywhere")


@pytest.mark.addition("pushing programs")
async def test_pushed_programs_are_versions(calls: Calls, task: Any) -> None:
    """Artifacts come by ascending version; a pushed program is the newest and, unless held back, the active one."""
    draft = await calls.push_program(task.id, PROGRAM, activate=False)
    assert (draft.version, draft.status, draft.language) == (2, "draft", "python")
    artifacts = await calls.list_artifacts(task.id)
    assert [artifact.version for artifact in artifacts] == [1, 2]
    assert artifacts.reply.status_code == 200
    read = await calls.get_artifact(task.id, 1)
    assert (read.code, read.status, read.deployment_percentage) == (PROGRAM, "active", 100)
    now = await calls.get_task(task.id)
    assert (now.active_version, now.total_versions) == (1, 2)


async def test_artifacts_that_are_not_there(calls: Calls, task: Any) -> None:
    """A missing version is 404; an unknown task has an empty list."""
    with pytest.raises(NotFoundException) as caught:
        await calls.get_artifact(task.id, 9)
    assert caught.value.code == "ARTIFACT_NOT_FOUND"
    assert await calls.list_artifacts(uuid.uuid4()) == []


@pytest.mark.addition("pushing programs")
@pytest.mark.parametrize(
    ("code", "language", "field"), [("def main(input", "python", "code"), ("x", "cobol", "language")]
)
async def test_a_program_that_cannot_run_is_refused(
    calls: Calls, task: Any, code: str, language: str, field: str
) -> None:
    """A push that does not load changes nothing."""
    with pytest.raises(ValidationException) as caught:
        await calls.push_program(task.id, code, language)
    assert list(caught.value.errors) == [field]
    assert len(await calls.list_artifacts(task.id)) == 1


TENFOLD = [{"input": {"n": n}, "output": n * 10} for n in (1, 2, 3, 7)]


@pytest.mark.addition("changing programs of a task")
async def test_a_version_is_activated_and_retired(calls: Calls, task: Any) -> None:
    """The highest active version runs: activating an earlier one retires the later ones."""
    for label in ("one", "two"):
        await calls.push_program(task.id, f"def main(input):\n    return {label!r}")
    versions = [artifact.version for artifact in await calls.list_artifacts(task.id)]
    first, second = versions[-2:]
    assert (await calls.execute(task.id, {"text": "x"})).output == "two"
    assert (await calls.activate(task.id, first)).status == "active"
    assert (await calls.execute(task.id, {"text": "x"})).output == "one"
    assert (await calls.get_artifact(task.id, second)).status == "deprecated"
    assert (await calls.activate(task.id, second)).status == "active"
    assert (await calls.retire(task.id, second)).status == "deprecated"
    assert (await calls.execute(task.id, {"text": "x"})).output == "one"
    with pytest.raises(NotFoundException):
        await calls.activate(task.id, 99)
    with pytest.raises(NotFoundException):
        await calls.retire(uuid.uuid4(), 1)


@pytest.mark.addition("changing programs of a task")
async def test_a_task_learns_from_more_examples(calls: Calls) -> None:
    """One that could not be learnt is not dead; a later version is active where it is better than the active one."""
    made = await calls.create_task(f"grows-{uuid.uuid4().hex[:12]}", "ten times", {"type": "object"}, {}, examples=[])
    with pytest.raises(ExecutionException):
        await calls.execute(made.id, {"n": 4})
    with pytest.raises(ExecutionException):
        await calls.generate(made.id)
    assert len((await calls.add_examples(made.id, TENFOLD)).examples) == 4
    assert len((await calls.add_examples(made.id, TENFOLD[:1])).examples) == 4
    assert (await calls.execute(made.id, {"n": 4})).output == 40
    again = await calls.generate(made.id)
    assert (again.version, again.status) == (2, "draft")
    with pytest.raises(NotFoundException):
        await calls.add_examples(uuid.uuid4(), TENFOLD)
    with pytest.raises(NotFoundException):
        await calls.generate(uuid.uuid4())


@pytest.mark.addition("making programs when tasks are created")
async def test_a_program_is_waited_for(calls: Calls, name: str) -> None:
    """From the creation of its task, or for the next version; with what became of it, and without waiting."""
    made = await calls.create_task(name, "ten times", {"type": "object"}, {}, TENFOLD, wait=True)
    assert (made.active_version, made.generation.status, made.generation.version) == (1, "made", 1)
    assert (await calls.get_task(made.id)).generation == made.generation
    stages: list[Any] = []
    again = await calls.generate(made.id, on_progress=stages.append)
    assert (again.version, again.status) == (2, "draft")
    assert again.notes
    assert {state.status for state in stages} == {"running"}
    begun = await calls.generate(made.id, wait=False)
    assert (begun.id, begun.generation.status) == (made.id, "running")
    few = await calls.create_task(f"{name}-few", "ten times", {"type": "object"}, {}, TENFOLD[:1], wait=True)
    assert (few.generation.status, few.active_version) == ("failed", None)
    assert any("too few" in warning for warning in few.warnings)


@pytest.mark.addition("deleting tasks")
async def test_a_deleted_task_is_gone(calls: Calls) -> None:
    """With its programs and executions; its name is free again."""
    name = f"gone-{uuid.uuid4().hex[:12]}"
    made = await calls.create_task(name, "echo", {}, {})
    await calls.push_program(made.id, "def main(input):\n    return input")
    await calls.execute(made.id, 1)
    await calls.delete_task(made.id)
    with pytest.raises(NotFoundException):
        await calls.get_task(made.id)
    with pytest.raises(NotFoundException):
        await calls.execute(made.id, 1)
    assert await calls.list_artifacts(made.id) == []
    with pytest.raises(NotFoundException):
        await calls.delete_task(made.id)
    assert (await calls.create_task(name, "echo", {}, {})).name == name
