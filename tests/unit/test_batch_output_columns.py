"""CSV and Excel outputs for people: a column for each member of the task's output, and workbooks without formulas."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopai import ConfigurationError, OptionError, OutputError, Stop, SyncLoopaiClient
from loopai.batch.formats.opening import open_source
from loopai.batch.formats.spool import spool_of
from loopai.batch.formats.xlsx_output import MOST_ROWS, write_xlsx
from loopai.shell.command import run_command
from loopai.shell.options import CommandOptions
from loopai.testing import FakeLoopai, ProgramError

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("xlsxwriter")

ADDED = ["loopai_status", "loopai_output", "loopai_error", "loopai_latency_ms", "loopai_confidence"]
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "score": {"type": "number"}, "sure": {}, "words": {"type": "array"}},
}


def judged(mail: Any) -> Any:
    if mail["text"] == "bad":
        raise ProgramError("cannot tell")
    return {"words": mail["text"].split(), "sure": len(mail["text"]) > 1, "label": f"={mail['text']}", "more": 1}


@pytest.fixture
def fake() -> FakeLoopai:
    made = FakeLoopai()
    with made.client() as client:
        client.create_task("spam", "Tell spam", {"type": "object"}, SCHEMA)
    made.task("spam").computes(judged)
    return made


@pytest.fixture
def client(fake: FakeLoopai) -> Iterator[SyncLoopaiClient]:
    with fake.client() as made:
        yield made


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id,text\n1,a b\n2,bad\n3,c\n")
    return path


def cells(path: Path) -> list[list[Any]]:
    """Header and rows of a CSV output or a workbook, as they stand there."""
    if path.suffix == ".xlsx":
        sheet = openpyxl.load_workbook(path).active
        return [list(row) for row in sheet.iter_rows(values_only=True)]
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("in."))


def test_csv_has_a_column_for_each_member_in_the_schemas_order(
    client: SyncLoopaiClient, given: Path, tmp_path: Path
) -> None:
    """Empty where there is no output or no such member; `loopai_output` stays the whole output as JSON."""
    client.run_batch("spam", given, tmp_path / "out.csv", ordered=True)
    header, first, failed, last = cells(tmp_path / "out.csv")
    assert header == ["id", "text", *ADDED, "output.label", "output.score", "output.sure", "output.words"]
    assert first[-4:] == ["=a b", "", "true", '["a","b"]']
    assert json.loads(first[3]) == {"words": ["a", "b"], "sure": True, "label": "=a b", "more": 1}
    assert failed[2] == "error"
    assert failed[-4:] == ["", "", "", ""]
    assert last[-4:] == ["=c", "", "false", '["c"]']


def test_an_excel_output_has_the_same_columns_and_no_formula(
    client: SyncLoopaiClient, given: Path, tmp_path: Path
) -> None:
    """A text that begins with `=` is a text; booleans and numbers are such."""
    client.run_batch("spam", given, tmp_path / "out.xlsx", ordered=True)
    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").active
    assert [cell.value for cell in sheet[1]] == cells(tmp_path / "out.xlsx")[0]
    assert cells(tmp_path / "out.xlsx")[0] == [
        "id", "text", *ADDED, "output.label", "output.score", "output.sure", "output.words"
    ]  # fmt: skip
    label, score, sure, words = sheet[2][-4:]
    assert (label.value, label.data_type) == ("=a b", "s")
    assert score.value is None
    assert (sure.value, sure.data_type) == (True, "b")
    assert words.value == '["a","b"]'
    assert [cell.value for cell in sheet[3]][2:5] == ["error", None, "cannot tell"]
    assert left(tmp_path) == ["out.xlsx", "out.xlsx.journal"]


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_the_asynchronous_client_writes_the_same(
    fake: FakeLoopai, client: SyncLoopaiClient, given: Path, tmp_path: Path, name: str
) -> None:
    """Column by column; only latencies differ."""

    async def run() -> None:
        async with fake.async_client() as other:
            await other.run_batch("spam", given, tmp_path / f"async-{name}", ordered=True)

    asyncio.run(run())
    client.run_batch("spam", given, tmp_path / name, ordered=True)
    ours, theirs = cells(tmp_path / name), cells(tmp_path / f"async-{name}")
    place = ours[0].index("loopai_latency_ms")
    for row in (*ours[1:], *theirs[1:]):
        row[place] = None
    assert ours == theirs


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_nested_leaves_the_columns_out(client: SyncLoopaiClient, given: Path, tmp_path: Path, name: str) -> None:
    """As a parameter and as a flag; the task is not asked for then."""
    client.run_batch("spam", given, tmp_path / name, nested=True)
    assert cells(tmp_path / name)[0] == ["id", "text", *ADDED]
    options = CommandOptions(task="spam", input=str(given), output=str(tmp_path / f"x{name}"), nested=True)
    run_command(options, client, stderr=io.StringIO())
    assert cells(tmp_path / f"x{name}")[0] == ["id", "text", *ADDED]


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_a_name_that_the_input_has_gets_a_prefix(client: SyncLoopaiClient, tmp_path: Path, name: str) -> None:
    """As often as needed: an output can be the input of a third run."""
    (tmp_path / "in.csv").write_text("text,output.label,loopai_output.label,output.other\nx,old,older,o\n")
    client.run_batch("spam", tmp_path / "in.csv", tmp_path / name)
    header, row = cells(tmp_path / name)
    assert header[:4] == ["text", "output.label", "loopai_output.label", "output.other"]
    assert header[9:] == ["loopai_loopai_output.label", "output.score", "output.sure", "output.words"]
    assert (row[1], row[2], row[9]) == ("old", "older", "=x")
    second = tmp_path / f"second-{name}"
    client.run_batch("spam", tmp_path / name, second)
    header = cells(second)[0]
    assert header.count("loopai_output") == 1
    assert header[-4:] == [
        "loopai_loopai_loopai_output.label", "loopai_output.score", "loopai_output.sure", "loopai_output.words"
    ]  # fmt: skip


def test_an_output_without_named_members_has_no_more_columns(
    fake: FakeLoopai, client: SyncLoopaiClient, given: Path, tmp_path: Path
) -> None:
    """A text, a number, or an object whose schema says nothing."""
    fake.task("other").returns("plain")
    client.run_batch("other", given, tmp_path / "out.csv")
    assert cells(tmp_path / "out.csv")[0] == ["id", "text", *ADDED]


def test_an_empty_input_has_the_columns_too(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """In CSV and in Excel."""
    (tmp_path / "in.csv").write_text("id,text\n")
    for name in ("out.csv", "out.xlsx"):
        client.run_batch("spam", tmp_path / "in.csv", tmp_path / name)
        assert cells(tmp_path / name) == [
            ["id", "text", *ADDED, "output.label", "output.score", "output.sure", "output.words"]
        ]


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_rows_that_failed_are_repeated_in_a_finished_output(
    fake: FakeLoopai, client: SyncLoopaiClient, given: Path, tmp_path: Path, name: str
) -> None:
    """The header is the earlier run's, whatever the schema is by now; other rows stay as they are."""
    output = tmp_path / name
    client.run_batch("spam", given, output, ordered=True)
    before = cells(output)
    fake.task("spam").returns({"label": "again", "score": 0.5})
    summary = client.run_batch("spam", given, output, mode="retry_failed")
    assert (summary.ok, summary.skipped) == (1, 2)
    after = cells(output)
    assert after[0] == before[0]
    assert [row for row in after if row[1] != "bad"] == [row for row in before if row[1] != "bad"]
    again = next(row for row in after if row[1] == "bad")
    assert again[7] == "again"
    assert float(again[8]) == 0.5
    assert left(tmp_path) == [name, f"{name}.journal"]


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_accuracy_and_report_read_an_output_with_columns(client: SyncLoopaiClient, tmp_path: Path, name: str) -> None:
    """Of rows that earlier runs wrote, from `loopai_output`."""
    (tmp_path / "in.csv").write_text("text,label\na,=a\nb,spam\n")
    options: dict[str, Any] = {"expect": "label", "mapping": ["text=text"]}
    first = client.run_batch("spam", tmp_path / "in.csv", tmp_path / name, **options)
    again = client.run_batch("spam", tmp_path / "in.csv", tmp_path / name, mode="resume", **options)
    assert again.ended == "finished_before"
    assert again.quality["accuracy"] == first.quality["accuracy"] == 0.5


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_an_interrupted_run_is_resumed_with_its_columns(
    fake: FakeLoopai, client: SyncLoopaiClient, tmp_path: Path, name: str
) -> None:
    """Stopped in the middle; the workbook is made at the end, and until then its rows are in the spool."""
    rows = [{"id": number, "text": f"t{number}"} for number in range(40)]
    stop = Stop()

    def judged_until(mail: Any) -> Any:
        if mail["id"] == 15:
            stop()
        return judged(mail)

    fake.task("spam").computes(judged_until)
    options: dict[str, Any] = {"key": "id", "chunk_size": 5, "max_in_flight": 1}
    first = client.run_batch("spam", rows, tmp_path / name, stop=stop, **options)
    assert first.ended == "interrupted"
    assert spool_of(tmp_path / name).exists() == (name == "out.xlsx")
    second = client.run_batch("spam", rows, tmp_path / name, mode="resume", **options)
    assert second.ended == "finished"
    assert second.skipped > 0
    header, *found = cells(tmp_path / name)
    assert header[-4:] == ["output.label", "output.score", "output.sure", "output.words"]
    assert sorted(row[-4] for row in found) == sorted(f"=t{number}" for number in range(40))


