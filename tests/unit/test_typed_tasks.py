"""Tasks with types: pydantic classes as schemas, and `bind`."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any, Callable, Literal, Optional, Union
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, PlainSerializer, SecretStr, TypeAdapter
from typing_extensions import TypedDict

from loopai.exceptions import ExecutionException, ValidationException

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


class Email(BaseModel):
    subject: str
    sender: str = Field(alias="from")
    day: Optional[date] = None


class Verdict(BaseModel):
    label: Literal["spam", "ham"]
    score: float = 1.0


class Hiding(BaseModel):
    tags: Optional[set[str]] = None
    key: Optional[SecretStr] = None
    counts: dict[Any, int] = {}
    more: Any = None


class Pair(TypedDict):
    a: int
    b: str


def answer(recorder: Any, example: Callable[[str], bytes], output: Any, **others: Any) -> None:
    recorder.give(200, {**json.loads(example("execute.response.success")), "output": output, **others})


def test_classes_as_schemas(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """A pydantic class stands for its JSON schema, by its aliases; so does any other type."""
    recorder.give(201, example("tasks.create.response"))
    calls(
        "create_task",
        "n",
        "d",
        Email,
        Verdict,
        examples=[{"input": Email(**{"from": "a"}, subject="s"), "output": Verdict(label="ham")}],
    )
    calls("create_task", "n", "d", Pair, Union[int, str])
    calls("create_task", "n", "d", list[int], Annotated[int, Field(ge=0)])
    first, second, third = recorder.bodies
    assert first["input_schema"] == Email.model_json_schema()
    assert "from" in first["input_schema"]["properties"]
    assert first["output_schema"] == Verdict.model_json_schema()
    assert first["examples"] == [
        {"input": {"subject": "s", "from": "a", "day": None}, "output": {"label": "ham", "score": 1.0}}
    ]
    assert second["input_schema"]["required"] == ["a", "b"]
    assert second["output_schema"] == TypeAdapter(Union[int, str]).json_schema()
    assert third["input_schema"] == {"items": {"type": "integer"}, "type": "array"}
    assert third["output_schema"] == {"minimum": 0, "type": "integer"}


@pytest.mark.parametrize(
    "given",
    [Email(**{"from": "a"}, subject="s", day=date(2025, 1, 2)), {"subject": "s", "from": "a", "day": "2025-01-02"}],
)
def test_bind_takes_and_gives_the_types(calls: Any, recorder: Any, example: Callable[[str], bytes], given: Any) -> None:
    """A name binds as well as an id; options of the call pass through."""
    answer(recorder, example, {"label": "spam"})
    classify = calls.client(tasks={"spam": TASK}).bind("spam", input=Email, output=Verdict)
    verdict = calls.run(classify(given, version=3, timeout_ms=50))
    assert verdict == Verdict(label="spam")
    assert recorder.bodies == [
        {"task_id": TASK, "input": {"subject": "s", "from": "a", "day": "2025-01-02"}, "version": 3, "timeout_ms": 50}
    ]
    assert classify.task_id == TASK


@pytest.mark.parametrize(
    ("given", "made", "value", "sent", "output", "result"),
    [
        (str, str, "text", "text", "spam", "spam"),
        (int, Optional[int], 5, 5, None, None),
        (list[int], tuple[int, str], [1], [1], [1, "a"], (1, "a")),
        (Pair, dict[str, date], {"a": 1, "b": "x"}, {"a": 1, "b": "x"}, {"d": "2025-01-01"}, {"d": date(2025, 1, 1)}),
        (UUID, Any, UUID(TASK), TASK, [1, {"x": None}], [1, {"x": None}]),
    ],
)
def test_plain_types(
    calls: Any,
    recorder: Any,
    example: Callable[[str], bytes],
    given: Any,
    made: Any,
    value: Any,
    sent: Any,
    output: Any,
    result: Any,
) -> None:
    """Not only pydantic's own."""
    answer(recorder, example, output)
    assert calls.run(calls.client().bind(TASK, input=given, output=made)(value)) == result
    assert recorder.bodies[0]["input"] == sent


def test_an_input_of_another_type(calls: Any, recorder: Any) -> None:
    """Every wrong field is named, and nothing is sent."""
    classify = calls.client().bind(TASK, input=Email, output=Verdict)
    with pytest.raises(ValidationException) as raised:
        calls.run(classify({"subject": 5, "day": "no"}))
    assert set(raised.value.errors) == {"subject", "from", "day"}
    with pytest.raises(ValidationException) as raised:
        calls.run(calls.client().bind(TASK, input=int, output=int)("x"))
    assert set(raised.value.errors) == {"input"}
    assert recorder.requests == []


@pytest.mark.parametrize(("output", "place"), [({"label": "eggs"}, "label: "), ({}, "label: "), ("spam", "")])
def test_an_output_of_another_type(
    calls: Any, recorder: Any, example: Callable[[str], bytes], output: Any, place: str
) -> None:
    """The execution went well and gave something else: the result is on the error."""
    answer(recorder, example, output)
    with pytest.raises(ExecutionException) as raised:
        calls.run(calls.client().bind(TASK, input=str, output=Verdict)("x"))
    assert raised.value.message.startswith(f"the output is not what the task was bound to: {place}")
    assert raised.value.result.output == output
    assert raised.value.execution_id == str(raised.value.result.id)


def test_an_output_of_an_execution_without_id(calls: Any, recorder: Any) -> None:
    """What the server left out is not made up."""
    recorder.give(200, {"task_id": TASK, "output": "x"})
    with pytest.raises(ExecutionException) as raised:
        calls.run(calls.client().bind(TASK, input=str, output=int)("x"))
    assert raised.value.execution_id is None


def test_a_failed_program_raises_through_bind(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """There is no output to give, whatever the client's `raise_on_error`."""
    recorder.give(200, example("execute.response.program_error"))
    classify = calls.client(raise_on_error=False).bind(TASK, input=str, output=Verdict)
    with pytest.raises(ExecutionException, match="Cannot read properties"):
        calls.run(classify("x"))


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (set[str], {"a", "b"}, "input"),
        (float, float("nan"), "input"),
        (Hiding, {"tags": ["b", "a"]}, "input.tags"),
        (Hiding, {"key": "hush"}, "input.key"),
        (Hiding, {"counts": {1: 1, "1": 2}}, "input.counts.1"),
        (Hiding, {"more": [float("nan")]}, "input.more[0]"),
        (list[Hiding], [{"more": {1}}], "input[0].more"),
        (bytes, b"\xff", "input"),
        (Any, object, "input"),
    ],
)
def test_a_bound_task_sends_nothing_that_json_cannot_say(
    calls: Any, recorder: Any, kind: Any, value: Any, place: str
) -> None:
    """Inputs that the type makes are checked as all inputs are: by their place, before anything is sent."""
    bound = calls.client().bind(TASK, input=kind, output=Any)
    with pytest.raises(ValidationException, match="cannot be sent as JSON") as raised:
        calls.run(bound(value))
    assert list(raised.value.errors) == [place]
    assert "hush" not in str(raised.value)
    assert recorder.requests == []


def test_a_bound_type_may_say_how_its_values_are_written(
    calls: Any, recorder: Any, example: Callable[[str], bytes]
) -> None:
    """A serialiser beside the type is the caller's choice."""
    answer(recorder, example, 1)
    bound = calls.client().bind(TASK, input=Annotated[set[str], PlainSerializer(sorted)], output=int)
    calls.run(bound({"b", "a"}))
    assert recorder.bodies[-1]["input"] == ["a", "b"]
