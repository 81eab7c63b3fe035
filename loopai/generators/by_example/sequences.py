"""Lists in the input: counts, sums, any and all of their items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from . import runtime as run
from .expressions import Expression, applied, quoted

Path = tuple[Any, ...]
_MOST_LISTS = 6


def lists_of(inputs: Sequence[Any]) -> list[tuple[Expression, str]]:
    """Return the lists (of texts, numbers or object values) that every input has, each with its kind."""
    found = []
    for path in _paths(inputs[0], ()):
        lists = []
        for value in inputs:
            try:
                lists.append(run.list_at(value, path, ()))
            except ValueError:
                break
        if len(lists) < len(inputs):
            continue
        items = [item for one in lists for item in one]
        keys: list[Path] = [()]
        if items and all(isinstance(item, dict) for item in items):
            keys += [(key,) for key in items[0] if all(key in item for item in items)]
        for key in keys:
            one = _leaf(path, key, inputs)
            inner = [item for row in one.values for item in row]
            texts = bool(inner) and all(isinstance(item, str) for item in inner)
            numbers = bool(inner) and all(
                isinstance(item, (int, float)) and not isinstance(item, bool) for item in inner
            )
            found.append((one, "texts" if texts else "numbers" if numbers else "items"))
    return found[:_MOST_LISTS]


def sequence_numbers(lists: Sequence[tuple[Expression, str]]) -> Iterator[Expression | None]:
    """Yield counts, sums, extremes and sums of products."""
    numbers: list[tuple[Expression, str]] = []
    for one, kind in lists:
        if kind != "numbers" and (kind == "texts" or not any(kind_ == "items" for _, kind_ in numbers)):
            yield applied("len({0})", len, (one,), 0.5)
        if kind == "numbers":
            exact = applied("decimals({0})", run.decimals, (one,), 0.1)
            if exact is not None:
                numbers.append((exact, kind))
                yield applied("sum({0})", lambda items: sum(items, Decimal(0)), (exact,), 0.4)
                yield applied("max({0})", max, (exact,), 0.7)
                yield applied("min({0})", min, (exact,), 0.7)
                yield applied("len({0})", len, (exact,), 0.8)
    for place, (one, _) in enumerate(numbers):
        for other, _ in numbers[place + 1 :]:
            yield applied(
                "sum(a * b for a, b in zip({0}, {1}))",
                lambda first, second: sum((a * b for a, b in zip(first, second)), Decimal(0)),
                (one, other),
                0.4,
            )


def sequence_conditions(lists: Sequence[tuple[Expression, str]]) -> Iterator[Expression | None]:
    """Yield conditions on any or all of the items, and on their number."""
    for one, kind in lists:
        values = [row for row in one.values if row is not None]
        for size in sorted({len(row) for row in values})[:6]:
            yield applied(f"len({{0}}) > {size}", lambda items, n=size: len(items) > n, (one,), 1.0)
        if kind == "texts":
            for text in sorted({item for row in values for item in row})[:60]:
                yield applied(f"{quoted(text)} in {{0}}", lambda items, t=text: t in items, (one,), 0.6)
                yield applied(
                    f"all(item == {quoted(text)} for item in {{0}})",
                    lambda items, t=text: all(item == t for item in items),
                    (one,),
                    1.2,
                )


def _leaf(path: Path, key: Path, inputs: Sequence[Any]) -> Expression:
    def read(value: Any, where: Path) -> list[Any]:
        return run.list_at(value, where, key)

    values = []
    for value in inputs:
        try:
            values.append(read(value, path))
        except ValueError:
            values.append([])
    template = f"list_at(input, {quoted(path)}, {quoted(key)})"
    return Expression(template, read, (), 0.5, tuple(values), path, "_".join(map(str, (*path, *key))) or "items")


def _paths(value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        yield path
