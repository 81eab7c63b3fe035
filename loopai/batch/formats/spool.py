"""The spool: the rows of an output that is written as a whole (Parquet, Excel), as JSON lines until all are done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional, Union

from pydantic_core import from_json, to_json

from ...exceptions import OutputError
from ..durability import replace_file
from ..rows import DOUBTFUL, OK
from .sinks import OUTPUT, STATUS

SPOOLED = frozenset({"parquet", "xlsx"})
"""Formats to which rows cannot be appended."""

_GROUP = 5000
"""Rows held in memory while the file is written; for Parquet, a row group."""


def spool_of(path: Union[str, os.PathLike[str]]) -> Path:
    """Return the path of an output's spool: beside the output."""
    return Path(f"{os.fspath(path)}.rows.jsonl")


def output_text(row: Mapping[str, Any]) -> Optional[str]:
    """Return the output of a spooled row as JSON; `None` if it has none."""
    return to_json(row[OUTPUT]).decode() if row[STATUS] in {OK, DOUBTFUL} else None


@contextmanager
def replacing(path: Union[str, os.PathLike[str]], spool: Path, unfit: tuple[type[Exception], ...]) -> Iterator[Path]:
    """Yield the path of a partial file that replaces the output if it is written without an error.

    Raises `OutputError` for an error of `unfit`, except an `OSError`.
    """
    part = Path(f"{os.fspath(path)}.part")
    try:
        yield part
    except Exception as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) or not isinstance(error, unfit):
            raise
        raise OutputError(
            "{path} cannot be made: {problem}. All rows with their results are in {spool}, as JSONL",
            path=os.fspath(path), problem=error, spool=str(spool),
        ) from error  # fmt: skip
    replace_file(part, Path(path))


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
