"""Primary keys as texts and back: what a run remembers of where it is. Only equality counts, never an order.

How a database orders texts and UUIDs is its own affair (collation, byte order); a run goes by the order in which the
database gave keys.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import models

from ...exceptions import ConfigurationError

INTEGER = "integer"
UUID_KEY = "uuid"
STRING = "string"

_KINDS = ((models.UUIDField, UUID_KEY), (models.IntegerField, INTEGER), (models.CharField, STRING))


def kind_of(model: type[models.Model]) -> str:
    """The kind of a model's primary key. Raises `ConfigurationError` for one that rows cannot be paged by."""
    field: Any = model._meta.pk
    while field is not None and field.is_relation:
        field = field.target_field
    for kind, name in _KINDS:
        if isinstance(field, kind):
            return name
    raise ConfigurationError(
        f"{model._meta.label}: rows are paged by a primary key of integers, UUIDs or texts, not {type(field).__name__}"
    )


def to_text(value: Any) -> str:
    """A key as it is kept."""
    return str(value)


def from_text(kind: str, text: str) -> Any:
    """A key as the database takes it."""
    if kind == INTEGER:
        return int(text)
    return UUID(text) if kind == UUID_KEY else text
