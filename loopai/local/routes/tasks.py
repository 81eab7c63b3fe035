"""Tasks and their programs. The list, the look-up by name and pushing a program are additions to the contract."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response

from ... import models
from ...programs.input_check import SchemaTooLarge
from .. import bodies, responses
from ..calls import LARGEST_PAGE, ActionCall, action, guid_of
from ..documentation import route
from ..errors import ApiError, invalid
from ..records import Artifact, TaskState
from ..service import RUNNING, ExecutionFailed, ProgramRefused, TooManyExamples, UnknownTask
from ..store import NameTaken

TASKS = "/api/v1/tasks"
QUERY = (
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE}},
    {"name": "after", "in": "query", "schema": {"type": "string", "format": "uuid"}},
)
TASK = f"{TASKS}/{{task_id}}"


def _missing(task_id: str) -> ApiError:
    return ApiError(404, "TASK_NOT_FOUND", f"Task with ID {task_id} not found")


@action("TASK_CREATION_ERROR", "An error occurred while creating the task")
async def create_task(call: ActionCall) -> Response:
    """Create a task."""
    task = await call.body(bodies.CREATE_TASK)
    broken = bodies.broken_task_rules(task)
    if broken:
        raise invalid(broken)

    states: list[TaskState] = []

    def created(state: TaskState) -> Response:
        states.append(state)
        return responses.json_of(state.wire(), 201, {"Location": f"{call.origin}/api/v1/Tasks/{state.task.id}"})

    try:
        response = await call.commit(
            lambda seal: call.site.service.create_task(**task, seal=seal), created, task_id=task["name"]
        )
    except SchemaTooLarge as error:
        raise invalid([("InputSchema", f"Schemas are limited: {error}")]) from None
    except NameTaken:
        raise ApiError(409, "TASK_ALREADY_EXISTS", f"Task with name '{task['name']}' already exists") from None
    for state in states:
        if (state.generation or {}).get("status") == RUNNING:
            call.site.generation.start(state.task.id)
    return response


@action("TASK_RETRIEVAL_ERROR", "An error occurred while retrieving the task")
async def get_task(call: ActionCall) -> Response:
    """Return a task with its active version, warnings, questions, and the state of its generation."""
    task_id = call.guid("task_id", "taskId")
    return responses.json_of((await _told(call, task_id)).wire())


async def _told(call: ActionCall, task_id: str) -> TaskState:
    # Before reading the task: a generation that has ended by now has been written.
    progress = call.site.generation.progress(task_id)

    def read() -> TaskState | None:
        state = call.site.store.task(task_id)
        return None if state is None else call.site.versions.told(state, progress)

    state = await call.work(read)
    if state is None:
        raise _missing(task_id)
    return state


@action("TASK_RETRIEVAL_ERROR", "An error occurred while retrieving the tasks")
async def list_tasks(call: ActionCall) -> Response:
    """List tasks without their examples, oldest first, a page at a time.

    The header X-Next-Cursor, if present, is the next page's `after`.
    """
    limit = call.query("limit", 1, LARGEST_PAGE, LARGEST_PAGE) or LARGEST_PAGE
    after = call.request.query_params.get("after")
    if after is not None:
        after = guid_of("after", after)
    return await call.work(lambda: _tasks_page(call, limit, after))


def _tasks_page(call: ActionCall, limit: int, after: str | None) -> Response:
    states = call.site.store.tasks(limit + 1, after)
    page = states[:limit]
    headers = {"X-Next-Cursor": page[-1].task.id} if len(states) > limit else {}
    return responses.json_of([state.summary() for state in page], 200, headers)


@action("TASK_RETRIEVAL_ERROR", "An error occurred while retrieving the task")
async def get_task_by_name(call: ActionCall) -> Response:
    """Return the task of that name."""
    name = call.request.path_params["name"]
    state = await call.work(lambda: call.site.store.task_by_name(name))
    if state is None:
        raise ApiError(404, "TASK_NOT_FOUND", f"Task with name '{name}' not found")
    return responses.json_of((await _told(call, state.task.id)).wire())


@action("ARTIFACT_RETRIEVAL_ERROR", "An error occurred while retrieving artifacts")
async def list_artifacts(call: ActionCall) -> Response:
    """List a task's programs by ascending version; none for an unknown task."""
    task_id = call.guid("task_id", "taskId")
    found = await call.work(lambda: call.site.store.artifacts(task_id))
    return responses.json_of([artifact.wire() for artifact in found])


@action("ARTIFACT_RETRIEVAL_ERROR", "An error occurred while retrieving the artifact")
async def get_artifact(call: ActionCall) -> Response:
    """Return one version of a task's program."""
    task_id, version = call.guid("task_id", "taskId"), call.integer("version", "version")
    found = await call.work(lambda: call.site.store.artifact(task_id, version))
    if found is None:
        raise ApiError(404, "ARTIFACT_NOT_FOUND", f"Artifact version {version} for task {task_id} not found")
    return responses.json_of(found.wire())


