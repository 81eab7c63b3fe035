"""Output and journal of one run as one unit: they agree even after a kill at any moment. Running is done elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Optional, Union

from pydantic_core import from_json

from ...exceptions import ConfigurationError, JournalError, OptionError, OutputError
from ...modes import CONTINUE, NEW, OVERWRITE, RESUME, RETRY_FAILED
from ..durability import flush_and_sync, replace_file
from ..formats.arrow import pyarrow
from ..formats.members import member_of, members_of
from ..formats.opening import format_of, open_source
from ..formats.packing import without_packing
from ..formats.parquet import check_types, write_parquet
from ..formats.sinks import (
    CONFIDENCE,
    CsvSink,
    JsonlSink,
    Sink,
    check_writable,
    columns_json,
    csv_header,
    explain,
    read_back,
)
from ..formats.spool import SPOOLED, spool_of
from ..formats.xlsx_output import write_xlsx, xlsxwriter
from ..rows import CANCELLED, ERROR, Outcome
from .journal import FileJournal

_FORMATS = ("csv", "jsonl", "parquet", "xlsx")


def journal_of(output: Union[str, os.PathLike[str]]) -> Path:
    """Return the path of an output's journal: beside the output."""
    return Path(f"{os.fspath(output)}.journal")


def check_apart(files: Mapping[str, Union[str, os.PathLike[str], None]]) -> None:
    """Check that no two files of a run are the same; keys are their roles. Raises `ConfigurationError`."""
    taken: dict[object, str] = {}
    for role, path in files.items():
        if path is None or (os.path.exists(path) and not os.path.isfile(path)):
            continue  # a terminal or pipe may serve in two roles
        found: object = os.path.realpath(path)
        if os.path.exists(path):
            state = os.stat(path)
            found = (state.st_dev, state.st_ino)
        other = taken.setdefault(found, role)
        if other != role:
            raise ConfigurationError(f"{other} and {role} are the same file, {os.fspath(path)}: name another")


