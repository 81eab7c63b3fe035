"""Arithmetic on the numbers of an input, found exactly: products, sums, scale and offset with fractions."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from . import runtime as run
from .expressions import Expression, applied, quoted
from .numbers import step_cost

_MOST_FEATURES = 10
_MOST_TERMS = 3
_MOST_TRIED = 400
_STEPS = ("0.01", "0.05", "0.1", "0.25", "0.5", "1", "2", "5", "10", "15", "20", "25", "50", "60", "100", "500", "1000")
_DATE = "[0-9]{1,4}([/.-])[0-9]{1,2}\\1[0-9]{1,4}(?:[T ][0-9:.]+( ?[AP]M)?)?$"
_NAMED = "(?i)(?<![a-z])(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*.* [0-9]{4}"
_SHOWN = "(?<![0-9A-Za-z])-?[0-9]+(?:,[0-9]{3})*(?:[.][0-9]+)?|(?<=[0-9A-Za-z])[0-9]+"
_MOST_COMPUTED = 3
_COUNT = "count"
_SMALL = "part_of_date"  # few distinct values: a few examples fit any line through them
_OF_ALL = "of_all"
_BASES = (60, 100, 10, 12, 24, 1000, 7, 3600, 16, 1024)
_LADDERS = ((60, 1), (3600, 60, 1), (86400, 3600, 60, 1), (12, 1), (24, 1), (1440, 60, 1), (16, 1), (100, 1), (7, 1),
            (1000, 1), (14, 1), (3, 1))  # fmt: skip
_FEWEST_DISTINCT = 3
_NOISE = 9  # decimals beyond these are rounding errors of binary floating point
_FEW_OPERANDS = 2
_NICE = 3  # a coefficient that people would write has at most this many significant digits


def amount(
    columns: Sequence[Expression], outputs: Sequence[Any], extra: Sequence[Expression] = ()
) -> Expression | None:
    """Return the simplest arithmetic that gives all outputs exactly; None if there is none."""
    if any(isinstance(output, float) and not math.isfinite(output) for output in outputs):
        return None
    wanted = [Decimal(repr(output)) if isinstance(output, float) else Decimal(output) for output in outputs]
    noisy = any(-int(number.as_tuple().exponent) > _NOISE for number in wanted)
    if noisy:
        # 0.1 * 3 is 0.30000000000000004: the intended number has fewer decimals.
        wanted = [number.quantize(Decimal(1).scaleb(-_NOISE)) for number in wanted]
    found = _arithmetic(columns, wanted, extra)
    if found is None:
        return None
    if all(isinstance(output, int) for output in outputs):
        return applied("whole({0})", run.whole, (found,), 0.0)
    if noisy:
        for in_floats in _in_floats(found):
            if list(in_floats.values) == list(outputs):
                return in_floats
    elif any("/" in one.template for one in found.walk()):
        found = applied("with_an_end({0})", run.with_an_end, (found,), 0.0) or found
    return applied("float({0})", float, (found,), 0.0)


def _arithmetic(
    columns: Sequence[Expression], wanted: Sequence[Decimal], extra: Sequence[Expression]
) -> Expression | None:
    decimals = max(0, *(-int(number.normalize().as_tuple().exponent) for number in wanted))
    features = [*extra, *_features(columns)][: _MOST_FEATURES * 2]
    scaled = [one for one in features if one.named != _SMALL and not one.named.endswith(_OF_ALL)][:_MOST_FEATURES]
    for candidates in (
        _direct(features, wanted),
        _summed(scaled, wanted),
        _combined(scaled, wanted, decimals),
    ):
        found = min((one for one in candidates if one is not None), key=lambda one: one.cost, default=None)
        if found is not None:
            return found
    return None


def computed_expressions(columns: Sequence[Expression], outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield the numbers in the outputs that arithmetic gives, written as the outputs write them."""
    found = [re.findall(_SHOWN, output) for output in outputs]
    if len(set(map(len, found))) != 1 or len(found[0]) > _MOST_COMPUTED:
        return
    for place in range(len(found[0])):
        texts = [one[place] for one in found]
        thousands = "," if any("," in text for text in texts) else ""
        plain = [text.replace(",", "") for text in texts]
        if len(set(plain)) < _FEWEST_DISTINCT - 1 or any(re.match("0[0-9]", text) for text in plain):
            continue
        number = _arithmetic(columns, [Decimal(text) for text in plain], ())
        if number is None:
            continue
        sizes = {len(text.partition(".")[2]) for text in plain}
        if sizes == {0} and all(re.search("[+-][0-9]", output) for output in outputs):
            yield applied('f"{{whole({0}):+d}}"', lambda n: f"{run.whole(n):+d}", (number,), 0.8)
        if sizes == {0} and not thousands:
            yield applied("str(whole({0}))", lambda n: str(run.whole(n)), (number,), 1.0)
            continue
        decimals = sizes.pop() if len(sizes) == 1 else -1
        yield applied(
            f'written(Decimal({{0}}), {decimals}, {quoted(thousands)}, ".")',
            lambda n, d=decimals, t=thousands: run.written(Decimal(n), d, t, "."),
            (number,),
            1.0,
        )


