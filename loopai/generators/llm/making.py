"""`ModelGenerator`: has a model write a program and repair it, and keeps the best."""

from __future__ import annotations

import ast
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...exceptions import ConfigurationError
from ...language_model import LanguageModel, redactor_of
from ...programs import Program, ProgramPool
from ..errors import CannotLearn
from ..examples import read_examples, with_corrections
from ..samples import sample_inputs
from ..seam import (
    Budget,
    Candidate,
    Failure,
    Previous,
    Refusal,
    TaskDescription,
    cyclomatic_complexity,
    lines_of_code,
)
from ..whole import RUN_MS, TRIAL_SECONDS, Bench, Example, Sleep, Trial, below_target, split, task_line, with_head
from .chat import Chat, ChatFailed
from .prompt import LONGEST_CODE, SAMPLES, SYSTEM, code_of, first_message, repair_message

REPAIRS = 3
MOST_PROPOSED = 20
UNVERIFIED_SCORE = 0.5
"""The score of every program written by a model on the published server."""


@dataclass(frozen=True)
class _Attempt:
    """A program that loads: its results on the examples shown to the model, and its share of right ones on the rest."""

    code: str
    trial: Trial
    held_score: float

    @property
    def rank(self) -> tuple[float, float, int]:
        return self.held_score, self.trial.right, -len(self.code)


class ModelGenerator:
    """Has a language model write programs. See `Generator`; `sleep` waits between attempts, `run_ms` limits one run.

    The model only learns about results from its own programs, run on the redacted examples.
    """

    def __init__(self, model: LanguageModel, sleep: Sleep = time.sleep, run_ms: int = RUN_MS) -> None:
        self._model = model
        self._sleep = sleep
        self._run_ms = run_ms

    def generate(
        self,
        task: TaskDescription,
        examples: Sequence[Any],
        previous: Previous | None = None,
        failures: Sequence[Failure] = (),
        budget: Budget | None = None,
    ) -> Candidate | Refusal:
        """Return a program that the model wrote, or why there is none."""
        started = time.monotonic()
        limits = budget or Budget(seconds=self._model.seconds)
        given = with_corrections(list(examples)[: limits.examples], failures)
        try:
            inputs, outputs, _ = read_examples(given) if _has_outputs(given) else ([], [], [])
            chat = Chat(self._model, min(limits.seconds, self._model.seconds), self._sleep)
            real = [Example(*pair) for pair in zip(inputs, outputs)]
            with ProgramPool(processes=2) as pool:
                # A program that arrives at the last moment is still judged.
                bench = Bench(pool, task, started + limits.seconds + 2 * TRIAL_SECONDS, self._run_ms)
                made = _Making(self._model, task, real, bench, chat, failures).run(previous)
        except (CannotLearn, ChatFailed, ConfigurationError) as error:
            return Refusal(str(error))
        return replace(made, generation_time_sec=round(time.monotonic() - started, 3))


