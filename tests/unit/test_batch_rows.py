"""What a batch takes as rows, and what becomes of rows whose replies cannot be read; by both clients."""

from __future__ import annotations

import asyncio
import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from loopai.batch import Outcome
from loopai.batch.engine.chunks import results_for
from loopai.exceptions import OptionError, ValidationException
from loopai.testing import FakeLoopai

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"

Collect = Callable[..., list[Outcome]]


@pytest.fixture
def fake() -> FakeLoopai:
    made = FakeLoopai()
    made.task("echo").computes(lambda given: given)
    made.task("big").computes(lambda given: "x" * given)
    return made


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def collect(kind: str, fake: FakeLoopai) -> Collect:
    """The outcomes of `batch_stream` in the order of the rows, by either client."""

    def run(rows: Any, task: str = "echo", client: Optional[Mapping[str, Any]] = None, **options: Any) -> list[Outcome]:
        options = {"ordered": True, **options}
        if kind == "sync":
            with fake.client(**client or {}) as made:
                return list(made.batch_stream(task, rows, **options))

        async def gather() -> list[Outcome]:
            async with fake.async_client(**client or {}) as made:
                return [outcome async for outcome in made.batch_stream(task, rows, **options)]

        return asyncio.run(gather())

    return run


def _run_batch(kind: str, fake: FakeLoopai, *given: Any, **options: Any) -> Any:
    if kind == "sync":
        with fake.client() as made:
            return made.run_batch("echo", *given, **options)

    async def whole() -> Any:
        async with fake.async_client() as made:
            return await made.run_batch("echo", *given, **options)

    return asyncio.run(whole())


def _pandas_frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(
        {
            "id": ["a", "b"],
            "score": [1.5, math.nan],
            "count": pandas.array([1, pandas.NA], dtype="Int64"),
            "sent": pandas.to_datetime(["2026-01-01", None]),
        },
        index=[7, 8],
    )


FRAME_ROWS = [
    {"id": "a", "score": 1.5, "count": 1, "sent": "2026-01-01T00:00:00"},
    {"id": "b", "score": None, "count": None, "sent": None},
]


@pytest.mark.parametrize(
    "rows_of",
    [
        lambda frame: frame,
        lambda frame: frame.itertuples(index=False),
        lambda frame: frame.iterrows(),
        lambda frame: [frame.iloc[0], frame.iloc[1]],
    ],
    ids=["frame", "itertuples", "iterrows", "series"],
)
def test_a_frame_of_pandas_runs_row_by_row(collect: Collect, rows_of: Callable[[Any], Any]) -> None:
    """Each row is an object by its columns, missing values null; a column is its key, as in a file."""
    outcomes = collect(rows_of(_pandas_frame()), key="id")
    assert [outcome.key for outcome in outcomes] == ["a", "b"]
    assert [outcome.output for outcome in outcomes] == FRAME_ROWS


def test_a_function_reads_the_key_of_what_was_given(collect: Collect) -> None:
    """Of a row of `itertuples` its attributes, of a DataFrame its columns."""
    frame = _pandas_frame()
    assert [each.key for each in collect(frame.itertuples(), key=lambda row: row.id)] == ["a", "b"]
    assert [each.key for each in collect(frame, key=lambda row: row["id"])] == ["a", "b"]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_frame_of_polars_runs_row_by_row(collect: Collect, lazy: bool) -> None:
    """Eager and lazy; with a mapping of its columns."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"id": ["a", "b"], "score": [1.5, math.nan], "text": ["x", None]})
    given = frame.lazy() if lazy else frame
    assert [each.output for each in collect(given, mapping=["t=text", "s=score"])] == [
        {"t": "x", "s": 1.5},
        {"t": None, "s": None},
    ]


def test_a_frame_of_narwhals_runs_row_by_row(collect: Collect) -> None:
    """As that of its library."""
    narwhals = pytest.importorskip("narwhals")
    polars = pytest.importorskip("polars")
    assert [each.output for each in collect(narwhals.from_native(polars.DataFrame({"n": [1, 2]})))] == [
        {"n": 1},
        {"n": 2},
    ]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_series_runs_value_by_value(collect: Collect, library: str) -> None:
    """NaN is a missing value there."""
    series = pytest.importorskip(library).Series([1.5, math.nan])
    assert [each.output for each in collect(series)] == [1.5, None]


def test_scalars_and_arrays_of_numpy_are_inputs(collect: Collect) -> None:
    """A NaN outside a DataFrame or Series is no missing value: its row ends as an error."""
    numpy = pytest.importorskip("numpy")
    assert [each.output for each in collect(numpy.array([1, 2]))] == [1, 2]
    assert [each.output for each in collect(numpy.array([[1, 2], [3, 4]]))] == [[1, 2], [3, 4]]
    assert [each.output for each in collect([numpy.bool_(True), {"n": numpy.float32(0.5)}])] == [True, {"n": 0.5}]
    (bad,) = collect([numpy.float64("nan")])
    assert (bad.status, bad.code) == ("error", "unsendable")


@pytest.mark.parametrize(
    "rows_of",
    [lambda frame: frame, lambda frame: frame.itertuples(index=False), lambda frame: frame.iterrows()],
    ids=["frame", "itertuples", "iterrows"],
)
def test_a_missing_value_may_be_an_error_of_its_row(
    fake: FakeLoopai, collect: Collect, rows_of: Callable[[Any], Any]
) -> None:
    """With its place and the remedy; the rows beside it run, and those after it."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": [1.0, math.nan, 3.0]})
    first, second, third = collect(rows_of(frame), missing="error")
    assert (first.output, third.output) == ({"n": 1.0}, {"n": 3.0})
    assert (second.status, second.code) == ("error", "unsendable")
    assert second.error == "rows[1].n is a missing value: fill it, or pass missing='null'"
    assert len(fake.task("echo").calls) == 2


