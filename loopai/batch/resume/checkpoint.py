"""Output and journal of one run as one thing: they agree after a kill at any moment. What runs is not decided here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Optional, Union

from pydantic_core import from_json, to_json

from ...exceptions import ConfigurationError, JournalError, OptionError, OutputError
from ..durability import flush_and_sync, sync_folder
from ..formats.opening import format_of, open_source
from ..formats.parquet import pyarrow, write_parquet
from ..formats.sinks import CsvSink, JsonlSink, Sink, csv_header, explain, read_back, spool_of
from ..rows import CANCELLED, OK, Outcome
from .journal import FileJournal

NEW = "new"
RESUME = "resume"
RETRY_FAILED = "retry_failed"
OVERWRITE = "overwrite"
CONTINUE = "continue"


def journal_of(output: Union[str, os.PathLike[str]]) -> Path:
    """Where the journal of an output lies: beside it."""
    return Path(f"{os.fspath(output)}.journal")


def check_apart(files: Mapping[str, Union[str, os.PathLike[str], None]]) -> None:
    """See that no two of a run's files, by what they are to it, are one. Raises `ConfigurationError`."""
    taken: dict[object, str] = {}
    for role, path in files.items():
        if path is None or (os.path.exists(path) and not os.path.isfile(path)):
            continue  # a terminal or pipe may well be two of them
        found: object = os.path.realpath(path)
        if os.path.exists(path):
            state = os.stat(path)
            found = (state.st_dev, state.st_ino)
        other = taken.setdefault(found, role)
        if other != role:
            raise ConfigurationError(f"{other} and {role} are the same file, {os.fspath(path)}: name another")


