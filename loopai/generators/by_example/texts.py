"""Texts taken from a column: matches, pieces, slices, text between marks, with case changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import runtime as run
from .expressions import Expression, applied, quoted

LETTERS = "A-Za-z\\u00c0-\\u024f"
# Pattern, cost: the likeliest meanings of "the second number" or "the last word" cost least.
TOKENS: tuple[tuple[str, float], ...] = (
    ("\\S+", 1.2),
    ("[0-9]+", 0.8),
    (f"[{LETTERS}]+", 1.3),
    ("[0-9]+(?:[.,][0-9]+)*", 1.1),
    (f"[{LETTERS}0-9]+", 1.6),
    (f"[{LETTERS}'-]+", 1.7),
    ("[A-Z]+", 1.8),
    ("[A-Z][a-z]+", 1.8),
    ("[a-z]+", 2.0),
    (f"[{LETTERS}]+(?: [{LETTERS}]+)*", 2.0),
    ("[A-Z]{2,}", 2.0),
    ("[A-Z]", 1.8),
    ("[^\\s,;]+", 2.2),
    ("(?<![0-9])[0-9]{4}(?![0-9])", 1.8),
    ("[$€£]? ?[0-9]+(?:[.,][0-9]+)*", 2.4),
    ("[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)+", 1.6),
    ('https?://[^\\s<>"]+', 1.6),
    ("(?<=://)[^/?#:\\s]+", 1.6),
    ("[#@][A-Za-z0-9_]+", 1.8),
    ("[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?", 1.8),
    ("[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{1,4}", 1.8),
)
_PLACES = (0, -1, 1, -2, 2, 3, -3, 4)
_PLACE_COST = {0: 0.6, -1: 0.9, 1: 1.0, -2: 1.6, 2: 1.4, 3: 1.8, -3: 2.2, 4: 2.2}
_MOST_BASES = 300
_LONGEST_SLICED = 60
_AT_A_MARK = 0.8
_BY_CHANCE = 1.0
_AS_TIME = 4.0


class Pool:
    """Expressions by their values, the cheapest few of each."""

    kept = 6

    def __init__(self) -> None:
        self.by_values: dict[tuple[Any, ...], list[Expression]] = {}

    def add(self, expression: Expression | None) -> Expression | None:
        """Keep an expression unless cheaper ones have the same values; return it if it is the first with its values."""
        if expression is None:
            return None
        found = self.by_values.setdefault(expression.values, [])
        fresh = not found
        found.append(expression)
        found.sort(key=lambda one: one.cost)
        del found[self.kept :]
        return expression if fresh or found[0] is expression else None

    def __iter__(self) -> Iterator[Expression]:
        for found in self.by_values.values():
            yield from found

    def cheapest(self) -> list[Expression]:
        """Return the cheapest expression for each tuple of values, cheapest first."""
        return sorted((found[0] for found in self.by_values.values()), key=lambda one: one.cost)


def text_pool(columns: Sequence[Expression], outputs: Sequence[str]) -> Pool:
    """Return the texts that can be taken from the columns and may be part of the outputs."""
    pool, bases = Pool(), Pool()
    for column in columns:
        bases.add(column)
        for one in _taken(column, outputs):
            bases.add(one)
    for base in bases.cheapest()[:_MOST_BASES]:
        for one in (*_refined(base), *_rejoined(base, outputs)):
            pool.add(one)
    for found in bases.by_values.values():
        for one in found:
            pool.add(one)
    for counter in columns:
        for column in columns:
            if column is not counter:
                for one in _by_column(column, counter):
                    pool.add(one)
    for one in list(pool):
        for cased in _cased(one, outputs):
            pool.add(cased)
    return pool


def adjacent(parts: Sequence[Expression]) -> list[Expression]:
    """Return the parts, with slices that begin where the previous part ends, if their values are the same."""
    made = list(parts)
    end: tuple[Expression, int] | None = None
    for place in range(len(made)):
        part = made[place]
        if not part.operands and part.path is None:
            continue
        sizes = {len(value) for value in part.values}
        if end is not None and len(sizes) == 1:
            start, stop = end[1], end[1] + sizes.pop()
            one = applied(
                f"cut({{0}}, {start}, {stop})", lambda text, a=start, b=stop: run.cut(text, a, b), (end[0],), part.cost
            )
            if one is not None and one.values == part.values and part.template.startswith("cut("):
                made[place] = part = one
        at = _slice(part)
        end = None if at is None else (part.operands[0], at[1])
    return made


def timely(parts: Sequence[Expression]) -> list[Expression]:
    """Return the parts, with two digits for minutes: if "2 hours 12 minutes" is 2:12, then 5 minutes are :05."""
    made = list(parts)
    for place in range(2, len(made)):
        hours, mark, minutes = made[place - 2 : place + 1]
        is_time = set(mark.values) == {":"} and _are_digits(hours) and _are_digits(minutes)
        if is_time and all(len(value) == 2 for value in minutes.values):
            made[place] = applied("{0}.zfill(2)", lambda text: text.zfill(2), (minutes,), 0.0) or minutes
    return made


def _are_digits(part: Expression) -> bool:
    return part.template.startswith('match({0}, "[0-9]+"') and all(value.isdigit() for value in part.values)


def _slice(part: Expression) -> tuple[int, int] | None:
    found = re.fullmatch(r"cut\(\{0\}, (None|[0-9]+), ([0-9]+)\)", part.template)
    return None if found is None else (int(found[1]) if found[1] != "None" else 0, int(found[2]))


def _taken(column: Expression, outputs: Sequence[str]) -> Iterator[Expression | None]:
    texts = [value for value in column.values if value]
    if not texts:
        return
    yield applied("{0}.strip()", str.strip, (column,), 0.6)
    for pattern, cost in (*TOKENS, *_shapes(outputs)):
        shown = quoted(pattern)
        for which in _PLACES:
            yield applied(
                f"match({{0}}, {shown}, {which})",
                lambda text, p=pattern, k=which: run.match(text, p, k),
                (column,),
                cost + _PLACE_COST[which],
            )
    joints = [(joint, 0.0) for joint in _joints(outputs)]
    joints += [(joint, 0.3) for joint in _some_joints(outputs) if (joint, 0.0) not in joints]
    for mark, cost in _marks(texts, outputs):
        shown = quoted(mark)
        whole = cost + 0.2 * max(0, len(mark) - 2)
        for which in _PLACES[:6]:
            yield applied(
                f"piece({{0}}, {shown}, {which})",
                lambda text, m=mark, k=which: run.piece(text, m, k),
                (column,),
                whole + 0.4 + _PLACE_COST[which],
            )
        yield applied(f"before({{0}}, {shown})", lambda text, m=mark: run.before(text, m), (column,), whole + 0.9)
        yield applied(f"after({{0}}, {shown})", lambda text, m=mark: run.after(text, m), (column,), whole + 0.9)
        yield applied(
            f"before_last({{0}}, {shown})", lambda text, m=mark: run.before_last(text, m), (column,), whole + 1.1
        )
        yield applied(
            f"after_last({{0}}, {shown})", lambda text, m=mark: run.after_last(text, m), (column,), whole + 1.1
        )
        if any(mark not in text for text in texts):
            # Some inputs have the mark and others do not: take the text before it, or all of it.
            yield applied(
                f"{{0}}.partition({shown})[0].strip()",
                lambda text, m=mark: text.partition(m)[0].strip(),
                (column,),
                whole + 2.0,
            )
            yield applied(
                f"{{0}}.split({shown})[-1].strip()",
                lambda text, m=mark: text.split(m)[-1].strip(),
                (column,),
                whole + 2.2,
            )
            yield applied(
                f"{{0}}.removesuffix({shown})", lambda text, m=mark: text.removesuffix(m), (column,), whole + 2.0
            )
            yield applied(
                f"{{0}}.removeprefix({shown})", lambda text, m=mark: text.removeprefix(m), (column,), whole + 2.0
            )
        yield applied(f'{{0}}.replace({shown}, "")', lambda text, m=mark: text.replace(m, ""), (column,), whole + 1.4)
        for other, extra in joints:
            if other != mark:
                yield applied(
                    f"{{0}}.replace({shown}, {quoted(other)})",
                    lambda text, m=mark, o=other: text.replace(m, o),
                    (column,),
                    whole + 1.9 + extra,
                )
    for pattern, cost in _after_mark(texts, outputs):
        yield applied(
            f"match({{0}}, {quoted(pattern)}, 0)", lambda text, p=pattern: run.match(text, p, 0), (column,), cost
        )
    for left, right, cost in _contexts(texts, outputs):
        yield applied(
            f"between({{0}}, {quoted(left)}, {quoted(right)})",
            lambda text, a=left, b=right: run.between(text, a, b),
            (column,),
            cost,
        )
    yield from _reshaped(column, outputs)
    yield from _respelt(column, outputs)
    if max(map(len, texts)) <= _LONGEST_SLICED:
        yield from _sliced(column, 1.6)
        for pattern, cost in TOKENS[:9]:
            yield from _from_edges(column, pattern, cost)


def _from_edges(column: Expression, pattern: str, cost: float) -> Iterator[Expression | None]:
    shown = quoted(pattern)
    for which in (0, -1, 1):
        for side in (0, 1):
            extra = cost + 1.8 + _PLACE_COST[which]

            def place(text: str, w: int = which, s: int = side) -> int:
                return run.edge(text, pattern, w, s)

            call = f"edge({{0}}, {shown}, {which}, {side})"
            yield applied(f"{{0}}[{call}:].strip()", lambda text, f=place: text[f(text) :].strip(), (column,), extra)
            yield applied(f"{{0}}[:{call}].strip()", lambda text, f=place: text[: f(text)].strip(), (column,), extra)


def _reshaped(column: Expression, outputs: Sequence[str]) -> Iterator[Expression | None]:
    joints = ["", *_joints(outputs)]
    joints += [joint for joint in (" ", ", ") if joint not in joints and any(joint in output for output in outputs)]
    for joint in joints:
        shown = quoted(joint)
        yield applied(f"initials({{0}}, {shown})", lambda text, j=joint: run.initials(text, j), (column,), 2.6)
        for pattern, cost in (
            (f"[{LETTERS}0-9]+", 2.0),
            ("\\S+", 1.6),
            ("[0-9]+", 2.0),
            (f"[{LETTERS}]+", 2.2),
            ("[A-Z]", 2.0),
            ("[#@][A-Za-z0-9_]+", 2.0),
        ):
            extra = cost + (0.4 if joint else 0.2)
            if joint == ":" and pattern == "[0-9]+":
                extra += _AS_TIME  # whose minutes have two digits
            yield applied(
                f"joined({{0}}, {quoted(pattern)}, {shown})",
                lambda text, p=pattern, j=joint: run.joined(text, p, j),
                (column,),
                extra + 1.0,
            )


def _respelt(column: Expression, outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield names in another naming convention, and digits behind a mask."""
    lower = applied("{0}.lower()", str.lower, (column,), 0.5)
    title = applied("{0}.title()", str.title, (column,), 0.7)
    upper = applied("{0}.upper()", str.upper, (column,), 0.6)
    for cased in (lower, title, upper):
        if cased is not None and cased.values != column.values:
            for one in _reshaped(cased, outputs):
                yield one
                if cased is title and one is not None and all(output[:1].islower() for output in outputs):
                    yield applied(
                        "{0}[:1].lower() + {0}[1:]",
                        lambda text: text[:1].lower() + text[1:],
                        (one,),
                        0.4,
                        "joined_words",
                    )
    for joint in dict.fromkeys((" ", *_joints(outputs), *_some_joints(outputs))):
        shown = quoted(joint)
        spaced = applied(
            f're.sub("(?<=[a-z0-9])(?=[A-Z])", {shown}, {{0}})',
            lambda text, j=joint: re.sub("(?<=[a-z0-9])(?=[A-Z])", lambda _: j, text),
            (column,),
            2.6,
        )
        if spaced is not None and spaced.values != column.values and "\\" not in joint:
            yield spaced
            yield applied("{0}.lower()", str.lower, (spaced,), 0.6)
            yield applied("{0}.capitalize()", str.capitalize, (spaced,), 0.8)
    for mark in _some_joints(outputs):
        shown = quoted(mark)
        yield applied(
            f"{shown}.join({{0}}.split({shown})[::-1])",
            lambda text, m=mark: m.join(text.split(m)[::-1]),
            (column,),
            2.4,
        )
        yield applied(
            f"{shown}.join(sorted({{0}}.split({shown})))",
            lambda text, m=mark: m.join(sorted(text.split(m))),
            (column,),
            2.6,
        )
    yield applied("{0}[::-1]", lambda text: text[::-1], (column,), 2.2)
    yield applied('" ".join({0}.split())', lambda text: " ".join(text.split()), (column,), 0.9)
    for mask in ("*", "X", "x", "#", "\u2022"):
        if all(mask * 2 in output for output in outputs):
            for size in range(1, 5):
                yield applied(
                    f're.sub(".(?=.{{{{{size}}}}})", {quoted(mask)}, {{0}})',
                    lambda text, m=mask, n=size: re.sub(f".(?=.{{{n}}})", m, text),
                    (column,),
                    2.4,
                )
                yield applied(
                    f're.sub("[0-9](?=.{{{{{size}}}}})", {quoted(mask)}, {{0}})',
                    lambda text, m=mask, n=size: re.sub(f"[0-9](?=.{{{n}}})", m, text),
                    (column,),
                    2.5,
                )


