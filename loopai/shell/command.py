"""A batch command, from checked options to the exit code. `loopai` and `manage.py` parse the flags.

`BatchCommand` is the base of all batch commands; `FileCommand` is `loopai batch`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Callable, Optional, TextIO, Union, cast

from ..batch.api import files_of, maker, mapping_of, open_file, perform, prepare
from ..batch.engine.driver import Driver
from ..batch.engine.run import Run
from ..batch.engine.stopping import Stop
from ..batch.formats.opening import FileSource
from ..batch.formats.sinks import NOTHING_KEPT
from ..batch.reporting.one_line import counted, one_line
from ..batch.reporting.progress import ProgressBar, watcher_for
from ..batch.reporting.report import check_report, write_report
from ..batch.resume.checkpoint import check_apart, check_output
from ..batch.resume.prescan import prescan
from ..batch.rows import Row
from ..exceptions import (
    ConfigurationError,
    ConnectionException,
    LoopaiException,
    NotFoundException,
    OptionError,
    OutputError,
    RunInProgressError,
    ServerException,
)
from ..modes import CONTINUE
from ..option_names import in_shell, spell, spelled
from ..preparation import batch_sender
from .exit_codes import (
    ALL_OK,
    FAILED_ROWS,
    LONGEST,
    LONGEST_NAME,
    SERVER_UNREACHABLE,
    STOPPED_BY_ERRORS,
    TO_RESUME,
    USAGE,
    CommandResult,
    told,
)
from .interrupts import Interrupts, interrupts
from .options import CommandOptions
from .text import failure, message_line, no_server

if TYPE_CHECKING:
    from ..client import SyncLoopaiClient
    from ..models import Task
    from ..programs.input_check import InputCheck

__all__ = [
    "ALL_OK",
    "FAILED_ROWS",
    "PLANNED",
    "SERVER_UNREACHABLE",
    "STOPPED_BY_ERRORS",
    "USAGE",
    "BatchCommand",
    "CommandOptions",
    "CommandResult",
    "FileCommand",
    "find_task",
    "refuse",
    "run_command",
    "told",
]

PLANNED = 3
"""Rows that `--dry-run` shows, in addition to the first that would fail."""

CHECKED = 1000
"""Rows that `--dry-run` checks against the task's input schema."""


def run_command(
    options: CommandOptions,
    client: SyncLoopaiClient,
    *,
    stdin: Optional[IO[bytes]] = None,
    stdout: Optional[IO[bytes]] = None,
    stderr: Optional[TextIO] = None,
) -> int:
    """Run a batch as the options say, and return the exit code.

    0 all rows ok · 1 finished with failed rows · 2 usage or configuration · 3 stopped by `max_errors` · 4 the server
    cannot be reached · 130 / 143 interrupted by SIGINT / SIGTERM, resumable. Rows go to `options.output` (to `stdout`
    for `-`); progress, summary and errors to `stderr`.
    """
    command = FileCommand(options, client, stderr)
    try:
        if options.edge:
            from .edge import at_edge

            command.client = at_edge(client)
        try:
            return command.run(stdin, stdout)
        except RunInProgressError as error:
            return command.in_progress(error)
    except (ConfigurationError, OutputError) as error:
        return command.fail(USAGE, spelled(error, in_shell))
    except LoopaiException as error:
        unreachable = isinstance(error, (ConnectionException, ServerException))
        return command.fail(SERVER_UNREACHABLE if unreachable else USAGE, no_server(client, error) or str(error))


def refuse(error: OptionError, as_json: bool, stderr: Optional[TextIO] = None) -> int:
    """Write an error about options, before a command is made of them, and return its exit code."""
    text = failure(USAGE, spelled(error, in_shell), as_json=as_json)
    print(text, file=stderr or sys.stderr, flush=True)  # the command's own output
    return USAGE


