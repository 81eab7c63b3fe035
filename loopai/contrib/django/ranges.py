"""Finished key ranges: how a mark goes forward when chunks end in any order. Pure; keys are texts or `None`.

A range is what comes after one key up to another, the latter included. Ranges are linked by equal keys only, as no two
databases order texts and UUIDs alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

Mark = Optional[str]
"""The last key of what is finished without a gap; `None` before the first chunk."""


def advanced(mark: Mark, finished: Iterable[Sequence[Mark]], after: Mark, upto: str) -> tuple[Mark, list[list[Mark]]]:
    """The mark and the ranges beyond it once the range from `after` to `upto` is finished, too."""
    ends: dict[Mark, Mark] = {start: end for start, end in finished}  # noqa: C416  # pairs come from JSON as lists
    ends[after] = upto
    while mark in ends:
        mark = ends.pop(mark)
    for start in list(ends):
        # One that was joined to its neighbour already is gone.
        while start in ends and ends[start] in ends:
            ends[start] = ends.pop(ends[start])
    return mark, [[start, end] for start, end in ends.items()]
