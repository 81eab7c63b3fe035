"""`Run`: the state of one run, with its open files. `driver` and `scheduler` decide what happens next."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Final, Optional, Union

from ..formats.sinks import Sink
from ..formats.source import FromInput
from ..formats.spooled_rows import SpoolSource
from ..reporting.snapshot import Snapshot, Watcher
from ..reporting.statistics import Ended, Statistics, Summary, summary_of
from ..resume.checkpoint import Checkpoint
from ..resume.journal import FileJournal, Journal
from ..resume.prescan import Prescan
from ..rows import Outcome
from .chunks import BatchCall
from .reader import Reader
from .scheduler import Scheduler

FINISHED: Final = "finished"
FINISHED_BEFORE: Final = "finished_before"


@dataclass
class Run:
    """One run: where its rows come from, where outcomes go, and its progress.

    `reads_ahead`: `values` are read by us and not by the caller, in a thread if the run is asynchronous. `may_block`:
    reading them may wait for a writer (a pipe).
    """

    call: BatchCall
    values: Union[Iterable[Any], AsyncIterable[Any]]
    reader: Reader
    scheduler: Scheduler
    statistics: Statistics
    reads_ahead: bool = False
    may_block: bool = False
    checkpoint: Optional[Checkpoint] = None
    sink: Optional[Sink] = None
    journal: Optional[Journal] = None
    owns_journal: bool = False
    prescan: Optional[Prescan] = None
    watchers: Sequence[Watcher] = ()
    clock: Callable[[], float] = time.monotonic
    facts: dict[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished_before(self) -> bool:
        """Whether an earlier run has finished all rows."""
        return self.checkpoint is not None and self.checkpoint.finished

    @property
    def ahead(self) -> int:
        """Rows that may be read before they are wanted."""
        return self.scheduler.options.chunk_size * 2

    @property
    def total(self) -> Optional[int]:
        """The number of rows of the input, if it is known."""
        if isinstance(self.values, SpoolSource):
            return self.values.rows
        return self.prescan.rows if self.prescan is not None else None

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Make outcomes durable, then count them. Blocks; raises `OutputError`."""
        if self.checkpoint is not None:
            self.checkpoint.commit(outcomes)
        else:
            self.record(outcomes, self.sink.write(outcomes) if self.sink is not None else 0)
        self.statistics.add(outcomes, self.clock())

    def record(self, outcomes: Sequence[Outcome], length: int = 0) -> None:
        """Record in the journal that these rows have finished; `length` is the size of the output in bytes. Blocks."""
        if self.journal is not None:
            self.journal.record(outcomes, length)

    def snapshot(self) -> Snapshot:
        """Return the run's figures now."""
        now = self.clock()
        statistics, scheduler = self.statistics, self.scheduler
        pause = scheduler.throttle.paused_until - now
        fraction = getattr(self.values, "fraction", None)
        given = self.facts.get("input") or {}
        return Snapshot(
            ok=statistics.ok - statistics.earlier_ok,
            doubtful=statistics.doubtful - statistics.earlier_doubtful,
            errors=statistics.errors - statistics.earlier_errors,
            skipped=self.reader.skipped,
            total=self.total,
            seconds=max(0.0, now - statistics.started),
            in_flight=scheduler.in_flight,
            paused=pause if pause > 0 else None,
            last_error=scheduler.last_error,
            read=fraction() if callable(fraction) else None,
            statistics=statistics,
            name=self.facts.get("name"),
            task=self.facts.get("task"),
            source=given.get("name"),
            options=self.options,
        )

    def tell(self) -> None:
        """Call the watchers."""
        if self.watchers:
            snapshot = self.snapshot()
            for watcher in self.watchers:
                watcher.update(snapshot)

    def complete(self) -> Summary:
        """Finish the output of a run that is complete or was stopped. Blocks; raises `OutputError`."""
        ended: Ended = self.scheduler.stopped or FINISHED
        if ended == FINISHED and self.checkpoint is not None:
            self.checkpoint.finish({"ok": self.statistics.ok, "errors": self.statistics.errors})
        if self.finished_before:
            ended = FINISHED_BEFORE
        return summary_of(self.statistics, ended, self.reader.skipped, self.clock())

    def close(self) -> None:
        """Close the files. Blocks."""
        self.reader.close()
        if isinstance(self.values, FromInput):
            self.values.let_go()
        if self.checkpoint is not None:
            self.checkpoint.close()
        elif self.owns_journal and isinstance(self.journal, FileJournal):
            self.journal.close()
