"""What a watcher of a run is: told as rows end, and at the end. Bars and lines are in `progress`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .snapshot import Snapshot
    from .statistics import Summary


class Watcher(Protocol):
    """Is told how a run goes."""

    def update(self, snapshot: Snapshot) -> None:
        """Rows have ended, or time has passed; comes often."""

    def finish(self, snapshot: Snapshot, summary: Summary) -> None:
        """The run is over."""
