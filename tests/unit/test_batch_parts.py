"""Parts of one run, counted and read apart: put together they are the whole."""

from __future__ import annotations

import csv
import io
import json
import math
from itertools import islice
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopai.batch.formats.opening import ParquetSource, open_source
from loopai.batch.formats.positions import START, Place
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


# Reading from the middle


CELLS = st.text(st.sampled_from('a1é😀 ,;"\n\r'), max_size=6)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "cp1252"]


def from_every_place(path: Path, encoding: Optional[str] = None) -> None:
    options = {} if encoding is None else {"encoding": encoding}
    whole = list(open_source(path, **options))  # type: ignore[arg-type]
    source = open_source(path, **options)  # type: ignore[arg-type]
    places = [START]
    for number, record in enumerate(source.read_from(START), 1):
        assert record == whole[number - 1]
        places.append(Place.of(str(source.place(number, record[0]))))
    for place in places:
        assert list(open_source(path, **options).read_from(place)) == whole[place.rows :]  # type: ignore[arg-type]


@given(st.lists(st.tuples(CELLS, CELLS), max_size=12), st.sampled_from(ENCODINGS), st.sampled_from(["\n", "\r\n"]))
def test_csv_goes_on_from_every_row(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], encoding: str, ends: str
) -> None:
    """Cells with lines and quotes in them, encodings of one and of several bytes, broken rows: rows and line numbers
    are those of a reading from the start."""
    path = tmp_path_factory.mktemp("places") / "rows.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=ends)
    writer.writerow(["first", "second"])
    writer.writerows(cells)
    text.write(f'short{ends}"torn"x,y{ends}1,2')
    path.write_bytes(text.getvalue().encode(encoding, "replace"))
    from_every_place(path, encoding)


@given(st.lists(st.sampled_from(['{"a": 1}', '{"a": "é😀"}', "", "[1]", "{", " ", '{"a": "\\u0000"}']), max_size=12))
def test_jsonl_goes_on_from_every_row(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """Blank and broken lines, a byte order mark: as above."""
    path = tmp_path_factory.mktemp("places") / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    from_every_place(path)


@pytest.mark.parametrize("group", [1, 7, 1_000])
def test_parquet_goes_on_from_every_row(tmp_path: Path, group: int) -> None:
    """Within a row group, at its border and in the one after."""
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    rows = [{"n": n, "share": math.sqrt(n)} for n in range(30)]
    pyarrow.parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=group)
    from_every_place(tmp_path / "rows.parquet")


def test_parts_of_one_row_group_are_read_on_and_not_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each part of a file as pandas writes it, one group, would cost as much as all before it."""
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow.table({"n": list(range(2_500))}), tmp_path / "rows.parquet")
    source = open_source(tmp_path / "rows.parquet")
    assert isinstance(source, ParquetSource)
    opened = []
    open_file = source._file
    monkeypatch.setattr(source, "_file", lambda: opened.append(1) or open_file())

    def part(first: int) -> list[int]:
        return [columns["n"] for _, columns, _ in islice(source.read_from(Place(first)), 90) if columns is not None]

    for first in range(0, 2_500, 90):
        assert part(first) == list(range(first, min(first + 90, 2_500)))
    assert len(opened) == 1
    assert part(2_500) == []
    assert part(30) == list(range(30, 120))
    assert len(opened) == 2

    one, other = source.read_from(Place(1_200)), source.read_from(Place(1_300))
    assert [next(reading)[0] for reading in (one, other, one, other)] == [1_201, 1_301, 1_202, 1_302]
