"""The declarations of `enrich`: what happens to rows when they are saved. Nothing is sent or written here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

from django.core import checks
from django.db import models

from ....exceptions import ConfigurationError
from ..batches.plan import Plan
from ..conf import DEFAULT_ALIAS

EMPTY, ALWAYS = "empty", "always"
INLINE, CELERY, TASKS = "inline", "celery", "tasks"

WITHIN_SECONDS = 2.0
"""Default time limit of inline work for one commit, in seconds."""

When = Union[str, Callable[[Any, bool], bool]]


@dataclass(frozen=True)
class Declaration:
    """A declaration of `enrich`. Raises `ConfigurationError`."""

    model: type[models.Model]
    task: str
    mapping: tuple[str, ...]
    save_to: tuple[str, ...]
    when: When = EMPTY
    engine: Optional[str] = INLINE
    name: str = ""
    alias: str = DEFAULT_ALIAS
    within: float = WITHIN_SECONDS
    version: Optional[int] = None
    timeout_ms: Optional[int] = None
    targets: tuple[Any, ...] = field(default=(), compare=False)
    sources: frozenset[str] = field(default=frozenset(), compare=False)
    mapped: tuple[Any, ...] = field(default=(), compare=False)

    @property
    def only_empty(self) -> bool:
        """Whether only rows with all targets empty are written."""
        return self.when == EMPTY

    def plan(self, task_id: str, active_version: Optional[int], database: str) -> Plan:
        """Return a plan for the batch engine, with one request for all rows of a call."""
        return Plan(
            task=self.task, task_id=task_id, queryset=self.model._meta.label, mapping=self.mapping,
            save_to=self.save_to, only_empty=self.only_empty, alias=self.alias, database=database,
            version=self.version, timeout_ms=self.timeout_ms, active_version=active_version, max_in_flight=1,
        )  # fmt: skip


registry: dict[str, Declaration] = {}
"""All declarations by name; `enriching` adds them."""


def named(name: str) -> Declaration:
    """Return the declaration with that name. Raises `ConfigurationError`."""
    try:
        return registry[name]
    except KeyError:
        known = ", ".join(registry) or "none"
        raise ConfigurationError(f"enrich has no declaration {name!r} (declared: {known})") from None


def declared() -> list[Declaration]:
    """Return all declarations, each after those whose targets it maps."""
    made: list[Declaration] = []
    left = list(registry.values())
    while left:
        free = [one for one in left if not any(other in left for other in before(one))]
        made += free or left  # a cycle, which the check reports
        left = [one for one in left if one not in made]
    return made


def before(declaration: Declaration) -> list[Declaration]:
    """Return the declarations whose results this one maps: on the same row they run first."""
    return [
        one
        for one in registry.values()
        if one is not declaration
        and _have_one_key(one.model, declaration.model)
        and any(target in declaration.mapped for target in one.targets)
    ]


def _have_one_key(one: Any, other: Any) -> bool:
    """Whether the same key may identify a row of both models, because one inherits the other's table."""
    if one is other:
        return True
    child, parent = (one, other) if issubclass(one, other) else (other, one)
    return issubclass(child, parent) and child._meta.pk is child._meta.get_ancestor_link(parent)


def after(declaration: Declaration) -> list[Declaration]:
    """Return the declarations that map this one's results."""
    return [one for one in registry.values() if declaration in before(one)]


def check_declarations(**_: Any) -> list[checks.CheckMessage]:
    """Return declarations that write the same target, or wait for each other."""
    found: list[checks.CheckMessage] = []
    writers: dict[Any, Declaration] = {}
    for one in registry.values():
        for target in one.targets:
            other = writers.setdefault(target, one)
            if other is not one:
                found.append(
                    checks.Error(
                        f"enrich: {one.name!r} and {other.name!r} both write {target}.",
                        hint="Give each its own save_to.",
                        id="loopai.E006",
                    )
                )
        if any(one in _reached(source) for source in before(one)):
            found.append(
                checks.Error(
                    f"enrich: {one.name!r} waits for its own results: its mapping depends on what it writes.",
                    hint="Map columns that none of these declarations writes.",
                    id="loopai.E007",
                )
            )
    return found


def _reached(start: Declaration) -> list[Declaration]:
    found = [start]
    for one in found:
        found += [other for other in before(one) if other not in found]
    return found
