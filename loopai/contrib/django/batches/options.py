"""The options of `loopai_batch`: those of `loopai batch`, and those that only rows of a database have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ....batch.options import QUERYSET, RESULTS, ROWS, one_of, option
from ....shell.options import COMMANDS, CommandOptions

INLINE = "inline"
CELERY = "celery"

_OF_QUERYSETS = frozenset({QUERYSET})


@dataclass(frozen=True)
class RunOptions(CommandOptions):
    """The options of `loopai_batch`: those of `loopai batch`, and Django's own."""

    queryset: Optional[str] = option(
        None,
        "The rows of a model, or of what its manager's method returns.",
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
        "What runs it: inline (this process; files as well) or celery (workers; --queryset with --save-to).",
        read=one_of(INLINE, CELERY),
        metavar="ENGINE",
        where=COMMANDS,
    )
    alias: str = option("default", "Alias in the LOOPAI setting (default).", metavar="NAME", where=COMMANDS)
    database: str = option("default", "Database with the rows (default).", metavar="NAME", where=COMMANDS)
    command: Sequence[str] = ()
