"""The steps that programs made by example consist of. The search calls them, and programs carry their source.

They use only what Monty supports, and raise ValueError for an input that does not have the expected form.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal


def unfit(text: object) -> ValueError:
    """Build the error for an input that has none of the forms seen in the examples."""
    return ValueError(f"the input does not have the form of the examples: {str(text)[:80]!r}")


def text_at(value: object, path: tuple) -> str:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the text or number at this place of the input, as a text."""
    for step in path:
        if not isinstance(value, dict) or step not in value:
            raise ValueError(f"the input has no value at {path!r}")
        value = value[step]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"the input at {path!r} is not a text or a number")
    return str(value)


def filled(text: str) -> str:
    """Return a text that must not be empty."""
    if not text:
        raise unfit(text)
    return text


def match(text: str, pattern: str, which: int) -> str:
    """Return the match number `which` of a pattern; negative numbers count from the end."""
    found = [one.group() for one in re.finditer(pattern, text)]
    if not -len(found) <= which < len(found):
        raise unfit(text)
    return str(found[which])


def only_match(text: str, pattern: str) -> str:
    """Return the match of a pattern; every match must be the same text."""
    found = {one.group() for one in re.finditer(pattern, text)}
    if len(found) != 1:
        raise unfit(text)
    return found.pop()


def piece(text: str, mark: str, which: int) -> str:
    """Split at `mark` and return the piece number `which`."""
    pieces = text.split(mark)
    if len(pieces) < 2 or not -len(pieces) <= which < len(pieces):
        raise unfit(text)
    return pieces[which].strip()


def before(text: str, mark: str) -> str:
    """Return what stands before the first `mark`."""
    if mark not in text:
        raise unfit(text)
    return text.partition(mark)[0].rstrip()


def after(text: str, mark: str) -> str:
    """Return what stands after the first `mark`."""
    if mark not in text:
        raise unfit(text)
    return text.partition(mark)[2].lstrip()


def before_last(text: str, mark: str) -> str:
    """Return what stands before the last `mark`."""
    if mark not in text:
        raise unfit(text)
    return text.rpartition(mark)[0].rstrip()


def after_last(text: str, mark: str) -> str:
    """Return what stands after the last `mark`."""
    if mark not in text:
        raise unfit(text)
    return text.rpartition(mark)[2].lstrip()


def between(text: str, left: str, right: str) -> str:
    """Return what stands after the first `left`, up to the next `right`."""
    if left not in text or right not in text.partition(left)[2]:
        raise unfit(text)
    return text.partition(left)[2].partition(right)[0]


def cut(text: str, start: int | None, stop: int | None) -> str:
    """Return the characters from `start` to `stop`; the text must be long enough."""
    if len(text) < max(abs(start or 0), abs(stop or 0)):
        raise unfit(text)
    return text[start:stop]


def edge(text: str, pattern: str, which: int, side: int) -> int:
    """Return where the match number `which` begins (`side` 0) or ends (1)."""
    found = [one.span() for one in re.finditer(pattern, text)]
    if not -len(found) <= which < len(found):
        raise unfit(text)
    return found[which][side]


def initials(text: str, joint: str) -> str:
    """Return the first letter of each word, with `joint` between them."""
    return joint.join(word[0] for word in re.findall("[^\\s-]+", text))


def joined(text: str, pattern: str, joint: str) -> str:
    """Return all matches of a pattern, with `joint` between them."""
    found = [one.group() for one in re.finditer(pattern, text)]
    if not found:
        raise unfit(text)
    return joint.join(found)


