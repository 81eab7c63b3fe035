"""Which fields the outputs have, and whether each is a choice between answers, a number or a constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CannotLearn
from ..literals import literal
from ..schemas import Stated

Label = str | bool | int | float | None

# Up to this many distinct whole numbers, each given three times on average, are answers to choose from, not amounts.
_MAX_NUMBER_LABELS = 20
_EXAMPLES_A_NUMBER_LABEL = 3
MIN_EXAMPLES_A_LABEL = 2  # one to learn from and one to check with


@dataclass(frozen=True)
class OutputTarget:
    """One field of the output; `key` is None if the output is a bare value.

    `labels` holds the answers to choose from (one alone: a constant) and `rows` each example's index into it; for
    an amount `labels` is empty and `rows` holds the amounts. `whole` says that amounts are whole numbers.
    """

    key: str | None
    labels: tuple[Label, ...]
    rows: tuple[float, ...]
    whole: bool = False

    @property
    def name(self) -> str:
        """The field's name in messages and comments."""
        return "the output" if self.key is None else literal(self.key)

    @property
    def is_class(self) -> bool:
        """Whether an answer is chosen rather than an amount computed."""
        return bool(self.labels)

    @property
    def is_constant(self) -> bool:
        """Whether every example has the same value."""
        return len(self.labels) == 1


def rare_labels(target: OutputTarget) -> list[Label]:
    """The answers with too few examples to learn from."""
    counts = Counter(target.rows)
    return [label for index, label in enumerate(target.labels) if 0 < counts[index] < MIN_EXAMPLES_A_LABEL]


def target_of(key: str | None, values: Sequence[Any], facts: Stated) -> OutputTarget:
    """Return what the values of one output field are. Raises `CannotLearn` if no model can produce them."""
    values = list(values)
    name = "the output" if key is None else f"the output field {literal(key)}"
    for index, value in enumerate(values):
        if not isinstance(value, (str, bool, int, float)) and value is not None:
            raise CannotLearn(
                f"Example {index}: {name} is {_described(value)}, which cannot be learnt: give strings, numbers or "
                "booleans, or push a program of your own."
            )
    labels = _distinct(values)
    if _is_amount(name, values, labels, facts):
        whole = all(isinstance(value, int) for value in values) and facts.types != frozenset({"number"})
        return OutputTarget(key, (), tuple(float(value) for value in values), whole)
    if any(isinstance(label, str) for label in labels) and len(labels) > max(2, len(values) / 2):
        raise CannotLearn(
            f"{name[0].upper()}{name[1:]} is free text ({len(labels)} different values in {len(values)} examples), "
            "and no program was found that makes it from the input: add examples of the same form, correct those that "
            "differ from the others, or push a program of your own."
        )
    places = {_identity(label): index for index, label in enumerate(labels)}
    return OutputTarget(key, tuple(labels), tuple(float(places[_identity(value)]) for value in values))


def _is_amount(name: str, values: list[Any], labels: list[Label], facts: Stated) -> bool:
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(labels) == 1 or facts.values is not None or len(numbers) < len(values) / 2:
        return False
    whole = all(float(value).is_integer() for value in numbers)
    few = (
        len(labels) <= _MAX_NUMBER_LABELS
        and len(labels) * _EXAMPLES_A_NUMBER_LABEL <= len(values)
        and (whole or len(labels) == 2)
    )
    if few:
        return False
    if len(numbers) < len(values):
        raise CannotLearn(
            f"{name[0].upper()}{name[1:]} is a number in most examples and not in all: give a number in each, or "
            "leave the others out."
        )
    return True


def _distinct(values: list[Any]) -> list[Label]:
    """Each value once, sorted if possible, so that a program does not depend on the order of the examples."""
    by_identity = {_identity(value): value for value in reversed(values)}
    return [by_identity[identity] for identity in sorted(by_identity)]


def _identity(value: Label) -> tuple[str, float, str]:
    """Distinguish True from 1, but not 1 from 1.0, which are the same number in JSON."""
    if isinstance(value, (bool, int, float)):
        return ("boolean" if isinstance(value, bool) else "number", float(value), "")
    return (type(value).__name__, 0.0, value or "")


def _described(value: Any) -> str:
    return "an array" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)