class Checkpoint:
    """Keeps finished rows: every outcome is written to the output, then to the journal, each durable before the next.

    The journal records the output's length at each write, and opening truncates the output to that length: rows that
    were written but not recorded run again. With `RETRY_FAILED`, failed rows are first removed from output and
    journal. `target` is a path, or a byte stream that is written in sequence. `kind` is `jsonl`, `csv`, `parquet` or
    `xlsx`. Unless `nested`, CSV and Excel have a column for each member of the task's output schema; pass the schema
    to `describe` if `wants_schema` is true.

    Raises `ConfigurationError` (`JournalError`) if the output exists and `mode` does not say what to do with it, or
    if it belongs to another run.
    """

    def __init__(
        self,
        target: Union[str, os.PathLike[str], IO[bytes]],
        kind: Optional[str],
        facts: Mapping[str, Any],
        mode: str = NEW,
        *,
        journal: Union[str, os.PathLike[str], None] = None,
        header: Optional[Sequence[str]] = None,
        schema: Any = None,
        by_line: bool = False,
        limit: Optional[int] = None,
        nested: bool = False,
    ) -> None:
        if mode == CONTINUE:
            mode = RESUME  # a file is one run: finished rows are not run again
        self.path = Path(target) if isinstance(target, (str, os.PathLike)) else None
        self.kind = check_output(self.path, kind, mode, journal)
        if self.kind == "parquet" and schema is not None:
            check_types(schema)
        self.name = "standard output" if self.path is None else str(self.path)
        self._schema = schema
        self._header = header
        self._members: Sequence[str] = ()
        self._nested = nested
        self._rows = spool_of(self.path) if self.path is not None and self.kind in SPOOLED else self.path
        self._is_file = self.path is not None and not is_special(self.path)
        place = _journal_at(self.path, journal)
        self.journal: Optional[FileJournal] = None
        # If no row finished, what the run began with does not block a later run.
        self._began = [file for file in (place, self._rows) if file is not None and not file.exists()]
        # Output that went through a pipe is no reason to refuse another run.
        self._passing = place if journal is None and place is not None and not self._is_file else None
        if place is not None:
            given = {**facts, "output": self.kind}
            options = {"retry_failed": mode == RETRY_FAILED, "by_line": by_line}
            self.journal = FileJournal(place, given, overwrite=mode in {NEW, OVERWRITE}, **options)
        self._sink: Optional[Sink] = None
        self._limit = limit
        self.finished = self._finished_already(mode)
        try:
            if not self.finished:
                self._agree(mode, by_line)
                self._sink = self._open(target, header)
        except BaseException:
            self.close()
            raise

    def _finished_already(self, mode: str) -> bool:
        journal = self.journal
        if journal is None or journal.finished is None or journal.finished.get("limit") != self._limit:
            return False
        return mode == RESUME or journal.errors == 0

    @property
    def wants_schema(self) -> bool:
        """Whether `describe` must be called before the first row, because the output's member columns are unknown."""
        if self._nested or self._sink is None:
            return False
        return not self._sink.started if isinstance(self._sink, CsvSink) else self.kind == "xlsx" and not self._members

    def describe(self, output_schema: Any) -> None:
        """Take the task's output schema."""
        self._members = members_of(output_schema)
        if isinstance(self._sink, CsvSink):
            self._sink.members = self._members

    @property
    def resumed(self) -> bool:
        """Whether this continues an earlier run."""
        return self.journal is not None and self.journal.resumed

    def _agree(self, mode: str, by_line: bool) -> None:
        """Make the output match the journal."""
        journal, rows = self.journal, self._rows
        if journal is None or rows is None or not self._is_file:
            return
        pending = self._next(journal.generation)
        if pending.exists():
            # Killed between the two renames of an earlier retry.
            replace_file(pending, rows)
        if not journal.resumed:
            return
        if self.kind in SPOOLED and not rows.exists():
            self._spool_again(rows)
            journal.length = rows.stat().st_size
        if mode == RETRY_FAILED and journal.errors:
            self._drop_failed(journal, rows)
            journal.close()
            self.journal = FileJournal(journal.path, journal.facts, retry_failed=True, by_line=by_line)

    def _next(self, generation: int) -> Path:
        return next_output(self._rows or "", generation)

    def _drop_failed(self, journal: FileJournal, rows: Path) -> None:
        made = self._next(journal.generation + 1)
        kind = "jsonl" if self.kind in SPOOLED else self.kind
        statuses = journal.statuses()
        length = 0
        with open(made, "wb") as file:
            if kind == "csv":
                length += file.write(csv_header(rows))
            for line, columns in read_back(rows, kind, journal.length):
                found = next(statuses, None)
                if found is None or found[1] != columns["loopai_status"]:
                    raise _changed(rows)
                if found[1] != ERROR:
                    length += file.write(line)
            if next(statuses, None) is not None:
                raise _changed(rows)
            flush_and_sync(file)
        kept = journal.rewrite(((found, status) for found, status in journal.statuses() if status != ERROR), length)
        shutil.copymode(journal.path, kept)
        shutil.copymode(rows, made)
        # The journal first: from then on it says that the new output replaces this one.
        replace_file(kept, journal.path)
        replace_file(made, rows)

    def _spool_again(self, rows: Path) -> None:
        if self.path is None or not self.path.exists():
            raise self._gone()
        part = Path(f"{rows}.part")
        with open(part, "wb") as file:
            for columns in self._made_rows(self.path):
                file.write(columns_json(columns, "constants") + b"\n")
        replace_file(part, rows)

    def _gone(self) -> JournalError:
        return JournalError("{path} was removed, but not its journal; start again with {overwrite}", path=self.path)

    def _made_rows(self, path: Path) -> Iterator[dict[str, Any]]:
        """The rows of an output that was written as a whole, as they were in its spool."""
        source = open_source(path, self.kind)
        names = list(source.header or ())
        if CONFIDENCE not in names:
            raise _changed(path)
        members = names[names.index(CONFIDENCE) + 1 :]
        self._members = [member_of(name) for name in members]
        for _, columns, problem in source:
            if columns is None:
                raise JournalError("{path} cannot be read: {problem}", path=path, problem=problem)
            output = columns["loopai_output"]
            for name in members:
                del columns[name]
            yield {**columns, "loopai_output": None if output is None else from_json(output)}

    def _open(self, target: Union[str, os.PathLike[str], IO[bytes]], header: Optional[Sequence[str]]) -> Sink:
        length = self.journal.length if self.journal is not None and self._is_file else None
        if self.kind == "csv":
            return CsvSink(target, length, header)
        if self.kind in SPOOLED:
            return JsonlSink(self._rows or target, length, nan=self.kind == "parquet")
        return JsonlSink(target, length)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes; cancelled ones are not kept, since their rows have yet to run. Raises `OutputError`."""
        kept = [outcome for outcome in outcomes if outcome.status != CANCELLED]
        if not kept or self._sink is None:
            return
        try:
            length = self._sink.write(kept)
        except OutputError as error:
            if self.journal is None and isinstance(error.__cause__, OSError):
                raise explain(error.__cause__, self.name, resumable=False) from error.__cause__
            raise
        if self.journal is not None:
            try:
                self.journal.record(kept, length)
            except OSError as error:
                raise explain(error, str(self.journal.path)) from error

    def earlier(self) -> Iterator[dict[str, Any]]:
        """The rows written by earlier runs, as columns; none for a pipe."""
        if self.journal is None or self._rows is None or not self._is_file or not self.resumed:
            return
        if self.path is not None and self.kind in SPOOLED and self.finished and self.path.exists():
            yield from self._made_rows(self.path)
            return
        if not self._rows.exists():
            raise self._gone()
        kind = "jsonl" if self.kind in SPOOLED else self.kind
        for _, columns in read_back(self._rows, kind, self.journal.length):
            yield columns

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Complete the output and record this in the journal; every row has finished. Raises `OutputError`."""
        if self._sink is None:
            return
        try:
            self._sink.write(())
            self._sink.close()
            if self.kind == "parquet" and self.path is not None and self._rows is not None:
                write_parquet(self._rows, self.path, self._schema, self._header or ())
            elif self.kind == "xlsx" and self.path is not None and self._rows is not None:
                write_xlsx(self._rows, self.path, self._header or (), self._members)
            if self.journal is not None:
                self.journal.finish({**facts, "limit": self._limit})
        except OSError as error:
            raise explain(error, self.name) from error
        if self.kind in SPOOLED and self._rows is not None:
            self._rows.unlink()

    def close(self) -> None:
        """Close the files; files that this run created are deleted if no row has finished."""
        if self._sink is not None:
            self._sink.close()
        if self.journal is not None:
            journal = self.journal
            done = [] if journal.finished is None or journal.errors or self._passing is None else [self._passing]
            for file in self._began if journal.is_empty else done:
                file.unlink(missing_ok=True)
            self.journal.close()


