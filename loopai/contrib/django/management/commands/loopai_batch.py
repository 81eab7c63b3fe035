"""`manage.py loopai_batch`: the flags. `batches.command` and `loopai.batch` run the batch."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from .....batch.options import FILE, QUERYSET, table
from .....exceptions import (
    ConfigurationError,
    ConnectionException,
    LoopaiException,
    OptionError,
    OutputError,
    ServerException,
)
from .....option_names import in_shell, spelled
from .....shell.command import run_command
from .....shell.edge import at_edge
from .....shell.options import COMMANDS, MODE_ARGUMENTS, flags_of, options_of
from ...batches.command import RunCommand
from ...batches.database import not_migrated, told
from ...batches.options import CELERY, RunOptions
from ...batches.recording import LeaseLost
from ...clients import get_client
from ...enrichment.command import PendingCommand
from ...exits import DATABASE_FAILED, FAILED, UNREACHABLE, USAGE
from ...flags import add_flags
from ...in_shell import ShellCommand


class Command(ShellCommand):
    """Runs rows through a task."""

    help = (
        "Run the rows of a queryset, or of a file, through a task. Results are saved to the rows (--save-to; without "
        "signals and save(); auto_now fields are set) or written to a file (--output). "
        "Exit code: 0 all rows ok, 1 finished with failed rows, 2 usage or configuration, 3 stopped by --max-errors, "
        "4 server unreachable, 5 the database or the workers failed (--resume continues), "
        "130 / 143 interrupted or cancelled, resumable."
    )
    _command: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of the table."""
        parser.add_argument("task", nargs="?", help="the task's name or id")
        parser.add_argument(
            "input", nargs="?", metavar="INPUT",
            help="a .csv, .jsonl, .json, .parquet or .xlsx file, which may be compressed, or - for stdin",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="write everything on stderr as JSON lines")
        add_flags(parser, flags_of(RunOptions))
        pending = parser.add_argument_group("Rows queued by enrich")
        pending.add_argument(
            "--pending", nargs="?", const=True, metavar="NAME",
            help="Run the pending rows of enrich; with --retry-failed, also those that failed.",
        )  # fmt: skip
        pending.add_argument("--watch", action="store_true", help="Keep running until Ctrl-C or SIGTERM.")

    def run_from_argv(self, argv: list[str]) -> None:
        """See Django. Stores the command line, which the admin shows."""
        self._command = tuple(argv)
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run. Raises `CommandError` with the exit code as `returncode`; in a shell it is the process's exit code."""
        code = self._code(options)
        self.end(code, f"the batch ended with exit code {code}: {_ENDS.get(code, 'interrupted')}")

    def _code(self, options: dict[str, Any]) -> int:
        """Run, and return the exit code. Raises `CommandError` for an error that ended it early."""
        try:
            return self._run(options)
        except (ConfigurationError, ImproperlyConfigured, OutputError) as error:
            raise CommandError(spelled(error, in_shell), returncode=USAGE) from error
        except (ConnectionException, ServerException) as error:
            raise CommandError(str(error), returncode=UNREACHABLE) from error
        except LoopaiException as error:
            raise CommandError(str(error), returncode=USAGE) from error
        except LeaseLost as error:
            raise CommandError(f"{error}: nothing more was written here", returncode=FAILED) from error
        except DatabaseError as error:
            text, database = told(error), options.get("database") or DEFAULT_DB_ALIAS
            if not_migrated(error):
                other = "" if database == DEFAULT_DB_ALIAS else f" --database {database}"
                raise CommandError(
                    f"the database: {text} (run `manage.py migrate{other}` first)", returncode=USAGE
                ) from error
            raise CommandError(
                f"the database: {text} (run again with --resume to continue)", returncode=DATABASE_FAILED
            ) from error

    def _run(self, parsed: dict[str, Any]) -> int:
        if parsed.get("pending"):
            return self._carry_out_pending(parsed)
        if parsed.get("watch"):
            raise OptionError("{watch} needs {pending}")
        if parsed.get("task") is None:
            raise OptionError("name a task, or pass {pending}")
        known = {*MODE_ARGUMENTS, *RunOptions.__dataclass_fields__}
        given = {name: value for name, value in parsed.items() if name in known}
        for name, info in table(RunOptions):
            if info.repeated and isinstance(given.get(name), str):
                given[name] = [given[name]]  # `call_command` may pass a single text
        options = options_of(RunOptions, {**given, "command": self._command})
        client = get_client(options.alias)
        if options.validate_inputs:
            client = client.with_options(validate_inputs=True)
        if options.queryset is None:
            _refuse(parsed, QUERYSET, "{%s} needs {queryset}: a file has no rows to write to or filter")
            if options.engine == CELERY:
                raise OptionError("{engine} celery takes {queryset} with {save_to}; run a file with {engine} inline")
            return run_command(options, client, stderr=self.voice)
        if options.input is not None:
            raise OptionError("rows come from {input} or from {queryset}: pass one of the two")
        _refuse(parsed, FILE, "{%s} is for files: a queryset already has fields and a primary key")
        if options.database not in connections:
            raise ConfigurationError(f"DATABASES has no {options.database!r}; it has {', '.join(connections)}")
        if options.edge:
            client = at_edge(client)
        return RunCommand(options, client, self.voice).run()

    def _carry_out_pending(self, parsed: dict[str, Any]) -> int:
        known = {*MODE_ARGUMENTS, *RunOptions.__dataclass_fields__} - {"database", "retry_failed", "json"}
        for name in sorted(known):
            if parsed.get(name) not in (None, False, [], ()):
                raise OptionError(f"{{pending}} takes no {{{name}}}: declarations define what is run")
        using = parsed.get("database") or DEFAULT_DB_ALIAS
        if using not in connections:
            raise ConfigurationError(f"DATABASES has no {using!r}; it has {', '.join(connections)}")
        name = parsed["pending"]
        return PendingCommand(
            using, name if isinstance(name, str) else None, self.voice, as_json=bool(parsed["json"]),
            retry_failed=bool(parsed.get("retry_failed")), watch=bool(parsed.get("watch")),
        ).run()  # fmt: skip


_ENDS = {
    1: "rows failed",
    2: "wrong usage, or the server refused it",
    3: "more rows failed than --max-errors allows",
    4: "the server cannot be reached",
    5: "the database or the workers failed",
    130: "interrupted",
    143: "cancelled",
}


def _refuse(parsed: dict[str, Any], where: str, text: str) -> None:
    """Raise `OptionError` for an option that is only allowed there."""
    for name, info in table(RunOptions):
        if info.where & COMMANDS == {where} and parsed.get(name) not in (None, False, []):
            raise OptionError(text % name)
