"""Output and journal together: resume, retry_failed, overwrite, and what they refuse. In three formats."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from loopai import ConfigurationError, LoopaiClient, SyncLoopaiClient
from loopai.batch import JournalError, Outcome, OutputError, Row
from loopai.batch.resume.checkpoint import Checkpoint, journal_of
from loopai.testing import FakeLoopai, ProgramError

ROWS = 60


@pytest.fixture
def fake() -> FakeLoopai:
    return FakeLoopai()


@pytest.fixture
def broken(fake: FakeLoopai) -> set[int]:
    """Numbers that the program fails on; a test may mend them."""
    numbers = {5, 17}

    def program(given: Any) -> Any:
        if given["n"] in numbers:
            raise ProgramError(f"no {given['n']}")
        return {"label": given["n"] % 3, "deep": [given["n"]]}

    fake.task("t").computes(program)
    return numbers


@pytest.fixture
def client(fake: FakeLoopai, broken: set[int]) -> Iterator[SyncLoopaiClient]:
    with fake.client() as made:
        yield made


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [
        {"id": f"k{number}", "n": number, "note": 'a "quoted",\ntext', "label": number % 3} for number in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _options(**more: Any) -> dict[str, Any]:
    return {"key": "id", "mapping": ["n=n"], "chunk_size": 10, **more}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The output by key, as JSON would have it; a key that is there twice fails."""
    rows: Sequence[dict[str, Any]]
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        assert row["id"] not in found
        output = row["loopai_output"]
        found[row["id"]] = {
            "status": row["loopai_status"],
            "output": json.loads(output) if isinstance(output, str) and output else output or None,
            "note": row["note"],
            "n": int(row["n"]),
        }
    return found


def _expected(failed: set[int]) -> dict[str, dict[str, Any]]:
    return {
        f"k{number}": {
            "status": "error" if number in failed else "ok",
            "output": None if number in failed else {"label": number % 3, "deep": [number]},
            "note": 'a "quoted",\ntext',
            "n": number,
        }
        for number in range(ROWS)
    }


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"out.{request.param}"


def test_a_run_in_two_parts_equals_one(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, output: Path, broken: set[int]
) -> None:
    """Rows that ended are not sent again, and the output has each once."""
    first = client.run_batch("t", given, output, **_options(limit=25))
    assert (first.ended, first.ok, first.errors) == ("finished", 23, 2)
    second = client.run_batch("t", given, output, **_options(mode="resume"))
    assert (second.ended, second.ok, second.skipped) == ("finished", 35, 25)
    assert _read(output) == _expected(broken)
    assert fake.task("t").call_count == ROWS


def test_a_finished_run_has_nothing_to_resume(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, output: Path
) -> None:
    """And nothing is sent or written."""
    client.run_batch("t", given, output, **_options())
    before, requests = output.read_bytes(), len(fake.requests)
    assert client.run_batch("t", given, output, **_options(mode="resume")).ended == "finished_before"
    assert (output.read_bytes(), len(fake.requests)) == (before, requests)


def test_retry_failed_repeats_what_failed_and_nothing_else(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, output: Path, broken: set[int]
) -> None:
    """The new result stands in the old one's place, and one more retry has nothing left to do."""
    client.run_batch("t", given, output, **_options())
    broken.discard(5)
    assert client.run_batch("t", given, output, **_options(mode="retry_failed")).ok == 1
    assert _read(output) == _expected({17})
    broken.clear()
    assert client.run_batch("t", given, output, **_options(mode="retry_failed")).skipped == ROWS - 1
    assert _read(output) == _expected(set())
    assert fake.task("t").call_count == ROWS + 3
    assert client.run_batch("t", given, output, **_options(mode="retry_failed")).ended == "finished_before"


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_was_written_and_not_recorded_runs_again(
    client: SyncLoopaiClient, given: Path, tmp_path: Path, kind: str, broken: set[int]
) -> None:
    """At every length to which a kill may have cut output and journal, resume ends in the same output."""
    output = tmp_path / f"out.{kind}"
    client.run_batch("t", given, output, **_options(max_in_flight=1))
    whole, journal = output.read_bytes(), journal_of(output).read_bytes()
    expected = _read(output)
    for cut in range(0, len(journal), 61):
        journal_of(output).write_bytes(journal[:cut])
        output.write_bytes(whole + b'{"torn": ')  # the output is always ahead of the journal, and may be torn
        client.run_batch("t", given, output, **_options(mode="resume", max_in_flight=1))
        assert _read(output) == expected


