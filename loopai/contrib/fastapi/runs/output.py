"""The output of a run as a download: JSONL with ranges, or CSV. Never more than the journal has recorded."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any, Optional

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ....batch.formats.members import member_columns, member_values
from ....batch.formats.sinks import ADDED, OUTPUT, cell_of
from ....batch.resume.journal import JournalReader
from ....problems import Problem
from ..batch_formats import CSV, NDJSON
from ..problems import problem_response
from .stored import StoredRun

AT_ONCE = 65_536
"""Bytes read and sent in one piece."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of texts that spreadsheets run as formulas."""

PRIVATE = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}


def etag_of(run: StoredRun, generation: int) -> str:
    """Return an ETag that stays the same while the output is only appended to."""
    return f'"{run.id}-{generation}"'


def csv_response(run: StoredRun, members: Sequence[str]) -> Response:
    """Return the output so far as CSV with columns for `members`. Blocks; raises `FileNotFoundError`."""
    file, found = run.open_output()
    body = _csv(file, found.length, members)
    return StreamingResponse(body, headers=_headers(f"{run.id}.csv"), media_type=f"{CSV}; charset=utf-8")


def _headers(name: str) -> dict[str, str]:
    return {**PRIVATE, "Content-Disposition": f'attachment; filename="{name}"'}


def output_response(run: StoredRun, request: Request, *, ended: bool) -> Response:
    """Return the output so far as JSONL. Blocks; raises `FileNotFoundError`."""
    file, found = run.open_output()
    headers = _headers(f"{run.id}.jsonl")
    tag = etag_of(run, found.generation)
    headers.update({"ETag": tag, "Accept-Ranges": "bytes"})
    asked = request.headers.get("range") if request.headers.get("if-range", tag) == tag else None
    if asked is None:
        return _part(file, 0, found.length, 200, headers)
    first, end = _range(asked, found)
    if first is None:
        return _part(file, 0, found.length, 200, headers)
    if first >= end:
        file.close()
        size = f"bytes */{found.length}"
        problem = Problem(title="No such range", status=416, detail=f"The output has {found.length} bytes so far")
        return problem_response(problem, {"Content-Range": size, **PRIVATE})
    # The final length is unknown while the run is active.
    size = str(found.length) if ended else "*"
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    return _part(file, first, end, 206, headers)


def _range(asked: str, found: JournalReader) -> tuple[Optional[int], int]:
    """Return the first byte, and the one after the last; `None` as the first for a range that is not supported."""
    match = _RANGE.fullmatch(asked.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None, 0
    start, last = match[1][:20], match[2][:20]
    if not start:
        return max(0, found.length - int(last)) if int(last) else found.length, found.length
    if last and int(last) < int(start):
        return None, 0
    return int(start), min(found.length, int(last) + 1) if last else found.length


def _part(file: IO[bytes], first: int, end: int, status: int, headers: dict[str, str]) -> Response:
    headers["Content-Length"] = str(end - first)
    return StreamingResponse(_bytes(file, first, end), status, headers, NDJSON)


def _bytes(file: IO[bytes], first: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        while first < end:
            data = file.read(min(AT_ONCE, end - first))
            if not data:
                return  # the file is shorter than its journal says
            first += len(data)
            yield data


def _rows(file: IO[bytes], end: int) -> Iterator[dict[str, Any]]:
    file.seek(0)
    place = 0
    while place < end:
        line = file.readline()
        if not line:
            return
        place += len(line)
        yield from_json(line)


def _csv(file: IO[bytes], end: int, members: Sequence[str]) -> Iterator[bytes]:
    """Yield the rows as CSV, whose header has the columns of all of them and those of the output's `members`."""
    with file:
        names = [*dict.fromkeys(name for row in _rows(file, end) for name in row if name not in ADDED), *ADDED]
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(map(_as_text, (*names, *member_columns(members, names))))
        for row in _rows(file, end):
            output = row.get(OUTPUT)
            values = member_values(output, members)
            # A number stays one: as a text, one below zero would have an apostrophe.
            row[OUTPUT] = output if output is None or isinstance(output, (int, float)) else to_json(output).decode()
            writer.writerow(_as_text(cell_of(value)) for value in (*map(row.get, names), *values))
            if text.tell() >= AT_ONCE:
                yield text.getvalue().encode("utf-8", "replace")
                text.seek(0)
                text.truncate()
        yield text.getvalue().encode("utf-8", "replace")


def _as_text(cell: Any) -> Any:
    """Return the cell; a text that a spreadsheet would run as a formula gets an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
