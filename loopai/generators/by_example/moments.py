"""Dates and times of day: how they are read, moved and rounded, and the parts of them that outputs may show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from . import runtime as run
from .expressions import Expression, applied, quoted

_ORDERS = ("mdy", "dmy", "ymd", "my", "ym", "md", "dm", "m")
_MONTHS = "(?i)(?<![a-z])(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_STEPS = (300, 600, 900, 1200, 1800, 3600, 7200, 10800, 14400, 21600, 28800, 43200)  # seconds
_NUMERIC = "[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{1,4}"
_NAMED = (  # March 5th, 2014 and 5 Mar 2014
    "(?:[A-Z][a-z]{2,8}\\.? [0-9]{1,2}(?:st|nd|rd|th)?,? [0-9]{4}"
    "|[0-9]{1,2}(?:st|nd|rd|th)? [A-Z][a-z]{2,8}\\.?,? [0-9]{4}"
    "|[0-9]{1,2}([/-])[A-Z][a-z]{2}\\1[0-9]{4})"  # 05/Mar/2014, as logs have it
)
_TIME = "[0-9]:[0-9]{2}|[0-9] ?[AaPp]\\.?[Mm]"
_OFFSET = "[0-9](?:Z|[+-][0-9]{2}:?[0-9]{2})$"
_DAY = 86400
_EPOCH = (1970, 1, 1)
_DOTTED = 2.5  # between dots the day comes first: anything that is then not a date is a version, or a decimal
_USUAL = 31  # people move dates by up to this many days; beyond, only by weeks and tens
_MOST_MOVED = 800  # most days, and months, by which outputs are moved
# Names of the months and, from Monday, of the days of the week.
_LANGUAGES = (
    (
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    ),
    (
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
    ),
    (
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "lunes martes miércoles jueves viernes sábado domingo",
    ),
    (
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
    ),
    (
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
    ),
    (
        "januari februari maart april mei juni juli augustus september oktober november december",
        "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    ),
)

# Part of the moment, source, function, cost.
Part = tuple[str, str, Callable[[Any], str], float]

_DATE_PARTS: tuple[Part, ...] = (
    ("year", "str(present({0}[0]))", lambda d: str(run.present(d[0])), 0.4),
    ("year", "two(present({0}[0]) % 100)", lambda d: run.two(run.present(d[0]) % 100), 0.6),
    ("month", "two(present({0}[1]))", lambda d: run.two(run.present(d[1])), 0.4),
    ("month", "str(present({0}[1]))", lambda d: str(run.present(d[1])), 0.5),
    ("day", "two(present({0}[2]))", lambda d: run.two(run.present(d[2])), 0.4),
    ("day", "str(present({0}[2]))", lambda d: str(run.present(d[2])), 0.5),
    ("day", "ordinal(present({0}[2]))", lambda d: run.ordinal(run.present(d[2])), 0.6),
    ("month", "month_name({0})", run.month_name, 0.4),
    ("month", "month_name({0})[:3]", lambda d: run.month_name(d)[:3], 0.5),
    ("month", "month_name({0}).upper()", lambda d: run.month_name(d).upper(), 0.8),
    ("month", "month_name({0})[:3].upper()", lambda d: run.month_name(d)[:3].upper(), 0.8),
    ("weekday", "weekday({0})", run.weekday, 0.5),
    ("weekday", "weekday({0})[:3]", lambda d: run.weekday(d)[:3], 0.6),
    ("weekday", "weekday({0})[:2]", lambda d: run.weekday(d)[:2], 1.0),
    ("weekday", "weekday({0}).upper()", lambda d: run.weekday(d).upper(), 0.9),
    ("weekday", "weekday({0})[:3].upper()", lambda d: run.weekday(d)[:3].upper(), 0.9),
    ("weekday", "str(day_of_week({0}))", lambda d: str(run.day_of_week(d)), 2.0),
    ("weekday", "str(day_of_week({0}) % 7)", lambda d: str(run.day_of_week(d) % 7), 2.2),
    ("quarter", "str((present({0}[1]) + 2) // 3)", lambda d: str((run.present(d[1]) + 2) // 3), 1.2),
    ("quarter", "ordinal((present({0}[1]) + 2) // 3)", lambda d: run.ordinal((run.present(d[1]) + 2) // 3), 1.6),
    ("half", "str((present({0}[1]) + 5) // 6)", lambda d: str((run.present(d[1]) + 5) // 6), 2.2),
    ("year", "str(present({0}[0]) // 10 * 10)", lambda d: str(run.present(d[0]) // 10 * 10), 1.6),
    ("year", "str(present({0}[0]) // 100 + 1)", lambda d: str(run.present(d[0]) // 100 + 1), 2.4),
    ("year", "ordinal(present({0}[0]) // 100 + 1)", lambda d: run.ordinal(run.present(d[0]) // 100 + 1), 2.4),
    ("year", "str(iso_week({0})[0])", lambda d: str(run.iso_week(d)[0]), 1.6),
    ("week", '"W" + two(iso_week({0})[1])', lambda d: "W" + run.two(run.iso_week(d)[1]), 1.0),
    ("week", "two(iso_week({0})[1])", lambda d: run.two(run.iso_week(d)[1]), 1.1),
    ("week", "str(iso_week({0})[1])", lambda d: str(run.iso_week(d)[1]), 1.0),
    ("yearday", "str(days_since({0}, ({0}[0], 1, 1)) + 1)", lambda d: str(run.days_since(d, (d[0], 1, 1)) + 1), 1.0),
    (
        "yearday",
        "str(days_since({0}, ({0}[0], 1, 1)) + 1).zfill(3)",
        lambda d: str(run.days_since(d, (d[0], 1, 1)) + 1).zfill(3),
        1.0,
    ),
    ("month", "roman(present({0}[1]))", lambda d: run.roman(run.present(d[1])), 1.6),
)
_TIME_PARTS: tuple[Part, ...] = (
    ("hour", "two({0} // 3600)", lambda t: run.two(t // 3600), 0.5),
    ("hour", "str({0} // 3600)", lambda t: str(t // 3600), 0.6),
    ("hour", "two(hour_of_12({0}))", lambda t: run.two(run.hour_of_12(t)), 0.6),
    ("hour", "str(hour_of_12({0}))", lambda t: str(run.hour_of_12(t)), 0.6),
    ("minute", "two({0} // 60 % 60)", lambda t: run.two(t // 60 % 60), 0.4),
    ("minute", "str({0} // 60 % 60)", lambda t: str(t // 60 % 60), 1.4),
    ("second", "two({0} % 60)", lambda t: run.two(t % 60), 0.5),
    ("half", "half_day({0})", run.half_day, 0.5),
    ("half", "half_day({0}).lower()", lambda t: run.half_day(t).lower(), 0.6),
    ("half", "half_day({0})[0].lower()", lambda t: run.half_day(t)[0].lower(), 1.4),
    ("half", "half_day({0})[0]", lambda t: run.half_day(t)[0], 1.6),
)
_DURATION_PARTS: tuple[Part, ...] = (
    *(part for part in _TIME_PARTS if "half" not in part[0] and "12" not in part[1]),
    ("day", "str({0} // 86400)", lambda t: str(t // _DAY), 1.0),
    ("hour", "str({0} // 3600 % 24)", lambda t: str(t // 3600 % 24), 1.2),
    ("hour", "two({0} // 3600 % 24)", lambda t: run.two(t // 3600 % 24), 1.2),
    ("minute", "str({0} // 60)", lambda t: str(t // 60), 0.8),
    ("minute", "two({0} // 60)", lambda t: run.two(t // 60), 0.9),
    ("second", "str({0} % 60)", lambda t: str(t % 60), 0.8),
)
# Whole dates and times, for moments that all outputs show: they cost less than their parts.
_WHOLE_DATES: tuple[Part, ...] = (
    ("", 'f"{{{0}[0]}}-{{{0}[1]:02d}}-{{{0}[2]:02d}}"', lambda d: f"{d[0]}-{d[1]:02d}-{d[2]:02d}", 0.0),
    ("", 'f"{{{0}[1]:02d}}/{{{0}[2]:02d}}/{{{0}[0]}}"', lambda d: f"{d[1]:02d}/{d[2]:02d}/{d[0]}", 0.0),
    ("", 'f"{{{0}[1]}}/{{{0}[2]}}/{{{0}[0]}}"', lambda d: f"{d[1]}/{d[2]}/{d[0]}", 0.1),
    ("", 'f"{{{0}[2]:02d}}/{{{0}[1]:02d}}/{{{0}[0]}}"', lambda d: f"{d[2]:02d}/{d[1]:02d}/{d[0]}", 0.0),
    ("", 'f"{{{0}[2]}}/{{{0}[1]}}/{{{0}[0]}}"', lambda d: f"{d[2]}/{d[1]}/{d[0]}", 0.1),
    ("", 'f"{{{0}[2]:02d}}.{{{0}[1]:02d}}.{{{0}[0]}}"', lambda d: f"{d[2]:02d}.{d[1]:02d}.{d[0]}", 0.0),
    ("", 'f"{{{0}[2]}}.{{{0}[1]}}.{{{0}[0]}}"', lambda d: f"{d[2]}.{d[1]}.{d[0]}", 0.1),
    ("", 'f"{{{0}[0]}}{{{0}[1]:02d}}{{{0}[2]:02d}}"', lambda d: f"{d[0]}{d[1]:02d}{d[2]:02d}", 0.1),
    ("", 'f"{{month_name({0})}} {{{0}[2]}}, {{{0}[0]}}"', lambda d: f"{run.month_name(d)} {d[2]}, {d[0]}", 0.1),
    ("", 'f"{{month_name({0})[:3]}} {{{0}[2]}}, {{{0}[0]}}"', lambda d: f"{run.month_name(d)[:3]} {d[2]}, {d[0]}", 0.1),
    ("", 'f"{{{0}[2]}} {{month_name({0})}} {{{0}[0]}}"', lambda d: f"{d[2]} {run.month_name(d)} {d[0]}", 0.1),
    ("", 'f"{{{0}[2]}} {{month_name({0})[:3]}} {{{0}[0]}}"', lambda d: f"{d[2]} {run.month_name(d)[:3]} {d[0]}", 0.1),
)
_WHOLE_TIMES: tuple[Part, ...] = (
    ("", 'f"{{{0} // 3600:02d}}:{{{0} // 60 % 60:02d}}"', lambda t: f"{t // 3600:02d}:{t // 60 % 60:02d}", 0.0),
    ("", 'f"{{{0} // 3600}}:{{{0} // 60 % 60:02d}}"', lambda t: f"{t // 3600}:{t // 60 % 60:02d}", 0.1),
    (
        "",
        'f"{{{0} // 3600:02d}}:{{{0} // 60 % 60:02d}}:{{{0} % 60:02d}}"',
        lambda t: f"{t // 3600:02d}:{t // 60 % 60:02d}:{t % 60:02d}",
        0.0,
    ),
    (
        "",
        'f"{{{0} // 3600}}:{{{0} // 60 % 60:02d}}:{{{0} % 60:02d}}"',
        lambda t: f"{t // 3600}:{t // 60 % 60:02d}:{t % 60:02d}",
        0.1,
    ),
)
_HALF_DAYS: tuple[Part, ...] = (
    (
        "",
        'f"{{hour_of_12({0})}}:{{{0} // 60 % 60:02d}} {{half_day({0})}}"',
        lambda t: f"{run.hour_of_12(t)}:{t // 60 % 60:02d} {run.half_day(t)}",
        0.0,
    ),
    (
        "",
        'f"{{hour_of_12({0}):02d}}:{{{0} // 60 % 60:02d}} {{half_day({0})}}"',
        lambda t: f"{run.hour_of_12(t):02d}:{t // 60 % 60:02d} {run.half_day(t)}",
        0.0,
    ),
)
_WHOLE_DURATIONS: tuple[Part, ...] = (
    *_WHOLE_TIMES,
    ("", 'f"{{{0} // 60}}:{{{0} % 60:02d}}"', lambda t: f"{t // 60}:{t % 60:02d}", 0.0),
    ("", 'f"{{{0} // 60:02d}}:{{{0} % 60:02d}}"', lambda t: f"{t // 60:02d}:{t % 60:02d}", 0.0),
)
_WHOLE = 0.5  # cost of a whole date or time
# If the outputs show the first, the third is the likelier way to write the second.
_ALIKE: tuple[tuple[str, str, tuple[str, Callable[[Any], str]]], ...] = (
    (
        "str(present({0}[1]))",
        "two(present({0}[2]))",
        ("str(present({0}[2]))", lambda d: str(run.present(d[2]))),
    ),
    (
        "str(present({0}[2]))",
        "two(present({0}[1]))",
        ("str(present({0}[1]))", lambda d: str(run.present(d[1]))),
    ),
    ("str({0} // 60 % 60)", "two({0} % 60)", ("str({0} % 60)", lambda t: str(t % 60))),
)
_OF_DATE = {template: kind for kind, template, _, _ in _DATE_PARTS}
_OF_TIME = {template: kind for kind, template, _, _ in (*_TIME_PARTS, *_DURATION_PARTS)}


def moment_expressions(columns: Sequence[Expression], outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield the parts of the dates and times in the columns."""
    for column in columns:
        texts = [value for value in column.values if value]
        if not texts or any(len(text) > 200 for text in texts):
            continue
        sources = [column, *_translated(column, texts)]
        if any(re.search(_NUMERIC, text) or re.search(_NAMED, text) for text in texts):
            for pattern in (_NUMERIC, _NAMED):
                for which in (0, -1):
                    one = applied(
                        f"match({{0}}, {quoted(pattern)}, {which})",
                        lambda text, p=pattern, k=which: run.match(text, p, k),
                        (column,),
                        1.0 if which == 0 else 1.4,
                    )
                    if one is not None and one.values != column.values:
                        sources.append(one)
        dates: list[Expression] = []
        whole = [date for date in [_iso(column, texts, "iso_date", run.iso_date, "date")] if date is not None]
        if any(map(_is_date, (text for source in sources for text in source.values if text))):
            dates = [date for source in sources for date in _dates(source)]
        time = None
        if any(re.search(_TIME, text) for text in texts):
            time = applied("time_in({0})", run.time_in, (column,), 0.3, "time")
        moments = list(_moments(column, dates, time, outputs))
        if time is not None:
            yield from _times(time, outputs, moves=not moments)
        for date in dates:
            yield from _parts(date, _DATE_PARTS)
            yield from _foreign(date, outputs)
        for date in whole:
            yield from _parts(date, [part for part in _DATE_PARTS if part[0] in ("week", "yearday", "weekday")])
        for date in whole or dates:
            for one in _moved(date, outputs):
                yield from _wholes(one, _WHOLE_DATES)
                yield from _parts(one, _DATE_PARTS)
                yield from _foreign(one, outputs)
        for moment in moments:
            date_of, time_of = _of_moment(moment)
            yield from _wholes(date_of, _WHOLE_DATES)
            yield from _wholes(time_of, (*_WHOLE_TIMES, *_HALF_DAYS))
            yield from _parts(date_of, _DATE_PARTS)
            yield from _parts(time_of, _TIME_PARTS)
        yield from _durations(column, texts, outputs)


