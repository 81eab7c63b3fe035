"""Prepared rows: the key, input and columns of each, or why it cannot run, as one JSON object per line.

Running them requires neither the file that they came from nor the mapping.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Optional, Union

from pydantic_core import to_json

from ..._core.encoding import encode
from ...exceptions import ValidationException
from ..rows import UNREADABLE, UNSENDABLE, Row
from .json import JsonSource
from .sinks import KEY, columns_json
from .source import Input, Record


def spool_line(row: Row) -> bytes:
    """Return the row as a line of a spool. A row whose input JSON cannot express becomes one that fails."""
    error, code = row.error, row.code
    given = b""
    if error is None and (row.columns is None or row.input is not row.columns):
        try:
            given = b',"input":' + encode(row.input, "input")
        except ValidationException as flaw:
            error, code = flaw.message, UNSENDABLE
    head = to_json({"key": row.key, "line": row.line})[:-1]
    columns = b"" if row.columns is None else b',"columns":' + columns_json(row.columns)
    failed = b"" if error is None else b"," + columns_json({"error": error, "code": code})[1:-1]
    return head + given + columns + failed + b"}\n"


class SpoolSource(JsonSource):
    """The rows of a spool, `rows` in number. `flaw` says what is wrong with an output; its row then fails."""

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        rows: int,
        flaw: Optional[Callable[[Any], Optional[str]]] = None,
    ) -> None:
        super().__init__(Input(path, None), longest=sys.maxsize)
        self.rows = rows
        self.flaw = flaw


def from_spool(record: Record, number: int) -> Row:
    """Make the row of a spool's record. Its key is in the column `loopai_key`."""
    line, found, problem = record
    if found is None:
        return Row(str(number), None, None, line, problem, UNREADABLE)
    columns = found.get("columns")
    row = Row(found["key"], found.get("input", columns), columns, found["line"], found.get("error"))
    row.code = found.get("code", UNREADABLE)
    if columns is not None:
        row.columns = {**columns, KEY: row.key}
    return row
