"""A whole batch of which the database knows, from checked options to exit code: over a queryset, or in workers.

Flags are parsed by the management command; a file that this process runs by itself is `loopai.shell.command`'s.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from ....batch.api import Run, mode_of, perform
from ....batch.engine.reader import Reader, from_values
from ....batch.engine.scheduler import Scheduler
from ....batch.engine.stopping import Stop
from ....batch.reporting.quality import Expectation
from ....batch.reporting.statistics import Statistics, Summary
from ....batch.resume.checkpoint import Checkpoint
from ....batch.resume.prescan import Prescan
from ....batch.streams import sender
from ....shell.command import ALL_OK, PLANNED, BatchCommand, CommandResult
from ..models import BatchRun
from .following import CODES, follow
from .inline import carry_out
from .leases import owner_name
from .parts import WORKERS
from .planning import CELERY, INLINE, RunOptions, header_of, plan_of
from .plans import Plan
from .rows import Rows
from .runs import Work, open_run

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient

CANCELLED = 143
"""Exit code of a run that was cancelled in the admin: as if it had been terminated."""


class RunCommand(BatchCommand):
    """`manage.py loopai_batch --queryset`."""

    def __init__(self, options: RunOptions, client: SyncLoopaiClient, stderr: TextIO) -> None:
        super().__init__(options, client, stderr)
        self.options = options

    def run(self) -> int:
        """Do it, and give the exit code. Raises `ConfigurationError` and `LoopaiException`."""
        options = self.options
        self.check()
        mode = mode_of(options.resume, options.retry_failed, options.overwrite)
        plan = plan_of(options, self.client)
        work = Work(plan, options.database)
        if options.dry_run:
            return self.dry_run(plan, work.rows)
        if options.engine == CELERY:
            return self.by_celery(work, mode)
        if options.output is not None:
            return self.into_file(plan, work.rows, mode)
        return self.into_rows(work, mode)

    def dry_run(self, plan: Plan, rows: Rows) -> int:
        """Say what a run would do, and send and write nothing."""
        total = rows.queryset.count()
        total = total if plan.limit is None else min(total, plan.limit)
        self.plan(plan.task, plan.source, total, plan.chunk_size, plan.max_in_flight)
        for text in plan.save_to:
            name, sign, path = text.partition("=")
            self.say(f"{rows.model._meta.label}.{name} = {path if sign else f'output.{name}, or the whole output'}")
        code = self.show(rows.walk(rows.queryset, PLANNED, None))
        self.say("Nothing was sent or written (--dry-run).")
        return code

    # Into the rows

    def into_rows(self, work: Work, mode: str) -> int:
        """Carry the run out in this process."""
        options, owner = self.options, owner_name()
        run = open_run(work, mode, INLINE, owner, self.say, database=options.database, command=options.command)
        if run is None:
            return ALL_OK
        run.parts.using(options.database).all().delete()  # of another engine; what remains is told by the run itself

        def work_on(stop: Stop) -> CommandResult:
            made, summary = carry_out(
                run, work, self.client, owner, stop=stop, watchers=self.watchers(), expect=options.expect
            )
            return self.ending(run, summary, made, missed=made.missed, cancelled=run.cancel_requested)

        return self.carry_out(work_on)

    def by_celery(self, work: Work, mode: str) -> int:
        """Have workers carry the run out, and watch them."""
        from ...celery import WATCH_SECONDS, hand_over, look_after

        options = self.options
        run = open_run(work, mode, CELERY, WORKERS, self.say, database=options.database, command=options.command)
        if run is None:
            return ALL_OK
        look = [time.monotonic() + WATCH_SECONDS, run.done]
        gone = run.skipped

        def watch(run: BatchRun) -> None:
            if time.monotonic() >= look[0]:
                look_after(run, int(look[1]))
                look[:] = [time.monotonic() + WATCH_SECONDS, run.done]

        def work_on(stop: Stop) -> CommandResult:
            hand_over(run, work)
            made, summary = follow(run, work.plan, self.watchers(), stop, watch)
            missed = run.skipped - gone
            ending = self.ending(run, summary, made, missed=missed, cancelled=run.state == BatchRun.State.CANCELLED)
            # Its times are those at work, whichever commands it took.
            ending.shown = replace(summary, seconds=run.active_seconds)
            if summary.ended in CODES:
                ending.stopped, ending.code = f"Stopped: {run.error}.", CODES[summary.ended]
            return ending

        return self.carry_out(work_on, go_on="The run goes on in Celery's workers: cancel it in the admin.")

    def ending(self, run: BatchRun, summary: Summary, made: Run, *, missed: int = 0, cancelled: bool) -> CommandResult:
        """How a run that the database knows has ended."""
        filled = " or filled" if self.options.only_empty else ""
        return CommandResult(
            summary,
            made,
            run.errors,
            interrupted="Cancelled." if cancelled else "Interrupted.",
            interrupted_code=CANCELLED,
            notes=[f"{missed:,} rows were deleted{filled} meanwhile: skipped."] if missed else (),
            facts={"gone_or_filled": missed},
        )

    # Into a file

    def into_file(self, plan: Plan, rows: Rows, mode: str) -> int:
        """Write rows and results to a file, with its journal beside it, as `loopai batch` does."""
        options = self.options
        key = str(rows.model._meta.pk.name)
        facts = {"task": plan.task_id, "input": {"name": plan.source}, "mapping": sorted(plan.mapping), "key": key}
        ledger = Checkpoint(
            str(options.output),
            options.output_format,
            facts,
            mode,
            header=header_of(plan),
            limit=plan.limit,
        )
        try:
            if ledger.finished:
                self.say(f"{ledger.name} is finished already: nothing was sent.")
                return ALL_OK
            return self._fill(plan, rows, key, ledger, facts)
        finally:
            ledger.close()

    def _fill(self, plan: Plan, rows: Rows, key: str, ledger: Checkpoint, facts: dict[str, Any]) -> int:
        options = self.options
        upper = rows.upper_key(rows.queryset, plan.limit)
        bounds = BatchRun(key_kind=rows.kind, upper_key=upper)
        queryset = bounds.remaining(rows.queryset) if upper is not None else rows.queryset.none()

        def named(values: Any) -> Any:
            for row in values:
                row.columns = {key: row.pk, **row.columns}
                yield row

        made = Run(
            plan.call(),
            named(rows.walk(queryset, plan.chunk_size, None)),
            Reader(from_values(None), ledger.journal),
            Scheduler(plan.limits()),
            Statistics(time.monotonic(), Expectation(options.expect) if options.expect else None),
            waits=False,
            ledger=ledger,
            prescan=Prescan(queryset.count(), []),
            watchers=self.watchers(),
            facts={"name": plan.task, **facts},
        )
        for columns in ledger.earlier() if options.report or options.expect else ():
            made.tally.add_earlier(columns)

        def work_on(stop: Stop) -> CommandResult:
            with sender(self.client, made.call, made.scheduler) as send:
                summary = perform(made, send, stop=stop)
            errors = ledger.journal.errors if ledger.journal is not None else summary.errors
            return CommandResult(summary, made, errors, facts={"gone_or_filled": 0})

        try:
            return self.carry_out(work_on)
        finally:
            made.reader.close()
