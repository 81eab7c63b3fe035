"""What a run is to be, from the flags to its `Plan`: checked, with what is found in the task and in the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Optional

from ....batch.api import prepare
from ....batch.mapping import InputMapping
from ....batch.reporting.quality import Expectation
from ....batch.reporting.report import check_report
from ....batch.resume.prescan import prescan
from ....exceptions import ConfigurationError
from ....shell.command import find_task
from .files import GivenFile
from .outputs import kind_of
from .plans import Plan, default_mapping
from .rows import columns_of, model_of

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient

INLINE = "inline"
CELERY = "celery"


@dataclass
class RunOptions:
    """The flags of `loopai_batch`, by their names; rows come from `queryset`, or for workers from a file (`input`)."""

    task: str
    queryset: Optional[str] = None
    input: Optional[str] = None
    save_to: Sequence[str] = ()
    output: Optional[str] = None
    output_format: Optional[str] = None
    filters: Sequence[str] = ()
    map: Sequence[str] = ()
    only_empty: bool = False
    expect: Optional[str] = None
    report: Optional[str] = None
    id_field: Optional[str] = None
    format: Optional[str] = None
    delimiter: Optional[str] = None
    quotechar: Optional[str] = None
    escapechar: Optional[str] = None
    encoding: str = "utf-8"
    types: Mapping[str, str] = field(default_factory=dict)
    allow_duplicates: bool = False
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
    if bool(options.queryset) == bool(options.input):
        raise ConfigurationError("rows come from INPUT or from --queryset: name one of the two")
    if options.input and (options.save_to or options.filters or options.only_empty):
        raise ConfigurationError("--save-to, --filter and --only-empty need --queryset: a file has no rows to write to")
    if bool(options.save_to) == bool(options.output) and not options.dry_run:
        raise ConfigurationError("say where results go: --save-to FIELD, or --output FILE")
    if options.only_empty and not options.save_to:
        raise ConfigurationError("--only-empty says which rows --save-to is to fill")
    if options.report is not None:
        check_report(options.report)
    model = model_of(options.queryset) if options.queryset else None  # said before the server is asked
    output = options.output if options.engine == CELERY else None
    kind = None if output is None else kind_of(output, options.output_format)
    task = find_task(client, options.task)
    mapping = tuple(options.map)
    if model is not None and not mapping:
        without = [text.partition("=")[0].strip() for text in options.save_to]
        if options.expect:
            without.append(Expectation(options.expect).column)
        mapping = default_mapping(task.input_schema, columns_of(model), without)
    plan = Plan(
        task=options.task,
        task_id=str(task.id),
        queryset=options.queryset or "",
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
        output=None if output is None else os.path.abspath(output),
        output_format=kind,
    )
    if options.input is not None:
        return _over_file(options, plan)
    return plan if output is None else replace(plan, header=tuple(header_of(plan)))


def _over_file(options: RunOptions, plan: Plan) -> Plan:
    """The plan with its file, which is read through once for the number of rows, their columns and keys that recur."""
    path = "-" if options.input == "-" else os.path.abspath(str(options.input))
    file = GivenFile(
        path,
        options.format,
        options.id_field,
        options.delimiter,
        options.quotechar,
        options.escapechar,
        options.encoding,
        dict(options.types),
        options.allow_duplicates,
    )
    file.refuse_what_workers_cannot_read()
    source = file.open()
    if not source.repeatable:
        raise ConfigurationError(f"{path} can be read only once: name a file that all workers see")
    made = prepare(
        plan.call(),
        source,
        key=file.id_field,
        mapping=plan.mapping,
        expect=plan.expect,
        limits=plan.limits(),
        allow_duplicates=file.allow_duplicates,
        limit=plan.limit,
    )
    made.close()
    found = made.prescan or prescan(source, None, allow_duplicates=True, limit=plan.limit)
    seen = made.facts["input"]
    file = replace(file, rows=found.rows, bytes=seen["bytes"], digest=seen["digest"])
    return replace(plan, file=file, header=tuple(source.header or found.columns))


def header_of(plan: Plan) -> list[str]:
    """The columns of a queryset's rows in a file."""
    key = str(model_of(plan.queryset)._meta.pk.name)
    return list(dict.fromkeys([key, *InputMapping(plan.mapping).sources, *plan.also]))
