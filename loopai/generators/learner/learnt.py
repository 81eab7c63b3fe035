"""The result of training as plain data: enough to write a program from, without any scikit-learn object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .fields import Field
from .targets import OutputTarget

Row = tuple[float, ...]  # one weight for an amount or for two answers, else one for each answer
Node: TypeAlias = "float | LabelLeaf | tuple[str, float, Node, Node]"  # a leaf, or (column, limit, at most, above)

# The weight of a word that occurs in a text once, twice, …: 1 + ln(n), the usual damping of repetitions. A table,
# because logarithms may differ in the last digit between machines; further repetitions add nothing.
TIMES = (
    0.0, 1.0, 1.693, 2.099, 2.386, 2.609, 2.792, 2.946, 3.079, 3.197, 3.303,
    3.398, 3.485, 3.565, 3.639, 3.708, 3.773, 3.833, 3.89, 3.944, 3.996,
)  # fmt: skip


@dataclass(frozen=True)
class LabelLeaf:
    """The end of a branch that chooses a label, with the label's share of the examples there (one added to each)."""

    label: int
    certainty: float


@dataclass(frozen=True)
class NumberTerm:
    """A number adds `weights` × (value - `mean`); where it is missing, `missing`."""

    field: str
    mean: float
    weights: Row
    missing: Row


@dataclass(frozen=True)
class MeasureTerm:
    """One measure of a text (see `reading.measures`) adds `weights` × (value - `mean`)."""

    field: str
    index: int
    mean: float
    weights: Row


@dataclass(frozen=True)
class WordTerms:
    """Weights of the words of one text field, or of several read as one; with each word's rarity if that counts."""

    fields: tuple[str, ...]
    weights: dict[str, tuple[Row, float]]


@dataclass(frozen=True)
class Words:
    """How texts become weights: `tokens` names the reader, `weighting` is "binary", "log" or "tf-idf"."""

    tokens: str
    pairs: bool
    weighting: str
    terms: tuple[WordTerms, ...]


@dataclass(frozen=True)
class LinearModel:
    """A sum of weights: the larger of several sums, the sign of one, or the amount itself.

    With `highest`, the sum is the natural logarithm of the amount, and counts as at most that.
    """

    start: Row
    numbers: tuple[NumberTerm, ...]
    measures: tuple[MeasureTerm, ...]
    choices: dict[str, dict[str | bool | int | None, Row]]
    words: Words | None
    highest: float | None = None


@dataclass(frozen=True)
class Columns:
    """The columns that trees read: numbers (with a stand-in for missing ones) and single categories."""

    numbers: dict[str, tuple[str, float]]  # column: field, stand-in
    missing: dict[str, str]  # column: field
    choices: dict[str, tuple[str, str | bool | int | None]]  # column: field, category


@dataclass(frozen=True)
class TreeModel:
    """One tree (leaves: an answer's index or an amount), or several whose leaves are summed from `start` on."""

    start: Row
    columns: Columns
    trees: tuple[tuple[Node, ...], ...]  # rounds, each with one tree, or one for each answer
    summed: bool


@dataclass(frozen=True)
class RateModel:
    """An amount as a number of the input times what the model says for each unit of it; `mean` where it is missing."""

    field: str
    mean: float
    model: LinearModel | TreeModel


@dataclass(frozen=True)
class MeanModel:
    """An amount as the average of several models: each one's mistakes are halved."""

    models: tuple[LinearModel | TreeModel | RateModel, ...]


@dataclass(frozen=True)
class Learnt:
    """The model of one output field, with a description of its method."""

    target: OutputTarget
    model: LinearModel | TreeModel | RateModel | MeanModel
    method: str
    fields: tuple[Field, ...]
    scale: float = 1.0
    """The factor for the sums that makes certainties match how often the answers are right."""
    one_each: bool = False
    """Whether each label has a model of its own, against the others."""
