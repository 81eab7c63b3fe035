"""The rows of a queryset: looked up by name, paged by primary key, mapped to inputs. Nothing is written or sent here.

A page is one short query: no server-side cursor, and no transaction that stays open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

from django.apps import apps
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist
from django.db import models, transaction
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.query import ModelIterable

from ....batch.mapping import InputMapping, Unmapped, nearest
from ....batch.rows import UNMAPPED, UNREADABLE, Row
from ....exceptions import ConfigurationError
from .. import keys
from .database import Database, is_of_a_row, is_of_code, is_of_query, not_migrated, told
from .filters import filtered

if TYPE_CHECKING:
    from ..models import BatchRun


T = TypeVar("T")


_KEY: Any = object()
"""Stands for a key among the parameters of a query."""


class _Unreadable(str):
    """Why the values of a row could not be read; used in their place."""


class KeyedRow(Row):
    """A row of a table: `pk` is its key, `after` the previous row's key; `retried` if it failed before."""

    __slots__ = ("after", "pk", "retried")

    def __init__(
        self, pk: Any, key: str, columns: dict[str, Any], number: int, after: Optional[str], retried: bool
    ) -> None:
        super().__init__(key, None, columns, number)
        self.pk = pk
        self.after = after
        self.retried = retried


class QuerysetRows:
    """The rows of `app.Model`, `app.Model:method` or `app.Model:manager.method`.

    They match `filters` (`field=value`) and none of `excludes`. `mapping` defines the input, `also` names columns to
    read in addition. A manager's method is called without arguments and returns a queryset of the model. `model` is the
    concrete one, even if a proxy was named. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        named: Union[str, QuerySet[Any]],
        filters: Iterable[str],
        mapping: Iterable[str],
        database: str,
        *,
        excludes: Iterable[str] = (),
        also: Iterable[str] = (),
    ) -> None:
        self.model, self.queryset = _queryset(named, database)
        for text in filters:
            self.queryset = filtered(self.queryset, text)
        for text in excludes:
            self.queryset = filtered(self.queryset, text, exclude=True)
        self.database = Database(database)
        keys.check(self.model)
        self.mapping = InputMapping(mapping)
        self._columns: dict[str, tuple[str, int]] = {
            path: _lookup(self.queryset, path) for path in dict.fromkeys([*self.mapping.sources, *also])
        }
        self._lookups = [lookup for lookup, _ in self._columns.values()]

    @cached_property
    def _values(self) -> QuerySet[Any]:
        """Key and columns of all rows, unordered; built once, because every save of a row uses it."""
        return self.queryset.order_by().values_list("pk", *self._lookups)

    @property
    def plain(self) -> bool:
        """Whether JSON can represent all values that are read: then inputs need no check."""
        return all(isinstance(_last_field(self.model, lookup), _PLAIN) for lookup in self._lookups)

    def page(self, queryset: QuerySet[Any], size: Optional[int], after: Any = None) -> list[tuple[Any, ...]]:
        """Return at most `size` rows (`None`: all) after a key, by primary key: the key, then the columns."""
        if after is not None:
            queryset = queryset.filter(pk__gt=after)
        queryset = queryset.order_by("pk")
        try:
            return self._read(queryset.values_list("pk", *self._lookups)[:size])
        except Exception as error:
            if not (is_of_a_row(error) or is_of_code(error)):
                raise
            first = error
        # If one row's value cannot be read, only that row fails: read the rows one by one.
        strange = None if is_of_a_row(first) else type(first)
        pks = self._read(queryset.values_list("pk")[:size])
        found = [self._alone(queryset, pk, strange) for (pk,) in pks]
        if strange is not None and not any(isinstance(row[-1], _Unreadable) for row in found):
            raise first  # no single row caused it: a timeout, for example
        return found

    def _alone(self, queryset: QuerySet[Any], pk: Any, strange: Optional[type[Exception]]) -> tuple[Any, ...]:
        try:
            found = self._read(queryset.filter(pk=pk).values_list("pk", *self._lookups)[:1])
        except Exception as error:
            if not is_of_a_row(error) and type(error) is not strange:
                raise
            return pk, _Unreadable(f"the row cannot be read: {told(error)}")
        return found[0] if found else (pk, _Unreadable("the row was deleted while it was read"))

    def _read(self, queryset: QuerySet[Any]) -> list[tuple[Any, ...]]:
        return self._attempt(lambda: list(queryset.all()))

    def _attempt(self, read: Callable[[], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
        def attempted() -> list[tuple[Any, ...]]:
            if not self.database.connection.in_atomic_block:
                return read()
            with transaction.atomic(using=self.database.using):  # an error would abort the caller's transaction
                return read()

        return self.database.attempt(attempted)

    @cached_property
    def _one(self) -> tuple[Any, str, tuple[Any, ...]]:
        """The query for the row with a certain key: its compiler, SQL, and parameters with `_KEY` for the key.

        Compiled once, because compiling it for each saved row takes longer than reading the row.
        """
        query = self._values.filter(pk=RawSQL("%s", (_KEY,))).query
        compiler: Any = query.get_compiler(self.database.using)
        sql, params = compiler.as_sql()
        return compiler, sql, tuple(params)

    def _read_one(self, pk: Any) -> list[tuple[Any, ...]]:
        def read() -> list[tuple[Any, ...]]:
            try:
                compiler, sql, params = self._one
            except EmptyResultSet:
                return []
            connection = self.database.connection
            key = self.model._meta.pk.get_db_prep_value(pk, connection)
            with connection.cursor() as cursor:
                cursor.execute(sql, [key if param is _KEY else param for param in params])
                found = cursor.fetchall()
            return list(compiler.results_iter([found], tuple_expected=True))

        return self._attempt(read)

    def row(self, found: Sequence[Any], number: int, after: Optional[str], retried: bool = False) -> KeyedRow:
        """Return a row to run; `error` is set if it lacks something that the mapping names."""
        columns: dict[str, Any] = {}
        key = keys.to_text(self.model, found[0])
        if len(found) > 1 and isinstance(found[1], _Unreadable):
            row = KeyedRow(found[0], key, columns, number, after, retried)
            row.error, row.code = str(found[1]), UNREADABLE
            return row
        for place, (path, (_, inside)) in enumerate(self._columns.items(), 1):
            if inside and len(path.split(".")) <= inside:
                _dig(columns, path, _parts(path)[-inside:], found[place])
            elif inside:
                _put(columns, path.split(".")[:-inside], found[place])
            else:
                columns[path] = found[place]
        row = KeyedRow(found[0], key, columns, number, after, retried)
        try:
            row.input = self.mapping(columns)
        except Unmapped as error:
            row.error, row.code = str(error), UNMAPPED
        return row

    def walk(self, queryset: QuerySet[Any], size: int, after: Optional[str], first: int = 1) -> Iterator[KeyedRow]:
        """Yield the rows of a part of the queryset in the order of their keys, `size` per query."""
        number = first
        last: Any = None
        while True:
            page = self.page(queryset, size, last)
            for found in page:
                # A queryset with joins may return a row several times.
                if last is not None and found[0] == last:
                    continue
                row = self.row(found, number, after)
                last, after = found[0], row.key
                number += 1
                yield row
            if len(page) < size:
                return

    def upper_key(self, queryset: QuerySet[Any], limit: Optional[int]) -> Optional[str]:
        """Return the highest key, or that of the row number `limit`; `None` if there is no row.

        Raises `ConfigurationError` if the database refuses the query.
        """
        ordered = queryset.order_by("pk").values_list("pk", flat=True)

        def read() -> Any:
            at = list(ordered.all()[limit - 1 : limit]) if limit is not None else []
            return at[0] if at else ordered.last()

        found = self._asked(read)
        return None if found is None else keys.to_text(self.model, found)

    def count(self, queryset: QuerySet[Any]) -> int:
        """Return the number of rows. Raises `ConfigurationError` if the database refuses the query."""
        return int(self._asked(queryset.all().count))

    def _asked(self, read: Callable[[], T]) -> T:
        try:
            return self.database.attempt(read)
        except Exception as error:
            if not (is_of_code(error) or is_of_query(error)) or not_migrated(error):
                raise
            raise ConfigurationError(f"--queryset, --filter: the rows cannot be selected: {told(error)}") from error

    # A run's rows by ranges of keys, for workers

    def extent(self, limit: Optional[int]) -> tuple[Optional[str], int]:
        """Return the key of the last row of a run, and the number of rows; `None` if there is no row."""
        upper = self.upper_key(self.queryset, limit)
        return upper, 0 if upper is None else self.count(self._upto(self.queryset, None, upper))

    def between(self, run: BatchRun, after: Optional[str], upto: str, most: int) -> list[KeyedRow]:
        """Return the first `most` remaining rows after a key up to another."""
        return list(islice(self.walk(self._upto(run.remaining(self.queryset), after, upto), most, None), most))

    def bounds(self, run: BatchRun, after: Optional[str], upto: str, size: int, most: int) -> list[str]:
        """Return the first `most` keys that end chunks of `size` rows and are followed by more rows up to `upto`."""
        found = self._upto(run.remaining(self.queryset), after, upto).order_by("pk").values_list("pk", flat=True)
        ends = list(dict.fromkeys(keys.to_text(self.model, key) for key in found[: size * most + 1]))
        return ends[:-1][size - 1 :: size]

    def _upto(self, queryset: QuerySet[Any], after: Optional[str], upto: str) -> QuerySet[Any]:
        queryset = queryset.filter(pk__lte=keys.from_text(self.model, upto))
        return queryset if after is None else queryset.filter(pk__gt=keys.from_text(self.model, after))

    def by_key(self, wanted: Iterable[str]) -> dict[str, tuple[Any, ...]]:
        """Return which of these rows exist, by key."""
        pks = [keys.from_text(self.model, key) for key in wanted]
        try:
            # A queryset with joins may return a row several times.
            query = self._values.query
            # Before Django 5.2, annotations are put in their places only after the query has run.
            if len(pks) == 1 and not query.annotation_select and not query.extra_select:
                read = self._read_one(pks[0])
            else:
                read = self._read(self._values.filter(pk__in=pks))
        except Exception as error:
            if not is_of_a_row(error):
                raise
            read = self.page(self.queryset.filter(pk__in=pks), None)
        return {keys.to_text(self.model, found[0]): found for found in read}


_PLAIN = (models.CharField, models.TextField, models.IntegerField, models.BooleanField, models.UUIDField)
"""Fields whose values JSON can represent, dates and keys included; a float may be NaN."""


def _last_field(model: Any, lookup: str) -> Any:
    """Return the field at the end of a lookup; `None` for an annotation."""
    field: Any = None
    for part in lookup.split("__"):
        try:
            field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist:
            return None
        model = field.related_model
    return field


def columns_of(model: type[models.Model]) -> list[str]:
    """Return the model's columns, without its key."""
    return [field.name for field in model._meta.concrete_fields if not field.primary_key]


