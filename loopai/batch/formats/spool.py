"""The spool: the rows of an output that is made as a whole (Parquet, Excel), as JSON lines until all have ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

from pydantic_core import from_json

SPOOLED = frozenset({"parquet", "xlsx"})
"""Formats to which rows cannot be appended."""

_GROUP = 5000
"""Rows that are held in memory while the file is made; of Parquet, a row group."""


def spool_of(path: Union[str, os.PathLike[str]]) -> Path:
    """Where the rows of an output lie until it is made: beside it."""
    return Path(f"{os.fspath(path)}.rows.jsonl")


def spooled(spool: Path) -> Iterator[list[dict[str, Any]]]:
    """Read the rows of a spool, a group at a time."""
    rows: list[dict[str, Any]] = []
    with open(spool, "rb") as file:
        for line in file:
            rows.append(from_json(line))
            if len(rows) >= _GROUP:
                yield rows
                rows = []
    if rows:
        yield rows
