"""Rows that are kept to be run later: as if they came from their source, whatever has become of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from loopai import SyncLoopaiClient
from loopai.batch import BatchOptions, Row
from loopai.batch.api import rows_of
from loopai.batch.formats.spooled_rows import SpoolSource, spool_line
from loopai.testing import FakeLoopai, ProgramError

ROWS = [{"id": "a", "body": "x", "n": 1}, {"id": "b"}, {"id": "c", "body": "bad"}, {"id": "d", "body": math.nan}]


def spooled(path: Path, rows: Any, **options: Any) -> SpoolSource:
    values, reader = rows_of(rows, BatchOptions(**options))
    made = reader.select(reader.make(list(values)))  # type: ignore[arg-type]  # not an asynchronous one
    reader.close()
    path.write_bytes(b"".join(map(spool_line, made)))
    return SpoolSource(path, len(made))


def run(client: SyncLoopaiClient, rows: Any, output: Path, **options: Any) -> list[dict[str, Any]]:
    client.run_batch("spam", rows, output, **options)
    return [json.loads(line) for line in output.read_text().splitlines()]


def program(fake: FakeLoopai) -> None:
    def upper(given: dict[str, str]) -> str:
        if given["text"] == "bad":
            raise ProgramError("no")
        return given["text"].upper()

    fake.task("spam").computes(upper)


def test_kept_rows_end_as_the_rows_themselves(tmp_path: Path, loopai_fake: FakeLoopai) -> None:
    """With their key among the columns, and those that cannot run with their errors."""
    program(loopai_fake)
    client = loopai_fake.client()
    options: dict[str, Any] = {"key": "id", "mapping": ["text=body"]}
    kept = run(client, spooled(tmp_path / "rows.jsonl", ROWS, **options), tmp_path / "kept.jsonl", ordered=True)
    direct = run(client, ROWS, tmp_path / "direct.jsonl", ordered=True, **options)
    assert [row.pop("loopai_key") for row in kept] == ["a", "b", "c", "d"]
    assert kept == direct
    assert "no column 'body'" in kept[1]["loopai_error"]
    assert "cannot be sent as JSON" in kept[3]["loopai_error"]


def test_how_many_rows_there_are_is_known(tmp_path: Path, loopai_fake: FakeLoopai) -> None:
    """So that progress has an end."""
    program(loopai_fake)
    totals = []

    class Watcher:
        def update(self, snapshot: Any) -> None:
            totals.append(snapshot.total)

        def finish(self, snapshot: Any, summary: Any) -> None:
            totals.append(snapshot.total)

    source = spooled(tmp_path / "rows.jsonl", [{"text": "x"}] * 3)
    loopai_fake.client().run_batch("spam", source, tmp_path / "out.jsonl", watchers=[Watcher()])
    assert set(totals) == {3}


def test_a_watcher_may_count_earlier_rows(tmp_path: Path, loopai_fake: FakeLoopai) -> None:
    """Of a run that is resumed: its report is then of all of it."""
    program(loopai_fake)

    class Watcher:
        counts_earlier = True
        ok = 0

        def update(self, snapshot: Any) -> None: ...

        def finish(self, snapshot: Any, summary: Any) -> None:
            self.ok = snapshot.statistics.ok

    rows = [{"text": "x"}] * 2 + [{"text": "bad"}]
    output = tmp_path / "out.jsonl"
    watcher = Watcher()
    source = spooled(tmp_path / "rows.jsonl", rows)
    client = loopai_fake.client()
    client.run_batch("spam", source, output, allow_duplicates=True)
    output.chmod(0o600)
    client.run_batch("spam", source, output, mode="retry_failed", allow_duplicates=True, watchers=[watcher])
    assert watcher.ok == 2
    assert output.stat().st_mode & 0o777 == 0o600


def test_a_row_without_columns_is_kept(tmp_path: Path, loopai_fake: FakeLoopai) -> None:
    """Any input that JSON can say, and half of a pair, which it cannot."""
    loopai_fake.task("spam").computes(lambda given: given)
    inputs = [1, None, [1, {"a": "ü"}], "\ud800"]
    rows = [Row(str(number), given) for number, given in enumerate(inputs)]
    found = run(loopai_fake.client(), spooled(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", ordered=True)
    assert [row["loopai_output"] for row in found] == [1, None, [1, {"a": "ü"}], None]
    assert [row["loopai_status"] for row in found] == ["ok", "ok", "ok", "error"]