def _sliced(base: Expression, cost: float) -> Iterator[Expression | None]:
    sizes = {len(value) for value in base.values if value is not None}
    longest = min(12 if len(sizes) > 1 else 20, max(sizes))
    texts = [value for value in base.values if value] if len(sizes) > 1 else []
    for size in range(1, longest):
        extra = cost + min(2.5, 0.15 * size)
        first = extra + 0.6 + (_BY_CHANCE if _is_chance(texts, size) else 0.0)
        last = extra + (_BY_CHANCE if size > 2 and _is_chance(texts, -size) else 0.0)
        # A piece that ends at a mark is better found by the mark.
        at_a_mark = bool(texts) and not any(text[:-size][-1:].isalnum() for text in texts)
        rest = last + 0.6 + (_AT_A_MARK if at_a_mark else 0.0)
        if at_a_mark and all(text[-size:].isdigit() for text in texts):
            rest += _BY_CHANCE  # a number, which may have more digits elsewhere
        yield applied(f"cut({{0}}, None, {size})", lambda text, n=size: run.cut(text, None, n), (base,), extra)
        yield applied(f"cut({{0}}, {-size}, None)", lambda text, n=size: run.cut(text, -n, None), (base,), last + 0.1)
        yield applied(f"cut({{0}}, {size}, None)", lambda text, n=size: run.cut(text, n, None), (base,), first)
        yield applied(f"cut({{0}}, None, {-size})", lambda text, n=size: run.cut(text, None, -n), (base,), rest)
    if base.path is not None:
        chances = {at: _BY_CHANCE if texts and _is_chance(texts, at) else 0.0 for at in range(1, longest + 1)}
        for start in range(1, longest):
            for stop in range(start + 1, longest + 1):
                yield applied(
                    f"cut({{0}}, {start}, {stop})",
                    lambda text, a=start, b=stop: run.cut(text, a, b),
                    (base,),
                    cost + 1.2 + 0.1 * stop + max(chances[start], chances[stop]),
                )


