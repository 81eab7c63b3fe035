"""Where results go: what stands in their columns, outputs that are no files, and what a refused run leaves behind."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import io
import json
import os
import stat
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopai import AuthenticationException, ConfigurationError, OptionError, OutputError, SyncLoopaiClient
from loopai.batch.formats.opening import open_source
from loopai.batch.formats.parquet import check_types, write_parquet
from loopai.batch.reporting.report import check_report
from loopai.shell.command import run_command
from loopai.shell.options import CommandOptions
from loopai.testing import FakeLoopai

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def fake() -> FakeLoopai:
    made = FakeLoopai()
    made.task("one").returns(1)
    return made


@pytest.fixture
def client(fake: FakeLoopai) -> Iterator[SyncLoopaiClient]:
    with fake.client() as made:
        yield made


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id,text\n1,a\n2,b\n")
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("in."))


def csv_rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What stands in columns


def test_what_csv_has_no_form_for_is_what_json_has(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Bytes, times, durations and numbers alike in CSV and JSONL, within lists too; no Python repr."""
    row = {
        "raw": b"\x00\xff",
        "wait": dt.timedelta(hours=1, seconds=5),
        "when": dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.timezone.utc),
        "price": decimal.Decimal("1.50"),
        "id": uuid.UUID(int=1),
        "more": [b"\xff", {"wait": dt.timedelta(seconds=1)}],
        "yes": True,
    }
    rows = [{"key": "1", **row}]
    client.run_batch("one", rows, tmp_path / "out.csv", mapping=["key=key"])
    client.run_batch("one", rows, tmp_path / "out.jsonl", mapping=["key=key"])
    as_csv = csv_rows(tmp_path / "out.csv")[0]
    as_json = json.loads((tmp_path / "out.jsonl").read_text())
    assert {name: as_csv[name] for name in row if name not in {"more", "yes"}} == {
        "raw": "AP8=",
        "wait": "PT1H5S",
        "when": "2024-02-29T01:02:03Z",
        "price": "1.50",
        "id": "00000000-0000-0000-0000-000000000001",
    }
    assert {name: as_json[name] for name in row if name not in {"more", "yes"}} == {
        name: as_csv[name] for name in row if name not in {"more", "yes"}
    }
    assert json.loads(as_csv["more"]) == as_json["more"] == ["_w==", {"wait": "PT1S"}]
    assert as_csv["yes"] == "true"


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_an_output_is_utf8_whatever_a_text_holds(client: SyncLoopaiClient, tmp_path: Path, name: str) -> None:
    """Half of a pair, which Python's texts can hold, ends no run."""
    rows = [{"n": 1, "text": "a\ud800b", "more": ["\udcff"]}, {"n": 2, "text": "c", "more": []}]
    summary = client.run_batch("one", rows, tmp_path / name, mapping=["n=n"])
    assert (summary.ok, summary.errors) == (2, 0)
    if name != "out.parquet":
        assert "a?b" in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_an_input_that_cannot_be_sent_is_that_rows_error(client: SyncLoopaiClient, tmp_path: Path, name: str) -> None:
    """Bytes that are no UTF-8, within lists too, and halves of pairs: the others run, and the run ends as ever."""
    rows = [{"x": b"\xff"}, {"x": [b"\xff"]}, {"x": "\ud800"}, {"x": "fine"}]
    summary = client.run_batch("one", rows, tmp_path / name)
    assert (summary.ok, summary.errors) == (1, 3)
    table = pyarrow.table({"x": pyarrow.array([[b"\xff"], [b"a"]])})
    parquet.write_table(table, tmp_path / "in.parquet")
    summary = client.run_batch("one", tmp_path / "in.parquet", tmp_path / name, mode="overwrite")
    assert (summary.ok, summary.errors) == (1, 1)


