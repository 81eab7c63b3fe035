"""`InputCheck`: whether a value fits a JSON schema, decided in limited time and memory for any schema and value.

`jsonschema-rs` decides if its work is limited: the schema is not recursive, and the value not too large for it.
Otherwise, and for error texts, we walk over schema and value, cache verdicts, and stop after a time limit. The walk
uses `jsonschema-rs` for keywords that contain no schemas. Nothing is ever fetched.
"""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema_rs

from .schema_reader import SchemaReader, SchemaTooLarge
from .schema_walk import MOST_ERRORS, MOST_WORK, OutOfBudget, SchemaWalk, size_of
from .subschemas import Subschema, regex_options, width_of

__all__ = ["CHECK_SECONDS", "LARGEST_SCHEMA", "MOST_ERRORS", "InputCheck", "SchemaTooLarge"]

LARGEST_SCHEMA = 1_000_000
"""Bytes of a schema's JSON text."""

_NODE_BYTES = 2000
CHECK_SECONDS = 0.5
"""Seconds that the walk may take for one value."""

# One subschema on one value takes some 10 ns; the rest is reserve.
_VISIT = 0.02


class InputCheck:
    """A task's compiled schema.

    `warnings` names keywords that cannot be checked and are ignored. `weight` estimates its maximum size in bytes.
    A schema that is neither an object nor a boolean allows every value. Raises `SchemaTooLarge`.
    """

    def __init__(self, schema: Any) -> None:
        self.warnings: list[str] = []
        self.weight = 0
        self._root: Subschema | None = None
        self._whole: jsonschema_rs.Validator | None = None
        self._width = 0.0
        self._pattern_cost = 0.0
        if isinstance(schema, (dict, bool)):
            self._compile(schema)
        else:
            self.warnings.append("the schema is not an object or a boolean: inputs are not checked")

    def errors(self, value: Any, seconds: float = CHECK_SECONDS) -> list[tuple[str, str]]:
        """Return what is wrong with `value`: paths such as `input.items[0].text`, and texts; empty if it fits.

        A value that cannot be checked within `seconds` is reported as one error that says so.
        """
        if self._root is None:
            return []
        walk = SchemaWalk(seconds)
        try:
            if self._whole is not None and self._work(value) <= MOST_WORK:
                if self._whole.is_valid(value):
                    return []
            elif walk.fits(self._root, value):
                return []
        except (OutOfBudget, RecursionError):
            text = "cannot be checked against the task's schema within its limits: make the input or the schema smaller"
            return [("input", text)]
        return walk.report(self._root, value) or [("input", "does not fit the task's schema")]

    def work(self, value: Any) -> float:
        """Return how many microseconds a verdict takes at most; infinity if that is unknown."""
        return self._work(value) if self._whole is not None or self._root is None else math.inf

    def _work(self, value: Any) -> float:
        nodes, characters = size_of(value, int(MOST_WORK / (_VISIT * max(self._width, 1.0))) + 1)
        return nodes * self._width * _VISIT + characters * self._pattern_cost

    def _compile(self, schema: dict[str, Any] | bool) -> None:
        text = json.dumps(schema)
        if len(text) > LARGEST_SCHEMA:
            raise SchemaTooLarge(f"the schema has {len(text):,} bytes, and {LARGEST_SCHEMA:,} are the most")
        try:
            # Work on a copy: keywords are removed from it, and no object may occur in two places.
            builder = SchemaReader(json.loads(text), self.warnings)
            self._root = builder.build()
        except RecursionError:
            self.warnings.append("the schema is nested too deeply: inputs are not checked")
            return
        self.weight = len(text) + builder.patterns.bytes + builder.size * _NODE_BYTES
        self._pattern_cost = builder.patterns.cost
        self._width = width_of(self._root)
        if self._width:
            try:
                self._whole = jsonschema_rs.validator_for(builder.schema, pattern_options=regex_options(), offline=True)
            except (ValueError, RecursionError):
                self._whole = None
        if self._whole is None and builder.has_unevaluated:
            self.warnings.append("unevaluatedProperties and unevaluatedItems are not checked in this schema")
