"""What may stand where rows are wanted, and what is refused with the fix in the text."""

from __future__ import annotations

import math
from collections import UserDict, deque
from types import MappingProxyType
from typing import Any, Callable

import pytest
from pydantic import BaseModel

from loopai._core.rowsets import rows_of
from loopai.exceptions import ValidationException

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


class Mail(BaseModel):
    text: str


async def _rows() -> Any:
    yield 1


NOT_ROWS = [
    "Free", b"Free", bytearray(b"x"), memoryview(b"x"), {"text": "Free", "id": 7}, MappingProxyType({"a": 1}),
    UserDict(a=1), Mail(text="x"), 5, None, _rows(),
]  # fmt: skip


@pytest.mark.parametrize("rows", NOT_ROWS, ids=lambda rows: type(rows).__name__)
@pytest.mark.parametrize(
    ("method", "name"), [("batch_execute", "inputs"), ("batch_validate", "items"), ("batch_execute_advanced", "items")]
)
def test_one_value_is_not_rows(calls: Any, recorder: Any, rows: Any, method: str, name: str) -> None:
    """Nothing is sent, and the error says what to pass."""
    given = {"task_id": TASK, name: rows}
    with pytest.raises(ValidationException, match="must be") as raised:
        calls(method, **given)
    assert list(raised.value.errors) == [name]
    assert recorder.requests == []


@pytest.mark.parametrize(
    "rows",
    [["a", "b"], ("a", "b"), deque(["a", "b"]), iter(["a", "b"]), {"a": 1, "b": 2}.keys(), (x for x in "ab")],
    ids=lambda rows: type(rows).__name__,
)
def test_iterables_of_any_kind_are_rows(rows: Any) -> None:
    """A single row may be any JSON value; what holds them is anything that can be iterated."""
    assert list(rows_of(rows, "inputs")) == ["a", "b"]


def test_an_unknown_way_with_missing_values_is_refused(calls: Any, recorder: Any) -> None:
    """The option has two values."""
    with pytest.raises(ValidationException, match="missing must be 'null' or 'error'"):
        calls("batch_execute", TASK, [1], missing="drop")
    assert recorder.requests == []


@pytest.fixture
def pandas() -> Any:
    return pytest.importorskip("pandas")


def sent(calls: Any, recorder: Any, example: Callable[[str], bytes], rows: Any, **options: Any) -> list[Any]:
    recorder.give(200, example("batch.execute.response.success"))
    calls("batch_execute", TASK, rows, **options)
    return [item["input"] for item in recorder.bodies[-1]["items"]]


def test_a_frame_is_taken_row_by_row(calls: Any, recorder: Any, example: Callable[[str], bytes], pandas: Any) -> None:
    """Each row is an object by its columns, in Python's own types; the index is no column. Missing values are null."""
    frame = pandas.DataFrame(
        {
            "text": ["a", None],
            "score": [1.5, math.nan],
            "count": pandas.array([1, pandas.NA], dtype="Int64"),
            "sent": pandas.to_datetime(["2026-01-01", None]),
        },
        index=[7, 8],
    )
    rows = [
        {"text": "a", "score": 1.5, "count": 1, "sent": "2026-01-01T00:00:00"},
        {"text": None, "score": None, "count": None, "sent": None},
    ]
    assert sent(calls, recorder, example, frame) == rows
    assert sent(calls, recorder, example, frame.itertuples(index=False)) == rows
    assert sent(calls, recorder, example, frame.iterrows())[1] == rows[1]
    assert sent(calls, recorder, example, [frame.iloc[1]]) == [rows[1]]
    assert sent(calls, recorder, example, frame["score"]) == [1.5, None]
    for given in (frame, frame.itertuples(index=False), frame["score"]):
        with pytest.raises(ValidationException, match="missing value") as raised:
            calls("batch_execute", TASK, given, missing="error")
        assert next(iter(raised.value.errors)).startswith("inputs[1]")


def test_a_frame_of_polars(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """Eager and lazy frames, and series."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"text": ["a", None], "score": [1.5, math.nan]})
    rows = [{"text": "a", "score": 1.5}, {"text": None, "score": None}]
    assert sent(calls, recorder, example, frame) == rows
    assert sent(calls, recorder, example, frame.lazy()) == rows
    assert sent(calls, recorder, example, frame["score"]) == [1.5, None]
    with pytest.raises(ValidationException, match="missing value"):
        calls("batch_execute", TASK, frame, missing="error")


def test_items_of_a_frame(calls: Any, recorder: Any, example: Callable[[str], bytes], pandas: Any) -> None:
    """The columns are the members of items."""
    frame = pandas.DataFrame({"id": ["a", "b"], "input": [1.0, math.nan]})
    recorder.give(200, example("batch.execute.response.success"))
    calls("batch_execute_advanced", task_id=TASK, items=frame)
    assert recorder.bodies[0]["items"] == [{"id": "a", "input": 1.0}, {"id": "b", "input": None}]


def test_a_frame_is_not_one_input(calls: Any, recorder: Any, pandas: Any) -> None:
    """Where one value is wanted, the error names the methods that take rows."""
    with pytest.raises(ValidationException, match="batch_execute"):
        calls("execute", TASK, pandas.DataFrame({"a": [1]}))
    assert recorder.requests == []


def test_two_columns_of_one_name_are_refused(calls: Any, pandas: Any) -> None:
    """One would silently replace the other."""
    with pytest.raises(ValidationException, match="column"):
        calls("batch_execute", TASK, pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ValidationException, match="two columns '1'"):
        calls("batch_execute", TASK, pandas.DataFrame([[1, 2]], columns=[1, "1"]))