def test_a_zone_that_is_not_known_is_utc(tmp_path: Path) -> None:
    """In which times are stored; no other column is lost for it."""
    parquet.write_table(
        pyarrow.table({"at": pyarrow.array([0], pyarrow.timestamp("us", "Mars/Base"))}), tmp_path / "in.parquet"
    )
    assert [columns for _, columns, _ in open_source(tmp_path / "in.parquet")] == [{"at": "1970-01-01T00:00:00Z"}]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_an_empty_input_keeps_its_columns(client: SyncLoopaiClient, tmp_path: Path, name: str) -> None:
    """Of CSV by its header, of Parquet with its types; resumed later as well."""
    (tmp_path / "in.csv").write_text("id,text\n")
    schema = pyarrow.schema([("id", pyarrow.int16()), ("text", pyarrow.large_string())])
    parquet.write_table(schema.empty_table(), tmp_path / "in.parquet")
    for source in ("in.csv", "in.parquet"):
        client.run_batch("one", tmp_path / source, tmp_path / name, mode="overwrite")
        assert client.run_batch("one", tmp_path / source, tmp_path / name, mode="resume").ended == "finished_before"
        if name == "out.csv":
            assert (tmp_path / name).read_text().startswith("id,text,loopai_status,")
        else:
            kinds = parquet.read_schema(tmp_path / name).types[:2]
            assert kinds == (schema.types if source == "in.parquet" else [pyarrow.string(), pyarrow.string()])


def test_a_tsv_is_written_with_tabs(client: SyncLoopaiClient, fake: FakeLoopai, given: Path, tmp_path: Path) -> None:
    """As it is read, by later runs too."""
    path = tmp_path / "out.tsv"
    fake.task("one").fails("no")
    client.run_batch("one", given, path, limit=1)
    fake.task("one").returns(1)
    assert client.run_batch("one", given, path, mode="retry_failed", expect="text").ok == 2
    assert path.read_text().startswith("id\ttext\tloopai_status\t")
    assert [columns["id"] for _, columns, _ in open_source(path) if columns] == ["1", "2"]


def test_a_limit_of_no_rows_is_gone_on_with(client: SyncLoopaiClient, given: Path, tmp_path: Path) -> None:
    """Its header stands once."""
    client.run_batch("one", given, tmp_path / "out.csv", limit=0)
    client.run_batch("one", given, tmp_path / "out.csv", mode="resume")
    assert [row["id"] for row in csv_rows(tmp_path / "out.csv")] == ["1", "2"]


# Parquet

