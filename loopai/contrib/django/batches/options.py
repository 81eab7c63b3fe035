"""The options of `loopai_batch`: those of `loopai batch`, and those for rows of a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from django.db.models import QuerySet
from typing_extensions import TypedDict

from ....batch.options import QUERYSET, RESULTS, ROWS, one_of, option, table
from ....exceptions import ConfigurationError
from ....modes import MODE_FLAGS
from ....shell.options import COMMANDS, CommandOptions, mode_argument

INLINE = "inline"
CELERY = "celery"

_OF_QUERYSETS = frozenset({QUERYSET})


@dataclass(frozen=True)
class RunOptions(CommandOptions):
    """The options of `loopai_batch`: those of `loopai batch`, and Django's own."""

    queryset: Union[str, QuerySet[Any], None] = option(
        None,
        "The rows of a model, or those that its manager's method returns.",
        metavar="APP.MODEL[:MANAGER.METHOD]",
        where=_OF_QUERYSETS,
        group=ROWS,
    )
    filters: Sequence[str] = option(
        (), "Only these rows; may be repeated.", metavar="FIELD=VALUE", flags=("--filter",), where=_OF_QUERYSETS,
        group=ROWS, repeated=True,
    )  # fmt: skip
    excludes: Sequence[str] = option(
        (), "Not these rows; may be repeated.", metavar="FIELD=VALUE", flags=("--exclude",), where=_OF_QUERYSETS,
        group=ROWS, repeated=True,
    )  # fmt: skip
    only_empty: bool = option(False, "Only rows whose --save-to fields are all empty.", where=_OF_QUERYSETS, group=ROWS)
    save_to: Sequence[str] = option(
        (),
        "Write the result's PATH (output.label, latency_ms) to this field of the row; may be repeated.",
        metavar="FIELD[=PATH]",
        where=_OF_QUERYSETS,
        group=RESULTS,
        repeated=True,
    )
    engine: str = option(
        INLINE,
        "Where it runs: inline (this process; files too) or celery (workers; --queryset with --save-to).",
        read=one_of(INLINE, CELERY),
        metavar="ENGINE",
        where=COMMANDS,
    )
    alias: str = option("default", "Alias in the LOOPAI setting (default).", metavar="NAME", where=COMMANDS)
    database: str = option("default", "Database with the rows (default).", metavar="NAME", where=COMMANDS)
    validate_inputs: bool = option(
        False, "Check inputs against the task's schema before they are sent; invalid ones are not sent.", where=COMMANDS
    )
    command: Sequence[str] = ()


class QuerysetOptions(TypedDict, total=False):
    """Options of `start_batch` and `run_queryset` besides their parameters, as in the table of `loopai_batch`."""

    filters: Sequence[str]
    excludes: Sequence[str]
    only_empty: bool
    expect: Optional[str]
    report: Optional[str]
    limit: Optional[int]
    chunk_size: int
    max_in_flight: int
    max_concurrency: int
    max_errors: Union[int, str, None]
    min_confidence: Optional[float]
    timeout_ms: Optional[int]
    version: Optional[int]
    edge: bool
    validate_inputs: bool


_OF_THE_COMMAND = ("dry_run", "engine", "progress", "json", "grace", "command")

_OF_FILES = (
    "input",
    "output",
    "output_format",
    "nested",
    *(name for name, info in table(RunOptions) if QUERYSET not in info.where),
)


def refuse_unknown(function: str, names: Iterable[str]) -> None:
    """Raise `ConfigurationError` for an option that does not exist for querysets run from code."""
    given = set(names)
    for name in _OF_FILES:
        if name in given:
            raise ConfigurationError(
                f"{name}: {function} runs a queryset and saves to its rows (queryset, save_to); run a file with "
                "client.run_batch, or with the command `loopai batch`"
            )
    for name in _OF_THE_COMMAND:
        if name in given:
            raise ConfigurationError(f"{function} has no option {name!r}: it is for the command loopai_batch")
    for mode in MODE_FLAGS:
        if given & {mode, mode_argument(mode)}:
            raise ConfigurationError(f"{function} has no option {mode!r}; pass mode={mode!r}")
