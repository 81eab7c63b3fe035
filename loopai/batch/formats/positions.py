"""`Place`: where in a file a row begins, so that it can be read from there. Files themselves are the sources'."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A border between rows: how many rows and lines lie before it, and where a reader goes on.

    `offset` is the file's (bytes, or what a text file's `tell` gives); Parquet is found by the number of rows alone.
    """

    rows: int = 0
    lines: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.rows}:{self.lines}:{self.offset}"

    @classmethod
    def of(cls, text: str) -> Place:
        """The place that `str` wrote."""
        return cls(*map(int, text.split(":")))


START = Place()