NS = pyarrow.timestamp("ns")
BERLIN = pyarrow.timestamp("ns", "Europe/Berlin")
STRUCT = pyarrow.struct([("raw", pyarrow.binary()), ("at", NS), ("wait", pyarrow.duration("ns"))])
DEEP = {"raw": b"\xff", "at": 1_700_000_000_123_456_789, "wait": -5}
COLUMNS: list[tuple[Any, list[Any]]] = [
    (pyarrow.bool_(), [True, None]),
    (pyarrow.int8(), [-1, None]),
    (pyarrow.uint64(), [2**64 - 1, 0]),
    (pyarrow.float32(), [0.1, float("inf")]),
    (pyarrow.float64(), [0.1, float("nan")]),
    (pyarrow.string(), ["Grüße\n", ""]),
    (pyarrow.large_string(), ["a", None]),
    (pyarrow.binary(), [b"\x00\xff", b""]),
    (pyarrow.large_binary(), [b"\x00\xff", None]),
    (pyarrow.binary(2), [b"\x00\xff", None]),
    (pyarrow.decimal128(38, 10), [decimal.Decimal("-1234567890123456789.0123456789"), None]),
    (pyarrow.decimal256(76, 4), [decimal.Decimal("9" * 60 + ".0001"), None]),
    (pyarrow.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    (pyarrow.time32("s"), [3723, None]),
    (pyarrow.time32("ms"), [3_723_004, None]),
    (pyarrow.time64("us"), [3_723_000_004, 0]),
    (pyarrow.time64("ns"), [3_723_000_000_004, 86_399_999_999_999]),
    (pyarrow.timestamp("s"), [-62_135_596_800, 253_402_300_799]),
    (pyarrow.timestamp("ms"), [1, -1]),
    (pyarrow.timestamp("us"), [1, None]),
    (NS, [1, -1]),
    (BERLIN, [1_700_000_000_000_000_001, -2_500_000_000_000_000_001]),
    (pyarrow.timestamp("us", "UTC"), [1, None]),
    (pyarrow.timestamp("us", "+05:30"), [1, -1]),
    (pyarrow.duration("s"), [10**12, -1]),
    (pyarrow.duration("us"), [5_000_000, 0]),
    (pyarrow.duration("ns"), [1, -90_061_000_000_001]),
    (pyarrow.list_(pyarrow.binary()), [[b"\xff", None], []]),
    (pyarrow.large_list(BERLIN), [[5], None]),
    (pyarrow.list_(pyarrow.duration("ms"), 2), [[1, 2], None]),
    (pyarrow.list_(pyarrow.list_(NS)), [[[1], []], None]),
    (STRUCT, [DEEP, {"raw": None, "at": None, "wait": None}]),
    (pyarrow.list_(STRUCT), [[DEEP, None], None]),
    (pyarrow.map_(pyarrow.string(), pyarrow.int32()), [[("k", 1), ("k", None)], []]),
    (pyarrow.map_(pyarrow.string(), STRUCT), [[("k", DEEP)], None]),
    (pyarrow.map_(pyarrow.int64(), pyarrow.list_(pyarrow.binary())), [[(1, [b"\xff"])], None]),
    (pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), ["a", None]),
    (pyarrow.dictionary(pyarrow.int32(), pyarrow.binary()), [b"\xff", None]),
    (pyarrow.null(), [None, None]),
    *(
        (getattr(pyarrow, name)(*arguments), values)
        for name, arguments, values in [
            ("string_view", (), ["a", None]),
            ("binary_view", (), [b"\xff", None]),
            ("list_view", (pyarrow.binary(),), [[b"\xff"], None]),
            ("list_view", (NS,), [[1], None]),
            ("decimal32", (5, 2), [decimal.Decimal("1.10"), None]),
        ]
        if hasattr(pyarrow, name)
    ),
]


@pytest.mark.parametrize(("kind", "values"), COLUMNS, ids=[str(kind).split("\n")[0] for kind, _ in COLUMNS])
def test_what_arrow_holds_comes_back_as_it_was(
    client: SyncLoopaiClient, tmp_path: Path, kind: Any, values: list[Any]
) -> None:
    """Type and values, from Parquet to Parquet."""
    table = pyarrow.table({"id": ["1", "2"], "value": pyarrow.array(values, kind)})
    try:
        parquet.write_table(table, tmp_path / "in.parquet")
        parquet.read_table(tmp_path / "in.parquet")
    except pyarrow.ArrowException as error:
        pytest.skip(f"this pyarrow has no such column in Parquet: {error}")
    summary = client.run_batch(
        "one", tmp_path / "in.parquet", tmp_path / "out.parquet", mapping=["id=id"], ordered=True
    )
    assert (summary.ok, summary.errors) == (2, 0)
    read, made = (parquet.read_table(tmp_path / name).column("value") for name in ("in.parquet", "out.parquet"))
    assert made.type == read.type
    if kind == pyarrow.float64():
        read, made = read.cast(pyarrow.string()), made.cast(pyarrow.string())  # NaN is not itself
    assert made.equals(read)