class BatchCommand:
    """What every batch command shares: messages, signals, progress, summary, report and exit code.

    It writes to `stderr`, by default the process's, where lines appear above a progress bar.
    """

    def __init__(self, options: CommandOptions, client: SyncLoopaiClient, stderr: Optional[TextIO] = None) -> None:
        self._shared = options
        self._stderr = stderr
        self.client = client
        self._drawn: list[ProgressBar] = []

    @property
    def stderr(self) -> TextIO:
        """Where messages are written."""
        # Looked up each time: while a bar is drawn, Rich replaces sys.stderr by a stream that writes above the bar.
        return self._stderr if self._stderr is not None else sys.stderr

    def check(self) -> None:
        """Raise `ConfigurationError` for a report that cannot be written."""
        if self._shared.report is not None:
            check_report(self._shared.report)

    def say(self, text: str) -> None:
        """Write a message for people; with `--json`, an object with the text as its `message`."""
        self._write(message_line(text) if self._shared.json else text)

    def _write(self, line: str) -> None:
        # The run continues when its messages are no longer read, as after `2>&1 | head`.
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self.stderr, flush=True)  # the command's own output

    def fail(self, code: int, text: str) -> int:
        """Write an error, and return its exit code."""
        self._write(failure(code, text, as_json=self._shared.json))
        return code

    def in_progress(self, error: RunInProgressError) -> int:
        """Return the exit code if another process is running the run: for `--continue` there is nothing to do.

        Raises the error otherwise.
        """
        if self._shared.mode != CONTINUE:
            raise error
        self.say(f"Nothing was started: {spelled(error, in_shell)}.")
        return ALL_OK

    def watchers(self, progress: Optional[str] = None) -> list[Any]:
        """Return what shows progress, as `--progress` (or `progress`) says; `carry_out` closes it."""
        kind = progress or self._shared.progress
        made = watcher_for("json" if self._shared.json and kind in {"auto", "plain"} else kind, self.stderr)
        self._drawn += [watcher for watcher in made if isinstance(watcher, ProgressBar)]
        return made

    def plan(self, task: str, source: str, rows: Optional[int], chunk_size: int, max_in_flight: int) -> None:
        """Write what a run would send."""
        number = "? rows" if rows is None else counted(rows, "row")
        self.say(f"Task {task} at {self.client.base_url}: {source}, {number}")
        if rows is not None:
            requests = -(-rows // chunk_size)
            self.say(
                f"{counted(requests, 'request')} of at most {counted(chunk_size, 'row')}, {max_in_flight} at a time"
            )

    def show(self, rows: Iterable[Row], task: str) -> int:
        """Write the input of the first rows and whether they fit the task, and return a dry run's exit code."""
        check = self._input_check(task)
        shown = bad = seen = 0
        for row in islice(rows, CHECKED if check is not None else PLANNED):
            seen += 1
            wrong = check.errors(row.input) if check is not None and row.error is None else []
            problem = row.error or "; ".join(f"{path}: {text}" for path, text in wrong[:3])
            bad += bool(problem)
            if shown < PLANNED or (problem and bad == 1):
                shown += 1
                text = row.error or json.dumps(row.input, ensure_ascii=False, default=str)
                text = f"{text} does not fit: {problem}" if wrong else text
                self.say(f"{one_line(row.key, LONGEST_NAME)}: {one_line(text, LONGEST)}")
        if check is not None:
            fits = "all fit" if not bad else f"{bad:,} cannot be read or do not fit"
            rows_checked = "1 row" if seen == 1 else f"{seen:,} rows"
            self.say(f"Checked the first {rows_checked} against the task's input schema: {fits}.")
        return FAILED_ROWS if bad else ALL_OK

    def _input_check(self, task: str) -> Optional[InputCheck]:
        """Return the check of rows; `None`, with a message, if they cannot be checked."""
        try:
            from ..programs.input_check import InputCheck, SchemaTooLarge
        except ImportError:
            self.say("Rows are not checked against the task's input schema, which needs: pip install jsonschema-rs")
            return None
        try:
            return InputCheck(find_task(self.client, task).input_schema)
        except (LoopaiException, SchemaTooLarge) as error:
            self.say(f"Rows are not checked against the task's input schema: {error}")
            return None

    def carry_out(self, work: Callable[[Stop], CommandResult], *, go_on: str = TO_RESUME) -> int:
        """Do the work while handling signals, write how it ended, and return the exit code.

        The first SIGINT or SIGTERM stops the work, which then ends as usual. The second one ends it at once, and
        `go_on` says how to continue. Raises what the work raises, and `OutputError` for the report after the summary
        was written.
        """
        stop = Stop(self._shared.grace)
        try:
            with interrupts(stop, self.say) as came:
                ending = work(stop)
        except KeyboardInterrupt:
            self._put_away()
            self.say(f"Ended at once. {go_on}")
            return came.exit_code
        finally:
            self._put_away()
        return self._end(ending, came)

    def _put_away(self) -> None:
        while self._drawn:
            self._drawn.pop().close()

    def _end(self, ending: CommandResult, came: Interrupts) -> int:
        report = self._shared.report
        problem: Optional[OutputError] = None
        if report is not None:
            try:
                write_report(report, ending.snapshot, ending.shown or ending.summary)
            except OutputError as error:
                problem = error
        self._tell(ending)
        if problem is not None:
            raise problem
        if report is not None and not self._shared.json:
            self.say(f"Report: {report}")
        return ending.exit_code(came)

    def _tell(self, ending: CommandResult) -> None:
        """Write the summary, as lines or as JSON."""
        summary = ending.summary
        if self._shared.json:
            self._write(json.dumps({"summary": {**summary.to_dict(), **ending.members}}, ensure_ascii=False))
            return
        for line in (*told(summary), *ending.notes):
            self.say(line)
        why = ending.why(str(self._shared.max_errors))
        if why is not None:
            self.say(f"{why} {ending.go_on}")
        elif ending.errors and ending.retry is not None:
            self.say(ending.retry)


class FileCommand(BatchCommand):
    """`loopai batch`: runs the rows of a file or of standard input."""

    def __init__(self, options: CommandOptions, client: SyncLoopaiClient, stderr: Optional[TextIO] = None) -> None:
        super().__init__(options, client, stderr)
        self.options = options

    def run(self, stdin: Optional[IO[bytes]], stdout: Optional[IO[bytes]]) -> int:
        """Run, and return the exit code. Raises `ConfigurationError`, `OutputError` and `LoopaiException`."""
        options = self.options
        self.check()
        if options.input in {None, "-"} and stdin is None and sys.stdin is None:
            raise ConfigurationError("standard input is closed; name a file")
        source = open_file(options.input or "-", options, stdin)
        to_stdout = options.output in {None, "-"}
        check_apart({**files_of(source, None if to_stdout else options.output, options.journal),
                     "the report": options.report})  # fmt: skip
        if options.dry_run:
            return self.dry_run(source)
        if to_stdout and stdout is None and sys.stdout is None:
            raise OptionError("standard output is closed; pass {output} FILE")
        path = None if to_stdout else Path(str(options.output))
        check_output(path, options.output_format, options.mode, cast("Optional[str]", options.journal))
        task = find_task(self.client, options.task)
        mapping_of(source, options)[0].check_schema(task.input_schema, source.header or ())
        task_id = str(task.id)
        if options.version is not None:
            self.check_version(task_id, options.version)
        output: Union[str, IO[bytes]] = options.output or "-"
        if to_stdout:
            output = stdout if stdout is not None else open(sys.stdout.fileno(), "wb", 0, closefd=False)  # noqa: SIM115
        # Rows and a progress bar on the same terminal would overwrite each other.
        quiet = to_stdout and options.progress == "auto" and self.stderr.isatty()
        watched = replace(options, watchers=self.watchers("none" if quiet else None))
        run = prepare(task_id, source, watched, output=output, report=options.report is not None)
        run.facts["name"] = options.task
        try:
            return self.perform(run)
        finally:
            run.close()

    def check_version(self, task_id: str, version: int) -> None:
        """Check that the task has that version: without it every row would fail."""
        try:
            self.client.get_artifact(task_id, version)
        except NotFoundException as error:
            raise OptionError(
                "{version}: task {name!r} has no version {number}: {problem}",
                name=self.options.task,
                number=version,
                problem=error,
            ) from None

    def dry_run(self, source: FileSource) -> int:
        """Write what a run would do, and send nothing."""
        options = self.options
        mapping, _ = mapping_of(source, options)
        key = cast("Optional[str]", options.key)
        rows = None
        if source.repeatable:
            rows = prescan(source, key, allow_duplicates=options.allow_duplicates, limit=options.limit).rows
        make = maker(source, key, mapping)
        self.plan(options.task, source.name, rows, options.chunk_size, options.max_in_flight)
        code = self.show((make(record, number) for number, record in enumerate(source, 1)), options.task)
        self.say("Nothing was sent (--dry-run).")
        return code

    def perform(self, run: Run) -> int:
        """Run, and write how it ended."""
        checkpoint = run.checkpoint
        if run.finished_before and checkpoint is not None:
            return self.finished(run, checkpoint.name)
        journal = checkpoint.journal if checkpoint is not None else None
        if checkpoint is not None and journal is not None and self.options.resumes:
            if not checkpoint.resumed and self.options.mode != CONTINUE:
                self.say(f"Nothing to resume at {journal.path}: starting from the first row.")
            if journal.dropped:
                self.say(f"{counted(journal.dropped, 'byte')} of an unfinished record were cut off the journal.")
        go_on = TO_RESUME if journal is not None else spell(NOTHING_KEPT, in_shell)

        def work(stop: Stop) -> CommandResult:
            driver = Driver(lambda _: run, batch_sender(self.client), stop, raises=False)
            summary = perform(driver)
            # Not the earlier journal: dropping rows replaces it.
            kept = checkpoint.journal if checkpoint is not None else None
            errors = run.statistics.errors if kept is None else kept.errors
            result = CommandResult(summary, run.snapshot(), errors, run.scheduler.error)
            return result if kept is not None else replace(result, go_on=go_on, retry=None)

        return self.carry_out(work, go_on=go_on)

    def finished(self, run: Run, name: str) -> int:
        """Nothing is left to send: compute accuracy and report from the existing rows."""
        options = self.options
        if not options.json:
            self.say(f"{name} is finished already: nothing was sent.")
            if options.report is None and options.expect is None:
                return ALL_OK
        return self._end(CommandResult(run.complete(), run.snapshot(), 0), Interrupts())


def find_task(client: SyncLoopaiClient, task: str) -> Task:
    """Return the task of that id or name. Raises `ConfigurationError` if it cannot be found."""
    try:
        return client.get_task(task)
    except NotFoundException as error:
        raise ConfigurationError(f"the server at {client.base_url} has no task {task!r}: {error}") from None