@action("ARTIFACT_CREATION_ERROR", "An error occurred while adding the program")
async def push_program(call: ActionCall) -> Response:
    """Add your own program as the task's next version."""
    task_id, program = call.guid("task_id", "taskId"), await call.body(bodies.PUSH_PROGRAM)

    def created(artifact: Artifact) -> Response:
        place = f"{call.origin}/api/v1/Tasks/{task_id}/artifacts/{artifact.version}"
        return responses.json_of(artifact.wire(), 201, {"Location": place})

    try:
        response = await call.commit(
            lambda seal: call.site.service.add_program(task_id, **program, seal=seal), created, task_id=task_id
        )
    except UnknownTask:
        raise _missing(task_id) from None
    except ProgramRefused as refused:
        raise invalid([(refused.member, str(refused))]) from None
    if program["activate"]:
        call.site.generation.withdraw(task_id)
    return response


@action("TASK_UPDATE_ERROR", "An error occurred while adding examples")
async def add_examples(call: ActionCall) -> Response:
    """Add examples to a task; an example with the same input is replaced. `generate` makes the next version."""
    task_id, body = call.guid("task_id", "taskId"), await call.body(bodies.ADD_EXAMPLES)
    try:
        state = await call.work(lambda: call.site.service.add_examples(task_id, body["examples"]))
    except UnknownTask:
        raise _missing(task_id) from None
    except TooManyExamples as error:
        raise invalid([("Examples", str(error))]) from None
    call.site.generation.forget(task_id)
    return responses.json_of(state.wire())


@action("TASK_DELETION_ERROR", "An error occurred while deleting the task")
async def delete_task(call: ActionCall) -> Response:
    """Delete a task with its examples, programs and executions."""
    task_id = call.guid("task_id", "taskId")
    if not await call.work(lambda: call.site.service.delete_task(task_id)):
        raise _missing(task_id)
    call.site.generation.forget(task_id)
    return Response(status_code=204)


@action("EXECUTION_ERROR", "No program could be made")
async def generate(call: ActionCall) -> Response:
    """Make the next version of a task's program from its examples; it becomes active if it is better.

    500 `EXECUTION_ERROR` if no program can be made. With `wait` false, 202 with the task, whose `generation` has the
    state and the result.
    """
    task_id, body = call.guid("task_id", "taskId"), await call.body(bodies.GENERATE)
    if await call.work(lambda: call.site.store.task(task_id)) is None:
        raise _missing(task_id)
    if not body["wait"]:
        call.site.generation.start_next(task_id)
        return responses.json_of((await _told(call, task_id)).wire(), 202)
    try:
        made = await call.site.generation.next_version(task_id)
    except ExecutionFailed as error:
        raise ApiError(500, "EXECUTION_ERROR", str(error)) from None
    return responses.json_of(made.wire(), 201)


@action("ARTIFACT_UPDATE_ERROR", "An error occurred while activating the program")
async def activate(call: ActionCall) -> Response:
    """Activate a version; later active versions are retired."""
    return await _with_status(call, "active")


@action("ARTIFACT_UPDATE_ERROR", "An error occurred while retiring the program")
async def retire(call: ActionCall) -> Response:
    """Retire a version; the highest other active version runs."""
    return await _with_status(call, "deprecated")


async def _with_status(call: ActionCall, status: str) -> Response:
    task_id, version = call.guid("task_id", "taskId"), call.integer("version", "version")
    await call.body(bodies.NOTHING)
    found = await call.work(lambda: call.site.service.set_status(task_id, version, status))
    if found is None:
        raise ApiError(404, "ARTIFACT_NOT_FOUND", f"Artifact version {version} for task {task_id} not found")
    call.site.generation.reconsider(task_id)
    return responses.json_of(found.wire())


def add(app: FastAPI) -> None:
    """Add these endpoints."""
    task, program = models.Task, models.ProgramArtifact
    post = {400, 409, 415}
    route(app, "POST", TASKS, create_task, "tasks", task, 201, body=bodies.CREATE_TASK, refusals=post)
    route(app, "GET", TASKS, list_tasks, "tasks", list[models.Task], refusals={400}, query=QUERY)
    # Before the paths with a task id here, which would match it.
    route(app, "GET", f"{TASKS}/by-name/{{name}}", get_task_by_name, "tasks", task, refusals={404})
    route(app, "GET", TASK, get_task, "tasks", task, refusals={400, 404})
    route(app, "GET", f"{TASK}/artifacts", list_artifacts, "programs", list[models.ProgramArtifact], refusals={400})
    push = {400, 404, 415}
    place = f"{TASK}/artifacts"
    route(app, "POST", place, push_program, "programs", program, 201, body=bodies.PUSH_PROGRAM, refusals=push)
    route(app, "POST", f"{TASK}/examples", add_examples, "tasks", task, body=bodies.ADD_EXAMPLES, refusals=push)
    route(
        app,
        "POST",
        f"{TASK}/generate",
        generate,
        "programs",
        program,
        201,
        body=bodies.GENERATE,
        refusals=push,
        also={202: task},
    )
    route(app, "DELETE", TASK, delete_task, "tasks", None, 204, refusals={400, 404})
    for verb, run in (("activate", activate), ("retire", retire)):
        where = f"{place}/{{version}}/{verb}"
        route(app, "POST", where, run, "programs", program, body=bodies.NOTHING, refusals=push)
    route(app, "GET", f"{place}/{{version}}", get_artifact, "programs", program, refusals={400, 404})
