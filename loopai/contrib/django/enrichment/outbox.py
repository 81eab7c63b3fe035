"""The table of entries: added, claimed under a lease, returned. `carrying` runs the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from random import sample
from typing import Any, Optional

from django.db import connections, models, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import MD5, Cast, Concat, Replace
from django.utils import timezone

from ....batch.reporting.quality import storable
from .. import keys
from ..batches.bulk_update import empty, empty_sql
from ..batches.leases import LEASE_SECONDS
from ..batches.queryset import name_of
from ..models import PendingRow
from ..models.parts import LONGEST_MESSAGE
from .declarations import Declaration, before

AT_ONCE = 100
"""Entries that are processed with one call."""

LOOKED_AT = 500
"""Entries per query for missing rows: SQLite allows 999 parameters."""

PAUSES = (1, 5, 15, 60)
"""Minutes before each retry of an entry that could not be processed; the last value repeats."""

State = PendingRow.State

_FIELDS = [
    PendingRow._meta.get_field(name)
    for name in ("id", "declaration", "key", "revision", "state", "due_at", "tries", "owner", "lease_until", "code",
                 "message", "created_at")
]  # fmt: skip
_RENEWED = ("state", "due_at", "tries", "owner", "lease_until", "code", "message")
"""The fields that a save resets in an existing entry, so that a worker that claimed it loses it."""
_RETURNED = [PendingRow._meta.get_field(name).column for name in ("id", "revision")]


def key_of(declaration: Declaration, pk: Any) -> str:
    """Return the key of a row as its entry stores it: UUIDs without hyphens, as in some databases."""
    text = keys.to_text(declaration.model, pk)
    return text.replace("-", "") if _is_uuid(declaration) else text


def id_of(declaration: Declaration, key: str) -> str:
    """Return the id of a row's entry: a digest, because a collation may treat two keys as equal."""
    return hashlib.md5(f"{declaration.name}:{key}".encode(), usedforsecurity=False).hexdigest()


def _is_uuid(declaration: Declaration) -> bool:
    field: Any = declaration.model._meta.pk
    while field.is_relation:
        field = field.target_field
    return isinstance(field, models.UUIDField)


def entries(using: str) -> Any:
    """Return all entries of a database, regardless of routers."""
    return PendingRow.objects.using(using).order_by()


def put(wanted: Iterable[tuple[Declaration, Any]], using: str, owner: str = "") -> list[PendingRow]:
    """Add entries for declarations and keys of rows, or increment their revisions; return them in that order.

    This is part of the caller's transaction. With `owner` they are claimed at once, with the revisions from the
    database; only if `can_take_at_once`.
    """
    connection: Any = connections[using]
    now = timezone.now()
    lease = {"owner": owner, "lease_until": now + timedelta(seconds=LEASE_SECONDS)} if owner else {}
    made = []
    for declaration, pk in wanted:
        key = key_of(declaration, pk)
        entry_id = id_of(declaration, key)
        made.append(PendingRow(id=entry_id, declaration=declaration.name, key=key, due_at=now, created_at=now, **lease))
    # Sorted by id: two transactions that add several entries then cannot deadlock.
    ordered = sorted(made, key=lambda entry: entry.id)
    values = ", ".join([f"({', '.join(['%s'] * len(_FIELDS))})"] * len(made))
    params = [
        field.get_db_prep_save(getattr(entry, field.attname), connection) for entry in ordered for field in _FIELDS
    ]
    statement = _insert(connection, f"VALUES {values}")
    with connection.cursor() as cursor:
        if owner:
            cursor.execute(f"{statement} RETURNING {', '.join(map(connection.ops.quote_name, _RETURNED))}", params)
            revisions = dict(cursor.fetchall())
            for entry in made:
                entry.revision = revisions[entry.id]
        else:
            cursor.execute(statement, params)
    return made


def can_take_at_once(using: str) -> bool:
    """Return whether the database returns the result of an INSERT: MySQL does not."""
    features: Any = connections[using].features
    return bool(features.can_return_columns_from_insert)


def worth_it(declaration: Declaration, queryset: QuerySet[Any], using: str) -> Any:
    """Return the rows of a queryset that the declaration has work for. Raises `ConfigurationError`."""
    name_of(queryset, using)  # raises for a queryset without rows of its own
    model: Any = declaration.model
    rows = model._base_manager.using(using).filter(pk__in=queryset.using(using).order_by().values("pk")).order_by()
    for target in declaration.targets if declaration.only_empty else ():
        rows = rows.filter(empty(target))
    return rows


