"""Numbers inside texts: reading, rounding, ranges and notation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from . import runtime as run
from .expressions import Expression, applied, quoted

_STEPS = (
    "0.01", "0.05", "0.1", "0.25", "0.5", "1", "2", "3", "4", "5", "10", "15", "20", "25", "30", "40", "50", "60", "75",
    "100", "200", "250", "500", "1000", "2000", "5000", "10000", "100000", "1000000",
)  # fmt: skip
_SCALES = ("100", "1000", "0.01", "0.001", "1000000", "0.000001", "60", "-1", "1024", "0.0009765625")
_COPIED = 1.0
_PLAIN = "[0-9]+(?:[.,][0-9]+)*"


def number_expressions(columns: Sequence[Expression], outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield the numbers in the columns as the outputs may write them."""
    notations = _notations(outputs)
    if not notations and not any(re.search("[0-9]", output) for output in outputs):
        return
    formats = _formats(outputs)
    alone = all(len(re.findall("[0-9.,]+", output)) == 1 for output in outputs)
    for column in columns:
        texts = [value for value in column.values if value]
        if not texts or any(len(text) > 200 for text in texts):
            continue
        if all(re.fullmatch("[IVXLCDM]+", text) for text in texts):
            yield applied("str(from_roman({0}))", lambda text: str(run.from_roman(text)), (column,), 0.8)
        if not any(re.search("[0-9]", text) for text in texts):
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
        if all(re.search("[0-9][.][0-9]+[.][0-9]", text) for text in texts):
            yield from _next_versions(column)
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
                    yield from _shown(number, formats, deep=source is column, alone=alone)
                    for template, function, own in notations:
                        yield applied(template, function, (number,), own)
        if all(re.fullmatch("-?[0-9.]+[eE][+-]?[0-9]+", text) for text in texts):
            number = applied("Decimal({0})", Decimal, (column,), 0.3, "number")
            if number is not None:
                yield from _written(number, formats, 0.6)


def _next_versions(column: Expression) -> Iterator[Expression | None]:
    """Yield each number of a version or an address, plus one."""
    for which, cost in ((-1, 2.8), (0, 3.0), (1, 3.0), (2, 3.4)):
        yield applied(
            f'str(int(match({{0}}, "[0-9]+", {which})) + 1)',
            lambda text, k=which: str(int(run.match(text, "[0-9]+", k)) + 1),
            (column,),
            cost,
        )


def step_cost(step: str, way: str) -> float:
    """Return the cost of rounding to a step: tens are likelier than fives where both fit."""
    first = step.strip("0.")
    return 0.0 if first == "1" else 0.3 if first != "5" else 0.0 if way == "down" else 0.1


def rounded_up(parts: Sequence[Expression], pool: Sequence[Expression]) -> list[Expression]:
    """Return the parts, with the upper end rounded up where no other part shows the lower end.

    In "37 to 40", 40 is 37 rounded up; in "30-40" both come from the lower end.
    """
    made = list(parts)
    for place, part in enumerate(made):
        ends = [one for one in part.walk() if one.operands and one.operands[0].named == "rounded"]
        ends = [one for one in ends if one.template.startswith(("({0} + ", "(({0} + "))]
        if not ends:
            continue
        lower = ends[0].operands[0]
        if any(lower in other.walk() for other in made if other is not part):
            continue
        for rival in pool:
            if rival.values == part.values and any(one.template.endswith('"up")') for one in rival.walk()):
                made[place] = rival
                break
    return made


def _notations(outputs: Sequence[str]) -> list[tuple[str, Callable[[Decimal], str], float]]:
    """Return the non-decimal notations in which all outputs could show a number, with their costs."""
    found: list[tuple[str, Callable[[Decimal], str], float]] = []
    if all(re.search("(?<![A-Za-z])[IVXLCDM]+(?![A-Za-z])", output) for output in outputs):
        found.append(("roman(int({0}))", lambda n: run.roman(int(n)), 1.4))
    if all(re.search("[0-9.]+[eE][+-]?[0-9]+", output) for output in outputs):
        for size in range(4):
            found.append((f'f"{{{{float({{0}}):.{size}e}}}}"', lambda n, s=size: f"{float(n):.{s}e}", 1.4))  # type: ignore[misc]
    for kind, letters in (("b", "[01]+"), ("x", "[0-9a-f]+"), ("X", "[0-9A-F]+"), ("o", "[0-7]+")):
        if all(re.fullmatch(f"(?:0[box])?{letters}|#{letters}", output) for output in outputs):
            found.append((f'f"{{{{int({{0}}):{kind}}}}}"', lambda n, k=kind: f"{int(n):{k}}", 1.4))  # type: ignore[misc]
            for width in (2, 4, 8):
                if all(len(output) >= width for output in outputs):
                    # Each of several numbers side by side has its own width.
                    own = 1.3 if all(len(output) > width for output in outputs) else 1.4
                    source = f'f"{{{{int({{0}}):0{width}{kind}}}}}"'
                    found.append((source, lambda n, k=kind, w=width: f"{int(n):0{w}{k}}", own))  # type: ignore[misc]
    if any(output.startswith("+") for output in outputs):
        found.append(('f"{{int({0}):+d}}"', lambda n: f"{int(n):+d}", 0.6))
    return found


