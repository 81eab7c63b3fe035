"""Bytes cut into rows of JSONL and of JSON arrays, wherever the parts of the stream begin and end."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopai._core.splitting import ArraySplitter, LineSplitter, NotAnArray

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def fed(splitter, data: bytes, size: int):
    """All rows of data that comes in parts of that size."""
    found = []
    for start in range(0, len(data), size):
        found += splitter.feed(data[start : start + size])
    found += splitter.finish() or ()
    return found


@settings(deadline=None)
@given(
    rows=st.lists(JSON, max_size=5),
    size=st.integers(1, 9) | st.just(10_000),
    indent=st.sampled_from([None, 1]),
    mark=st.booleans(),
)
def test_an_array_is_cut_into_its_elements(rows, size, indent, mark) -> None:
    """Whatever texts and nested values hold."""
    data = (b"\xef\xbb\xbf" if mark else b"") + json.dumps(rows, ensure_ascii=False, indent=indent).encode() + b" \n"
    assert [(number, json.loads(row)) for number, row in fed(ArraySplitter(10_000), data, size)] == list(
        enumerate(rows, 1)
    )


@settings(deadline=None)
@given(lines=st.lists(st.sampled_from(["", " \t", "{}", '{"a": 1}', "x"]), max_size=8), size=st.integers(1, 9))
def test_lines_keep_their_numbers_though_blank_ones_are_skipped(lines, size) -> None:
    """With either line break, and none at the end."""
    wanted = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for line_break in ("\n", "\r\n"):
        found = fed(LineSplitter(100), b"\xef\xbb\xbf" + line_break.join(lines).encode(), size)
        assert [(number, row.decode().strip()) for number, row in found] == wanted


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_row_longer_than_the_limit_is_skipped_to_its_end(size) -> None:
    """The rows around it are read, and it keeps its number; blanks beside a row do not make it longer."""
    rows = ["short", "x" * 100, {"deep": ["y" * 100, '",]']}, "end"]
    assert [number for number, row in fed(ArraySplitter(50), json.dumps(rows).encode(), size) if row is None] == [2, 3]
    lines = b"\n".join(json.dumps(row).encode() for row in rows)
    assert [number for number, row in fed(LineSplitter(50), lines, size) if row is None] == [2, 3]
    flat = [{"n": 1}, {"text": "z" * 100}, {"text": '},{"', "n": -1.5e3}, {}, {}]
    found = fed(ArraySplitter(50), json.dumps(flat, indent=1).encode(), size)
    assert [row and json.loads(row) for _, row in found] == [flat[0], None, *flat[2:]]
    blanks = b"[" + b" " * 100 + b'"a",' + b"\n" * 100 + b'"b"]'
    assert [row for _, row in fed(ArraySplitter(50), blanks, size)] == [b'"a"', b'"b"']


@pytest.mark.parametrize(
    "data", [b"", b" ", b"{}", b"12", b'"[]"', b"[1", b'["a]', b"[1] 2", b"[] []", b"\xef\xbb", b"]"]
)
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_not_an_array_is_an_error(data, size) -> None:
    """At the start, after its end, and where it breaks off."""
    with pytest.raises(NotAnArray):
        fed(ArraySplitter(50), data, size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("splitter", "data"),
    [
        (LineSplitter, b"\n" * 4_000_000),
        (LineSplitter, b"x" * 4_000_000),
        (ArraySplitter, b"[" + b" " * 4_000_000),
        (ArraySplitter, b'["' + b"x" * 4_000_000),
        (ArraySplitter, b'["' + b"\\n" * 2_000_000),
        (ArraySplitter, b"[" * 1_000_000),
        (ArraySplitter, b'[{"a":"' + b'","' * 1_000_000),
    ],
    ids=["blank lines", "one line", "blanks", "one text", "escapes", "deep", "texts of one object"],
)
def test_time_is_linear_whatever_comes(splitter, data) -> None:
    """The whole takes about four times the CPU time of a quarter; what is quadratic takes sixteen times."""
    splitting = splitter(1_000_000)
    began = time.process_time()
    quarter = 0.0
    for start in range(0, len(data), 1000):
        assert list(splitting.feed(data[start : start + 1000])) == []
        if not quarter and start >= len(data) // 4:
            quarter = time.process_time() - began
    assert time.process_time() - began < 9 * quarter + 0.2
