"""Dates and times of day: how they are read, and the parts of them that outputs may show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import runtime as run
from .expressions import Expression, applied, quoted

_ORDERS = ("mdy", "dmy", "ymd", "my", "ym", "md", "dm")
_MONTHS = "(?i)(?<![a-z])(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_STEPS = (300, 600, 900, 1200, 1800, 3600, 7200, 10800, 14400, 21600, 28800, 43200)  # seconds
_NUMERIC = "[0-9]{1,4}[/.-][0-9]{1,2}[/.-][0-9]{1,4}"
_NAMED = (  # March 5th, 2014 and 5 Mar 2014
    "(?:[A-Z][a-z]{2,8}\\.? [0-9]{1,2}(?:st|nd|rd|th)?,? [0-9]{4}"
    "|[0-9]{1,2}(?:st|nd|rd|th)? [A-Z][a-z]{2,8}\\.?,? [0-9]{4})"
)

Part = tuple[str, Callable[[Any], str], float]

_DATE_PARTS: tuple[Part, ...] = (
    ("str(present({0}[0]))", lambda d: str(run.present(d[0])), 0.4),
    ("two(present({0}[0]) % 100)", lambda d: run.two(run.present(d[0]) % 100), 0.6),
    ("two(present({0}[1]))", lambda d: run.two(run.present(d[1])), 0.4),
    ("str(present({0}[1]))", lambda d: str(run.present(d[1])), 0.5),
    ("two(present({0}[2]))", lambda d: run.two(run.present(d[2])), 0.4),
    ("str(present({0}[2]))", lambda d: str(run.present(d[2])), 0.5),
    ("ordinal(present({0}[2]))", lambda d: run.ordinal(run.present(d[2])), 0.6),
    ("month_name({0})", run.month_name, 0.4),
    ("month_name({0})[:3]", lambda d: run.month_name(d)[:3], 0.5),
    ("month_name({0}).upper()", lambda d: run.month_name(d).upper(), 0.8),
    ("month_name({0})[:3].upper()", lambda d: run.month_name(d)[:3].upper(), 0.8),
    ("weekday({0})", run.weekday, 0.5),
    ("weekday({0})[:3]", lambda d: run.weekday(d)[:3], 0.6),
    ("weekday({0})[:2]", lambda d: run.weekday(d)[:2], 1.0),
    ("weekday({0}).upper()", lambda d: run.weekday(d).upper(), 0.9),
    ("weekday({0})[:3].upper()", lambda d: run.weekday(d)[:3].upper(), 0.9),
    ("str((present({0}[1]) + 2) // 3)", lambda d: str((run.present(d[1]) + 2) // 3), 1.2),
    ("ordinal((present({0}[1]) + 2) // 3)", lambda d: run.ordinal((run.present(d[1]) + 2) // 3), 1.6),
    ("str((present({0}[1]) + 5) // 6)", lambda d: str((run.present(d[1]) + 5) // 6), 2.2),
    ("str(present({0}[0]) // 10 * 10)", lambda d: str(run.present(d[0]) // 10 * 10), 1.6),
    ("str(present({0}[0]) // 100 + 1)", lambda d: str(run.present(d[0]) // 100 + 1), 2.4),
)
_TIME_PARTS: tuple[Part, ...] = (
    ("two({0} // 3600)", lambda t: run.two(t // 3600), 0.5),
    ("str({0} // 3600)", lambda t: str(t // 3600), 0.6),
    ("two(hour_of_12({0}))", lambda t: run.two(run.hour_of_12(t)), 0.6),
    ("str(hour_of_12({0}))", lambda t: str(run.hour_of_12(t)), 0.6),
    ("two({0} // 60 % 60)", lambda t: run.two(t // 60 % 60), 0.4),
    ("str({0} // 60 % 60)", lambda t: str(t // 60 % 60), 1.4),
    ("two({0} % 60)", lambda t: run.two(t % 60), 0.5),
    ("half_day({0})", run.half_day, 0.5),
    ("half_day({0}).lower()", lambda t: run.half_day(t).lower(), 0.6),
    ("half_day({0})[0].lower()", lambda t: run.half_day(t)[0].lower(), 1.4),
    ("half_day({0})[0]", lambda t: run.half_day(t)[0], 1.6),
)


def moment_expressions(columns: Sequence[Expression], outputs: Sequence[str]) -> Iterator[Expression | None]:
    """Yield the parts of the dates and times in the columns."""
    for column in columns:
        texts = [value for value in column.values if value]
        if not texts or any(len(text) > 200 for text in texts):
            continue
        sources = [column]
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
        if any(_is_date(text) for text in texts):
            for source in sources:
                yield from _dates(source)
        if any(re.search("[0-9]:[0-9]{2}|[0-9] ?[AaPp]\\.?[Mm]", text) for text in texts):
            yield from _times(column, outputs)


def _is_date(text: str) -> bool:
    return bool(
        (re.search(_MONTHS, text) and re.search("[0-9]", text))
        or re.search("[0-9]{1,4}[/. -][0-9]{1,2}(?:[/. -][0-9]{1,4})?", text)
        or re.fullmatch("[0-9]{6}|[0-9]{8}|[0-9]{14}", text)
    )


def _dates(source: Expression) -> Iterator[Expression | None]:
    for place, order in enumerate(_ORDERS):
        date = applied(
            f"date_in({{0}}, {quoted(order)})",
            lambda text, o=order: run.date_in(text, o),
            (source,),
            0.3 + 0.02 * place + (0.3 if len(order) < 3 else 0.0),
            "date",
        )
        if date is None:
            continue
        for template, function, cost in _DATE_PARTS:
            yield applied(template, function, (date,), cost)


def _times(source: Expression, outputs: Sequence[str]) -> Iterator[Expression | None]:
    time = applied("time_in({0})", run.time_in, (source,), 0.3, "time")
    if time is None:
        return
    moments: list[Expression | None] = [time]
    if any(re.search("[0-9]", output) for output in outputs):
        for step in _STEPS:
            for way, cost in (("down", 1.2), ("nearest", 1.4), ("up", 1.4)):
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
                                lambda seconds, s=shift: (seconds + s) % 86400,
                                (rounded,),
                                0.1,
                                "end",
                            )
                        )
    for moment in moments:
        if moment is not None:
            for template, function, cost in _TIME_PARTS:
                yield applied(template, function, (moment,), cost)
