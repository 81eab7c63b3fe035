"""What examples cannot teach, and what the error then tells their author to do."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="training needs scikit-learn")

from loopai.generators import (
    Candidate,
    CannotLearn,
    Refusal,
    TaskDescription,
    generate,
)  # after the check for scikit-learn

TEXTS = ["win money now", "lunch at noon", "cheap pills here", "see you tomorrow", "free prize inside", "the report"]


def train(*, name: str, description: str, input_schema: Any, output_schema: Any, examples: Any) -> Candidate:
    """The program for these examples, which must be one."""
    made = generate(TaskDescription(name, description, input_schema, output_schema), examples)
    if isinstance(made, Refusal):
        raise CannotLearn(made.reason)
    return made


LONG = [" ".join(f"{n * 31 % 97}x{m}" for m in range(9)) for n in range(12)]


def make(examples: Any, output_schema: Any = None) -> None:
    train(name="t", description="d", input_schema={}, output_schema=output_schema or {}, examples=examples)


def labelled(outputs: list[Any], inputs: list[Any] | None = None) -> list[Any]:
    return [
        {"input": (inputs or TEXTS)[n % len(inputs or TEXTS)] if inputs else f"{TEXTS[n % 6]} {n}", "output": output}
        for n, output in enumerate(outputs)
    ]


@pytest.mark.parametrize(
    ("examples", "parts"),
    [
        ([], ["no examples", "at least three", "push a program"]),
        (labelled(["a", "b", "a", "b"]), ["4 examples are too few", "at least 6"]),
        (labelled(["a"] * 10), ["same output", '"a"', "add examples of the other answers"]),
        (labelled([{"x": 1, "y": "k"}] * 10), ["same output", '"x": 1']),
        (labelled(["a"] * 9 + ["b"]), ["Too few examples", '"b"', "at least 2"]),
        (labelled(["a"]), ["1 example is too few", "at least three"]),
        ([*labelled(["a", "b"] * 3), "oops"], ["Example 6", '{"input": …, "output": …}']),
        ([{"text": "a", "label": "b"}] * 8, ["Example 0", '{"input": …, "output": …}']),
        (labelled(["a", "b"] * 6, ["same text as ever"]), ["contradict", "examples 0 and 1", "6 of 12"]),
        (labelled(["a", "b", "c"] * 4, ["one two three", "four five six"]), ["contradict", "examples 0 and"]),
        ([{"input": {"colour": "red"}, "output": n % 2} for n in range(12)], ["contradict", "examples 0 and 1"]),
        (labelled([{"x": {"y": 1}}, {"x": "z"}] * 5), ["x", "as object and as value", "one shape"]),
        (labelled([{"tale": f"{n * 7919 % 101} tales"} for n in range(12)], LONG), ['"tale"', "free text"]),
        (labelled([["one", n] for n in "qwertzuiop"]), ["list", "push a program"]),
        (labelled([{}] * 8), ["empty objects"]),
        ([{"input": {"x": None}, "output": n / 7} for n in range(12)], ["inputs are all the same", "give inputs"]),
    ],
)
def test_the_message_names_the_remedy(examples: Any, parts: list[str]) -> None:
    """Each error says what is wrong, where, and what to give instead."""
    with pytest.raises(CannotLearn) as caught:
        make(examples)
    for part in parts:
        assert part in str(caught.value)


def test_the_error_survives_pickle() -> None:
    """It may cross a process boundary."""
    error = CannotLearn("4 examples are too few")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_few_contradictions_are_noise() -> None:
    """Real labels have mistakes: one in twenty-five does not stop the learning."""
    examples = labelled(["spam", "ham"] * 12)
    make([*examples, {**examples[0], "output": "ham"}])


def test_equal_rows_with_scattered_amounts_are_no_contradiction() -> None:
    """The same kind of house sells at several prices."""
    make([{"input": {"rooms": n % 4}, "output": (n % 4) * 10.0 + n / 7} for n in range(40)])