def _iso(
    column: Expression, texts: Sequence[str], name: str, function: Callable[[str], Any], named: str
) -> Expression | None:
    """Return the shorter way to read the column if all inputs look like 2015-03-14 or 2015-03-14T15:47:21."""
    if not all(re.match("[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])", text) for text in texts):
        return None
    one = applied(f"{name}({{0}})", function, (column,), 0.2, named)
    return one if one is not None and None not in one.values else None


def coherent(parts: Sequence[Expression]) -> list[Expression]:
    """Return the same parts, with all parts of one date or time read from the same moment.

    Where "2015-03-14" becomes "2015-03-15", the month could be read from either day: at the end of a month only that of
    the day shown is right.
    """
    made = list(parts)
    for group in _groups(made):
        moments = [made[place].operands[0].operands[0] for place in group if _is_of_moment(made[place])]
        roots: list[tuple[Expression, ...]] = [_both(moment) for moment in moments]
        roots += sorted(
            ((made[place].operands[0],) for place in group),
            key=lambda one: (-len(one[0].walk()), not one[0].template.startswith("iso_")),
        )
        for kinds in (_OF_DATE, _OF_TIME):
            places = [place for place in group if made[place].template in kinds]
            for root in dict.fromkeys(one for choice in roots for one in choice):
                if any(
                    isinstance(value, tuple) is not (kinds is _OF_DATE) for value in root.values if value is not None
                ):
                    continue
                again = [applied(made[at].template, made[at].function, (root,), made[at].cost) for at in places]
                if all(one is not None and one.values == made[at].values for one, at in zip(again, places)):
                    for at, one in zip(places, again):
                        made[at] = one or made[at]
                    break
        _show_alike(made, group)
    return made