def _shown(
    number: Expression, formats: Sequence[tuple[int, str, str]], *, deep: bool, alone: bool
) -> Iterator[Expression | None]:
    yield from _written(number, formats, 0.6, as_it_stands=True)
    size = applied("abs({0})", abs, (number,), 0.8)
    if size is not None and size.values != number.values:
        yield from _written(size, formats, 0.6)
    for scale in _SCALES if deep else ():
        scaled = applied(f'({{0}} * Decimal("{scale}"))', lambda n, s=Decimal(scale): n * s, (number,), 1.4)
        if scaled is not None:
            yield from _written(scaled, formats, 0.6)
    whole = all(value is None or value == int(value) for value in number.values)
    for change in (1, -1) if deep and whole else ():
        moved = applied(f"({{0}} {'+' if change > 0 else '-'} 1)", lambda n, c=change: n + c, (number,), 1.2)
        if moved is not None:
            yield from _written(moved, formats, 0.6)
    for step in _STEPS:
        # The ends of ranges are rounded down; a number that stands alone is more likely rounded to the nearest.
        for way, cost in (("down", 1.4), ("nearest", 1.3 if alone else 1.5), ("up", 1.6)):
            rounded = applied(
                f'to_step({{0}}, "{step}", {quoted(way)})',
                lambda n, s=step, w=way: run.to_step(n, s, w),
                (number,),
                cost + step_cost(step, way),
                "rounded",
            )
            if rounded is None or rounded.values == number.values:
                continue
            yield from _written(rounded, formats, 0.4)
            if way == "down" and deep:
                for width in (Decimal(step), Decimal(step) - 1, Decimal(1)):
                    if width > 0:
                        end = applied(
                            f'({{0}} + Decimal("{width}"))',
                            lambda n, s=width: n + s,
                            (rounded,),
                            0.1 if width != 1 else 0.6,
                        )
                        if end is not None:
                            yield from _written(end, formats, 0.4)


def _written(
    number: Expression, formats: Sequence[tuple[int, str, str]], cost: float, *, as_it_stands: bool = False
) -> Iterator[Expression | None]:
    column = number.walk()[0]
    for place, (decimals, thousands, point) in enumerate(formats):
        if decimals == -2 and not as_it_stands:
            continue
        shown = applied(
            f"written({{0}}, {decimals}, {quoted(thousands)}, {quoted(point)})",
            lambda n, d=decimals, t=thousands, p=point: run.written(n, d, t, p),
            (number,),
            cost + 0.05 * place,
        )
        if shown is not None and all(a is None or b is None or a in b for a, b in zip(shown.values, column.values)):
            shown = replace(shown, cost=shown.cost + _COPIED)  # copied as it is, not computed
        yield shown
    yield applied("ordinal(int({0}))", lambda n: run.ordinal(int(n)), (number,), cost + 0.8)


def _formats(outputs: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return (decimals, thousands separator, decimal mark) of the numbers in the outputs."""
    found = [one for output in outputs for one in re.findall("[0-9]+(?:[.,' ][0-9]+)*", output)]
    text = " ".join(found)
    formats: list[tuple[int, str, str]] = []
    for point in (".", ","):
        if point == "." or point in text:
            formats.append((-2, "", point))
        for size in sorted({len(one.rpartition(point)[2]) for one in found if point in one}):
            if size <= 6:
                formats.append((size, "", point))
    formats += [(-1, "", "."), (0, "", ".")]
    for mark in (",", ".", " ", "'"):
        if re.search(f"[0-9]{re.escape(mark)}[0-9]{{3}}(?![0-9])", text):
            other = "," if mark == "." else "."
            formats += [(decimals, mark, other) for decimals in (-2, -1, 0, 1, 2)]
    return list(dict.fromkeys(formats))
