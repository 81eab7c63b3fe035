"""Keys that recur: found on disk, named with both lines."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from loopai.batch.formats.opening import open_source
from loopai.batch.resume.keys import DuplicateSearch, KeyIndex, confirm, digest
from loopai.batch.resume.prescan import prescan
from loopai.exceptions import DuplicateKeys


def _input(folder: Path, keys: list[object]) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"id": key}) + "\n" for key in keys))
    return path


def test_duplicates_are_named_with_both_lines(tmp_path: Path) -> None:
    """Before anything is sent; `1` and `"1"` are the same key."""
    source = open_source(_input(tmp_path, ["a", "b", 1, "a", "c", "1"]))
    with pytest.raises(DuplicateKeys, match=r"'a' on lines 1 and 4; '1' on lines 3 and 6"):
        prescan(source, "id", allow_duplicates=False)


def test_they_are_allowed_by_choice_and_beyond_the_limit(tmp_path: Path) -> None:
    """Rows that are not taken are not looked at."""
    source = open_source(_input(tmp_path, ["a", "b", "a"]))
    assert prescan(source, "id", allow_duplicates=True).rows == 3
    assert prescan(source, "id", allow_duplicates=False, limit=2).rows == 2


def test_a_first_reading_gathers_all_columns(tmp_path: Path) -> None:
    """The header of a CSV made of JSONL is known before its first row is written."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"a": 1}\n{"b": 2}\nbroken\n{"a": 1, "c": 3}\n')
    found = prescan(open_source(path), None, allow_duplicates=False)
    assert (found.rows, found.columns) == (4, ["a", "b", "c"])


def test_a_hundred_thousand_keys_are_not_held_in_memory() -> None:
    """The search holds a megabyte of hashes at a time; the one duplicate is found among them."""
    keys = [f"key-{number:08}" for number in range(100_000)]
    keys[99_999] = keys[123]
    tracemalloc.start()
    search = DuplicateSearch()
    try:
        for key in keys:
            search.add(key)
        suspects = search.suspects()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        search.close()
    assert [str(found) for found in confirm(suspects, zip(keys, range(1, 100_001)))] == [
        "'key-00000123' on lines 124 and 100000"
    ]
    assert peak < 3_000_000


def test_an_index_tells_which_digests_are_new() -> None:
    """A stream that is read once is checked with it as it goes, chunk by chunk."""
    index = KeyIndex()
    assert index.put_new([(digest("a"), 1), (digest("b"), 2)]) == {}
    assert index.put_new([(digest("c"), 3), (digest("a"), 4), (digest("d"), 5), (digest("d"), 6)]) == {1: 1, 3: 5}
    assert index.get(digest("c")) == 3
    assert index.get(digest("z")) is None
    assert len(index) == 4
    index.close()


def test_a_digest_has_one_size() -> None:
    """However long the key, and whatever characters it has."""
    assert {len(digest(key)) for key in ("", "a", "k" * 100_000, "\ud800")} == {16}
