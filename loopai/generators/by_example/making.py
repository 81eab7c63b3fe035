"""Search for a function that maps the inputs to the outputs of one field, and return its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..parts import Part, carried
from ..values import same
from . import runtime as run
from .amounts import amount, computed_expressions
from .conditions import branches, flags
from .expressions import Expression, applied, leaf
from .moments import coherent, moment_expressions
from .numbers import number_expressions, rounded_up
from .search import Found, concatenate, constant_cost, rivals
from .sequences import lists_of, sequence_conditions, sequence_numbers
from .texts import adjacent, text_pool, timely

_MOST_COLUMNS = 12
_SEARCHED = 12  # examples that a search uses; the others check its result
_ROUNDS = 4
_LONGEST_OUTPUT = 400
_LONGEST_INPUT = 3000
_LONGEST_READ = 200
_RIVALS_WITHIN = 1.2
_COPIED = 2.0


@dataclass(frozen=True)
class Made:
    """What the search found: its source, a function that computes it, and rivals that fit the examples as well."""

    part: Part
    evaluate: Callable[[Any], Any]
    rivals: tuple[Callable[[Any], Any], ...] = ()


def make(inputs: Sequence[Any], outputs: Sequence[Any], function: str, *, cases: bool = True) -> Made | None:
    """Return a program for one field, named `function`, that is exact on all examples; None if none was found.

    With `cases` it may have two cases, chosen by a condition on the input. Labels go without: models learn them better.
    """
    columns = _columns(inputs)
    if len(inputs) < 2 or all(same(output, outputs[0]) for output in outputs):
        return None
    chosen = _spread(inputs, outputs)
    for _ in range(_ROUNDS):
        made = _search(
            [inputs[row] for row in chosen], [outputs[row] for row in chosen], columns, function, cases=cases
        )
        if made is None:
            return None
        missed = [
            row for row in range(len(inputs)) if row not in chosen and not _agrees(made, inputs[row], outputs[row])
        ]
        if not missed:
            return made
        if len(missed) > len(inputs) / 2 and len(inputs) > 2 * _SEARCHED:
            return None
        chosen = [*chosen, *missed[:3]]
    return None


def _agrees(made: Made, value: Any, output: Any) -> bool:
    try:
        return same(made.evaluate(value), output)
    except (ValueError, ArithmeticError):
        return False


def _spread(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[int]:
    """Return the rows that the search uses first: rows of different lengths and outputs."""
    if len(inputs) <= _SEARCHED:
        return list(range(len(inputs)))
    order = sorted(range(len(inputs)), key=lambda row: (len(str(outputs[row])), len(str(inputs[row])), row))
    step = len(order) / 6
    return sorted({order[int(place * step)] for place in range(6)} | {order[-1]})


def _columns(inputs: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the paths of the texts and numbers that every input has."""
    paths = list(_leaves(inputs[0], ()))
    found = []
    for path in paths:
        texts = []
        for value in inputs:
            try:
                texts.append(run.text_at(value, path))
            except ValueError:
                break
        if len(texts) == len(inputs) and sum(map(len, texts[:200])) / min(len(texts), 200) <= _LONGEST_INPUT:
            found.append(path)
    return found[:_MOST_COLUMNS]


