"""An Excel workbook as output, written by `xlsxwriter` from the spool once all rows have finished."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from pydantic_core import to_json

from ...exceptions import ConfigurationError
from .members import member_columns, member_values
from .sinks import ADDED, CONFIDENCE, ERROR, LATENCY, OUTPUT, STATUS
from .spool import output_text, replacing, spooled

MOST_ROWS = 1_048_575
"""Most rows of a sheet below its header."""

_MOST_COLUMNS = 16_384
_LONGEST_TEXT = 32_767
"""Most characters in a cell."""

_LARGEST_NUMBER = 2**53
"""Cells are floats, which represent every integer up to here exactly."""


class _TooLarge(ValueError):
    """Something exceeds a limit of a sheet."""


def xlsxwriter() -> Any:
    """Return the library. Raises `ConfigurationError` if it is not installed."""
    try:
        import xlsxwriter
    except ImportError:
        raise ConfigurationError("writing .xlsx needs xlsxwriter: pip install xlsxwriter") from None
    return xlsxwriter


def write_xlsx(
    spool: Path, path: Union[str, os.PathLike[str]], header: Sequence[str] = (), members: Sequence[str] = ()
) -> None:
    """Write the workbook from the JSON lines in `spool`; a partial file never appears under its name.

    Columns are those of `header`, then further ones of the rows, those that Loopai adds, and one for each of `members`.
    Text is written as text, whatever it begins with; it is truncated if it is too long for a cell, except
    `loopai_output`. Raises `OutputError`, which says where the rows are.
    """
    library = xlsxwriter()
    with replacing(path, spool, (_TooLarge,)) as part:
        try:
            with open(part, "wb") as file, library.Workbook(file, {"constant_memory": True}) as workbook:
                _fill(_Sheet(workbook), spool, header, members)
        except library.exceptions.FileCreateError as error:
            raise error.args[0] from None  # the `OSError`


class _Sheet:
    """The workbook's only sheet, whose header stays visible."""

    def __init__(self, workbook: Any) -> None:
        self._sheet = workbook.add_worksheet()
        self._sheet.freeze_panes(1, 0)
        self._plain = workbook.add_format()

    def write(self, row: int, values: Sequence[Any]) -> None:
        """Write the cells of a row. Never uses the library's `write`, which treats "=1+1" as a formula."""
        sheet = self._sheet
        for column, value in enumerate(values):
            if value is None:
                continue
            if isinstance(value, bool):
                sheet.write_boolean(row, column, value)
            elif isinstance(value, (int, float)) and -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER:
                sheet.write_number(row, column, value)
            else:
                text = _text(value)
                if text.startswith("<r>") and text.endswith("</r>"):
                    # The library would treat it as its own markup and not escape it.
                    sheet.write_rich_string(row, column, text[0], self._plain, text[1:])
                else:
                    sheet.write_string(row, column, text)


def _fill(sheet: _Sheet, spool: Path, header: Sequence[str], members: Sequence[str]) -> None:
    own = dict.fromkeys(name for name in header if name not in ADDED)
    for rows in spooled(spool):
        own.update(dict.fromkeys(name for row in rows for name in row if name not in ADDED))
    names = [*own, *ADDED, *member_columns(members, own)]
    if len(names) > _MOST_COLUMNS:
        raise _TooLarge(f"a sheet holds {_MOST_COLUMNS:,} columns, and there are {len(names):,}")
    sheet.write(0, names)
    number = 0
    for rows in spooled(spool):
        for row in rows:
            number += 1
            if number > MOST_ROWS:
                raise _TooLarge(f"a sheet holds {MOST_ROWS:,} rows")
            output = output_text(row)
            if output is not None and len(output) > _LONGEST_TEXT:
                raise _TooLarge(
                    f"a cell holds {_LONGEST_TEXT:,} characters, and the result of row {number:,} has {len(output):,}"
                )
            values = [row.get(name) for name in own]
            values += [row[STATUS], output, row[ERROR], row[LATENCY], row[CONFIDENCE]]
            sheet.write(number, [*values, *member_values(row[OUTPUT], members)])


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else to_json(value).decode()
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
