"""The quality of outputs if the right ones are known: accuracy, precision, recall, confusion matrix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Callable, Optional

from pydantic_core import to_json

from ...exceptions import OptionError
from ..mapping import Unmapped, path_reader

MOST_LABELS = 50
"""Most labels that are distinguished; a field with more is not a class, and further ones count as OTHER."""

OTHER = "(other)"
NO_LABEL = "(none)"

LONGEST_LABEL = 200
"""Most characters of a label; a longer one is shortened to its start and a digest of the whole."""


def label_of(value: Any) -> str:
    """Return a label as the text that is compared."""
    if value is None:
        return NO_LABEL
    if isinstance(value, float) and value.is_integer():
        # CSV and JSON write the same number with and without its fraction.
        return str(int(value))
    text = value if isinstance(value, str) else to_json(value).decode()
    if len(text) <= LONGEST_LABEL:
        return text
    return f"{text[:LONGEST_LABEL]}… {blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


def storable(text: str) -> str:
    """Return the text in a form that every database accepts inside JSON: no NUL, no lone surrogate."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


class Expectation:
    """`label` or `label=output.verdict`: the column with the right answer, and the path of the program's answer.

    A bare column is compared with the member of that name, with the only member, or with an output that is not an
    object.
    Raises `ConfigurationError` for any other text.
    """

    def __init__(self, text: str) -> None:
        column, sign, path = text.partition("=")
        self.column = column.strip()
        path = path.strip()
        if not self.column or (sign and not path):
            raise OptionError("{expect} {text!r}: write COLUMN, or COLUMN=output.PATH", text=text)
        if path == "output" or path.startswith("output."):
            path = path[len("output.") :]
        elif sign:
            raise OptionError("{expect} {text!r}: the path starts at the result: output.{path}", text=text, path=path)
        self._bare = not sign
        self._expected = path_reader(self.column)
        self._read: Optional[Callable[[Mapping[str, Any]], Any]] = path_reader(path) if path else None

    def expected(self, columns: Mapping[str, Any]) -> Optional[str]:
        """The right label, `None` if the row has none."""
        try:
            value = self._expected(columns)
        except Unmapped:
            return None
        return None if value is None or value == "" else label_of(value)

    def predicted(self, output: Any) -> str:
        """The program's label."""
        if self._bare and isinstance(output, Mapping):
            if self.column in output:
                return label_of(output[self.column])
            return label_of(next(iter(output.values()))) if len(output) == 1 else label_of(dict(output))
        if self._read is None or not isinstance(output, Mapping):
            return label_of(output)
        try:
            return label_of(self._read(output))
        except Unmapped:
            return NO_LABEL


_Z = 1.959964
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""


def wilson(share: float, rows: int) -> tuple[float, float]:
    """Return Wilson's interval of 95 % confidence for a share of `rows`, which holds for few rows, too."""
    spread = _Z * math.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    middle, scale = share + _Z**2 / (2 * rows), 1 + _Z**2 / rows
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


class Quality:
    """Counts of expected and predicted labels. Failed rows are counted separately, not as wrong."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.failed = 0
        self._labels: dict[str, None] = {}

    def add(self, expected: str, predicted: str, rows: int = 1) -> None:
        """Count one row, or several."""
        self.counts[self._known(expected), self._known(predicted)] += rows

    def merge(self, other: Quality) -> None:
        """Add another's counts."""
        for (expected, predicted), rows in other.counts.items():
            self.add(expected, predicted, rows)
        self.failed += other.failed

    def dump(self) -> dict[str, Any]:
        """Return it as JSON; `load` reads it."""
        pairs = [[storable(known), storable(made), rows] for (known, made), rows in self.counts.items()]
        return {"counts": pairs, "failed": self.failed}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Quality:
        """Restore the result of `dump`."""
        made = cls()
        for expected, predicted, rows in dumped["counts"]:
            made.add(expected, predicted, rows)
        made.failed = dumped["failed"]
        return made

    def _known(self, label: str) -> str:
        if label not in self._labels and label != OTHER:
            if len(self._labels) >= MOST_LABELS:
                return OTHER
            self._labels[label] = None
        return label

    @property
    def rows(self) -> int:
        """Rows compared."""
        return sum(self.counts.values())

    @property
    def wrong(self) -> int:
        """Compared rows whose label is not the expected one."""
        return sum(count for (expected, predicted), count in self.counts.items() if expected != predicted)

    @property
    def right(self) -> int:
        """Compared rows whose label is the expected one."""
        # Two labels beyond the limit may differ.
        return sum(count for (expected, predicted), count in self.counts.items() if expected == predicted != OTHER)

    @property
    def accuracy(self) -> Optional[float]:
        """Share of the compared rows that are right, `None` if none was compared."""
        rows = self.rows
        return self.right / rows if rows else None

    @property
    def interval(self) -> Optional[tuple[float, float]]:
        """The 95 % confidence interval of the accuracy; `None` if no row was compared."""
        accuracy = self.accuracy
        return None if accuracy is None else wilson(accuracy, self.rows)

    @property
    def labels(self) -> list[str]:
        """All labels seen, in alphabetical order."""
        return sorted({label for pair in self.counts for label in pair})

    def classes(self) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 (shares from 0 to 1, `None` where undefined) and number of expected rows per label."""
        found = {}
        for label in self.labels:
            right = self.counts[label, label]
            expected = sum(count for (known, _), count in self.counts.items() if known == label)
            predicted = sum(count for (_, made), count in self.counts.items() if made == label)
            precision = right / predicted if predicted else None
            recall = right / expected if expected else None
            both = (precision or 0.0) + (recall or 0.0)
            f1 = 2 * (precision or 0.0) * (recall or 0.0) / both if both else None
            found[label] = {"precision": precision, "recall": recall, "f1": f1, "rows": expected}
        return found

    def matrix(self) -> list[list[int]]:
        """Rows by expected (down) and predicted (across) label, in the order of `labels`."""
        labels = self.labels
        return [[self.counts[expected, predicted] for predicted in labels] for expected in labels]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "rows": self.rows,
            "failed": self.failed,
            "accuracy": self.accuracy,
            "interval": self.interval,
            "classes": self.classes(),
            "labels": self.labels,
            "confusion": self.matrix(),
        }
