"""Outcomes into rows: cleaned, written and checkpointed in one transaction. What runs, and when, is the engines'."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Optional

from django.db import DataError, IntegrityError, connections, transaction
from django.db.models import F

from ....batch.reporting.quality import Expectation
from ....batch.rows import CANCELLED, ERROR, OK, Outcome
from ..models import BatchPart, BatchRun
from .rows import KeyedRow, Rows
from .tallies import counted, failures_of
from .targets import Target, Unfit
from .updates import Change, empty, update

UNFIT = "unfit"
"""`Outcome.code`: the result does not fit the row's field, or the database refused the row."""

_REFUSED = (DataError, IntegrityError, ValueError, OverflowError)
"""What a database says of a value; psycopg2 and sqlite3 say it with Python's own errors."""

Pair = tuple[Outcome, Change]


class Results:
    """Keeps the outcomes of one run, or of one part of it that was handed out.

    `owner` is the runner's where one process carries out the run, `part` the part otherwise; then what comes of it is
    counted beside, and compared with what is expected.
    """

    def __init__(
        self,
        run: BatchRun,
        rows: Rows,
        targets: Sequence[Target],
        only_empty: bool,
        owner: Optional[str] = None,
        expectation: Optional[Expectation] = None,
    ) -> None:
        self.run = run
        self._rows = rows
        self._targets = targets
        self._only_empty = only_empty
        self._owner = owner
        self._expectation = expectation

    def keep(self, outcomes: Sequence[Outcome], part: Optional[BatchPart] = None, gone: Collection[str] = ()) -> int:
        """Write what is ok and record all; gives how many rows were gone, or filled, meanwhile.

        `gone` are keys of failed rows that are no longer there. What does not fit becomes an error in `outcomes`;
        cancelled rows are left as they are. Raises `LeaseLost`, with nothing written, where the run or part is
        somebody else's by now.
        """
        self._rows.database.freshen()
        ended = [outcome for outcome in outcomes if outcome.status != CANCELLED]
        pairs = self._cleaned(ended)
        try:
            return self._kept(ended, pairs, part, gone, one_by_one=False)
        except _REFUSED:
            # Rare, and it aborted the transaction: once more, to find the row that is refused.
            self.run.refresh_from_db()
            return self._kept(ended, pairs, part, gone, one_by_one=True)

    def _cleaned(self, outcomes: Sequence[Outcome]) -> list[Pair]:
        pairs: list[Pair] = []
        for outcome in outcomes:
            if outcome.status != OK:
                continue
            try:
                values = [target.value(outcome) for target in self._targets]
            except Unfit as error:
                _spoil(outcome, str(error))
            else:
                pairs.append((outcome, (_row(outcome).pk, values)))
        return pairs

    def _kept(
        self,
        ended: Sequence[Outcome],
        pairs: Sequence[Pair],
        part: Optional[BatchPart],
        gone: Collection[str],
        *,
        one_by_one: bool,
    ) -> int:
        write = self._divided if one_by_one else self._written
        first = [pair for pair in pairs if not _row(pair[0]).retried]
        again = [pair for pair in pairs if _row(pair[0]).retried]
        missed = 0
        reads_first = bool(gone or again) or len({target.field.model for target in self._targets}) > 1
        with transaction.atomic(using=self.run.database):
            if reads_first and connections[self.run.database].vendor == "sqlite":
                # It refuses to write after a read, where another process wrote in between.
                BatchRun.objects.using(self.run.database).filter(pk=self.run.pk).update(state=F("state"))
            if gone or any(_row(outcome).retried for outcome in ended):
                missed = self._record_retried(ended, again, write, part, gone)
            if part is None or not part.failed:
                missed_first = write(first)
                self._record(ended, missed_first, part)
                missed += missed_first
        return missed

    def _written(self, pairs: Sequence[Pair]) -> int:
        if not pairs:
            return 0
        changes = [change for _, change in pairs]
        fields = [target.field for target in self._targets]
        guarded = self._only_empty
        if guarded and len({field.model for field in fields}) > 1:
            # Each table's UPDATE sees its own fields only.
            there = self._there([pk for pk, _ in changes])
            changes, guarded = [change for change in changes if change[0] in there], False
        if not changes:
            return len(pairs)
        return len(pairs) - update(self.run.database, self._rows.model, fields, changes, guarded)

    def _divided(self, pairs: Sequence[Pair]) -> int:
        """As `_written`, halving what the database refuses until one row is left to blame."""
        try:
            with transaction.atomic(using=self.run.database):
                return self._written(pairs)
        except _REFUSED as error:
            if len(pairs) == 1:
                _spoil(pairs[0][0], f"the database refused the row: {error}".strip())
                return 0
            middle = len(pairs) // 2
            return self._divided(pairs[:middle]) + self._divided(pairs[middle:])

    def _there(self, pks: Sequence[Any]) -> set[Any]:
        """Which of these rows are there (with `only_empty`: and empty), locked until the transaction ends."""
        rows: Any = self._rows.model._base_manager.using(self.run.database).filter(pk__in=list(pks))
        for target in self._targets if self._only_empty else ():
            rows = rows.filter(empty(target.field))
        return set(rows.select_for_update().values_list("pk", flat=True))

    def _record(self, ended: Sequence[Outcome], missed: int, part: Optional[BatchPart]) -> None:
        rows = sorted((outcome for outcome in ended if not _row(outcome).retried), key=lambda one: one.row.line or 0)
        if part is not None:
            ok = sum(outcome.status == OK for outcome in rows) - missed
            tally = counted(self.run, self._expectation, rows)
            failures = failures_of(rows, self._expectation)
            self.run.record_chunk(
                part.after, part.upto, ok=ok, failures=failures, skipped=missed, part=part, tally=tally
            )
            return
        for span in _spans(rows):
            ok = sum(outcome.status == OK for outcome in span)
            # The row is not known, its number is: the counts of the run are right, whichever span has it.
            gone = min(ok, missed)
            missed -= gone
            self.run.record_chunk(
                _row(span[0]).after,
                span[-1].key,
                ok=ok - gone,
                failures=failures_of(span),
                skipped=gone,
                owner=self._owner,
            )

    def _record_retried(
        self,
        ended: Sequence[Outcome],
        pairs: Sequence[Pair],
        write: Callable[[Sequence[Pair]], int],
        part: Optional[BatchPart],
        known_gone: Collection[str],
    ) -> int:
        there = self._there([change[0] for _, change in pairs])
        write([pair for pair in pairs if pair[1][0] in there])
        rows = [outcome for outcome in ended if _row(outcome).retried]
        gone = {outcome.key for outcome, change in pairs if change[0] not in there}
        self.run.record_retried(
            ok=[outcome.key for outcome in rows if outcome.status == OK and outcome.key not in gone],
            failures=failures_of(rows, self._expectation),
            skipped={*gone, *known_gone},
            owner=None if part is not None else self._owner,
            part=part,
            tally=None if part is None else counted(self.run, self._expectation, rows),
        )
        return len(gone)


def _row(outcome: Outcome) -> KeyedRow:
    row = outcome.row
    assert isinstance(row, KeyedRow)  # noqa: S101  # engines make no others
    return row


def _spoil(outcome: Outcome, reason: str) -> None:
    outcome.status, outcome.output, outcome.error, outcome.code = ERROR, None, reason, UNFIT


def _spans(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The outcomes in runs of rows that follow one another."""
    spans: list[list[Outcome]] = []
    for outcome in outcomes:
        if spans and (outcome.row.line or 0) == (spans[-1][-1].row.line or 0) + 1:
            spans[-1].append(outcome)
        else:
            spans.append([outcome])
    return spans
