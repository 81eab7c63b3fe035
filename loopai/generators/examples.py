"""Examples as users give them: their shape, and whether anything can be learnt from them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .errors import CannotLearn
from .learner.fields import Field
from .learner.targets import MIN_EXAMPLES_A_LABEL, OutputTarget, rare_labels
from .seam import Failure

MIN_EXAMPLES = 6  # for a model: with fewer, none can be held back to measure what was learnt

# Share of the examples that may differ from the commonest answer to the same input. Free text seldom repeats, so a
# second answer there is a mistake; rows of a few categories repeat by chance, and their answers vary.
MAX_CONTRADICTIONS_TEXT = 0.1
MAX_CONTRADICTIONS = 0.25


def read_examples(examples: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the inputs, their outputs, and the inputs without an output."""
    if not examples:
        raise CannotLearn(
            'There are no examples to learn from: give at least three objects {"input": …, "output": …}, '
            "set a language model that writes one from the description (LOOPAI_LLM_MODEL), or push a program of "
            "your own."
        )
    for index, example in enumerate(examples):
        if not isinstance(example, dict) or "input" not in example:
            raise CannotLearn(
                f'Example {index} is not an object {{"input": …, "output": …}}: give each example that shape.'
            )
    complete = [example for example in examples if "output" in example]
    if not complete:
        raise CannotLearn('No example has an output: give at least three objects {"input": …, "output": …}.')
    return (
        [example["input"] for example in complete],
        [example["output"] for example in complete],
        [example["input"] for example in examples if "output" not in example],
    )


def with_corrections(examples: Sequence[Any], failures: Sequence[Failure]) -> list[Any]:
    """Return the examples, plus each failure that states the right output for an input not in the examples."""
    known = {_input_key(example["input"]) for example in examples if isinstance(example, dict) and "input" in example}
    corrected = [
        {"input": one.input, "output": one.expected}
        for one in failures
        if one.expected is not None and _input_key(one.input) not in known
    ]
    return [*examples, *corrected]


def _input_key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def check_labels(target: OutputTarget) -> None:
    """Raise `CannotLearn` if a model cannot learn the labels from so few examples."""
    problems = []
    count = len(target.rows)
    if count < MIN_EXAMPLES:
        problems.append(
            f"{count} example{'s are' if count > 1 else ' is'} too few: give at least {MIN_EXAMPLES}, better "
            "50 or more."
        )
    rare = rare_labels(target)
    if rare and not target.is_constant:
        named = ", ".join(json.dumps(label, ensure_ascii=False) for label in rare[:5])
        problems.append(
            f"Too few examples of {target.name}: {named}{' and others' if len(rare) > 5 else ''}: give at least "
            f"{MIN_EXAMPLES_A_LABEL} of each answer, or leave that answer out."
        )
    if problems:
        raise CannotLearn(" ".join(problems))


def check_contradictions(inputs: Sequence[Any], targets: Sequence[OutputTarget], fields: Sequence[Field]) -> None:
    """Raise `CannotLearn` if too many equal inputs have different outputs; a few are noise."""
    bound = MAX_CONTRADICTIONS_TEXT if any(field.column == "text" for field in fields) else MAX_CONTRADICTIONS
    alike: dict[str, list[int]] = {}
    for index, value in enumerate(inputs):
        alike.setdefault(json.dumps(value, sort_keys=True), []).append(index)
    for target in targets:
        if not target.is_class:
            continue  # amounts scatter: the score of the fit shows how much
        contradicting = 0
        first: tuple[int, int] | None = None
        for indices in alike.values():
            answers = Counter(target.rows[index] for index in indices)
            contradicting += len(indices) - max(answers.values())
            if first is None and len(answers) > 1:
                other = next(i for i in indices if target.rows[i] != target.rows[indices[0]])
                first = (indices[0], other)
        if first is not None and contradicting > bound * len(inputs):
            raise CannotLearn(
                f"The examples contradict each other: {contradicting} of {len(inputs)} give another {target.name} than "
                f"others with the same input (examples {first[0]} and {first[1]}, say). Correct them, or add the "
                "input field that makes the difference."
            )
