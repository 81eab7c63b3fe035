"""Choose a generator for each field, judge all of them alike, and put the parts together into one program."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..exceptions import ConfigurationError
from ..programs import ProgramPool
from .by_example import Made, make
from .errors import CannotLearn
from .examples import MIN_EXAMPLES, check_contradictions, check_labels, read_examples, with_corrections
from .judging import Judge, Maker, Verdict
from .learner.fields import find_fields
from .learner.targets import OutputTarget, target_of
from .lists import make_list
from .literals import identifier, literal
from .mains import main_of
from .parts import Part, assemble
from .schemas import stated
from .seam import (
    Budget,
    Candidate,
    Failure,
    FieldReport,
    Previous,
    Question,
    Refusal,
    TaskDescription,
    cyclomatic_complexity,
    lines_of_code,
)
from .shapes import Leaf, Node, leaves, shape_of
from .tables import TABLE, make_table, repeats
from .values import same, shown

_MOST_QUESTIONS = 3
_MOST_KNOWN = 200
_MOST_FITTED, _FITTED_AT_ONCE = 2000, 200
_STANDS_IN = 0.8  # if the number occurs in the input of at least this share of rows, no regression is fitted
_EXACT = 0.999


@dataclass(frozen=True)
class _Plan:
    """What was chosen for a leaf."""

    leaf: Leaf
    part: Part
    verdict: Verdict
    made: Made | None = None


def generate(
    task: TaskDescription,
    examples: Sequence[Any],
    previous: Previous | None = None,
    failures: Sequence[Failure] = (),
    budget: Budget | None = None,
) -> Candidate | Refusal:
    """Return the program that the examples teach, or the reason why they teach none.

    `examples` are objects `{"input": …, "output": …}`; one without an output is a known input. `failures` that state
    the right output count as examples. The same arguments give the same program. Raises `ConfigurationError` if a
    library is missing.
    """
    started = time.perf_counter()
    limits = budget or Budget()
    try:
        inputs, outputs, known = read_examples(with_corrections(list(examples)[: limits.examples], failures))
        with ProgramPool(processes=2) as pool:
            composer = _Composer(task, inputs, outputs, [*known, *task.known_inputs], pool, started + limits.seconds)
            made = composer.candidate(started)
    except CannotLearn as error:
        return Refusal(str(error))
    if previous is not None and not made.better_than(previous):
        kept = f"The previous version, with score {previous.confidence_score:.2f}, is as good: keep it."
        made = replace(made, notes=(*made.notes, kept))
    return made


class _Composer:
    def __init__(
        self,
        task: TaskDescription,
        inputs: list[Any],
        outputs: list[Any],
        known: list[Any],
        pool: ProgramPool,
        deadline: float,
    ) -> None:
        self.task, self.inputs, self.outputs, self.known = task, inputs, outputs, known[:_MOST_KNOWN]
        self.judge = Judge(pool, inputs)
        self.deadline = deadline
        self.learner: Any = None
        self.reasons: list[str] = []

    def candidate(self, started: float) -> Candidate:
        rows = range(len(self.inputs))
        if len(self.inputs) < 2:
            raise CannotLearn("1 example is too few: give at least three.")
        if self.outputs[0] != {} and all(same(one, self.outputs[0]) for one in self.outputs):
            raise CannotLearn(
                f"Every example has the same output, {shown(self.outputs[0])}: add examples of the other answers, at "
                "least 2 of each."
            )
        shape = shape_of(dict(zip(rows, self.outputs)))
        plans = []
        names: set[str] = set()
        for leaf in leaves(shape):
            name = "answer" + (f"_{identifier('_'.join(map(str, leaf.path)))}" if leaf.path else "")
            while name in names:
                name += "_"
            names.add(name)
            leaf.function = name
            plans.append(self._plan(leaf))
        made = self._finished(shape, plans)
        return replace(made, generation_time_sec=round(time.perf_counter() - started, 3))

    # One leaf

    def _plan(self, leaf: Leaf) -> _Plan:
        rows, values = list(leaf.values), leaf.values
        if all(same(value, values[rows[0]]) for value in values.values()):
            constant = Part((), literal(values[rows[0]]), "rule", "a constant", "always the same value", 0.0)
            return _Plan(leaf, constant, Verdict(1.0, 1.0))
        if all(isinstance(value, list) for value in values.values()):
            return self._plan_list(leaf, rows)
        cases = not self._repeats(leaf)
        made = make([self.inputs[row] for row in rows], [values[row] for row in rows], leaf.function, cases=cases)
        best: _Plan | None = None
        if made is not None and self.judge.fits(made.part, rows, values):
            best = _Plan(leaf, made.part, self.judge.judge(self._by_example(leaf), rows, values), made)
            if best.verdict.score >= _EXACT or not self._repeats(leaf):
                return best
        for maker in self._makers(leaf, rows, best):
            if time.perf_counter() > self.deadline:
                self.reasons.append(
                    "The time limit for making the program was reached: give fewer examples, or more time."
                )
                break
            verdict = self.judge.judge(maker, rows, values)
            if best is not None and verdict.score <= best.verdict.score:
                continue
            part = maker(rows)
            if part is not None:
                best = _Plan(leaf, part, verdict)
                if verdict.score >= _EXACT and part.strategy == "rule":
                    break
        if best is None:
            raise CannotLearn(" ".join(dict.fromkeys(self.reasons)) or self._nothing_found(leaf))
        if best.part.model == TABLE and best.verdict.answered:
            # A table is judged on the keys that repeat: no other key occurs both in the shown and the held-back rows.
            return replace(best, verdict=replace(best.verdict, score=best.verdict.score / best.verdict.answered))
        return best

    def _by_example(self, leaf: Leaf) -> Maker:
        def maker(shown_rows: Sequence[int]) -> Part | None:
            made = make(
                [self.inputs[row] for row in shown_rows],
                [leaf.values[row] for row in shown_rows],
                leaf.function,
                cases=not self._repeats(leaf),
            )
            return None if made is None else made.part

        return maker

    def _plan_list(self, leaf: Leaf, rows: list[int]) -> _Plan:
        def maker(shown_rows: Sequence[int]) -> Part | None:
            return make_list(
                [self.inputs[row] for row in shown_rows], [leaf.values[row] for row in shown_rows], leaf.function
            )

        part = maker(rows)
        if part is None or not self.judge.fits(part, rows, leaf.values):
            raise CannotLearn(
                f"No way was found to make the list {leaf.name!r} from the input: labels that repeat and texts "
                "split at a mark can be learnt; give these, or push a program of your own."
            )
        return _Plan(leaf, part, self.judge.judge(maker, rows, leaf.values))

    def _makers(self, leaf: Leaf, rows: list[int], best: _Plan | None) -> Iterator[Maker]:
        free = not self._repeats(leaf)
        if best is None and len(rows) >= MIN_EXAMPLES and (free or repeats(self.inputs, rows)):

            def table(shown_rows: Sequence[int]) -> Part | None:
                return make_table(self.inputs, leaf.values, shown_rows, leaf.function, codes=not free)

            if table(rows) is not None:
                yield table
        target = self._target(leaf, rows)
        if target is not None:
            yield lambda shown_rows: self.learner.part(target, shown_rows, leaf.function)

    def _repeats(self, leaf: Leaf) -> bool:
        """Return whether the values are labels or amounts, which models can learn too."""
        values = list(leaf.values.values())
        distinct = len({repr(value) for value in values})
        if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            return distinct <= len(values) / 3
        return distinct <= max(2, len(values) / 2) and (len(values) >= MIN_EXAMPLES or distinct < len(values) / 2)

    def _target(self, leaf: Leaf, rows: list[int]) -> OutputTarget | None:
        """Return what a model would have to learn; if it cannot, return None and keep the reason."""
        try:
            target = target_of(
                str(leaf.path[-1]) if leaf.path else None,
                [leaf.values[row] for row in rows],
                stated(self.task.output_schema, leaf.path),
            )
            check_labels(target)
            if not target.is_class and self._stands_in_input(leaf, rows):
                raise CannotLearn(
                    f"The number {leaf.name!r} stands in the inputs, and no program was found that takes it out of "
                    "every example: correct the examples, or add some of the form that is missing."
                )
            # The schema and all inputs decide which fields exist; the rows decide what is learnt from them.
            fields = find_fields(self.inputs, self.task.input_schema)
            check_contradictions([self.inputs[row] for row in rows], [target], fields)
            if not fields:
                raise CannotLearn(
                    "The examples' inputs are all the same, or hold nothing but nulls: give inputs that differ in a "
                    "text, a number, a category or a boolean."
                )
            if self.learner is None:
                from .learner.learning import Learner

                self.learner = Learner(self.inputs, fields)
        except CannotLearn as error:
            self.reasons.append(str(error))
            return None
        places: list[float] = [0.0] * len(self.inputs)
        for row, answer in zip(rows, target.rows):
            places[row] = answer
        return OutputTarget(target.key, target.labels, tuple(places), target.whole)

    def _stands_in_input(self, leaf: Leaf, rows: list[int]) -> bool:
        hits = 0
        for row in rows:
            texts = [text for text in _texts(self.inputs[row]) if not _is_number(text)]
            numbers = {
                float(one.replace(",", ""))
                for text in texts
                for one in re.findall(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?", text)
            }
            hits += abs(float(leaf.values[row])) in numbers
        return hits >= _STANDS_IN * len(rows)

    def _nothing_found(self, leaf: Leaf) -> str:
        return (
            f"No program was found that gives {leaf.name!r} for all {len(leaf.values)} examples: add examples, correct "
            "those that differ from the others, or push a program of your own."
        )

    # The whole program

    def _finished(self, shape: Node, plans: Sequence[_Plan]) -> Candidate:
        main = main_of(shape, {plan.leaf.function: plan.part for plan in plans})
        parts = [plan.part for plan in plans]
        varying = [plan for plan in plans if plan.part.model != "a constant"] or list(plans)
        estimate = any(part.estimate for part in parts)
        score = round(min(plan.verdict.score for plan in varying), 4)
        reports = tuple(
            FieldReport(
                plan.leaf.name,
                plan.part.strategy,
                round(plan.verdict.score, 4),
                plan.part.told,
                plan.verdict.recall,
                plan.part.estimate,
            )
            for plan in plans
        )
        told = self._told(varying, score)
        code = assemble(told, parts, main)
        fits = not estimate and self._fits(code)
        questions = self._questions(plans, code)
        strategies = {part.strategy for part in parts if part.model != "a constant"} or {"rule"}
        return Candidate(
            code=code,
            confidence_score=score,
            synthesis_strategy=strategies.pop() if len(strategies) == 1 else "hybrid",
            model="; ".join(dict.fromkeys(plan.part.model for plan in varying))[:200],
            summary=" ".join(told[1:]),
            fits_examples=fits,
            lines_of_code=lines_of_code(code),
            cyclomatic_complexity=cyclomatic_complexity(code),
            estimate=estimate,
            fields=reports,
            questions=questions,
            notes=tuple(self._notes(varying, questions, score)),
        )

    def _fits(self, code: str) -> bool:
        """Return whether the program is exact on the first examples, which rule out most wrong programs cheaply."""
        for start in range(0, min(len(self.inputs), _MOST_FITTED), _FITTED_AT_ONCE):
            rows = range(len(self.inputs))[start : start + _FITTED_AT_ONCE]
            outcomes = self.judge.run(code, rows)
            if not all(one.error is None and same(one.output, self.outputs[row]) for one, row in zip(outcomes, rows)):
                return False
        return True

    def _told(self, plans: Sequence[_Plan], score: float) -> list[str]:
        lines = [
            f"Task {literal(self.task.name)}: {' '.join(self.task.description.split())[:600]}",
            f"Made by loopai from {len(self.inputs):,} examples.",
        ]
        for plan in plans[:40]:
            name = f"Field {literal(plan.leaf.name)}: " if plan.leaf.path else "Output: "
            measure = "R² on held-back examples" if plan.part.estimate else "exact on held-back examples"
            mark = ", an estimate" if plan.part.estimate else ""
            lines.append(f"{name}{plan.part.told}{mark}; {measure}: {plan.verdict.score:.3f}.")
            if plan.verdict.recall and min(share for _, share in plan.verdict.recall) < plan.verdict.score - 0.1:
                worst = sorted(plan.verdict.recall, key=lambda entry: entry[1])[:3]
                lines.append(
                    "Right answers by label, the worst first: "
                    + ", ".join(f"{literal(value)} {share:.2f}" for value, share in worst)
                    + "."
                )
        return lines

    def _notes(self, plans: Sequence[_Plan], questions: Sequence[Question], score: float) -> Iterator[str]:
        for question in questions:
            answers = " or ".join(shown(answer) for answer in question.answers)
            yield f"Programs that fit all examples disagree: give the output for {shown(question.input)} ({answers})."
        if score < self.task.accuracy_target:
            yield (
                f"The score {score:.2f} is below the accuracy target {self.task.accuracy_target:.2f}: add examples of "
                "the inputs that come out wrong."
            )

    def _questions(self, plans: Sequence[_Plan], code: str) -> tuple[Question, ...]:
        if not self.known or not any(plan.made is not None and plan.made.rivals for plan in plans):
            return ()
        found = []
        for value in self.known:
            for plan in plans:
                if plan.made is None:
                    continue
                answers: list[Any] = []
                for evaluate in (plan.made.evaluate, *plan.made.rivals):
                    try:
                        answer = evaluate(value)
                    except (ValueError, ArithmeticError):
                        continue
                    if not any(same(answer, other) for other in answers):
                        answers.append(answer)
                if len(answers) > 1:
                    found.append(Question(value, tuple(answers[:4])))
                    break
        # Prefer the input on which most programs differ.
        found.sort(key=lambda question: -len(question.answers))
        return tuple(found[:_MOST_QUESTIONS])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


__all__ = ["ConfigurationError", "generate"]
