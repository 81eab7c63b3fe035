"""One UPDATE for the results of a chunk. `row_writer` decides on rows and values.

Never an upsert: it would recreate a row that was deleted meanwhile. As with every bulk update, `save()` is not called
and no signals are sent; fields with `auto_now` are set.
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
"""Rows of one statement. The cost of a row falls little beyond a hundred, and a CASE searches all of them."""


def empty(field: Any) -> Q:
    """Return the rows in which a field is empty: NULL, or an empty text."""
    found = Q(**{f"{field.name}__isnull": True}) if field.null else Q()
    if isinstance(field, (models.CharField, models.TextField)):
        found |= Q(**{field.name: ""})
    return found or Q(pk__in=())


def update(using: str, model: type[models.Model], fields: Sequence[Any], changes: Sequence[Change],
           guarded: bool = False) -> int:  # fmt: skip
    """Write the changes. Return how many rows existed (and, if `guarded`, had all fields empty).

    A model with multi-table inheritance needs one statement for each table; the result is then their minimum.
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
    """The columns of one table to write, each with its position among the values; stamps are `auto_now` fields."""

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
    guard = "".join(f" AND {_empty_sql(field, table, quote)}" for _, field in table.columns) if guarded else ""
    statement = f"UPDATE {quote(table.model._meta.db_table)} SET {', '.join(sets)}{source}{guard}"  # noqa: S608  # names are the model's, quoted
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        count: int = cursor.rowcount
    return count


def _empty_sql(field: Any, table: _Table, quote: Any) -> str:
    column = f"{quote(table.model._meta.db_table)}.{quote(field.column)}"
    is_text = isinstance(field, (models.CharField, models.TextField))
    return f"({column} IS NULL OR {column} = '')" if is_text else f"{column} IS NULL"


def _is_array(field: Field[Any, Any], connection: Any) -> bool:
    """Return whether `unnest` would also split the field's values."""
    return str(field.rel_db_type(connection)).endswith("]")
