"""One UPDATE for the results of a chunk. `row_writer` decides on rows and values.

Never an upsert: it would recreate a row that was deleted meanwhile. As with every bulk update, `save()` is not called
and no signals are sent; fields with `auto_now` are set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from django.db import DataError, connections, models
from django.db.models import Field, Q
from django.db.models.sql import UpdateQuery

Change = tuple[Any, Sequence[Any]]
"""A primary key and the values of the fields, as Python has them."""

MOST_AT_ONCE = 1000
"""Rows in one statement. More than a hundred hardly lower the cost of a row, and a CASE searches all of them."""


MOST_BYTES = 1_000_000
"""Most bytes of values in one statement: servers have a limit, and hold the statement in memory."""

_MODIFIER = re.compile(r"\s*\([^()]*\)")
_UNLIMITED = {"char": "bpchar", "character": "bpchar", "bit": "varbit"}
"""PostgreSQL types whose default length is 1, and their equivalents of unlimited length."""


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
    for part in _parts(connection, changes, most):
        found += min(_update(connection, table, part, guarded) for table in tables)
    return found


def _parts(connection: Any, changes: Sequence[Change], most: int) -> Iterator[Sequence[Change]]:
    """Split the changes into parts of at most `most` rows and `MOST_BYTES`. Raises `DataError` for a larger row."""
    start = size = 0
    for place, (_, values) in enumerate(changes):
        added = sum(map(_bytes, values))
        if added > MOST_BYTES:
            _refuse_too_large(connection, added)
        if place > start and (place - start == most or size + added > MOST_BYTES):
            yield changes[start:place]
            start, size = place, 0
        size += added
    if start < len(changes):
        yield changes[start:]


def _bytes(value: Any) -> int:
    """Estimate how many bytes the value takes in a statement."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum(_bytes(name) + _bytes(item) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    return len(value) if isinstance(value, (bytes, memoryview)) else 8


def _refuse_too_large(connection: Any, size: int) -> None:
    """Raise `DataError` for MySQL, which drops a connection that sends too much, and with it the whole chunk."""
    if connection.vendor != "mysql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        (limit,) = cursor.fetchone()
    if size > limit:
        raise DataError(f"its values are {size:,} bytes, more than the server's max_allowed_packet of {limit:,}")


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
    placeholders = _Placeholders(connection, table.model)
    alone = len(changes) == 1
    unnested = (
        connection.vendor == "postgresql"
        and not alone  # planning a join would take longer than writing one row
        and not any(
            _is_array(field, connection) or not placeholders.are_plain(field, column)
            for (_, field), column in zip(table.columns, values)
        )
    )
    sets: list[str] = []
    params: list[Any] = []
    for place, (_, field) in enumerate(table.columns):
        if unnested:
            sets.append(f"{quote(field.column)} = given.v{place}")
        elif alone:
            sql, given = placeholders.of(field, values[place][0])
            sets.append(f"{quote(field.column)} = {sql}")
            params += given
        else:
            cases = ""
            for item, value in zip(keys, values[place]):
                sql, given = placeholders.of(field, value)
                cases += f" WHEN %s THEN {sql}"
                params += [item, *given]
            sets.append(f"{quote(field.column)} = CASE {key}{cases} END")
    sets += [f"{quote(field.column)} = %s" for field, _ in stamps]
    params += [value for _, value in stamps]
    if unnested:
        typed_fields = [table.key, *(field for _, field in table.columns)]
        arrays = ", ".join(f"%s::{_cast(field, connection)}[]" for field in typed_fields)
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


class _Placeholders:
    """The SQL placeholder of a value: a field may have its own expression, for example to encrypt the value."""

    def __init__(self, connection: Any, model: type[models.Model]) -> None:
        self._connection = connection
        self._compiler = UpdateQuery(model).get_compiler(connection=connection)

    def of(self, field: Any, value: Any) -> tuple[str, Sequence[Any]]:
        """Return the SQL and its parameters."""
        own = getattr(field, "get_placeholder_sql", None)
        if own is not None:
            sql, params = own(value, self._compiler, self._connection)
            return sql, params
        before = getattr(field, "get_placeholder", None)  # the name before Django 6.1
        if before is not None:
            return before(value, self._compiler, self._connection), (value,)
        # Without a type, PostgreSQL treats parameters as texts.
        typed = f"::{_cast(field, self._connection)}" if self._connection.vendor == "postgresql" else ""
        return f"%s{typed}", (value,)

    def are_plain(self, field: Any, values: Sequence[Any]) -> bool:
        """Whether the field has plain placeholders for these values."""
        if not hasattr(field, "get_placeholder_sql") and not hasattr(field, "get_placeholder"):
            return True
        return all(self.of(field, value)[0] in {"%s", "%b"} for value in values)


def _cast(field: Any, connection: Any) -> str:
    """PostgreSQL's type of a field without its length: a cast to a type with a length truncates values."""
    name = _MODIFIER.sub("", str(field.rel_db_type(connection)))
    return _UNLIMITED.get(name.lower(), name)


def empty_sql(field: Any, quote: Any) -> str:
    """Like `empty`, in SQL."""
    column = f"{quote(field.model._meta.db_table)}.{quote(field.column)}"
    is_text = isinstance(field, (models.CharField, models.TextField))
    return f"({column} IS NULL OR {column} = '')" if is_text else f"{column} IS NULL"


def _is_array(field: Field[Any, Any], connection: Any) -> bool:
    """Return whether `unnest` would also split the field's values."""
    return str(field.rel_db_type(connection)).endswith("]")
