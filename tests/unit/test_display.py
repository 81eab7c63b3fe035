"""How results look at a prompt, in a notebook, and as DataFrames."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

import pytest

from loopai import BatchExecuteResponse, BatchExecuteResult, ExecutionResult, Outcome, ReplyList, Row, Summary, Task
from loopai.display import MOST_ROWS
from loopai.frames import columns_of, to_arrow, to_pandas, to_polars


def response(rows: int) -> BatchExecuteResponse:
    results = [
        BatchExecuteResult(
            id=str(at), success=at != 1, output={"label": "x" * 200}, error_message=None if at != 1 else "<b>"
        )
        for at in range(rows)
    ]
    return BatchExecuteResponse(
        batch_id=uuid4(), task_id=uuid4(), total_items=rows, success_count=rows - 1, failure_count=1, results=results
    )


OUTCOMES = [
    Outcome(Row("a", {"text": "hello"}), "ok", output={"label": "ham"}, latency_ms=1.5, attempts=1),
    Outcome(Row("b", {"text": "money", "n": 3}), "error", error="failed", code="program", attempts=1),
    Outcome(Row("c", "plain"), "ok", output=7, latency_ms=0.5, attempts=1),
]


def test_a_batch_of_a_thousand_rows_is_a_line() -> None:
    """It counts its results, and says what a person asks."""
    shown = repr(response(1000))
    assert len(shown) < 500
    assert "<1,000 BatchExecuteResult>" in shown
    assert "success_count=999" in shown


def test_members_without_a_value_are_left_out_and_long_ones_cut() -> None:
    """What is shown fits a line or two."""
    shown = repr(ExecutionResult(task_id=uuid4(), output={"text": "a" * 10_000}))
    assert len(shown) < 400
    assert "error_message" not in shown
    assert str(ExecutionResult(task_id=uuid4(), output=3)).count("output=3") == 1


def test_lists_are_counted() -> None:
    """A few members are shown, many are counted."""
    task = Task(
        id=uuid4(),
        name="spam",
        description="d",
        input_schema={},
        output_schema={},
        created_at=datetime.now(timezone.utc),
    )
    assert repr(ReplyList([task] * 50)) == "<50 Task>"
    assert repr(ReplyList([1, 2])) == "[1, 2]"
    assert "50 in all" in ReplyList([task] * 50)._repr_html_()
    assert ReplyList()._repr_html_().startswith("<table>")


def test_a_notebook_shows_a_table_with_texts_as_texts() -> None:
    """The first rows and a count of the others; nothing of a row becomes markup."""
    shown = response(1000)._repr_html_()
    assert shown.count("<tr>") == MOST_ROWS + 1
    assert f"and {1000 - MOST_ROWS} more" in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "failed" in OUTCOMES[1]._repr_html_()
    assert "<th>status</th><td>success</td>" in ExecutionResult(task_id=uuid4(), output="<i>")._repr_html_()


def test_a_summary_says_what_a_run_came_to() -> None:
    """In one line, and in a table."""
    summary = Summary("finished", 12_000, 3, 0, 10, 0, 1.5, {"mean": 1.0, "p50": 1.0, "p95": 2.0, "p99": 3.0})
    assert repr(summary) == "<Summary finished: 12,000 ok, 3 failed, 10 skipped, 1.5 s>"
    assert "<td>12000</td>" in summary._repr_html_()


def test_columns_of_outcomes() -> None:
    """Members of inputs and outputs are columns; a row without one has None."""
    columns = columns_of(OUTCOMES)
    assert list(columns)[1:4] == ["input.text", "input.n", "input"]
    assert columns == {
        "key": ["a", "b", "c"],
        "input.text": ["hello", "money", None],
        "input.n": [None, 3, None],
        "input": [None, None, "plain"],
        "output.label": ["ham", None, None],
        "output": [None, None, 7],
        "status": ["ok", "error", "ok"],
        "error": [None, "failed", None],
        "latency_ms": [1.5, None, 0.5],
    }
    assert columns_of([])["status"] == []
    with pytest.raises(TypeError, match="not a str"):
        columns_of("abc")


@pytest.mark.parametrize(("library", "make"), [("pandas", to_pandas), ("polars", to_polars), ("pyarrow", to_arrow)])
def test_outcomes_become_a_frame(library: str, make: Any) -> None:
    """With as many rows as there are outcomes, and the columns above; a reply of `batch_execute` likewise."""
    pytest.importorskip(library)
    frame = make(OUTCOMES)
    columns = frame.column_names if library == "pyarrow" else list(frame.columns)
    assert columns == list(columns_of(OUTCOMES))
    assert len(frame) == 3
    assert len(getattr(response(5), make.__name__)()) == 5