def item(pieces: list, which: str) -> str:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the piece whose number, counted from 1, is in another column."""
    if not which.isdigit() or not 1 <= int(which) <= len(pieces):
        raise unfit(which)
    return str(pieces[int(which) - 1])


def capitalized(text: str) -> str:
    """Write each word with a capital and small letters."""
    return " ".join(word[:1].upper() + word[1:].lower() for word in text.split(" "))


def number_in(text: str, point: str) -> Decimal:
    """Read the one number in a text; `point` is the decimal mark, and the other mark separates thousands."""
    found = re.findall("[0-9][0-9.,' ]*[0-9]|[0-9]|[.,][0-9]+", text)
    digits = re.sub("[' ]", "", found[0] if len(found) == 1 else "..")
    digits = digits.replace("," if point == "." else ".", "").replace(point, ".")
    if len(found) != 1 or digits.count(".") > 1:
        raise unfit(text)
    negative = re.search(r"\(.*[0-9].*\)|(?<![A-Za-z0-9])[-\u2212][^0-9]?[.,0-9]|[0-9]-$", text)
    return -Decimal(digits) if negative else Decimal(digits)


def to_step(number: Decimal, step: str, way: str) -> Decimal:
    """Round to a multiple of `step`: "down", "up" or "nearest", halves away from zero."""
    size = Decimal(step)
    whole = Decimal(int(number / size))
    rest = number / size - whole
    if way == "nearest":
        whole += 1 if rest >= Decimal("0.5") else -1 if rest <= Decimal("-0.5") else 0
    elif way == "down" and rest < 0:
        whole -= 1
    elif way == "up" and rest > 0:
        whole += 1
    return whole * size


def written(number: Decimal, decimals: int, thousands: str, point: str) -> str:
    """Write a number with this many decimals (-1: no zeros at the end, -2: as it stands)."""
    shown = f"{number:,f}"
    if decimals >= 0:
        shown = f"{to_step(number, f'{10**-decimals:.{decimals}f}', 'nearest'):,.{decimals}f}"
    elif decimals == -1 and "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return shown.replace(",", "\t").replace(".", point).replace("\t", thousands)


def date_in(text: str, order: str) -> tuple:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Read a date as (year, month, day); `order` says in which order its numbers stand; 0 for what is missing."""
    rest = re.sub(r"(?<![0-9])[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?|[+-][0-9]{2}:?[0-9]{2}$", " ", text)
    rest = re.sub("^((?:19|20)[0-9]{2})([0-9]{2})([0-9]{2})(?![0-9])", r"\1 \2 \3 ", rest)
    rest = re.sub("^([0-9]{2})([0-9]{2})([0-9]{4}|[0-9]{2})$", r"\1 \2 \3", rest)
    named = re.findall(r"(?i)(?<![a-z])(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*", rest)
    found = re.findall("[0-9]+", rest)
    parts = {"y": 0, "m": 0, "d": 0}
    if named:
        order = order.replace("m", "")
        parts["m"] = "janfebmaraprmayjunjulaugsepoctnovdec".index(named[0].lower()) // 3 + 1
    order = "ymd" if len(found) == 3 and len(found[0]) == 4 else order
    if len(found) != len(order):
        raise unfit(text)
    for part, digits in zip(order, found):
        parts[part] = int(digits)
        if part == "y" and len(digits) == 2:
            parts["y"] += 2000 if int(digits) < 50 else 1900
        elif (len(digits) == 4) != (part == "y"):
            raise unfit(text)
    if parts["m"] > 12 or parts["d"] > 31 or ("m" in order and not parts["m"]):
        raise unfit(text)
    return (parts["y"], parts["m"], parts["d"])


def weekday(date: tuple) -> str:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the name of the day of the week."""
    year, month, day = date
    if not year or not month or not day:
        raise unfit(date)
    shifted = year - 1 if month < 3 else year
    number = shifted + shifted // 4 - shifted // 100 + shifted // 400 + [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4][month - 1]
    return ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"][int(number + day) % 7]


def month_name(date: tuple) -> str:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the name of the month."""
    if not 1 <= date[1] <= 12:
        raise unfit(date)
    names = "January February March April May June July August September October November December"
    return names.split()[int(date[1]) - 1]


def ordinal(number: int) -> str:
    """Return a number as 1st, 2nd, 3rd, 4th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return str(number) + ending


def roman(number: int) -> str:
    """Write a number with Roman numerals."""
    if not 0 < number < 4000:
        raise unfit(number)
    text = ""
    signs = "M1000 CM900 D500 CD400 C100 XC90 L50 XL40 X10 IX9 V5 IV4 I1"
    for sign, digits in re.findall("([A-Z]+)([0-9]+)", signs):
        size = int(digits)
        text += sign * (number // size)
        number %= size
    return text


def from_roman(text: str) -> int:
    """Read a number in Roman numerals."""
    sizes = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    number = 0
    for place, sign in enumerate(text):
        if sign not in sizes:
            raise unfit(text)
        larger = place + 1 < len(text) and sizes.get(text[place + 1], 0) > sizes[sign]
        number += -sizes[sign] if larger else sizes[sign]
    if not text or roman(number) != text:
        raise unfit(text)
    return number


def present(part: int) -> int:
    """Return a part of a date that must be there."""
    if not part:
        raise ValueError("the date in the input is not complete")
    return part


def iso_date(text: str) -> tuple:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Read a date such as 2015-03-14 as (year, month, day)."""
    found = re.match("([0-9]{4})-([0-9]{2})-([0-9]{2})(?![0-9])", text)
    if found is None:
        raise unfit(text)
    return (int(found.group(1)), int(found.group(2)), int(found.group(3)))


def iso_moment(text: str) -> int:
    """Read a moment such as 2015-03-14T15:47:21+02:00 as seconds since 1970, in UTC."""
    found = re.fullmatch("(.{10})[T ]([0-9]{2}):([0-9]{2}):?([0-9]{2})?[.]?[0-9]*(Z|[+-][0-9:]+)?", text)
    if found is None:
        raise unfit(text)
    hours, minutes, seconds = [int(found.group(place) or 0) for place in (2, 3, 4)]
    offset = (found.group(5) or "Z").replace("Z", "+0000").replace(":", "")
    away = int(offset[:3]) * 3600 + int(offset[0] + offset[3:]) * 60
    return days_since(iso_date(found.group(1)), (1970, 1, 1)) * 86400 + hours * 3600 + minutes * 60 + seconds - away


