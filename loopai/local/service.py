"""The contract's rules for tasks, programs and executions, on top of the store. No HTTP here.

All functions block and are called from worker threads. Writes take a `seal`, which is called with the result inside
their transaction, so that its writes are committed together with the result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from .._core.limits import PROGRAM_TIMEOUT_MS
from .._core.randomness import private_random
from ..exceptions import ConfigurationError
from ..generators.seam import lines_of_code
from ..programs import Program, ProgramOutcome, ProgramPool, UnsupportedLanguage
from ..programs.input_check import InputCheck, SchemaTooLarge
from ..programs.languages import language as known_language
from . import timestamps
from .cache import LRUCache
from .metrics import Metrics
from .preflight import NO_PROGRAM, task_warnings
from .records import Artifact, Execution, NewArtifact, TaskRecord, TaskState, new_id
from .settings import LARGEST_CODE, Settings
from .store import Store, Transaction
from .trainer import LARGEST_EXAMPLES, Trainer, too_large

logger = logging.getLogger("loopai.local")

R = TypeVar("R")
Seal = Callable[[Transaction, R], None]

SKIPPED = "Skipped: stop_on_first_error"
SKIPPED_CODE = "SKIPPED"
"""The error of an item that did not run because an earlier one failed."""

MOST_TASKS_CACHED = 1000
MOST_PROGRAMS_CACHED = 100
MOST_BYTES_CACHED = 50_000_000
"""Most bytes of cached checks, and of cached programs."""

MOST_TOGETHER = 100
TOGETHER_MS = 5.0
"""Target milliseconds of a group of executions, so that callers do not wait long for the rest of their group."""

RUNNING = "running"
"""The status of a generation that has begun."""

GONE = "Skipped: the caller no longer waits for this batch"
ENDING = "Skipped: the server is shutting down"


class StopFlag:
    """Whether a caller still waits for the work; set in the event loop, read in worker threads."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def __call__(self) -> str | None:
        """Return why not; `None` while a caller waits."""
        return self.reason


class ExecutionFailed(Exception):
    """An execution that never began: unknown task, unknown version, no program. The message says which.

    `code` is the contract's: `TASK_NOT_FOUND`, `ARTIFACT_NOT_FOUND`, or `EXECUTION_ERROR` for no program.
    """

    def __init__(self, reason: str, code: str = "EXECUTION_ERROR") -> None:
        super().__init__(reason)
        self.code = code


class NoActiveProgram(Exception):
    """The task has no active program yet: make one and retry."""


class InvalidInput(Exception):
    """The input does not fit the task's schema; `errors` are (path, text)."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {text}" for path, text in errors))
        self.errors = errors


class ProgramRefused(Exception):
    """An invalid pushed program; `member` is the wrong member of the request, as the contract names it."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(reason)
        self.member = member


class Abandoned(Exception):
    """The caller no longer waits, or the server is shutting down: nothing was recorded."""

    code = "NOT_EXECUTED"


class Overtaken(Exception):
    """Another process has replied under the same idempotency key meanwhile; our work is undone."""


class TooManyExamples(Exception):
    """The task would have too many examples to make a program from. The message says how many bytes are allowed."""


class UnknownTask(Exception):
    """No task has this id or name."""


@dataclass(frozen=True)
class BatchRow:
    """One input of a batch."""

    id: str
    input: Any
    force_validation: bool


@dataclass(frozen=True)
class Single:
    """One of several executions that run together; its latency counts from `began` (`time.perf_counter`).

    `seal` is called with its result inside the transaction; if it raises, the execution is not recorded.
    """

    input: Any
    force_validation: bool
    began: float
    seal: Seal[Execution] | None = None


@dataclass(frozen=True)
class RowResult:
    """The result of a row: its execution, or why there was none. `latency_ms` is in milliseconds.

    `code` says why a row was not run; clients do not retry such rows.
    """

    id: str
    execution: Execution | None
    reason: str | None
    latency_ms: float
    code: str | None = None


@dataclass(frozen=True)
class _Running:
    """What an execution needs from its task, which never changes."""

    sampling_rate: float
    check: InputCheck
    check_output: InputCheck
    told: set[int] = field(default_factory=set)
    """Versions for which a non-fitting output was logged."""