def _show_alike(parts: list[Expression], group: Sequence[int]) -> None:
    """Write a two-digit number without a leading zero if another number of the same moment is written so."""
    for shown, other, alike in _ALIKE:
        if not any(parts[at].template == shown and any(len(text) == 1 for text in parts[at].values) for at in group):
            continue
        for at in group:
            if parts[at].template == other:
                one = applied(*alike, parts[at].operands, parts[at].cost)
                if one is not None and one.values == parts[at].values:
                    parts[at] = one


def _groups(parts: Sequence[Expression]) -> list[list[int]]:
    """Return the places of the parts, grouped by moment: no group has two hours, or two months."""
    groups: list[list[int]] = []
    kinds: set[tuple[bool, str]] = set()
    for place, part in enumerate(parts):
        is_time = part.template in _OF_TIME
        kind = _OF_TIME.get(part.template) or _OF_DATE.get(part.template)
        if kind is None:
            continue
        if not groups or (is_time, kind) in kinds:
            groups.append([])
            kinds = set()
        groups[-1].append(place)
        kinds.add((is_time, kind))
    return [group for group in groups if len(group) > 1]


def _is_of_moment(part: Expression) -> bool:
    return bool(part.operands[0].operands) and part.operands[0].operands[0].named == "moment"


def _both(moment: Expression) -> tuple[Expression, ...]:
    return tuple(one for one in _of_moment(moment) if one is not None)


