"""Tasks, artifacts and executions, as stored and as sent; the order of fields is that of the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from .._core.randomness import private_random
from . import timestamps


def new_id() -> str:
    """Return a new GUID as text."""
    return str(UUID(int=private_random.getrandbits(128), version=4))


def number(value: float) -> float | int:
    """Return a double as the contract writes it: without a fraction if it is integral."""
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def milliseconds(seconds: float) -> float | int:
    """Return milliseconds with four digits, as durations are sent."""
    return number(round(seconds * 1000, 4))


@dataclass(frozen=True)
class TaskRecord:
    """A task. Schemas and examples are JSON texts, stored as they were sent.

    `refusal` is JSON: why the last program could not be made, and the questions whose answers would decide.
    """

    id: str
    name: str
    description: str
    input_schema: bytes
    output_schema: bytes
    examples: bytes
    accuracy_target: float
    latency_target_ms: int
    sampling_rate: float
    created_at: int
    updated_at: int
    refusal: str | None = None


@dataclass(frozen=True)
class Progress:
    """The program being made for a task: the stage in words, and the seconds since it began."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class TaskState:
    """A task and its programs: the highest active version, `None` if none is active, and their number.

    `generation` is the state of the last attempt to make a program, `questions` are inputs whose output would decide
    between programs.
    """

    task: TaskRecord
    active_version: int | None = None
    total_versions: int = 0
    warnings: Sequence[str] = ()
    questions: Sequence[Any] = ()
    generation: Mapping[str, Any] | None = None

    def wire(self) -> dict[str, Any]:
        """The contract's Task."""
        task = self.task
        body = {
            "id": task.id,
            "name": task.name,
            "description": task.description,
            "input_schema": from_json(task.input_schema),
            "output_schema": from_json(task.output_schema),
            "examples": from_json(task.examples),
            "accuracy_target": number(task.accuracy_target),
            "latency_target_ms": task.latency_target_ms,
            "sampling_rate": number(task.sampling_rate),
            "active_version": self.active_version,
            "total_versions": self.total_versions,
            "created_at": timestamps.iso8601(task.created_at),
            "updated_at": timestamps.iso8601(task.updated_at),
        }
        if self.active_version is None:
            del body["active_version"]
        if self.warnings:
            body["warnings"] = list(self.warnings)
        if self.questions:
            body["questions"] = list(self.questions)
        if self.generation is not None:
            body["generation"] = dict(self.generation)
        return body

    def summary(self) -> dict[str, Any]:
        """Return the contract's TaskRecord without its examples, as in lists."""
        body = self.wire()
        del body["examples"]
        return body


@dataclass(frozen=True)
class NewArtifact:
    """A program before it has a version.

    All three are JSON: `usage` of the language model that wrote it, `notes` for people, and `questions`, inputs whose
    output would decide between programs.
    """

    task_id: str
    code: str
    language: str
    status: str
    synthesis_strategy: str = "auto"
    confidence_score: float = 0.5
    cyclomatic_complexity: int | None = None
    lines_of_code: int | None = None
    estimated_latency_ms: float | None = None
    llm_provider: str = "local"
    llm_model: str = "none"
    generation_cost: float = 0.0
    generation_time_sec: float = 0.0
    verified: bool | None = None
    usage: str | None = None
    estimate: bool | None = None
    notes: str | None = None
    questions: str | None = None


@dataclass(frozen=True)
class ArtifactFacts:
    """A version without its source."""

    version: int
    status: str
    confidence_score: float
    llm_provider: str
    notes: str | None
    questions: str | None


@dataclass(frozen=True)
class Artifact:
    """One version of a task's program."""

    id: str
    task_id: str
    version: int
    language: str
    code: str
    synthesis_strategy: str
    confidence_score: float
    cyclomatic_complexity: int | None
    lines_of_code: int | None
    estimated_latency_ms: float | None
    llm_provider: str
    llm_model: str
    generation_cost: float
    generation_time_sec: float
    status: str
    deployment_percentage: float
    created_at: int
    deployed_at: int | None
    verified: bool | None = None
    usage: str | None = None
    estimate: bool | None = None
    notes: str | None = None
    questions: str | None = None

    def wire(self) -> dict[str, Any]:
        """Return the contract's ProgramArtifact."""
        measured = {
            "cyclomatic_complexity": self.cyclomatic_complexity,
            "lines_of_code": self.lines_of_code,
            "estimated_latency_ms": self.estimated_latency_ms,
        }
        metrics = {name: value for name, value in measured.items() if value is not None}
        body = {
            "id": self.id,
            "task_id": self.task_id,
            "version": self.version,
            "language": self.language,
            "code": self.code,
            "synthesis_strategy": self.synthesis_strategy,
            "confidence_score": number(self.confidence_score),
            "complexity_metrics": metrics or None,
            "llm_provider": self.llm_provider,
            "llm_model": self.llm_model,
            "generation_cost": number(self.generation_cost),
            "generation_time_sec": number(self.generation_time_sec),
            "status": self.status,
            "deployment_percentage": number(self.deployment_percentage),
            "created_at": timestamps.iso8601(self.created_at),
            "deployed_at": None if self.deployed_at is None else timestamps.iso8601(self.deployed_at),
            "verified": None if self.verified is None else bool(self.verified),
            "usage": None if self.usage is None else from_json(self.usage),
            "estimate": None if self.estimate is None else bool(self.estimate),
            "notes": None if self.notes is None else from_json(self.notes),
            "questions": None if self.questions is None else from_json(self.questions),
        }
        return {name: value for name, value in body.items() if value is not None}


@dataclass(frozen=True)
class Execution:
    """One run of a program. `output` is the JSON text of the value, `None` if the program failed."""

    id: str
    task_id: str
    program_id: str
    version: int
    input: bytes
    output: bytes | None
    error_message: str | None
    latency_ms: float
    sampled: bool
    executed_at: int
    confidence: float | None = None

    @property
    def status(self) -> str:
        """`success` or `error`; the contract's `timeout` is never used."""
        return "success" if self.error_message is None else "error"

    def record(self) -> bytes:
        """Return the execution with its input, as listed and exported."""
        return self.wire()[:-1] + b',"input":' + self.input + b"}"

    def wire(self) -> bytes:
        """Return the contract's ExecuteResponse as JSON, with the output's text unchanged."""
        head = {
            "execution_id": self.id,
            "task_id": self.task_id,
            "program_id": self.program_id,
            "version": self.version,
            "status": self.status,
        }
        tail: dict[str, Any] = {
            "latency_ms": number(self.latency_ms),
            "sampled_for_validation": bool(self.sampled),
            "executed_at": timestamps.iso8601(self.executed_at),
        }
        if self.output is not None:
            outcome = b'"output":' + self.output
        else:
            outcome = b'"error_message":' + to_json(self.error_message)
        if self.confidence is not None:
            tail["confidence"] = number(self.confidence)
        return to_json(head)[:-1] + b"," + outcome + b"," + to_json(tail)[1:]
