"""Rows from a file that the caller has opened, as a web framework's upload is."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tempfile
import zipfile
from typing import Any, Callable

import pytest

from loopai import ConfigurationError, ValidationException
from loopai.testing import FakeLoopai

CSV = b"id,text\n1,a\n2,b\n"
JSONL = b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n'
Run = Callable[..., list[tuple[str, str, Any]]]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """`batch_stream` of a client whose server gives back what it was given."""
    fake = FakeLoopai()
    fake.task("echo").computes(lambda given: given)

    def streamed(rows: Any, **options: Any) -> list[tuple[str, str, Any]]:
        if request.param == "sync":
            outcomes = list(fake.client().batch_stream("echo", rows, **options))
        else:

            async def collect() -> list[Any]:
                return [each async for each in fake.async_client().batch_stream("echo", rows, **options)]

            outcomes = asyncio.run(collect())
        return sorted((str(each.key), each.status, each.output) for each in outcomes)

    return streamed


def spooled(data: bytes) -> Any:
    """What an upload of Starlette and Django is."""
    file = tempfile.SpooledTemporaryFile(max_size=1000)  # noqa: SIM115  # closed by the tests that need it
    file.write(data)
    file.seek(0)
    return file


EXPECTED = [("1", "ok", {"id": "1", "text": "a"}), ("2", "ok", {"id": "2", "text": "b"})]


@pytest.mark.parametrize("make", [io.BytesIO, spooled, lambda data: io.BufferedReader(io.BytesIO(data))])
@pytest.mark.parametrize(
    ("kind", "data"), [("csv", CSV), ("jsonl", JSONL), ("csv", gzip.compress(CSV))], ids=["csv", "jsonl", "gzip"]
)
def test_an_open_file_is_a_file(run: Run, make: Any, kind: str, data: bytes) -> None:
    """It is read by its format, and stays open."""
    with make(data) as file:
        assert run(file, format=kind, key="id") == EXPECTED
        assert not file.closed


def workbook() -> bytes:
    made = pytest.importorskip("openpyxl").Workbook()
    for row in (["id", "text"], ["1", "a"], ["2", "b"]):
        made.active.append(row)
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


def parquet() -> bytes:
    arrow = pytest.importorskip("pyarrow")
    file = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table({"id": ["1", "2"], "text": ["a", "b"]}), file)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rows.csv", CSV)
    return file.getvalue()


def array() -> bytes:
    return json.dumps([json.loads(line) for line in JSONL.splitlines()], indent=2).encode()


def pipe(data: bytes) -> Any:
    """A file that cannot be sought in."""
    reading, writing = os.pipe()
    with open(writing, "wb") as end:
        end.write(data)
    return open(reading, "rb")


class Reader:
    """What has no more than `read`, as a reply of a library has."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 7))

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


@pytest.mark.parametrize("make", [io.BytesIO, spooled, pipe, Reader])
@pytest.mark.parametrize(
    ("kind", "data"), [("xlsx", workbook), ("parquet", parquet), ("csv", zipped), ("json", array)],
    ids=["xlsx", "parquet", "zip", "json"],
)  # fmt: skip
def test_an_open_file_of_any_format_is_a_file(run: Run, make: Any, kind: str, data: Callable[[], bytes]) -> None:
    """Also where rows are read from the end of a file that cannot be sought in."""
    with make(data()) as file:
        assert run(file, format=kind, key="id") == EXPECTED
        assert not file.closed


def test_a_workbook_that_is_none_is_refused(run: Run) -> None:
    """By what the caller calls it, not by a file of ours."""
    for data in (CSV, workbook()[:300], zipped(), b""):
        with pytest.raises(ConfigurationError, match="the BytesIO"):
            run(io.BytesIO(data), format="xlsx")
    with pytest.raises(ConfigurationError, match="format: the BytesIO is xlsx, not csv"):
        run(io.BytesIO(workbook()), format="csv")


def test_a_file_that_does_not_block_does_not_end_early(run: Run) -> None:
    """What would seem to be its end is an error."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(writing, "wb"), open(reading, "rb", buffering=0) as file, pytest.raises(ConfigurationError) as caught:
        run(file, format="csv")
    assert "not opened for blocking reads" in str(caught.value)


def test_a_file_s_name_says_its_format(run: Run, tmp_path: Any) -> None:
    """As a path does; one that is half read is read from there on."""
    path = tmp_path / "mails.csv"
    path.write_bytes(b"of last week\n" + CSV)
    with open(path, "rb") as file:
        file.readline()
        assert run(file, key="id") == EXPECTED


def test_options_of_files_hold(run: Run) -> None:
    """Encoding and delimiter, for one; a column that is not there is found before anything is sent."""
    latin = "id;text\n1;é\n".encode("latin-1")
    assert run(io.BytesIO(latin), format="csv", encoding="latin-1", delimiter=";")[0][2]["text"] == "é"
    with pytest.raises(ConfigurationError, match="absent"):
        run(io.BytesIO(CSV), format="csv", key="absent")


def test_without_a_format_the_error_says_what_to_pass(run: Run) -> None:
    """No lines are run as rows."""
    with pytest.raises(ConfigurationError, match="cannot infer the format of the BytesIO; pass format"):
        run(io.BytesIO(CSV))


class Upload:
    """An upload whose reading is awaited, as Starlette's `UploadFile`."""

    async def read(self, size: int = -1) -> bytes:
        return b""


def closed() -> Any:
    file = io.BytesIO(CSV)
    file.close()
    return file


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: io.StringIO(CSV.decode()), "opened in binary mode"),
        (Upload, "pass upload.file"),
        (closed, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(run: Run, make: Any, told: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValidationException, match=told):
        run(make(), format="csv")


@pytest.mark.parametrize("method", ["batch_execute", "batch_validate"])
@pytest.mark.parametrize("make", [lambda: io.BytesIO(CSV), lambda: io.StringIO(CSV.decode())])
def test_a_file_is_not_rows_of_one_request(method: str, make: Any) -> None:
    """Its lines would run as rows, each of them well."""
    with pytest.raises(ValidationException, match="batch_stream and run_batch read files"):
        getattr(FakeLoopai().client(), method)("echo", make())


def test_run_batch_writes_what_an_open_file_gave(tmp_path: Any) -> None:
    """With the columns of the file."""
    fake = FakeLoopai()
    fake.task("echo").computes(lambda given: {"upper": given["text"].upper()})
    out = tmp_path / "out.csv"
    summary = fake.client().run_batch("echo", io.BytesIO(CSV), out, format="csv")
    assert (summary.ok, out.read_text().splitlines()[1].startswith("1,a,")) == (2, True)
