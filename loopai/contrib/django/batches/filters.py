"""`--filter` and `--exclude`: a text `FIELD=VALUE` as a lookup, with the value converted to the field's type."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, FieldError, ValidationError
from django.db import models
from django.db.models import QuerySet
from django.db.models.lookups import IExact, PatternLookup, Regex
from django.utils import timezone

from ....exceptions import ConfigurationError

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

_TEXT_LOOKUPS = {
    "has_key", "icontains", "iexact", "startswith", "istartswith", "endswith", "iendswith", "regex", "iregex",
    "search", "trigram_similar", "trigram_word_similar", "trigram_strict_word_similar",
}  # fmt: skip
"""Lookups that compare text for every field; other text lookups are recognized by their classes."""

_KEY_LISTS = {"has_keys", "has_any_keys"}


def filtered(queryset: QuerySet[Any], text: str, *, exclude: bool = False) -> QuerySet[Any]:
    """Return the rows that match `FIELD=VALUE`, or those that do not. Raises `ConfigurationError`."""
    flag = "--exclude" if exclude else "--filter"
    name, sign, value = text.partition("=")
    name = name.strip()
    if not sign or not name:
        raise ConfigurationError(f"{flag} {text!r}: write FIELD=VALUE")
    try:
        condition = {name: _value(queryset, name, value)}
        return queryset.exclude(**condition) if exclude else queryset.filter(**condition)
    except ValidationError as error:
        raise ConfigurationError(f"{flag} {text!r}: {' '.join(error.messages)}") from None
    except (
        FieldError,
        FieldDoesNotExist,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        LookupError,
    ) as error:
        raise ConfigurationError(f"{flag} {text!r}: {error}") from None


def _value(queryset: QuerySet[Any], name: str, text: str) -> Any:
    """Convert the value to the type of the lookup's left side, after its transforms."""
    query = queryset.query
    lookups, parts, expression = query.solve_lookup_type(name)
    if expression:
        left: Any = expression
        if isinstance(expression, str):  # the name of an annotation, in newer Djangos
            left = query.annotations[expression]
    else:
        _, field, targets, _ = query.names_to_path(parts, query.get_meta(), fail_on_missing=True)
        if field.is_relation and lookups and lookups[0] == "isnull":
            return _truth(text)
        left = targets[-1].get_col("rows")
    *transforms, last = lookups or ["exact"]
    for transform in transforms:
        left = query.try_transform(left, transform)
    lookup = left.get_lookup(last)
    if lookup is None:
        left, last = query.try_transform(left, last), "exact"
        lookup = left.get_lookup(last)
    if last == "isnull":
        return _truth(text)
    if last in _KEY_LISTS:
        return [part.strip() for part in text.split(",")]
    kind = left.output_field
    is_json = isinstance(kind, models.JSONField)
    on_text = last in _TEXT_LOOKUPS or (
        isinstance(lookup, type) and issubclass(lookup, (PatternLookup, Regex, IExact)) and not is_json
    )
    if on_text:
        return text
    if last in {"in", "range"}:
        return _list(kind, text)
    return _typed(kind, text, last)


def _list(kind: Any, text: str) -> list[Any]:
    if isinstance(kind, models.JSONField):
        with suppress(ValueError):  # the list contains words, which need no quotes
            return list(json.loads(f"[{text}]"))
    return [_typed(kind, part if isinstance(kind, models.CharField) else part.strip(), "exact")
            for part in text.split(",")]  # fmt: skip


def _typed(kind: Any, text: str, lookup: str) -> Any:
    if isinstance(kind, models.JSONField):
        return _json(text)
    if isinstance(kind, models.BooleanField):
        return _truth(text)
    if lookup == "contains" and hasattr(kind, "base_field") and hasattr(kind, "range_type"):
        with suppress(ValidationError):
            return kind.base_field.to_python(text)  # one element; a range is written as JSON
    try:
        value = kind.to_python(text)
    except json.JSONDecodeError:  # for an array or a range
        raise ValueError(f"{text!r} cannot be read as JSON") from None
    if isinstance(kind, models.DateTimeField) and settings.USE_TZ and value is not None and timezone.is_naive(value):
        return timezone.make_aware(value)
    return value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if text.lstrip()[:1] in {"{", "[", '"'}:
            raise ValueError(f"{text!r} cannot be read as JSON") from None
        return text


def _truth(text: str) -> bool:
    if text.strip().lower() not in _TRUTH:
        raise ValueError(f"{text!r} is neither true nor false")
    return _TRUTH[text.strip().lower()]