def _parts(root: Expression | None, parts: Sequence[Part]) -> Iterator[Expression | None]:
    if root is not None:
        for _, template, function, cost in parts:
            yield applied(template, function, (root,), cost)


def _wholes(root: Expression | None, parts: Sequence[Part]) -> Iterator[Expression | None]:
    for one, (_, _, _, cost) in zip(_parts(root, parts), parts):
        yield None if one is None or root is None else replace(one, cost=_WHOLE + cost + _own_cost(root))


def _own_cost(root: Expression) -> float:
    """Return the cost of moving a date, without the cost of reading it, which every whole date has."""
    return root.cost - sum(one.cost for one in root.operands) if root.named == "moved_date" else 0.0


def _is_date(text: str) -> bool:
    return bool(
        (re.search(_MONTHS, text) and re.search("[0-9]", text))
        or re.search("[0-9]{1,4}[/. -][0-9]{1,2}(?:[/. -][0-9]{1,4})?", text)
        or re.fullmatch("[0-9]{6}|[0-9]{8}|[0-9]{14}", text)
        or re.fullmatch(f"{_MONTHS}[a-z]*|0?[1-9]|1[0-2]", text)
    )


def _translated(column: Expression, texts: Sequence[str]) -> Iterator[Expression]:
    """Yield the texts with month names of other languages translated into English."""
    for names, _ in _LANGUAGES:
        known = [name[:3].lower() for name in names.split()]
        if all(any(word[:3].lower() in known for word in re.findall(r"[^\W\d_]{3,}", text)) for text in texts):
            one = applied(
                f"english({{0}}, {quoted(names)})", lambda text, n=names: run.english(text, n), (column,), 0.6
            )
            if one is not None and one.values != column.values:
                yield one