def _in_floats(found: Expression) -> list[Expression]:
    """Return the same arithmetic in binary floating point, as the outputs of the examples were computed."""
    operands = tuple(map(_as_float, found.operands)) if found.in_floats else ()
    made = (applied(template, function, operands, 0.0) for template, function in found.in_floats)
    return [one for one in made if one is not None]


def _as_float(number: Expression) -> Expression:
    made = [*_in_floats(number), applied("float({0})", float, (number,), 0.0)]
    return next(one for one in made if one is not None)


def _features(columns: Sequence[Expression]) -> Iterator[Expression]:
    for column in columns:
        texts = [value for value in column.values if value is not None]
        if texts and all(re.fullmatch("[IVXLCDM]+", text) for text in texts):
            one = applied("from_roman({0})", run.from_roman, (column,), 0.5)
            if one is not None and None not in one.values:
                yield one
        times = _times(column, texts)
        if times:
            yield from times
            continue
        yield from _complete(_of_all(column))
        number = applied('number_in({0}, ".")', lambda text: run.number_in(text, "."), (column,), 0.2, "number")
        if number is not None and None not in number.values:
            yield number
            continue
        counts = {len(re.findall("[0-9]+(?:,[0-9]{3})*(?:[.][0-9]+)?", text)) for text in texts}
        if len(counts) == 1 and 0 < (count := counts.pop()) <= 6:
            yield from _complete(
                applied(
                    f"numbers_in({{0}}, {count})[{place}]",
                    lambda text, n=count, k=place: run.numbers_in(text, n)[k],
                    (column,),
                    0.5 + 0.1 * place,
                )
                for place in range(count)
            )
        elif all(re.search("[0-9]", text) for text in texts):
            yield from _complete(
                applied(
                    f'number_in(match({{0}}, "[0-9]+(?:[.,][0-9]+)*", {which}), ".")',
                    lambda text, k=which: run.number_in(run.match(text, "[0-9]+(?:[.,][0-9]+)*", k), "."),
                    (column,),
                    1.2,
                )
                for which in (0, -1)
            )
        if any(re.search("[0-9][.][0-9]+[.][0-9]", text) for text in texts):  # an address or a version
            yield from _complete(
                applied(
                    f'int(match({{0}}, "[0-9]+", {which}))',
                    lambda text, k=which: int(run.match(text, "[0-9]+", k)),
                    (column,),
                    1.2,
                )
                for which in (0, -1, 1, 2)
            )
        if any(re.search("[^0-9.,]", text) for text in texts):
            yield from (one for one in _counts(column, columns, texts) if one is not None)


def _complete(found: Iterable[Expression | None]) -> Iterator[Expression]:
    """Yield the expressions that have a value for every example."""
    return (one for one in found if one is not None and None not in one.values)


def _of_all(column: Expression) -> Iterator[Expression | None]:
    """Yield the sum and the extremes of the numbers in a text, where their count differs."""
    if len({len(re.findall("[0-9]+(?:[.][0-9]+)?", value or "")) for value in column.values}) > 1:
        for name, function in (("sum", sum), ("max", max), ("min", min)):
            yield applied(
                f"{name}(all_numbers({{0}}))",
                lambda text, f=function: f(run.all_numbers(text)),
                (column,),
                0.8,
                f"{name}_{_OF_ALL}",
            )


