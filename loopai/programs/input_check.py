"""Whether an input fits its task's JSON schema. Schemas that are none check nothing: the contract stores any value."""

from __future__ import annotations

from itertools import islice
from typing import Any

import jsonschema_rs

MOST_ERRORS = 20
"""Errors told of one input; more help nobody."""

LONGEST_MESSAGE = 300
"""Characters of one error's text, which quotes the value it complains of."""


class InputCheck:
    """A task's input schema, compiled. Nothing is fetched: a schema that refers elsewhere checks nothing."""

    def __init__(self, schema: Any) -> None:
        self._validator = _validator(schema)

    def errors(self, value: Any) -> list[tuple[str, str]]:
        """What is wrong with `value`: paths such as `input.items[0].text`, and texts. Empty where it fits."""
        if self._validator is None or self._validator.is_valid(value):
            return []
        return [_told(error) for error in islice(self._validator.iter_errors(value), MOST_ERRORS)]


def _validator(schema: Any) -> jsonschema_rs.Validator | None:
    # A text would be read as JSON.
    if not isinstance(schema, (dict, bool)):
        return None
    try:
        return jsonschema_rs.validator_for(schema, retriever=_fetch_nothing)
    except ValueError:
        return None


def _fetch_nothing(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched")


def _told(error: jsonschema_rs.ValidationError) -> tuple[str, str]:
    path = list(error.instance_path)
    if error.kind.name == "required":
        path.append(error.kind.as_dict()["property"])
    text = error.message
    return _written(path), text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "…"


def _written(path: list[str | int]) -> str:
    return "input" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
