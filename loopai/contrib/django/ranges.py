"""Finished key ranges: advance a mark while chunks finish in any order. Pure; keys are texts or `None`.

A range starts after one key and ends with another. Ranges are joined by equal keys only, because databases order texts
and UUIDs differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

Mark = Optional[str]
"""The last key up to which all rows are finished; `None` before the first chunk."""


def advanced(mark: Mark, finished: Iterable[Sequence[Mark]], after: Mark, upto: str) -> tuple[Mark, list[list[Mark]]]:
    """Return the mark, and the ranges beyond it, after the range from `after` to `upto` is finished."""
    ends: dict[Mark, Mark] = {start: end for start, end in finished}  # noqa: C416  # pairs come from JSON as lists
    ends[after] = upto
    while mark in ends:
        mark = ends.pop(mark)
    for start in list(ends):
        # A range that was already joined to its neighbour is gone.
        while start in ends and ends[start] in ends:
            ends[start] = ends.pop(ends[start])
    return mark, [[start, end] for start, end in ends.items()]
