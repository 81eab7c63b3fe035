"""`FileStore`: results of workers in files beside the output, one a part, and the output made of them at the end.

A segment's file is whole on the disk before the transaction that names it and ends its part; a file that none names,
as a killed worker leaves it, is of no account. Repeating failed rows writes a segment anew, under another name.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional, Union
from uuid import uuid4

from django.db import transaction

from ....batch.formats.parquet import write_parquet
from ....batch.formats.sinks import ADDED, KEY, STATUS, CsvSink, JsonlSink, OutputError, explain, read_back
from ....batch.resume.checkpoint import sync_whole
from ....batch.resume.journal import sync_folder
from ....batch.rows import OK, Outcome, Row
from ..models import BatchPart, BatchRun, BatchSegment, LeaseLost
from .outputs import clear, folder_of, mark_of
from .rows import KeyedRow
from .runs import Work
from .tallies import counted, expectation_of, failures_of

_BLOCK = 1 << 20
"""Bytes copied at a time."""


class FileStore:
    """Where the outcomes of a run's parts go if the run writes a file."""

    units = 1
    """Segments that one part may repeat the failed rows of."""

    def __init__(self, run: BatchRun, work: Work) -> None:
        self._run = run
        self._rows = work.rows
        self._plan = work.plan
        self._folder = folder_of(str(work.plan.output))
        self._kind = work.plan.output_format or "jsonl"
        self._line_kind = "csv" if self._kind == "csv" else "jsonl"
        self._repeated: Optional[BatchSegment] = None
        self._lines: list[Union[bytes, Row]] = []
        """Of the segment whose failed rows are repeated: what stays as it is, and rows that run again."""

    def failed(self, part: BatchPart, most: int) -> list[int]:
        """The segments in a part that hold failed rows, by their keys."""
        found = self._segments().filter(pk__gt=int(part.after or 0), pk__lte=int(part.upto), errors__gt=0)
        return list(found.order_by("pk").values_list("pk", flat=True)[:most])

    def newest_failed(self) -> Optional[int]:
        """The last segment that holds failed rows; `None` if none does."""
        found: Optional[int] = self._segments().filter(errors__gt=0).order_by("pk").values_list("pk", flat=True).last()
        return found

    def again(self, units: Sequence[int]) -> tuple[list[Row], list[str]]:
        """The failed rows of a segment as they run again, and the keys of those that are gone."""
        rows: list[Row] = []
        gone: list[str] = []
        self._lines = []
        for segment in self._segments().filter(pk__in=units):
            self._repeated = segment
            with self._named():
                written = list(read_back(self._there(segment), self._line_kind, segment.length))
            found = self._rows.again(self._run, segment.after, segment.upto, [columns for _, columns in written])
            for (line, columns), row in zip(written, found):
                if columns[STATUS] == OK:
                    self._lines.append(line)
                elif row is None:
                    gone.append(str(columns[self._plan.header[0]]))
                else:
                    self._lines.append(row)
                    rows.append(row)
        return rows, gone

    def keep(self, rows: Sequence[Row], outcomes: Sequence[Outcome], part: BatchPart, gone: Sequence[str]) -> None:
        """Make the outcomes durable and end the part. Raises `LeaseLost` and `OutputError`."""
        run, expectation = self._run, expectation_of(self._plan)
        by_row = {id(outcome.row): outcome for outcome in outcomes}
        ordered = [by_row[id(row)] for row in rows if id(row) in by_row]
        failures = failures_of(ordered, expectation, self._rows.name)
        tally = counted(run, expectation, ordered)
        content = self._rewritten(ordered) if part.failed else self._content(ordered)
        with self._named():
            made = self._write(part, content)
        if not part.failed:
            with transaction.atomic(using=run.database):
                ok = len(ordered) - len(failures)
                run.record_chunk(part.after, part.upto, ok=ok, failures=failures, part=part, tally=tally)
                self._segments().create(run=run, after=part.after, upto=part.upto, **made, errors=len(failures))
            return
        old = self._repeated
        assert old is not None  # noqa: S101  # a part of failed rows has a segment with some
        with transaction.atomic(using=run.database):
            right = [self._rows.name(outcome.row) for outcome in ordered if outcome.status == OK]
            run.record_retried(ok=right, failures=failures, skipped=gone, part=part, tally=tally)
            self._segments().filter(pk=old.pk).update(**made, errors=len(failures))
        with suppress(OSError):  # of no account from now on
            (self._folder / old.name).unlink()

    def join(self, part: BatchPart, alive: Callable[[], None]) -> None:
        """Make the output of all segments, in the order of the rows, and end the last part. Raises as `keep`.

        The segments stay while rows among them failed: repeating these makes the output anew.
        """
        run, output = self._run, Path(str(self._plan.output))
        with self._named():
            made = joined = self._joined(alive)
            if self._kind == "parquet":
                # Under a name of our own: a worker that lost the part may still be at its file.
                made = joined.with_suffix(".parquet")
                write_parquet(joined, made, getattr(getattr(self._rows, "source", None), "schema", None), alive)
                joined.unlink()
            alive()  # others may have joined newer results meanwhile
            os.replace(made, output)
            sync_folder(output.parent)
        with transaction.atomic(using=run.database):
            if not part.give_back():
                raise LeaseLost(f"part {part.pk} of run {run.pk} was taken by another worker")
            clean = not self._segments().filter(errors__gt=0).exists()
            if clean:
                self._segments().all().delete()
        if clean:
            with suppress(OSError):  # what is not ours stays, and the folder with it
                clear(self._folder)
                self._folder.rmdir()

    def _segments(self) -> Any:
        return self._run.segments.using(self._run.database)

    def _there(self, segment: BatchSegment) -> Path:
        path = self._folder / segment.name
        size = path.stat().st_size
        if size != segment.length:
            raise OutputError(
                f"{path} has {size:,} bytes where the run's record has {segment.length:,}: "
                "it was changed; --overwrite starts again"
            )
        return path

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What files refuse, in words that name this host: others may see other files."""
        host = socket.gethostname()
        if not mark_of(self._folder, self._run).exists():
            raise OutputError(
                f"{self._folder} of run {self._run.pk} is not there on host {host}: every worker must see "
                "the output's folder under this very path (if it was removed, --overwrite starts again)"
            )
        try:
            yield
        except FileNotFoundError as error:
            raise OutputError(f"{error.filename} is not there on host {host}: --overwrite starts again") from error
        except OSError as error:
            raise OutputError(f"on host {host}: {explain(error, str(self._folder))}") from error

    def _content(self, ordered: Sequence[Outcome]) -> bytes:
        """The rows as a file of their own; in CSV with its header."""
        return self._header() + b"".join(self._written(ordered)) if ordered else b""

    def _rewritten(self, ordered: Sequence[Outcome]) -> bytes:
        lines = iter(self._written(ordered))
        made = [line if isinstance(line, bytes) else next(lines) for line in self._lines]
        return self._header() + b"".join(made) if made else b""

    def _written(self, ordered: Sequence[Outcome]) -> list[bytes]:
        """Each row as the output has it."""
        out = io.BytesIO()
        sink = CsvSink(out, header=self._names()) if self._line_kind == "csv" else JsonlSink(out)
        ends = [len(self._header())]
        for outcome in ordered:
            if isinstance(outcome.row, KeyedRow):
                outcome.row.columns = {self._plan.header[0]: outcome.row.pk, **(outcome.row.columns or {})}
            ends.append(sink.write([outcome]))
        content = out.getvalue()
        return [content[start:end] for start, end in zip(ends, ends[1:])]

    def _names(self) -> list[str]:
        return list(self._plan.header) or [KEY]

    def _header(self) -> bytes:
        if self._line_kind != "csv":
            return b""
        text = io.StringIO(newline="")
        csv.writer(text).writerow([*self._names(), *ADDED])
        return text.getvalue().encode("utf-8", "surrogatepass")

    def _write(self, part: BatchPart, content: bytes) -> dict[str, Any]:
        if not content:
            return {"name": "", "length": 0}
        path = self._folder / f"segment-{part.pk}-{uuid4().hex[:12]}.{self._line_kind}"
        with open(path, "xb") as file:
            file.write(content)
            sync_whole(file)
        sync_folder(self._folder)
        return {"name": path.name, "length": len(content)}

    def _joined(self, alive: Callable[[], None]) -> Path:
        path = self._folder / f"joined-{uuid4().hex[:12]}.{self._line_kind}"
        header = 0
        with open(path, "xb") as out:
            for segment in self._chain():
                alive()
                if not segment.name:
                    continue
                there = self._there(segment)
                with open(there, "rb") as file:
                    file.seek(header)
                    shutil.copyfileobj(file, out, _BLOCK)
                header = len(self._header())  # of the first file only
            sync_whole(out)
        return path

    def _chain(self) -> Iterator[BatchSegment]:
        """The segments in the order of the rows: each begins with the key that the one before it ends with."""
        by_start = {segment.after: segment for segment in self._segments().all()}
        last = None
        for _ in range(len(by_start)):
            segment = by_start.get(last)
            if segment is None:
                break
            yield segment
            last = segment.upto
        if last != self._run.upper_key:
            raise OutputError(f"rows after {last} are missing in {self._folder}: --overwrite starts again")