@dataclass(frozen=True)
class _Chosen:
    """A version of a task's program."""

    id: str
    version: int
    program: Program


class Service:
    """Tasks, programs and executions of one data folder."""

    def __init__(
        self, store: Store, programs: ProgramPool, trainer: Trainer, metrics: Metrics, settings: Settings
    ) -> None:
        self._store = store
        self._trainer = trainer
        self.ending = False
        self._programs = programs
        self._metrics = metrics
        self._settings = settings
        self._tasks: LRUCache[str, _Running] = LRUCache(MOST_TASKS_CACHED, MOST_BYTES_CACHED)
        self._programs_chosen: LRUCache[tuple[str, int | None], _Chosen] = LRUCache(
            MOST_PROGRAMS_CACHED, MOST_BYTES_CACHED
        )

    # Tasks and artifacts

    def create_task(
        self,
        *,
        name: str,
        description: str,
        input_schema: Any,
        output_schema: Any,
        examples: Sequence[Any],
        accuracy_target: float,
        latency_target_ms: int,
        sampling_rate: float,
        seal: Seal[TaskState],
    ) -> None:
        """Create a task. Its generation is `RUNNING` if a program can be made, which the caller must begin.

        Raises `store.NameTaken`, and `SchemaTooLarge` for an input or output schema.
        """
        warnings = task_warnings(input_schema, output_schema, examples, alone=self._settings.makes_alone)
        refusal = next((text[len(NO_PROGRAM) + 2 :] for text in warnings if text.startswith(NO_PROGRAM)), None)
        generation: dict[str, Any] | None = None
        if refusal is not None:
            generation = {"status": "failed", "reason": refusal}
        elif examples or not self._settings.makes_alone:
            generation = {"status": RUNNING, "stage": "has begun", "seconds": 0}
        moment = timestamps.now()
        task = TaskRecord(
            id=new_id(),
            name=name,
            description=description,
            input_schema=to_json(input_schema),
            output_schema=to_json(output_schema),
            examples=to_json(examples),
            accuracy_target=accuracy_target,
            latency_target_ms=latency_target_ms,
            sampling_rate=sampling_rate,
            created_at=moment,
            updated_at=moment,
            refusal=None if refusal is None else to_json({"reason": refusal, "questions": []}).decode(),
        )
        with self._store.transaction() as transaction:
            self._store.add_task(transaction, task)
            seal(transaction, TaskState(task, warnings=warnings, generation=generation))
        for warning in warnings:
            logger.warning("task %s: %s", name, warning)

    def add_program(self, task_id: str, code: str, language: str, *, activate: bool, seal: Seal[Artifact]) -> None:
        """Add a user's own program as the task's next version; older versions are unchanged, and the highest active one
        runs.

        Raises `UnknownTask`, and `ProgramRefused` for code that does not load.
        """
        if self._store.running_of(task_id) is None:
            raise UnknownTask(task_id)
        if len(code) > LARGEST_CODE:
            raise ProgramRefused("Code", f"Code must not exceed {LARGEST_CODE:,} characters")
        program = Program(code, language)
        try:
            reason = self._programs.check(program)
        except (UnsupportedLanguage, ConfigurationError) as error:
            raise ProgramRefused("Language", str(error)) from None
        if reason is not None:
            raise ProgramRefused("Code", reason)
        new = NewArtifact(
            task_id=task_id,
            code=code,
            language=language,
            status="active" if activate else "draft",
            lines_of_code=lines_of_code(code, known_language(language).comment),
            llm_provider="user",
        )
        with self._store.transaction() as transaction:
            seal(transaction, self._store.add_artifact(transaction, new))
        self._programs_chosen.discard((task_id, None))

    def set_status(self, task_id: str, version: int, status: str) -> Artifact | None:
        """Activate or retire a version; `None` if there is no such version."""
        with self._store.transaction() as transaction:
            found = self._store.set_status(transaction, task_id, version, status)
        self._programs_chosen.discard((task_id, None))
        return found

    def add_examples(self, task_id: str, examples: Sequence[Any]) -> TaskState:
        """Add examples; one with the input of an earlier one replaces it. Raises `UnknownTask`, `TooManyExamples`."""
        with self._store.transaction() as transaction:
            state = self._store.task_in(transaction, task_id)
            if state is None:
                raise UnknownTask(task_id)
            merged = {_input_of(example): example for example in from_json(state.task.examples)}
            merged.update({_input_of(example): example for example in examples})
            content = to_json(list(merged.values()))
            if len(content) > LARGEST_EXAMPLES:
                raise TooManyExamples(too_large(len(content)))
            self._store.set_examples(transaction, task_id, content)
        task = state.task
        schemas = from_json(task.input_schema), from_json(task.output_schema)
        warnings = task_warnings(*schemas, list(merged.values()), alone=self._settings.makes_alone)
        found = self._store.task(task_id)
        if found is None:
            raise UnknownTask(task_id)
        self._trainer.prepare()
        return replace(found, warnings=warnings)

    def delete_task(self, task_id: str) -> bool:
        """Delete a task with its programs and executions; return whether it existed."""
        with self._store.transaction() as transaction:
            found = self._store.delete_task(transaction, task_id)
        self._tasks.discard(task_id)
        self._programs_chosen.discard((task_id, None))
        self._store.delete_executions_of(task_id)
        return found

    def programs_changed(self, task_id: str) -> None:
        """Look up the active version again at the next execution."""
        self._programs_chosen.discard((task_id, None))

    # Executions

    def group_size(self, task_id: str, version: int | None) -> int:
        """Return how many inputs of a program may run together without noticeable waiting."""
        chosen = self._programs_chosen.get((task_id, version))
        expected_ms = None if chosen is None else self._programs.expected_ms(chosen.program)
        if expected_ms is None:
            return 1
        return max(1, min(MOST_TOGETHER, int(TOGETHER_MS / max(expected_ms, 0.01))))

    def execute_group(
        self, task_id: str, singles: Sequence[Single], *, version: int | None, timeout_ms: int | None
    ) -> list[Execution | Exception]:
        """Run the task's program on several inputs that arrived together, and record them in one transaction.

        Returns, in order, an execution, `InvalidInput`, or the exception of its `seal`.
        Raises `ExecutionFailed`, `NoActiveProgram`, `Abandoned`.
        """
        running = self._running(task_id)
        limit = PROGRAM_TIMEOUT_MS if timeout_ms is None else timeout_ms
        results: list[Execution | Exception] = []
        for single in singles:
            errors = running.check.errors(single.input) if self._settings.check_inputs else []
            results.append(InvalidInput(errors))
        fitting = [at for at, result in enumerate(results) if isinstance(result, InvalidInput) and not result.errors]
        while fitting:
            chosen = self._choose(task_id, version)
            values = [singles[at].input for at in fitting]
            outcomes = self._run_many(chosen.program, values, limit, 1, lambda: ENDING if self.ending else None)
            if self.ending:
                raise Abandoned(ENDING)
            made = []
            for at, outcome in zip(fitting, outcomes):
                checked = self._fitting(running, chosen, outcome)
                latency_ms = (time.perf_counter() - singles[at].began) * 1000
                sampled = _sampled(singles[at].force_validation, running)
                made.append(_execution(task_id, chosen, singles[at].input, checked, latency_ms, sampled))

            def record(transaction: Transaction, chosen: _Chosen = chosen, made: list[Execution] = made) -> bool:
                if self._superseded(transaction, task_id, version, chosen):
                    return False
                sealed = []
                for at, execution in zip(fitting, made):
                    results[at] = _sealed(singles[at], transaction, execution)
                    if results[at] is execution:
                        sealed.append(execution)
                self._store.add_executions(transaction, self._kept(sealed))
                return True

            if not self._store.write(record):
                continue
            for at, execution in zip(fitting, made):
                if results[at] is execution:
                    self._metrics.executed(execution, running.sampling_rate)
            break
        return results

    def execute_batch(
        self,
        task_id: str,
        rows: Sequence[BatchRow],
        *,
        version: int | None,
        timeout_ms: int | None,
        max_concurrency: int,
        stop_on_first_error: bool,
        stop: StopFlag,
        seal: Seal[list[RowResult]],
    ) -> None:
        """Run the task's program on each row and record all of it in one transaction.

        Rows that have not begun after the settings' `batch_seconds`, or when `stop` is set, are skipped.

        With `stop_on_first_error` rows run in groups of `max_concurrency`, and none after the group in which one
        failed.
        Raises `ExecutionFailed` and `NoActiveProgram`.
        """
        running = self._running(task_id)
        limit = PROGRAM_TIMEOUT_MS if timeout_ms is None else timeout_ms
        give_up = time.monotonic() + self._settings.batch_seconds

        def skipping() -> str | None:
            if self.ending:
                return ENDING
            if time.monotonic() > give_up:
                return f"Skipped: the batch took longer than {self._settings.batch_seconds:g} s"
            return stop()

        while True:
            chosen = self._choose(task_id, version)
            results = self._run_rows(
                running, chosen, task_id, rows, limit, max_concurrency, stop_on_first_error, skipping
            )
            abandoned = ENDING if self.ending else stop.reason
            if abandoned is not None:
                # A repeated request runs everything again.
                raise Abandoned(abandoned)
            made = [result.execution for result in results if result.execution is not None]
            with self._store.transaction() as transaction:
                if self._superseded(transaction, task_id, version, chosen):
                    continue
                self._store.add_executions(transaction, self._kept(made))
                seal(transaction, results)
            for execution in made:
                self._metrics.executed(execution, running.sampling_rate)
            return

    def _run_rows(
        self,
        running: _Running,
        chosen: _Chosen,
        task_id: str,
        rows: Sequence[BatchRow],
        limit: int,
        max_concurrency: int,
        stop_on_first_error: bool,
        skipping: Callable[[], str | None],
    ) -> list[RowResult]:
        results: list[RowResult] = []
        step = max_concurrency if stop_on_first_error else max(len(rows), 1)
        for start in range(0, len(rows), step):
            group = rows[start : start + step]
            if stop_on_first_error and any(result.reason is not None for result in results):
                results.extend(RowResult(row.id, None, SKIPPED, 0.0, SKIPPED_CODE) for row in group)
                continue
            skipped = [skipping() for _ in group]
            reasons = [skip or self._unfit(running, row.input) for row, skip in zip(group, skipped)]
            inputs = [row.input for row, reason in zip(group, reasons) if reason is None]
            outcomes = iter(self._run_many(chosen.program, inputs, limit, max_concurrency, skipping))
            for row, reason, skip in zip(group, reasons, skipped):
                if reason is not None:
                    results.append(RowResult(row.id, None, reason, 0.0, SKIPPED_CODE if skip else "VALIDATION_ERROR"))
                    continue
                outcome = self._fitting(running, chosen, next(outcomes))
                sampled = _sampled(row.force_validation, running)
                execution = _execution(task_id, chosen, row.input, outcome, outcome.latency_ms, sampled)
                results.append(RowResult(row.id, execution, execution.error_message, execution.latency_ms))
        return results

    def _kept(self, executions: Sequence[Execution]) -> Sequence[Execution]:
        if self._settings.record == "all":
            return executions
        if self._settings.record == "none":
            return []
        return [execution for execution in executions if execution.error_message is not None]

    def _fitting(self, running: _Running, chosen: _Chosen, outcome: ProgramOutcome) -> ProgramOutcome:
        """Return the outcome; if its output does not fit the task's schema, the settings decide."""
        if not outcome.ok or self._settings.check_outputs == "off":
            return outcome
        errors = running.check_output.errors(outcome.output)
        if not errors:
            return outcome
        path, text = errors[0]
        reason = f"Output does not fit the task's schema: {path.replace('input', 'output', 1)}: {text}"
        if self._settings.check_outputs == "reject":
            return ProgramOutcome(None, reason, outcome.latency_ms)
        if chosen.version not in running.told:
            running.told.add(chosen.version)
            logger.warning("program %s, version %d: %s", chosen.id, chosen.version, reason)
        return outcome

    def _running(self, task_id: str) -> _Running:
        running = self._tasks.get(task_id)
        if running is None:
            found = self._store.running_of(task_id)
            if found is None:
                raise ExecutionFailed(f"Task with ID {task_id} not found", "TASK_NOT_FOUND")
            of_input, of_output = _checked(from_json(found[1])), _checked(from_json(found[2]))
            running = _Running(found[0], of_input, of_output)
            self._tasks.put(task_id, running, of_input.weight + of_output.weight)
        return running

    def _choose(self, task_id: str, version: int | None) -> _Chosen:
        """Return the program to run. The active one may be cached: `_superseded` says whether it is outdated."""
        chosen = self._programs_chosen.get((task_id, version))
        if chosen is not None:
            return chosen
        if version is None:
            found = self._store.active_program(task_id)
            if found is None:
                raise NoActiveProgram(task_id)
        else:
            found = self._store.program_of_version(task_id, version)
            if found is None:
                reason = f"Program artifact version {version} for task {task_id} not found"
                raise ExecutionFailed(reason, "ARTIFACT_NOT_FOUND")
        chosen = _Chosen(*found, Program(*self._store.code(found[0])))
        return self._programs_chosen.put((task_id, version), chosen, len(chosen.program.code))

    def _superseded(self, transaction: Transaction, task_id: str, version: int | None, chosen: _Chosen) -> bool:
        """Return whether another version is active by now, which must run instead.

        Called where the run is recorded: there it costs a tenth of a query on a separate connection.
        """
        if version is not None:
            return False
        if self._store.active_program(task_id, transaction) == (chosen.id, chosen.version):
            return False
        self._programs_chosen.discard((task_id, None))
        return True

    def _unfit(self, running: _Running, value: Any) -> str | None:
        errors = running.check.errors(value) if self._settings.check_inputs else []
        return str(InvalidInput(errors)) if errors else None

    def _raise_if_ending(self) -> None:
        # Close the pool of programs in any case.
        if self.ending:
            raise Abandoned(ENDING) from None

    def end(self) -> None:
        """Start no more rows, and end running programs."""
        self.ending = True
        self._programs.kill()

    def _run_many(
        self,
        program: Program,
        values: Sequence[Any],
        timeout_ms: int,
        concurrency: int,
        stop: Callable[[], str | None],
    ) -> list[ProgramOutcome]:
        if timeout_ms < -1:
            refusal = ProgramOutcome(None, f"Execution error: timeout_ms must be at least -1, not {timeout_ms}", 0.0)
            return [refusal] * len(values)
        try:
            return self._programs.run_many(
                program, values, timeout_ms=timeout_ms, max_concurrency=concurrency, stop=stop
            )
        except (UnsupportedLanguage, ConfigurationError) as error:
            raise ExecutionFailed(str(error)) from None
        except RuntimeError:
            self._raise_if_ending()
            raise


