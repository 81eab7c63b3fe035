"""One run in its folder: its files, its lock and its status. `folder` knows which runs exist."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Optional, Protocol

from ....batch.durability import flush_and_sync
from ....batch.locks import AlreadyLocked, lock_file
from ....batch.resume.checkpoint import next_output
from ....batch.resume.journal import JournalReader
from .records import ENDED, PRIVATE_FILE, Figures, RunRecord, RunStatus, told_of, write_whole

RUN, ROWS, OUTPUT, JOURNAL = "run.json", "rows.jsonl", "output.jsonl", "output.jsonl.journal"
FIGURES, REPORT, LOCK, CANCEL, SPARE = "figures.json", "report.html", "lock", "cancel", "spare"

SPARE_BYTES = 32_768
"""Size of a reserve file: on a full disk it is removed to record that the disk is full."""

LOCK_PATIENCE = 10.0
"""Seconds to wait for the folder's lock. It is held for milliseconds, unless a process is suspended meanwhile."""

LOCK_PAUSE = 0.002


def wait_for(lock: Callable[[], IO[bytes]], may_wait: Callable[[], bool] = lambda: True) -> IO[bytes]:
    """Wait for the lock, and return it. Raises `AlreadyLocked` if that takes too long."""
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return lock()
        except AlreadyLocked:
            if time.monotonic() > until or not may_wait():
                raise
            time.sleep(LOCK_PAUSE)


class FolderFull(Exception):
    """No run can be added: `status` is 503 if it can be later, 507 if the folder or its disk is full."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Home(Protocol):
    """What a run needs from its folder."""

    path: Path
    clock: Callable[[], float]
    max_folder_bytes: int

    def unmark(self, run: StoredRun) -> None:
        """Remove the run from the list of runs that have not ended."""

    def recorded(self, run: StoredRun) -> JournalReader:
        """Return what the run's journal has recorded. Raises `FileNotFoundError`."""


@dataclass
class Incoming:
    """Where received rows are stored. `left` is how many bytes they may still take."""

    folder: Home
    path: Path
    owner: str
    held: IO[bytes]
    left: int

    def __post_init__(self) -> None:
        self.rows = 0
        self._file = open(os.open(self.path / ROWS, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE), "wb")  # noqa: SIM115

    def write(self, lines: list[bytes]) -> None:
        """Store rows. Raises `FolderFull`, and `OSError` if the disk is full."""
        self.rows += len(lines)
        data = b"".join(lines)
        self.left -= len(data)
        if self.left < 0:
            raise FolderFull(507, "The upload does not fit into the folder of runs, which may hold "
                             f"{self.folder.max_folder_bytes:,} bytes")  # fmt: skip
        self._file.write(data)

    def sync(self) -> None:
        """Flush the rows to the disk. Raises `OSError`."""
        flush_and_sync(self._file)
        self._file.close()

    def close(self) -> None:
        """Release the lock, and remove rows that have not become a run."""
        with contextlib.suppress(OSError):
            self._file.close()
        shutil.rmtree(self.path, ignore_errors=True)
        self.held.close()


class StoredRun:
    """One run in its folder."""

    def __init__(self, folder: Home, owner: str, run_id: str) -> None:
        self.folder = folder
        self.owner = owner
        self.id = run_id
        self.path = folder.path / "runs" / owner / run_id

    @property
    def exists(self) -> bool:
        """Whether it exists."""
        return (self.path / RUN).exists()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return (self.path / CANCEL).exists()

    def lock(self) -> IO[bytes]:
        """Lock the run until the file is closed. Raises `AlreadyLocked` and `FileNotFoundError`."""
        if not self.path.exists():
            raise FileNotFoundError(self.path)
        return lock_file(self.path / LOCK, PRIVATE_FILE)

    def lock_at_rest(self) -> IO[bytes]:
        """Like `lock`; for a run that is not active, wait until it is released."""
        return wait_for(self.lock, lambda: self.read().state != "running")

    @contextlib.contextmanager
    def locked(self, *, at_rest: bool = False) -> Iterator[None]:
        """Lock the run in a `with` block; see `lock` and `lock_at_rest`."""
        held = self.lock_at_rest() if at_rest else self.lock()
        try:
            yield
        finally:
            held.close()

    def read(self) -> RunRecord:
        """Return the record of the run. Raises `FileNotFoundError`."""
        return RunRecord.model_validate_json((self.path / RUN).read_bytes())

    def write(self, record: RunRecord) -> None:
        """Write the record; on a full disk in place of the reserve file. Raises `OSError`."""
        content = record.model_dump_json().encode()
        try:
            write_whole(self.path / RUN, content)
        except OSError:
            (self.path / SPARE).unlink(missing_ok=True)
            write_whole(self.path / RUN, content)

    def make_spare(self) -> None:
        """Create the reserve file again if it is missing. Raises `OSError`."""
        if not (self.path / SPARE).exists():
            write_whole(self.path / SPARE, bytes(SPARE_BYTES))

    def end(self, record: RunRecord) -> None:
        """Record that the run has ended."""
        self.write(record)
        (self.path / CANCEL).unlink(missing_ok=True)
        self.folder.unmark(self)

    def cancel(self) -> None:
        """Request that its worker ends it. Raises `OSError`."""
        os.close(os.open(self.path / CANCEL, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE))

    def open_output(self) -> tuple[IO[bytes], JournalReader]:
        """Open the output, and return it with its journal, both of one generation. Raises `FileNotFoundError`."""
        while True:
            found = self.folder.recorded(self)
            try:
                file = open(next_output(self.path / OUTPUT, found.generation), "rb")  # noqa: SIM115  # the caller's
            except FileNotFoundError:
                file = open(self.path / OUTPUT, "rb")  # noqa: SIM115
            if found.is_current:
                return file, found
            file.close()

    def figures(self) -> Figures:
        """Return the figures that its worker wrote last."""
        try:
            return Figures.model_validate_json((self.path / FIGURES).read_bytes())
        except FileNotFoundError:
            return Figures()

    def told(self, record: Optional[RunRecord] = None) -> RunStatus:
        """Return its status. Raises `FileNotFoundError`."""
        record = record or self.read()
        if record.state in ENDED:
            return told_of(record, record.figures, (record.ok, record.doubtful, record.errors), cancelling=False)
        found = self.folder.recorded(self)
        return told_of(record, self.figures(), (found.ok, found.doubtful, found.errors), cancelling=self.cancelled)

    def remove(self) -> None:
        """Remove the run with all its files; the caller has locked it. Raises `OSError`."""
        self.folder.unmark(self)
        # A rename removes it at once for everyone; `sweep` removes remains after a kill.
        gone = self.folder.path / "incoming" / f"{self.id}.removed"
        os.rename(self.path, gone)
        shutil.rmtree(gone, ignore_errors=True)


@dataclass
class Claimed:
    """A run that this process runs, with its locks."""

    run: StoredRun
    record: RunRecord
    held: IO[bytes]
    slot: IO[bytes]

    def let_go(self) -> None:
        """Release the run, so that others can claim it."""
        self.held.close()
        self.slot.close()