def test_a_series_with_a_missing_value_goes_on_after_it(collect: Collect) -> None:
    """As a DataFrame does."""
    pandas = pytest.importorskip("pandas")
    outcomes = collect(pandas.Series([1.0, math.nan, 3.0]), missing="error")
    assert [each.status for each in outcomes] == ["ok", "error", "ok"]
    assert str(outcomes[1].error).startswith("rows[1] is a missing value")


def test_what_cannot_be_rows_is_refused_before_anything_is_sent(fake: FakeLoopai, collect: Collect) -> None:
    """Two columns of one name, and an unknown way with missing values."""
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValidationException, match="unique column names"):
        collect(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(OptionError, match="missing must be one of null, error"):
        collect([1], missing="drop")
    assert fake.requests == []


def test_a_frame_is_written_with_its_columns_and_resumed(kind: str, fake: FakeLoopai, tmp_path: Path) -> None:
    """Columns of numpy's types stand in JSONL and CSV as Python's would."""
    pandas = pytest.importorskip("pandas")
    numpy = pytest.importorskip("numpy")
    rows = [{"id": numpy.int64(1), "flag": numpy.bool_(True), "many": numpy.array([1, 2])}]
    _run_batch(kind, fake, rows, tmp_path / "out.jsonl", key="id")
    assert {"id": 1, "flag": True, "many": [1, 2]}.items() <= json.loads((tmp_path / "out.jsonl").read_text()).items()
    _run_batch(kind, fake, rows, tmp_path / "out.csv", key="id")
    with open(tmp_path / "out.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["flag"], row["many"]) == ("1", "true", "[1,2]")

    frame = pandas.DataFrame({"id": [1, 2], "n": [0.5, math.nan]})
    path = tmp_path / "frame.jsonl"
    _run_batch(kind, fake, frame, path, key="id", limit=1)
    summary = _run_batch(kind, fake, frame, path, key="id", mode="resume")
    assert summary.skipped == 1
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0.5, None]


def test_a_row_with_nothing_json_can_say_ends_in_the_output(kind: str, fake: FakeLoopai, tmp_path: Path) -> None:
    """It is the row's error, and its columns are written as well as they can be."""
    path = tmp_path / "out.jsonl"
    summary = _run_batch(kind, fake, [{"n": object()}, {"n": 2}], path)
    assert (summary.ok, summary.errors) == (1, 1)


# Replies


def test_a_reply_that_is_too_large_is_split_until_its_row_is_alone(fake: FakeLoopai, collect: Collect) -> None:
    """Nobody waits, no other row fails, and the error says which limit it was."""
    sizes = [1] * 13 + [20_000] + [2] * 10
    outcomes = collect(sizes, "big", {"max_reply_bytes": 8_000})
    bad = outcomes.pop(13)
    assert [each.output for each in outcomes] == ["x" * size for size in sizes if size < 20_000]
    assert (bad.status, bad.code) == ("error", "refused")
    assert "ReplyTooLargeException: the reply is larger than 8,000 bytes" in str(bad.error)
    # 24 rows, halved until 1 is left: two requests a halving. Before them the task's artifacts.
    assert len(fake.requests) <= 12


def _reply(*results: str, before: str = "") -> bytes:
    return b'{%b"task_id":"%b","results":[%b]}' % (before.encode(), TASK.encode(), ",".join(results).encode())


GOOD = '{"id":"1","success":true,"output":{"n":1},"latency_ms":2.5}'


@pytest.mark.parametrize(
    "bad",
    [
        r'{"id":"2","success":true,"output":"\ud800","latency_ms":1}',
        '{"id":"2","success":true,"output":' + "[" * 5_000 + "]" * 5_000 + "}",
        '{"id":"2","success":"perhaps","output":1}',
        '{"id":"2","output":1}',
        '{"id":"2","success":true,"output":1,"latency_ms":"slow"}',
        '{"id":"2","success":false,"error_message":{"text":"no"}}',
        '{"id":"2","success":true,"output":1,"execution_id":7}',
    ],
    ids=["surrogate", "deep", "success", "no success", "latency", "message", "execution"],
)
def test_a_result_that_cannot_be_read_fails_alone(bad: str) -> None:
    """It is an error that says so, and the others have theirs, in the order that was asked for."""
    first, second, third = results_for(["3", "2", "1"], _reply(GOOD, bad, GOOD.replace('"1"', '"3"')), TASK)
    assert (first["output"], third["output"]) == ({"n": 1}, {"n": 1})
    assert (second["id"], second["success"]) == ("2", False)
    assert str(second["error_message"]).startswith("the result cannot be read: ")


def test_a_latency_that_is_no_time_is_left_out() -> None:
    """Statistics cannot count it; the output is there."""
    for latency in ("null", "-1", "1e999"):
        (found,) = results_for(["1"], _reply(GOOD.replace("2.5", latency)), TASK)
        assert (found["output"], found["latency_ms"]) == ({"n": 1}, None)


@pytest.mark.parametrize(
    "content",
    [
        _reply(GOOD)[:-1],
        _reply(GOOD.replace('"id":"1",', r'"text":"\ud800",')),
        rb'["results",["\ud800"]]',
        b"[1",
        _reply("null"),
    ],
)
def test_a_reply_that_is_not_the_requests_stays_the_chunks_fault(content: bytes) -> None:
    """It is cut off, or its results are no one's."""
    with pytest.raises(ValueError, match=r"results|EOF|surrogate|JSON"):
        results_for(["1"], content, TASK)
