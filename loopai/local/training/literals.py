"""Values as Python source: rounded, strings in double quotes, tables filled into lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

WIDTH = 110


def literal(value: Any) -> str:
    """`value` as source; strings in double quotes where that needs no escapes."""
    if isinstance(value, tuple):
        return f"({', '.join(literal(one) for one in value)}{',' if len(value) == 1 else ''})"
    shown = repr(value)
    return f'"{shown[1:-1]}"' if isinstance(value, str) and shown[0] == "'" and '"' not in value else shown


def rounded(value: float, digits: int = 5) -> str:
    """`value` with this many significant digits."""
    return repr(float(f"{value:.{digits}g}") + 0.0)


def row(values: tuple[float, ...], digits: int = 5) -> str:
    """One weight as a number, several as a tuple."""
    shown = [rounded(value, digits) for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def table(entries: Iterable[str], indent: int = 0) -> str:
    """The entries between braces, as many a line as fit."""
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
    """`name` as part of a Python name, in lower case."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_") or "field"
