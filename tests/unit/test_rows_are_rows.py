"""What may stand where rows are wanted, and what is refused with the fix in the text."""

from __future__ import annotations

import csv
import enum
import math
import sqlite3
from collections import UserDict, UserString, deque
from email.message import EmailMessage
from types import MappingProxyType
from typing import Any, Callable, NamedTuple

import pytest
from pydantic import BaseModel

from loopai._core.rowsets import rows_of
from loopai.exceptions import ValidationException

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


class Mail(BaseModel):
    text: str


class Named(NamedTuple):
    """A single row, as a mapping is: its cells would run as rows."""

    text: str


class Word(enum.Enum):
    """Iterated, its members would run as rows."""

    FREE = "Free"


async def _rows() -> Any:
    yield 1


def _message() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Free"
    return message


def _database_rows() -> list[Any]:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    found = connection.execute("SELECT 'Free' AS text, 7 AS id UNION SELECT 'x', 8 ORDER BY id").fetchall()
    connection.close()
    return found


def _sqlalchemy_rows() -> list[Any]:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        query = "SELECT 'Free' AS text, 7 AS id UNION SELECT 'x', 8 ORDER BY id"
        found: list[Any] = connection.execute(sqlalchemy.text(query)).all()
    engine.dispose()
    return found


def _records() -> Any:
    return pytest.importorskip("numpy").array([("Free", 7), ("x", 8)], dtype=[("text", "U4"), ("id", int)])


