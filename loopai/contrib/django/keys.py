"""Primary keys as texts and back, to store the position of a run. Only equality matters, never an order.

Databases order texts and UUIDs differently (collation, byte order); a run uses the order in which the database returned
keys. The text is that of the column's value: a field may convert it (`from_db_value`, prefixed ids).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Callable
from uuid import UUID

from django.db import connection, models

from ...exceptions import ConfigurationError

Model = Any

_KINDS: tuple[tuple[type[models.Field], Callable[[str], Any]], ...] = (
    (models.UUIDField, UUID),
    (models.IntegerField, int),
    (models.CharField, str),
)


@cache
def _key(model: Model) -> tuple[Any, Callable[[str], Any]]:
    """Return the field with the key's values, and the function that reads its column's text."""
    field: Any = model._meta.pk
    while field is not None and field.is_relation:
        field = field.target_field
    column = getattr(models, field.get_internal_type(), None) if field is not None else None
    for kind, read in _KINDS:
        if isinstance(field, kind) or (isinstance(column, type) and issubclass(column, kind)):
            return field, read
    raise ConfigurationError(
        f"{model._meta.label}: rows are paged by a primary key of integers, UUIDs or texts, not {type(field).__name__}"
    )


def check(model: Model) -> None:
    """Raise `ConfigurationError` for a model whose rows cannot be paged by primary key."""
    _key(model)


def to_text(model: Model, value: Any) -> str:
    """Return a key as it is stored."""
    field, _ = _key(model)
    return str(field.get_prep_value(value) if hasattr(field, "from_db_value") else value)


def from_text(model: Model, text: str) -> Any:
    """Return a key as the model's value."""
    field, read = _key(model)
    value = read(text)
    return field.from_db_value(value, None, connection) if hasattr(field, "from_db_value") else value
