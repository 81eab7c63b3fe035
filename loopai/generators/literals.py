"""Values as Python source. All task data that goes into a program goes through `literal` or `comment`."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable
from typing import Any

WIDTH = 110


def literal(value: Any) -> str:
    """Return `value` as source on one line, in printable ASCII or letters; strings in double quotes if possible.

    Takes None, booleans, numbers, strings, and tuples, lists and dicts of these. Raises TypeError for anything else.
    """
    if value is None or value is True or value is False:
        return repr(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} cannot be written into a program")
        return float.__repr__(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple):
        return f"({', '.join(literal(one) for one in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(literal(one) for one in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(one)}" for key, one in value.items()) + "}"
    raise TypeError(f"a {type(value).__name__} cannot be written into a program")


def _text(value: str) -> str:
    shown = str.__repr__(value)
    if shown[0] == "'" and '"' not in value:
        return f'"{shown[1:-1]}"'
    return shown


def comment(text: str) -> list[str]:
    """Return `text` as comment lines; line breaks and unprintable characters become spaces."""
    told = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return [f"# {line}" for line in textwrap.wrap(told, WIDTH - 2, break_on_hyphens=False)]


def docstring(text: str, indent: str = "") -> list[str]:
    """Return `text` as the lines of a docstring, escaped so that it cannot end early."""
    told = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    lines = textwrap.wrap(told.replace("\\", "\\\\").replace('"', "'"), WIDTH - 6, break_on_hyphens=False)
    if len(lines) == 1:
        return [f'{indent}"""{lines[0]}"""']
    return [f'{indent}"""{lines[0]}', *(indent + line for line in lines[1:]), f'{indent}"""']


def rounded(value: float, digits: int = 5) -> str:
    """Return `value` with this many significant digits."""
    return repr(float(f"{value:.{digits}g}") + 0.0)


def row(values: tuple[float, ...], digits: int = 5) -> str:
    """Return one weight as a number, several as a tuple."""
    shown = [rounded(value, digits) for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def table(entries: Iterable[str], indent: int = 0) -> str:
    """Return the entries for use between brackets, as many per line as fit."""
    pad = " " * (indent + 4)
    lines, line = [], pad
    for entry in entries:
        if len(line) + len(entry) + 1 > WIDTH and line != pad:
            lines.append(line.rstrip())
            line = pad
        line += entry + ", "
    lines.append(line.rstrip())
    return "{\n" + "\n".join(lines) + "\n" + " " * indent + "}"


def identifier(name: str) -> str:
    """Return `name` as part of a Python name, in lower case."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower())[:40].strip("_") or "field"
