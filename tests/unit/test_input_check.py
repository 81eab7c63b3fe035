"""Inputs are checked against schemas in bounded time and memory, whatever schema and input are."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest

pytest.importorskip("jsonschema_rs")

import jsonschema_rs

from loopai.programs.input_check import InputCheck, SchemaTooLarge

PATIENCE_SECONDS = 10.0
"""Far more than a check takes on a busy machine, and far less than the same inputs took without a bound."""


def doubled(keyword: str, depth: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {"a0": {"type": "string"}}
    for level in range(1, depth + 1):
        definitions[f"a{level}"] = {keyword: [{"$ref": f"#/$defs/a{level - 1}"}] * 2}
    return {"$defs": definitions, "$ref": f"#/$defs/a{depth}"}


EXPRESSION = {
    "$defs": {
        name: {
            "type": "object",
            "properties": {"op": {"const": name}, "args": {"type": "array", "items": {"$ref": "#/$defs/any"}}},
            "required": ["op", "args"],
        }
        for name in ("and", "or", "not")
    }
    | {
        "word": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        "any": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("and", "or", "not", "word")]},
    },
    "$ref": "#/$defs/any",
}
"""What pydantic writes for a recursive union."""


def expression(depth: int, leaf: Any) -> Any:
    value: Any = {"word": leaf}
    for _ in range(depth):
        value = {"op": "and", "args": [value]}
    return value


HOSTILE: dict[str, tuple[Any, Any]] = {
    "recursive union": (EXPRESSION, expression(14, 1)),
    "doubled anyOf": (doubled("anyOf", 26), 3),
    "doubled oneOf": (doubled("oneOf", 26), 3),
    "doubled allOf": (doubled("allOf", 26), 3),
    "many errors": ({"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, list(range(500_000))),
    "many missing": ({"required": [f"k{at}" for at in range(50_000)]}, {}),
    "many unexpected": ({"additionalProperties": False}, {f"k{at}": 1 for at in range(100_000)}),
    "many branches": ({"items": {"oneOf": [{"const": at} for at in range(5000)]}}, [-1] * 200_000),
    "unique items": ({"anyOf": [{"uniqueItems": True, "minItems": 10**9}] * 500}, [[at] for at in range(100_000)]),
    "long text": ({"pattern": "(?:[ab]*a[ab]{20}){1,10}c"}, "ab" * 2_000_000),
    "long names": ({"patternProperties": {"(?:[ab]*a[ab]{20}){1,10}c": False}}, {"ab" * 2_000_000: 1}),
    "many patterns": ({"patternProperties": {f"(a|b)*a{{{at}}}$": {} for at in range(2000)}}, {"a" * 999: 1}),
    "pattern too large": ({"pattern": "((a{1,1000}){1,1000}){1,1000}"}, "aaa"),
    "pattern looking ahead": ({"pattern": "^(?=(a+)+$)(a+)+$"}, "a" * 50 + "b"),
    "reference to itself": ({"allOf": [{"$ref": "#"}], "not": {"$ref": "#"}}, 3),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_schema_or_input_takes_no_long_time(name: str) -> None:
    """Each took many seconds, or gigabytes, when every error was built before the first was read."""
    schema, value = HOSTILE[name]
    began = time.monotonic()
    found = InputCheck(schema).errors(value)
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert len(found) <= 20
    assert all(len(text) < 1000 for _, text in found)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_a_hostile_input_takes_little_memory() -> None:
    """All of them together stay below 600 MB of address space more than the interpreter had."""
    script = """
        import resource, sys
        sys.path.insert(0, "tests/unit")
        from test_input_check import HOSTILE, InputCheck
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 600_000_000,) * 2)
        for schema, value in HOSTILE.values():
            InputCheck(schema).errors(value)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)


@pytest.mark.parametrize(("leaf", "fits"), [("a", True), (1, False)])
def test_a_recursive_union_is_still_checked(leaf: Any, fits: bool) -> None:
    """The bound costs no verdict."""
    assert (InputCheck(EXPRESSION).errors(expression(14, leaf)) == []) is fits


@pytest.mark.parametrize(
    "bad",
    [
        {"pattern": "("},
        {"pattern": "(?=a)b"},
        {"pattern": r"(a)\1"},
        {"pattern": 5},
        {"type": "strnig"},
        {"minLength": -5},
        {"multipleOf": 0},
        {"$ref": "http://localhost:1/x"},
        {"$ref": "#/none"},
        {"$dynamicRef": "other#x"},
        {"anyOf": []},
        {"enum": 5},
        {"properties": []},
        {"patternProperties": {"(?=a)": {}}},
        {"dependentRequired": {"a": 5}},
    ],
)
def test_only_the_keyword_that_cannot_be_checked_is_left_out(bad: dict[str, Any]) -> None:
    """It is named in a warning; everything else in the schema still holds, beside it as elsewhere."""
    check = InputCheck({"properties": {"text": {"maxLength": 3, **bad}, "n": {"type": "integer"}}, "required": ["n"]})
    assert len(check.warnings) == 1
    assert next(iter(bad)) in check.warnings[0] or "patternProperties" in check.warnings[0]
    assert check.errors({"text": "abc", "n": 1}) == []
    assert [path for path, _ in check.errors({"text": "abcd"})] == ["input.n", "input.text"]


