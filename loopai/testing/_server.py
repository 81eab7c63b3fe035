"""The default replies of a `FakeLoopai`: one method per operation, with bodies of the server's shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Callable, Optional
from urllib.parse import unquote
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from pydantic_core import to_json

from .._core.wire import Reply
from .programming import (
    Call,
    CallLog,
    Certain,
    FakeTask,
    NoSuchTask,
    NotProgrammed,
    ProgramError,
    how_to_program,
    reply,
)

Answered = tuple[int, Any]

LATENCY_MS = 1.5
"""Milliseconds reported for each run: the fake measures nothing, so results compare equal."""

_PROGRAMMED = """def main(input):
    raise RuntimeError("a test said what this task gives: only the fake runs it")
"""
"""The code of a program defined by a test, in case it is run elsewhere."""

_ROUTES = {
    "create_task": "POST /api/v1/tasks",
    "list_tasks": "GET /api/v1/tasks",
    "get_task_by_name": "GET /api/v1/tasks/by-name/{name}",
    "get_task": "GET /api/v1/tasks/{task_id}",
    "execute": "POST /api/v1/tasks/{task_id}/execute",
    "list_artifacts": "GET /api/v1/tasks/{task_id}/artifacts",
    "push_program": "POST /api/v1/tasks/{task_id}/artifacts",
    "get_artifact": "GET /api/v1/tasks/{task_id}/artifacts/{version}",
    "batch_execute": "POST /api/v1/batch/execute",
    "batch_validate": "POST /api/v1/batch/validate",
    "get_health": "GET /api/v1/health",
    "get_detailed_health": "GET /api/v1/health/detailed",
    "get_ready": "GET /api/v1/health/ready",
    "get_live": "GET /api/v1/health/live",
    "get_plain_health": "GET /health",
    "get_metrics": "GET /metrics",
    "get_validation_summary": "GET /api/v1/validation/programs/{program_id}/summary",
    "get_recommendations": "GET /api/v1/validation/programs/{program_id}/recommendations",
    "improve_program": "POST /api/v1/validation/programs/{program_id}/improve",
    "compare_programs": "POST /api/v1/validation/programs/compare",
    "start_canary": "POST /api/v1/validation/programs/canary/start",
    "progress_canary": "POST /api/v1/validation/programs/canary/{canary_id}/progress",
    "rollback_canary": "POST /api/v1/validation/programs/canary/{canary_id}/rollback",
    "get_canary": "GET /api/v1/validation/tasks/{task_id}/canary",
    "subscribe_webhook": "POST /api/v1/webhooks/subscribe",
    "unsubscribe_webhook": "DELETE /api/v1/webhooks/{subscription_id}",
    "list_webhooks": "GET /api/v1/webhooks",
    "get_webhook_history": "GET /api/v1/webhooks/{subscription_id}/history",
}
OPERATIONS = tuple(_ROUTES)

# A base_url may have a path, which then comes first.
_PATTERNS = {
    name: re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", described.replace(" ", " .*?")))
    for name, described in _ROUTES.items()
}

_NO_ADVICE = {
    "should_improve": False,
    "validation_rate": 0,
    "failed_validations_count": 0,
    "common_errors": [],
    "suggested_fixes": [],
    "confidence": "low",
}
_STATISTICS = ("total_validations", "valid_count", "invalid_count", "average_score", "validation_rate")
_METRICS = (
    "average_latency_ms", "p50_latency_ms", "p95_latency_ms", "p99_latency_ms", "validation_rate", "error_rate",
    "total_executions", "successful_executions", "failed_executions",
)  # fmt: skip
_STAGES = (("Stage1_5Percent", 0.05), ("Stage2_25Percent", 0.25), ("Stage3_50Percent", 0.5), ("Stage4_100Percent", 1))


def route(method: str, path: str) -> tuple[Optional[str], dict[str, str]]:
    """Return a request's operation (`None` if there is none), and the path's parts by name."""
    for name, pattern in _PATTERNS.items():
        match = pattern.fullmatch(f"{method} {path}")
        if match:
            return name, {part: unquote(text) for part, text in match.groupdict().items()}
    return None, {}


class FakeServer:
    """Tasks, programs, canaries and subscriptions of one fake. Operations return status and body."""

    def __init__(self, lock: AbstractContextManager[Any], now: Callable[[], datetime]) -> None:
        self._lock = lock
        self._now = now
        self._tasks: dict[str, FakeTask] = {}
        self._names: dict[str, str] = {}
        self._canaries: dict[str, dict[str, Any]] = {}
        self._subscriptions: dict[str, dict[str, Any]] = {}
        self.log = CallLog(lock)

    def answer(self, name: str, parts: Mapping[str, str], body: Any) -> Reply:
        """Return the operation's reply. Raises `NotProgrammed` for a task without program."""
        operation: Callable[..., Answered] = getattr(self, name)
        if name in {"execute", "batch_execute"}:
            return reply(*operation(**parts, body=body))  # without the lock: the test's own functions run in it
        with self._lock:
            return reply(*operation(**parts, body=body))

    def id_of(self, name: str) -> str:
        """The id of a task name: the same in every fake and process."""
        task_id = str(uuid5(NAMESPACE_URL, f"https://fake.loopai.test/tasks/{name}"))
        with self._lock:
            self._names[task_id] = name
        return task_id

    def named(self, name: str) -> FakeTask:
        """The task of that name or id, made if there is none."""
        task_id = name_as_id(name) or self.id_of(name)
        with self._lock:
            if task_id not in self._tasks:
                self._tasks[task_id] = FakeTask(name, task_id, self._lock, self.log)
            return self._tasks[task_id]

    def task(self, task_id: object) -> Optional[FakeTask]:
        """Return the task with that id; `None` if the test neither named nor created it."""
        return self._tasks.get(str(task_id))

    def tasks(self) -> list[FakeTask]:
        """The tasks that the server has, oldest first."""
        with self._lock:
            return [task for task in self._tasks.values() if not task.unknown]

    def names(self) -> list[str]:
        """The names by which tasks were named or created, including unknown ones."""
        with self._lock:
            return [task.name for task in self._tasks.values() if name_as_id(task.name) is None]

    # Tasks and artifacts

    def create_task(self, body: dict[str, Any]) -> Answered:
        task = self.named(body["name"])
        if task.record:
            return self._error(409, "TASK_ALREADY_EXISTS", f"Task with name '{task.name}' already exists")
        task.record, task.unknown = {name: value for name, value in body.items() if value is not None}, False
        return 201, self._task(task)

    def list_tasks(self, body: Any) -> Answered:
        return 200, [self._task(task) for task in self.tasks()]

    def get_task_by_name(self, name: str, body: Any) -> Answered:
        return self._found(next((task for task in self.tasks() if task.name == name), None), f"name '{name}'")

    def get_task(self, task_id: str, body: Any) -> Answered:
        return self._found(self._known(task_id), f"ID {task_id}")

    def list_artifacts(self, task_id: str, body: Any) -> Answered:
        task = self._known(task_id)
        if task is None:
            return 200, []
        # A programmed task has a program, as in `get_task`.
        programmed = [self._artifact(task.id, 1, "python", _PROGRAMMED)] if task.programmed else []
        return 200, task.artifacts or programmed

    def get_artifact(self, task_id: str, version: str, body: Any) -> Answered:
        _, artifacts = self.list_artifacts(task_id, body)
        for artifact in artifacts:
            if str(artifact["version"]) == version:
                return 200, artifact
        return self._error(404, "ARTIFACT_NOT_FOUND", f"Artifact version {version} for task {task_id} not found")

    def push_program(self, task_id: str, body: dict[str, Any]) -> Answered:
        task = self._known(task_id)
        if task is None:
            return self._found(None, f"ID {task_id}")
        version = len(task.artifacts) + 1
        artifact = self._artifact(task_id, version, body["language"], body["code"], body.get("activate", True))
        task.artifacts.append(artifact)
        return 201, artifact

    def _artifact(self, task_id: str, version: int, language: str, code: str, active: bool = True) -> dict[str, Any]:
        return {
            "id": _program_id(task_id, version),
            "task_id": task_id,
            "version": version,
            "language": language,
            "code": code,
            "status": "active" if active else "draft",
            "deployment_percentage": 100 if active else 0,
            "created_at": self._now(),
        }

    # Executions

    def execute(self, task_id: str, body: dict[str, Any]) -> Answered:
        try:
            outcome = self._run(task_id, body, body)
        except NoSuchTask as error:
            return self._error(404, "TASK_NOT_FOUND", str(error))
        version = body.get("version") or _active_version(self._tasks[task_id]) or 1
        return 200, {
            "task_id": task_id,
            "program_id": _program_id(task_id, version),
            "version": version,
            "status": "error" if "error_message" in outcome else "success",
            "executed_at": self._now(),
            **outcome,
        }

    def batch_execute(self, body: dict[str, Any]) -> Answered:
        started = self._now()
        results = []
        for item in body["items"]:
            try:
                outcome = self._run(body["task_id"], body, item, item["id"])
            except NoSuchTask as error:
                outcome = {
                    "error_message": str(error),
                    "code": "TASK_NOT_FOUND",
                    "latency_ms": LATENCY_MS,
                    "sampled_for_validation": False,
                }
            results.append({"id": item["id"], "success": "error_message" not in outcome, **outcome})
        succeeded = sum(result["success"] for result in results)
        return 200, {
            "batch_id": uuid4(),
            "task_id": body["task_id"],
            "version": body.get("version") or 0,
            "total_items": len(results),
            "success_count": succeeded,
            "failure_count": len(results) - succeeded,
            "total_duration_ms": LATENCY_MS * len(results),
            "avg_latency_ms": LATENCY_MS if results else 0,
            "results": results,
            "started_at": started,
            "completed_at": self._now(),
        }

    def _run(
        self, task_id: str, request: Mapping[str, Any], item: Mapping[str, Any], item_id: Optional[str] = None
    ) -> dict[str, Any]:
        """One input: what an execution and a batch item have in common. Raises `NoSuchTask`."""
        task = self.task(task_id)
        if task is None:
            raise NotProgrammed(how_to_program(self._names.get(task_id, task_id)))
        forced = bool(item.get("force_validation"))
        call = Call(task.name, item["input"], request.get("version"), request.get("timeout_ms"), forced, item_id)
        outcome: dict[str, Any] = {"latency_ms": LATENCY_MS, "sampled_for_validation": forced}
        try:
            output = task.run(call)
            if isinstance(output, Certain):
                outcome["confidence"], output = output.confidence, output.output
            outcome["output"] = output
        except ProgramError as error:
            outcome["error_message"] = str(error)
        return {"execution_id": uuid4(), **outcome}

    def batch_validate(self, body: dict[str, Any]) -> Answered:
        results = []
        for item in body["items"]:
            # As text, as the server does: the order of members counts.
            valid = to_json(item["output"]) == to_json(item["expected_output"])
            message = "Valid" if valid else "Output does not match expected output"
            results.append({"id": item["id"], "is_valid": valid, "message": message, "confidence_score": int(valid)})
        valid_count = sum(result["is_valid"] for result in results)
        return 200, {
            "batch_id": uuid4(),
            "task_id": body["task_id"],
            "total_items": len(results),
            "valid_count": valid_count,
            "invalid_count": len(results) - valid_count,
            "accuracy_rate": valid_count / len(results) if results else 0,
            "results": results,
            "total_duration_ms": LATENCY_MS,
        }

    # Health

    def get_health(self, body: Any) -> Answered:
        return 200, {"status": "healthy", "timestamp": self._now(), "version": "fake", "environment": "Development"}

    def get_detailed_health(self, body: Any) -> Answered:
        parts = {name: {"status": "healthy", "response_time": 0} for name in ("api", "database", "redis")}
        return 200, {**self.get_health(body)[1], "components": parts}

    def get_ready(self, body: Any) -> Answered:
        return 200, {"status": "ready", "database": True, "redis": True}

    def get_live(self, body: Any) -> Answered:
        return 200, {"status": "alive"}

    def get_plain_health(self, body: Any) -> Answered:
        return 200, "Healthy"

    def get_metrics(self, body: Any) -> Answered:
        return 200, f"# TYPE loopai_fake_inputs_total counter\nloopai_fake_inputs_total {self.log.count()}\n"

    # Validation, comparison, canaries

    def get_validation_summary(self, program_id: str, body: Any) -> Answered:
        statistics = dict.fromkeys(_STATISTICS, 0)
        return 200, {"program_id": program_id, "statistics": statistics, "recommendations": _NO_ADVICE}

    def get_recommendations(self, program_id: str, body: Any) -> Answered:
        return 200, _NO_ADVICE

    def improve_program(self, program_id: str, body: Any) -> Answered:
        message = "Program validation rate is acceptable, improvement not needed"
        return self._error(400, "IMPROVEMENT_FAILED", message)

    def compare_programs(self, body: dict[str, Any]) -> Answered:
        control = body["control_program_id"]
        owners = (task.id for task in self.tasks() for artifact in task.artifacts if artifact["id"] == control)
        nothing = dict.fromkeys(_METRICS, 0)
        return 200, {
            "task_id": next(owners, str(UUID(int=0))),
            "control_program_id": control,
            "treatment_program_id": body["treatment_program_id"],
            "statistics": {
                "control_metrics": nothing,
                "treatment_metrics": nothing,
                "performance_delta": 0,
                "p_value": 0.1,
                "is_significant": False,
                "control_sample_size": 0,
                "treatment_sample_size": 0,
            },
            "recommendation": "continue",
            "confidence": "low",
            "compared_at": self._now(),
        }

    def start_canary(self, body: dict[str, Any]) -> Answered:
        task_id = body["task_id"]
        if self.get_canary(task_id, None)[0] == 200:
            text = f"Canary deployment already in progress for task {task_id}"
            return self._error(400, "CANARY_START_FAILED", text)
        task = self._known(task_id)
        if task is None:
            return self._error(400, "CANARY_START_FAILED", f"No active program found for task {task_id}")
        canary = {
            "id": str(uuid4()),
            **body,
            "current_program_id": _program_id(task_id, _active_version(task) or 1),
            "status": "InProgress",
            "history": [],
            "started_at": self._now(),
        }
        self._canaries[canary["id"]] = canary
        return self._stage(canary, "started", 0, "Canary deployment initiated")

    def progress_canary(self, canary_id: str, body: Any) -> Answered:
        canary = self._canaries.get(canary_id)
        if canary is None or canary["status"] != "InProgress":
            state = f"is not in progress (status: {canary['status']})" if canary else f"{canary_id} not found"
            return self._error(400, "CANARY_PROGRESS_FAILED", f"Canary deployment {state}")
        number = _STAGES.index((canary["current_stage"], canary["current_percentage"])) + 1
        if number == len(_STAGES) - 1:
            canary.update(status="Completed", completed_at=self._now())
        return self._stage(canary, "promoted", number, "Metrics acceptable, progressing to next stage")

    def rollback_canary(self, canary_id: str, body: dict[str, Any]) -> Answered:
        canary = self._canaries.get(canary_id)
        if canary is None:
            return self._error(400, "CANARY_ROLLBACK_ERROR", f"Canary deployment {canary_id} not found")
        canary.update(status="RolledBack", status_reason=body["reason"], completed_at=self._now())
        number = _STAGES.index((canary["current_stage"], canary["current_percentage"]))
        return self._stage(canary, "rolled_back", number, body["reason"])

    def get_canary(self, task_id: str, body: Any) -> Answered:
        for canary in reversed(self._canaries.values()):
            if canary["task_id"] == task_id and canary["status"] == "InProgress":
                return 200, canary
        return 204, None

    # Webhooks

    def subscribe_webhook(self, body: dict[str, Any]) -> Answered:
        defaults = {"is_active": True, "max_retries": 3, "timeout_seconds": 30}
        made = {"id": str(uuid4()), **defaults, "created_at": self._now(), **body}
        self._subscriptions[made["id"]] = made
        return 201, made

    def unsubscribe_webhook(self, subscription_id: str, body: Any) -> Answered:
        if self._subscriptions.pop(subscription_id, None) is None:
            return self._error(404, "SUBSCRIPTION_NOT_FOUND", f"Subscription {subscription_id} not found")
        return 204, None

    def list_webhooks(self, body: Any) -> Answered:
        return 200, list(self._subscriptions.values())

    def get_webhook_history(self, subscription_id: str, body: Any) -> Answered:
        return 200, []

    # What operations share

    def _known(self, task_id: str) -> Optional[FakeTask]:
        task = self._tasks.get(task_id)
        return None if task is None or task.unknown else task

    def _task(self, task: FakeTask) -> dict[str, Any]:
        made = task.record.setdefault("created_at", self._now())
        # A programmed task has a program: otherwise the first execution would have to make it.
        version = _active_version(task) or (1 if task.programmed else None)
        active = {} if version is None else {"active_version": version}
        defaults = {"description": "a task of the fake", "input_schema": {}, "output_schema": {}, "examples": []}
        targets = {"accuracy_target": 0.9, "latency_target_ms": 10, "sampling_rate": 0.1}
        counts = {"total_versions": len(task.artifacts), "updated_at": made}
        return {"id": task.id, "name": task.name, **defaults, **targets, **task.record, **active, **counts}

    def _found(self, task: Optional[FakeTask], asked: str) -> Answered:
        if task is None:
            return self._error(404, "TASK_NOT_FOUND", f"Task with {asked} not found")
        return 200, self._task(task)

    def _stage(self, canary: dict[str, Any], action: str, number: int, reason: str) -> Answered:
        stage, share = _STAGES[number]
        canary.update(current_stage=stage, current_percentage=share)
        canary["history"].append(
            {"stage": stage, "percentage": share, "action": action, "reason": reason, "timestamp": self._now()}
        )
        return 200, canary

    def _error(self, status: int, code: str, message: str, details: Optional[str] = None) -> Answered:
        body = {"code": code, "message": message, "trace_id": "fake", "timestamp": self._now()}
        return status, body if details is None else {**body, "details": details}


def name_as_id(name: str) -> Optional[str]:
    """The id that a task was named by, `None` for a name."""
    try:
        return str(UUID(name))
    except ValueError:
        return None


def _program_id(task_id: str, version: int) -> str:
    return str(uuid5(UUID(task_id), str(version)))


def _active_version(task: FakeTask) -> Optional[int]:
    return max((made["version"] for made in task.artifacts if made["status"] == "active"), default=None)