def _times(column: Expression, texts: Sequence[str]) -> list[Expression]:
    """Return the numbers in dates and times: days, years, minutes."""
    made: list[Expression | None] = []
    times = None
    if all(re.search("[0-9]:[0-9]{2}", text) for text in texts):
        times = applied("time_in({0})", run.time_in, (column,), 0.3, "time")
    dated = all(re.match(_DATE, text) or re.search(_NAMED, text) for text in texts)
    for order in ("mdy", "dmy") if dated else ():
        # Dates that begin with the year read the same in both orders.
        date = applied(
            f"date_in({{0}}, {quoted(order)})", lambda text, o=order: run.date_in(text, o), (column,), 0.3, "date"
        )
        if date is None or None in date.values:
            continue
        days = applied("days_since({0}, (1970, 1, 1))", lambda d: run.days_since(d, (1970, 1, 1)), (date,), 0.3)
        if days is not None and times is not None:
            times = applied("{0} * 86400 + {1}", lambda d, t: d * 86400 + t, (days, times), 0.1, "moment")
        made += [
            days,
            applied("{0}[0]", lambda d: d[0], (date,), 0.4),
            applied("{0}[1]", lambda d: d[1], (date,), 0.4, _SMALL),
            applied("{0}[2]", lambda d: d[2], (date,), 0.4, _SMALL),
            applied(
                "(days_since({0}, ({0}[0], 1, 1)) + 1)",
                lambda d: run.days_since(d, (d[0], 1, 1)) + 1,
                (date,),
                0.6,
                _SMALL,
            ),
            applied("iso_week({0})[1]", lambda d: run.iso_week(d)[1], (date,), 0.6, _SMALL),
            applied("day_of_week({0})", run.day_of_week, (date,), 0.6, _SMALL),
        ]
        break
    if times is not None:
        made += [
            applied("{0} // 60", lambda t: t // 60, (times,), 0.2),
            times,
            applied("Decimal({0}) / 3600", lambda t: Decimal(t) / 3600, (times,), 0.3),
        ]
    return list(_complete(made))


def _counts(column: Expression, columns: Sequence[Expression], texts: Sequence[str]) -> Iterator[Expression | None]:
    yield applied("len({0})", len, (column,), 1.2, _COUNT)
    yield applied("len({0}.split())", lambda text: len(text.split()), (column,), 1.2, _COUNT)
    for mark in sorted(set(re.findall("[^A-Za-z0-9]", " ".join(texts))))[:8]:
        yield applied(f"{{0}}.count({quoted(mark)})", lambda text, m=mark: text.count(m), (column,), 1.6, _COUNT)
    for other in columns:
        if other is not column:
            yield applied("{0}.count({1})", lambda text, part: text.count(part), (column, other), 1.0)


def _direct(features: Sequence[Expression], wanted: Sequence[Decimal]) -> Iterator[Expression | None]:
    for feature in features:
        if _exact(feature.values, wanted):
            yield feature
        yield from _stepped(feature, wanted)
        yield from _bases(feature, wanted)


def _bases(feature: Expression, wanted: Sequence[Decimal]) -> Iterator[Expression | None]:
    """Yield quotients and remainders: hours of minutes, dozens of pieces."""
    if len(set(wanted)) < _FEWEST_DISTINCT or not all(
        isinstance(value, (int, Decimal)) and value >= 0 and value == int(value) for value in feature.values
    ):
        return
    for base in _BASES:
        for sign, function in (("//", operator.floordiv), ("%", operator.mod)):
            one = applied(f"int({{0}}) {sign} {base}", lambda n, f=function, b=base: f(int(n), b), (feature,), 1.6)
            if one is not None and _exact(one.values, wanted):
                yield one


def _summed(features: Sequence[Expression], wanted: Sequence[Decimal]) -> Iterator[Expression | None]:
    """Yield sums and differences, and totals of several units: hours, minutes and seconds."""
    numbers = [one for one in features if not one.template.startswith(("len", "{0}.count"))]
    for pair in itertools.combinations(numbers, 2):
        for name, function in (("max", max), ("min", min)):
            one = applied(f"{name}({{0}}, {{1}})", function, pair, 0.8)
            if one is not None and _exact(one.values, wanted):
                yield one
    groups = [group for size in (2, 3) for group in itertools.combinations(numbers, size)]
    for group in [*groups, *([tuple(numbers)] if len(numbers) > _MOST_TERMS else [])]:
        rows = list(zip(*(one.values for one in group)))
        size = len(group)
        choices = (
            [signs for signs in itertools.product((1, -1), repeat=size) if 1 in signs] if size <= _MOST_TERMS else []
        )
        for weights in [*choices, (1,) * size, *(ladder for ladder in _LADDERS if len(ladder) == size)]:
            if all(sum(map(operator.mul, weights, row)) == number for row, number in zip(rows, wanted)):
                yield _written(group, [Fraction(weight) for weight in weights], 0, rounds=False, offset=False)


def _combined(features: Sequence[Expression], wanted: Sequence[Decimal], decimals: int) -> Iterator[Expression | None]:
    terms = list(features[:_MOST_FEATURES])
    for one, other in itertools.combinations(features[:_MOST_FEATURES], 2):
        terms.append(_mul(one, other))
        for first, second in ((one, other), (other, one)):
            if all(second.values):
                ratio = applied(
                    "(Decimal({0}) / {1})" if isinstance(first.values[0], int) else "({0} / {1})",
                    lambda a, b: Decimal(a) / b,
                    (first, second),
                    0.8,
                    in_floats=(("({0} / {1})", operator.truediv),),
                )
                if ratio is not None:
                    terms.append(ratio)
    if len(features) >= 3:
        first, second, third = features[:3]
        terms.append(_mul(_mul(first, second), third))
    tried = 0
    best = False
    for size in range(1, _MOST_TERMS + 1):
        if best:
            return  # more terms would not be simpler
        for group in itertools.combinations(terms, size):
            for offset in (False, True):
                if size + offset > max(1, len(wanted) - 1) or tried > _MOST_TRIED:
                    continue
                tried += 1
                found = _linear(group, wanted, decimals, offset=offset)
                best = best or found is not None
                yield found


def _mul(one: Expression, other: Expression) -> Expression:
    found = applied("{0} * {1}", operator.mul, (one, other), 0.4, in_floats=(("{0} * {1}", operator.mul),))
    if found is None:
        raise ValueError("the product of two numbers is a number")
    return found


def _exact(values: Sequence[Any], wanted: Sequence[Decimal]) -> bool:
    return all(value is not None and value == number for value, number in zip(values, wanted))


def _stepped(feature: Expression, wanted: Sequence[Decimal]) -> Iterator[Expression | None]:
    if any(value is None or abs(value - number) > 1000 for value, number in zip(feature.values, wanted)):
        return
    for step in _STEPS:
        for way, cost in (("nearest", 1.2), ("down", 1.3), ("up", 1.4)):
            one = applied(
                f'to_step(Decimal({{0}}), "{step}", {quoted(way)})',
                lambda n, s=step, w=way: run.to_step(Decimal(n), s, w),
                (feature,),
                cost + step_cost(step, way),
            )
            if one is not None and _exact(one.values, wanted):
                yield one


def _linear(
    group: tuple[Expression, ...], wanted: Sequence[Decimal], decimals: int, *, offset: bool
) -> Expression | None:
    rows = [
        [Fraction(value) for value in row] + ([Fraction(1)] if offset else [])
        for row in zip(*(g.values for g in group))
    ]
    targets = [Fraction(number) for number in wanted]
    weights = _solve(rows, targets)
    if weights is None or any(weight == 0 for weight in weights):
        return None
    half = Fraction(1, 2 * 10**decimals)
    found = _checked(group, weights, rows, targets, wanted, decimals, slack=Fraction(0), offset=offset)
    if found is not None or (not decimals and any(target.denominator != 1 for target in targets)):
        return found
    for tidy in _tidied(rows, weights, targets, half, offset=offset):
        found = _checked(group, tidy, rows, targets, wanted, decimals, slack=half, offset=offset)
        if found is not None:
            return found
    return None


def _checked(
    group: tuple[Expression, ...],
    weights: Sequence[Fraction],
    rows: Sequence[Sequence[Fraction]],
    targets: Sequence[Fraction],
    wanted: Sequence[Decimal],
    decimals: int,
    *,
    slack: Fraction,
    offset: bool,
) -> Expression | None:
    """Return the sum with these weights, if it gives all outputs and there are enough examples to be sure."""
    for row, target in zip(rows, targets):
        if abs(sum((w * x for w, x in zip(weights, row)), Fraction(0)) - target) > slack:
            return None
    if any(one.named == _COUNT for one in group) and (slack or any(weight.denominator != 1 for weight in weights)):
        return None  # letters and words are counted, not measured
    free = sum(1 for weight in weights if abs(weight) != 1)
    if free > len(wanted) - 1 or (free > len(wanted) - 2 and not _is_plausible(group, weights)):
        return None
    found = _written(group, weights, decimals, rounds=bool(slack), offset=offset)
    if found is not None and _exact(found.values, wanted):
        return found
    # Round halves as the outputs of the examples do: in binary floating point.
    for one in _rounded_floats(group, weights, decimals, offset=offset) if slack else ():
        if all(value is not None and Decimal(repr(value)) == number for value, number in zip(one.values, wanted)):
            return one
    return None


def _rounded_floats(
    group: tuple[Expression, ...], weights: Sequence[Fraction], decimals: int, *, offset: bool
) -> Iterator[Expression]:
    operands = tuple(map(_as_float, group))
    for template, function in _float_forms(weights, offset=offset):
        # Through its text: the sandbox's `round` treats halves differently.
        source = f'float(f"{{{{{template}:.{decimals}f}}}}")'
        one = applied(source, lambda *values, f=function: round(f(*values), decimals), operands, 1.0)
        if one is not None:
            yield one


def _is_plausible(group: Sequence[Expression], weights: Sequence[Fraction]) -> bool:
    """Return whether so few examples are enough for these weights: the weights of one number, or plain ones."""
    plain = all(len(one.operands) < _FEW_OPERANDS for one in group)
    digits = _NICE if len(group) == 1 else _NICE - 1
    return plain and all(_is_nice(weight, digits) for weight in weights)


def _solve(rows: Sequence[Sequence[Fraction]], targets: Sequence[Fraction]) -> list[Fraction] | None:
    """Return the exact least-squares weights; None if the examples do not determine them."""
    size = len(rows[0])
    system = [
        [sum((row[a] * row[b] for row in rows), Fraction(0)) for b in range(size)]
        + [sum((row[a] * target for row, target in zip(rows, targets)), Fraction(0))]
        for a in range(size)
    ]
    for column in range(size):
        pivot = next((row for row in range(column, size) if system[row][column] != 0), None)
        if pivot is None:
            return None
        system[column], system[pivot] = system[pivot], system[column]
        scale = system[column][column]
        system[column] = [value / scale for value in system[column]]
        for row in range(size):
            if row != column and system[row][column] != 0:
                factor = system[row][column]
                system[row] = [a - factor * b for a, b in zip(system[row], system[column])]
    return [row[-1] for row in system]


def _tidied(
    rows: Sequence[Sequence[Fraction]],
    weights: Sequence[Fraction],
    targets: Sequence[Fraction],
    slack: Fraction,
    *,
    offset: bool,
) -> Iterator[list[Fraction]]:
    """Yield simple fractions near the weights, so near that rounding explains the difference."""
    choices = []
    for place, weight in enumerate(weights):
        sizes = [row[place] for row in rows]
        spread = max(sizes) - min(sizes) or max(map(abs, sizes))
        if not spread:
            return
        choices.append(_simple(weight - 2 * slack / spread, weight + 2 * slack / spread))
    if not offset:
        yield from itertools.islice(map(list, itertools.product(*choices)), 40)
        return
    for tidy in itertools.islice(itertools.product(*choices[:-1]), 20):
        rests = [target - sum((w * x for w, x in zip(tidy, row)), Fraction(0)) for row, target in zip(rows, targets)]
        low, high = max(rests) - slack, min(rests) + slack
        if low > high:
            continue
        if len(tidy) == 1:
            # (F - 32) × 5/9: the offset is simple before it is scaled.
            inner = Fraction(round((low + high) / 2 / tidy[0]))
            if low <= tidy[0] * inner <= high:
                yield [*tidy, tidy[0] * inner]
        for last in _simple(low, high)[:2]:
            yield [*tidy, last]


def _simple(low: Fraction, high: Fraction) -> list[Fraction]:
    """Return simple numbers between two others: with few digits, or a small denominator."""
    middle = (low + high) / 2
    tried = [Fraction(round(middle * 10**digits), 10**digits) for digits in range(3)]
    tried += [Fraction(round(middle * denominator), denominator) for denominator in (3, 6, 7, 8, 9, 11, 12, 16, 60)]
    tried += [Fraction(round(middle * 10**digits), 10**digits) for digits in (3, 4, 5)]
    return list(dict.fromkeys(number for number in tried if number and low <= number <= high))[:6]


def _is_decimal(number: Fraction) -> bool:
    rest = number.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest == 1


def _digits(number: Fraction) -> str:
    shown = f"{Decimal(number.numerator) / Decimal(number.denominator):f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _is_nice(number: Fraction, digits: int) -> bool:
    if _is_decimal(number):
        return len(_digits(abs(number)).replace(".", "").strip("0")) <= digits
    return number.denominator <= 100 and abs(number.numerator) <= 1000


def _written(
    group: tuple[Expression, ...], weights: Sequence[Fraction], decimals: int, *, rounds: bool, offset: bool
) -> Expression | None:
    parts, cost = [], 0.5 * len(weights)
    for place, weight in enumerate(weights):
        size = abs(weight)
        factor = "" if offset and place == len(group) else f"{{{place}}}"
        if size == 1 and factor:
            shown = factor
        elif _is_decimal(size):
            digits = _digits(size)
            cost += 0.4 + 0.3 * len(digits.replace(".", "").strip("0"))
            shown = f'Decimal("{digits}")' + (f" * {factor}" if factor else "")
        else:
            cost += 1.2 + 0.3 * (len(str(size.numerator)) + len(str(size.denominator)))
            head = (
                factor
                if size.numerator == 1
                else f"{size.numerator} * {factor}"
                if factor
                else f"Decimal({size.numerator})"
            )
            shown = f"{head or 'Decimal(1)'} / {size.denominator}"
        parts.append(("- " if weight < 0 else "+ ") + shown)
    source = " ".join(parts).removeprefix("+ ")
    source = f"-{source[2:]}" if source.startswith("- ") else source
    if rounds:
        step = "1" if decimals == 0 else "0." + "0" * (decimals - 1) + "1"
        source = f'to_step({source}, "{step}", "nearest")'
        cost += 0.5

    def compute(*values: Any) -> Decimal:
        numbers = [*map(Decimal, values), *([Decimal(1)] if offset else [])]
        total = sum(
            (value * weight.numerator / weight.denominator for value, weight in zip(numbers, weights)), Decimal(0)
        )
        return run.to_step(total, step, "nearest") if rounds else total

    floats = () if rounds else tuple(_float_forms(weights, offset=offset))
    return applied(source, compute, group, cost, in_floats=floats)


def _float_forms(weights: Sequence[Fraction], *, offset: bool) -> Iterator[tuple[str, Callable[..., float]]]:
    """Yield the sum as people write it in floating point: 1.8 * x + 32, and x * 9 / 5 + 32."""
    for as_fraction in (False, True):
        shown, functions = [], []
        for place, weight in enumerate(weights):
            source, function = _float_term(
                abs(weight), place, as_fraction, constant=offset and place == len(weights) - 1
            )
            shown.append(f"{'-' if weight < 0 else '+'} {source}")
            functions.append((weight < 0, function))
        source = " ".join(shown).removeprefix("+ ")

        def compute(*values: float, steps: Sequence[tuple[bool, Callable[[float], float]]] = tuple(functions)) -> float:
            total = 0.0
            for (negative, function), value in zip(steps, [*values, 1.0]):
                total += -function(value) if negative else function(value)
            return total

        yield source, compute


def _float_term(
    size: Fraction, place: int, as_fraction: bool, *, constant: bool
) -> tuple[str, Callable[[float], float]]:
    above, below = size.numerator, size.denominator
    factor = f"{{{place}}}"
    if constant:
        number = above / below
        return repr(number), lambda _: number
    if size == 1:
        return factor, lambda x: x
    if below == 1:
        return f"{factor} * {above}", lambda x: x * above
    if as_fraction or not _is_decimal(size):
        return f"{factor} * {above} / {below}", lambda x: x * above / below
    number = float(_digits(size))
    return f"{factor} * {number!r}", lambda x: x * number
