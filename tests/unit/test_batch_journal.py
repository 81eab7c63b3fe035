"""The journal: what survives a kill, what is refused, who may run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopai import ConfigurationError
from loopai.batch import FileJournal, JournalError, Outcome, Row

FACTS = {"task": "t1", "input": {"name": "a.csv", "bytes": 10, "digest": "d1"}, "mapping": ["text=body"], "key": "id"}


def _outcome(key: str, status: str = "ok") -> Outcome:
    return Outcome(Row(key, None), status, error=None if status == "ok" else "x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of three rows: a and b ok, c failed."""
    place = tmp_path / "out.jsonl.journal"
    with FileJournal(place, FACTS) as journal:
        assert not journal.resumed
        journal.record([_outcome("a"), _outcome("b")], 100)
        journal.record([_outcome("c", "error"), _outcome("d", "cancelled")], 150)
    return place


def _ended(journal: FileJournal, keys: str = "abcd") -> str:
    return "".join(key for key in keys if journal.ended(Row(key, None)))


def test_resume_passes_over_what_ended_and_retry_failed_over_what_ended_ok(path: Path) -> None:
    """Cancelled rows have yet to run in both."""
    with FileJournal(path, FACTS) as journal:
        assert (journal.resumed, journal.length, journal.ok, journal.errors) == (True, 150, 2, 1)
        assert _ended(journal) == "abc"
    with FileJournal(path, FACTS, retry_failed=True) as journal:
        assert _ended(journal) == "ab"


@pytest.mark.slow
def test_a_torn_tail_is_dropped_at_every_length(path: Path) -> None:
    """Cut anywhere, the journal opens with the records that are whole, and can be written on."""
    whole = path.read_bytes()
    seen = set()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with FileJournal(path, FACTS) as journal:
            found = _ended(journal)
            seen.add((found, journal.length))
            journal.record([_outcome("z")], 999)
        with FileJournal(path, FACTS) as journal:
            assert _ended(journal, "abcz") == found + "z"
    assert seen == {("", 0), ("ab", 100)}


def test_a_flipped_bit_ends_the_reading_there(path: Path) -> None:
    """The checksum tells; what follows runs again rather than being believed."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with FileJournal(path, FACTS) as journal:
        assert (_ended(journal), journal.length) == ("ab", 100)
        assert journal.dropped > 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task": "t2"}, "its task is 't1', this run's 't2'"),
        ({"mapping": ["text=title"]}, "its mapping is text=body, this run's text=title"),
        ({"key": None}, "its key is 'id', this run's none"),
        (
            {"input": {"name": "b.csv", "bytes": 9, "digest": "d2"}},
            r"its input is a.csv \(bytes 10, digest d1\), this run's b.csv \(bytes 9, digest d2\)",
        ),
    ],
)
def test_another_runs_journal_is_refused_with_the_difference(path: Path, change: dict[str, object], told: str) -> None:
    """And left as it is."""
    before = path.read_bytes()
    with pytest.raises(JournalError, match=told):
        FileJournal(path, {**FACTS, **change})
    assert path.read_bytes() == before


def test_the_same_content_under_another_name_is_the_same_input(path: Path) -> None:
    """A renamed input resumes."""
    with FileJournal(path, {**FACTS, "input": {"name": "z.csv", "bytes": 10, "digest": "d1"}}) as journal:
        assert journal.resumed


def test_a_file_that_is_no_journal_is_not_touched(tmp_path: Path) -> None:
    """Not even where it is named by mistake."""
    path = tmp_path / "letter.txt"
    path.write_text("Dear Ada")
    with pytest.raises(JournalError, match="is not a journal"):
        FileJournal(path, FACTS)
    assert path.read_text() == "Dear Ada"


def test_one_runner_at_a_time(path: Path) -> None:
    """A second is refused while the first has it open, in this process or another; the first's end frees it."""
    with FileJournal(path, FACTS), pytest.raises(JournalError, match="another run is using"):
        FileJournal(path, FACTS)
    FileJournal(path, FACTS).close()


def test_a_killed_runner_never_blocks_the_next(path: Path) -> None:
    """The lock dies with its process."""
    holder = (
        "import sys, time\nfrom loopai.batch import FileJournal\n"
        "journal = FileJournal(sys.argv[1], eval(sys.argv[2]))\nprint('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path), repr(FACTS)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(JournalError, match="another run is using"):
            FileJournal(path, FACTS)
        process.kill()
        process.wait()
        with FileJournal(path, FACTS) as journal:
            assert _ended(journal) == "abc"


def test_its_size_a_row_is_bounded(tmp_path: Path) -> None:
    """17 bytes, however long the key."""
    path = tmp_path / "j"
    with FileJournal(path, FACTS) as journal:
        before = os.path.getsize(path)
        journal.record([_outcome("k" * 10_000 + str(number)) for number in range(100)], 0)
        assert os.path.getsize(path) - before < 100 * 17 + 20


def test_rows_of_one_key_are_told_apart_by_line_where_keys_may_recur(tmp_path: Path) -> None:
    """The second of two rows with one key is not taken for the first."""
    with FileJournal(tmp_path / "j", FACTS, by_line=True) as journal:
        journal.record([Outcome(Row("a", None, line=1), "ok")], 0)
    with FileJournal(tmp_path / "j", FACTS, by_line=True) as journal:
        assert journal.ended(Row("a", None, line=1))
        assert not journal.ended(Row("a", None, line=2))


def test_a_finished_run_says_so_until_more_is_recorded(path: Path) -> None:
    """Finished is a record like any other."""
    with FileJournal(path, FACTS) as journal:
        journal.finish({"ok": 2})
    with FileJournal(path, FACTS) as journal:
        assert journal.finished == {"ok": 2}
        journal.record([_outcome("e")], 200)
    with FileJournal(path, FACTS) as journal:
        assert journal.finished is None


def test_without_file_locks_it_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: importing works, and a journal is refused in one sentence, with nothing left behind."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigurationError, match="Linux or macOS"):
        FileJournal(tmp_path / "run.journal")
    assert list(tmp_path.iterdir()) == []