def _foreign(date: Expression, outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield the names of months and weekdays in each language that fits all outputs."""
    for months, days in _LANGUAGES:
        for names, template, place in (
            (months, "present({0}[1]) - 1", lambda d: run.present(d[1]) - 1),
            (days, "day_of_week({0}) - 1", lambda d: run.day_of_week(d) - 1),
        ):
            words = names.split()
            if not all(any(word[:3].lower() in output.lower() for word in words) for output in outputs):
                continue
            for change, how, cost in (
                ("", str, 0.8),
                ("[:3]", lambda word: word[:3], 1.0),
                (".capitalize()", str.capitalize, 1.0),
                (".upper()", str.upper, 1.2),
                (".lower()", str.lower, 1.2),
            ):
                yield applied(
                    f"{quoted(names)}.split()[{template}]{change}",
                    lambda d, w=words, p=place, h=how: h(w[p(d)]),
                    (date,),
                    cost,
                )


def _dates(source: Expression) -> Iterator[Expression]:
    texts = [text for text in source.values if text]
    dotted = all(re.fullmatch("[0-9]{1,2}[.][0-9]{1,2}[.][0-9]+", text) for text in texts)
    decimal = all(re.fullmatch("[0-9]+[.][0-9]+", text) for text in texts)
    for place, order in enumerate(_ORDERS):
        date = applied(
            f"date_in({{0}}, {quoted(order)})",
            lambda text, o=order: run.date_in(text, o),
            (source,),
            0.3
            + 0.02 * place
            + (0.3 if len(order) < 3 else 0.0)
            + (_DOTTED if (dotted and order == "mdy") or decimal else 0.0),
            "date",
        )
        if date is not None:
            yield date


def _read(outputs: Sequence[str], read: Callable[[str], Any]) -> list[Any] | None:
    try:
        return [read(output) for output in outputs]
    except (ValueError, IndexError):
        return None


def _moved(date: Expression, outputs: Sequence[str]) -> Iterator[Expression]:
    """Yield dates at a fixed distance from `date`: moved by days or months, or within the week or month."""
    if not all(value and all(value) for value in date.values):
        return
    for order in ("ym", "my"):
        shown = _read(outputs, lambda text, o=order: run.date_in(text, o))  # type: ignore[misc]
        apart = {(one[0] - d[0]) * 12 + one[1] - d[1] for one, d in zip(shown or (), date.values)}
        if len(apart) == 1 and 0 < abs(months := apart.pop()) <= _MOST_MOVED:
            source = f"months_later(({{0}}[0], {{0}}[1], 1), {months})"
            one = _step(date, source, lambda d, m=months: run.months_later((d[0], d[1], 1), m), 0.6)  # type: ignore[misc]
            if one is not None:
                yield one
    seen = set()
    for order in _ORDERS[:3]:
        wanted = _read(outputs, lambda text, o=order: run.moved(run.date_in(text, o), 0))  # type: ignore[misc]
        if wanted is None or tuple(wanted) == date.values or tuple(wanted) in seen:
            continue
        seen.add(tuple(wanted))
        for one in _moves(date, wanted):
            if one is not None and list(one.values) == wanted:
                yield one


def _moves(date: Expression, wanted: Sequence[tuple[int, int, int]]) -> Iterator[Expression | None]:
    try:
        days = [run.days_since(one, value) for one, value in zip(wanted, date.values)]
    except ValueError:
        return
    months = [(one[0] - value[0]) * 12 + one[1] - value[1] for one, value in zip(wanted, date.values)]
    if len(set(days)) == 1 and abs(days[0]) <= _MOST_MOVED:
        usual = abs(days[0]) <= _USUAL or not days[0] % 10 or not days[0] % 7
        yield _step(date, f"moved({{0}}, {days[0]})", lambda d: run.moved(d, days[0]), 0.8 if usual else 2.0)
    if len(set(months)) > 1 or abs(months[0]) > _MOST_MOVED:
        pass
    elif all(one[2] == 1 for one in wanted):
        yield _step(
            date,
            f"months_later(({{0}}[0], {{0}}[1], 1), {months[0]})",
            lambda d: run.months_later((d[0], d[1], 1), months[0]),
            0.6,
        )
    else:
        yield _step(date, f"months_later({{0}}, {months[0]})", lambda d: run.months_later(d, months[0]), 0.7)
        yield _step(
            date,
            f"moved(months_later(({{0}}[0], {{0}}[1], 1), {months[0] + 1}), -1)",
            lambda d: run.moved(run.months_later((d[0], d[1], 1), months[0] + 1), -1),
            0.4,
        )
    weekdays = {run.day_of_week(one) for one in wanted}
    if len(weekdays) == 1 and len(set(days)) > 1:
        day = weekdays.pop()
        yield _step(
            date,
            f"moved({{0}}, ({day} - day_of_week({{0}})) % 7)",
            lambda d: run.moved(d, (day - run.day_of_week(d)) % 7),
            1.0,
        )
        yield _step(
            date,
            f"moved({{0}}, -((day_of_week({{0}}) - {day}) % 7))",
            lambda d: run.moved(d, -((run.day_of_week(d) - day) % 7)),
            0.9,
        )


def _step(date: Expression, template: str, function: Callable[[Any], Any], cost: float) -> Expression | None:
    return applied(template, function, (date,), cost, "moved_date")


def _moments(
    column: Expression, dates: Sequence[Expression], time: Expression | None, outputs: Sequence[str]
) -> Iterator[Expression]:
    """Yield seconds since 1970, for moves across midnight (other time zones) and for timestamps in seconds."""
    found: list[tuple[Expression | None, bool]] = []
    texts = [value or "" for value in column.values]
    if all(re.fullmatch("[0-9]{9,10}|[0-9]{13}", text) for text in texts) and len(set(map(len, texts))) == 1:
        scale = 1000 if len(texts[0]) == 13 else 1
        source = "int({0})" + (" // 1000" if scale > 1 else "")
        found.append((applied(source, lambda text, s=scale: int(text) // s, (column,), 0.6, "moment"), True))
    in_utc = _iso(column, texts, "iso_moment", run.iso_moment, "moment")
    if in_utc is not None:
        found.append((in_utc, True))
    elif time is not None and None not in time.values:
        for date in dates:
            if not all(value and all(value) for value in date.values):
                continue
            moment = applied(
                "days_since({0}, (1970, 1, 1)) * 86400 + {1}",
                lambda d, t: run.days_since(d, _EPOCH) * _DAY + t,
                (date, time),
                0.4,
                "moment",
            )
            found.append((moment, False))
            if moment is not None and all(re.search(_OFFSET, text) for text in texts):
                in_utc = applied(
                    "{0} - offset_in({1})", lambda m, text: m - run.offset_in(text), (moment, column), 0.2, "moment"
                )
                found.append((in_utc, True))
    for moment, itself in found:
        if moment is None:
            continue
        shifted = list(_shifted(moment, outputs)) if None not in moment.values else []
        if itself and not shifted:
            yield moment
        yield from shifted


def _shifted(moment: Expression, outputs: Sequence[str]) -> Iterator[Expression]:
    times = _read(outputs, run.time_in)
    if times is None:
        return
    for order in _ORDERS[:3]:
        days = _read(outputs, lambda text, o=order: run.days_since(run.date_in(text, o), _EPOCH))  # type: ignore[misc]
        if days is None:
            shifts = {(time - moment_ + _DAY // 2) % _DAY - _DAY // 2 for time, moment_ in zip(times, moment.values)}
        else:
            shifts = {day * _DAY + time - value for day, time, value in zip(days, times, moment.values)}
        # Outputs may leave the seconds out.
        rounded = {round(shift / 900) * 900 for shift in shifts}
        if len(rounded) != 1 or not all(abs(shift) < 60 for shift in (one - next(iter(rounded)) for one in shifts)):
            continue
        shift = rounded.pop()
        if not shift:
            return
        one = applied(
            f"{{0}} {'+' if shift > 0 else '-'} {abs(shift)}", lambda m, s=shift: m + s, (moment,), 0.4, "moment"
        )
        if one is not None:
            yield one
        if days is None:
            return


def _of_moment(moment: Expression) -> tuple[Expression | None, Expression | None]:
    date = applied(
        "moved((1970, 1, 1), ({0}) // 86400)", lambda m: run.moved(_EPOCH, m // _DAY), (moment,), 0.1, "date_there"
    )
    return date, applied("({0}) % 86400", lambda m: m % _DAY, (moment,), 0.1, "time_there")


def _times(time: Expression, outputs: Sequence[str], *, moves: bool) -> Iterator[Expression | None]:
    moments: list[Expression | None] = [time]
    # The end of a range is one step after its beginning: at a full hour, rounding up would give the beginning.
    is_range = all(re.search("[0-9APMapm] ?(?:-|\u2013|to) ?[0-9]", output) for output in outputs)
    if any(re.search("[0-9]", output) for output in outputs):
        for step in _STEPS:
            for way, cost in (("down", 1.2), ("nearest", 1.4), ("up", 1.8 if is_range else 1.4)):
                rounded = applied(
                    f"time_to_step({{0}}, {step}, {quoted(way)})",
                    lambda seconds, s=step, w=way: run.time_to_step(seconds, s, w),
                    (time,),
                    cost + (0.2 if step not in (900, 1800, 3600) else 0.0),
                    "rounded",
                )
                if rounded is None:
                    continue
                moments.append(rounded)
                if way == "down":
                    for shift in (step, step - 60, step - 1):
                        moments.append(
                            applied(
                                f"(({{0}} + {shift}) % 86400)",
                                lambda seconds, s=shift: (seconds + s) % _DAY,
                                (rounded,),
                                0.1,
                                "end",
                            )
                        )
        wanted = _read(outputs, run.time_in)
        if moves and wanted is not None and None not in time.values:
            shifts = {(one - value) % _DAY for one, value in zip(wanted, time.values)}
            if len(shifts) == 1 and (shift := shifts.pop()):
                back = shift > _DAY // 2
                source = f"({{0}} - {_DAY - shift}) % 86400" if back else f"({{0}} + {shift}) % 86400"
                moved = applied(source, lambda t, s=shift: (t + s) % _DAY, (time,), 0.8, "moved_time")
                yield from _wholes(moved, (*_WHOLE_TIMES, *_HALF_DAYS))
                moments.append(moved)
    for moment in moments:
        yield from _parts(moment, _TIME_PARTS)


def _durations(column: Expression, texts: Sequence[str], outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield hours, minutes and seconds of a number of seconds or minutes."""
    if not all(re.search("[0-9] ?[:hmdsHMS]", output) for output in outputs):
        return
    if not all(len(re.findall("[0-9]+", text)) == 1 and "." not in text for text in texts):
        return
    number = applied('int(match({0}, "[0-9]+", 0))', lambda text: int(run.match(text, "[0-9]+", 0)), (column,), 0.3)
    if number is None:
        return
    for unit, name in ((1, "seconds"), (60, "minutes"), (3600, "hours")):
        source = "{0}" if unit == 1 else f"{{0}} * {unit}"
        duration = applied(source, lambda n, u=unit: n * u, (number,), 0.6, name)
        yield from _wholes(duration, _WHOLE_DURATIONS)
        yield from _parts(duration, _DURATION_PARTS)
