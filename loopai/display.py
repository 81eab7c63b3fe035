"""Reprs and notebook tables of results: short texts, and small HTML tables."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

LONGEST_VALUE = 80
"""Most characters of one value in a text."""

MOST_ROWS = 20
"""Most rows of a table in a notebook."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST_VALUE
        self.maxlist = self.maxdict = self.maxtuple = 3
        self.maxlevel = 3


_SHORT = _Short()


def short(value: Any) -> str:
    """Return a short text for `value`: long texts are cut, long lists become their length."""
    if isinstance(value, (list, tuple)) and len(value) > _SHORT.maxlist:
        return f"<{len(value):,} {type(value[0]).__name__}>"
    return _SHORT.repr(value)


class ShortText:
    """A placeholder for a value, with a shortened `repr`."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return short(self._value)


def fields_table(name: str, fields: Mapping[str, Any]) -> str:
    """Return an HTML table of one object: a row for each of its fields."""
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{_cell(value)}</td></tr>" for key, value in fields.items())
    return f"<table><caption>{escape(name)}</caption><tbody>{rows}</tbody></table>"


def rows_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], total: int) -> str:
    """Return an HTML table of the first rows, and a line with the number of the others."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in islice(rows, MOST_ROWS))
    more = f"<p>and {total - MOST_ROWS:,} more</p>" if total > MOST_ROWS else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def _cell(value: Any) -> str:
    return escape(value if isinstance(value, str) and len(value) <= LONGEST_VALUE else short(value))
