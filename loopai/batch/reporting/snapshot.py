"""`Snapshot`: the figures of a run at one moment, for progress, report and admin. The same for all engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from .statistics import Statistics, Summary


@dataclass(frozen=True)
class Snapshot:
    """A run's figures at one moment.

    - `ok`, `doubtful`, `errors`: rows of this run.
    - `skipped`: rows that an earlier run has finished.
    - `total`: number of rows, if it is known; `read`: share of the input that was read, from 0 to 1.
    - `seconds`: working time; `paused`: seconds left of a pause that the server asked for.
    - `statistics`: latencies, kinds of errors and accuracy, including rows of earlier runs.
    - `options`: options that differ from their defaults.
    """

    ok: int
    errors: int
    skipped: int = 0
    total: Optional[int] = None
    seconds: float = 0.0
    in_flight: int = 0
    paused: Optional[float] = None
    last_error: Optional[str] = None
    read: Optional[float] = None
    statistics: Optional[Statistics] = None
    name: Optional[str] = None
    task: Optional[str] = None
    source: Optional[str] = None
    options: Mapping[str, Any] = field(default_factory=dict)
    doubtful: int = 0

    @property
    def done(self) -> int:
        """Rows that this run finished."""
        return self.ok + self.doubtful + self.errors

    @property
    def rate(self) -> float:
        """Rows per second of working time, without skipped rows."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def fraction(self) -> Optional[float]:
        """The share that is done, from 0 to 1; `None` if unknown."""
        return min(1.0, (self.done + self.skipped) / self.total) if self.total else self.read

    @property
    def left(self) -> Optional[float]:
        """Estimated seconds until the end; `None` if unknown."""
        if self.total is not None:
            rows = max(0, self.total - self.done - self.skipped)
            return rows / self.rate if self.rate > 0 else None
        if not self.read or self.skipped:
            return None
        return self.seconds * (1 - self.read) / self.read

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data; `left_s` is the estimated number of seconds left."""
        return {
            "done": self.done,
            "total": self.total,
            "ok": self.ok,
            "doubtful": self.doubtful,
            "errors": self.errors,
            "skipped": self.skipped,
            "rate": round(self.rate, 1),
            "in_flight": self.in_flight,
            "seconds": round(self.seconds, 1),
            "left_s": None if self.left is None else round(self.left, 1),
            "paused_s": None if self.paused is None else round(self.paused, 1),
            "last_error": self.last_error,
        }


class Watcher(Protocol):
    """Receives the figures of a run while it is in progress.

    With an attribute `counts_earlier` that is true, the statistics of a run that is resumed include its earlier rows.
    """

    def update(self, snapshot: Snapshot) -> None:
        """Called when rows have finished, or about a second has passed."""

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """Called when the run is over."""