def moved(date: tuple, days: int) -> tuple:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the date this many days later."""
    year, month, day = date
    later = datetime.date(year, month, day) + datetime.timedelta(days=days)
    return (later.year, later.month, later.day)


def months_later(date: tuple, months: int) -> tuple:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the same day this many months later, or the last day of that month where it is shorter."""
    year, month, day = date
    number = year * 12 + month - 1 + months
    first = datetime.date(number // 12, number % 12 + 1, 1)
    size = (datetime.date((number + 1) // 12, (number + 1) % 12 + 1, 1) - first).days
    return (first.year, first.month, min(day, size))


def day_of_week(date: tuple) -> int:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the number of the day in its week: 1 is Monday, 7 is Sunday."""
    year, month, day = date
    return datetime.date(year, month, day).weekday() + 1


def days_since(date: tuple, first: tuple) -> int:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the number of days from `first` to a date."""
    year, month, day = date
    return (datetime.date(year, month, day) - datetime.date(first[0], first[1], first[2])).days


def iso_week(date: tuple) -> tuple:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the year and the number of a date's ISO week."""
    year, month, day = date
    return tuple(int(one) for one in datetime.date(year, month, day).strftime("%G %V").split())


def offset_in(text: str) -> int:
    """Read the time zone's offset at the end of a text, in seconds: Z, +02:00 or -0530."""
    found = re.search("([+-])([0-9]{2}):?([0-9]{2})$", text)
    if found is None and not text.endswith("Z"):
        raise unfit(text)
    if found is None:
        return 0
    seconds = int(found.group(2)) * 3600 + int(found.group(3)) * 60
    return -seconds if found.group(1) == "-" else seconds


def english(text: str, names: str) -> str:
    """Return the text with its month's name in English; `names` are the months of the other language."""
    for word in re.findall(r"[^\W\d_]{3,}", text):
        for number, name in enumerate(names.split()):
            if name.lower().startswith(word.lower()) or word.lower().startswith(name.lower()):
                return text.replace(word, month_name((1, number + 1, 1)))
    raise unfit(text)


def time_in(text: str) -> int:
    """Read a time of day, in seconds after midnight."""
    text = re.sub(r"[+][0-9]{2}:?[0-9]{2}$|(?<=:[0-9]{2}:[0-9]{2})-[0-9]{2}:?[0-9]{2}$|(?<=[0-9]{4}):", " ", text)
    found = re.findall(r"(?i)(?<![0-9:])([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))?\s*([ap]\.?m)?(?![0-9:/-])", text)
    found = [one for one in found if one[1] or one[3]]
    if len(found) != 1:
        raise unfit(text)
    hour, minute, second, half = found[0]
    hours = int(hour)
    if half:
        if not 1 <= hours <= 12:
            raise unfit(text)
        hours = hours % 12 + (12 if half.lower()[0] == "p" else 0)
    if hours > 23 or int(minute or 0) > 59:
        raise unfit(text)
    return hours * 3600 + int(minute or 0) * 60 + int(second or 0)


def time_to_step(seconds: int, step: int, way: str) -> int:
    """Round a time to a multiple of `step` seconds: "down", "up" or "nearest"."""
    moved = seconds + (0 if way == "down" else step - 1 if way == "up" else step // 2)
    return moved // step * step % 86400


def half_day(seconds: int) -> str:
    """Return AM or PM."""
    return "AM" if seconds % 86400 < 43200 else "PM"


def hour_of_12(seconds: int) -> int:
    """Return the hour on a clock of twelve hours."""
    return (seconds // 3600 + 11) % 12 + 1


def two(number: int) -> str:
    """Write a number with at least two digits."""
    return f"{number:02d}"


def with_an_end(number: Decimal) -> Decimal:
    """Return a number of few decimals: the examples do not say how others are rounded."""
    if number != round(number, 9):
        raise ValueError(f"no example says how {number} is rounded")
    return number


def numbers_in(text: str, count: int) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Read the numbers in a text; there must be `count` of them."""
    found = re.findall("[0-9]+(?:,[0-9]{3})*(?:[.][0-9]+)?", text)
    if len(found) != count:
        raise unfit(text)
    return [Decimal(one.replace(",", "")) for one in found]


def all_numbers(text: str) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Read all numbers in a text; a comma stands between two of them."""
    found = re.findall("[0-9]+(?:[.][0-9]+)?", text)
    if not found:
        raise unfit(text)
    return [Decimal(one) for one in found]


def whole(number: Decimal) -> int:
    """Return a whole number; the examples do not show how another would be rounded."""
    if number != int(number):
        raise unfit(number)
    return int(number)


def list_at(value: object, path: tuple, key: tuple) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the items of the list at this place of the input; of objects, what stands at `key` in each."""
    for step in path:
        if not isinstance(value, dict) or step not in value:
            raise ValueError(f"the input has no value at {path!r}")
        value = value[step]
    if not isinstance(value, list):
        raise ValueError(f"the input at {path!r} is not a list")
    for step in key:
        if not all(isinstance(item, dict) and step in item for item in value):
            raise ValueError(f"an item of the list at {path!r} has no value {step!r}")
        value = [item[step] for item in value]
    return value


def decimals(items: list) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Return the numbers of a list, for exact arithmetic."""
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items):
        raise ValueError("an item of the list is not a number")
    return [Decimal(str(item)) for item in items]
