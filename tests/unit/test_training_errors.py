"""What examples cannot teach, and what the error then tells their author to do."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="training needs scikit-learn")

from loopai.local.training import CannotLearn, train  # after the check for scikit-learn

TEXTS = ["win money now", "lunch at noon", "cheap pills here", "see you tomorrow", "free prize inside", "the report"]


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
        ([], ["no examples", "give at least 6", "push a program"]),
        (labelled(["a", "b", "a", "b"]), ["4 examples are too few", "at least 6"]),
        (labelled(["a"] * 10), ["same output", '"a"', "add examples of the other answers"]),
        (labelled([{"x": 1, "y": "k"}] * 10), ["same output", '"x": 1']),
        (labelled(["a"] * 9 + ["b"]), ["Too few examples", '"b"', "at least 2"]),
        (labelled(["a"]), ["1 example is too few", "same output"]),
        ([*labelled(["a", "b"] * 3), "oops"], ["Example 6", '{"input": …, "output": …}']),
        ([{"text": "a", "label": "b"}] * 8, ["Example 0", '{"input": …, "output": …}']),
        (labelled(["a", "b"] * 6, ["same text as ever"]), ["contradict", "examples 0 and 1", "6 of 12"]),
        (labelled(["a", "b", "c"] * 4, ["one two three", "four five six"]), ["contradict", "examples 0 and"]),
        ([{"input": {"colour": "red"}, "output": n % 2} for n in range(12)], ["contradict", "examples 0 and 1"]),
        (labelled([{"tags": ["a"]}, {"tags": []}] * 5), ["output field 'tags'", "an array", "Example 0"]),
        (labelled([{"who": {"name": "a"}}, {"who": {"name": "b"}}] * 5), ["output field 'who'", "an object"]),
        (labelled([["a"], ["b"]] * 5), ["example 0", "an array"]),
        (labelled([{"a": 1, "b": 2}, {"a": 1}] * 5), ["output field 'b'", "example 1", "null"]),
        (labelled([f"a long answer {n}" for n in range(12)]), ["free text", "12 different values"]),
        (labelled([{"reply": f"answer {n}"} for n in range(12)]), ["output field 'reply'", "free text"]),
        (labelled([*map(float, range(20)), None, None]), ["is a number in most examples"]),
        (labelled([{}] * 8), ["empty objects"]),
        ([{"input": {"tags": ["x", "y"]}, "output": n % 2} for n in range(8)], ["input field 'tags'", "array"]),
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