def put_all(declaration: Declaration, queryset: QuerySet[Any], using: str) -> int:
    """Add the entries of all rows of a queryset with one statement; return their number."""
    rows = worth_it(declaration, queryset, using)
    key: Any = Cast("pk", models.TextField())
    if _is_uuid(declaration):
        key = Replace(key, Value("-"), Value(""), output_field=models.TextField())
    now = timezone.now()
    selected = {
        "id": MD5(Concat(Value(f"{declaration.name}:"), key, output_field=models.TextField())),
        "key": key,
        "declaration": declaration.name, "revision": 1, "state": str(State.PENDING), "due_at": now, "tries": 0,
        "owner": "", "lease_until": None, "code": "", "message": "", "created_at": now,
    }  # fmt: skip
    columns = {
        f"loopai_{field.name}": selected[field.name] if field.name in {"id", "key"}
        else Cast(Value(selected[field.name], output_field=field), output_field=field)
        for field in _FIELDS
    }  # fmt: skip
    connection: Any = connections[using]
    sql, params = (
        rows.values_list(*(columns[f"loopai_{field.name}"] for field in _FIELDS)).query.get_compiler(using).as_sql()
    )
    with connection.cursor() as cursor:
        cursor.execute(_insert(connection, sql), params)
    return int(rows.count())


def _insert(connection: Any, source: str) -> str:
    quote = connection.ops.quote_name
    table = quote(PendingRow._meta.db_table)
    columns = {field.name: quote(field.column) for field in _FIELDS}
    if connection.vendor == "mysql":
        renewed = [f"{columns[name]} = VALUES({columns[name]})" for name in _RENEWED]
        clash = f"ON DUPLICATE KEY UPDATE {columns['revision']} = {table}.{columns['revision']} + 1"
    else:
        renewed = [f"{columns[name]} = excluded.{columns[name]}" for name in _RENEWED]
        clash = f"ON CONFLICT ({columns['id']}) DO UPDATE SET {columns['revision']} = {table}.{columns['revision']} + 1"
    statement = f"INSERT INTO {table} ({', '.join(columns.values())}) {source}"  # names are the model's, quoted
    return f"{statement} {', '.join([clash, *renewed])}"


def _nobodys(now: datetime) -> Q:
    return Q(owner="") | Q(lease_until__isnull=True) | Q(lease_until__lt=now)


def _free(using: str, declaration: Declaration, now: datetime) -> Any:
    """Return the entries that can be claimed: due, unclaimed, and of no row that an earlier declaration waits for."""
    found = entries(using).filter(
        _nobodys(now),
        declaration=declaration.name,
        state=State.PENDING,
        due_at__lte=now,
    )
    for other in before(declaration):
        waiting = entries(using).filter(declaration=other.name, state=State.PENDING, key=OuterRef("key"))
        found = found.filter(~Exists(waiting))
    return found


def take(
    using: str, declaration: Declaration, owner: str, lease_seconds: float, ids: Optional[Sequence[str]] = None
) -> list[PendingRow]:
    """Claim at most `AT_ONCE` entries, of these ids if given; no other worker gets them before the lease expires."""
    now = timezone.now()
    free = _free(using, declaration, now)
    lease = {"owner": owner, "lease_until": now + timedelta(seconds=lease_seconds)}
    if ids is not None:
        wanted = free.filter(pk__in=list(ids))
        if before(declaration):  # MySQL cannot update a table that the condition reads
            ids = list(wanted.values_list("pk", flat=True))
            wanted = entries(using).filter(_nobodys(now), pk__in=ids)
        wanted.update(**lease)
    elif connections[using].features.has_select_for_update_skip_locked:
        with transaction.atomic(using=using):
            locked = free.order_by("due_at").select_for_update(skip_locked=True)
            ids = list(locked.values_list("pk", flat=True)[:AT_ONCE])
            if ids:
                entries(using).filter(pk__in=ids).update(**lease)
    else:
        # Of several workers that search at the same moment, each claims different entries.
        near = list(free.order_by("due_at").values_list("pk", flat=True)[: AT_ONCE * 10])
        ids = near if len(near) <= AT_ONCE else sample(near, AT_ONCE)
        if ids:
            entries(using).filter(_nobodys(now), pk__in=ids).update(**lease)
    return list(held(using, owner, ids).order_by("pk")) if ids else []


def held(using: str, owner: str, ids: Iterable[str]) -> Any:
    """Return which of these entries still belong to `owner`."""
    return entries(using).filter(pk__in=list(ids), owner=owner)


def locked(using: str, owner: str, ids: Sequence[str]) -> dict[str, int]:
    """Return the revisions of entries that still belong to `owner`, locked until the transaction ends.

    In SQL, like `put` and `remove`: the ORM's overhead would slow down each save of a row.
    """
    connection: Any = connections[using]
    lock = _parts_of(connection)[3]
    columns = ", ".join(map(connection.ops.quote_name, _RETURNED))
    where, params = _mine(connection, owner, ids)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {where} {lock}", params)  # noqa: S608  # names are the model's, quoted
        return dict(cursor.fetchall())