def model_of(named: str) -> type[models.Model]:
    """Return the model of `app.Model` or `app.Model:manager_method`. Raises `ConfigurationError`."""
    label = named.partition(":")[0]
    try:
        found: type[models.Model] = apps.get_model(label)
    except (LookupError, ValueError):
        close = nearest(label, [model._meta.label for model in apps.get_models()]).partition(" (")[0]
        raise ConfigurationError(f"--queryset: there is no model {label!r}{close}: write app.Model") from None
    return found


def name_of(queryset: Union[str, QuerySet[Any]], database: str) -> str:
    """Return how a run identifies its queryset: by name; one from code by its model and a digest of its SQL."""
    if isinstance(queryset, str):
        return queryset
    _refuse_unpaged(queryset, queryset.model._meta.label)
    if isinstance(queryset, InstancesQuerySet):
        return f"{queryset.model._meta.label}:<instances {queryset.nonce}>"
    try:
        sql, params = queryset.using(database).query.sql_with_params()
    except EmptyResultSet:
        sql, params = "", ()
    digest = hashlib.sha256(f"{sql} {params!r}".encode()).hexdigest()[:16]
    return f"{queryset.model._meta.label}:<QuerySet {digest}>"


class InstancesQuerySet(QuerySet[Any]):
    """The rows of given instances. The `nonce` distinguishes this set from all others."""

    nonce = ""

    @classmethod
    def of(cls, model: type[models.Model], pks: Iterable[Any], using: str, nonce: str) -> InstancesQuerySet:
        """Return the rows with these keys."""
        made = cls(model=model, using=using)
        made.nonce = nonce
        return made.filter(pk__in=list(pks))

    def _clone(self) -> Any:
        made = super()._clone()
        made.nonce = self.nonce
        return made


