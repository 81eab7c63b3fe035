"""The embedded server reads bodies as the real server's model binding does."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai.local import bodies
from loopai.local.binding import ANY, GUID, INTEGER, TEXT, Body, ListOf, Member, parse
from loopai.local.errors import BindingProblem

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
BATCH = bodies.BATCH_EXECUTE


def refusal(body: Body, content: str) -> dict[str, Any]:
    with pytest.raises(BindingProblem) as caught:
        body.bind(content.encode())
    assert caught.value.errors is not None
    return dict(caught.value.errors)


def execute(members: str) -> str:
    return f'{{"task_id": "{TASK}", "input": 1, {members}}}'


@pytest.mark.parametrize("key", ["timeout_ms", "timeoutMs", "TIMEOUT_MS", "TimeoutMs"])
def test_names_match_in_either_spelling_and_any_case(key: str) -> None:
    """snake_case and camelCase name the same member."""
    assert bodies.EXECUTE.bind(execute(f'"{key}": 7').encode())["timeout_ms"] == 7


def test_unknown_members_are_ignored_and_absent_ones_take_their_default() -> None:
    """A body may hold more than is known, and less than all."""
    bound = bodies.EXECUTE.bind(execute('"colour": "red"').encode())
    assert bound == {
        "task_id": TASK,
        "input": 1,
        "version": None,
        "force_validation": False,
        "timeout_ms": None,
    }


def test_defaults_are_not_shared_between_bodies() -> None:
    """What one request appends to its default list is not in the next one's."""
    task = b'{"name": "a", "description": "b", "input_schema": {}, "output_schema": {}}'
    bodies.CREATE_TASK.bind(task)["examples"].append(1)
    assert bodies.CREATE_TASK.bind(task)["examples"] == []


@pytest.mark.parametrize("text", ['"5000"', "5000"])
def test_integers_may_be_texts(text: str) -> None:
    """Numbers on input may be JSON strings."""
    assert bodies.EXECUTE.bind(execute(f'"timeout_ms": {text}').encode())["timeout_ms"] == 5000


@pytest.mark.parametrize("text", ["5.0", "1e3", "true", '"5.0"', '" 5"', "2147483648", "[]", '"12345678901234"'])
def test_integers_take_integer_literals_only(text: str) -> None:
    """A fraction, an exponent, a flag or more than 32 bits is no integer."""
    assert set(refusal(bodies.EXECUTE, execute(f'"timeout_ms": {text}'))) == {"$.timeout_ms", "request"}


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), ('"0.25"', 0.25), ("5e-1", 0.5)])
def test_doubles_take_any_number(text: str, value: float) -> None:
    """Integers, exponents and texts are doubles."""
    task = f'{{"name":"a","description":"b","input_schema":1,"output_schema":1,"sampling_rate":{text}}}'
    assert bodies.CREATE_TASK.bind(task.encode())["sampling_rate"] == value


@pytest.mark.parametrize("text", ['"a"', "true", "null", '"1e400"', "1" + "0" * 400])
def test_doubles_take_finite_numbers_only(text: str) -> None:
    """No names, no flags, nothing that a double cannot hold."""
    task = f'{{"name":"a","description":"b","input_schema":1,"output_schema":1,"sampling_rate":{text}}}'
    assert set(refusal(bodies.CREATE_TASK, task)) == {"$.sampling_rate", "request"}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_doubles_have_names_where_they_are_not_finite(text: str) -> None:
    """As the published server reads them, which then finds them outside of every range."""
    task = f'{{"name":"a","description":"b","input_schema":1,"output_schema":1,"sampling_rate":"{text}"}}'
    assert not math.isfinite(bodies.CREATE_TASK.bind(task.encode())["sampling_rate"])


@pytest.mark.parametrize("text", [TASK.replace("-", ""), f"{{{TASK}}}", "x", ""])
def test_guids_are_hyphenated(text: str) -> None:
    """In a body only the form of 36 characters is a GUID; it is read in any case."""
    body = f'{{"task_id": "{text}", "input": 1}}'
    assert set(refusal(bodies.EXECUTE, body)) == {"$.task_id", "request"}
    upper = f'{{"task_id": "{TASK.upper()}", "input": 1}}'
    assert bodies.EXECUTE.bind(upper.encode())["task_id"] == TASK


