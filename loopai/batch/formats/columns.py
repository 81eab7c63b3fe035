"""Column names from the cells of a header. Finding the header is done elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...exceptions import OptionError

REMEDY = (
    "Pass {skip_lines} N if the header is below, {comment} if the lines above it are comments, or "
    "{no_header} if there is none"
)


def numbered(width: int) -> list[str]:
    """The names of columns if there is no header."""
    return [f"column_{number}" for number in range(1, width + 1)]


def named(cells: Sequence[str], source: str, line: int, least: int = 2) -> list[str]:
    """Return the names; an empty cell becomes `column_3`. Raises `OptionError` for a duplicate name, and for a title.

    A title is a line with one named cell and at least `least` cells without a name.
    """
    unnamed = sum(1 for cell in cells if not cell)
    if unnamed >= least and unnamed == len(cells) - 1:
        raise OptionError(
            "{name}: line {line} names only one of its {width} columns. " + REMEDY,
            name=source, line=line, width=len(cells),
        )  # fmt: skip
    taken = set(cells)
    names = []
    for cell, free in zip(cells, numbered(len(cells))):
        while not cell and free in taken:
            free += "_"  # noqa: PLW2901  # until it is free
        names.append(cell or free)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise OptionError(
            "{name}: its header names the column {column!r} twice. Rename one, or pass {no_header} and "
            "{skip_lines} {line}: columns are then column_1, column_2, …",
            name=source, column=twice[0], line=line,
        )  # fmt: skip
    return names