def test_quality_and_latency_are_of_all_rows_after_a_resume(
    client: SyncLoopaiClient, given: Path, output: Path
) -> None:
    """Not only of those of the last part."""
    client.run_batch("t", given, output, **_options(limit=25))
    summary = client.run_batch("t", given, output, **_options(mode="resume", expect="label"))
    assert summary.quality is not None
    assert (summary.quality["rows"], summary.quality["failed"], summary.quality["accuracy"]) == (ROWS - 2, 2, 1.0)


def test_an_output_that_exists_is_refused(
    client: SyncLoopaiClient, given: Path, output: Path, fake: FakeLoopai
) -> None:
    """Unless it is said what becomes of it; one without a journal cannot be resumed."""
    output.write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match="exists: continue with mode"):
        client.run_batch("t", given, output, **_options())
    with pytest.raises(ConfigurationError, match="no journal beside it"):
        client.run_batch("t", given, output, **_options(mode="resume"))
    assert output.read_bytes() == b"mine"
    assert not fake.requests
    client.run_batch("t", given, output, **_options(mode="overwrite"))
    assert len(_read(output)) == ROWS


def test_nothing_to_resume_starts(client: SyncLoopaiClient, given: Path, output: Path) -> None:
    """A script that always says resume works the first time."""
    assert client.run_batch("t", given, output, **_options(mode="resume")).ok == ROWS - 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mapping": ["n=label"]}, "mapping is n=n, this run's n=label"),
        ({"key": "note"}, "key"),
        ({"task": "other"}, "task"),
    ],
)
def test_another_run_is_refused_with_the_difference(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    """Input, task, mapping, key and format make a run."""
    output = tmp_path / "out.jsonl"
    fake.task("other").returns(1)
    client.run_batch("t", given, output, **_options(limit=20))
    before = output.read_bytes()
    options = _options(mode="resume", allow_duplicates=change.get("key") == "note")
    task = change.get("task", "t")
    with pytest.raises(JournalError, match=told):
        client.run_batch(task, given, output, **{**options, **{k: v for k, v in change.items() if k != "task"}})
    given.write_text(given.read_text().replace('"n": 3,', '"n": 4,'))
    with pytest.raises(JournalError, match=r"its input is in.jsonl \(bytes"):
        client.run_batch("t", given, output, **_options(mode="resume"))
    assert output.read_bytes() == before


def test_an_output_that_was_changed_is_refused(client: SyncLoopaiClient, given: Path, tmp_path: Path) -> None:
    """Shorter than the journal says: no row of it can be trusted to be there."""
    output = tmp_path / "out.jsonl"
    client.run_batch("t", given, output, **_options(limit=20))
    output.write_bytes(output.read_bytes()[:-10])
    with pytest.raises(ConfigurationError, match="it was changed; start again with"):
        client.run_batch("t", given, output, **_options(mode="resume"))


RETRY = """
import os, signal, sys
from loopai.batch import run_sync
from loopai.testing import FakeLoopai

given, output = sys.argv[1:]

def watch(event, arguments):
    if event == "os.rename" and os.fspath(arguments[1]) == output:
        os.kill(os.getpid(), signal.SIGKILL)

fake = FakeLoopai()
fake.task("t").returns("mended")
with fake.client() as client:
    sys.addaudithook(watch)
    client.run_batch("t", given, output, key="id", mapping=["n=n"], chunk_size=10, mode="retry_failed")
"""
"""A retry that is killed when it is about to put the rewritten output in the old one's place, as audit events tell."""


def test_a_kill_between_the_renames_of_a_retry_is_finished_by_the_next(
    client: SyncLoopaiClient, given: Path, tmp_path: Path, broken: set[int]
) -> None:
    """The journal already says that the rewritten output takes the old one's place."""
    output = tmp_path / "out.jsonl"
    client.run_batch("t", given, output, **_options())
    journal = journal_of(output).read_bytes()
    broken.clear()
    killed = subprocess.run([sys.executable, "-c", RETRY, given, output], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert journal_of(output).read_bytes() != journal
    assert len(_read(output)) == ROWS, "the old output is still in its place"
    client.run_batch("t", given, output, **_options(mode="retry_failed"))
    assert _read(output) == _expected(set())


def test_keys_that_recur_by_choice_are_told_apart_by_line(
    client: SyncLoopaiClient, given: Path, tmp_path: Path
) -> None:
    """Each of two rows with one key runs once."""
    output = tmp_path / "out.jsonl"
    given.write_text("".join(f'{{"id": "same", "n": {number}}}\n' for number in range(30)))
    options = _options(allow_duplicates=True)
    client.run_batch("t", given, output, limit=13, **options)
    client.run_batch("t", given, output, mode="resume", **options)
    assert sorted(json.loads(line)["n"] for line in output.read_text().splitlines()) == list(range(30))


def test_rows_that_cannot_be_read_are_in_the_output_and_the_journal(
    client: SyncLoopaiClient, given: Path, tmp_path: Path
) -> None:
    """By the line they stand on."""
    output = tmp_path / "out.jsonl"
    given.write_text('{"id": "a", "n": 1}\nbroken\n')
    summary = client.run_batch("t", given, output, **_options())
    assert (summary.ok, summary.errors) == (1, 1)
    rows = {row.get("id", row.get("loopai_key")): row for row in map(json.loads, output.read_text().splitlines())}
    assert "line 2 is not JSON" in rows["line 2"]["loopai_error"]
    assert client.run_batch("t", given, output, **_options(mode="resume")).ended == "finished_before"


async def test_the_asynchronous_run_is_the_same(fake: FakeLoopai, broken: set[int], given: Path, output: Path) -> None:
    """Over the same files."""
    async with fake.async_client() as client:
        client_: LoopaiClient = client
        await client_.run_batch("t", given, output, **_options(limit=25))
        summary = await client_.run_batch("t", given, output, **_options(mode="resume"))
    assert (summary.skipped, summary.ok) == (25, 35)
    assert _read(output) == _expected(broken)


def test_a_csv_header_has_all_columns_of_jsonl_rows(client: SyncLoopaiClient, given: Path, tmp_path: Path) -> None:
    """They are read before the first row is written; an input that comes but once is refused at the first new one."""
    output = tmp_path / "out.csv"
    given.write_text('{"id": "a", "n": 1}\n{"id": "b", "n": 2, "more": {"x": true}}\n')
    client.run_batch("t", given, output, **_options())
    header = output.read_text().splitlines()[0]
    assert header == "id,n,more,loopai_status,loopai_output,loopai_error,loopai_latency_ms,loopai_confidence"
    rows = [{"id": str(number), "n": number, **({"late": 1} if number > 20 else {})} for number in range(30)]
    with pytest.raises(OutputError, match="the column 'late'"):
        client.run_batch("t", iter(rows), tmp_path / "two.csv", **_options(max_in_flight=1))


def test_parquet_columns_keep_the_types_of_the_input(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Dates, decimals, bytes and nested values go in and come out as they were."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    import datetime
    import decimal

    table = pyarrow.table(
        {
            "id": ["a", "b"],
            "n": pyarrow.array([1, 2], pyarrow.int16()),
            "at": [datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.timezone.utc), None],
            "price": [decimal.Decimal("1.50"), None],
            "raw": [b"\x00\xff", None],
            "deep": [{"x": [1]}, None],
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    client.run_batch("t", tmp_path / "in.parquet", tmp_path / "out.parquet", **_options())
    made = parquet.read_table(tmp_path / "out.parquet").sort_by("id")
    assert made.select(table.schema.names).equals(table)
    assert not (tmp_path / "out.parquet.rows.jsonl").exists()


def test_a_ledger_writes_the_output_before_the_journal(tmp_path: Path) -> None:
    """Whatever is in the journal is in the output, at the length that the journal says."""
    ledger = Checkpoint(tmp_path / "out.jsonl", None, {"task": "t"})
    ledger.commit([Outcome(Row("a", 1, {"id": "a"}), "ok", 2), Outcome(Row("b", 1), "cancelled")])
    assert ledger.journal is not None
    assert ledger.journal.length == os.path.getsize(tmp_path / "out.jsonl")
    ledger.close()
    assert [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["a"]


def test_a_sink_of_ones_own_takes_the_outcomes(client: SyncLoopaiClient, given: Path) -> None:
    """With a journal of its own, as a database has; the scheduler knows no file."""

    class Table:
        def __init__(self) -> None:
            self.rows: dict[str, str] = {}

        def write(self, outcomes: Sequence[Outcome]) -> int:
            self.rows.update({outcome.key: outcome.status for outcome in outcomes})
            return 0

        def close(self) -> None:
            """Hold nothing."""

        def ended(self, row: Row) -> bool:
            return row.key in self.rows

        def record(self, outcomes: Sequence[Outcome], length: int) -> None:
            """Both are one transaction in `write`."""

    table = Table()
    client.run_batch("t", given, sink=table, journal=table, **_options(limit=25))
    summary = client.run_batch("t", given, sink=table, journal=table, **_options())
    assert (summary.skipped, len(table.rows)) == (25, ROWS)
