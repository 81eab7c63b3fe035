"""Clean outcomes, write them to rows and record them, in one transaction. Engines decide which rows run, and when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Optional

from django.db import connections, transaction
from django.db.models import F
from pydantic_core import to_json

from ....batch.reporting.quality import Expectation
from ....batch.rows import CANCELLED, DOUBTFUL, OK, UNCERTAIN, Outcome
from ..models import BatchPart, BatchRun
from .bulk_update import Change, empty, update
from .database import is_of_a_row, is_of_code, told
from .queryset import KeyedRow, QuerysetRows
from .recording import By, LeaseLost, record_chunk, record_retried
from .statistics import counted, failed_rows_of
from .targets import Target, Unfit

Pair = tuple[Outcome, Change]


class OutcomeWriter:
    """Writes outcomes to rows, and finds the row that the database refuses. A subclass records them.

    `_kept` of a subclass opens the transaction, and calls `_cleaned` and `_write`.
    """

    def __init__(self, rows: QuerysetRows, targets: Sequence[Target], only_empty: bool, using: str) -> None:
        self._rows = rows
        self._targets = targets
        self._only_empty = only_empty
        self._using = using
        self._divides = False
        self._strange: Optional[type[Exception]] = None
        """The type of an exception raised by code, perhaps a field's: a row that raises it again fails."""
        self._blamed = False

    def _kept(self, ended: Sequence[Outcome], gone: Collection[str]) -> int:
        """Write and record in one transaction; return how many rows were deleted or filled meanwhile."""
        raise NotImplementedError

    def _read_again(self) -> None:
        """Reload state that the rolled back transaction had changed here."""

    def _once(self, ended: Sequence[Outcome], gone: Collection[str]) -> int:
        try:
            return self._kept(ended, gone)
        except Exception as error:
            if self._divides or isinstance(error, LeaseLost) or not (is_of_a_row(error) or is_of_code(error)):
                raise
            first = error
        # Rare, and the transaction was aborted: repeat it to find the refused row.
        self._divides, self._blamed = True, False
        self._strange = None if is_of_a_row(first) else type(first)
        for target in self._targets:
            target.forget()
        self._read_again()
        missed = self._kept(ended, gone)
        if self._strange is not None and not self._blamed:
            raise first  # no single row caused it: a timeout, for example
        return missed

    def _cleaned(self, outcomes: Sequence[Outcome]) -> list[Pair]:
        pairs: list[Pair] = []
        for outcome in outcomes:
            if outcome.status == DOUBTFUL:
                outcome.fail(f"confidence {outcome.confidence:.3f}: {to_json(outcome.output).decode()}", UNCERTAIN)
            if outcome.status != OK:
                continue
            try:
                values = [target.value(outcome) for target in self._targets]
            except Unfit as error:
                outcome.fail(str(error))
            except Exception as error:
                if type(error) is not self._strange:
                    raise
                self._blame(outcome, error)
            else:
                pairs.append((outcome, (_row(outcome).pk, values)))
        return pairs

    def _write(self, pairs: Sequence[Pair]) -> int:
        return self._divided(pairs) if self._divides else self._written(pairs)

    def _written(self, pairs: Sequence[Pair]) -> int:
        if not pairs:
            return 0
        changes = [change for _, change in pairs]
        fields = [target.field for target in self._targets]
        guarded = self._only_empty
        if guarded and len({field.model for field in fields}) > 1:
            # Each table's UPDATE only sees its own fields.
            there = self._there([pk for pk, _ in changes])
            changes, guarded = [change for change in changes if change[0] in there], False
        if not changes:
            return len(pairs)
        missed = len(pairs) - update(self._using, self._rows.model, fields, changes, guarded)
        self._check_constraints()
        return missed

    def _check_constraints(self) -> None:
        """Check deferred constraints here, if a refused row is being searched or no commit follows."""
        connection: Any = connections[self._using]
        if connection.vendor != "postgresql":
            return
        if self._divides:
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        elif len(connection.savepoint_ids) > 0:
            connection.check_constraints()

    def _divided(self, pairs: Sequence[Pair]) -> int:
        """Like `_written`, but halve refused rows until the one that the database refuses is found."""
        try:
            with transaction.atomic(using=self._using):
                return self._written(pairs)
        except Exception as error:
            if not is_of_a_row(error) and type(error) is not self._strange:
                raise
            if len(pairs) == 1:
                self._blame(pairs[0][0], error)
                return 0
            middle = len(pairs) // 2
            return self._divided(pairs[:middle]) + self._divided(pairs[middle:])

    def _blame(self, outcome: Outcome, error: Exception) -> None:
        self._blamed = True
        outcome.fail(f"the {'field' if type(error) is self._strange else 'database'} refused the row: {told(error)}")

    def _there(self, pks: Sequence[Any], skip_locked: bool = False) -> set[Any]:
        """Return which of these rows exist (with `only_empty`: and are empty), locked until the transaction ends."""
        rows: Any = self._rows.model._base_manager.using(self._using).filter(pk__in=list(pks))
        for target in self._targets if self._only_empty else ():
            rows = rows.filter(empty(target.field))
        return set(rows.select_for_update(skip_locked=skip_locked).values_list("pk", flat=True))


