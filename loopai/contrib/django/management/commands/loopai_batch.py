"""`manage.py loopai_batch`: the flags. What a batch does with them is `batches.command`'s and `loopai.batch`'s."""

from __future__ import annotations

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections

from .....batch.formats.sinks import OutputError
from .....batch.reporting.progress import KINDS
from .....exceptions import ConfigurationError, ConnectionException, LoopaiException, ServerException
from .....shell.command import BatchOptions, run_command
from ...batches.command import RunCommand
from ...batches.planning import CELERY, INLINE, RunOptions
from ...clients import get_client
from ...conf import DEFAULT_ALIAS
from ...exits import FAILED, UNREACHABLE, USAGE
from ...models import LeaseLost

_OF_QUERYSETS = ("save_to", "filters", "only_empty")
_OF_FILES = (
    "id_field", "format", "delimiter", "quotechar", "escapechar", "encoding", "types", "journal", "allow_duplicates",
)  # fmt: skip


class Command(BaseCommand):
    """Runs rows through a task."""

    help = (
        "Run the rows of a queryset, or of a file, through a task. Results go into the rows (--save-to; signals and "
        "save() are passed over, auto_now fields are set) or to a file (--output). "
        "Exit code: 0 all rows ok, 1 finished with failed rows, 2 usage or configuration, 3 stopped by --max-errors, "
        "4 server unreachable, 130 / 143 interrupted or cancelled, resumable."
    )
    _command: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        add = parser.add_argument
        add("task", help="the task's name or id")
        add("input", nargs="?", metavar="INPUT", help="a .csv, .jsonl or .parquet file, also gzipped, or - "
            "for stdin (--engine inline)")  # fmt: skip
        rows = parser.add_argument_group("rows")
        add = rows.add_argument
        add(
            "--queryset",
            metavar="APP.MODEL[:METHOD]",
            help="the rows of a model, or of what its manager's method gives",
        )
        add("--filter", action="append", dest="filters", metavar="FIELD=VALUE", help="only these rows; may be repeated")
        add("--only-empty", action="store_true", help="only rows whose --save-to fields are all empty")
        add("--limit", type=int, metavar="N", help="at most so many rows")
        add("--id-field", metavar="FIELD", help="the column of a file that names a row")
        add("--allow-duplicates", action="store_true", help="let rows of a file share that name")
        add("--map", action="append", metavar="NAME=FIELD", help="a member of the input, and the column it is "
            "(default: all of a file, of a queryset what the task's input schema names); may be repeated")  # fmt: skip
        where = parser.add_argument_group("results")
        add = where.add_argument
        add("--save-to", action="append", metavar="FIELD[=PATH]", help="write the result's PATH "
            "(output.label, latency_ms) to this field of the row; may be repeated")  # fmt: skip
        add("-o", "--output", metavar="FILE", help="write rows and results here, - for stdout "
            "(--engine inline)")  # fmt: skip
        add("--expect", metavar="FIELD", help="the column with the right answer: reports accuracy")
        add("--report", metavar="FILE.html", help="write a page about the run")
        how = parser.add_argument_group("how it runs")
        add = how.add_argument
        add("--chunk-size", type=int, metavar="N", help="rows a request (100)")
        add("--max-concurrency", type=int, metavar="N", help="rows of a request that the server runs at a time (10)")
        add("--max-in-flight", type=int, metavar="N", help="requests under way at a time (4); with --engine "
            "celery as many as there are worker processes")  # fmt: skip
        add("--timeout-ms", type=int, metavar="MS", help="milliseconds a row may take (5000)")
        add("--task-version", type=int, metavar="N", help="this version of the task's program, not the active one")
        add("--max-errors", metavar="N|P%", help="stop above so many failed rows, or this share")
        add("--grace", type=float, metavar="SECONDS", help="how long what is under way may take after Ctrl-C (30)")
        add("--engine", choices=(INLINE, CELERY), default=INLINE, help="this process, or Celery's workers "
            "(--queryset with --save-to)")  # fmt: skip
        add("--progress", choices=KINDS, help="how progress is told on stderr (auto)")
        add("--json", action="store_true", help="the summary as JSON")
        add("--dry-run", action="store_true", help="say what would be sent, and send and write nothing")
        add("--alias", default=DEFAULT_ALIAS, help="alias in the LOOPAI setting")
        add("--database", default=DEFAULT_DB_ALIAS, help="the database with the rows")
        again = parser.add_argument_group("running it again").add_mutually_exclusive_group()
        add = again.add_argument
        add("--resume", action="store_true", help="go on where an earlier run ended")
        add("--retry-failed", action="store_true", help="go on, and repeat the rows that failed")
        add("--overwrite", action="store_true", help="begin anew")
        files = parser.add_argument_group("files")
        add = files.add_argument
        add("--journal", metavar="FILE", help="what to resume from (beside the output)")
        add("--format", metavar="KIND", help="of the input: csv, jsonl or parquet (by its name)")
        add("--output-format", metavar="KIND", help="csv, jsonl or parquet (by its name)")
        add("--delimiter", metavar="CHAR", help="of a CSV file (found)")
        add("--quotechar", metavar="CHAR", help="of a CSV file (found); '' for none")
        add("--escapechar", metavar="CHAR", help="of a CSV file that does not double its quotes")
        add("--encoding", metavar="NAME", help="of a CSV file (utf-8)")
        add("--type", action="append", dest="types", metavar="FIELD=TYPE", help="what a CSV column holds, if not text")

    def run_from_argv(self, argv: list[str]) -> None:
        """Also remembers what was typed: the admin shows it."""
        self._command = tuple(argv)
        super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, and exit with the run's code."""
        try:
            code = self._run(options) if options["queryset"] else self._file(options)
        except (ConfigurationError, ImproperlyConfigured, OutputError) as error:
            raise CommandError(str(error), returncode=USAGE) from error
        except (ConnectionException, ServerException) as error:
            raise CommandError(str(error), returncode=UNREACHABLE) from error
        except LoopaiException as error:
            raise CommandError(str(error), returncode=USAGE) from error
        except LeaseLost as error:
            raise CommandError(f"{error}: nothing more was written here", returncode=FAILED) from error
        except DatabaseError as error:
            raise CommandError(f"the database: {error} (go on with --resume)", returncode=FAILED) from error
        if code:
            sys.exit(code)

    def _run(self, options: dict[str, Any]) -> int:
        if options["input"] is not None:
            raise ConfigurationError("rows come from INPUT or from --queryset: name one of the two")
        _refuse(options, _OF_FILES, "is for files: a queryset has its fields and its primary key")
        if options["database"] not in connections:
            raise ConfigurationError(f"DATABASES has no {options['database']!r}: it has {', '.join(connections)}")
        known = RunOptions.__dataclass_fields__
        given = {name: options[name] for name in _SHARED if name in known and options[name] not in (None, ())}
        for name in ("save_to", "filters", "map"):
            given[name] = tuple(options[name] or ())
        if options["task_version"] is not None:
            given["version"] = options["task_version"]
        made = RunOptions(task=options["task"], command=list(self._command), **given)
        return RunCommand(made, get_client(options["alias"]), self._voice()).run()

    def _file(self, options: dict[str, Any]) -> int:
        _refuse(options, _OF_QUERYSETS, "needs --queryset: a file has no rows to write to or filter")
        if options["engine"] == CELERY:
            raise ConfigurationError(
                "--engine celery takes --queryset with --save-to; run a file with --engine inline, in one process"
            )
        names = (*_SHARED, *_OF_FILES)
        known = BatchOptions.__dataclass_fields__
        given = {name: options[name] for name in names if name in known and options[name] is not None}
        given["map"] = tuple(options["map"] or ())
        given["types"] = dict(_typed(text) for text in options["types"] or ())
        if options["task_version"] is not None:
            given["version"] = options["task_version"]
        made = BatchOptions(task=options["task"], input=options["input"] or "-", **given)
        return run_command(made, get_client(options["alias"]), stderr=self._voice())

    def _voice(self) -> Any:
        # Django's wrapper ends each write with a new line, and a bar is many writes.
        return getattr(self.stderr, "_out", self.stderr)


_SHARED = (
    "queryset", "output", "output_format", "only_empty", "expect", "report", "chunk_size", "max_concurrency",
    "max_in_flight", "timeout_ms", "limit", "max_errors", "dry_run", "resume", "retry_failed", "overwrite", "engine",
    "progress", "json", "grace", "alias", "database",
)  # fmt: skip


def _refuse(options: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if options[name] not in (None, False, []):
            flag = {"filters": "filter", "types": "type"}.get(name, name).replace("_", "-")
            raise ConfigurationError(f"--{flag} {why}")


def _typed(text: str) -> tuple[str, str]:
    name, sign, kind = text.rpartition("=")
    if not (name and sign and kind):
        raise ConfigurationError(f"--type {text!r} is not FIELD=TYPE")
    return name, kind
