"""Where a result is saved in a row: `--save-to label=output.label`. Values are cleaned like a form's, not written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from copy import copy
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Any, Callable, Optional

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.utils import timezone

from ....batch.mapping import Unmapped, nearest, path_reader
from ....batch.rows import Outcome
from ....exceptions import ConfigurationError

RESULT = ("output", "latency_ms", "execution_id", "attempts", "confidence")
"""What a path may start with: the members of a result."""

MOST_KNOWN = 1000
"""Most cleaned values cached per field: labels repeat, and each value of a foreign key costs a query."""


class Unfit(ValueError):
    """A result does not fit its field. The message says which field, and why."""


class Target:
    """A field, and the path of its value in the result.

    `label=output.verdict.label` and `ms=latency_ms` give the path; a bare `label` is the output's member of that
    name, or the whole output if that is not an object. Raises `ConfigurationError` for any other text.
    """

    def __init__(self, text: str, model: type[models.Model], using: str) -> None:
        name, sign, path = text.partition("=")
        name, path = name.strip(), path.strip()
        if not name or (sign and not path):
            raise ConfigurationError(f"--save-to {text!r}: write FIELD, or FIELD=output.PATH")
        self.field = _field(name, model)
        self._read: Optional[Callable[[Mapping[str, Any]], Any]] = path_reader(path) if sign else None
        if sign and path.split(".")[0] not in RESULT:
            known = ", ".join(RESULT)
            raise ConfigurationError(
                f"--save-to {text!r}: a path starts at the result ({known}): did you mean {name}=output.{path}?"
            )
        self._known: dict[Any, Any] = {}
        self._using = using
        self._cleaner = _as_column(self.field)

    def forget(self) -> None:
        """Clear the cache: the object of a foreign key may have been deleted."""
        self._known.clear()

    def value(self, outcome: Outcome) -> Any:
        """Return the cleaned value. Raises `Unfit`."""
        name = self.field.name
        try:
            if self._read is not None:
                value = self._read({member: getattr(outcome, member) for member in RESULT})
            elif isinstance(outcome.output, Mapping):
                if name not in outcome.output:
                    raise Unmapped(f"the output has no {name!r}{nearest(name, outcome.output)}")
                value = outcome.output[name]
            else:
                value = outcome.output
        except Unmapped as error:
            raise Unfit(f"{name}: {error}") from None
        return self._cleaned(value)

    def _cleaned(self, value: Any) -> Any:
        field = self._cleaner
        # With the type, because 1 and true are equal in Python.
        known = (type(value), value) if isinstance(value, (str, int)) else None
        if known in self._known:
            return self._known[known]
        _refuse_what_would_be_bent(field.name, field.target_field if field.is_relation else field, value)
        try:
            if field.is_relation:
                cleaned = self._existing(value)
            else:
                cleaned = _aware(field, field.clean(_digits(field, value), None))
        except ValidationError as error:
            raise Unfit(f"{field.name}: {' '.join(error.messages)}") from None
        except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError):
            # Their messages are Python's, and name its types.
            raise Unfit(f"{field.name}: {_shown(value)} does not fit the field ({_described(field)})") from None
        if known is not None and len(self._known) < MOST_KNOWN:
            self._known[known] = cleaned
        return cleaned

    def _existing(self, value: Any) -> Any:
        """Return the key of an existing row in the run's database; a form would use the router's database for reads."""
        field = self._cleaner
        key = field.to_python(value)
        if key is None:
            if not field.null:
                raise ValidationError(field.error_messages["null"])
            return None
        found: Any = field.remote_field.model._base_manager.using(self._using)
        found = found.filter(**{field.remote_field.field_name: key}).complex_filter(field.get_limit_choices_to())
        if not found.exists():
            named = {"model": field.remote_field.model._meta.verbose_name, "pk": key, "value": key,
                     "field": field.remote_field.field_name}  # fmt: skip
            raise ValidationError(field.error_messages["invalid"], code="invalid", params=named)
        field.run_validators(key)
        return key


def _as_column(field: Any) -> Any:
    """Return the field with only the column's rules: it accepts `[]`, `{}` and `""`, and checks non-editable fields."""
    made = copy(field)
    made.blank = True
    made.editable = True  # otherwise its choices would not be checked
    if getattr(field, "base_field", None) is not None:
        made.base_field = _as_column(field.base_field)
    return made


def _digits(field: Any, value: Any) -> Any:
    """Return a number for a field that limits digits: 19.99 has two places, although no binary number is 19.99."""
    if isinstance(value, float) and hasattr(field, "decimal_places"):
        return Decimal(repr(value).removesuffix(".0"))
    base = getattr(field, "base_field", None)
    if base is not None and isinstance(value, (list, tuple)):
        return [_digits(base, item) for item in value]
    if base is not None and isinstance(value, dict):
        return {name: _digits(base, item) for name, item in value.items()}
    return value