def locked_with_row(
    using: str, owner: str, entry_id: str, model: Any, pk: Any, empties: Sequence[Any]
) -> Optional[dict[str, int]]:
    """Like `locked`, for one entry and its row, in which these fields of `model`'s own table are empty.

    `None` if either is gone, filled, taken, or locked by another transaction: `locked` tells these apart. Most saves
    then need one statement instead of two.
    """
    connection: Any = connections[using]
    quote, table, columns, lock = _parts_of(connection)
    row, key = quote(model._meta.db_table), model._meta.pk
    conditions = [f"{row}.{quote(key.column)} = %s", *(empty_sql(field, quote) for field in empties)]
    conditions += [f"{table}.{columns['owner']} = %s", f"{table}.{columns['id']} = %s"]
    # The row first, as a save locks them.
    sql = f"SELECT {table}.{columns['revision']} FROM {row}, {table} WHERE {' AND '.join(conditions)} {lock}"  # noqa: S608  # names are the models', quoted
    with connection.cursor() as cursor:
        cursor.execute(sql, [key.get_db_prep_value(pk, connection), owner, entry_id])
        found = cursor.fetchone()
    return None if found is None else {entry_id: found[0]}


def _parts_of(connection: Any) -> tuple[Any, str, dict[str, str], str]:
    """Return the quoting function, the quoted table and columns, and the locking clause of a SELECT."""
    quote, features = connection.ops.quote_name, connection.features
    lock = ""
    if features.has_select_for_update:
        lock = connection.ops.for_update_sql(skip_locked=features.has_select_for_update_skip_locked)
    return quote, quote(PendingRow._meta.db_table), {field.name: quote(field.column) for field in _FIELDS}, lock


def remove(using: str, owner: str, ids: Sequence[str]) -> None:
    """Delete finished entries that still belong to `owner`."""
    if not ids:
        return
    connection: Any = connections[using]
    where, params = _mine(connection, owner, ids)
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {where}", params)  # noqa: S608  # names are the model's, quoted


def _mine(connection: Any, owner: str, ids: Sequence[str]) -> tuple[str, list[str]]:
    """Return the table, and the condition of `held` with its parameters."""
    quote = connection.ops.quote_name
    table, columns = quote(PendingRow._meta.db_table), {field.name: quote(field.column) for field in _FIELDS}
    marks = ", ".join(["%s"] * len(ids))
    return f"{table} WHERE {columns['owner']} = %s AND {columns['id']} IN ({marks})", [owner, *ids]


def beat(using: str, owner: str, ids: Iterable[str], lease_seconds: float) -> None:
    """Extend the lease of entries that still belong to `owner`."""
    held(using, owner, ids).update(lease_until=timezone.now() + timedelta(seconds=lease_seconds))


def release(using: str, owner: str, ids: Iterable[str], *, seconds: float = 0.0) -> None:
    """Return entries of `owner`, to be claimed again after `seconds`; this does not count as an attempt."""
    due = timezone.now() + timedelta(seconds=seconds)
    held(using, owner, ids).update(owner="", lease_until=None, due_at=due)


def postpone(using: str, owner: str, ids: Iterable[str], message: str) -> None:
    """Return entries that could not be processed: they are retried after a minute, then after five, and so on."""
    now, mine = timezone.now(), held(using, owner, ids)
    for tries, minutes in enumerate(PAUSES):
        # The last pause applies to all further attempts; entries with fewer attempts are updated before.
        (mine.filter(tries=tries) if minutes != PAUSES[-1] else mine).update(
            owner="", lease_until=None, tries=F("tries") + 1, due_at=now + timedelta(minutes=minutes),
            message=storable(message[:LONGEST_MESSAGE]),
        )  # fmt: skip


def remove_gone(using: str, declaration: Declaration) -> None:
    """Delete failed entries whose row no longer exists."""
    rows: Any = declaration.model._base_manager.using(using)
    failed = entries(using).filter(declaration=declaration.name, state=State.FAILED)
    last = ""
    while True:
        found = dict(failed.filter(pk__gt=last).order_by("pk").values_list("key", "pk")[:LOOKED_AT])
        if not found:
            return
        last = max(found.values())
        wanted = [keys.from_text(declaration.model, key) for key in found]
        for pk in rows.filter(pk__in=wanted).values_list("pk", flat=True):
            found.pop(key_of(declaration, pk), None)
        if found:
            failed.filter(pk__in=list(found.values())).delete()


def retry_failed(using: str, declaration: Declaration, *, other_than: Optional[int] = None) -> int:
    """Make failed entries due again: all, or those that failed on another version of the program."""
    failed = entries(using).filter(declaration=declaration.name, state=State.FAILED)
    if other_than is not None:
        failed = failed.exclude(version=other_than).exclude(version__isnull=True)
    found: int = failed.update(state=State.PENDING, due_at=timezone.now(), tries=0, owner="", lease_until=None)
    return found