def test_every_missing_member_is_named_at_its_object() -> None:
    """The error stands under the enclosing object's path and lists the wire's names."""
    errors = refusal(bodies.EXECUTE, "{}")
    assert errors["request"] == ["The request field is required."]
    assert "'task_id', 'input'" in errors["$"][0]
    nested = refusal(BATCH, f'{{"task_id": "{TASK}", "items": [{{"id": "a", "input": 1}}, {{"id": "b"}}]}}')
    assert "'input'" in nested["$.items[1]"][0]


def test_null_texts_and_lists_are_all_named_as_properties() -> None:
    """Null where a text or list must be is found after reading, for all members together."""
    task = '{"name":null,"description":null,"input_schema":null,"output_schema":null,"examples":null}'
    errors = refusal(bodies.CREATE_TASK, task)
    assert errors == {
        "Name": ["The Name field is required."],
        "Description": ["The Description field is required."],
        "Examples": ["The Examples field is required."],
    }
    nested = refusal(BATCH, f'{{"task_id": "{TASK}", "items": [{{"id": null, "input": 1}}]}}')
    assert nested == {"Items[0].Id": ["The Id field is required."]}


def test_null_values_of_free_form_members_are_values() -> None:
    """A schema or input of null is JSON's null."""
    assert bodies.EXECUTE.bind(f'{{"task_id": "{TASK}", "input": null}}'.encode())["input"] is None


@pytest.mark.parametrize("content", ["", "  ", "null"])
def test_a_body_of_nothing_is_said_to_be_empty(content: str) -> None:
    """No body and a body of null are the same refusal."""
    assert refusal(bodies.EXECUTE, content) == {
        "": ["A non-empty request body is required."],
        "request": ["The request field is required."],
    }


@pytest.mark.parametrize("content", ["{", "[1]", "5", '"x"', "{'a': 1}", "[NaN]", '{"a": 1,}', '"\\ud800"'])
def test_what_is_no_json_object_is_refused_at_the_root(content: str) -> None:
    """Malformed JSON and other values are errors of the whole body."""
    assert set(refusal(bodies.EXECUTE, content)) == {"$", "request"}


@pytest.mark.parametrize("number", ["1e400", "-1e999", "1" + "0" * 400 + ".5"])
def test_numbers_beyond_doubles_are_refused(number: str) -> None:
    """They would be read as infinite and could not be written again."""
    assert set(refusal(bodies.EXECUTE, execute(f'"x": [{number}]'))) == {"$", "request"}


def test_nesting_is_limited_to_32_levels() -> None:
    """The 32nd level is read, the 33rd refused, however wide the levels are."""
    assert parse(b"[" * 32 + b"]" * 32)
    assert parse(b"[" + b"[],{}," * 1000 + b"1]")
    with pytest.raises(BindingProblem):
        parse(b"[" * 33 + b"]" * 33)
    with pytest.raises(BindingProblem):
        parse(b'{"a":' * 33 + b"1" + b"}" * 33)


def test_a_list_of_objects_refuses_other_things() -> None:
    """An item that is no object is named by its place."""
    body = Body("Outer", Member("items", ListOf(Body("Inner", Member("id", TEXT)))))
    assert set(refusal(body, '{"items": [{"id": "a"}, 5]}')) == {"$.items[1]", "request"}
    assert set(refusal(body, '{"items": {}}')) == {"$.items", "request"}


def test_a_body_documents_itself() -> None:
    """Names, types, bounds and defaults stand in the JSON schema."""
    body = Body(
        "Sample",
        Member("task_id", GUID),
        Member("input", ANY),
        Member("version", INTEGER, default=None, nullable=True, bounds={"minimum": 1}),
        Member("limit", INTEGER, default=10),
    )
    assert body.schema() == {
        "type": "object",
        "properties": {
            "task_id": {"type": "string", "format": "uuid"},
            "input": {},
            "version": {"anyOf": [{"type": "integer", "format": "int32", "minimum": 1}, {"type": "null"}]},
            "limit": {"type": "integer", "format": "int32", "default": 10},
        },
        "required": ["task_id", "input"],
    }