def test_an_output_of_an_earlier_version_keeps_its_header(
    client: SyncLoopaiClient, given: Path, tmp_path: Path
) -> None:
    """It is resumed as it was begun, without the columns."""
    client.run_batch("spam", given, tmp_path / "out.csv", nested=True, limit=1)
    client.run_batch("spam", given, tmp_path / "out.csv", mode="resume")
    header, *rows = cells(tmp_path / "out.csv")
    assert header == ["id", "text", *ADDED]
    assert [len(row) for row in rows] == [7, 7, 7]


def test_what_no_sheet_holds(tmp_path: Path) -> None:
    """A text is cut and says so, a large number keeps its digits; a result that is too long is an error."""
    spool = tmp_path / "spool"
    added = {"loopai_status": "ok", "loopai_output": {}, "loopai_error": None, "loopai_latency_ms": 1.5,
             "loopai_confidence": None}  # fmt: skip
    row = {"long": "x" * 40_000, "large": 2**60, "list": [1, "ä"], **added}
    spool.write_text(json.dumps(row) + "\n")
    write_xlsx(spool, tmp_path / "out.xlsx")
    _, (long, large, listed, *_) = cells(tmp_path / "out.xlsx")
    assert long == "x" * 32_766 + "…"
    assert large == str(2**60)
    assert listed == '[1,"ä"]'
    spool.write_text(json.dumps({"id": 1, **added, "loopai_output": "x" * 40_000}) + "\n")
    with pytest.raises(OutputError, match=r"32,767 characters, and the result of row 1 has 40,002.* are in .*spool"):
        write_xlsx(spool, tmp_path / "other.xlsx")
    assert left(tmp_path) == ["out.xlsx", "spool"]


