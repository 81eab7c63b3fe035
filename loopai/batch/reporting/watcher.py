"""What a watcher of a run is: told as rows end, and at the end. Bars and lines are in `progress`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..api import Run
    from .statistics import Summary


class Watcher(Protocol):
    """Is told how a run goes."""

    def update(self, run: Run) -> None:
        """Rows have ended, or time has passed; comes often."""

    def finish(self, run: Run, summary: Summary) -> None:
        """The run is over."""
