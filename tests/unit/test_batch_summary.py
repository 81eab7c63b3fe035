"""Quality, latency, throughput and the report page, of one size however many rows there were."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any, Optional

import pytest

from loopai import ConfigurationError
from loopai.batch import BatchOptions, Outcome, Row
from loopai.batch.reporting.charts import columns, milliseconds, number
from loopai.batch.reporting.progress import Lines, ProgressBar, clock_time, progress_line, watcher_for
from loopai.batch.reporting.quality import MOST_LABELS, OTHER, Expectation, Quality, label_of, wilson
from loopai.batch.reporting.report import page
from loopai.batch.reporting.snapshot import Snapshot
from loopai.batch.reporting.statistics import (
    MOST_DUMPED_ROWS,
    MOST_ROWS,
    Latencies,
    Statistics,
    Summary,
    Timeline,
    kind_of,
    summary_of,
)


def test_precision_recall_and_confusion_are_as_counted_by_hand() -> None:
    """8 ham and 4 spam, of which 1 ham and 1 spam are wrong."""
    quality = Quality()
    for expected, predicted, times in (("ham", "ham", 7), ("ham", "spam", 1), ("spam", "spam", 3), ("spam", "ham", 1)):
        for _ in range(times):
            quality.add(expected, predicted)
    assert quality.accuracy == 10 / 12
    assert quality.matrix() == [[7, 1], [1, 3]]
    classes = quality.classes()
    assert (classes["ham"]["precision"], classes["ham"]["recall"]) == (7 / 8, 7 / 8)
    assert (classes["spam"]["precision"], classes["spam"]["recall"], classes["spam"]["rows"]) == (3 / 4, 3 / 4, 4)


def test_a_label_nobody_predicted_has_no_precision() -> None:
    """Undefined is not zero."""
    quality = Quality()
    quality.add("a", "b")
    assert quality.classes()["a"]["precision"] is None
    assert quality.classes()["b"]["recall"] is None
    assert Quality().accuracy is None


def test_a_field_with_too_many_labels_stays_small() -> None:
    """Beyond the bound all are one, which is never right by itself."""
    quality = Quality()
    for place in range(1000):
        quality.add(str(place), str(place))
    assert len(quality.labels) == MOST_LABELS + 1
    assert OTHER in quality.labels
    assert quality.accuracy == MOST_LABELS / 1000


@pytest.mark.parametrize(
    ("text", "output", "predicted"),
    [
        ("label", {"label": "spam", "score": 1}, "spam"),
        ("label", {"verdict": "spam"}, "spam"),
        ("label", "spam", "spam"),
        ("label", {"a": 1, "b": 2}, '{"a":1,"b":2}'),
        ("label=output.verdict.name", {"verdict": {"name": "spam"}}, "spam"),
        ("label=output", "spam", "spam"),
        ("label=output.x", {"y": 1}, "(none)"),
        ("label", True, "true"),
        ("label", 2.0, "2"),
    ],
)
def test_where_the_programs_label_is(text: str, output: Any, predicted: str) -> None:
    """The member of that name, the only member, the whole output, or where it is said."""
    assert Expectation(text).predicted(output) == predicted


def test_an_expectation_that_says_nothing_is_refused() -> None:
    """A path starts at the result."""
    for text in ("", "label=", "label=verdict"):
        with pytest.raises(ConfigurationError, match="output"):
            Expectation(text)
    assert Expectation("label").expected({"label": None}) is None
    assert Expectation("label").expected({}) is None
    assert label_of(None) == "(none)"


def test_percentiles_are_right_to_5_percent_and_few() -> None:
    """A million latencies are some hundred counts."""
    latencies = Latencies()
    for place in range(1, 10_001):
        latencies.add(place / 10)
    assert latencies.percentile(0.5) == pytest.approx(500, rel=0.05)
    assert latencies.percentile(0.95) == pytest.approx(950, rel=0.05)
    assert latencies.mean == pytest.approx(500.05)
    assert len(latencies.counts) < 300
    assert sum(rows for *_, rows in latencies.bars()) == 10_000
    assert Latencies().percentile(0.5) is None


def test_a_timeline_of_any_length_has_few_spans() -> None:
    """Spans double as time goes on, and no row is lost from them."""
    timeline = Timeline()
    for second in range(100_000):
        timeline.add(float(second), 2, 1)
    assert 60 <= len(timeline.spans) <= 120
    assert [sum(part) for part in zip(*timeline.spans)] == [200_000, 100_000]


def test_errors_of_one_kind_are_counted_together() -> None:
    """What differs from row to row is left out, and kinds are bounded."""
    assert kind_of("line 12 is not utf-8") == "line … is not utf-8"
    assert kind_of("line 3 is not iso-8859-15") == "line … is not iso-8859-15"
    assert kind_of("no 'a' on line 12 of 7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60") == "no … on line … of …"
    tally = Statistics(0.0)
    words = [first + second for first in "abcdefghij" for second in "klmnopqrst"]
    tally.add([Outcome(Row(word, None), "error", error=f"error {word}") for word in words], 1.0)
    assert len(tally.kinds) == 41
    assert tally.kinds["other errors"] == 60


class _Page(HTMLParser):
    """What a page holds, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "data"}]
        if tag not in {"meta", "line", "rect", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _tally(expect: bool = True) -> Statistics:
    tally = Statistics(0.0, Expectation("label") if expect else None)
    for second in range(30):
        outcomes = [Outcome(Row("k", None, {"label": "<b>"}), "ok", "<b>", latency_ms=1.5 + n) for n in range(5)]
        outcomes.append(
            Outcome(Row("bad<", None, {"label": "x"}), "error", error="<script>alert(1)</script>", latency_ms=9.0)
        )
        tally.add(outcomes, float(second))
    return tally


def test_the_report_is_one_page_that_loads_nothing() -> None:
    """Charts are in it as SVG, texts are escaped, tags close."""
    tally = _tally()
    now = Snapshot(150, 30, 3, statistics=tally, task="t", name="tri<age", source="in.csv")
    made = page(now, summary_of(tally, "finished", 3, 30.0), datetime(2026, 1, 2, tzinfo=timezone.utc))
    parsed = _Page()
    parsed.feed(made)
    assert parsed.open == []
    assert parsed.loads == []
    assert "<script" not in made
    assert "url(" not in made
    assert parsed.tags["svg"] == 2
    assert parsed.tags["table"] == 3
    assert made.count('role="img" aria-label=') == 2
    assert "prefers-color-scheme: dark" in made
    assert "Errors by kind" in made
    assert "3 from an earlier run" in made


@pytest.mark.parametrize("ended", ["finished", "max_errors", "unreachable", "fatal_error", "interrupted"])
def test_a_report_of_a_run_without_rows(ended: str) -> None:
    """No chart is better than an empty one."""
    tally = Statistics(0.0)
    now = Snapshot(0, 0, statistics=tally, task="t")
    made = page(now, summary_of(tally, ended, 0, 0.0), datetime(2026, 1, 2, tzinfo=timezone.utc))
    parsed = _Page()
    parsed.feed(made)
    assert "svg" not in parsed.tags
    assert "No row has ended" in made


def test_columns_are_to_scale() -> None:
    """A column of half the largest tick is half as high."""
    made = columns([("a", (50.0,)), ("b", (100.0,))], [("rows", "ok")], [(0.0, "0"), (1.0, "1")], "name")
    heights = [float(height) for height in re.findall(r'class="ok"[^>]*height="([\d.]+)"', made)]
    assert heights == [50.0, 100.0]


def test_figures_are_short() -> None:
    """As people write them."""
    assert [number(value) for value in (0, 0.35, 12, 1234, 1_250_000)] == ["0", "0.35", "12", "1,234", "1.25M"]
    assert [milliseconds(value) for value in (0.05, 1.5, 2500)] == ["50 µs", "1.5 ms", "2.5 s"]
    assert [clock_time(value) for value in (7, 750, 11045)] == ["0:07", "12:30", "3:04:05"]


def _snapshot(seconds: float, **more: Any) -> Snapshot:
    return Snapshot(**{"ok": 150, "errors": 30, "seconds": seconds, **more})


def test_lines_come_every_few_seconds_and_at_the_end() -> None:
    """Done, ok, errors, rate, in flight, last error: plain, or as JSON."""
    out = io.StringIO()
    lines = Lines(out, 5.0, as_json=False)
    for second in range(13):
        lines.update(_snapshot(float(second), last_error="<script>"))
    lines.finish(_snapshot(12.0), summary_of(_tally(), "finished", 0, 30.0))
    said = out.getvalue().splitlines()
    assert len(said) == 3
    assert said[0].startswith("180 rows, 150 ok, 30 errors, 36 rows/s, 0 in flight")
    assert "last error: <script>" in said[0]


def test_the_time_left_is_told_by_rows_or_by_the_input() -> None:
    """And a pause instead of it."""
    assert _snapshot(30.0).left is None
    assert _snapshot(30.0, total=360).left == pytest.approx(30.0)
    assert _snapshot(30.0, read=0.25).left == pytest.approx(90.0)
    paused = _snapshot(30.0, total=360, paused=60.0)
    assert "paused 60 s" in progress_line(paused)
    assert paused.to_dict()["paused_s"] == 60.0


def test_a_bar_is_drawn_on_a_terminal() -> None:
    """By Rich; elsewhere lines, and nothing where nothing is asked for."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    (bar,) = watcher_for("auto", terminal)
    assert isinstance(bar, ProgressBar)
    bar.update(_snapshot(30.0))
    summary: Summary = summary_of(_tally(), "finished", 0, 30.0)
    bar.finish(_snapshot(30.0), summary)
    assert "180 rows" in terminal.getvalue()
    assert "30 errors" in terminal.getvalue()
    assert isinstance(watcher_for("auto", io.StringIO())[0], Lines)
    assert watcher_for("none", terminal) == []


def test_a_run_that_was_stopped_is_not_all_of_it() -> None:
    """The bar stays where it was, though an input that is closed counts as read."""

    terminal = io.StringIO()
    bar = ProgressBar(terminal)
    bar.update(_snapshot(30.0, read=0.25))
    bar.finish(_snapshot(30.0, read=1.0), summary_of(_tally(), "interrupted", 0, 30.0))
    assert "25%" in terminal.getvalue()
    assert "100%" not in terminal.getvalue()


def test_the_report_lists_the_rows_that_were_wrong_or_failed() -> None:
    """With input, output, what was expected and the error; the first 200, and how many there are."""
    statistics = Statistics(0.0, Expectation("label"))
    rows = [Row(str(at), {"text": f"<b>{at}"}, {"label": "spam"}) for at in range(300)]
    statistics.add([Outcome(row, "ok", output={"label": "ham"}, attempts=1) for row in rows[:1]], 1.0)
    statistics.add([Outcome(row, "ok", output={"label": "spam"}, attempts=1) for row in rows[1:2]], 1.0)
    statistics.add(
        [Outcome(row, "error", error="no " + "x" * 9000, code="program", attempts=1) for row in rows[2:]], 1.0
    )
    assert [row.key for row in statistics.reported[:3]] == ["0", "2", "3"]
    assert len(statistics.reported) == MOST_ROWS
    loaded = Statistics.load(json.loads(json.dumps(statistics.dump())))
    assert loaded.reported == statistics.reported[:MOST_DUMPED_ROWS]
    summary = summary_of(statistics, "finished", 0, 2.0)
    snapshot = Snapshot(2, 298, statistics=statistics, options={"mapping": "text=body"})
    shown = page(snapshot, summary, datetime.now(timezone.utc))
    assert "The first 200 of 299" in shown
    assert "&lt;b&gt;0" in shown
    assert "<dt>expected</dt><dd>spam</dd>" in shown
    assert "<dt>mapping</dt><dd>text=body</dd>" in shown
    statistics.merge(Statistics.load(statistics.dump()))
    assert len(statistics.reported) == MOST_ROWS


def test_a_share_of_few_rows_comes_with_its_uncertainty() -> None:
    """Wilson's interval, which holds where all are right, too."""
    low, high = wilson(1.0, 10)
    assert (round(low, 3), round(high, 3)) == (0.722, 1.0)
    low, high = wilson(0.5, 100)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)


def test_options_that_were_given_are_told_as_texts() -> None:
    """Those that differ from their defaults; objects of the caller's are not among them."""
    bar = ProgressBar(io.StringIO())
    given = BatchOptions(mapping=["a=b", "c=d"], max_errors="5%", ordered=True, watchers=[bar]).given()
    assert given == {"mapping": "a=b, c=d", "max_errors": "5%", "ordered": "True"}