def test_extensions_come_back_as_they_were(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """UUIDs, also within lists."""
    if not hasattr(pyarrow, "uuid"):
        pytest.skip("this pyarrow has no UUIDs")
    stored = pyarrow.array([b"1" * 16, None], pyarrow.binary(16))
    one = pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), stored)
    many = pyarrow.array([[b"1" * 16], None], pyarrow.list_(pyarrow.binary(16))).cast(pyarrow.list_(pyarrow.uuid()))
    parquet.write_table(pyarrow.table({"id": ["1", "2"], "one": one, "many": many}), tmp_path / "in.parquet")
    client.run_batch("one", tmp_path / "in.parquet", tmp_path / "out.parquet", mapping=["id=id"], ordered=True)
    read, made = (parquet.read_table(tmp_path / name) for name in ("in.parquet", "out.parquet"))
    assert made.select(["one", "many"]).equals(read.select(["one", "many"]))
    assert json.loads(json.dumps(open_source(tmp_path / "in.parquet").header)) == ["id", "one", "many"]


def test_a_time_that_python_cannot_have_is_that_rows_error(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Years beyond 9999, whatever the unit; the others run, in every output."""
    for kind in (pyarrow.timestamp("us"), pyarrow.timestamp("ms", "UTC"), pyarrow.date32()):
        ints = pyarrow.array([0, 3_000_000 if kind == pyarrow.date32() else 10**17 * 4, 1], None)
        small = ints.cast(pyarrow.int32()) if kind == pyarrow.date32() else ints
        table = pyarrow.table({"id": ["1", "2", "3"], "at": small.cast(kind)})
        parquet.write_table(table, tmp_path / "in.parquet")
        for name in ("out.parquet", "out.jsonl", "out.csv"):
            summary = client.run_batch(
                "one", tmp_path / "in.parquet", tmp_path / name, mapping=["id=id"], mode="overwrite"
            )
            assert (summary.ok, summary.errors) == (2, 1)
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        error = next(row["loopai_error"] for row in rows if row["loopai_error"])
        assert error.startswith("row 2: the column 'at' cannot be read: ")


def test_times_are_texts_of_iso_8601(tmp_path: Path) -> None:
    """As a program gets them: with their zone, and with nanoseconds only where they have some."""
    table = pyarrow.table({
        "berlin": pyarrow.array([1_700_000_000_000_000_000], BERLIN),
        "early": pyarrow.array([-3_000_000_000_000_000_000], BERLIN),
        "ns": pyarrow.array([1_700_000_000_000_000_001], NS),
        "utc": pyarrow.array([0], pyarrow.timestamp("s", "UTC")),
        "time": pyarrow.array([1_000_000_001], pyarrow.time64("ns")),
        "wait": pyarrow.array([90_061_500_000], pyarrow.duration("us")),
        "back": pyarrow.array([-1], pyarrow.duration("s")),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "in.parquet")
    ((_, columns, _),) = open_source(tmp_path / "in.parquet")
    # Its offset was 53 minutes and 28 seconds, which some libraries of zones round.
    early = dt.datetime.fromisoformat(str((columns or {}).pop("early")).replace("Z", "+00:00"))
    assert early == dt.datetime(1874, 12, 7, 18, 40, tzinfo=dt.timezone.utc)
    assert columns == {
        "berlin": "2023-11-14T23:13:20+01:00",
        "ns": "2023-11-14T22:13:20.000000001",
        "utc": "1970-01-01T00:00:00Z",
        "time": "00:00:01.000000001",
        "wait": "P1DT1H1M1.5S",
        "back": "-PT1S",
    }


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (pyarrow.schema([("a", pyarrow.int64()), ("a", pyarrow.int64())]), "'a' twice"),
        (pyarrow.schema([("s", pyarrow.struct([("x", pyarrow.int8()), ("x", pyarrow.int8())]))]), "'s.x' twice"),
    ],
)
def test_columns_of_one_name_are_refused(tmp_path: Path, schema: Any, told: str) -> None:
    """One would take the other's place."""
    parquet.write_table(schema.empty_table(), tmp_path / "in.parquet")
    with pytest.raises(ConfigurationError, match=told):
        open_source(tmp_path / "in.parquet")


def test_a_type_that_parquet_does_not_take_is_refused_by_name() -> None:
    """Before a row is sent."""
    for kind in (pyarrow.month_day_nano_interval(), pyarrow.list_(pyarrow.month_day_nano_interval())):
        with pytest.raises(OptionError, match=r"output: the column 'odd' of type .*month_day_nano.* cannot be written"):
            check_types(pyarrow.schema([("fine", pyarrow.int64()), ("odd", kind)]))


def test_numbers_of_other_inputs_keep_their_digits(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Whole ones beyond 64 bits, and those that a float would round, are texts."""
    rows = [
        {"id": 1, "big": 2**70, "mixed": 2**60 + 1, "long": 2**60 + 1, "float": 1},
        {"id": 2, "big": 1, "mixed": 0.5, "long": 1, "float": 0.5},
    ]
    client.run_batch("one", rows, tmp_path / "out.parquet", mapping=["id=id"], ordered=True)
    columns = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert columns["big"] == [str(2**70), "1"]
    assert columns["mixed"] == [str(2**60 + 1), "0.5"]
    assert columns["long"] == [2**60 + 1, 1]
    assert columns["float"] == [1.0, 0.5]


def test_results_that_cannot_be_joined_are_named(tmp_path: Path) -> None:
    """Nothing that was paid for is lost, and the text says where it is."""
    spool = tmp_path / "out.parquet.rows.jsonl"
    spool.write_text('{"n":"x","loopai_status":"ok","loopai_output":1,"loopai_error":null,"loopai_latency_ms":1.0}\n')
    with pytest.raises(OutputError, match=r"column 'n' of type int8.*All rows.*out\.parquet\.rows\.jsonl, as JSONL"):
        write_parquet(spool, tmp_path / "out.parquet", pyarrow.schema([("n", pyarrow.int8())]))
    assert left(tmp_path) == ["out.parquet.rows.jsonl"]


# Outputs that are no files


def _through(client: SyncLoopaiClient, given: Path, pipe: Path, **options: Any) -> bytes:
    """What a run writes to a pipe."""
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    try:
        assert client.run_batch("one", given, pipe, **options).ended == "finished"
    finally:
        reader.join(10)
    return read[0]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out"])
def test_a_fifo_is_written_as_it_comes(client: SyncLoopaiClient, given: Path, tmp_path: Path, name: str) -> None:
    """A run that is through leaves nothing that refuses the next."""
    pipe = tmp_path / name
    os.mkfifo(pipe)
    for _ in range(2):
        assert _through(client, given, pipe).count(b"\n") == (3 if name == "out.csv" else 2)
    assert left(tmp_path) == [name]


def test_failed_rows_of_a_fifo_can_be_repeated(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, tmp_path: Path
) -> None:
    """Its journal stays for as long as it is of use."""
    pipe = tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    fake.task("one").fails("no")
    assert b"no" in _through(client, given, pipe)
    assert left(tmp_path) == ["out.jsonl", "out.jsonl.journal"]


def test_what_dev_fd_names_has_no_journal(client: SyncLoopaiClient, given: Path) -> None:
    """As a shell's `-o >(gzip > out.jsonl.gz)` has it."""
    ours, theirs = os.pipe()
    assert client.run_batch("one", given, f"/dev/fd/{theirs}").ok == 2
    os.close(theirs)
    with open(ours, "rb") as file:
        assert file.read().count(b"\n") == 2
    assert not Path(f"/dev/fd/{theirs}.journal").exists()


def test_the_null_device_takes_rows(client: SyncLoopaiClient, given: Path) -> None:
    """And is a device afterwards, also as a report; Parquet would take its place and is refused."""
    for _ in range(2):
        assert client.run_batch("one", given, "/dev/null").ok == 2
    assert client.run_batch("one", given, "/dev/null", output_format="csv").ok == 2
    with pytest.raises(OptionError, match="Parquet is written to a file"):
        client.run_batch("one", given, "/dev/null", output_format="parquet")
    check_report("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert not Path("/dev/null.journal").exists()


def test_a_report_to_a_pipe_does_not_replace_it(client: SyncLoopaiClient, given: Path, tmp_path: Path) -> None:
    """It is written to."""
    pipe = tmp_path / "report.html"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    options = CommandOptions(task="one", input=str(given), output="/dev/null", report=str(pipe), progress="none")
    assert run_command(options, client, stderr=io.StringIO()) == 0
    reader.join(10)
    assert "<!doctype html>" in read[0]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("out.json", "rows are written as .jsonl, .csv, .parquet or .xlsx"),
        ("out.xlsm", "rows are written as .jsonl, .csv, .parquet or .xlsx"),
        ("out.csv.zst", "compressed output cannot be resumed"),
        ("out.jsonl.bz2", "compressed output cannot be resumed"),
        ("out.zip", "compressed output cannot be resumed"),
        ("nowhere/out.csv", "output: folder not found: "),
    ],
)
def test_an_output_that_is_not_written_is_refused(
    client: SyncLoopaiClient, given: Path, tmp_path: Path, name: str, told: str
) -> None:
    """Never something else under its name."""
    with pytest.raises(OptionError, match=told):
        client.run_batch("one", given, tmp_path / name)
    assert left(tmp_path) == []


# What a refused run leaves behind


def _refusals() -> list[tuple[str, dict[str, Any]]]:
    return [
        ("out.parquet", {"output_format": "parquet"}),
        ("out.csv", {"journal": "/nowhere/journal"}),
        ("out.csv", {"expect": "missing"}),
        ("out.csv", {"key": "text", "mapping": ["x=missing"]}),
    ]


@pytest.mark.parametrize(("name", "options"), _refusals())
def test_a_refused_run_leaves_nothing_that_blocks_the_next(
    client: SyncLoopaiClient, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: Any
) -> None:
    """A missing library, a journal that cannot be made, columns that are not there."""
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(ConfigurationError):
            client.run_batch("one", given, tmp_path / name, **options)
    assert left(tmp_path) == []
    assert client.run_batch("one", given, tmp_path / name).ok == 2


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_run_that_ends_before_its_first_row_leaves_nothing(
    fake: FakeLoopai, given: Path, tmp_path: Path, name: str
) -> None:
    """The key was refused: the same command with another key starts, and resuming starts too."""
    fake.task("one").raises(401)
    with fake.client() as client:
        with pytest.raises(AuthenticationException):
            client.run_batch("one", given, tmp_path / name)
        assert left(tmp_path) == []
        fake.task("one").recovers()
        assert client.run_batch("one", given, tmp_path / name, mode="resume").ok == 2


def test_what_was_there_before_stays(fake: FakeLoopai, given: Path, tmp_path: Path) -> None:
    """Nothing but what the run itself began is taken away."""
    output = tmp_path / "out.jsonl"
    with fake.client() as client:
        client.run_batch("one", given, output, limit=1)
        whole = output.read_bytes()
        fake.task("one").raises(401)
        with pytest.raises(AuthenticationException):
            client.run_batch("one", given, output, mode="resume")
    assert output.read_bytes() == whole
    assert left(tmp_path) == ["out.jsonl", "out.jsonl.journal"]


def test_a_folder_that_cannot_be_written_is_found_first(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first request, that of the task included; for the report too."""
    closed = tmp_path / "closed"
    closed.mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed and real(path, mode))  # root may all
    for option in ("output", "report", "journal"):
        options = {"output": str(tmp_path / "out.jsonl"), option: str(closed / "x.jsonl")}
        said = io.StringIO()
        command = CommandOptions(task="one", input=str(given), progress="none", **options)  # type: ignore[arg-type]
        assert run_command(command, client, stderr=said) == 2
        assert f"--{option}: no permission to write {closed}" in said.getvalue()
    assert fake.task("one").call_count == 0
    assert left(tmp_path) == ["closed"]
