"""Conditions on an input: rules for booleans, and programs with a case for each form of input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .expressions import Expression, applied, quoted
from .search import Found, concatenate

_MOST_PARTITIONS = 40
_MOST_ROWS = 12
_MOST_ALONE = 2.0  # most that a program may cost if only one example shows it: little more than copying the input
_BLANKS = {"n/a", "na", "none", "null", "nil", "unknown", "missing", "-", "--", "?", "nan", "not available", "tbd"}
_SHAPES = (
    ("[0-9]", 1.0),
    ("[A-Za-z]", 1.2),
    ("^[0-9]", 1.4),
    ("^[A-Z]", 1.6),
    ("[0-9]$", 1.5),
    ("[a-z]", 1.6),
    ("^[A-Za-z ]+$", 1.8),
    ("^[0-9]+$", 1.4),
)


@dataclass(frozen=True)
class Rule:
    """A condition as an expression."""

    expression: Expression

    @property
    def cost(self) -> float:
        """How much the condition assumes."""
        return self.expression.cost

    @property
    def source(self) -> str:
        """The condition as Python."""
        return self.expression.source({})

    def evaluate(self, value: Any) -> bool:
        """Return whether the condition holds for an input."""
        return bool(self.expression.evaluate(value))


@dataclass(frozen=True)
class Split:
    """A condition, and a program for the inputs that meet it and one for the others."""

    condition: Expression
    programs: tuple[tuple[Found, list[int]], tuple[Found, list[int]]]

    def lines(self) -> list[tuple[Expression | None, Found]]:
        """Return the cases in order; the last one has no condition."""
        return [(self.condition, self.programs[0][0]), (None, self.programs[1][0])]

    def evaluate(self, value: Any) -> str:
        """Return the output for one input."""
        return self.programs[0 if self.condition.evaluate(value) else 1][0].evaluate(value)


def flags(columns: Sequence[Expression], outputs: Sequence[bool], extra: Sequence[Expression] = ()) -> Rule | None:
    """Return the simplest rule that gives these booleans; None if there are too few examples for any rule."""
    if len(set(outputs)) < 2:
        return None
    fitting = []
    known = sorted([*_conditions(columns), *extra], key=lambda one: one.cost)
    for one in known:
        for rule in (one, _negated(one)):
            if rule is not None and list(rule.values) == list(outputs):
                fitting.append(rule)
    if not fitting:
        fitting = list(_joined(known[:60], outputs))
    best = min(fitting, key=lambda one: one.cost, default=None)
    # Each example decides between two answers: a rule chosen from more candidates than that may fit by chance.
    return Rule(best) if best is not None and best.cost <= _bound(len(outputs)) else None


def _bound(count: int) -> float:
    return 0.3 + 0.35 * count


def branches(columns: Sequence[Expression], pool: Sequence[Expression], outputs: Sequence[str]) -> Split | None:
    """Return the cheapest program with two cases; None if there is none."""
    count = len(outputs)
    if not 3 <= count <= _MOST_ROWS:
        return None
    best: tuple[float, Split] | None = None
    seen: set[tuple[bool, ...]] = set()
    for condition in sorted(_conditions(columns), key=lambda one: one.cost):
        truth = tuple(map(bool, condition.values))
        if truth in seen or all(truth) or not any(truth):
            continue
        if len(seen) >= _MOST_PARTITIONS:
            break
        seen.add(truth)
        groups = [[row for row in range(count) if truth[row] is side] for side in (True, False)]
        found = [one for one in (concatenate(pool, outputs, group) for group in groups) if one is not None]
        if len(found) < 2:
            continue
        if any(
            len(group) == 1
            and (one.cost > _MOST_ALONE or _is_learnt_by_heart(condition, one))
            and outputs[group[0]].lower() not in _BLANKS
            for group, one in zip(groups, found)
        ):
            continue
        cost = condition.cost + found[0].cost + found[1].cost
        if best is None or cost < best[0]:
            best = (cost, Split(condition, ((found[0], groups[0]), (found[1], groups[1]))))
    return None if best is None else best[1]


def _is_learnt_by_heart(condition: Expression, found: Found) -> bool:
    """Return whether the program maps one whole input to one whole output."""
    always = all(part.path is None and not part.operands for part in found.parts)
    return always and len(condition.operands) == 1 and condition.template.startswith("{0} == ")


def _negated(one: Expression) -> Expression | None:
    return applied("not {0}", lambda value: not value, (one,), 0.2)


def _joined(known: Sequence[Expression], outputs: Sequence[bool]) -> Iterator[Expression]:
    rules = [*known, *(one for one in map(_negated, known) if one is not None)]
    rules = [one for one in rules if len(set(one.values)) > 1]
    for place, one in enumerate(rules):
        for other in rules[place + 1 :]:
            if one.cost + other.cost + 0.6 > _bound(len(outputs)):
                continue
            for word, values in (
                ("and", [bool(a and b) for a, b in zip(one.values, other.values)]),
                ("or", [bool(a or b) for a, b in zip(one.values, other.values)]),
            ):
                if values == list(outputs):
                    joint = applied(
                        f"({{0}} {word} {{1}})",
                        (lambda a, b: a and b) if word == "and" else (lambda a, b: a or b),
                        (one, other),
                        0.6,
                    )
                    if joint is not None:
                        yield joint


def _conditions(columns: Sequence[Expression]) -> Iterator[Expression]:
    for one in _all_conditions(columns):
        if one is not None and None not in one.values:
            yield one


def _all_conditions(columns: Sequence[Expression]) -> Iterator[Expression | None]:
    for place, one in enumerate(columns):
        for other in columns[place + 1 :]:
            yield applied("{0} == {1}", lambda a, b: a == b, (one, other), 0.0)
            yield applied("{0}.lower() == {1}.lower()", lambda a, b: a.lower() == b.lower(), (one, other), 0.3)
        for other in columns:
            if other is not one:
                yield applied("{1} in {0}", lambda a, b: b in a, (one, other), 0.2)
                yield applied("{0}.startswith({1})", lambda a, b: a.startswith(b), (one, other), 0.4)
                yield applied("{0}.endswith({1})", lambda a, b: a.endswith(b), (one, other), 0.4)
        others = tuple(other for other in columns if other is not one)
        if len(others) > 1:
            shown = ", ".join(f"{{{number + 1}}}" for number in range(len(others)))
            for name, every in (("all", all), ("any", any)):
                yield applied(
                    f"{name}(part in {{0}} for part in ({shown}))",
                    lambda text, *parts, q=every: q(part in text for part in parts),
                    (one, *others),
                    -0.5 * len(others),
                )
    for column in columns:
        texts = [value for value in column.values if value is not None]
        for pattern, cost in _SHAPES:
            yield applied(
                f"re.search({quoted(pattern)}, {{0}}) is not None",
                lambda text, p=pattern: re.search(p, text) is not None,
                (column,),
                cost,
            )
        marks = set(re.findall("[^A-Za-z0-9]", " ".join(texts)))
        words = {word for text in texts if len(text) < 200 for word in re.findall("[A-Za-z]{2,}|[0-9]+", text)}
        for mark in sorted(marks):
            yield applied(f"{quoted(mark)} in {{0}}", lambda text, m=mark: m in text, (column,), 0.9)
        for word in sorted(words)[:60]:
            yield applied(f"{quoted(word)} in {{0}}", lambda text, m=word: m in text, (column,), 1.8)
        for size in sorted({len(text.split()) for text in texts if len(text) < 200}):
            yield applied(f"len({{0}}.split()) == {size}", lambda text, n=size: len(text.split()) == n, (column,), 1.2)
        for size in (1, 2):
            for start in sorted({text[:size] for text in texts if text}):
                yield applied(
                    f"{{0}}.startswith({quoted(start)})",
                    lambda text, s=start: text.startswith(s),
                    (column,),
                    1.4 + 0.2 * size,
                )
            for end in sorted({text[-size:] for text in texts if text}):
                yield applied(
                    f"{{0}}.endswith({quoted(end)})", lambda text, s=end: text.endswith(s), (column,), 1.5 + 0.2 * size
                )
        if len(set(texts)) <= 6:
            for value in sorted(set(texts)):
                yield applied(f"{{0}} == {quoted(value)}", lambda text, v=value: text == v, (column,), 1.2)
