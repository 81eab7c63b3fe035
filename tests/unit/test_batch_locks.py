"""Locks of files, and journals that others read while they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("fcntl", reason="this system has no locks of files")

from loopai.batch import FileJournal, Outcome, Row
from loopai.batch.locks import AlreadyLocked, lock_file
from loopai.batch.resume.journal import JournalReader


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """By one who holds it, until the file is closed."""
    with lock_file(tmp_path / "lock", 0o600), pytest.raises(AlreadyLocked):
        lock_file(tmp_path / "lock")
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    lock_file(tmp_path / "lock").close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_holds_no_lock_of_its_parent(tmp_path: Path) -> None:
    """Neither that of a file nor that of a journal: it may live on for hours after its parent has died."""
    held, journal = lock_file(tmp_path / "lock"), FileJournal(tmp_path / "journal")
    told, tell = os.pipe()
    ready, forked = os.pipe()
    child = os.fork()
    if not child:
        os.close(tell)
        os.write(forked, b".")
        os.read(told, 1)
        os._exit(0)
    os.close(told)
    try:
        os.read(ready, 1)  # the child has let go by then
        held.close()
        journal.close()
        lock_file(tmp_path / "lock").close()
        FileJournal(tmp_path / "journal").close()
    finally:
        for descriptor in (tell, ready, forked):
            os.close(descriptor)
        assert os.waitpid(child, 0)[1] == 0


def test_a_child_that_ends_leaves_its_parent_the_lock(tmp_path: Path) -> None:
    """Closing it there is no unlocking."""
    with lock_file(tmp_path / "lock"):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(AlreadyLocked):
            lock_file(tmp_path / "lock")


def outcomes(*statuses: str) -> list[Outcome]:
    return [Outcome(Row(f"{status} {number}", None), status) for number, status in enumerate(statuses)]  # type: ignore[arg-type]


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    """What is whole in it, and each time what has been added; a later generation is another file."""
    with pytest.raises(FileNotFoundError):
        JournalReader(tmp_path / "journal").refresh()
    reader = JournalReader(tmp_path / "journal")
    with FileJournal(tmp_path / "journal") as journal:
        reader.refresh()
        assert (reader.generation, reader.length, reader.is_current) == (0, 0, True)
        journal.record(outcomes("ok", "error", "doubtful", "ok", "cancelled"), 100)
        reader.refresh()
        assert (reader.length, reader.ok, reader.doubtful, reader.errors) == (100, 2, 1, 1)
        whole = (tmp_path / "journal").read_bytes()
        journal.record(outcomes("ok"), 120)
        last = (tmp_path / "journal").read_bytes()[len(whole) :]
        for end in range(len(last)):
            (tmp_path / "journal").write_bytes(whole + last[:end])
            reader.refresh()
            assert reader.length == 100
        (tmp_path / "journal").write_bytes(whole + last)
        reader.refresh()
        assert (reader.length, reader.ok) == (120, 3)
        kept = journal.rewrite(iter([(b"x" * 16, "ok")]), 40)
        os.replace(kept, tmp_path / "journal")
    assert not reader.is_current
    reader.refresh()
    assert (reader.generation, reader.length, reader.ok, reader.errors) == (1, 40, 1, 0)
    assert reader.is_current
