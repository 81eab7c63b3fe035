"""What the embedded server's database promises its service."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai.local import timestamps
from loopai.local.records import NewArtifact, TaskRecord, new_id
from loopai.local.store import NameTaken, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "new" / "folder")
    yield store
    store.close()


def task(name: str = "t") -> TaskRecord:
    moment = timestamps.now()
    return TaskRecord(new_id(), name, "d", b"{}", b"{}", b"[]", 0.9, 10, 0.1, moment, moment)


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    """What was written before the error is undone, and the next transaction works."""

    def add_twice() -> None:
        with store.transaction() as transaction:
            store.add_task(transaction, task())
            store.add_task(transaction, task())

    with pytest.raises(NameTaken):
        add_twice()
    assert store.tasks() == []
    with store.transaction() as transaction:
        store.add_task(transaction, task())
    assert store.count_tasks() == 1


def test_versions_count_up_and_the_highest_active_one_runs(store: Store) -> None:
    """Drafts have versions too and are not active."""
    made = task()
    with store.transaction() as transaction:
        store.add_task(transaction, made)
        for status in ("active", "active", "draft"):
            store.add_artifact(transaction, NewArtifact(made.id, "code", "python", status))
    artifacts = store.artifacts(made.id)
    assert [artifact.version for artifact in artifacts] == [1, 2, 3]
    assert store.active_program(made.id) == (artifacts[1].id, 2)
    state = store.task(made.id)
    assert state is not None
    assert (state.active_version, state.total_versions) == (2, 3)


def test_an_artifact_needs_its_task(store: Store) -> None:
    """A program of a task that is not there is refused by the database itself."""
    with pytest.raises(sqlite3.IntegrityError), store.transaction() as transaction:
        store.add_artifact(transaction, NewArtifact(new_id(), "code", "python", "active"))


def test_a_kept_reply_stands_until_it_is_old(store: Store) -> None:
    """A key's first reply is not overwritten within its time; afterwards it is forgotten and the key is free."""

    def keep(body: bytes, since: int) -> bool:
        with store.transaction() as transaction:
            return store.keep_reply(transaction, "k", b"f", 200, None, body, since)

    past, future = 0, timestamps.now() + timestamps.TICKS_A_SECOND * 60
    assert keep(b"first", past)
    assert not keep(b"second", past)
    assert store.reply("k", past) == (b"f", 200, None, b"first")
    assert store.reply("k", future) is None
    assert keep(b"third", future)
    assert store.reply("k", past) == (b"f", 200, None, b"third")
    store.drop_replies(past)
    assert store.reply("k", past) is not None
    store.drop_replies(future)
    assert store.reply("k", past) is None


def test_a_private_folder_goes_with_the_store() -> None:
    """Without a folder of its own choice a store leaves nothing behind."""
    store = Store(None)
    folder = store.folder
    store.probe()
    store.close()
    assert not folder.exists()


def test_a_probe_finds_a_lost_file(store: Store) -> None:
    """Connections that are open still would not notice."""
    store.probe()
    (store.folder / "loopai.db").unlink()
    with pytest.raises(sqlite3.OperationalError):
        store.probe()
