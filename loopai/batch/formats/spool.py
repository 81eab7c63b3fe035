"""The spool: the rows of an output that is written as a whole (Parquet, Excel), as JSON lines until all are done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

from pydantic_core import from_json

SPOOLED = frozenset({"parquet", "xlsx"})
"""Formats to which rows cannot be appended."""

_GROUP = 5000
"""Rows held in memory while the file is written; for Parquet, a row group."""


def spool_of(path: Union[str, os.PathLike[str]]) -> Path:
    """Return the path of an output's spool: beside the output."""
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
