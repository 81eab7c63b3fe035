"""Parts of one run, counted apart: put together they are the whole."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loopai.batch.reporting.quality import LONGEST_LABEL, OTHER, Expectation, Quality, label_of
from loopai.batch.reporting.statistics import BUCKETS, MOST_KINDS, Statistics
from loopai.batch.rows import ERROR, OK, Outcome, Row

LABELS = st.sampled_from(["spam", "ham", "a\0b", "é"])
ENDED = st.tuples(
    st.sampled_from([OK, ERROR]), st.integers(0, 5000), LABELS, LABELS, st.integers(1, 3),
    st.floats(0, 20_000, allow_nan=False), st.sampled_from(["timeout after 3 ms", "no 'words'", "\0", "half \ud800"]),
)  # fmt: skip


def outcome(ended: tuple[Any, ...]) -> Outcome:
    status, latency, expected, made, attempts, _, error = ended
    row = Row("k", {}, {"label": expected})
    output, error = ({"label": made}, None) if status == OK else (None, error)
    return Outcome(row, status, output, error, None, float(latency), attempts)


def tally_of(ended: list[tuple[Any, ...]]) -> Statistics:
    made = Statistics(0.0, Expectation("label"))
    for one in ended:
        made.add([outcome(one)], one[5])
    return made


def told(tally: Statistics) -> dict[str, Any]:
    """A tally with nothing in it that the order of its parts may change."""
    found = json.loads(json.dumps(tally.dump()))
    for name in ("last_error", "examples"):
        del found[name]
    found["quality"]["counts"] = sorted(found["quality"]["counts"])
    found["latencies"]["total"] = round(found["latencies"]["total"])
    return found


@given(st.lists(st.lists(ENDED, max_size=8), min_size=1, max_size=6))
def test_parts_merged_are_the_whole(parts: list[list[tuple[Any, ...]]]) -> None:
    """However a run is cut up, through JSON and back: counts, percentiles, time line and confusion matrix."""
    merged = Statistics(0.0, Expectation("label"))
    for part in parts:
        merged.merge(Statistics.load(json.loads(json.dumps(tally_of(part).dump()))))
    whole = Statistics.load(tally_of([one for part in parts for one in part]).dump())
    assert told(merged) == told(whole)
    for share in (0.5, 0.95):
        assert merged.latencies.percentile(share) == whole.latencies.percentile(share)
    assert merged.quality is not None
    assert whole.quality is not None
    assert merged.quality.accuracy == whole.quality.accuracy
    assert merged.timeline.width == whole.timeline.width


def test_a_dump_is_of_bounded_size() -> None:
    """Many kinds of errors, long texts, many and long labels, a long time: some kilobytes, and nothing uncounted."""
    tally = Statistics(0.0, Expectation("label"))
    for n in range(3_000):
        kind = "".join(chr(97 + int(digit)) for digit in str(n))
        failed = Outcome(Row("k" * 1_000, {}, {"label": ""}), ERROR, None, kind + "x" * 9_999, None, float(n), 1)
        right = Outcome(Row("k", {}, {"label": f"{n}" * 999}), OK, {"label": f"{n}" * 999}, None, None, float(n), 1)
        tally.add([failed, right], n * 10.0)
    dumped = tally.dump()
    assert len(json.dumps(dumped)) < 100_000
    assert sum(dumped["kinds"].values()) == sum(rows for *_, rows in dumped["quality"]["counts"]) == 3_000
    assert len(dumped["kinds"]) <= MOST_KINDS + 1
    assert len(dumped["timeline"]["spans"]) <= 2 * BUCKETS
    assert OTHER in {label for label, *_ in dumped["quality"]["counts"]}


def test_long_labels_are_equal_only_if_all_of_them_is() -> None:
    """What is kept of a long label tells it from one that begins alike."""
    one, other = "x" * LONGEST_LABEL + "a", "x" * LONGEST_LABEL + "b"
    assert label_of(one) == label_of(one)
    assert label_of(one) != label_of(other)
    assert len(label_of(one * 1_000)) < LONGEST_LABEL + 20
    quality = Quality()
    quality.add(label_of(one), label_of(other))
    assert quality.accuracy == 0.0
