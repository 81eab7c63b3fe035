"""The first of two readings of an input: its number of rows, columns and duplicate keys. Nothing is sent meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Callable, Optional

from ...exceptions import DuplicateKeys
from ..engine.reader import key_text
from ..formats.opening import Source
from ..gil import ROWS_AT_ONCE, release_gil
from ..mapping import Unmapped, path_reader
from .keys import DuplicateSearch, confirm


@dataclass(frozen=True)
class Prescan:
    """The result of a first reading: the number of rows and, if rows differ, all columns."""

    rows: int
    columns: list[str]


class PrescanAbandoned(Exception):
    """The prescan is no longer needed."""


def prescan(
    source: Source,
    key: Optional[str],
    *,
    allow_duplicates: bool,
    limit: Optional[int] = None,
    abandoned: Callable[[], bool] = lambda: False,
) -> Prescan:
    """Read a repeatable input. Raises `DuplicateKeys`, naming the first ten, and `PrescanAbandoned`."""
    search = DuplicateSearch() if key is not None and not allow_duplicates else None
    names: dict[str, None] = dict.fromkeys(source.header or ())
    read = path_reader(key) if key is not None else None
    rows = 0
    try:
        for _, columns, _ in islice(source, limit):
            if not rows % ROWS_AT_ONCE:
                release_gil()
                if abandoned():
                    raise PrescanAbandoned
            rows += 1
            if columns is None:
                continue
            if source.header is None and not columns.keys() <= names.keys():
                names.update(dict.fromkeys(columns))
            if search is not None and read is not None:
                try:
                    search.add(key_text(read(columns), key or ""))
                except Unmapped:
                    continue  # this row fails on its own when it runs
        suspects = search.suspects() if search is not None else set()
    finally:
        if search is not None:
            search.close()
    if suspects and key is not None:
        found = confirm(suspects, _keys(source, key, limit))
        if found:
            listed = "; ".join(map(str, found))
            raise DuplicateKeys(
                "the key {column!r} is not unique: {listed}. Pass another {key}, or {allow_duplicates}",
                column=key,
                listed=listed,
            )
    return Prescan(rows, list(names))


def _keys(source: Source, key: str, limit: Optional[int]) -> Iterator[tuple[str, int]]:
    read = path_reader(key)
    for line, columns, _ in islice(source, limit):
        if columns is not None:
            try:
                yield key_text(read(columns), key), line
            except Unmapped:
                continue
