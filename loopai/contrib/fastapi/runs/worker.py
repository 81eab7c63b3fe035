"""The worker of a folder: a task in each process that runs what waits, and what a process that died has left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from ....batch.engine.event_loop import in_thread
from ....batch.engine.scheduler import FATAL, INTERRUPTED, TOO_MANY_ERRORS, UNREACHABLE
from ....batch.engine.stopping import Stop
from ....batch.formats.members import members_of
from ....batch.formats.spooled_rows import SpoolSource
from ....batch.reporting.report import page
from ....batch.reporting.snapshot import Snapshot
from ....batch.reporting.statistics import Summary
from ....exceptions import (
    AuthenticationException,
    ConfigurationError,
    ConflictException,
    ExecutionException,
    LoopaiException,
    NotFoundException,
    NotSupportedException,
    OutputError,
    ValidationException,
)
from ....problems import problem_of
from ..dependencies import client_of
from .folder import RunFolder
from .records import Figures, Reason, RunRecord, write_whole
from .stored import FIGURES, OUTPUT, REPORT, ROWS, Claimed, FolderFull, StoredRun

if TYPE_CHECKING:
    from ..lifespan import LoopaiState

LOOK_EVERY = 5.0
"""Seconds between two checks for runs whose process has died."""

SWEEP_EVERY = 3600.0

CANCEL_SEEN_WITHIN = 0.5
"""Seconds until a run detects that any process has cancelled it."""

FIGURES_EVERY = 0.3
"""Seconds between two updates of a run's figures."""

TRY_AGAIN_AFTER = (60.0, 300.0, 900.0, 3600.0)
"""Seconds before each further attempt when the server cannot be reached; the last value repeats."""

_REFUSALS = (
    AuthenticationException, ConflictException, ExecutionException, NotFoundException, NotSupportedException,
    ValidationException,
)  # fmt: skip

logger = logging.getLogger("loopai.fastapi")


