"""`enrich`: what is to be done with a model's rows when they are saved. Nothing is saved, sent or written here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Union

from django.apps import apps
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, models

from ....batch.mapping import InputMapping
from ....exceptions import ConfigurationError
from .. import keys
from ..batches.plan import Plan
from ..batches.queryset import QuerysetRows
from ..batches.targets import targets_of
from ..conf import DEFAULT_ALIAS
from ..models import PendingRow

EMPTY, ALWAYS = "empty", "always"
INLINE, CELERY, TASKS = "inline", "celery", "tasks"

WITHIN_SECONDS = 2.0
"""What one commit may cost its saver, whatever it has to carry out inline."""

When = Union[str, Callable[[Any, bool], bool]]


@dataclass(frozen=True)
class Declaration:
    """What `enrich` declared. Raises `ConfigurationError`."""

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

    @property
    def only_empty(self) -> bool:
        """Whether only rows are written whose targets are all empty."""
        return self.when == EMPTY

    def plan(self, task_id: str, active_version: Optional[int], database: str) -> Plan:
        """As a plan of the batch engine, whose request has all rows of one call."""
        return Plan(
            task=self.task, task_id=task_id, queryset=self.model._meta.label, mapping=self.mapping,
            save_to=self.save_to, only_empty=self.only_empty, alias=self.alias, database=database,
            version=self.version, timeout_ms=self.timeout_ms, active_version=active_version, max_in_flight=1,
        )  # fmt: skip


_declared: dict[str, Declaration] = {}


def enrich(
    model: type[models.Model],
    task: str,
    *,
    mapping: Union[Iterable[str], Mapping[str, str]],
    save_to: Sequence[str],
    when: When = EMPTY,
    engine: Optional[str] = INLINE,
    name: Optional[str] = None,
    alias: str = DEFAULT_ALIAS,
    within: float = WITHIN_SECONDS,
    version: Optional[int] = None,
    timeout_ms: Optional[int] = None,
) -> Declaration:
    """Declare that rows of a model run through a task when they are saved. Call it in `AppConfig.ready`.

    A save that needs work puts an entry into a table, in the saver's transaction. `when` is `"empty"` (all targets are
    empty), `"always"`, or a function of instance and `created`. `engine` says who carries entries out: `"inline"` (the
    saver, after the commit, for `within` seconds at most), `"celery"`, `"tasks"` (`django.tasks`), or `None` (only
    `manage.py loopai_batch --pending`, which takes what the others leave). `mapping` and `save_to` are those of
    `loopai_batch`. The declaration is known by its `name` (`task:targets` if not given), and covers the model's proxies
    and the models that inherit its table. Raises `ConfigurationError`.
    """
    if model._meta.abstract:
        raise ConfigurationError(f"enrich: {model.__name__} is abstract; declare each of its models")
    if not callable(when) and when not in {EMPTY, ALWAYS}:
        raise ConfigurationError(f"enrich: when must be 'empty', 'always' or a function, not {when!r}")
    if engine not in {INLINE, CELERY, TASKS, None}:
        raise ConfigurationError(f"enrich: engine must be 'inline', 'celery', 'tasks' or None, not {engine!r}")
    concrete: Any = model._meta.concrete_model
    parts = [f"{to}={path}" for to, path in mapping.items()] if isinstance(mapping, Mapping) else list(mapping)
    if not parts:
        raise ConfigurationError("enrich needs a mapping: it says which columns are worth a new run")
    if not save_to:
        raise ConfigurationError("enrich needs save_to: the fields that results are written to")
    keys.check(concrete)
    QuerysetRows(concrete._base_manager.all(), (), parts, DEFAULT_DB_ALIAS)
    targets = targets_of(save_to, concrete, when == EMPTY, DEFAULT_DB_ALIAS)
    named = name or f"{task}:{','.join(target.field.name for target in targets)}"
    if len(named) > PendingRow.LONGEST_NAME:
        raise ConfigurationError(f"enrich: the name {named!r} is too long; pass a name of at most 100 characters")
    made = Declaration(
        concrete, task, tuple(parts), tuple(save_to), when, engine, named, alias, within, version, timeout_ms,
        targets=tuple(target.field for target in targets),
        sources=frozenset(path.split(".")[0].split("__")[0] for path in InputMapping(parts).sources),
    )  # fmt: skip
    known = _declared.get(named)
    if known is not None and known != made:
        raise ConfigurationError(f"enrich: {named!r} is declared twice, and differently; give one of them a name")
    if known is not None:
        return known
    _declared[named] = made
    _connect(made)
    return made


def _covered(declaration: Declaration) -> Iterator[type[models.Model]]:
    """The model, its proxies, and the models that inherit its table."""
    for model in apps.get_models(include_auto_created=True):
        if issubclass(model, declaration.model):
            yield model


def _connect(declaration: Declaration) -> None:
    from .saving import watch

    for model in _covered(declaration):
        watch(declaration, model)


def forget(declaration: Declaration) -> None:
    """Undo `enrich`, as a test's end does. Entries stay, and nobody carries them out."""
    from .saving import unwatch

    known = _declared.pop(declaration.name, None)
    if known is not None:
        for model in _covered(known):
            unwatch(known, model)


def named(name: str) -> Declaration:
    """The declaration of that name. Raises `ConfigurationError`."""
    try:
        return _declared[name]
    except KeyError:
        known = ", ".join(_declared) or "none"
        raise ConfigurationError(f"enrich has no declaration {name!r} (declared: {known})") from None


def declared() -> list[Declaration]:
    """All declarations, each after those whose targets it maps."""
    made: list[Declaration] = []
    left = list(_declared.values())
    while left:
        free = [one for one in left if not any(other in left for other in before(one))]
        made += free or left  # a circle, which the check refuses
        left = [one for one in left if one not in made]
    return made


def before(declaration: Declaration) -> list[Declaration]:
    """The declarations whose results this one maps: on one row they run first."""
    return [
        one
        for one in _declared.values()
        if one is not declaration
        and one.model._meta.concrete_model is declaration.model
        and any(target.name in declaration.sources or target.attname in declaration.sources for target in one.targets)
    ]


def after(declaration: Declaration) -> list[Declaration]:
    """The declarations that map this one's results."""
    return [one for one in _declared.values() if declaration in before(one)]


def check_declarations(**_: Any) -> list[checks.CheckMessage]:
    """Two that write one target, and those that wait for each other."""
    found: list[checks.CheckMessage] = []
    writers: dict[Any, Declaration] = {}
    for one in _declared.values():
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
                    f"enrich: {one.name!r} waits for its own results: what it maps is made of what it writes.",
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