def _aware(field: Any, value: Any) -> Any:
    """Return a time without a zone as one in the site's zone, as a form does."""
    naive = isinstance(field, models.DateTimeField) and isinstance(value, datetime) and timezone.is_naive(value)
    return timezone.make_aware(value) if naive and settings.USE_TZ else value


def _described(field: Any) -> str:
    """Describe the kind of field in Django's words, which may contain attributes of the field."""
    return re.sub(r"%\((\w+)\)s", lambda found: str(getattr(field, found[1], "…")), str(field.description))


def _refuse_what_would_be_bent(name: str, field: Any, value: Any) -> None:
    """Refuse unintended conversions of `clean`: `{"a": 1}` to a text, 3.7 to 3, also within arrays and ranges."""
    base = getattr(field, "base_field", None)
    if hasattr(field, "range_type") and (isinstance(value, dict) or (isinstance(value, list) and len(value) != 2)):
        raise Unfit(f"{name}: {_shown(value)} is not a range, which is a list of two bounds")
    if base is not None and isinstance(value, list):
        for item in value:
            _refuse_what_would_be_bent(name, base, item)
        return
    if isinstance(field, (models.CharField, models.TextField, models.FileField)):
        others = (dict, list, int, float) if isinstance(field, models.FileField) else (dict, list, bool)
        if isinstance(value, others):
            raise Unfit(f"{name}: {_shown(value)} is not a text")
        if isinstance(value, str):
            if "\0" in value:
                raise Unfit(f"{name}: the text holds a NUL character, which databases refuse")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise Unfit(f"{name}: the text is not valid Unicode ({error.reason})") from None
    elif isinstance(field, (models.FloatField, models.DecimalField)):
        if isinstance(value, bool):
            raise Unfit(f"{name}: {_shown(value)} is not a number")
        if isinstance(value, (str, float)) and _is_no_number(value):
            raise Unfit(f"{name}: {_shown(value)} is not a finite number")
    elif isinstance(field, models.BinaryField):
        if not isinstance(value, (str, bytes, type(None))):
            raise Unfit(f"{name}: {_shown(value)} is not bytes, which are a text in base64")
    elif isinstance(field, models.BooleanField):
        if value is not None and not value and not isinstance(value, (bool, int, float)):
            raise Unfit(f"{name}: {_shown(value)} is neither true nor false")  # a nullable column would read it as NULL
    elif isinstance(field, models.DurationField):
        if isinstance(value, str) and not any(map(str.isdecimal, value)):
            raise Unfit(f"{name}: {_shown(value)} is not a duration")  # Django would read an empty text as no value
    elif isinstance(field, models.UUIDField):
        if isinstance(value, (bool, int)):
            raise Unfit(f"{name}: {_shown(value)} is not the text of a UUID")
    elif isinstance(field, models.IntegerField) and (
        isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())
    ):
        raise Unfit(f"{name}: {_shown(value)} is not a whole number")


def _shown(value: Any) -> str:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)[:100]


def _is_no_number(value: Any) -> bool:
    """Return whether a value is NaN or infinity, which a field's own conversion accepts."""
    try:
        return not isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _field(name: str, model: type[models.Model]) -> Any:
    names = {field.name: None for field in model._meta.concrete_fields if not field.primary_key}
    translated = [
        item.name for item in model._meta.concrete_fields if getattr(item, "translated_field", None) is not None
        and item.translated_field.name == name
    ]  # fmt: skip
    if translated:
        raise ConfigurationError(
            f"--save-to: {model._meta.label}.{name} is translated: name one of its columns ({', '.join(translated)})"
        )
    try:
        field: Any = model._meta.get_field(name)
    except FieldDoesNotExist:
        raise ConfigurationError(
            f"--save-to: {model._meta.label} has no field {name!r}{nearest(name, names)}"
        ) from None
    if not getattr(field, "concrete", False) or field.many_to_many or field.primary_key:
        kind = "the primary key" if getattr(field, "primary_key", False) else "not a column of its table"
        raise ConfigurationError(f"--save-to: {model._meta.label}.{name} is {kind}: name a field that can be written")
    if getattr(field, "generated", False):
        raise ConfigurationError(f"--save-to: {model._meta.label}.{name} is made by the database: name another field")
    if field.model is not model and model._meta.pk is not model._meta.get_ancestor_link(field.model):
        raise ConfigurationError(f"--save-to: {name!r} is a field of {field.model._meta.label}, with keys of its own")
    return field


def targets_of(texts: Iterable[str], model: type[models.Model], only_empty: bool, using: str) -> list[Target]:
    """Return the targets of a run. Raises `ConfigurationError`, also for a field that is named twice."""
    targets = [Target(text, model, using) for text in texts]
    names = [target.field.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"--save-to names {name!r} twice: a field has one value")
    for target in targets if only_empty else ():
        field = target.field
        if not field.null and not isinstance(field, (models.CharField, models.TextField)):
            raise ConfigurationError(f"--only-empty: {field.name!r} is never empty: it is not a text and takes no NULL")
    return targets
