"""`Plan`: what a run is, as its `BatchRun` keeps it. Nothing is looked up or sent here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional

from ....batch.options import QUERYSET, BatchOptions, MaxErrors, table
from ....batch.reporting.quality import Expectation
from ....exceptions import OptionError
from ..models import BatchRun


@dataclass(frozen=True)
class Plan(BatchOptions):
    """The options of a run over a queryset, as its `BatchRun` keeps them. Raises `ConfigurationError`.

    `queryset` is `app.Model` or `app.Model:manager_method`; `filters` are texts `field=value`, `save_to` those of
    `Target`. `task_id` is the server's id, `task` what the user called it. `report` is where workers write the page
    about the run.
    """

    task: str = ""
    task_id: str = ""
    queryset: str = ""
    save_to: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    only_empty: bool = False
    alias: str = "default"
    report: Optional[str] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("save_to", "mapping", "filters"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        if self.limit == 0:
            raise OptionError("{limit} must be a whole number from 1, not 0")

    @classmethod
    def of(cls, run: BatchRun) -> Plan:
        """What the run was made for."""
        return cls(**{name: value for name, value in run.options.items() if name in KEPT})

    def kept(self) -> dict[str, Any]:
        """As a run keeps it: what JSON has."""
        values = {name: getattr(self, name) for name in KEPT}
        return {
            name: list(value) if isinstance(value, tuple) else str(value) if isinstance(value, MaxErrors) else value
            for name, value in values.items()
        }

    @property
    def fingerprint(self) -> str:
        """Of what makes a run the same run: task, rows, mapping, targets; not of how it is cut up."""
        return BatchRun.fingerprint_of(
            task=self.task_id,
            version=self.version,
            queryset=self.queryset,
            filters=sorted(self.filters),
            mapping=sorted(self.mapping or ()),
            save_to=sorted(self.save_to),
            only_empty=self.only_empty,
        )

    @property
    def also(self) -> tuple[str, ...]:
        """Columns that are read beside those of the input."""
        return (Expectation(self.expect).column,) if self.expect else ()

    @property
    def source(self) -> str:
        """The rows in words."""
        where = f" where {', '.join(self.filters)}" if self.filters else ""
        return f"{self.queryset}{where}"[:500]


OF_RUNS = tuple(name for name, info in table(BatchOptions) if QUERYSET in info.where and name != "mode")
"""The batch options that a run over a queryset has."""

KEPT = (*OF_RUNS, *(item.name for item in fields(Plan) if item.name not in BatchOptions.__dataclass_fields__))
"""What of a plan its run keeps."""


def default_mapping(input_schema: Any, columns: Iterable[str], without: Iterable[str]) -> tuple[str, ...]:
    """The mapping where none was given: the columns that the task's input schema names.

    Where the schema names no members, all columns but those in `without`. Raises `ConfigurationError` where there is
    none, or a required member has no column.
    """
    schema = input_schema if isinstance(input_schema, Mapping) else {}
    there = [name for name in columns if name not in set(without)]
    named = schema.get("properties")
    if not isinstance(named, Mapping) or not named:
        return tuple(f"{name}={name}" for name in there)
    missing = [name for name in schema.get("required") or () if name not in there]
    found = [name for name in named if name in there]
    if missing or not found:
        lacking = missing or list(named)
        raise OptionError(
            "the rows have no column for {names} of the task's input; pass {mapping} {first}=FIELD",
            names=", ".join(lacking),
            first=lacking[0],
        )
    return tuple(f"{name}={name}" for name in found)