class Checkpoint:
    """What has ended: every outcome goes to the output first and to the journal then, each durable before the next.

    The journal records the output's length each time outcomes are kept, and opening cuts the output to it: rows that
    were written and not yet recorded run again. With `RETRY_FAILED`, rows that failed leave output and journal first.
    `target` is a path, or a stream of bytes that is written as it comes. `kind` is `jsonl`, `csv` or `parquet`.

    Raises `ConfigurationError` (`JournalError`) where the output exists and `mode` does not say what becomes of it,
    or is another run's.
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
    ) -> None:
        if mode == CONTINUE:
            mode = RESUME  # a file is one run: what is finished stays finished
        self.path = Path(target) if isinstance(target, (str, os.PathLike)) else None
        self.kind = _kind(self.path, kind)
        self.name = "standard output" if self.path is None else str(self.path)
        self._schema = schema
        self._rows = spool_of(self.path) if self.path is not None and self.kind == "parquet" else self.path
        # A pipe has no past to agree with.
        self._is_file = self.path is not None and (self.path.is_file() or not self.path.exists())
        place = journal if journal is not None else (journal_of(self.path) if self.path is not None else None)
        self.journal: Optional[FileJournal] = None
        if place is not None:
            self._refuse(Path(place), mode)
            given = {**facts, "output": self.kind}
            options = {"retry_failed": mode == RETRY_FAILED, "by_line": by_line}
            self.journal = FileJournal(place, given, overwrite=mode in {NEW, OVERWRITE}, **options)
        elif mode in {RESUME, RETRY_FAILED}:
            raise OptionError(
                "{name} keeps nothing to resume from; write to a file, or pass {journal} FILE", name=self.name
            )
        self._sink: Optional[Sink] = None
        self._limit = limit
        self.finished = self._finished_already(mode)
        try:
            if not self.finished:
                self._agree(mode, by_line)
                self._sink = self._open(target, header)
        except BaseException:
            if self.journal is not None:
                self.journal.close()
            raise

    def _finished_already(self, mode: str) -> bool:
        journal = self.journal
        if journal is None or journal.finished is None or journal.finished.get("limit") != self._limit:
            return False
        return mode == RESUME or journal.errors == 0

    @property
    def resumed(self) -> bool:
        """Whether an earlier run is gone on with."""
        return self.journal is not None and self.journal.resumed

    def _refuse(self, journal: Path, mode: str) -> None:
        exists = self._is_file and self.path is not None and self.path.exists()
        if mode == NEW and (exists or journal.exists()):
            found = self.path if exists else journal
            raise OptionError(
                "{path} exists: continue with {resume}, repeat failed rows with {retry_failed}, "
                "or start again with {overwrite}",
                path=found,
            )
        if mode in {RESUME, RETRY_FAILED} and exists and not journal.exists():
            raise OptionError(
                "{path} has no journal beside it to resume from; start again with {overwrite}", path=self.path
            )

    def _agree(self, mode: str, by_line: bool) -> None:
        """Bring the output to what the journal says."""
        journal, rows = self.journal, self._rows
        if journal is None or rows is None or not self._is_file:
            return
        pending = self._next(journal.generation)
        if pending.exists():
            # Killed between the two renames of an earlier retry.
            os.replace(pending, rows)
            sync_folder(rows.parent)
        if not journal.resumed:
            return
        if self.kind == "parquet" and not rows.exists():
            self._spool_again(rows)
            journal.length = rows.stat().st_size
        if mode == RETRY_FAILED and journal.errors:
            self._drop_failed(journal, rows)
            journal.close()
            self.journal = FileJournal(journal.path, journal.facts, retry_failed=True, by_line=by_line)

    def _next(self, generation: int) -> Path:
        return Path(f"{self._rows}.{generation}.next")

    def _drop_failed(self, journal: FileJournal, rows: Path) -> None:
        made = self._next(journal.generation + 1)
        kind = "jsonl" if self.kind == "parquet" else self.kind
        statuses = journal.statuses()
        length = 0
        with open(made, "wb") as file:
            if kind == "csv":
                length += file.write(csv_header(rows))
            changed = JournalError(
                "{path} was changed: it differs from its journal; start again with {overwrite}", path=rows
            )
            for line, columns in read_back(rows, kind, journal.length):
                found = next(statuses, None)
                if found is None or found[1] != columns["loopai_status"]:
                    raise changed
                if found[1] == OK:
                    length += file.write(line)
            if next(statuses, None) is not None:
                raise changed
            flush_and_sync(file)
        kept = journal.rewrite(((found, status) for found, status in journal.statuses() if status == OK), length)
        # The journal first: from then on it says that the other output takes this one's place.
        os.replace(kept, journal.path)
        sync_folder(journal.path.parent)
        os.replace(made, rows)
        sync_folder(rows.parent)

    def _spool_again(self, rows: Path) -> None:
        if self.path is None or not self.path.exists():
            raise self._gone()
        part = Path(f"{rows}.part")
        with open(part, "wb") as file:
            for columns in self._parquet_rows(self.path):
                file.write(to_json(columns, inf_nan_mode="null", bytes_mode="base64") + b"\n")
            flush_and_sync(file)
        os.replace(part, rows)

    def _gone(self) -> JournalError:
        return JournalError("{path} was removed, but not its journal; start again with {overwrite}", path=self.path)

    def _parquet_rows(self, path: Path) -> Iterator[dict[str, Any]]:
        for _, columns, problem in open_source(path, "parquet"):
            if columns is None:
                raise JournalError("{path} cannot be read: {problem}", path=path, problem=problem)
            output = columns["loopai_output"]
            yield {**columns, "loopai_output": None if output is None else from_json(output)}

    def _open(self, target: Union[str, os.PathLike[str], IO[bytes]], header: Optional[Sequence[str]]) -> Sink:
        length = self.journal.length if self.journal is not None and self._is_file else None
        if self.kind == "csv":
            return CsvSink(target, length, header)
        if self.kind == "parquet":
            pyarrow()  # said now, not after the last row
            return JsonlSink(self._rows or target, length)
        return JsonlSink(target, length)

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Keep outcomes; cancelled ones are not kept, as they have yet to run. Raises `OutputError`."""
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
        """The rows that earlier runs wrote, as columns; none for a pipe."""
        if self.journal is None or self._rows is None or not self._is_file or not self.resumed:
            return
        if self.path is not None and self.kind == "parquet" and self.finished and self.path.exists():
            yield from self._parquet_rows(self.path)
            return
        if not self._rows.exists():
            raise self._gone()
        kind = "jsonl" if self.kind == "parquet" else self.kind
        for _, columns in read_back(self._rows, kind, self.journal.length):
            yield columns

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Every row has ended: make the output whole and say so in the journal. Raises `OutputError`."""
        if self._sink is None:
            return
        try:
            self._sink.close()
            if self.kind == "parquet" and self.path is not None and self._rows is not None:
                write_parquet(self._rows, self.path, self._schema)
            if self.journal is not None:
                self.journal.finish({**facts, "limit": self._limit})
        except OSError as error:
            raise explain(error, self.name) from error
        if self.kind == "parquet" and self._rows is not None:
            self._rows.unlink()

    def close(self) -> None:
        """Let go of the files."""
        if self._sink is not None:
            self._sink.close()
        if self.journal is not None:
            self.journal.close()


def _kind(path: Optional[Path], kind: Optional[str]) -> str:
    if kind not in {None, "csv", "jsonl", "parquet"}:
        raise OptionError("{output_format} must be one of csv, jsonl, parquet, not {kind!r}", kind=kind)
    if path is not None and path.is_dir():
        raise OptionError("{output}: {path} is a folder; name a file in it", path=path)
    if kind is None:
        kind = "jsonl" if path is None else format_of(path)
    if path is not None and path.name.endswith(".gz"):
        raise OptionError("{output}: {path}: a gzipped output cannot be resumed; gzip it afterwards", path=path)
    if kind is None:
        if path is not None and path.exists() and not path.is_file():
            return "jsonl"
        raise OptionError("cannot infer the format from {path!r}; pass {output_format}", path=str(path))
    if kind == "parquet" and path is None:
        raise OptionError("Parquet is written to a file, not to a pipe; pass {output} NAME.parquet")
    return kind
