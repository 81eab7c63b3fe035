"""Numbers inside texts: how they are read, rounded, put into ranges and written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from . import runtime as run
from .expressions import Expression, applied, quoted

_STEPS = (
    "0.01", "0.05", "0.1", "0.25", "0.5", "1", "2", "3", "4", "5", "10", "15", "20", "25", "30", "40", "50", "60", "75",
    "100", "200", "250", "500", "1000", "2000", "5000", "10000", "100000", "1000000",
)  # fmt: skip
_SCALES = ("100", "1000", "0.01", "0.001", "1000000", "0.000001", "60", "-1")
_COPIED = 1.0
_PLAIN = "[0-9]+(?:[.,][0-9]+)*"


def number_expressions(columns: Sequence[Expression], outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield the numbers in the columns as the outputs may write them."""
    if not any(re.search("[0-9]", output) for output in outputs):
        return
    formats = _formats(outputs)
    for column in columns:
        texts = [value for value in column.values if value]
        if not texts or any(len(text) > 200 for text in texts) or not any(re.search("[0-9]", text) for text in texts):
            continue
        sources = [(column, 0.3)]
        if any(len(re.findall(_PLAIN, text)) > 1 for text in texts):
            for which, cost in ((0, 1.2), (-1, 1.4), (1, 1.5), (2, 1.8)):
                one = applied(
                    f"match({{0}}, {quoted(_PLAIN)}, {which})",
                    lambda text, k=which: run.match(text, _PLAIN, k),
                    (column,),
                    0.2,
                )
                if one is not None:
                    sources.append((one, cost))
        for source, cost in sources:
            for point in (".", ","):
                if point == "," and not any("," in text for text in texts):
                    continue
                number = applied(
                    f"number_in({{0}}, {quoted(point)})",
                    lambda text, p=point: run.number_in(text, p),
                    (source,),
                    cost + (0.0 if point == "." else 0.5),
                    "number",
                )
                if number is not None:
                    yield from _shown(number, formats, deep=source is column)


def _shown(number: Expression, formats: Sequence[tuple[int, str, str]], *, deep: bool) -> Iterator[Expression | None]:
    yield from _written(number, formats, 0.6)
    size = applied("abs({0})", abs, (number,), 0.8)
    if size is not None and size.values != number.values:
        yield from _written(size, formats, 0.6)
    for scale in _SCALES if deep else ():
        scaled = applied(f'({{0}} * Decimal("{scale}"))', lambda n, s=Decimal(scale): n * s, (number,), 1.4)
        if scaled is not None:
            yield from _written(scaled, formats, 0.6)
    for step in _STEPS:
        for way, cost in (("down", 1.4), ("nearest", 1.5), ("up", 1.6)):
            rounded = applied(
                f'to_step({{0}}, "{step}", {quoted(way)})',
                lambda n, s=step, w=way: run.to_step(n, s, w),
                (number,),
                cost + (0.0 if step.strip("0.") in ("1", "5") else 0.3),
                "rounded",
            )
            if rounded is None or rounded.values == number.values:
                continue
            yield from _written(rounded, formats, 0.4)
            if way == "down" and deep:
                for shift in (Decimal(step), Decimal(step) - 1, Decimal(1)):
                    if shift > 0:
                        end = applied(
                            f'({{0}} + Decimal("{shift}"))',
                            lambda n, s=shift: n + s,
                            (rounded,),
                            0.1 if shift != 1 else 0.6,
                        )
                        if end is not None:
                            yield from _written(end, formats, 0.4)


def _written(number: Expression, formats: Sequence[tuple[int, str, str]], cost: float) -> Iterator[Expression | None]:
    column = number.walk()[0]
    for place, (decimals, thousands, point) in enumerate(formats):
        shown = applied(
            f"written({{0}}, {decimals}, {quoted(thousands)}, {quoted(point)})",
            lambda n, d=decimals, t=thousands, p=point: run.written(n, d, t, p),
            (number,),
            cost + 0.05 * place,
        )
        if shown is not None and all(a is None or b is None or a in b for a, b in zip(shown.values, column.values)):
            shown = replace(shown, cost=shown.cost + _COPIED)  # taken out as it is, not computed
        yield shown
    yield applied("ordinal(int({0}))", lambda n: run.ordinal(int(n)), (number,), cost + 0.8)


def _formats(outputs: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return (decimals, thousands separator, decimal mark) of the numbers in the outputs."""
    found = [one for output in outputs for one in re.findall("[0-9]+(?:[.,' ][0-9]+)*", output)]
    text = " ".join(found)
    formats: list[tuple[int, str, str]] = [(-1, "", ".")]
    for point in (".", ","):
        for size in sorted({len(one.rpartition(point)[2]) for one in found if point in one}):
            if size <= 6:
                formats.append((size, "", point))
    formats.append((0, "", "."))
    for mark in (",", ".", " ", "'"):
        if re.search(f"[0-9]{re.escape(mark)}[0-9]{{3}}(?![0-9])", text):
            other = "," if mark == "." else "."
            formats += [(decimals, mark, other) for decimals in (-1, 0, 1, 2)]
    return list(dict.fromkeys(formats))
