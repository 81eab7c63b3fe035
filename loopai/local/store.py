"""The database: SQLite in WAL mode, in a folder that several processes may share. No business rules here.

Every write is one transaction. A commit reaches the operating system before the caller continues, so that nothing
acknowledged is lost when the process is killed; a power cut may take the last moments (`synchronous=NORMAL`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor

from ..exceptions import ConfigurationError
from . import tables, timestamps
from .records import Artifact, ArtifactFacts, Execution, NewArtifact, TaskRecord, TaskState, new_id

R = TypeVar("R")
Transaction = DBAPICursor
"""A cursor of a connection on which a write transaction is open."""

FILE = "loopai.db"
INCREMENTAL = 2
"""SQLite's code for incremental vacuum."""
LAST = 2**63 - 1
DELETED_AT_ONCE = 5000
PAGES_AT_ONCE = 1000
BUSY_SECONDS = 30.0
"""Seconds that a statement waits for another process's transaction, which takes milliseconds."""
WRITE_SECONDS = 3.0
"""Seconds that closing waits for a write."""
INTERRUPT_SECONDS = 0.05
PROBE_SECONDS = 2.0
"""Seconds that a health probe waits for one."""


class NameTaken(Exception):
    """Another task has this name."""


class _Write:
    """A part of a transaction, and its result."""

    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None
        self._work = work

    def run(self, cursor: Transaction, *, alone: bool) -> None:
        """Do the work; store its exception without undoing other parts, or raise it if alone in the transaction."""
        if alone:
            self.result = self._work(cursor)
            return
        cursor.execute("SAVEPOINT one")
        try:
            self.result = self._work(cursor)
        except Exception as error:  # noqa: BLE001  # raised in the thread it belongs to
            self.error = error
            cursor.execute("ROLLBACK TO one")
        cursor.execute("RELEASE one")