def _is_chance(texts: Sequence[str], place: int) -> bool:
    """Return whether this position is inside a word, or in a place where texts of other lengths differ."""
    cut = [text for text in texts if abs(place) < len(text)]
    sides = {(_kind_of(text[:place][-1]), _kind_of(text[place:][0])) for text in cut}
    return ("letter", "letter") in sides or len(sides) > 1


def _kind_of(letter: str) -> str:
    return "letter" if letter.isalpha() else "digit" if letter.isdigit() else letter


def _refined(base: Expression) -> Iterator[Expression | None]:
    texts = [value for value in base.values if value]
    if not texts or max(map(len, texts)) > 200:
        return
    if base.path is None:
        longest = max(map(len, texts))
        if len(set(map(len, texts))) == 1 and 4 <= longest <= 16 and all(text.isdigit() for text in texts):
            for start in range(longest):
                for stop in range(start + 2, longest + 1):
                    yield applied(
                        f"cut({{0}}, {start}, {stop})",
                        lambda text, a=start, b=stop: run.cut(text, a, b),
                        (base,),
                        0.7 if stop < longest else 0.8,
                    )
        for size in (1, 2, 3, 4):
            if size < longest:
                extra = 0.5 + 0.25 * size
                yield applied(f"cut({{0}}, None, {size})", lambda text, n=size: run.cut(text, None, n), (base,), extra)
                yield applied(
                    f"cut({{0}}, {-size}, None)", lambda text, n=size: run.cut(text, -n, None), (base,), extra + 0.4
                )
        for pattern, cost in TOKENS[:8]:
            for which in (0, -1, 1):
                yield applied(
                    f"match({{0}}, {quoted(pattern)}, {which})",
                    lambda text, p=pattern, k=which: run.match(text, p, k),
                    (base,),
                    cost + _PLACE_COST[which],
                )
        for mark, cost in _marks(texts, ()):
            shown = quoted(mark)
            yield applied(f"before({{0}}, {shown})", lambda text, m=mark: run.before(text, m), (base,), cost + 1.1)
            yield applied(f"after({{0}}, {shown})", lambda text, m=mark: run.after(text, m), (base,), cost + 1.1)
            yield applied(f'{{0}}.replace({shown}, "")', lambda text, m=mark: text.replace(m, ""), (base,), cost + 1.4)
    heads = {found[0] for text in texts if (found := re.match("[A-Za-z]{1,5}[. ]", text))}
    for head in sorted(heads):
        if any(not text.startswith(head) for text in texts):
            source = f"{{0}}.removeprefix({quoted(head)})"
            yield applied(source, lambda text, s=head: text.removeprefix(s), (base,), 1.6)
    for width in range(2, 13):
        if any(len(text) < width for text in texts) and all(len(text) <= width for text in texts) and width <= 10:
            yield applied(f"{{0}}.zfill({width})", lambda text, n=width: text.zfill(n), (base,), 1.2)
    if any(text[0] == "0" for text in texts):
        yield applied('{0}.lstrip("0")', lambda text: text.lstrip("0"), (base,), 1.2)