class RowWriter(OutcomeWriter):
    """Writes the outcomes of one run, or of one part of it in a worker (`by`).

    The results of a part are counted, and compared with the expected ones.
    """

    def __init__(
        self,
        run: BatchRun,
        rows: QuerysetRows,
        targets: Sequence[Target],
        only_empty: bool,
        by: By,
        expectation: Optional[Expectation] = None,
    ) -> None:
        super().__init__(rows, targets, only_empty, run.database)
        self.run = run
        self._by = by
        self._expectation = expectation

    def write(self, outcomes: Sequence[Outcome], gone: Collection[str] = ()) -> int:
        """Write ok rows and record all; return how many rows were deleted or filled meanwhile.

        `gone` are keys of failed rows that were deleted. Results that do not fit, or are doubtful, become errors in
        `outcomes`; cancelled rows are unchanged. Temporary database failures are retried. Raises `LeaseLost`, with
        nothing written, if the run or part belongs to another process by now.
        """
        ended = [outcome for outcome in outcomes if outcome.status != CANCELLED]
        before: Any = True if isinstance(self._by, BatchPart) else self._recorded()
        skipped = self.run.skipped
        self._divides, self._strange = False, None

        def arrived() -> Optional[int]:
            self.run.refresh_from_db()
            return None if self._recorded() == before else self.run.skipped - skipped

        return self._rows.database.attempt(lambda: self._once(ended, gone), arrived)

    def _recorded(self) -> Any:
        """Return the state that only the transaction of these outcomes changes: the mark and counts, or the part."""
        if isinstance(self._by, BatchPart):
            return self._by.row().exists()
        run = self.run
        return run.mark, run.finished_ranges, run.ok, run.errors, run.skipped

    def _read_again(self) -> None:
        self.run.refresh_from_db()

    def _kept(self, ended: Sequence[Outcome], gone: Collection[str]) -> int:
        """Write and record in one transaction."""
        pairs = self._cleaned(ended)
        first = [pair for pair in pairs if not _row(pair[0]).retried]
        again = [pair for pair in pairs if _row(pair[0]).retried]
        missed = 0
        reads_first = bool(gone or again) or len({target.field.model for target in self._targets}) > 1
        with transaction.atomic(using=self.run.database):
            if reads_first and connections[self.run.database].vendor == "sqlite":
                # SQLite refuses to write after a read if another process wrote in between.
                self.run.row().update(state=F("state"))
            if gone or any(_row(outcome).retried for outcome in ended):
                missed = self._record_retried(ended, again, gone)
            if not isinstance(self._by, BatchPart) or not self._by.failed:
                missed_first = self._write(first)
                self._record(ended, missed_first)
                missed += missed_first
        return missed

    def _record(self, ended: Sequence[Outcome], missed: int) -> None:
        by = self._by
        rows = sorted((outcome for outcome in ended if not _row(outcome).retried), key=lambda one: one.row.line or 0)
        if isinstance(by, BatchPart):
            ok = sum(outcome.status == OK for outcome in rows) - missed
            figures = counted(self.run, self._expectation, rows)
            failures = failed_rows_of(rows, self._expectation)
            record_chunk(
                self.run, by.after, by.upto, by=by, ok=ok, failures=failures, skipped=missed, statistics=figures
            )
            return
        for span in _spans(rows):
            ok = sum(outcome.status == OK for outcome in span)
            # The rows are unknown but not their number, so the run's counts are right in any case.
            gone = min(ok, missed)
            missed -= gone
            failures = failed_rows_of(span)
            record_chunk(
                self.run, _row(span[0]).after, span[-1].key, by=by, ok=ok - gone, failures=failures, skipped=gone
            )

    def _record_retried(self, ended: Sequence[Outcome], pairs: Sequence[Pair], known_gone: Collection[str]) -> int:
        there = self._there([change[0] for _, change in pairs])
        self._write([pair for pair in pairs if pair[1][0] in there])
        rows = [outcome for outcome in ended if _row(outcome).retried]
        gone = {outcome.key for outcome, change in pairs if change[0] not in there}
        record_retried(
            self.run,
            by=self._by,
            ok=[outcome.key for outcome in rows if outcome.status == OK and outcome.key not in gone],
            failures=failed_rows_of(rows, self._expectation),
            skipped={*gone, *known_gone},
            statistics=counted(self.run, self._expectation, rows) if isinstance(self._by, BatchPart) else None,
        )
        return len(gone)


def _row(outcome: Outcome) -> KeyedRow:
    row = outcome.row
    assert isinstance(row, KeyedRow)  # noqa: S101  # engines only make this type
    return row


def _spans(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """Group the outcomes by runs of consecutive rows."""
    spans: list[list[Outcome]] = []
    for outcome in outcomes:
        if spans and (outcome.row.line or 0) == (spans[-1][-1].row.line or 0) + 1:
            spans[-1].append(outcome)
        else:
            spans.append([outcome])
    return spans
