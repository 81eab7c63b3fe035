"""What a user sees of how certain programs are: on results, outcomes and rows of files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopai import SyncLoopaiClient
from loopai.batch.engine.chunks import outcome_of
from loopai.batch.rows import Row
from loopai.shell.command import BatchCommand
from loopai.testing import Certain, FakeLoopai

SHARES = {"sure": 0.97, "unsure": 0.55, "silent": None}
MAILS = [{"id": name, "text": name} for name in SHARES]


def _program(given: dict[str, str]) -> Any:
    share = SHARES[given["text"]]
    return "spam" if share is None else Certain("spam", share)


@pytest.fixture
def client() -> Any:
    fake = FakeLoopai()
    fake.task("spam").computes(_program)
    with fake.client() as made:
        yield made


def test_a_result_says_how_certain_it_is(client: SyncLoopaiClient) -> None:
    """Where the program says so, alone and in a batch."""
    assert client.execute("spam", {"text": "unsure"}).confidence == 0.55
    assert client.execute("spam", {"text": "silent"}).confidence is None
    results = client.batch_execute("spam", [{"text": name} for name in SHARES]).results
    assert [result.confidence for result in results] == [0.97, 0.55, None]


def test_doubtful_rows_are_set_apart_with_their_output(client: SyncLoopaiClient) -> None:
    """A row whose program does not say how certain it is is not doubtful."""
    outcomes = client.batch_stream("spam", MAILS, key="id", min_confidence=0.8)
    found = {one.key: (one.status, one.ok, one.output, one.confidence) for one in outcomes}
    assert found == {
        "sure": ("ok", True, "spam", 0.97),
        "unsure": ("doubtful", False, "spam", 0.55),
        "silent": ("ok", True, "spam", None),
    }


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_files_rows_say_so(client: SyncLoopaiClient, tmp_path: Path, suffix: str) -> None:
    """Status, output and confidence stand in every format, and the summary counts doubtful rows apart."""
    from loopai.batch.formats.opening import open_source

    output = tmp_path / f"out.{suffix}"
    given = [{**mail, "label": "ham"} for mail in MAILS]
    summary = client.run_batch(
        "spam", given, output, key="id", mapping=["text=text"], expect="label", min_confidence=0.8
    )
    assert (summary.ok, summary.doubtful, summary.errors, summary.rows) == (2, 1, 0, 3)
    assert summary.quality is not None
    assert summary.quality["rows"] == 2
    rows = {row["id"]: row for _, row, _ in open_source(output) if row is not None}
    assert rows["unsure"]["loopai_status"] == "doubtful"
    assert str(rows["unsure"]["loopai_output"]).strip('"') == "spam"
    assert float(rows["unsure"]["loopai_confidence"]) == 0.55
    assert not rows["silent"]["loopai_confidence"]


def test_doubtful_rows_are_finished(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Neither resuming nor repeating failed rows runs them again, and they are counted as what they were."""
    output = tmp_path / "out.jsonl"
    options: dict[str, Any] = {"key": "id", "mapping": ["text=text"], "min_confidence": 0.8}
    client.run_batch("spam", MAILS, output, limit=2, **options)
    summary = client.run_batch("spam", MAILS, output, mode="retry_failed", **options)
    assert (summary.skipped, summary.ok, summary.doubtful) == (2, 1, 0)
    statuses = [json.loads(line)["loopai_status"] for line in output.read_text().splitlines()]
    assert statuses == ["ok", "doubtful", "ok"]


def test_what_is_not_a_share_is_a_result_that_cannot_be_read() -> None:
    """A server's confidence is a number from 0 to 1."""
    from loopai.batch.engine.chunks import results_for

    content = b'{"results":[{"id":"1","success":true,"output":1,"confidence":7}]}'
    (result,) = results_for(["1"], content, "t")
    outcome = outcome_of(Row("1", None), result, 1, 0.5)
    assert outcome.status == "error"


def test_the_command_counts_them(client: SyncLoopaiClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are no failure: the exit code is 0."""
    assert BatchCommand is not None
    from loopai.shell.exit_codes import told

    summary = client.run_batch("spam", MAILS, tmp_path / "out.jsonl", mapping=["text=text"], min_confidence=0.8)
    assert told(summary)[0].startswith("2 ok, 1 doubtful, 0 errors in ")
