"""Make inputs from a JSON schema, to test programs without examples. Limited in number, and always the same.

Each sample is checked against the schema: a keyword not supported here costs samples, and never makes wrong ones.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..programs.input_check import InputCheck, SchemaTooLarge

MOST_SAMPLES = 20
_ATTEMPTS = 120
_MOST_NODES = 2000
_DEEPEST = 12
_LONGEST = 2000
_MOST_ITEMS = 50

_TEXTS = (
    "",
    "a",
    "Hello, how are you today?",
    "FREE prize!!! Click http://example.com/win now",
    "Meeting moved to 3 pm on Tuesday, room 12.",
    "Order ORD-12345, total: $1,250.50",
    "I love this, best purchase ever",
    "Terrible quality. It broke after two days :(",
    "Grüße aus Köln – 東京 😀",
    "  two\n lines\t ",
    "0",
    "word " * 60,
)
_FORMATS = {
    "date": ("2024-02-29", "1999-12-31"),
    "date-time": ("2024-02-29T23:59:59Z", "1999-12-31T00:00:00+02:00"),
    "time": ("23:59:59Z", "00:00:00Z"),
    "duration": ("P1DT2H", "PT15M"),
    "email": ("ann@example.com", "bob.smith+news@mail.example.org"),
    "hostname": ("example.com", "mail.example.org"),
    "ipv4": ("192.0.2.1", "127.0.0.1"),
    "ipv6": ("2001:db8::1", "::1"),
    "uri": ("https://example.com/a?b=c#d", "mailto:ann@example.com"),
    "uuid": ("123e4567-e89b-12d3-a456-426614174000", "00000000-0000-0000-0000-000000000000"),
}
_NUMBERS = (0, 1, -1, 2, 10, 42, 99.5, 0.1, 1000, -3.75, 123456, 1e9)
_ANY = ({"type": "string"}, {"type": "integer"}, {"type": "boolean"}, {"type": "null"}, {"type": "number"})


def sample_inputs(schema: Any, proposed: Sequence[Any] = (), seed: int = 0) -> list[Any]:
    """Return different inputs that fit the schema: those in `proposed` that do, and at most `MOST_SAMPLES` others."""
    try:
        check = InputCheck(schema if isinstance(schema, (dict, bool)) else True)
    except SchemaTooLarge:
        check = InputCheck(True)
    found: dict[str, Any] = {}
    for value in proposed:
        if not check.errors(value):
            found.setdefault(json.dumps(value, sort_keys=True), value)
    most = len(found) + MOST_SAMPLES
    for attempt in range(_ATTEMPTS):
        if len(found) >= most:
            break
        try:
            value = _Sampler(schema, random.Random(seed + attempt)).value(schema, 0)  # noqa: S311 not a secret
        except _CannotSample:
            continue
        if not check.errors(value):
            found.setdefault(json.dumps(value, sort_keys=True), value)
    return list(found.values())


class _CannotSample(Exception):
    """This attempt gives no value: the schema uses unsupported keywords, or asks for too much."""


class _Sampler:
    """Makes one value; its random draws decide which."""

    def __init__(self, root: Any, draw: random.Random) -> None:
        self._root = root
        self._draw = draw
        self._nodes = 0

    def value(self, schema: Any, depth: int) -> Any:
        self._nodes += 1
        if depth > _DEEPEST or self._nodes > _MOST_NODES or schema is False:
            raise _CannotSample
        if not isinstance(schema, Mapping):
            return self.value(self._draw.choice(_ANY), depth + 1)
        if "const" in schema:
            return schema["const"]
        for keyword in ("enum", "examples"):
            if (
                isinstance(schema.get(keyword), list)
                and schema[keyword]
                and (keyword == "enum" or self._draw.random() < 0.5)
            ):
                return self._draw.choice(schema[keyword])
        schema = self._merged(schema, depth)
        if "const" in schema or "enum" in schema:
            return self.value(schema, depth + 1)
        kind = self._kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return self._string(schema)
        if kind in {"integer", "number"}:
            return self._number(schema, whole=kind == "integer")
        return self._draw.random() < 0.5 if kind == "boolean" else None

    def _merged(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """The schema with its references resolved and one of its alternatives merged in."""
        merged = dict(schema)
        parts: list[Any] = []
        reference = merged.pop("$ref", None)
        if isinstance(reference, str):
            parts.append(self._resolved(reference))
        for keyword in ("anyOf", "oneOf"):
            options = merged.pop(keyword, None)
            if isinstance(options, list) and options:
                parts.append(self._draw.choice(options))
        every = merged.pop("allOf", None)
        parts += every if isinstance(every, list) else []
        for part in parts:
            self._nodes += 1
            if depth > _DEEPEST or self._nodes > _MOST_NODES or part is False:
                raise _CannotSample
            if isinstance(part, Mapping):
                inner = self._merged(part, depth + 1)
                for name in ("properties", "required"):
                    if name in inner and name in merged:
                        both = merged[name], inner[name]
                        inner[name] = {**both[0], **both[1]} if name == "properties" else [*both[0], *both[1]]
                merged.update(inner)
        return merged

    def _resolved(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise _CannotSample
        found = self._root
        for step in reference[1:].strip("/").split("/"):
            if step:
                name = step.replace("~1", "/").replace("~0", "~")
                if not isinstance(found, Mapping) or name not in found:
                    raise _CannotSample
                found = found[name]
        return found

    def _kind(self, schema: Mapping[str, Any]) -> str:
        kinds = schema.get("type")
        if isinstance(kinds, list) and kinds:
            return str(self._draw.choice(kinds))
        if isinstance(kinds, str):
            return kinds
        for kind, keywords in (
            ("object", ("properties", "required", "additionalProperties")),
            ("array", ("items", "prefixItems", "minItems")),
            ("string", ("pattern", "format", "minLength", "maxLength")),
            ("number", ("minimum", "maximum", "multipleOf", "exclusiveMinimum")),
        ):
            if any(keyword in schema for keyword in keywords):
                return kind
        return str(self._draw.choice(_ANY)["type"])

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = {name for name in schema.get("required") or () if isinstance(name, str)}
        made = {}
        for name in dict.fromkeys([*properties, *sorted(required)]):
            if name in required or self._draw.random() < 0.8:
                made[name] = self.value(properties.get(name, True), depth + 1)
        additional = schema.get("additionalProperties")
        if isinstance(additional, Mapping):
            for number in range(self._draw.randint(0, 3)):
                made[f"key{number}"] = self.value(additional, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        prefix = schema.get("prefixItems")
        prefix = prefix if isinstance(prefix, list) else []
        low = _count(schema.get("minItems"), 0)
        high = max(low, min(_count(schema.get("maxItems"), low + 3), low + 3))
        if low > _MOST_ITEMS:
            raise _CannotSample
        made = [self.value(part, depth + 1) for part in prefix]
        size = self._draw.randint(low, high)
        while len(made) < size:
            made.append(self.value(schema.get("items", True), depth + 1))
        return made

    def _string(self, schema: Mapping[str, Any]) -> str:
        if isinstance(schema.get("pattern"), str):
            return self._matching(schema["pattern"])
        known = _FORMATS.get(str(schema.get("format")))
        if known is not None:
            return self._draw.choice(known)
        low = _count(schema.get("minLength"), 0)
        high = _count(schema.get("maxLength"), _LONGEST)
        if low > _LONGEST:
            raise _CannotSample
        text = self._draw.choice(_TEXTS)
        while len(text) < low:
            text += text or "a"
        return text[: max(low, high)] if len(text) > high else text

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        step_over = 1.0 if whole else 1e-6
        low = _bound(schema, "minimum", "exclusiveMinimum", step_over)
        high = _bound(schema, "maximum", "exclusiveMaximum", -step_over)
        value = float(self._draw.choice(_NUMBERS))
        if (low is not None and value < low) or (high is not None and value > high):
            least = low if low is not None else (high or 0) - 1000
            most = high if high is not None else least + 1000
            value = self._draw.choice([least, most, self._draw.uniform(least, most)])
        step = schema.get("multipleOf")
        if isinstance(step, (int, float)) and step > 0:
            value = math.ceil(value / step) * step
        if whole or (isinstance(step, int) and value.is_integer()):
            return math.ceil(value)
        return round(value, 6)

    def _matching(self, pattern: str) -> str:
        """A text that matches a pattern of the usual kinds."""
        if len(pattern) > 1000:
            raise _CannotSample
        parser = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")
        try:
            tree = parser.parse(pattern)
        except (re.error, RecursionError, OverflowError):
            raise _CannotSample from None
        return self._text_of(tree)

    def _text_of(self, tree: Any) -> str:
        text = ""
        for operator, argument in tree:
            self._nodes += 1
            if self._nodes > _MOST_NODES or len(text) > _LONGEST:
                raise _CannotSample
            name = str(operator)
            if name == "LITERAL":
                text += chr(argument)
            elif name == "NOT_LITERAL":
                text += "b" if argument == ord("a") else "a"
            elif name == "ANY":
                text += self._draw.choice("aZ 5-")
            elif name == "IN":
                text += self._one_of(argument)
            elif name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
                low, high, inner = argument
                if low > _LONGEST:
                    raise _CannotSample
                text += "".join(self._text_of(inner) for _ in range(self._draw.randint(low, min(int(high), low + 4))))
            elif name == "SUBPATTERN":
                text += self._text_of(argument[-1])
            elif name == "ATOMIC_GROUP":
                text += self._text_of(argument)
            elif name == "BRANCH":
                text += self._text_of(self._draw.choice(argument[1]))
            elif name != "AT":
                raise _CannotSample
        return text

    def _one_of(self, choices: Any) -> str:
        if str(choices[0][0]) == "NEGATE":
            excluded = {self._letter(choice) for choice in choices[1:]}
            return self._draw.choice([letter for letter in "aZ5_- .é" if letter not in excluded] or ["a"])
        return self._letter(self._draw.choice(choices))

    def _letter(self, choice: Any) -> str:
        name, argument = str(choice[0]), choice[1]
        if name == "LITERAL":
            return chr(argument)
        if name == "RANGE":
            return chr(self._draw.randint(*argument))
        letters = {"DIGIT": "0123456789", "WORD": "abcXYZ019_", "SPACE": " \t", "NOT_DIGIT": "aZ -", "NOT_WORD": " -."}
        return self._draw.choice(letters.get(str(argument).removeprefix("CATEGORY_"), "aZ5"))


def _count(value: Any, default: int) -> int:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else default


def _bound(schema: Mapping[str, Any], inclusive: str, exclusive: str, step: float) -> float | None:
    found = []
    if isinstance(schema.get(inclusive), (int, float)):
        found.append(float(schema[inclusive]))
    beyond = schema.get(exclusive)
    if isinstance(beyond, (int, float)) and not isinstance(beyond, bool):
        found.append(float(beyond) + step)
    if not found:
        return None
    return max(found) if step > 0 else min(found)
