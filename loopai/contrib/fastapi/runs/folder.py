"""`RunFolder`: where runs are stored, which of them wait, and how many are allowed. All functions block.

```
lock                       held briefly while counting, claiming or adding
slots/0 …                  each active run locks one
incoming/ID.OWNER/         a run whose rows are being received; locked by the receiving process
todo/ID.OWNER              runs that have not ended, in order
keys/DIGEST                what an Idempotency-Key was used for; DIGEST.lock during its upload
runs/OWNER/ID/             run.json, rows.jsonl, output.jsonl and its journal, figures.json, report.html, lock
```

Owners and keys are digests, and ids are generated here: no file name comes from a request.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Callable, Optional, Union
from uuid import UUID

from pydantic_core import from_json, to_json

from ....batch.durability import sync_folder
from ....batch.locks import AlreadyLocked, lock_file
from ....batch.options import whole
from ....batch.resume.journal import JournalReader
from ....exceptions import ConfigurationError
from .file_systems import network_file_system
from .records import ENDED, PRIVATE_FILE, PRIVATE_FOLDER, RunRecord, RunStatus, write_whole
from .stored import (
    CANCEL,
    JOURNAL,
    LOCK,
    LOCK_PATIENCE,
    OUTPUT,
    RUN,
    SPARE,
    SPARE_BYTES,
    Claimed,
    FolderFull,
    Incoming,
    StoredRun,
    wait_for,
)

BUSY_FOR = 30
"""Retry-After, in seconds, when too many runs are waiting."""

READERS = 256
"""How many journals a process remembers its reading position of."""

SHARED = "shared"

logger = logging.getLogger("loopai.fastapi")


def digest_of(*parts: Union[str, bytes]) -> str:
    """Return a file name for a secret or private text that does not reveal it."""
    found = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        found.update(len(data).to_bytes(8, "big") + data)
    return found.hexdigest()


def owner_digest(owner: Any) -> str:
    """Return the owner's name in the folder; `None` stands for all callers.

    Raises `ConfigurationError` for a value that cannot name an owner.
    """
    if owner is None:
        return digest_of(SHARED)
    if isinstance(owner, bool) or not isinstance(owner, (str, int, UUID)) or owner == "":
        given = "an empty text" if owner == "" else type(owner).__name__
        raise ConfigurationError(f"owner must be a text, a number or a UUID that names the caller, not {given}")
    return digest_of("owner", str(owner))


class RunFolder:
    """A folder on a local disk that stores runs, for all processes of one host.

    Up to `max_runs` are active at a time, over all processes; the others wait in order. At most `max_waiting` runs may
    wait, and `max_waiting_per_owner` for each caller; runs that wait for the Loopai server and uploads in progress
    count too. An upload that would make the folder larger than `max_folder_bytes` is refused. Runs are removed
    `keep_days` after their end; `None` keeps them. A missing folder is created, readable by its user only.

    Raises `ConfigurationError` for options that do not fit; a folder on a network file system is refused when the
    application starts.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        *,
        max_runs: int = 4,
        max_waiting: int = 100,
        max_waiting_per_owner: int = 5,
        max_folder_bytes: int = 10_000_000_000,
        keep_days: Optional[float] = 30,
        clock: Callable[[], float] = time.time,
    ) -> None:
        given = {"max_runs": max_runs, "max_waiting": max_waiting, "max_waiting_per_owner": max_waiting_per_owner,
                 "max_folder_bytes": max_folder_bytes}  # fmt: skip
        for name, value in given.items():
            try:
                whole(1)(value)
            except ValueError as error:
                raise ConfigurationError(f"RunFolder: {name} {error}, not {value!r}") from None
        if keep_days is not None and not keep_days >= 0:
            raise ConfigurationError(f"RunFolder: keep_days must be a number of days from 0, not {keep_days!r}")
        self.path = Path(path).absolute()
        self.max_runs = max_runs
        self.max_waiting = max_waiting
        self.max_waiting_per_owner = max_waiting_per_owner
        self.max_folder_bytes = max_folder_bytes
        self.keep_days = keep_days
        self.clock = clock
        self.flaws: dict[str, Callable[[Any], Optional[str]]] = {}
        """The functions that check an output, by router: types are code, which no file stores."""
        self._opened = False
        self._listeners: list[Callable[[], None]] = []
        self._readers: OrderedDict[Path, JournalReader] = OrderedDict()
        self._reading = threading.Lock()

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def open(self) -> None:
        """Create what is missing. Raises `ConfigurationError` if the folder cannot be used."""
        if self._opened:
            return
        kind = network_file_system(self.path)
        if kind is not None:
            raise ConfigurationError(
                f"{self.path} lies on a network file system ({kind}), whose locks do not tell which process runs what: "
                "use a folder on a local disk; with several hosts, a queue (docs/fastapi.md)"
            )
        try:
            self.path.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
            os.chmod(self.path, PRIVATE_FOLDER)
            for name in ("slots", "incoming", "todo", "keys", "runs"):
                (self.path / name).mkdir(PRIVATE_FOLDER, exist_ok=True)
            with self._locked():
                pass
        except OSError as error:
            raise ConfigurationError(f"the folder of runs {self.path} cannot be used: {error.strerror}") from None
        self._opened = True

    # Notifying workers

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when this process has work for a worker. Return a function that undoes this."""
        self._listeners.append(wake)
        return lambda: self._listeners.remove(wake)

    def wake(self) -> None:
        """Tell the workers of this process that there may be work; other processes check regularly."""
        for wake in list(self._listeners):
            wake()

    # Locks

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            held = wait_for(lambda: lock_file(self.path / LOCK, PRIVATE_FILE))
        except AlreadyLocked:
            raise FolderFull(503, f"The folder of runs was locked for {LOCK_PATIENCE:g} seconds") from None
        try:
            yield
        finally:
            held.close()

    # Adding

    def reserve(self, owner: str, length: int = 0) -> Incoming:
        """Make room for the rows of a run of `owner`; `length` is their size in bytes, if known.

        Raises `FolderFull`, and `OSError`.
        """
        self.open()
        with self._locked():
            self._check_waiting(owner)
            used = self.bytes_used()
            if used + length > self.max_folder_bytes:
                raise FolderFull(507, f"The folder of runs may hold {self.max_folder_bytes:,} bytes, and is full")
            place = self.path / "incoming" / f"{self._new_id()}.{owner}"
            with contextlib.ExitStack() as undone:
                undone.callback(shutil.rmtree, place, ignore_errors=True)
                place.mkdir(PRIVATE_FOLDER)
                held = undone.enter_context(lock_file(place / LOCK, PRIVATE_FILE))
                made = Incoming(self, place, owner, held, self.max_folder_bytes - used)
                undone.pop_all()
        return made

    def _check_waiting(self, owner: str) -> None:
        waiting = [name.partition(".")[2] for name in self._waiting()]
        incoming = [name.partition(".")[2] for name in self._live_incoming()]
        if len(waiting) + len(incoming) >= self.max_waiting:
            raise FolderFull(503, f"{self.max_waiting} runs are waiting, which is the limit")
        if (waiting + incoming).count(owner) >= self.max_waiting_per_owner:
            raise FolderFull(503, f"{self.max_waiting_per_owner} of your runs are waiting, which is the limit")

    def _waiting(self) -> Iterator[str]:
        """Return the runs that wait."""
        for name in self._todo():
            run = self._of_todo(name)
            with contextlib.suppress(AlreadyLocked, FileNotFoundError), run.locked():
                yield name

    def _todo(self) -> list[str]:
        return sorted(os.listdir(self.path / "todo"))

    def _live_incoming(self) -> Iterator[str]:
        for name in os.listdir(self.path / "incoming"):
            try:
                lock_file(self.path / "incoming" / name / LOCK, PRIVATE_FILE).close()
            except AlreadyLocked:
                yield name
            except FileNotFoundError:
                continue  # it is a run by now

    def _of_todo(self, name: str) -> StoredRun:
        found, _, owner = name.partition(".")
        return StoredRun(self, owner, found)

    def _new_id(self) -> str:
        """Return a UUID of version 7: it cannot be guessed, and later ones sort after earlier ones."""
        milliseconds = time.time_ns() // 1_000_000
        last = self._todo()[-1:]
        if last:
            milliseconds = max(milliseconds, (UUID(last[0].partition(".")[0]).int >> 80) + 1)
        number = (milliseconds << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
        return str(UUID(int=number))

    def add(self, incoming: Incoming, record: RunRecord, claim: Optional[tuple[str, str]] = None) -> StoredRun:
        """Make a run of the received rows, and record its idempotency key. Leaves nothing if it raises `OSError`."""
        with self._locked():
            record.id = self._new_id()
            run = StoredRun(self, incoming.owner, record.id)
            for name in (OUTPUT, JOURNAL):
                # Created here, not by the batch, whose files other users may read.
                os.close(os.open(incoming.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
            write_whole(incoming.path / SPARE, bytes(SPARE_BYTES))
            write_whole(incoming.path / RUN, record.model_dump_json().encode())
            run.path.parent.mkdir(PRIVATE_FOLDER, exist_ok=True)
            if claim is not None:
                # Before the run exists: a key that names a missing run is ignored.
                self.claim_key(claim[0], record.id, claim[1])
            marker = self._mark(run)
            try:
                os.rename(incoming.path, run.path)
            except OSError:
                marker.unlink(missing_ok=True)
                raise
            sync_folder(run.path.parent)
        return run

    def _mark(self, run: StoredRun) -> Path:
        marker = self.path / "todo" / f"{run.id}.{run.owner}"
        os.close(os.open(marker, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE))
        sync_folder(marker.parent)
        return marker

    def unmark(self, run: StoredRun) -> None:
        """The run has ended."""
        (self.path / "todo" / f"{run.id}.{run.owner}").unlink(missing_ok=True)

    # Keys

    def key_digest(self, owner: str, router: str, key: str) -> str:
        """Return the file name of an Idempotency-Key of an owner and a router."""
        return digest_of("key", owner, router, key)

    def lock_key(self, key: str) -> IO[bytes]:
        """Lock the key during its upload. Raises `AlreadyLocked`."""
        self.open()
        return lock_file(self.path / "keys" / f"{key}.lock", PRIVATE_FILE)

    def release_key(self, key: str, held: IO[bytes]) -> None:
        """The upload is over."""
        (self.path / "keys" / f"{key}.lock").unlink(missing_ok=True)
        held.close()

    def claimed(self, key: str, owner: str) -> Optional[tuple[StoredRun, str]]:
        """Return the run that the key made, and the digest of its upload; `None` if there is no such run."""
        self.open()
        try:
            found = from_json((self.path / "keys" / key).read_bytes())
        except FileNotFoundError:
            return None
        run = StoredRun(self, owner, found["run"])
        return (run, found["content"]) if run.exists else None

    def claim_key(self, key: str, run_id: str, content: str) -> None:
        """Record which run the key made. Raises `OSError`."""
        write_whole(self.path / "keys" / key, to_json({"run": run_id, "content": content}))

    # Finding

    def find(self, owner: str, router: str, run_id: UUID) -> Optional[StoredRun]:
        """Return the run of that owner and router; `None` if there is none."""
        self.open()
        run = StoredRun(self, owner, str(run_id))
        with contextlib.suppress(FileNotFoundError):
            if run.read().router == router:
                return run
        return None

    def page(
        self, owner: str, router: str, before: Optional[UUID], limit: int
    ) -> tuple[list[RunStatus], Optional[UUID]]:
        """Return a page of an owner's runs, newest first, and the id that the next page starts before."""
        self.open()
        try:
            names = os.listdir(self.path / "runs" / owner)
        except FileNotFoundError:
            return [], None
        found: list[RunStatus] = []
        for name in sorted(names, reverse=True):
            if before is not None and name >= str(before):
                continue
            with contextlib.suppress(FileNotFoundError):
                run = StoredRun(self, owner, name)
                record = run.read()
                if record.router != router:
                    continue
                if len(found) >= limit:
                    return found, found[-1].id
                found.append(run.told(record))
        return found, None

    # Running

    def claim(self, busy: frozenset[str]) -> Optional[Claimed]:
        """Claim the next waiting run, unless `max_runs` are active. Runs in `busy` are skipped.

        Raises `FolderFull`, and `OSError`.
        """
        with self._locked():
            waiting = [run for run in map(self._of_todo, self._todo()) if run.id not in busy]
            slot = self._free_slot() if waiting else None
            if slot is None:
                return None
            with contextlib.ExitStack() as unused:
                unused.enter_context(slot)
                for run in waiting:
                    claimed = self._claim(run, slot)
                    if claimed is not None:
                        unused.pop_all()
                        return claimed
        return None

    def _claim(self, run: StoredRun, slot: IO[bytes]) -> Optional[Claimed]:
        try:
            held = run.lock()
        except AlreadyLocked:
            return None
        except FileNotFoundError:
            self.unmark(run)
            return None
        with contextlib.ExitStack() as unused:
            unused.enter_context(held)
            try:
                record = run.read()
            except ValueError as error:
                logger.error("run %s cannot be read: %s", run.id, error)
                return None
            if record.state in ENDED:
                self.unmark(run)  # its process died in between
            elif record.not_before is None or record.not_before <= self.clock() or run.cancelled:
                record.started = record.started or self.clock()
                unused.pop_all()
                return Claimed(run, record, held, slot)
        return None

    def _free_slot(self) -> Optional[IO[bytes]]:
        for number in range(self.max_runs):
            with contextlib.suppress(AlreadyLocked):
                return lock_file(self.path / "slots" / str(number), PRIVATE_FILE)
        return None

    def put_back(self, run: StoredRun, record: RunRecord) -> None:
        """Put a run that has ended back in the queue. Raises `FolderFull` and `OSError`."""
        with self._locked():
            self._check_waiting(run.owner)
            run.make_spare()
            (run.path / CANCEL).unlink(missing_ok=True)
            run.write(record)
            self._mark(run)

    # Housekeeping

    def sweep(self) -> None:
        """Remove what interrupted uploads left behind, and runs that ended long ago."""
        with self._locked():
            for name in set(os.listdir(self.path / "incoming")).difference(self._live_incoming()):
                shutil.rmtree(self.path / "incoming" / name, ignore_errors=True)
        for run in self._all():
            with contextlib.suppress(FileNotFoundError, AlreadyLocked, ValueError):  # what cannot be read stays
                record = run.read()
                old = self.keep_days is not None and record.state in ENDED
                if old and (record.ended or 0) + (self.keep_days or 0) * 86_400 < self.clock():
                    with run.locked():
                        run.remove()
        for name in os.listdir(self.path / "keys"):
            if not name.endswith(".lock"):
                self._sweep_key(self.path / "keys" / name)

    def _sweep_key(self, path: Path) -> None:
        with contextlib.suppress(AlreadyLocked):
            held = self.lock_key(path.name)
            try:
                run_id = from_json(path.read_bytes())["run"]
                if not any((owner / run_id).exists() for owner in (self.path / "runs").iterdir()):
                    path.unlink()
            finally:
                self.release_key(path.name, held)

    def _all(self) -> Iterator[StoredRun]:
        for owner in os.listdir(self.path / "runs"):
            for name in os.listdir(self.path / "runs" / owner):
                yield StoredRun(self, owner, name)

    def bytes_used(self) -> int:
        """Return the size of all files in the folder."""
        used = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    used += os.stat(os.path.join(folder, name)).st_size
        return used

    def recorded(self, run: StoredRun) -> JournalReader:
        """Return what the run's journal has recorded. Raises `FileNotFoundError`."""
        with self._reading:
            reader = self._readers.pop(run.path, None) or JournalReader(run.path / JOURNAL)
            self._readers[run.path] = reader
            if len(self._readers) > READERS:
                self._readers.popitem(last=False)
            reader.refresh()
            return copy.copy(reader)