def test_what_a_pattern_that_is_left_out_allowed_stays_allowed() -> None:
    """`additionalProperties: false` would refuse the names that the pattern is there for."""
    check = InputCheck({"patternProperties": {"^(?=x)": {}}, "additionalProperties": False})
    assert check.errors({"x1": 1}) == []


def test_references_of_every_local_kind_are_followed() -> None:
    """By pointer, by anchor, by identifier, relative to the nearest identifier."""
    schema = {
        "$id": "https://example.com/root",
        "properties": {
            "pointer": {"$ref": "#/$defs/a~1b"},
            "anchor": {"$ref": "#named"},
            "identifier": {"$ref": "other"},
            "absolute": {"$ref": "https://example.com/root#/$defs/a~1b"},
        },
        "$defs": {
            "a/b": {"type": "string"},
            "c": {"$anchor": "named", "type": "string"},
            "d": {"$id": "other", "$ref": "#/$defs/inner", "$defs": {"inner": {"type": "string"}}},
        },
    }
    check = InputCheck(schema)
    assert check.warnings == []
    value = dict.fromkeys(schema["properties"], 1)  # type: ignore[arg-type]  # its keys
    assert sorted(path for path, _ in check.errors(value)) == sorted(f"input.{name}" for name in value)


def test_schemas_above_the_limit_are_refused() -> None:
    """By the bytes of their text, and by the number of their subschemas."""
    with pytest.raises(SchemaTooLarge, match="bytes"):
        InputCheck({"const": "x" * 1_100_000})
    with pytest.raises(SchemaTooLarge, match="subschemas"):
        InputCheck({"properties": {f"p{at}": {} for at in range(25_000)}})


def test_an_input_that_cannot_be_checked_in_time_is_refused_with_a_reason() -> None:
    """Rather than let in unchecked."""
    [(path, text)] = InputCheck(EXPRESSION).errors(expression(14, "a"), seconds=0.0)
    assert path == "input"
    assert "cannot be checked" in text


def _value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(7 if depth < 3 else 5)
    if kind == 5:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 6:
        return {chance.choice("abc"): _value(chance, depth + 1) for _ in range(chance.randrange(4))}
    return chance.choice([None, True, chance.randrange(-2, 4), 0.5, 1.0, "", "a", "ab", "b1"])


def _schema(chance: random.Random, depth: int = 0) -> Any:
    if chance.random() < 0.07:
        return chance.choice([True, False])

    def sub() -> Any:
        return _schema(chance, depth + 1)

    makers: dict[str, Any] = {
        "type": lambda: chance.choice(["object", "array", "string", "integer", ["null", "number"]]),
        "enum": lambda: [_value(chance, 2) for _ in range(3)],
        "const": lambda: _value(chance, 2),
        "minimum": lambda: chance.randrange(3),
        "maxLength": lambda: 1,
        "pattern": lambda: chance.choice(["^a", "b$", "[0-9]"]),
        "required": lambda: [chance.choice("abc")],
        "uniqueItems": lambda: True,
        "dependentRequired": lambda: {"a": ["b"]},
    }
    if depth < 3:
        makers |= {
            "properties": lambda: {chance.choice("abc"): sub() for _ in range(2)},
            "patternProperties": lambda: {chance.choice(["^a", "b"]): sub()},
            "prefixItems": lambda: [sub(), sub()],
            "dependentSchemas": lambda: {"a": sub()},
            "$ref": lambda: "#/$defs/d",
            **dict.fromkeys(("additionalProperties", "items", "contains", "not", "if", "then", "propertyNames"), sub),
            **dict.fromkeys(("allOf", "anyOf", "oneOf"), lambda: [sub(), sub()]),
        }
    return {keyword: makers[keyword]() for keyword in chance.sample(sorted(makers), chance.randrange(1, 4))}


@pytest.mark.slow
def test_the_walk_and_the_library_agree() -> None:
    """2,000 random schemas made recursive, so that the walk decides: the verdicts are jsonschema-rs's."""
    chance = random.Random(5)
    for _ in range(2000):
        schema = _schema(chance)
        if isinstance(schema, bool):
            continue
        schema["$defs"] = {"d": {"type": chance.choice(["object", "integer"])}, "r": {"items": {"$ref": "#/$defs/r"}}}
        recursive = {"allOf": [schema, {"$ref": "#/$defs/r"}], "$defs": schema["$defs"]}
        check, library = InputCheck(recursive), jsonschema_rs.validator_for(recursive)
        for _ in range(5):
            value = _value(chance)
            assert (check.errors(value) == []) is library.is_valid(value), (schema, value)
