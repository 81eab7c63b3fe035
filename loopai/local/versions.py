"""The programs made for a task: the data for making one, and which version becomes active.

Blocks, and is called from worker threads. Versions are compared in the server's sandbox, on the current examples.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from typing import Any

from pydantic_core import from_json, to_json

from ..exceptions import ConfigurationError
from ..generators.errors import CannotLearn
from ..generators.seam import Failure, TaskDescription
from ..generators.versions import Results, Standing, is_better, standing_of_active
from ..generators.whole import Bench, Example
from ..programs import Program, ProgramOutcome, ProgramPool, UnsupportedLanguage
from .preflight import NO_PROGRAM as NOT_LEARNT
from .records import Artifact, NewArtifact, Progress, TaskState, number
from .service import ExecutionFailed
from .settings import Settings
from .store import Store
from .trainer import LARGEST_EXAMPLES, Told, Trainer, too_large

logger = logging.getLogger("loopai.local")

NO_PROGRAM = "Program generation failed: "

MOST_COMPARED = 5000
"""Most examples on which two versions are compared, spread over all examples."""

COMPARING_SECONDS = 60.0
"""Seconds that one version may run on them."""

MOST_KNOWN = 200
MOST_KNOWN_BYTES = 500_000
"""Most recent inputs, on which programs that fit all examples may disagree."""

_DIGEST_BYTES = 8
_OWN = "user"
_LOCAL = "local"


@dataclass(frozen=True)
class _Compared:
    """The active version, and its outputs for the current examples."""

    artifact: Artifact
    results: Results
    seen: Sequence[bool]


class Versions:
    """Makes and compares programs. `changed` is called with the id of a task whose programs have changed."""

    def __init__(
        self, store: Store, programs: ProgramPool, trainer: Trainer, settings: Settings, changed: Callable[[str], None]
    ) -> None:
        self._store = store
        self._programs = programs
        self._trainer = trainer
        self._settings = settings
        self._changed = changed

    def examples_size(self, task_id: str) -> int:
        """Return the size of the task's examples in bytes; 0 for an unknown task."""
        return self._store.examples_size(task_id)

    def first_job(self, task_id: str) -> bytes | None:
        """Return the job for the task's first program, as JSON; `None` if one is active. Raises `ExecutionFailed`."""
        state = self._state(task_id)
        if state.active_version is not None:
            return None
        drafts = [one for one in self._store.artifacts(task_id) if self._awaits_activation(one, state)]
        if drafts:
            raise ExecutionFailed(_why_draft(drafts[-1], state))
        return self._job(state, None, ())

    def next_job(self, task_id: str) -> bytes:
        """Return the job for the task's next version, as JSON, with the previous version and its mistakes.

        Raises `ExecutionFailed`.
        """
        state = self._state(task_id)
        examples = _examples_of(state)
        artifacts = self._store.artifacts(task_id)
        active = next((one for one in reversed(artifacts) if one.status == "active"), None)
        if active is not None:
            return self._job(state, active, self._run(active, examples).failures())
        drafts = [one for one in artifacts if one.status == "draft" and one.llm_provider != _OWN]
        if drafts:
            return self._job(state, drafts[-1], self._run(drafts[-1], examples).failures())
        return self._job(state, None, ())

    def make_first(self, task_id: str, job: bytes, tell: Told | None = None) -> Artifact | None:
        """Make the task's first program; `None` if one is active by then. Raises `ExecutionFailed`."""
        new, made_from = self._trained(task_id, job, tell)
        with self._store.transaction() as transaction:
            state = self._store.task_in(transaction, task_id)
            if state is None:
                raise ExecutionFailed(f"Task with ID {task_id} not found", "TASK_NOT_FOUND")
            # Another process on this folder may have been faster.
            if state.active_version is not None:
                return None
            made = self._store.add_artifact(transaction, self._by_target(new, state), made_from)
        self._say(state, made, new.notes)
        return made

    def make_next(self, task_id: str, job: bytes, tell: Told | None = None) -> Artifact:
        """Make the next version; it becomes active if it is the first, or better than the active one.

        Raises `ExecutionFailed`.
        """
        new, made_from = self._trained(task_id, job, tell)
        while True:
            state = self._state(task_id)
            examples = _examples_of(state)
            active = self._active(task_id, examples)
            decided = self._by_target(new, state) if active is None else self._by_comparison(new, state, active)
            with self._store.transaction() as transaction:
                if self._store.task_in(transaction, task_id) is None:
                    raise ExecutionFailed(f"Task with ID {task_id} not found", "TASK_NOT_FOUND")
                now = self._store.active_program(task_id, transaction)
                # Another version may have been activated meanwhile: then compare with that one.
                if now is None if active is None else now is not None and now[0] == active.artifact.id:
                    made = self._store.add_artifact(transaction, decided, made_from)
                    break
        self._changed(task_id)
        self._say(state, made, new.notes)
        return made

    def _state(self, task_id: str) -> TaskState:
        state = self._store.task(task_id)
        if state is None:
            raise ExecutionFailed(f"Task with ID {task_id} not found", "TASK_NOT_FOUND")
        return state

    def _job(self, state: TaskState, previous: Artifact | None, failures: Sequence[Failure]) -> bytes:
        task = state.task
        if len(task.examples) > LARGEST_EXAMPLES:
            raise ExecutionFailed(NO_PROGRAM + too_large(len(task.examples)))
        parts = {
            "id": to_json(task.id),
            "name": to_json(task.name),
            "description": to_json(task.description),
            "accuracy_target": to_json(task.accuracy_target),
            "input_schema": task.input_schema,
            "output_schema": task.output_schema,
            "examples": task.examples,
            "known_inputs": b"[" + b",".join(self._known_inputs(task.id)) + b"]",
            "failures": to_json([asdict(one) for one in failures]),
        }
        # A model that writes Python cannot improve a program in another language.
        if previous is not None and previous.language == "python":
            by_model = previous.llm_provider not in {_OWN, _LOCAL}
            told = {"code": previous.code, "confidence_score": previous.confidence_score, "by_model": by_model}
            parts["previous"] = to_json(told)
        return b"{" + b",".join(to_json(name) + b":" + part for name, part in parts.items()) + b"}"

    def _known_inputs(self, task_id: str) -> list[bytes]:
        found: dict[bytes, None] = {}
        size = 0
        for _, execution in self._store.executions(task_id, MOST_KNOWN):
            size += len(execution.input)
            if size > MOST_KNOWN_BYTES:
                break
            found[execution.input] = None
        return list(found)

    def _trained(self, task_id: str, job: bytes, tell: Told | None) -> tuple[NewArtifact, bytes]:
        try:
            trained = self._trainer.train(job, tell)
        except CannotLearn as error:
            self._keep_refusal(task_id, error)
            raise ExecutionFailed(NO_PROGRAM + str(error)) from error
        made_from = b"".join(_digest(example) for example in from_json(job)["examples"])
        return NewArtifact(task_id=task_id, **{"status": "active", **trained}), made_from

    def _keep_refusal(self, task_id: str, error: CannotLearn) -> None:
        if self._trainer.closed:
            return
        refusal = to_json({"reason": str(error), "questions": getattr(error, "questions", [])}).decode()
        with self._store.transaction() as transaction:
            self._store.set_refusal(transaction, task_id, refusal)

    def _by_target(self, new: NewArtifact, state: TaskState) -> NewArtifact:
        """Return the program as a draft if it is below the accuracy target and must not run then."""
        below = new.confidence_score < state.task.accuracy_target
        return replace(new, status="draft") if self._settings.strict and below else new

    def _by_comparison(self, new: NewArtifact, state: TaskState, active: _Compared) -> NewArtifact:
        old = active.artifact
        if not active.results.examples:
            better = old.llm_provider != _OWN and new.confidence_score > old.confidence_score
            note = f"No example says whether it is better than version {old.version}."
        else:
            estimate = bool(new.estimate)
            results = self._outcomes(Program(new.code, new.language), active.results.examples)
            standing = Standing(results.share(estimate=estimate), new.confidence_score)
            before = standing_of_active(
                active.results,
                active.seen,
                old.confidence_score,
                estimate=estimate,
                same_kind=estimate == bool(old.estimate),
            )
            own = old.llm_provider == _OWN
            count = len(active.results.examples)
            better = is_better(standing, before, count, own=own, estimate=estimate)
            measure = "R²" if estimate else "right"
            note = (
                f"On the {count:,} current examples: {measure} {standing.right:.2f}, version {old.version} "
                f"{before.right:.2f}. On examples that it was not made from: {standing.score:.2f}, version "
                f"{old.version} {before.score:.2f}."
            )
        decided = self._by_target(new, state)
        if not better:
            note += f" It is not better than version {old.version}, which stays active."
            decided = replace(new, status="draft")
        notes = [*(from_json(new.notes) if new.notes else []), note]
        return replace(decided, notes=to_json(notes).decode())

    def _active(self, task_id: str, examples: Sequence[Any]) -> _Compared | None:
        artifacts = self._store.artifacts(task_id)
        active = next((one for one in reversed(artifacts) if one.status == "active"), None)
        if active is None:
            return None
        results = self._run(active, examples)
        made_from = self._store.made_from(active.id)
        known = {made_from[at : at + _DIGEST_BYTES] for at in range(0, len(made_from), _DIGEST_BYTES)}
        seen = [_digest({"input": one.input, "output": one.output}) in known for one in results.examples]
        return _Compared(active, results, seen)

    def _run(self, artifact: Artifact, examples: Sequence[Any]) -> Results:
        complete = [
            Example(one["input"], one["output"])
            for one in examples
            if isinstance(one, dict) and "input" in one and "output" in one
        ]
        return self._outcomes(
            Program(artifact.code, artifact.language), complete[:: max(1, -(-len(complete) // MOST_COMPARED))]
        )

    def _outcomes(self, program: Program, examples: Sequence[Example]) -> Results:
        deadline = time.monotonic() + COMPARING_SECONDS
        bench = Bench(self._programs, TaskDescription(""), deadline, ended=lambda: self._trainer.closed)
        try:
            outcomes = bench.outcomes(program, [one.input for one in examples], COMPARING_SECONDS)
        except (UnsupportedLanguage, ConfigurationError):
            # A program that cannot run here has no correct outputs.
            return Results(examples, [ProgramOutcome(None, "not run", 0.0)] * len(examples))
        if self._trainer.closed:
            raise ExecutionFailed(f"{NO_PROGRAM}the server is shutting down")
        return Results.of(examples, outcomes)

    def _awaits_activation(self, artifact: Artifact, state: TaskState) -> bool:
        """Return whether it is a draft made from the current examples, which runs only if a user activates it."""
        if artifact.status != "draft" or artifact.created_at < state.task.updated_at or artifact.llm_provider == _OWN:
            return False
        below = self._settings.strict and artifact.confidence_score < state.task.accuracy_target
        return below or artifact.llm_provider != _LOCAL

    def why_draft(self, artifact: Artifact) -> str:
        """Return why a version is not active, and what to do. Raises `ExecutionFailed` if the task was deleted."""
        return _why_draft(artifact, self._state(artifact.task_id))

    def told(self, state: TaskState, progress: Progress | None) -> TaskState:
        """Return the task with the state of its programs: progress, failure to learn, and open questions."""
        artifacts = self._store.artifact_facts(state.task.id)
        made = next((one for one in reversed(artifacts) if one.llm_provider != _OWN), None)
        warnings: list[str] = []
        generation: dict[str, Any] | None = None
        questions = from_json(made.questions) if made is not None and made.questions else []
        if state.task.refusal is not None:
            refusal = from_json(state.task.refusal)
            questions = refusal["questions"]
            warnings.append(f"{NOT_LEARNT}: {refusal['reason']}")
            generation = {"status": "failed", "reason": refusal["reason"]}
        elif made is not None:
            generation = {
                "status": "made",
                "version": made.version,
                "program_status": made.status,
                "confidence_score": number(made.confidence_score),
            }
        if progress is not None:
            generation = {"status": "running", "stage": progress.stage, "seconds": number(round(progress.seconds, 1))}
        in_use = next((one for one in reversed(artifacts) if one.status == "active"), made)
        if in_use is not None and in_use.notes:
            warnings += from_json(in_use.notes)
        return replace(state, warnings=warnings, questions=questions, generation=generation)

    def _say(self, state: TaskState, made: Artifact, notes: str | None) -> None:
        for note in from_json(notes) if notes else []:
            logger.warning("task %s, version %d (%s): %s", state.task.name, made.version, made.status, note)


def _why_draft(artifact: Artifact, state: TaskState) -> str:
    draft = f"Version {artifact.version} is a draft"
    score, target = artifact.confidence_score, state.task.accuracy_target
    if artifact.verified is not None and not artifact.verified:
        return f"{draft}, as no example verifies it: read it and activate it, or add examples"
    if score < target:
        reason = f"as its score {score:.2f} is below the accuracy target {target:.2f}"
        return f"{draft}, {reason}: add examples and generate again, or activate it"
    return f"{draft}: activate it, or generate the next version"


def _examples_of(state: TaskState) -> list[Any]:
    examples: list[Any] = from_json(state.task.examples)
    return examples


def _digest(example: Any) -> bytes:
    """Return a digest of an example's input and output."""
    if isinstance(example, dict) and example.keys() > {"input", "output"}:
        example = {"input": example["input"], "output": example["output"]}
    return blake2b(to_json(_sorted(example)), digest_size=_DIGEST_BYTES).digest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    return value
