"""Columns for the members of an output: their names, and the members in the task's output schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_PREFIX = "loopai_"
_NAME = re.compile(rf"\A(?:{_PREFIX})*output\.")


def members_of(output_schema: Any) -> list[str]:
    """Return the members that an output schema names, in its order; empty if outputs are not objects."""
    named = output_schema.get("properties") if isinstance(output_schema, Mapping) else None
    return list(map(str, named)) if isinstance(named, Mapping) else []


def member_columns(members: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return the column of each member: `output.label`, or `loopai_output.label` if `taken` already has that name."""
    names = set(taken)
    columns = []
    for member in members:
        column = f"output.{member}"
        while column in names:
            column = _PREFIX + column
        names.add(column)
        columns.append(column)
    return columns


def member_of(column: str) -> str:
    """Return the member of a column from `member_columns`."""
    return _NAME.sub("", column, count=1)


def member_values(output: Any, members: Iterable[str]) -> list[Any]:
    """Return the value of each member; `None` for one that the output lacks."""
    return [output.get(member) if isinstance(output, Mapping) else None for member in members]