class RunWatcher:
    """Writes the figures of a run, and its report at the end; see `Watcher`."""

    counts_earlier = True

    def __init__(self, run: StoredRun) -> None:
        self._run = run
        self._due = 0.0
        self.figures = Figures()
        self.summary: Optional[Summary] = None

    def update(self, snapshot: Snapshot) -> None:
        """See `Watcher`."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + FIGURES_EVERY
        self._take(snapshot)
        # A full disk is detected and reported where results are written.
        with contextlib.suppress(OSError):
            write_whole(self._run.path / FIGURES, self.figures.model_dump_json().encode(), durable=False)

    def _take(self, snapshot: Snapshot) -> None:
        told = snapshot.to_dict()
        tally = snapshot.statistics
        self.figures = Figures(
            seconds=told["seconds"],
            rows_per_s=told["rate"],
            left_s=told["left_s"],
            last_error=told["last_error"] or (None if tally is None else tally.last_error),
            accuracy=None if tally is None or tally.quality is None else tally.quality.accuracy,
        )

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """See `Watcher`."""
        self.summary = summary
        self._take(snapshot)
        made = page(snapshot, summary, datetime.now().astimezone())
        with contextlib.suppress(OSError):
            write_whole(self._run.path / REPORT, made.encode("utf-8", "replace"))


@dataclass(frozen=True)
class FolderService:
    """Runs what waits in a folder; see `AppService`. Two services of one folder are equal."""

    folder: RunFolder

    async def serve(self, state: LoopaiState, app: Any) -> None:
        """See `AppService`."""
        await FolderWorker(self.folder, state, app).serve()


class FolderWorker:
    """Runs what waits in one folder, in this process, as long as the application runs."""

    def __init__(self, folder: RunFolder, state: LoopaiState, app: Any) -> None:
        self._folder = folder
        self._state = state
        self._app = app
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._left_alone: dict[str, float] = {}

    async def serve(self) -> None:
        """Claim and run until the application shuts down."""
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        closing = Stop()
        closing.on_request(woken.set)
        self._state.add_batch(closing)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(woken.set)

        forget = self._folder.listen(wake)
        swept = float("-inf")
        try:
            while not closing.requested:
                woken.clear()
                await self._look()
                if loop.time() > swept + SWEEP_EVERY:
                    swept = loop.time()
                    await self._try(self._folder.sweep)
                # A timer, because `wait_for` would cancel what it waits for.
                timer = loop.call_later(LOOK_EVERY, woken.set)
                await woken.wait()
                timer.cancel()
            # Each run has its own `Stop`, which a shutdown also calls.
            while self._at_work:
                await asyncio.wait(self._at_work.values())
        finally:
            forget()
            self._state.remove_batch(closing)
            left = list(self._at_work.values())
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _look(self) -> None:
        """Start waiting runs, as many as may be active."""
        while True:
            now = asyncio.get_running_loop().time()
            self._left_alone = {name: until for name, until in self._left_alone.items() if until > now}
            busy = frozenset(self._at_work) | frozenset(self._left_alone)
            claimed: Optional[Claimed] = await self._try(partial(self._folder.claim, busy))
            if claimed is None:
                return
            name = claimed.run.id
            task = asyncio.get_running_loop().create_task(self._carry_out(claimed))
            self._at_work[name] = task
            task.add_done_callback(partial(self._over, name))

    def _over(self, name: str, task: asyncio.Task[None]) -> None:
        self._at_work.pop(name, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("run %s: it could not be kept how it ended", name, exc_info=task.exception())
            self._left_alone[name] = asyncio.get_running_loop().time() + TRY_AGAIN_AFTER[0]
        # Another run can start.
        self._folder.wake()

    async def _try(self, work: Any) -> Any:
        try:
            return await in_thread(work)
        except (OSError, FolderFull) as error:
            logger.warning("the folder of runs %s: %s", self._folder.path, error)
        except Exception:  # logged with its traceback; the next attempt may succeed
            logger.exception("the folder of runs %s", self._folder.path)
        return None

    async def _carry_out(self, claimed: Claimed) -> None:
        run, record = claimed.run, claimed.record
        try:
            if run.cancelled:
                await in_thread(_ended, run, record, "cancelled", None, None)
                return
            try:
                client = client_of(self._app, self._state, record.alias)
            except ConfigurationError as error:
                # The run belongs to another application that shares the folder.
                logger.error("run %s: %s", run.id, error)
                self._left_alone[run.id] = asyncio.get_running_loop().time() + TRY_AGAIN_AFTER[0]
                return
            await self._run(run, record, client)
        finally:
            claimed.let_go()

    async def _run(self, run: StoredRun, record: RunRecord, client: Any) -> None:
        mode = await in_thread(_begin, run, record)
        before = record.ok + record.doubtful + record.errors
        stop, watcher = Stop(), RunWatcher(run)
        self._state.add_batch(stop)
        watching = asyncio.ensure_future(_stop_when_cancelled(run, stop))
        try:
            if not record.members:
                record.members = await _members(client, record.task, stop)
                await in_thread(run.write, record)
            summary = await client.run_batch(
                record.task,
                SpoolSource(run.path / ROWS, record.rows, self._folder.flaws.get(record.router)),
                run.path / OUTPUT,
                mode=mode,
                # Rows are identified by their lines; duplicate keys were detected during the upload.
                allow_duplicates=True,
                stop=stop,
                watchers=[watcher],
                **record.options,
            )
        except asyncio.CancelledError:
            await in_thread(_put_back, run, record, "shutdown", None, None)
            raise
        except LoopaiException as error:
            ended = watcher.summary.ended if watcher.summary is not None else None
            refused = ended == FATAL or (ended is None and isinstance(error, _REFUSALS))
            problem = problem_of(error)[0]
            logger.warning("run %s: %s %s", run.id, type(error).__name__, error)
            if refused:
                await in_thread(_ended, run, record, "stopped", "refused", problem.detail, watcher.figures)
                return
            await in_thread(self._wait_for_server, run, record, problem.detail, before)
        except (OutputError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            full = isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}
            logger.error("run %s: %s", run.id, error)
            reason: Reason = "disk_full" if full else "fault"
            told = "The disk is full: resume the run once there is room" if full else "The output cannot be written"
            await in_thread(_ended, run, record, "stopped", reason, told, watcher.figures)
        except Exception as error:  # logged with its traceback, and shown in the run's status
            logger.error("run %s: %s %s", run.id, type(error).__name__, error, exc_info=error)
            told = "The application failed: see its log"
            await in_thread(_ended, run, record, "stopped", "fault", told, watcher.figures)
        else:
            await in_thread(_settle, run, record, summary, watcher.figures)
        finally:
            watching.cancel()
            self._state.remove_batch(stop)

    def _wait_for_server(self, run: StoredRun, record: RunRecord, told: str, before: int) -> None:
        found = run.folder.recorded(run)
        # Rows have finished meanwhile, so the server was reachable.
        attempts = 0 if found.ok + found.doubtful + found.errors > before else record.attempts
        record.attempts = attempts + 1
        seconds = TRY_AGAIN_AFTER[min(attempts, len(TRY_AGAIN_AFTER) - 1)]
        _put_back(run, record, UNREACHABLE, told, self._folder.clock() + seconds)


async def _members(client: Any, task: str, stop: Stop) -> list[str]:
    """Return the members of the task's outputs; none if the run is stopped before the server replies."""
    asking = asyncio.ensure_future(client.get_task(task))
    forget = stop.on_request(asking.cancel)
    try:
        if stop.requested:
            asking.cancel()
        await asyncio.wait({asking})
    finally:
        forget()
        asking.cancel()
    return [] if asking.cancelled() else members_of(asking.result().output_schema)