def _checked(schema: Any) -> InputCheck:
    try:
        return InputCheck(schema)
    except SchemaTooLarge:
        # From a data folder that predates the limit.
        return InputCheck(True)


def _sealed(single: Single, transaction: Transaction, execution: Execution) -> Execution | Exception:
    if single.seal is not None:
        try:
            single.seal(transaction, execution)
        except Overtaken as error:
            return error
    return execution


def _sampled(force_validation: bool, running: _Running) -> bool:
    # Chooses executions for review; it need not be unpredictable.
    return force_validation or private_random.random() < running.sampling_rate


def _execution(
    task_id: str, chosen: _Chosen, value: Any, outcome: ProgramOutcome, latency_ms: float, sampled: bool
) -> Execution:
    output, error = None, outcome.error
    if error is None:
        try:
            output = to_json(outcome.output)
        except (ValueError, RecursionError) as raised:  # too deep, or half a surrogate pair: this output's own failure
            error = f"Execution error: the output cannot be written as JSON: {raised}"
    return Execution(
        id=new_id(),
        task_id=task_id,
        program_id=chosen.id,
        version=chosen.version,
        input=to_json(value),
        output=output,
        error_message=error,
        latency_ms=round(latency_ms, 4),
        sampled=sampled,
        executed_at=timestamps.now(),
        confidence=None if error is not None else outcome.confidence,
    )


def _input_of(example: Any) -> bytes:
    """Return the digest that identifies an example: of its input, or of the whole example if it has none."""
    return to_json(example["input"] if isinstance(example, dict) and "input" in example else example)