def _refuse_unpaged(queryset: QuerySet[Any], named: str) -> None:
    query: Any = queryset.query
    if query.values_select or not issubclass(queryset._iterable_class, ModelIterable):
        raise ConfigurationError(
            f"--queryset: {named} gives values, not instances: leave out values(), values_list() or dates()"
        )
    if query.select_for_update:
        raise ConfigurationError(
            f"--queryset: {named} locks its rows: leave out select_for_update(), as no transaction is open meanwhile"
        )
    if query.combinator or query.is_sliced or query.distinct_fields:
        raise ConfigurationError(f"--queryset: {named} is sliced, combined or distinct by fields: it cannot be paged")


def _queryset(named: Union[str, QuerySet[Any]], database: str) -> tuple[type[models.Model], QuerySet[Any]]:
    """Return the concrete model and the rows of `app.Model`, `app.Model:method` or `app.Model:manager.method`."""
    if isinstance(named, QuerySet):
        given: Any = named.model._meta.concrete_model
        return given, named.using(database).prefetch_related(None)
    model = model_of(named)
    _, colon, path = named.partition(":")
    manager_name, dot, method = path.rpartition(".")
    manager: Any = getattr(model, manager_name, None) if dot else model._default_manager
    if not isinstance(manager, models.Manager):
        known = ", ".join(item.name for item in model._meta.managers)
        raise ConfigurationError(f"--queryset: {model._meta.label} has no manager {manager_name!r} (managers: {known})")
    manager = manager.db_manager(database)
    found: Any = manager.all()
    if colon:
        call = None if method.startswith("_") or not method.isidentifier() else getattr(manager, method, None)
        if not callable(call):
            raise ConfigurationError(
                f"--queryset: the manager of {model._meta.label} has no method {method!r}: a queryset is named by one"
            )
        try:
            found = call()
        except TypeError as error:
            raise ConfigurationError(f"--queryset: {method!r} must take no arguments ({error})") from None
        if not isinstance(found, QuerySet) or found.model._meta.concrete_model is not model._meta.concrete_model:
            raise ConfigurationError(f"--queryset: {method!r} gives no queryset of {model._meta.label}")
    _refuse_unpaged(found, named)
    concrete: Any = model._meta.concrete_model
    return concrete, found.using(database).prefetch_related(None)