def _rejoined(base: Expression, outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield a part of the column with another separator between its words."""
    texts = [value for value in base.values if value]
    if base.path is not None or len(texts) < len(base.values) or max(map(len, texts)) > _LONGEST_SLICED:
        return
    marks = {mark for text in texts for mark in re.findall("(?<=[A-Za-z0-9])[^A-Za-z0-9]{1,2}(?=[A-Za-z0-9])", text)}
    for mark in sorted(marks)[:3]:
        if any(mark in output for output in outputs):
            continue
        for joint in _joints(outputs):
            yield applied(
                f"{{0}}.replace({quoted(mark)}, {quoted(joint)})",
                lambda text, m=mark, j=joint: text.replace(m, j),
                (base,),
                2.8,
            )


def _cased(one: Expression, outputs: Sequence[str]) -> Iterator[Expression | None]:
    whole = " ".join(outputs)
    if not any(value and value.lower() != value.upper() for value in one.values):
        return
    if not all(value is None or not value or value.lower() in whole.lower() for value in one.values):
        return
    yield applied("{0}.upper()", str.upper, (one,), 0.8)
    yield applied("{0}.lower()", str.lower, (one,), 0.8)
    yield applied("capitalized({0})", run.capitalized, (one,), 0.9)
    yield applied("{0}.capitalize()", str.capitalize, (one,), 1.1)
    yield applied("{0}.title()", str.title, (one,), 1.2)


def _by_column(column: Expression, counter: Expression) -> Iterator[Expression | None]:
    texts = [value for value in column.values if value]
    if all(value is not None and value.isdigit() for value in counter.values):
        yield applied("item({0}, {1})", run.item, (column, counter), 2.0)
        yield applied("item({0}.split(), {1})", lambda text, n: run.item(text.split(), n), (column, counter), 2.2)
        for mark, cost in _marks(texts, ()):
            yield applied(
                f"item({{0}}.split({quoted(mark)}), {{1}})",
                lambda text, n, m=mark: run.item(text.split(m), n),
                (column, counter),
                2.2 + cost,
            )
            yield applied(
                f"item({{0}}.split({quoted(mark)})[::-1], {{1}})",
                lambda text, n, m=mark: run.item(text.split(m)[::-1], n),
                (column, counter),
                2.8 + cost,
            )
        for shift in (0, 1, -1):
            end = "int({1})" + (f" - {shift}" if shift > 0 else f" + {-shift}" if shift else "")
            yield applied(
                f"{{0}}[:{end}]", lambda text, n, s=shift: text[: int(n) - s], (column, counter), 2.4 + abs(shift) * 0.3
            )
            yield applied(
                f"{{0}}[{end}:]", lambda text, n, s=shift: text[int(n) - s :], (column, counter), 2.4 + abs(shift) * 0.3
            )
    if all(value for value in counter.values):
        yield applied("before({0}, {1})", run.before, (column, counter), 2.0)
        yield applied("after({0}, {1})", run.after, (column, counter), 2.0)
        yield applied('{0}.replace({1}, "")', lambda text, other: text.replace(other, ""), (column, counter), 2.2)
        yield applied('{0}.replace({1}, "", 1)', lambda text, other: text.replace(other, "", 1), (column, counter), 2.0)


def _marks(texts: Sequence[str], outputs: Sequence[str]) -> list[tuple[str, float]]:
    """Return the marks to split at, with their costs: punctuation, and words that some or all texts contain."""
    counts: dict[str, int] = {}
    for text in texts:
        found = set(re.findall("[^A-Za-z0-9\\s]|\\n| ", text)) | set(re.findall(" [^A-Za-z0-9\\s]+ ", text))
        if len(text) < 400:
            found.update(re.findall("[A-Za-z]+ ?[:=] ?|(?<= )[a-z]+(?= )|[A-Za-z]+", text))
        for mark in found:
            counts[mark] = counts.get(mark, 0) + 1
    marks = []
    for mark, count in counts.items():
        is_word = mark[0].isalnum()
        if is_word and (count < len(texts) or len(texts) < 2):
            continue
        label = is_word and mark.rstrip()[-1] in ":="  # "Age: " names what follows
        marks.append(
            (
                mark,
                (0.7 if label else 1.6 if is_word else 1.1 if mark == " " else 0.5 if len(mark) > 2 else 0.8)
                + (0.5 if count < len(texts) else 0.0),
            )
        )
    if len(texts) > 1 and max(map(len, texts)) <= _LONGEST_SLICED:
        # Words or endings that some of the texts share: "Inc", "that".
        words: dict[str, int] = {}
        for text in texts:
            for word in {" " + one for one in text.split()[1:]}:
                words[word] = words.get(word, 0) + 1
        marks += [(word, 2.4) for word, count in words.items() if 1 < count < len(texts)]
    return sorted(marks, key=lambda entry: entry[1])[:24]


def _joints(outputs: Sequence[str]) -> list[str]:
    """Return the marks that stand between words in every output."""
    if not outputs:
        return []
    found: set[str] | None = None
    for output in outputs:
        own = set(re.findall("(?<=[A-Za-z0-9.])[^A-Za-z0-9]{1,4}(?=[A-Za-z0-9])", output))
        own |= set(re.findall("[^A-Za-z0-9]", output))
        found = own if found is None else found & own
    return sorted(found or ())[:8]


def _some_joints(outputs: Sequence[str]) -> list[str]:
    """Return the marks that stand between words in some of the outputs."""
    found = {mark for output in outputs for mark in re.findall("(?<=[A-Za-z0-9.])[^A-Za-z0-9](?=[A-Za-z0-9])", output)}
    return sorted(found)[:4]


def _after_mark(texts: Sequence[str], outputs: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield patterns for the text after a mark, if the whole outputs match them: "(?<=@)[A-Za-z0-9_]+"."""
    if len(texts) != len(outputs) or not all(output and output in text for text, output in zip(texts, outputs)):
        return
    mark = _common_end([text.partition(output)[0] for text, output in zip(texts, outputs)])[-1:]
    if mark and not mark.isalnum() and not mark.isspace():
        for pattern, cost in (("\\S+", 1.2), ("[0-9]+", 1.0), (f"[{LETTERS}0-9_]+", 1.3), ("[^\\s,;]+", 1.5)):
            yield f"(?<={re.escape(mark)}){pattern}", cost


def _contexts(texts: Sequence[str], outputs: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """Yield the texts before and after the outputs that all inputs share."""
    if len(texts) != len(outputs) or not all(output and output in text for text, output in zip(texts, outputs)):
        return
    lefts = [text.partition(output)[0] for text, output in zip(texts, outputs)]
    rights = [text.partition(output)[2] for text, output in zip(texts, outputs)]
    left, right = _common_end(lefts)[-20:], _common_start(rights)[:20]
    for start in sorted(
        {0, *(one.start() for one in re.finditer("(?<![A-Za-z0-9])(?=[A-Za-z0-9])", left)), max(0, len(left) - 1)}
    ):
        for stop in sorted({1, *(one.end() for one in re.finditer("[A-Za-z0-9]+|[^A-Za-z0-9]+", right))}):
            if left[start:] and right[:stop]:
                label = re.search("[A-Za-z][\"']? ?[:=#] ?[\"']?$", left[start:])
                yield left[start:], right[:stop], (0.7 if label else 2.6) + 0.08 * (len(left) - start + stop)


def _common_start(texts: Sequence[str]) -> str:
    shortest, longest = min(texts), max(texts)
    size = 0
    while size < min(len(shortest), len(longest)) and shortest[size] == longest[size]:
        size += 1
    return shortest[:size]


def _common_end(texts: Sequence[str]) -> str:
    return _common_start([text[::-1] for text in texts])[::-1]


_CLASSES = (("[0-9]", str.isdigit), ("[A-Z]", str.isupper), ("[a-z]", str.islower))


def _shapes(outputs: Sequence[str]) -> list[tuple[str, float]]:
    """Return exact and loose patterns for the outputs, if they share one shape: "ORD-[0-9]{5}"."""
    if len(outputs) < 2 or any(not 2 <= len(output) <= 40 for output in outputs):
        return []
    runs = [_runs(output) for output in outputs]
    if len({tuple(kind for kind, _ in one) for one in runs}) != 1 or not 1 <= len(runs[0]) <= 9:
        return []
    exact, loose, letters = "", "", ""
    for parts in zip(*runs):
        kind = parts[0][0]
        texts = {text for _, text in parts}
        sizes = {len(text) for _, text in parts}
        if not kind.startswith("["):
            exact, loose, letters = exact + kind, loose + kind, letters + kind
            continue
        size = f"{{{sizes.pop()}}}" if len(sizes) == 1 else "+"
        exact += kind + size
        loose += kind + "+"
        letters += re.escape(texts.pop()) if len(texts) == 1 and kind != "[0-9]" else kind + size
    if not any(part.startswith("[") for part in re.findall("\\[.|.", letters)):
        return []  # the same text in every output is a constant, not a pattern
    word = ("(?<![A-Za-z0-9])", "(?![A-Za-z0-9])")
    # Any two words of five letters have the same shape: only digits and marks make a shape distinctive.
    tells = 0.5 if any(kind not in ("[A-Z]", "[a-z]", "\\ ") for kind, _ in runs[0]) else 1.7
    found = []
    for pattern, cost in ((letters, 1.2), (exact, 1.4), (loose, 1.6)):
        found.append((word[0] + pattern + word[1], cost + tells))
    return list(dict.fromkeys(found))


def _runs(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for letter in text:
        kind = next((kind for kind, test in _CLASSES if letter.isascii() and test(letter)), re.escape(letter))
        if found and found[-1][0] == kind and kind.startswith("["):
            found[-1] = (kind, found[-1][1] + letter)
        else:
            found.append((kind, letter))
    return found


Taker = Callable[[str], str]
