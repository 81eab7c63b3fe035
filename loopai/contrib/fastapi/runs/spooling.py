"""Write the rows of an upload to the disk. `starting` does the same for rows from your own code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any, Callable, Optional

from pydantic_core import to_json

from ....batch.engine.reader import Reader, from_records
from ....batch.formats.spooled_rows import spool_line
from ....batch.mapping import InputMapping
from ....batch.options import STREAM, BatchOptions, MaxErrors, table
from ....batch.rows import Row
from ....exceptions import OptionError
from ..batch_runs import Asked, Options, check_input
from ..uploads import ROWS_AT_ONCE, Rows, Upload, UploadError
from .folder import RunFolder, digest_of
from .records import RunRecord
from .stored import Incoming, StoredRun

_MADE_WITH_ROWS = frozenset({"key", "mapping", "allow_duplicates", "limit", "missing", "ordered", "mode", "journal"})
"""Options that apply while rows are stored, or that belong to the folder."""

KEPT_OPTIONS = (
    {name for name, info in table(BatchOptions) if STREAM in info.where and info.group != "Formats"} | {"expect"}
) - (_MADE_WITH_ROWS | {"stop"})
"""Options that a run keeps."""


def kept_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run, as JSON values."""
    return {
        name: str(value) if isinstance(value, MaxErrors) else value
        for name, value in given.items()
        if name in KEPT_OPTIONS
    }


def router_name(name: str, task: str) -> str:
    """What the runs of a router have in common."""
    return f"{name}:{task}"


class Spooler:
    """Reads an upload in a thread and stores its rows; without a place, only computes the digest `content`."""

    def __init__(self, upload: Upload, asked: Asked, options: Options, incoming: Optional[Incoming]) -> None:
        self._options = options
        self._asked = asked
        self._incoming = incoming
        self._digest = blake2b(digest_size=16)
        self._rows = Rows(
            upload, asked.content_type, asked.kind, options.limits, asked.reading, seen=self._digest.update
        )
        expected = options.expect
        mapping = options.mapping
        if expected is not None and not mapping.parts:
            mapping = InputMapping((), [expected.column])
        self._mapping = mapping
        self._make = from_records(mapping, asked.key)
        self._reader = Reader(self._row, check_keys=asked.key is not None)
        self.read = 0

    @property
    def content(self) -> str:
        """A digest of the bytes and of how they are read."""
        asked = (self._asked.key, self._asked.first, self._rows.kind, repr(self._asked.reading))
        return digest_of(self._digest.digest(), to_json(asked))

    def work(self) -> None:
        """Read the whole upload. Blocks; raises `UploadError`, `Gone`, `FolderFull` and `OSError`."""
        records = iter(self._rows)
        try:
            taken = list(islice(records, ROWS_AT_ONCE))
            self._check_columns()
            while taken:
                self.read += len(taken)
                if self.read > self._options.max_rows:
                    raise UploadError(f"the upload has more than {self._options.max_rows:,} rows", 413)
                rows = self._reader.make(taken)
                if self._reader.looks_up:
                    rows = self._reader.select(rows)
                if self._incoming is not None:
                    self._incoming.write([spool_line(self._kept(row)) for row in rows])
                taken = list(islice(records, ROWS_AT_ONCE))
            if self._incoming is not None:
                self._incoming.sync()
        finally:
            self._reader.close()

    def _row(self, record: Any, number: int) -> Row:
        row = self._make(record, self._asked.first + number - 1)
        check_input(row, self._options.input)
        return row

    def _check_columns(self) -> None:
        """Check that a CSV file has the columns that inputs are made of, though it may have no rows."""
        columns = self._rows.header
        if columns is None:
            return
        try:
            self._mapping.check(columns)
        except OptionError as error:
            raise UploadError(str(error)) from None
        key = self._asked.key
        if key is not None and key not in columns and key.split(".")[0] not in columns:
            raise UploadError(f"key: the upload has no column {key!r} (columns: {', '.join(columns)})")

    def _kept(self, row: Row) -> Row:
        """Return the row with the columns that are kept with its result (default: all)."""
        keep, expected = self._options.keep, self._options.expect
        if not keep or row.columns is None:
            return row
        names = keep if expected is None else {*keep, expected.column.split(".")[0]}
        given = row.input if row.input is not row.columns else dict(row.columns)
        kept = Row(row.key, given, {name: row.columns[name] for name in row.columns if name in names}, row.line)
        kept.error, kept.code = row.error, row.code
        return kept


def record_of(owner: str, router: str, task: str, alias: str, options: Mapping[str, Any]) -> RunRecord:
    """The stored data of a run that is being created."""
    return RunRecord(
        id="", owner=owner, router=router, task=task, alias=alias, options=dict(options), rows=0, created=0.0
    )


def add_run(
    folder: RunFolder, incoming: Incoming, record: RunRecord, claim: Optional[tuple[str, str]] = None
) -> StoredRun:
    """Create the run and start it; `claim` is the key that created it, and its content. Raises `OSError`."""
    record.created, record.rows = folder.clock(), incoming.rows
    run = folder.add(incoming, record, claim)
    incoming.held.close()
    folder.wake()
    return run


async def receive_into(upload: Upload, receive: Callable[[], Awaitable[Any]], idle_timeout: Optional[float]) -> bool:
    """Feed an upload that a thread reads. Return whether it is complete and the client still connected."""
    while True:
        try:
            message = await asyncio.wait_for(receive(), idle_timeout)
        except asyncio.TimeoutError:
            upload.fail(UploadError(f"nothing of the upload came for {idle_timeout:g} seconds", 408))
            return True
        if message["type"] == "http.disconnect":
            return False
        more = message.get("more_body", False)
        await upload.write_part(message.get("body", b""), more)
        if not more:
            return True
