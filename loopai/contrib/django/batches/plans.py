"""`Plan`: what a run is, as its `BatchRun` keeps it. Nothing is looked up or sent here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Optional

from ....batch.engine.chunks import BatchCall
from ....batch.engine.scheduler import Limits
from ....batch.reporting.quality import Expectation
from ....exceptions import ConfigurationError
from ..models import BatchRun


@dataclass(frozen=True)
class Plan:
    """The options of a run, checked for themselves and plain enough for JSON.

    `queryset` is `app.Model` or `app.Model:manager_method`; `filters` are texts `field=value`, `mapping` those of
    `InputMapping`, `save_to` of `Target`. `task_id` is the server's id, `task` what the user called it. `report` is
    where workers write the page about the run. Raises `ConfigurationError`.
    """

    task: str
    task_id: str
    queryset: str
    save_to: tuple[str, ...] = ()
    mapping: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    only_empty: bool = False
    chunk_size: int = 100
    max_concurrency: int = 10
    max_in_flight: int = 4
    timeout_ms: Optional[int] = None
    version: Optional[int] = None
    max_errors: Optional[str] = None
    limit: Optional[int] = None
    alias: str = "default"
    expect: Optional[str] = None
    report: Optional[str] = None

    def __post_init__(self) -> None:
        for name in ("save_to", "mapping", "filters"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.max_errors is not None:
            object.__setattr__(self, "max_errors", str(self.max_errors))
        if self.limit is not None and self.limit < 1:
            raise ConfigurationError(f"--limit must be a whole number from 1, not {self.limit}")
        self.limits()
        self.call()

    @classmethod
    def of(cls, run: BatchRun) -> Plan:
        """What the run was made for."""
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in run.options.items() if name in known})

    def options(self) -> dict[str, Any]:
        """As a run keeps it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def fingerprint(self) -> str:
        """Of what makes a run the same run: task, rows, mapping, targets; not of how it is cut up."""
        return BatchRun.fingerprint_of(
            task=self.task_id,
            version=self.version,
            queryset=self.queryset,
            filters=sorted(self.filters),
            mapping=sorted(self.mapping),
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

    def limits(self, max_in_flight: Optional[int] = None) -> Limits:
        """How the run is cut up."""
        return Limits(self.chunk_size, max_in_flight or self.max_in_flight, max_errors=self.max_errors)

    def call(self) -> BatchCall:
        """What each request says beside its rows."""
        return BatchCall(self.task_id, self.max_concurrency, self.timeout_ms, self.version)


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
        raise ConfigurationError(
            f"the rows have no column for {', '.join(lacking)} of the task's input: say --map {lacking[0]}=FIELD"
        )
    return tuple(f"{name}={name}" for name in found)
