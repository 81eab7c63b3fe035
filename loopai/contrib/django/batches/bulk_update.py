"""One UPDATE for the results of a chunk. Which rows and values these are is decided in `results`.

Never an upsert: it would bring back a row that was deleted meanwhile. Signals and `save()` are passed over, as by
every update of a set; fields with `auto_now` are set.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from django.db import connections, models
from django.db.models import Field, Q

Change = tuple[Any, Sequence[Any]]
"""A primary key and the values of the fields, as Python has them."""

MOST_AT_ONCE = 1000
"""Rows of one statement. What a row costs falls little beyond a hundred, and a CASE looks through all of them."""


def empty(field: Any) -> Q:
    """The rows in which a field holds nothing: NULL, or an empty text."""
    found = Q(**{f"{field.name}__isnull": True}) if field.null else Q()
    if isinstance(field, (models.CharField, models.TextField)):
        found |= Q(**{field.name: ""})
    return found or Q(pk__in=())


def update(using: str, model: type[models.Model], fields: Sequence[Any], changes: Sequence[Change],
           guarded: bool = False) -> int:  # fmt: skip
    """Write the changes; gives how many rows were there (and, where `guarded`, had all the fields empty).

    A model that inherits its tables has one statement a table; the number is then the smallest of theirs.
    """
    found = 0
    connection = connections[using]
    tables = _tables(model, fields)
    most = MOST_AT_ONCE
    if connection.features.max_query_params:
        most = min(most, (connection.features.max_query_params - 10) // (1 + 2 * len(fields)))
    for start in range(0, len(changes), most):
        part = changes[start : start + most]
        found += min(_update(connection, table, part, guarded) for table in tables)
    return found


class _Table:
    """The columns of one table that are written, each with its place among the values; stamps are `auto_now` fields."""

    def __init__(self, model: type[models.Model]) -> None:
        self.model = model
        self.key: Any = model._meta.pk
        self.columns: list[tuple[int, Any]] = []
        self.stamps: list[Any] = []


def _tables(model: type[models.Model], fields: Sequence[Any]) -> list[_Table]:
    tables: dict[type[models.Model], _Table] = {}
    for place, field in enumerate(fields):
        tables.setdefault(field.model, _Table(field.model)).columns.append((place, field))
    written = {field.attname for field in fields}
    for field in model._meta.concrete_fields:
        if getattr(field, "auto_now", False) and field.attname not in written:
            tables.setdefault(field.model, _Table(field.model)).stamps.append(field)
    return list(tables.values())


def _update(connection: Any, table: _Table, changes: Sequence[Change], guarded: bool) -> int:
    quote = connection.ops.quote_name
    keys = [table.key.get_db_prep_value(key, connection) for key, _ in changes]
    values = [
        [field.get_db_prep_save(change[place], connection) for _, change in changes] for place, field in table.columns
    ]
    stamps = [(field, field.get_db_prep_save(field.pre_save(SimpleNamespace(), False), connection))
              for field in table.stamps]  # fmt: skip
    key = f"{quote(table.model._meta.db_table)}.{quote(table.key.column)}"
    unnested = connection.vendor == "postgresql" and not any(_is_array(field, connection) for _, field in table.columns)
    sets: list[str] = []
    params: list[Any] = []
    for place, (_, field) in enumerate(table.columns):
        if unnested:
            sets.append(f"{quote(field.column)} = given.v{place}")
        else:
            # Without a type PostgreSQL takes parameters for texts.
            typed = f"::{field.rel_db_type(connection)}" if connection.vendor == "postgresql" else ""
            cases = f" WHEN %s THEN %s{typed}" * len(changes)
            sets.append(f"{quote(field.column)} = CASE {key}{cases} END")
            params += [item for pair in zip(keys, values[place]) for item in pair]
    sets += [f"{quote(field.column)} = %s" for field, _ in stamps]
    params += [value for _, value in stamps]
    if unnested:
        typed_fields = [table.key, *(field for _, field in table.columns)]
        arrays = ", ".join(f"%s::{field.rel_db_type(connection)}[]" for field in typed_fields)
        names = ", ".join(["key", *(f"v{place}" for place in range(len(values)))])
        source = f" FROM unnest({arrays}) AS given ({names}) WHERE {key} = given.key"
        params += [keys, *values]
    else:
        source = f" WHERE {key} IN ({', '.join(['%s'] * len(keys))})"
        params += keys
    guard = "".join(f" AND {empty_sql(field, quote)}" for _, field in table.columns) if guarded else ""
    statement = f"UPDATE {quote(table.model._meta.db_table)} SET {', '.join(sets)}{source}{guard}"  # noqa: S608  # names are the model's, quoted
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        count: int = cursor.rowcount
    return count


def empty_sql(field: Any, quote: Any) -> str:
    """As `empty`, in SQL."""
    column = f"{quote(field.model._meta.db_table)}.{quote(field.column)}"
    is_text = isinstance(field, (models.CharField, models.TextField))
    return f"({column} IS NULL OR {column} = '')" if is_text else f"{column} IS NULL"


def _is_array(field: Field[Any, Any], connection: Any) -> bool:
    """Whether `unnest` would take the field's values apart, too."""
    return str(field.rel_db_type(connection)).endswith("]")