def _changed(path: Path) -> JournalError:
    return JournalError("{path} was changed: it differs from its journal; start again with {overwrite}", path=path)


def next_output(output: Union[str, os.PathLike[str]], generation: int) -> Path:
    """Return the path of an output's generation until it replaces the previous one; usually there is no such file."""
    return Path(f"{os.fspath(output)}.{generation}.next")


def is_special(path: Path) -> bool:
    """Return whether the path is a pipe or device, which has no earlier content to match."""
    return path.exists() and not path.is_file()


def _journal_at(path: Optional[Path], journal: Union[str, os.PathLike[str], None]) -> Optional[Path]:
    if journal is not None:
        return Path(journal)
    if path is None or (is_special(path) and not stat.S_ISFIFO(os.lstat(path).st_mode)):
        return None  # devices and /dev/fd entries have no room for files beside them
    return journal_of(path)


def check_output(
    path: Optional[Path],
    kind: Optional[str],
    mode: str = NEW,
    journal: Union[str, os.PathLike[str], None] = None,
) -> str:
    """Return the format of an output (`None` for a stream) after checking that `mode` can write it. Creates nothing.

    Raises `ConfigurationError`.
    """
    mode = RESUME if mode == CONTINUE else mode
    kind = _kind(path, kind)
    if kind == "parquet":
        pyarrow()  # fail now, not after the last row
    if kind == "xlsx":
        xlsxwriter()
    place = _journal_at(path, journal)
    for name, file in (("output", path), ("journal", place)):
        if file is not None:
            check_writable(name, file)
    if place is not None:
        _check_mode(path, place, mode)
    elif mode in {RESUME, RETRY_FAILED}:
        raise OptionError(
            "{name} keeps nothing to resume from; write to a file, or pass {journal} FILE",
            name="standard output" if path is None else str(path),
        )
    return kind


def _check_mode(path: Optional[Path], journal: Path, mode: str) -> None:
    """Check that output and journal exist, or do not, as `mode` requires."""
    exists = path is not None and path.is_file()
    if mode == NEW and (exists or journal.exists()):
        raise OptionError(
            "{path} exists: continue with {resume}, repeat failed rows with {retry_failed}, "
            "or start again with {overwrite}",
            path=path if exists else journal,
        )
    if mode in {RESUME, RETRY_FAILED} and exists and not journal.exists():
        raise OptionError("{path} has no journal beside it to resume from; start again with {overwrite}", path=path)


def _kind(path: Optional[Path], kind: Optional[str]) -> str:
    if kind not in {None, *_FORMATS}:
        raise OptionError("{output_format} must be one of csv, jsonl, parquet, xlsx, not {kind!r}", kind=kind)
    if path is not None and path.is_dir():
        raise OptionError("{output}: {path} is a folder; name a file in it", path=path)
    special = path is None or is_special(path)
    if path is not None and not special and without_packing(path.name) != path.name:
        raise OptionError("{output}: {path}: a compressed output cannot be resumed; gzip it afterwards",
                          path=path)  # fmt: skip
    if kind is None:
        kind = format_of(path) if path is not None else None
        if kind is None and special:
            kind = "jsonl"
    if kind is None:
        raise OptionError("cannot infer the format from {path!r}; pass {output_format}", path=str(path))
    if kind not in _FORMATS or (path is not None and path.suffix.lower() == ".xlsm"):
        raise OptionError("{output}: {path}: rows are written as .jsonl, .csv, .parquet or .xlsx", path=path)
    if kind in SPOOLED and special:
        named = "Parquet" if kind == "parquet" else "An Excel workbook"
        raise OptionError(
            "{named} is written to a file, not to a pipe; pass {output} NAME.{kind}", named=named, kind=kind
        )
    return kind