def _lookup(queryset: QuerySet[Any], path: str) -> tuple[str, int]:
    """Return the lookup of `path`, and how many of its parts are inside a JSON value."""
    first, *inside = path.split(".")
    if first in queryset.query.annotations:
        return first, len(inside)
    model: Any = queryset.model
    parts = _parts(path)
    for depth, part in enumerate(parts):
        try:
            field: Any = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist:
            names = [item.name for item in model._meta.concrete_fields]
            raise ConfigurationError(
                f"--map: {model._meta.label} has no field {part!r}{nearest(part, names)}"
            ) from None
        rest = len(parts) - depth - 1
        if field.one_to_many or field.many_to_many:
            raise ConfigurationError(f"--map {path}: {part!r} has many values for a row: an input is made of one")
        if field.is_relation and field.related_model is None:
            raise ConfigurationError(
                f"--map {path}: {part!r} is a key to rows of any model, which are not read: name the fields that it "
                f"is made of ({field.ct_field}, {field.fk_field})"
            )
        if rest and field.is_relation:
            model = field.related_model
            continue
        if rest and not isinstance(field, models.JSONField):
            raise ConfigurationError(f"--map {path}: {part!r} is neither a relation nor JSON: nothing lies inside it")
        return "__".join(parts[: depth + 1]), rest
    raise AssertionError("unreachable: the last part returns")


def _parts(path: str) -> list[str]:
    """Split a path: `author__name` is `author.name`; a name after a dot may be a key of a JSON object."""
    first, dot, rest = path.partition(".")
    return [*first.split("__"), *(rest.split(".") if dot else ())]


def _dig(columns: dict[str, Any], path: str, inside: Sequence[str], value: Any) -> None:
    """Store the part of a JSON value under the path's own name, if it exists."""
    for name in inside:
        if not isinstance(value, Mapping) or name not in value:
            return
        value = value[name]
    columns[path] = value


def _put(columns: dict[str, Any], path: Sequence[str], value: Any) -> None:
    made: Any = columns
    for part in path[:-1]:
        made = made.setdefault(part, {})
    if not isinstance(value, Mapping) or not isinstance(made.get(path[-1]), Mapping):
        made[path[-1]] = value
