"""JSON schemas of classes: inputs in the form in which they are written, outputs in the form in which they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import PydanticUserError, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ..exceptions import ValidationException

Mode = Literal["serialization", "validation"]


class _Schema(GenerateJsonSchema):
    """Fields with defaults are optional in both forms, even if a class says otherwise: rows may lack them."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Return whether a row must have the field."""
        if field["type"] == "typed-dict-field":
            return bool(field.get("required", total))
        return field["schema"]["type"] != "default" and field.get("serialization_exclude_if") is None

    def ser_schema(self, schema: Any) -> Any:
        """Return the schema of a serialiser's result; one that accepts anything if its type is not declared."""
        found = super().ser_schema(schema)
        return {} if found is None and schema["type"] in {"function-plain", "function-wrap"} else found


def schema_of(schema: Any, name: str, mode: Mode) -> Any:
    """Return the JSON schema of a pydantic model or another type in the form of `mode`; return a schema unchanged.

    Computed and other read-only members are allowed and not required, so that a class describes its own instances as
    well as rows without them. Raises `ValidationException` naming `name` for a type that has no schema.
    """
    if schema is None or isinstance(schema, (Mapping, list, str, bool, int, float)):
        return schema
    try:
        made = TypeAdapter(schema).json_schema(mode=mode, schema_generator=_Schema)
    except PydanticUserError as error:  # no schema for the type, or none in JSON
        reason = f"is neither a JSON schema nor a type that has one: {str(error).splitlines()[0]}"
        raise ValidationException(f"{name} {reason}", errors={name: [reason]}) from None
    _relax(made)
    return made


def _relax(part: Any) -> None:
    """Make read-only members optional."""
    if isinstance(part, list):
        for each in part:
            _relax(each)
    if not isinstance(part, dict):
        return
    for each in part.values():
        _relax(each)
    members, required = part.get("properties"), part.get("required")
    if isinstance(members, dict) and isinstance(required, list):
        needed = [name for name in required if not _is_read_only(members.get(name))]
        if needed:
            part["required"] = needed
        else:
            del part["required"]


def _is_read_only(member: Any) -> bool:
    return isinstance(member, dict) and member.get("readOnly") is True