class _Making:
    """One generation."""

    def __init__(
        self,
        model: LanguageModel,
        task: TaskDescription,
        examples: list[Example],
        bench: Bench,
        chat: Chat,
        failures: Sequence[Failure] = (),
    ) -> None:
        self.model, self.task, self.bench, self.chat = model, task, bench, chat
        self.examples = examples
        shown, self.held = split(examples, model.examples, failed=[one.input for one in failures])
        self.shown = shown if model.redact is None else _redacted(shown, model.redact)
        # Made from the schema alone, so they contain nobody's data.
        self.inputs = [] if self.shown else sample_inputs(task.input_schema)

    def run(self, previous: Previous | None) -> Candidate:
        source = None if previous is None or not self._may_show(previous) else previous.code
        fault = None if source is None else self._tried(source, self.inputs).fault
        ask = first_message(self.task, self.shown, source, fault, samples=not self.shown)
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ask}]
        best: _Attempt | None = None
        reason = ""
        for _ in range(1 + REPAIRS):
            try:
                answer = self.chat.ask(messages)
            except ChatFailed as error:
                if best is None:
                    raise
                reason = f"The model was not asked again: {error}."
                break
            code = code_of(answer.text)
            trial = None
            if code is not None and len(code) <= LONGEST_CODE:
                attempt, trial = self._attempt(code)
                if attempt is not None and (best is None or attempt.rank > best.rank):
                    best = attempt
                if trial.fault is None:
                    break
            repair = repair_message(None if trial is None else trial.fault, answer.cut_off)
            reason = f"The last answer of {self.model.model} was no good: {_first_line(repair)}"
            written = code if code is not None else answer.text[:1000]
            messages = [
                *messages[:2],
                {"role": "assistant", "content": f"```python\n{written[:LONGEST_CODE].rstrip()}\n```"},
                {"role": "user", "content": repair},
            ]
        return self._candidate(best, reason)

    def _may_show(self, previous: Previous) -> bool:
        """Whether the source may be sent: a program that no model wrote may contain the examples."""
        return previous.by_model or (self.model.redact is None and self.model.examples > 0)

    def _attempt(self, code: str) -> tuple[_Attempt | None, Trial]:
        program, proposed = without_samples(code)
        inputs = [] if self.shown else sample_inputs(self.task.input_schema, proposed)
        trial = self._tried(program, inputs)
        if not trial.loads:
            return None, trial
        held = self.bench.try_on_examples(Program(program), self.held).right if self.held and trial.right else 0.0
        return _Attempt(program, trial, held), trial

    def _tried(self, code: str, inputs: Sequence[Any]) -> Trial:
        if self.shown:
            return self.bench.try_on_examples(Program(code), self.shown)
        return self.bench.try_on_inputs(Program(code), inputs)

    def _candidate(self, best: _Attempt | None, reason: str) -> Candidate:
        name = self.model.model
        if best is None:
            raise CannotLearn(f"{name} wrote no program that loads. {reason}")
        if best.trial.right == 0:
            raise CannotLearn(f"{name} wrote no program that works for any input it was tried on. {reason}")
        count = len(self.examples)
        if self.held:
            score = round(best.held_score, 4)
            said = f"Exact on examples that it was not shown ({len(self.held):,}): {score:.3f}."
        else:
            score = UNVERIFIED_SCORE * best.trial.right
            said = "Not verified: no example was held back. It only ran on inputs, and its outputs fit the schema."
            if self.shown:
                said = f"Not verified: too few examples to hold one back. Right on these: {best.trial.right:.2f}."
        source = (
            f"Written by the language model {name} from {len(self.shown)} of {count:,} examples."
            if count
            else f"Written by the language model {name} from the description alone."
        )
        code = with_head(best.code, "python", [task_line(self.task), source, said])
        notes = [said] if not self.held else []
        if score < self.task.accuracy_target and self.held:
            notes.append(below_target(score, self.task.accuracy_target))
        if best.trial.fault is not None and reason:
            notes.append(reason)
        everything = self.bench.try_on_examples(Program(code), self.examples) if count else None
        return Candidate(
            code=code,
            confidence_score=score,
            synthesis_strategy="auto",
            model=name,
            summary=f"{source} {said}",
            fits_examples=everything is not None and everything.right == 1.0,
            provider=self.model.provider,
            cost=round(self.chat.cost, 6),
            lines_of_code=lines_of_code(code),
            cyclomatic_complexity=cyclomatic_complexity(code),
            notes=tuple(notes),
            usage=self.chat.usage,
            verified=bool(self.held),
            draft=not self.held and self.model.unverified == "draft",
        )


def without_samples(code: str) -> tuple[str, list[Any]]:
    """Return the program without the list of inputs that the model proposed, and these inputs."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code, []
    lines, proposed = code.splitlines(), []
    for node in reversed(tree.body):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [SAMPLES]:
            try:
                values = ast.literal_eval(node.value)
            except (ValueError, TypeError, RecursionError, MemoryError):
                values = []
            proposed += [value for value in values if _is_json(value)] if isinstance(values, list) else []
            del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines).strip("\n") + "\n", proposed[:MOST_PROPOSED]


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _redacted(examples: Sequence[Example], path: str) -> list[Example]:
    """The examples as returned by the user's function, which takes `{"input": …, "output": …}` and may return None."""
    redact = redactor_of(path)
    found = []
    for one in examples:
        try:
            value = redact({"input": one.input, "output": one.output})
        except Exception as error:  # noqa: BLE001  # a user's function may raise anything; then nothing is shown
            raise ConfigurationError(f"llm_redact={path!r} raised {type(error).__name__}") from None
        if value is None:
            continue
        if not isinstance(value, dict) or not {"input", "output"} <= value.keys():
            raise ConfigurationError(f'llm_redact={path!r} must return {{"input": …, "output": …}} or None')
        found.append(Example(value["input"], value["output"]))
    return found


def _has_outputs(examples: Sequence[Any]) -> bool:
    """Whether any example has an output; inputs alone teach nothing here."""
    return any(not isinstance(example, dict) or "output" in example or "input" not in example for example in examples)


def _first_line(text: str) -> str:
    return " ".join(text.partition("\n\nWrite the whole")[0].split())[:300]
