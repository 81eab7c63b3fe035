"""`enrich`: declare that a model's rows run through a task when they are saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, models

from ....batch.mapping import InputMapping
from ....exceptions import ConfigurationError
from .. import keys
from ..batches.queryset import QuerysetRows
from ..batches.targets import targets_of
from ..conf import DEFAULT_ALIAS
from ..models import PendingRow
from .declarations import ALWAYS, CELERY, EMPTY, INLINE, TASKS, WITHIN_SECONDS, Declaration, When, registry
from .saving import unwatch, watch


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

    A save that needs work adds an entry to a table, in its own transaction. `when` is `"empty"` (all targets are
    empty), `"always"`, or a function of instance and `created`. `engine` says what processes entries: `"inline"` (the
    saving thread, after the commit, for at most `within` seconds), `"celery"`, `"tasks"` (`django.tasks`), or `None`
    (only `manage.py loopai_batch --pending`, which also processes what the others leave). `mapping` and `save_to` are
    those of `loopai_batch`. The declaration's `name` is `task:targets` by default. It also covers the model's proxies
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
        raise ConfigurationError("enrich needs a mapping: it says which changed columns need a new run")
    if not save_to:
        raise ConfigurationError("enrich needs save_to: the fields that results are written to")
    keys.check(concrete)
    QuerysetRows(concrete._base_manager.all(), (), parts, DEFAULT_DB_ALIAS)
    targets = targets_of(save_to, concrete, when == EMPTY, DEFAULT_DB_ALIAS)
    named = name or f"{task}:{','.join(target.field.name for target in targets)}"
    if len(named) > PendingRow.LONGEST_NAME:
        raise ConfigurationError(f"enrich: the name {named!r} is too long; pass a name of at most 100 characters")
    sources = frozenset(path.split(".")[0].split("__")[0] for path in InputMapping(parts).sources)
    made = Declaration(
        concrete, task, tuple(parts), tuple(save_to), when, engine, named, alias, within, version, timeout_ms,
        targets=tuple(target.field for target in targets),
        sources=sources,
        mapped=tuple(item for item in concrete._meta.concrete_fields if sources & {item.name, item.attname}),
    )  # fmt: skip
    known = registry.get(named)
    if known is not None and known != made:
        raise ConfigurationError(f"enrich: {named!r} is declared twice, and differently; give one of them a name")
    if known is not None:
        return known
    registry[named] = made
    _connect(made)
    return made


def _covered(declaration: Declaration) -> Iterator[type[models.Model]]:
    """Return the model, its proxies, and the models that inherit its table."""
    for model in apps.get_models(include_auto_created=True):
        if issubclass(model, declaration.model):
            yield model


def _connect(declaration: Declaration) -> None:
    for model in _covered(declaration):
        watch(declaration, model)


def forget(declaration: Declaration) -> None:
    """Undo `enrich`, for example at the end of a test. Entries remain, and are not processed."""
    known = registry.pop(declaration.name, None)
    if known is not None:
        for model in _covered(known):
            unwatch(known, model)
