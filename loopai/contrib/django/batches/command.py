"""A whole batch recorded in the database, from checked options to exit code: in this process or in workers.

The management command parses the flags; `loopai.shell.command` runs files in this process.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO
from uuid import UUID

from django.db.models import QuerySet

from ....batch.api import call_of, perform
from ....batch.engine.driver import Driver
from ....batch.engine.reader import Reader, from_values
from ....batch.engine.run import Run
from ....batch.engine.scheduler import Scheduler
from ....batch.engine.stopping import Stop
from ....batch.reporting.one_line import counted
from ....batch.reporting.snapshot import Snapshot
from ....batch.reporting.statistics import Statistics, Summary
from ....batch.resume.checkpoint import Checkpoint
from ....batch.resume.prescan import Prescan
from ....exceptions import RunInProgressError
from ....preparation import batch_sender
from ....shell.command import ALL_OK, CHECKED, BatchCommand, CommandResult
from ..models import BatchRun
from .inline import carry_out, open_inline
from .options import CELERY, RunOptions
from .plan import Plan, header_of, plan_of
from .queryset import QuerysetRows
from .run_lookup import ResolvedPlan, open_run

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient

CANCELLED = 143
"""Exit code of a run that was cancelled in the admin: that of SIGTERM."""


class RunCommand(BatchCommand):
    """`manage.py loopai_batch --queryset`."""

    def __init__(self, options: RunOptions, client: SyncLoopaiClient, stderr: TextIO) -> None:
        super().__init__(options, client, stderr)
        self.options = options

    def run(self) -> int:
        """Run, and return the exit code. Raises `ConfigurationError` and `LoopaiException`."""
        try:
            return self._run()
        except RunInProgressError as error:
            return self.in_progress(error)

    def _run(self) -> int:
        options = self.options
        self.check()
        mode = options.mode
        plan = plan_of(options, self.client)
        given = options.queryset if isinstance(options.queryset, QuerySet) else None
        resolved = ResolvedPlan(plan, options.database, given)
        if options.dry_run:
            return self.dry_run(plan, resolved.rows)
        if options.engine == CELERY:
            return self.by_celery(resolved, mode)
        if options.output is not None:
            return self.into_file(plan, resolved.rows, mode)
        return self.into_rows(resolved, mode)

    def dry_run(self, plan: Plan, rows: QuerysetRows) -> int:
        """Show what a run would do, without sending or writing."""
        total = rows.count(rows.queryset)
        total = total if plan.limit is None else min(total, plan.limit)
        self.plan(plan.task, plan.source, total, plan.chunk_size, plan.max_in_flight)
        for text in plan.save_to:
            name, sign, path = text.partition("=")
            self.say(f"{rows.model._meta.label}.{name} = {path if sign else f'output.{name}, or the whole output'}")
        code = self.show(rows.walk(rows.queryset, CHECKED, None), plan.task_id)
        self.say("Nothing was sent or written (--dry-run).")
        return code

    # Into the rows

    def into_rows(self, resolved: ResolvedPlan, mode: str) -> int:
        """Run in this process."""
        run = open_inline(resolved, mode, self.say, self.options.command)
        if run is None:
            return ALL_OK

        def work_on(stop: Stop) -> CommandResult:
            made, summary = carry_out(run, resolved, self.client, run.owner, stop=stop, watchers=self.watchers())
            ending = self.ending(run, summary, made.snapshot(), missed=made.missed, cancelled=run.cancel_requested)
            ending.error = made.scheduler.error
            return ending

        return self.carry_out(work_on)

    def by_celery(self, resolved: ResolvedPlan, mode: str) -> int:
        """Run in workers, and watch them."""
        from ...celery.monitor import CODES, follow
        from ...celery.partitions import WORKERS
        from ...celery.tasks import hand_over, look_after, refuse_unseen

        refuse_unseen(self.options.database)
        run = open_run(resolved, mode, CELERY, WORKERS, self.say, self.options.command)
        if run is None:
            return ALL_OK
        gone = run.skipped

        def work_on(stop: Stop) -> CommandResult:
            hand_over(run, resolved, watched=True)
            snapshot, summary = follow(run, resolved.plan, self.watchers(), stop, look_after, self.say)
            cancelled = run.state == BatchRun.State.CANCELLED
            ending = self.ending(run, summary, snapshot, missed=run.skipped - gone, cancelled=cancelled)
            # Its times cover the work itself, over all commands that ran it.
            ending.shown = replace(summary, seconds=run.active_seconds)
            if summary.ended in CODES:
                ending.stopped, ending.code = f"Stopped: {run.error}.", CODES[summary.ended]
            return ending

        return self.carry_out(work_on, go_on="The run continues in Celery's workers: cancel it in the admin.")

    def ending(
        self, run: BatchRun, summary: Summary, snapshot: Snapshot, *, missed: int, cancelled: bool
    ) -> CommandResult:
        """Return the result of a run that is recorded in the database."""
        filled = " or filled" if self.options.only_empty else ""
        were = "was" if missed == 1 else "were"
        notes = [f"{counted(missed, 'row')} {were} deleted{filled} meanwhile: skipped."] if missed else []
        facts: dict[str, Any] = {"gone_or_filled": missed}
        versions = run.options.get("versions") or ()
        if len(versions) > 1:
            notes.append(f"Rows ran on versions {', '.join(map(str, versions))} of the task.")
            facts["task_versions"] = list(versions)
        return CommandResult(
            summary,
            snapshot,
            run.errors,
            interrupted="Cancelled." if cancelled else "Interrupted.",
            interrupted_code=CANCELLED,
            notes=notes,
            members=facts,
        )

    # Into a file

    def into_file(self, plan: Plan, rows: QuerysetRows, mode: str) -> int:
        """Write rows and results to a file, with its journal beside it, as `loopai batch` does."""
        options = self.options
        key = str(rows.model._meta.pk.name)
        facts = {
            "task": plan.task_id,
            "task version": plan.version,
            "input": {"name": plan.source, "database": plan.database},
            "mapping": sorted(plan.mapping or ()),
            "key": key,
        }
        ledger = Checkpoint(
            str(options.output),
            options.output_format,
            facts,
            mode,
            header=header_of(plan),
            limit=plan.limit,
            nested=options.nested,
        )
        try:
            if ledger.finished:
                self.say(f"{ledger.name} is finished already: nothing was sent.")
                return ALL_OK
            return self._fill(plan, rows, key, ledger, facts)
        finally:
            ledger.close()

    def _fill(self, plan: Plan, rows: QuerysetRows, key: str, ledger: Checkpoint, facts: dict[str, Any]) -> int:
        options = self.options
        upper = rows.upper_key(rows.queryset, plan.limit)
        bounds = BatchRun(upper_key=upper)
        queryset = bounds.remaining(rows.queryset) if upper is not None else rows.queryset.none()

        def named(values: Any) -> Any:
            for row in values:
                plain = isinstance(row.pk, (int, str, UUID))
                row.columns = {key: row.pk if plain else str(row.pk), **row.columns}
                yield row

        made = Run(
            call_of(plan.task_id, plan),
            named(rows.walk(queryset, plan.chunk_size, None)),
            Reader(from_values(None), ledger.journal),
            Scheduler(plan),
            Statistics(time.monotonic(), plan.expectation),
            checkpoint=ledger,
            prescan=Prescan(rows.count(queryset), []),
            watchers=self.watchers(),
            facts={"name": plan.task, **facts},
        )
        for columns in ledger.earlier() if options.report or options.expect else ():
            made.statistics.add_earlier(columns)

        def work_on(stop: Stop) -> CommandResult:
            summary = perform(Driver(lambda _: made, batch_sender(self.client), stop, raises=False))
            errors = ledger.journal.errors if ledger.journal is not None else summary.errors
            return CommandResult(summary, made.snapshot(), errors, made.scheduler.error, members={"gone_or_filled": 0})

        try:
            return self.carry_out(work_on)
        finally:
            made.reader.close()