class Store:
    """The tables of one data folder. Thread-safe.

    `folder` is created if missing; `None` is a private folder that `close` removes. Raises `ConfigurationError` if the
    folder cannot be used.
    """

    def __init__(self, folder: Path | None, connections: int = 32) -> None:
        self._private = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="loopai-")) if folder is None else folder
        self._file = self.folder / FILE
        # Threads queue here rather than in SQLite, which waits by sleeping.
        self._one_writer = threading.Lock()
        self._queue: list[_Write] = []
        self._queueing = threading.Lock()
        self._closed = False
        self._writer: sa.PoolProxiedConnection | None = None
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(self._file)),
            connect_args={"isolation_level": None, "check_same_thread": False, "timeout": BUSY_SECONDS},
            poolclass=sa.QueuePool,
            pool_size=connections,
            max_overflow=-1,
            pool_reset_on_return=None,
            # Last in, first out: the connection used last has the warmest cache.
            pool_use_lifo=True,
        )
        sa.event.listen(self._engine, "connect", _set_up)
        try:
            _make_private(self.folder, self._file)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise ConfigurationError(f"the data folder {self.folder} cannot be used: {error}") from error
        except ConfigurationError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections, and remove a private folder; later calls fail.

        A write in progress may finish within `WRITE_SECONDS`; then it is interrupted and rolled back.
        """
        self._closed = True
        seconds = WRITE_SECONDS
        while not self._one_writer.acquire(timeout=seconds):
            # No effect between two statements.
            self._writing().driver_connection.interrupt()  # type: ignore[union-attr]  # sqlite3's
            seconds = INTERRUPT_SECONDS
        try:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        finally:
            self._one_writer.release()
        self._engine.dispose()
        if self._private:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _prepare(self) -> None:
        give_up = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with self._cursor() as cursor:
                    if _first(cursor, "PRAGMA auto_vacuum")[0] != INCREMENTAL:
                        # Required for the file to shrink later without a rewrite. It takes effect before the first
                        # table is created, or by rewriting the file once.
                        cursor.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
                        if _first(cursor, "PRAGMA user_version")[0]:
                            cursor.execute("VACUUM")
                    # SQLite's own waiting does not cover this if another process does the same.
                    cursor.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
        with self.transaction() as cursor:
            found = _first(cursor, "PRAGMA user_version")[0]
            if found > tables.SCHEMA:
                raise ConfigurationError(
                    f"the data folder {self.folder} was written by a newer loopai (schema {found}, this one supports "
                    f"{tables.SCHEMA}): upgrade loopai or use another folder"
                )
            steps = [tables.CREATE]
            if found:
                steps = [tables.MIGRATIONS[at] for at in range(found + 1, tables.SCHEMA + 1)]
            for statements in steps:
                for statement in statements:
                    cursor.execute(statement)
            cursor.execute(f"PRAGMA user_version = {tables.SCHEMA}")

    @contextmanager
    def _cursor(self) -> Iterator[DBAPICursor]:
        self._raise_if_closed()
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            try:
                yield cursor
            finally:
                # An unfinished SELECT would keep its snapshot, and so the log, alive.
                cursor.close()
        finally:
            connection.close()

    def write(self, work: Callable[[Transaction], R]) -> R:
        """Run `work` in a write transaction, together with others that wait, and return its result.

        An exception undoes its own writes only. The transaction is committed when this returns.
        """
        waiting = _Write(work)
        with self._queueing:
            self._queue.append(waiting)
        with self._one_writer:
            # The previous holder of the lock may have done it.
            if not waiting.done:
                with self._queueing:
                    writes, self._queue = self._queue, []
                self._commit(writes)
        if waiting.error is not None:
            raise waiting.error
        return cast(R, waiting.result)

    def _commit(self, writes: list[_Write]) -> None:
        try:
            with self._transaction() as cursor:
                for write in writes:
                    write.run(cursor, alone=len(writes) == 1)
        except BaseException as error:
            # Each waiting writer raises it.
            told = error if isinstance(error, Exception) else sqlite3.OperationalError("the write was interrupted")
            for write in writes:
                write.error = write.error or told
            if told is not error:
                raise
        finally:
            for write in writes:
                write.done = True

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a write transaction: committed at the end, rolled back if the block raises."""
        with self._one_writer, self._transaction() as cursor:
            yield cursor

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        with closing(self._writing().cursor()) as cursor:
            self._raise_if_closed()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                # An interruption has already rolled back everything.
                if self._writing().driver_connection.in_transaction:  # type: ignore[union-attr]  # sqlite3's
                    cursor.execute("ROLLBACK")
                raise

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise sqlite3.ProgrammingError("the store is closed")

    def _writing(self) -> sa.PoolProxiedConnection:
        # One connection for all writes of this process, so its cached pages stay valid.
        if self._writer is None:
            self._writer = self._engine.raw_connection()
        return self._writer

    def _row(self, statement: str, **values: Any) -> Any:
        with self._cursor() as cursor:
            return _first(cursor, statement, **values)

    def _rows(self, statement: str, **values: Any) -> list[Any]:
        with self._cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def probe(self) -> None:
        """Reopen the database's file, read it and take its write lock. Raises `sqlite3.Error` if that fails."""
        uri = f"{self._file.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=PROBE_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(tables.COUNT_TASKS).fetchone()
            connection.execute("ROLLBACK")

    # Tasks

    def add_task(self, transaction: Transaction, task: TaskRecord) -> None:
        """Raises `NameTaken`."""
        if _first(transaction, tables.TASK_ID_BY_NAME, name=task.name) is not None:
            raise NameTaken(task.name)
        transaction.execute(tables.INSERT_TASK, vars(task))

    def task(self, task_id: str) -> TaskState | None:
        """Return the task of that id."""
        return _state(self._row(tables.TASK_BY_ID, id=task_id))

    def task_by_name(self, name: str) -> TaskState | None:
        """Return the task of that name."""
        return _state(self._row(tables.TASK_BY_NAME, name=name))

    def tasks(self, most: int = -1, after: str | None = None) -> list[TaskState]:
        """Return tasks without their examples, oldest first: at most `most`, starting after the id `after`."""
        rows = self._rows(tables.TASKS_PAGE, most=most, after=after or "")
        return [TaskState(TaskRecord(*row[:-2]), *row[-2:]) for row in rows]

    def count_tasks(self) -> int:
        """Return the number of tasks."""
        return int(self._row(tables.COUNT_TASKS)[0])

    def running_of(self, task_id: str) -> tuple[float, bytes, bytes] | None:
        """Return what an execution needs from a task, which never changes: sampling rate, input and output schema."""
        row = self._row(tables.RUNNING_OF_TASK, id=task_id)
        return None if row is None else (row[0], row[1], row[2])

    def examples_size(self, task_id: str) -> int:
        """Return the size of the task's examples in bytes; 0 for an unknown task."""
        row = self._row(tables.EXAMPLES_SIZE, id=task_id)
        return 0 if row is None else int(row[0])

    def set_examples(self, transaction: Transaction, task_id: str, examples: bytes) -> None:
        """Replace a task's examples, and delete the reason why there was no program from the earlier ones."""
        values = {"task_id": task_id, "new_examples": examples, "moment": timestamps.now()}
        transaction.execute(tables.SET_EXAMPLES, values)

    def set_refusal(self, transaction: Transaction, task_id: str, refusal: str | None) -> None:
        """Store why a task's program could not be made."""
        transaction.execute(tables.SET_REFUSAL, {"task_id": task_id, "new_refusal": refusal})

    def task_in(self, transaction: Transaction, task_id: str) -> TaskState | None:
        """Return the task of that id within a write transaction."""
        return _state(_first(transaction, tables.TASK_BY_ID, id=task_id))

    def delete_task(self, transaction: Transaction, task_id: str) -> bool:
        """Delete a task and its programs; return whether it existed. `delete_executions_of` deletes its executions."""
        transaction.execute(tables.DELETE_ARTIFACTS, {"task_id": task_id})
        transaction.execute(tables.DELETE_TASK, {"task_id": task_id})
        return bool(transaction.rowcount)

    # Artifacts

    def set_status(self, transaction: Transaction, task_id: str, version: int, status: str) -> Artifact | None:
        """Change a version's status; if it becomes active, deprecate later active ones. `None` if there is none."""
        active = status == "active"
        values = {"task_id": task_id, "of_version": version}
        if active:
            transaction.execute(tables.RETIRE_HIGHER, values)
        moment, percentage = (timestamps.now(), 100.0) if active else (None, 0.0)
        more = {"new_status": status, "percentage": percentage, "moment": moment}
        transaction.execute(tables.SET_STATUS, {**values, **more})
        row = _first(transaction, tables.ARTIFACT, task_id=task_id, version=version)
        return None if row is None else Artifact(*row)

    def add_artifact(self, transaction: Transaction, new: NewArtifact, made_from: bytes | None = None) -> Artifact:
        """Add the program as its task's next version, fully deployed if its status is active.

        `made_from` are the digests of the examples that it was made from.
        """
        moment = timestamps.now()
        highest = _first(transaction, tables.HIGHEST_VERSION, task_id=new.task_id)[0]
        active = new.status == "active"
        artifact = Artifact(
            id=new_id(),
            version=(highest or 0) + 1,
            deployment_percentage=100.0 if active else 0.0,
            created_at=moment,
            deployed_at=moment if active else None,
            **vars(new),
        )
        transaction.execute(tables.INSERT_ARTIFACT, {**vars(artifact), "made_from": made_from})
        self.set_refusal(transaction, new.task_id, None)
        return artifact

    def made_from(self, program_id: str) -> bytes:
        """Return the digests of the examples that a program was made from; none for a pushed program."""
        row = self._row(tables.MADE_FROM, id=program_id)
        return b"" if row is None or row[0] is None else bytes(row[0])

    def artifacts(self, task_id: str) -> list[Artifact]:
        """Return a task's programs by ascending version; none for an unknown task."""
        return [Artifact(*row) for row in self._rows(tables.ARTIFACTS_OF_TASK, task_id=task_id)]

    def artifact_facts(self, task_id: str) -> list[ArtifactFacts]:
        """Return a task's programs by ascending version, without their sources."""
        return [ArtifactFacts(*row) for row in self._rows(tables.FACTS_OF_TASK, task_id=task_id)]

    def artifact(self, task_id: str, version: int) -> Artifact | None:
        """Return that version of the task's program."""
        row = self._row(tables.ARTIFACT, task_id=task_id, version=version)
        return None if row is None else Artifact(*row)

    def active_program(self, task_id: str, transaction: Transaction | None = None) -> tuple[str, int] | None:
        """Return id and version of the task's highest active program. Not cached: another process may add one."""
        values = {"task_id": task_id}
        row = (
            self._row(tables.ACTIVE_PROGRAM, **values)
            if transaction is None
            else _first(transaction, tables.ACTIVE_PROGRAM, **values)
        )
        return None if row is None else (row[0], row[1])

    def program_of_version(self, task_id: str, version: int) -> tuple[str, int] | None:
        """Return id and version of that version of the task's program."""
        row = self._row(tables.PROGRAM_OF_VERSION, task_id=task_id, version=version)
        return None if row is None else (row[0], row[1])

    def code(self, program_id: str) -> tuple[str, str]:
        """Return source and language of a program."""
        code, language = self._row(tables.CODE, id=program_id)
        return code, language

    def versions_by_task(self) -> list[tuple[str, int]]:
        """Return the number of programs of each task that has any."""
        return [(row[0], row[1]) for row in self._rows(tables.VERSIONS_BY_TASK)]

    # Executions

    def add_executions(self, transaction: Transaction, executions: Iterable[Execution]) -> None:
        """Record runs."""
        transaction.executemany(tables.INSERT_EXECUTION, [vars(execution) for execution in executions])

    def executions(
        self, task_id: str, most: int, before: int | None = None, status: str | None = None
    ) -> list[tuple[int, Execution]]:
        """Return a task's executions with their numbers, newest first: at most `most`, before the number `before`."""
        last = LAST if before is None else before
        rows = self._rows(tables.EXECUTIONS_PAGE, task_id=task_id, most=most, before=last, status=status or "")
        return [(row[0], Execution(*row[1:])) for row in rows]

    def delete_executions(self, since: int) -> int:
        """Delete executions from before `since`, in parts so that others can write; return how many there were."""
        return self._delete(tables.DELETE_OLD_EXECUTIONS, {"since": since})

    def delete_executions_of(self, task_id: str) -> None:
        """Delete a task's executions, in parts."""
        self._delete(tables.DELETE_EXECUTIONS_OF_TASK, {"task_id": task_id})

    def _delete(self, statement: str, values: dict[str, Any]) -> int:
        deleted = 0
        while True:
            with self.transaction() as cursor:
                cursor.execute(statement, {**values, "most": DELETED_AT_ONCE})
                count = int(cursor.rowcount)
            deleted += count
            if count < DELETED_AT_ONCE:
                return deleted

    def shrink(self) -> None:
        """Return freed space to the file system."""
        while True:
            with self.transaction() as cursor:
                if not _first(cursor, "PRAGMA freelist_count")[0]:
                    break
                # A result row for each page.
                cursor.execute(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
                cursor.fetchall()
        with self._one_writer, closing(self._writing().cursor()) as cursor:
            self._raise_if_closed()
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()

    # Replies kept by idempotency key

    def keep_reply(
        self,
        transaction: Transaction,
        key: str,
        fingerprint: bytes,
        status: int,
        location: str | None,
        body: bytes,
        since: int,
    ) -> bool:
        """Store a reply under its key; return False if there already is one from after `since`."""
        values = {
            "key": key,
            "fingerprint": fingerprint,
            "status": status,
            "location": location,
            "body": body,
            "kept_at": timestamps.now(),
            "since": since,
        }
        transaction.execute(tables.KEEP_REPLY, values)
        return transaction.rowcount == 1

    def reply(self, key: str, since: int) -> tuple[bytes, int, str | None, bytes] | None:
        """Return fingerprint, status, location and body stored under a key after `since`."""
        row = self._row(tables.REPLY, key=key, since=since)
        return None if row is None else (row[0], row[1], row[2], row[3])

    def drop_replies(self, since: int) -> None:
        """Delete replies from `since` or earlier."""
        with self.transaction() as cursor:
            cursor.execute(tables.DROP_OLD_REPLIES, {"since": since})


def _make_private(folder: Path, file: Path) -> None:
    """Create folder and file if missing, readable by their owner only; change the permissions of existing ones."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # An existing folder may hold other files, whose permissions are not ours to change.
    if all(found.name.startswith(FILE) for found in folder.iterdir()):
        folder.chmod(0o700)
    # SQLite gives the files beside its own the same permissions.
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    for found in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(FileNotFoundError):
            found.chmod(0o600)


def _set_up(connection: DBAPIConnection, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _first(cursor: DBAPICursor, statement: str, **values: Any) -> Any:
    cursor.execute(statement, values)
    return cursor.fetchone()


def _state(row: Any) -> TaskState | None:
    return None if row is None else TaskState(TaskRecord(*row[:-2]), row[-2], row[-1])
