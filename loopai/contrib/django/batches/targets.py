"""Where a result goes in a row: `--save-to label=output.label`. Values are cleaned as a form's are, not written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models

from ....batch.mapping import Unmapped, nearest, path_reader
from ....batch.rows import Outcome
from ....exceptions import ConfigurationError

RESULT = ("output", "latency_ms", "execution_id", "attempts")
"""What a path may begin with: the members of a result."""

MOST_KNOWN = 1000
"""Cleaned values of a field that are remembered: labels recur, and each of a foreign key's costs a query."""


class Unfit(ValueError):
    """A result does not fit its field; the message says which and why."""


class Target:
    """A field, and where in the result its value is.

    `label=output.verdict.label` and `ms=latency_ms` name the place; a bare `label` is the output's member of that
    name, or the whole output where that is no object. Raises `ConfigurationError` for any other text.
    """

    def __init__(self, text: str, model: type[models.Model]) -> None:
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

    def value(self, outcome: Outcome) -> Any:
        """The cleaned value. Raises `Unfit`."""
        name = self.field.name
        try:
            if self._read is not None:
                value = self._read(_result(outcome))
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
        field = self.field
        # By its type, too: 1 and true are equal, and not the same result.
        known = (type(value), value) if isinstance(value, (str, int)) else None
        if known in self._known:
            return self._known[known]
        _refuse_what_would_be_bent(field, value)
        try:
            cleaned = field.clean(value, None)
        except ValidationError as error:
            raise Unfit(f"{field.name}: {' '.join(error.messages)}") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise Unfit(f"{field.name}: {error}") from None
        if known is not None and len(self._known) < MOST_KNOWN:
            self._known[known] = cleaned
        return cleaned


def _result(outcome: Outcome) -> dict[str, Any]:
    return {
        "output": outcome.output,
        "latency_ms": outcome.latency_ms,
        "execution_id": outcome.execution_id,
        "attempts": outcome.attempts,
    }


def _refuse_what_would_be_bent(field: Any, value: Any) -> None:
    """What `clean` would make fit and nobody meant: `{"a": 1}` as a text, 3.7 as 3."""
    if isinstance(field, (models.CharField, models.TextField)):
        if isinstance(value, (dict, list, bool)):
            raise Unfit(f"{field.name}: {value!r:.100} is no text")
        if isinstance(value, str):
            if "\0" in value:
                raise Unfit(f"{field.name}: the text holds a NUL character, which databases refuse")
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise Unfit(f"{field.name}: the text is no valid Unicode ({error.reason})") from None
    elif isinstance(field, models.IntegerField) and (
        isinstance(value, bool) or (isinstance(value, float) and not value.is_integer())
    ):
        raise Unfit(f"{field.name}: {value!r} is no whole number")


def _field(name: str, model: type[models.Model]) -> Any:
    names = {field.name: None for field in model._meta.concrete_fields if not field.primary_key}
    try:
        field: Any = model._meta.get_field(name)
    except FieldDoesNotExist:
        raise ConfigurationError(
            f"--save-to: {model._meta.label} has no field {name!r}{nearest(name, names)}"
        ) from None
    if not getattr(field, "concrete", False) or field.many_to_many or field.primary_key:
        kind = "the primary key" if getattr(field, "primary_key", False) else "no column of its table"
        raise ConfigurationError(f"--save-to: {model._meta.label}.{name} is {kind}: name a field that can be written")
    if getattr(field, "generated", False):
        raise ConfigurationError(f"--save-to: {model._meta.label}.{name} is made by the database: name another field")
    if field.model is not model and model._meta.pk is not model._meta.get_ancestor_link(field.model):
        raise ConfigurationError(f"--save-to: {name!r} is a field of {field.model._meta.label}, with keys of its own")
    return field


def targets_of(texts: Iterable[str], model: type[models.Model], only_empty: bool) -> list[Target]:
    """The targets of a run. Raises `ConfigurationError`, also for a field that is named twice."""
    targets = [Target(text, model) for text in texts]
    names = [target.field.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"--save-to names {name!r} twice: a field has one value")
    for target in targets if only_empty else ():
        field = target.field
        if not field.null and not isinstance(field, (models.CharField, models.TextField)):
            raise ConfigurationError(f"--only-empty: {field.name!r} is never empty: it is no text and takes no NULL")
    return targets