async def _stop_when_cancelled(run: StoredRun, stop: Stop) -> None:
    while not run.cancelled:  # noqa: ASYNC110  # another process may do that
        await asyncio.sleep(CANCEL_SEEN_WITHIN)
    stop.grace = 0.0
    stop()


def _begin(run: StoredRun, record: RunRecord) -> Any:
    """Record that the run is active, and return the mode in which it continues."""
    found = run.folder.recorded(run)
    mode = "continue"
    if record.again_as is not None:
        # Only once: rows that fail again are not repeated.
        mode = "retry_failed" if found.generation < record.again_as else "continue"
    record.state, record.reason, record.error, record.not_before = "running", None, None, None
    record.ok, record.doubtful, record.errors = found.ok, found.doubtful, found.errors
    record.executions += 1
    run.write(record)
    return mode


def _settle(run: StoredRun, record: RunRecord, summary: Summary, figures: Figures) -> None:
    """Record how a run ended."""
    if summary.ended == TOO_MANY_ERRORS:
        _ended(run, record, "stopped", "max_errors", "More rows have failed than max_errors allows", figures)
    elif summary.ended == INTERRUPTED and run.cancelled:
        _ended(run, record, "cancelled", None, None, figures)
    elif summary.ended == INTERRUPTED:
        _put_back(run, record, "shutdown", None, None)
    else:
        _ended(run, record, "finished", None, None, figures)


def _ended(
    run: StoredRun,
    record: RunRecord,
    state: Any,
    reason: Optional[Reason],
    told: Optional[str],
    figures: Optional[Figures] = None,
) -> None:
    found = run.folder.recorded(run)
    record.state, record.reason, record.error, record.not_before = state, reason, told, None
    record.ok, record.doubtful, record.errors = found.ok, found.doubtful, found.errors
    record.figures = figures or record.figures
    record.ended, record.attempts = run.folder.clock(), 0
    run.end(record)


def _put_back(
    run: StoredRun, record: RunRecord, reason: Reason, told: Optional[str], not_before: Optional[float]
) -> None:
    record.state, record.reason, record.error, record.not_before = "waiting", reason, told, not_before
    run.write(record)
