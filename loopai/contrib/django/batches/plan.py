"""`Plan`: the options of a run as stored in its `BatchRun`, completed from the task's schema."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Optional

from django.db.models import QuerySet

from ...._core.missing import active_version
from ....batch.mapping import InputMapping
from ....batch.options import QUERYSET, BatchOptions, MaxErrors, table
from ....batch.reporting.report import check_report
from ....exceptions import OptionError
from ....shell.command import find_task
from .. import keys
from ..models import BatchRun
from .options import CELERY, RunOptions
from .queryset import columns_of, model_of, name_of

if TYPE_CHECKING:
    from ....client import SyncLoopaiClient


@dataclass(frozen=True)
class Plan(BatchOptions):
    """The options of a run over a queryset, as stored in its `BatchRun`. Raises `ConfigurationError`.

    `queryset` is `app.Model`, `app.Model:method` or `app.Model:manager.method`; `filters` and `excludes` are texts
    `field=value`, `save_to` those of `Target`. `task_id` is the server's id, `task` the name that the user gave.
    `report` is the file where workers write the run's report; `active_version` is used if no `version` is named. With
    `edge`, the process that has the rows runs the task's program; with `validate_inputs`, it checks inputs itself.
    """

    task: str = ""
    task_id: str = ""
    queryset: str = ""
    save_to: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    only_empty: bool = False
    alias: str = "default"
    database: str = "default"
    active_version: Optional[int] = None
    report: Optional[str] = None
    edge: bool = False
    validate_inputs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("save_to", "mapping", "filters", "excludes"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        if self.limit == 0:
            raise OptionError("{limit} must be a whole number from 1, not 0")

    @classmethod
    def of(cls, run: BatchRun) -> Plan:
        """Return the plan of a run."""
        return cls(**{name: value for name, value in run.options.items() if name in KEPT})

    def kept(self) -> dict[str, Any]:
        """Return the plan as JSON values, for storing in the run."""
        values = {name: getattr(self, name) for name in KEPT}
        return {
            name: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, MaxErrors) else value
            for name, value in values.items()
        }

    @property
    def fingerprint(self) -> str:
        """Return a digest of what identifies a run: task, rows, mapping and targets, but not chunk sizes."""
        return BatchRun.fingerprint_of(
            task=self.task_id,
            version=self.version,
            alias=self.alias,
            database=self.database,
            queryset=self.queryset,
            filters=sorted(self.filters),
            excludes=sorted(self.excludes),
            mapping=sorted(self.mapping or ()),
            save_to=sorted(self.save_to),
            only_empty=self.only_empty,
        )

    @property
    def also(self) -> tuple[str, ...]:
        """Columns to read in addition to those of the input."""
        return () if self.expectation is None else (self.expectation.column,)

    @property
    def source(self) -> str:
        """A description of the rows."""
        conditions = [*self.filters, *(f"not {text}" for text in self.excludes)]
        where = f" where {', '.join(conditions)}" if conditions else ""
        return f"{self.queryset}{where}"[:500]


OF_RUNS = tuple(name for name, info in table(BatchOptions) if QUERYSET in info.where and name != "mode")
"""The batch options of a run over a queryset."""

KEPT = (*OF_RUNS, *(item.name for item in fields(Plan) if item.name not in BatchOptions.__dataclass_fields__))
"""The parts of a plan that are stored in the run."""


def default_mapping(input_schema: Any, columns: Iterable[str], without: Iterable[str]) -> tuple[str, ...]:
    """Return the default mapping: the columns that the task's input schema names, without read-only members.

    If the schema names no members: all columns except those in `without`. Raises `ConfigurationError` if there is none,
    or a required member has no column.
    """
    schema = input_schema if isinstance(input_schema, Mapping) else {}
    there = [name for name in columns if name not in set(without)]
    named = schema.get("properties")
    if not isinstance(named, Mapping) or not named:
        return tuple(f"{name}={name}" for name in there)
    written = [name for name, part in named.items() if not (isinstance(part, Mapping) and part.get("readOnly") is True)]
    missing = [name for name in schema.get("required") or () if name not in there and name in written]
    found = [name for name in written if name in there]
    if missing or not found:
        lacking = missing or list(named)
        raise OptionError(
            "the rows have no column for {names} of the task's input; pass {mapping} {first}=FIELD",
            names=", ".join(lacking),
            first=lacking[0],
        )
    return tuple(f"{name}={name}" for name in found)


def plan_of(options: RunOptions, client: SyncLoopaiClient) -> Plan:
    """Return the plan, with the default mapping from the task's schema if it has none.

    Raises `ConfigurationError`, and `LoopaiException` if the task cannot be read.
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
    if isinstance(options.queryset, QuerySet) and options.engine == CELERY:
        raise OptionError(
            "{engine} celery takes {queryset} by name ('app.Model:method'), as workers have to find it; "
            "use {engine} inline for a QuerySet"
        )
    queryset = name_of("" if options.queryset is None else options.queryset, options.database)
    model = model_of(queryset)  # fail before a request is sent
    keys.check(model)
    task = find_task(client, options.task)
    mapping = tuple(options.mapping or ())
    if not mapping:
        without = [text.partition("=")[0].strip() for text in options.save_to]
        if options.expectation is not None:
            without.append(options.expectation.column)
        mapping = default_mapping(task.input_schema, columns_of(model), without)
    InputMapping(mapping).check_schema(task.input_schema)
    shared = {name: getattr(options, name) for name in KEPT if hasattr(options, name)}
    completed = {
        "mapping": mapping,
        "task_id": str(task.id),
        "queryset": queryset,
        "active_version": active_version(client.list_artifacts(task.id)) if options.version is None else None,
        "report": None if options.report is None else os.path.abspath(options.report),
    }
    return Plan(**{**shared, **completed})


def header_of(plan: Plan) -> list[str]:
    """Return the columns of a queryset's rows in a file."""
    key = str(model_of(plan.queryset)._meta.pk.name)
    return list(dict.fromkeys([key, *InputMapping(plan.mapping).sources, *plan.also]))
