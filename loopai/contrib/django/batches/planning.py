"""What a run is to be, from the flags to its `Plan`: checked, and completed from the task's schema."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

from ....batch.mapping import InputMapping
from ....batch.reporting.quality import Expectation
from ....batch.reporting.report import check_report
from ....exceptions import ConfigurationError
from ....shell.command import find_task
from .plans import Plan, default_mapping
from .rows import columns_of, model_of

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient

INLINE = "inline"
CELERY = "celery"


@dataclass
class RunOptions:
    """The flags of `loopai_batch --queryset`, by their names."""

    task: str
    queryset: str
    save_to: Sequence[str] = ()
    output: Optional[str] = None
    output_format: Optional[str] = None
    filters: Sequence[str] = ()
    map: Sequence[str] = ()
    only_empty: bool = False
    expect: Optional[str] = None
    report: Optional[str] = None
    chunk_size: int = 100
    max_concurrency: int = 10
    max_in_flight: int = 4
    timeout_ms: Optional[int] = None
    version: Optional[int] = None
    limit: Optional[int] = None
    max_errors: Optional[str] = None
    dry_run: bool = False
    resume: bool = False
    retry_failed: bool = False
    overwrite: bool = False
    engine: str = INLINE
    progress: str = "auto"
    json: bool = False
    grace: float = 30.0
    alias: str = "default"
    database: str = "default"
    command: list[str] = field(default_factory=list)


def plan_of(options: RunOptions, client: SyncLoopaiClient) -> Plan:
    """The plan, with the mapping that the task's schema suggests where a queryset has none.

    Raises `ConfigurationError`, and the `LoopaiException` where the server cannot be asked.
    """
    if options.engine == CELERY and options.output:
        raise ConfigurationError(
            "--engine celery cannot write --output: save results to the rows with --save-to, or use --engine inline"
        )
    if bool(options.save_to) == bool(options.output) and not options.dry_run:
        raise ConfigurationError("say where results go: --save-to FIELD, or --output FILE")
    if options.only_empty and not options.save_to:
        raise ConfigurationError("--only-empty says which rows --save-to is to fill")
    if options.report is not None:
        check_report(options.report)
    model = model_of(options.queryset)  # said before the server is asked
    task = find_task(client, options.task)
    mapping = tuple(options.map)
    if not mapping:
        without = [text.partition("=")[0].strip() for text in options.save_to]
        if options.expect:
            without.append(Expectation(options.expect).column)
        mapping = default_mapping(task.input_schema, columns_of(model), without)
    return Plan(
        task=options.task,
        task_id=str(task.id),
        queryset=options.queryset,
        save_to=tuple(options.save_to),
        mapping=mapping,
        filters=tuple(options.filters),
        only_empty=options.only_empty,
        chunk_size=options.chunk_size,
        max_concurrency=options.max_concurrency,
        max_in_flight=options.max_in_flight,
        timeout_ms=options.timeout_ms,
        version=options.version,
        max_errors=options.max_errors,
        limit=options.limit,
        alias=options.alias,
        expect=options.expect,
        report=None if options.report is None else os.path.abspath(options.report),
    )


def header_of(plan: Plan) -> list[str]:
    """The columns of a queryset's rows in a file."""
    key = str(model_of(plan.queryset)._meta.pk.name)
    return list(dict.fromkeys([key, *InputMapping(plan.mapping).sources, *plan.also]))