NOT_ROWS = [
    "Free", b"Free", bytearray(b"x"), memoryview(b"x"), {"text": "Free", "id": 7}, MappingProxyType({"a": 1}),
    UserDict(a=1), Mail(text="x"), Named("x"), 5, None, _rows(), UserString("Free"), _message(), Word,
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


@pytest.mark.parametrize("rows", NOT_ROWS[:-1], ids=lambda rows: type(rows).__name__)
def test_one_value_is_not_examples(calls: Any, recorder: Any, rows: Any) -> None:
    """Those of a task are rows as well."""
    attempts: list[tuple[str, tuple[Any, ...]]] = [("add_examples", (TASK, rows))]
    if rows is not None:
        attempts.append(("create_task", ("n", "d", {}, {}, rows)))
    for method, given in attempts:
        with pytest.raises(ValidationException, match="examples must be"):
            calls(method, *given)
    assert recorder.requests == []


@pytest.mark.parametrize(
    "rows",
    [["a", "b"], ("a", "b"), deque(["a", "b"]), iter(["a", "b"]), {"a": 1, "b": 2}.keys(), (x for x in "ab")],
    ids=lambda rows: type(rows).__name__,
)
def test_iterables_of_any_kind_are_rows(rows: Any) -> None:
    """A single row may be any JSON value; what holds them is anything that can be iterated."""
    assert list(rows_of(rows, "inputs")) == ["a", "b"]


@pytest.mark.parametrize("rows", [{"a", "b"}, frozenset("ab")], ids=lambda rows: type(rows).__name__)
def test_a_set_is_not_rows(calls: Any, recorder: Any, rows: Any) -> None:
    """Nobody could tell which result is whose."""
    for method, name in (("batch_execute", "inputs"), ("batch_validate", "items"), ("run_batch", "rows")):
        with pytest.raises(ValidationException, match=rf"{name} must be rows, not a .*set, .*: pass list\({name}\)"):
            calls(method, TASK, rows)
    assert recorder.requests == []


def test_surplus_cells_of_a_csv_reader_are_said(calls: Any, recorder: Any) -> None:
    """It puts them under the key None, which would be sent as a column of that name."""
    with pytest.raises(ValidationException, match=r"items\[1\]\.input .*the key None.*surplus cells"):
        calls("batch_execute", TASK, csv.DictReader(["a,b", "1,2", "3,4,5"]))
    assert recorder.requests == []


@pytest.mark.parametrize("make", [_database_rows, _sqlalchemy_rows, _records])
def test_rows_of_databases_are_objects_by_their_columns(
    calls: Any, recorder: Any, example: Callable[[str], bytes], make: Callable[[], Any]
) -> None:
    """Many are rows, and one of them is none: its cells would run."""
    assert sent(calls, recorder, example, make()) == [{"text": "Free", "id": 7}, {"text": "x", "id": 8}]
    for method, name in (("batch_execute", "inputs"), ("batch_validate", "items"), ("run_batch", "rows")):
        with pytest.raises(ValidationException, match=f"{name} must be rows, not a .*for a single row pass"):
            calls(method, TASK, make()[0])


def test_columns_of_one_name_in_a_row_are_refused(calls: Any) -> None:
    """One would silently replace the other."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT 1 AS a, 2 AS a").fetchall()
    connection.close()
    with pytest.raises(ValidationException, match=r"inputs\[0\] has two columns 'a'"):
        calls("batch_execute", TASK, rows)


def test_values_that_only_look_like_rows_are_refused(calls: Any) -> None:
    """A value of pyarrow, and a text that is made when it is asked for."""
    arrow = pytest.importorskip("pyarrow")
    functional = pytest.importorskip("django.utils.functional")
    for one in (arrow.scalar([1, 2]), arrow.scalar({"a": 1}), functional.lazystr("Free")):
        with pytest.raises(ValidationException, match="inputs must be rows, not a"):
            calls("batch_execute", TASK, one)


def test_a_relation_of_duckdb_is_taken_row_by_row(calls: Any, recorder: Any, example: Callable[[str], bytes]) -> None:
    """As a DataFrame is."""
    duckdb = pytest.importorskip("duckdb")
    rows = duckdb.sql("SELECT 'a' AS text, 1::DOUBLE AS score UNION ALL SELECT 'b', NULL")
    assert sent(calls, recorder, example, rows) == [{"text": "a", "score": 1.0}, {"text": "b", "score": None}]


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


def _tables() -> dict[str, tuple[Any, Any]]:
    arrow, numpy = pytest.importorskip("pyarrow"), pytest.importorskip("numpy")
    table = arrow.table({"n": [1, 2], "s": [{"x": 1}, None]})
    rows = [{"n": 1, "s": {"x": 1}}, {"n": 2, "s": None}]
    (batch,) = table.to_batches()
    records = numpy.array([(1, "a"), (2, "b")], dtype=[("n", int), ("t", "U1")])
    return {
        "table": (table, rows),
        "batch": (batch, rows),
        "reader": (arrow.RecordBatchReader.from_batches(table.schema, [batch]), rows),
        "array": (arrow.array([1, None]), [1, None]),
        "structs": (arrow.array([{"x": 1}]), [{"x": 1}]),
        "chunks": (table["n"], [1, 2]),
        "dictionary": (arrow.table({"t": arrow.array(["a", "b"]).dictionary_encode()}), [{"t": "a"}, {"t": "b"}]),
        "nanoseconds": (
            arrow.table({"t": arrow.array([1], arrow.timestamp("ns"))}),
            [{"t": "1970-01-01T00:00:00.000000001"}],
        ),
        "records": (records, [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}]),
        "matrix": (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    }


@pytest.mark.parametrize(
    "name",
    ["table", "batch", "reader", "array", "structs", "chunks", "dictionary", "nanoseconds", "records", "matrix"],
)
def test_tables_of_arrow_and_records_of_numpy(
    calls: Any, recorder: Any, example: Callable[[str], bytes], name: str
) -> None:
    """Row by row, each an object by its columns; a column is a series."""
    rows, expected = _tables()[name]
    assert sent(calls, recorder, example, rows) == expected


def test_records_of_a_frame_have_its_missing_values(
    calls: Any, recorder: Any, example: Callable[[str], bytes], pandas: Any
) -> None:
    """As its rows have."""
    records = pandas.DataFrame({"a": [1, 2], "b": [1.5, math.nan]}).to_records(index=False)
    assert sent(calls, recorder, example, records) == [{"a": 1, "b": 1.5}, {"a": 2, "b": None}]
    with pytest.raises(ValidationException, match=r"inputs\[1\].b is a missing value"):
        calls("batch_execute", TASK, records, missing="error")


def _far_date_of_arrow() -> Any:
    arrow = pytest.importorskip("pyarrow")
    return arrow.table({"t": arrow.array([2**40], arrow.timestamp("s"))})


def _far_date_of_polars() -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({"t": polars.Series([10**7], dtype=polars.Int32).cast(polars.Date)})


@pytest.mark.parametrize("make", [_far_date_of_arrow, _far_date_of_polars])
def test_a_value_that_python_cannot_hold_is_refused(calls: Any, recorder: Any, make: Any) -> None:
    """With what to do; nothing is sent."""
    with pytest.raises(ValidationException, match=r"inputs cannot be read from row 0 on: .*Cast such a column to text"):
        calls("batch_execute", TASK, make())
    assert recorder.requests == []


def test_items_of_a_frame(calls: Any, recorder: Any, example: Callable[[str], bytes], pandas: Any) -> None:
    """The columns are the members of items."""
    frame = pandas.DataFrame({"id": ["a", "b"], "input": [1.0, math.nan]})
    recorder.give(200, example("batch.execute.response.success"))
    calls("batch_execute_advanced", task_id=TASK, items=frame)
    assert recorder.bodies[0]["items"] == [{"id": "a", "input": 1.0}, {"id": "b", "input": None}]


def test_examples_of_a_frame(calls: Any, recorder: Any, example: Callable[[str], bytes], pandas: Any) -> None:
    """The columns are the members of examples."""
    recorder.give(201, example("tasks.create.response"))
    calls("create_task", "n", "d", {}, {}, pandas.DataFrame({"input": ["a", "b"], "output": [1.0, math.nan]}))
    assert recorder.bodies[0]["examples"] == [{"input": "a", "output": 1.0}, {"input": "b", "output": None}]


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
    with pytest.raises(ValidationException, match="inputs has a column without a name"):
        calls("batch_execute", TASK, pandas.DataFrame([[1, 2]], columns=["a", None]))


@pytest.mark.parametrize(
    "rows", [b"Free", {"text": "Free", "id": 7}, Mail(text="x")], ids=lambda rows: type(rows).__name__
)
def test_one_value_is_not_rows_of_a_run(calls: Any, recorder: Any, rows: Any) -> None:
    """`run_batch` takes a text as a path, and refuses bytes and mappings before anything is sent."""
    with pytest.raises(ValidationException, match="must be rows"):
        calls("run_batch", TASK, rows)
    assert recorder.requests == []
