"""Where the outcomes of a part go: `RowStore` into the rows themselves, `FileStore` (in `segments`) into a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

from ....batch.rows import Outcome, Row
from ..models import BatchPart, BatchRun
from .results import Results
from .runs import Work
from .segments import FileStore
from .tallies import expectation_of

Store = Union["RowStore", FileStore]


def store_of(run: BatchRun, work: Work) -> Store:
    """The store of a run."""
    return RowStore(run, work) if work.plan.output is None else FileStore(run, work)


class RowStore:
    """Where the outcomes of a run's parts go if they are saved to its rows. What was failed rows are, is on record."""

    def __init__(self, run: BatchRun, work: Work) -> None:
        self._run = run
        self._rows = work.table
        self._results = Results(
            run, work.table, work.targets, work.plan.only_empty, expectation=expectation_of(work.plan)
        )
        self.units = work.plan.chunk_size
        """Failures that one part may repeat."""

    def failed(self, part: BatchPart, most: int) -> list[int]:
        """The failures in a part, by their keys."""
        found = self._failures().filter(pk__gt=int(part.after or 0), pk__lte=int(part.upto))
        return list(found.order_by("pk").values_list("pk", flat=True)[:most])

    def newest_failed(self) -> Optional[int]:
        """The last failure; `None` if there is none."""
        found: Optional[int] = self._failures().order_by("pk").values_list("pk", flat=True).last()
        return found

    def again(self, units: Sequence[int]) -> tuple[list[Row], list[str]]:
        """The rows of these failures as they run again, and the keys of those that are gone."""
        wanted = list(self._failures().filter(pk__in=units).order_by("pk").values_list("key", flat=True))
        there = self._rows.by_key(wanted)
        rows: list[Row] = [self._rows.row(there[key], 0, None, retried=True) for key in wanted if key in there]
        return rows, [key for key in wanted if key not in there]

    def keep(self, rows: Sequence[Row], outcomes: Sequence[Outcome], part: BatchPart, gone: Sequence[str]) -> None:
        """See `FileStore`."""
        self._results.keep(outcomes, part, gone)

    def _failures(self) -> Any:
        return self._run.failures.using(self._run.database)
