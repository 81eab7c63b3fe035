"""`start_run`: make a run from your own code instead of an upload."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from itertools import islice
from typing import Any, Union, cast
from uuid import UUID

from ....batch.api import Rows, SyncRows, rows_of
from ....batch.engine.event_loop import in_thread
from ....batch.formats.spooled_rows import spool_line
from ....batch.options import STREAM, BatchOptions, table
from ....exceptions import ConfigurationError
from ..uploads import ROWS_AT_ONCE
from .folder import RunFolder, owner_digest
from .records import RunStatus
from .spooling import add_run, kept_options, record_of, router_name

_OPTIONS = ({name for name, info in table(BatchOptions) if STREAM in info.where} | {"expect"}) - {
    "stop", "mode", "journal", "ordered",
}  # fmt: skip
"""The options of `run_batch`, without those that belong to the folder."""


async def start_run(
    task: Union[str, UUID],
    rows: Rows,
    *,
    folder: RunFolder,
    owner: Any,
    name: str = "runs",
    alias: str = "default",
    **options: Any,
) -> RunStatus:
    """Store rows on the disk, and run them in a process that serves a `runs_router` of `folder`.

    `rows` and `options` are those of `LoopaiClient.run_batch`, except for its output. `owner` is the value that the
    router's `owner` returns for the caller who owns the run, `None` for all callers; `name` is the router's name. When
    this returns, the run is on the disk and outlives this process.

    Raises `ConfigurationError` for invalid options, `FolderFull` if too many runs wait, and `OSError`.
    """
    if not isinstance(rows, AsyncIterable):
        return await in_thread(
            lambda: start_run_sync(task, rows, folder=folder, owner=owner, name=name, alias=alias, **options)
        )
    taking = await in_thread(lambda: _Taking(rows, task, folder, owner, name, alias, options))
    try:
        waiting: list[Any] = []
        async for value in rows:
            waiting.append(value)
            if len(waiting) >= ROWS_AT_ONCE:
                await in_thread(taking.take, waiting)
                waiting = []
            if taking.full:
                break
        await in_thread(taking.take, waiting)
        return await in_thread(taking.finish)
    finally:
        await in_thread(taking.close)


def start_run_sync(
    task: Union[str, UUID],
    rows: SyncRows,
    *,
    folder: RunFolder,
    owner: Any,
    name: str = "runs",
    alias: str = "default",
    **options: Any,
) -> RunStatus:
    """Like `start_run`, from synchronous code, such as a worker or script that serves nothing itself."""
    taking = _Taking(rows, task, folder, owner, name, alias, options)
    try:
        values: Iterator[Any] = iter(cast("Iterable[Any]", taking.values))
        while not taking.full and (taken := list(islice(values, ROWS_AT_ONCE))):
            taking.take(taken)
        return taking.finish()
    finally:
        taking.close()


class _Taking:
    """Writes a caller's rows to the disk."""

    def __init__(
        self,
        rows: Rows,
        task: Union[str, UUID],
        folder: RunFolder,
        owner: Any,
        name: str,
        alias: str,
        given: dict[str, Any],
    ) -> None:
        for option in given:
            if option not in _OPTIONS:
                raise ConfigurationError(f"start_run has no option {option!r}; there are {', '.join(sorted(_OPTIONS))}")
        options = BatchOptions(**given)
        self._folder = folder
        self._record = record_of(
            owner_digest(owner),
            router_name(name, str(task)),
            str(task),
            alias,
            kept_options({option: getattr(options, option) for option in given}),
        )
        self.values, self._reader = rows_of(rows, options)
        try:
            self._incoming = folder.reserve(self._record.owner)
        except BaseException:
            self._reader.close()
            raise

    @property
    def full(self) -> bool:
        """Whether `limit` rows were taken."""
        return self._reader.full

    def take(self, values: list[Any]) -> None:
        """Store rows. Raises `FolderFull` and `OSError`."""
        rows = self._reader.make(values)
        if rows and self._reader.looks_up:
            rows = self._reader.select(rows)
        self._incoming.write([spool_line(row) for row in rows])

    def finish(self) -> RunStatus:
        """Make the run."""
        self._incoming.sync()
        return add_run(self._folder, self._incoming, self._record).told()

    def close(self) -> None:
        """Release the lock, and remove rows that have not become a run."""
        self._reader.close()
        self._incoming.close()
