"""What a run is to be, from the flags to its `Plan`: checked, and completed from the task's schema."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from ....batch.mapping import InputMapping
from ....batch.option_names import OptionError
from ....batch.options import QUERYSET, RESULTS, ROWS, one_of, option
from ....batch.reporting.quality import Expectation
from ....batch.reporting.report import check_report
from ....shell.command import find_task
from ....shell.options import COMMANDS, CommandOptions
from .plans import OF_RUNS, Plan, default_mapping
from .rows import columns_of, model_of

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient

INLINE = "inline"
CELERY = "celery"


_OF_QUERYSETS = frozenset({QUERYSET})


@dataclass(frozen=True)
class RunOptions(CommandOptions):
    """The options of `loopai_batch`: those of `loopai batch`, and Django's own."""

    queryset: Optional[str] = option(
        None,
        "The rows of a model, or of what its manager's method returns.",
        metavar="APP.MODEL[:METHOD]",
        where=_OF_QUERYSETS,
        group=ROWS,
    )
    filters: Sequence[str] = option(
        (), "Only these rows; may be repeated.", metavar="FIELD=VALUE", flags=("--filter",), where=_OF_QUERYSETS,
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
        INLINE, "What runs it: inline (this process; files as well) or celery (workers; --queryset with --save-to).",
        read=one_of(INLINE, CELERY), metavar="ENGINE", where=COMMANDS,
    )  # fmt: skip
    alias: str = option("default", "Alias in the LOOPAI setting (default).", metavar="NAME", where=COMMANDS)
    database: str = option("default", "Database with the rows (default).", metavar="NAME", where=COMMANDS)
    command: Sequence[str] = ()


def plan_of(options: RunOptions, client: SyncLoopaiClient) -> Plan:
    """The plan, with the mapping that the task's schema suggests where a queryset has none.

    Raises `ConfigurationError`, and the `LoopaiException` where the server cannot be asked.
    """
    if options.engine == CELERY and options.output:
        raise OptionError(
            "{engine} celery cannot write {output}: save results to the rows with {save_to}, or use {engine} inline"
        )
    if bool(options.save_to) == bool(options.output) and not options.dry_run:
        raise OptionError("say where results go: {save_to} FIELD, or {output} FILE")
    if options.only_empty and not options.save_to:
        raise OptionError("{only_empty} needs {save_to}: it selects the rows whose fields are to be filled")
    if options.report is not None:
        check_report(options.report)
    model = model_of(options.queryset or "")  # said before the server is asked
    task = find_task(client, options.task)
    mapping = tuple(options.mapping or ())
    if not mapping:
        without = [text.partition("=")[0].strip() for text in options.save_to]
        if options.expect:
            without.append(Expectation(options.expect).column)
        mapping = default_mapping(task.input_schema, columns_of(model), without)
    shared = {name: getattr(options, name) for name in OF_RUNS}
    return Plan(
        **{**shared, "mapping": mapping},
        task=options.task,
        task_id=str(task.id),
        queryset=options.queryset or "",
        save_to=tuple(options.save_to),
        filters=tuple(options.filters),
        only_empty=options.only_empty,
        alias=options.alias,
        report=None if options.report is None else os.path.abspath(options.report),
    )


def header_of(plan: Plan) -> list[str]:
    """The columns of a queryset's rows in a file."""
    key = str(model_of(plan.queryset)._meta.pk.name)
    return list(dict.fromkeys([key, *InputMapping(plan.mapping).sources, *plan.also]))