def test_a_text_comes_back_from_a_workbook_as_it_was(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Control characters, line ends, spaces at its ends, and what looks like markup or a formula."""
    texts = [
        "a\x00\x1fb",
        "_x0041_",
        " a ",
        "a\nb\r\nc",
        "<&>\"'",
        "😀",
        "<r>a & b</r>",
        "=1+1",
        "+1",
        "@a",
        "1.50",
        "true",
    ]
    if sys.version_info < (3, 10):
        del texts[:4]  # the last calamine there leaves escaped characters as they are
    client.run_batch("spam", [{"text": text} for text in texts], tmp_path / "out.xlsx", ordered=True)
    assert [columns["text"] for _, columns, _ in open_source(tmp_path / "out.xlsx") if columns] == texts


@pytest.mark.slow
def test_more_rows_than_a_sheet_holds_are_refused_before_the_first(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Where the input is read through beforehand, as with a key."""
    (tmp_path / "in.jsonl").write_bytes(b"".join(b'{"id":%d}\n' % number for number in range(MOST_ROWS + 1)))
    with pytest.raises(OptionError, match="holds 1,048,575 rows, and the input has 1,048,576"):
        client.run_batch("spam", tmp_path / "in.jsonl", tmp_path / "out.xlsx", key="id")
    assert left(tmp_path) == []


def test_a_workbook_needs_a_file(client: SyncLoopaiClient, given: Path) -> None:
    """Not a pipe or a device."""
    with pytest.raises(OptionError, match=r"Excel workbook is written to a file, .* NAME\.xlsx"):
        client.run_batch("spam", given, "/dev/null", output_format="xlsx")


def test_without_the_library_nothing_is_sent(
    fake: FakeLoopai, client: SyncLoopaiClient, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names it."""
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(ConfigurationError, match="pip install xlsxwriter"):
        client.run_batch("spam", given, tmp_path / "out.xlsx")
    assert left(tmp_path) == []
    assert fake.calls == []