def _leaves(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield path


def _search(
    inputs: Sequence[Any], outputs: Sequence[Any], paths: Sequence[tuple[Any, ...]], function: str, *, cases: bool
) -> Made | None:
    columns = [leaf(path, run.text_at, inputs, 0.5) for path in paths]
    lists = lists_of(inputs)
    if not columns and not lists:
        return None
    if all(isinstance(output, bool) for output in outputs):
        rule = flags(columns, outputs, [one for one in sequence_conditions(lists) if one is not None])
        if rule is None:
            return None
        return Made(_part(function, rule.expression, "a rule"), rule.evaluate)
    if all(isinstance(output, (int, float)) and not isinstance(output, bool) for output in outputs):
        sums = [one for one in sequence_numbers(lists) if one is not None]
        found = amount(columns, outputs, sums)
        if found is None:
            return None
        return Made(_part(function, found, "arithmetic"), found.evaluate)
    if not all(isinstance(output, str) and len(output) <= _LONGEST_OUTPUT for output in outputs):
        return None
    if not cases and _are_long(columns, len(outputs)) and not _are_held(columns, outputs):
        return None  # labels of long texts depend on words, which models learn
    pool = text_pool(columns, outputs)
    for extra in (moment_expressions, number_expressions):
        for one in extra(columns, outputs):
            pool.add(one)
    copied = all(any(output in (column.values[row] or "") for column in columns) for row, output in enumerate(outputs))
    if not copied and all(re.fullmatch(_NUMBER, output) for output in outputs):
        for one in computed_expressions(columns, outputs):
            pool.add(one)
    expressions = list(pool)
    rows = range(len(outputs))
    constants = _constants(columns)
    whole = _concatenated(expressions, outputs, constants)
    if whole is None and not copied:
        computed = [one for one in computed_expressions(columns, outputs) if one is not None]
        expressions += computed
        whole = _concatenated(expressions, outputs, constants) if computed else None
    if whole is not None:
        others = tuple(one.evaluate for one in rivals(whole, expressions, rows, _RIVALS_WITHIN))
        whole = _finished(whole, expressions)
        return Made(_text_part(function, [(None, whole)]), whole.evaluate, others)
    split = branches(columns, expressions, outputs) if cases else None
    if split is None or any(not _determined(found, [outputs[row] for row in own]) for found, own in split.programs):
        return None
    return Made(_text_part(function, split.lines()), split.evaluate)


def _are_long(columns: Sequence[Expression], count: int) -> bool:
    """Return whether the inputs are texts of several lines rather than fields."""
    return sum(len(value) for column in columns for value in column.values) > _LONGEST_READ * count


def _are_held(columns: Sequence[Expression], outputs: Sequence[str]) -> bool:
    """Return whether each output occurs in its input, ignoring case."""
    return all(
        any(output.lower() in column.values[row].lower() for column in columns) for row, output in enumerate(outputs)
    )


def _concatenated(
    expressions: Sequence[Expression], outputs: Sequence[str], constants: Callable[[str], float]
) -> Found | None:
    found = concatenate(expressions, outputs, range(len(outputs)), most_constant=constants)
    return found if found is not None and _determined(found, outputs) else None


def _constants(columns: Sequence[Expression]) -> Callable[[str], float]:
    """Return what constants cost: more if they are digits that all inputs contain, since copying is likelier."""
    rows = [" ".join(values) for values in zip(*(column.values for column in columns))]

    def cost(text: str) -> float:
        copied = [digits for digits in re.findall("[0-9]{2,}", text) if all(digits in row for row in rows)]
        return constant_cost(text) + _COPIED * len(copied)

    return cost


def _finished(found: Found, expressions: Sequence[Expression]) -> Found:
    """Return the same program with parts that agree with each other, and with checks that they are not empty."""
    parts = timely(coherent(adjacent(rounded_up(found.parts, expressions))))
    return Found(tuple(map(_filled, parts)), found.cost)


_NUMBER = "-?(?:0|[1-9][0-9]*)(?:[.][0-9]+)?"
_MAY_BE_EMPTY = ("before", "after", "piece", "between", "{0}")


def _filled(part: Expression) -> Expression:
    """Return the part, with a check that it is not empty if it never is in the examples but could be."""
    if part.path is not None or not part.operands or "" in part.values or not part.template.startswith(_MAY_BE_EMPTY):
        return part
    return applied("filled({0})", run.filled, (part,), 0.0) or part


def _determined(found: Found, outputs: Sequence[str]) -> bool:
    """Return whether the program is shorter than the outputs that it explains: a longer one may fit by chance."""
    return found.cost <= 3.0 + 0.55 * sum(map(len, outputs))


def _text_part(function: str, cases: Sequence[tuple[Expression | None, Found]]) -> Part:
    lines: list[str] = []
    for condition, found in cases:
        indent = "    "
        if condition is not None:
            lines.append(f"    if {condition.source({})}:")
            indent = "        "
        lines += _returned(found.parts, indent)
    return _built(function, lines, sum(found.cost for _, found in cases), "an expression found by search")


def _returned(parts: Sequence[Expression], indent: str) -> list[str]:
    """Return the lines that compute the parts; a value used more than once gets a variable."""
    names: dict[int, str] = {}
    by_source: dict[str, str] = {}
    lines: list[str] = []
    walked = [one for part in parts for one in part.walk()]
    sources = [one.source({}) for one in walked]
    for one, source in zip(walked, sources):
        if source in by_source:
            names[id(one)] = by_source[source]
        elif (one.named or one.path is not None) and (one.named or sources.count(source) > 1 or len(parts) == 1):
            stem = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in one.named.lower())[
                :30
            ]
            name = f"{stem}_value" if one.path is not None else stem
            name = name if name[:1].isalpha() else f"value_{name}"
            while name in by_source.values():
                name += "_"
            lines.append(f"{indent}{name} = {one.source(names)}")
            by_source[source] = names[id(one)] = name
    return [*lines, f"{indent}return " + " + ".join(part.source(names) for part in parts)]


def _part(function: str, found: Expression, model: str) -> Part:
    return _built(function, _returned([found], "    "), found.cost, model)


def _built(function: str, lines: Sequence[str], cost: float, model: str) -> Part:
    body = [f"def {function}(input):", f'    """Return the value, by {model}."""', *lines]
    text = "\n".join(body)
    return Part((*carried(run, [text]), text), f"{function}(input)", "dsl", model, model, cost)
