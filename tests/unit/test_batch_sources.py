"""Inputs as people have them: CSV of every dialect, JSONL, Parquet, gzipped, standard input, and broken ones."""

from __future__ import annotations

import gzip
import io
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from loopai import ConfigurationError
from loopai.batch.formats.csv import CsvSource
from loopai.batch.formats.opening import format_of, open_source
from loopai.batch.formats.source import Input


def _read(path: Path, **options: Any) -> list[Any]:
    return [(line, columns if problem is None else problem) for line, columns, problem in open_source(path, **options)]


def _file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["in.jsonl", "in.ndjson", "in.jsonl.gz"])
def test_jsonl_plain_or_gzipped(tmp_path: Path, name: str) -> None:
    """Blank lines are passed over and keep their numbers; a byte order mark is no part of the first row."""
    path = _file(tmp_path, name, b'\xef\xbb\xbf{"a": 1}\n\n{"a": "\xc3\xa9"}')
    assert _read(path) == [(1, {"a": 1}), (3, {"a": "é"})]


def test_a_line_that_is_no_object_is_that_rows_error(tmp_path: Path) -> None:
    """The others are read, and the error has the line's number."""
    path = _file(tmp_path, "in.jsonl", b'{"a": 1}\n{"a": \n[1]\n{"a": NaN}\n"\xff"\n{"a": 2}\n')
    read = _read(path)
    assert [line for line, _ in read] == [1, 2, 3, 4, 5, 6]
    assert read[0][1] == {"a": 1}
    assert read[5][1] == {"a": 2}
    assert read[1][1] == "line 2 is not JSON: EOF while parsing a value at column 6"
    assert "line 3 is a JSON array" in read[2][1]
    assert "line 4 is not JSON" in read[3][1]
    assert read[4][1] == "line 5 is not utf-8: pass the encoding of the file"


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_found(tmp_path: Path, mark: str) -> None:
    """Whatever the spreadsheet wrote; line numbers count the lines of quoted texts."""
    lines = [["id", "text"], ["1", '"two\nlines; and, more|\t"'], ["2", "x"]]
    path = _file(tmp_path, "in.csv", "\n".join(mark.join(cells) for cells in lines).encode())
    assert _read(path) == [(2, {"id": "1", "text": "two\nlines; and, more|\t"}), (4, {"id": "2", "text": "x"})]


def test_the_quote_character_of_a_csv_is_found(tmp_path: Path) -> None:
    """In its header line; an apostrophe that begins a text is none, and a row that looks quoted by it says so."""
    path = _file(tmp_path, "in.csv", b"'id';'the; text'\n'1';'it''s \"so\"; yes'\n'2';''\n")
    assert _read(path) == [
        (2, {"id": "1", "the; text": 'it\'s "so"; yes'}),
        (3, {"id": "2", "the; text": ""}),
    ]
    rows = _read(_file(tmp_path, "in.csv", b"id,text\n1,'tis\n2,'a, b'\n3,a, b\n"))
    assert rows == [
        (2, {"id": "1", "text": "'tis"}),
        (3, "line 3 has 3 fields where the header has 2; if ' quotes its fields, pass it as quotechar"),
        (4, "line 4 has 3 fields where the header has 2"),
    ]


def test_the_dialect_of_a_csv_is_given(tmp_path: Path) -> None:
    """Quotes of another kind, none at all, and escaped ones; all of it also at once."""
    path = _file(tmp_path, "in.csv", b"id,text\n1,'a, ''b'''\n")
    assert _read(path, quotechar="'") == [(2, {"id": "1", "text": "a, 'b'"})]
    path = _file(tmp_path, "in.tsv", b'id\ttext\n1\t"so" and "\n2\t"\n')
    assert _read(path, quotechar="") == [(2, {"id": "1", "text": '"so" and "'}), (3, {"id": "2", "text": '"'})]
    path = _file(tmp_path, "in.csv", b'id,text\n1,"a \\"b\\", ""c"" \\\\"\n')
    assert "line 2 is not CSV" in _read(path)[0][1]
    assert _read(path, escapechar="\\") == [(2, {"id": "1", "text": 'a "b", "c" \\'})]
    path = _file(tmp_path, "in.csv", b"id:text\n1:~a: /~b~\n")
    assert _read(path, delimiter=":", quotechar="~", escapechar="/") == [(2, {"id": "1", "text": "a: ~b"})]


def test_utf16_is_found_by_its_byte_order_mark(tmp_path: Path) -> None:
    """As spreadsheets write "Unicode text"; bytes that are no text in it end the reading with an error that says so."""
    path = _file(tmp_path, "in.tsv.gz", "id\ttext\n1\tGrüße\n".encode("utf-16"))
    assert _read(path) == [(2, {"id": "1", "text": "Grüße"})]
    text = "id\ttext\n" + "1\tx\n" * 2000
    *rows, last = _read(_file(tmp_path, "broken.tsv", text.encode("utf-16") + b"\x00\xd8x\x00"))
    assert rows == [(line, {"id": "1", "text": "x"}) for line in range(2, len(rows) + 2)]
    assert len(rows) > 500
    told = f"line {len(rows) + 2} or one soon after is not utf-16: pass the encoding of the file"
    assert last == (len(rows) + 2, f"{told}; what follows is not read")
    with pytest.raises(ConfigurationError, match="line 1 or one soon after is not utf-16; pass its encoding"):
        _read(_file(tmp_path, "torn.tsv", b"\xff\xfea\x00\t"))


def test_a_dialect_belongs_to_what_makes_a_run_the_same(tmp_path: Path) -> None:
    """Read otherwise, the same bytes are other rows; found or given makes no difference."""
    path = _file(tmp_path, "in.csv", b"id;n:int\n1;5\n")
    found = open_source(path).reading
    assert found == open_source(path, delimiter=";", types={"n": "int"}).reading
    assert found != open_source(path, delimiter=",").reading
    assert found != open_source(path, types={"id": "int"}).reading
    assert open_source(_file(tmp_path, "in.jsonl", b"{}")).reading is None


def test_types_come_from_the_header_or_by_name(tmp_path: Path) -> None:
    """`age:int` in the header, or types={"age": "int"}; an empty cell is null."""
    path = _file(tmp_path, "in.csv", b"age:int,ok:bool,x,more:json,time\n5,true,1.5,[1],12:30\n,,,,\n")
    assert _read(path, types={"x": "float"}) == [
        (2, {"age": 5, "ok": True, "x": 1.5, "more": [1], "time": "12:30"}),
        (3, {"age": None, "ok": None, "x": None, "more": None, "time": ""}),
    ]


def test_a_csv_row_that_cannot_be_read_is_that_rows_error(tmp_path: Path) -> None:
    """Too few fields, a bad number, bytes that are no UTF-8, a torn quote: each with its line."""
    content = b'n:int,text\n1,ok\n2\nx,y\nnan,z\n3,\xff\n4,fine\n5,"torn\n'
    read = dict(_read(_file(tmp_path, "in.csv", content)))
    assert read[2] == {"n": 1, "text": "ok"}
    assert read[3] == "line 3 has 1 field where the header has 2"
    assert read[4] == "line 4: n is 'x', which is not a valid int"
    assert "not a valid int" in read[5]
    assert "line 6 is not utf-8" in read[6]
    assert read[7] == {"n": 4, "text": "fine"}
    assert "line 8 is not CSV" in read[8]
    assert len(read) == 7


def test_a_csv_in_another_encoding(tmp_path: Path) -> None:
    """`--encoding` names it."""
    path = _file(tmp_path, "in.csv", "id;text\n1;Grüße\n".encode("latin-1"))
    assert _read(path, encoding="latin-1") == [(2, {"id": "1", "text": "Grüße"})]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    """Also gzipped as a whole, and from standard input; `line` counts rows."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "in.parquet"
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "n": [1, None], "deep": [{"x": [1]}, None]}), path)
    rows = [(1, {"id": "a", "n": 1, "deep": {"x": [1]}}), (2, {"id": "b", "n": None, "deep": None})]
    assert _read(path) == rows
    assert _read(_file(tmp_path, "in.parquet.gz", path.read_bytes())) == rows
    source = open_source("-", "parquet", stdin=io.BytesIO(path.read_bytes()))
    assert [(line, columns) for line, columns, _ in source] == rows
    with pytest.raises(ConfigurationError, match="not a Parquet file"):
        _read(_file(tmp_path, "bad.parquet", b"PAR1"))


@pytest.mark.parametrize("zipped", [False, True])
def test_standard_input_is_jsonl_unless_said_otherwise(zipped: bool) -> None:
    """It can be read once, and gzip is recognised by its bytes."""
    content = b'{"a": 1}\n'
    source = open_source("-", stdin=io.BytesIO(gzip.compress(content) if zipped else content))
    assert not source.repeatable
    assert [columns for _, columns, _ in source] == [{"a": 1}]
    with pytest.raises(ConfigurationError, match="only once"):
        list(source)
    csv = open_source("-", "csv", stdin=io.BytesIO(b"a,b\n1,2\n"))
    assert csv.header == ["a", "b"]
    assert [columns for _, columns, _ in csv] == [{"a": "1", "b": "2"}]


def test_a_gzip_that_ends_in_the_middle_is_an_error_after_its_rows(tmp_path: Path) -> None:
    """A copy that broke off does not look like a shorter file."""
    whole = gzip.compress(b"".join(b'{"n": %d, "x": "%s"}\n' % (n, str(n * 7919).encode()) for n in range(5000)))
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    *rows, (line, problem) = _read(path)
    assert rows
    assert line == len(rows) + 1
    assert "ends in the middle" in problem


def test_an_input_says_how_much_of_it_was_read(tmp_path: Path) -> None:
    """By which the time left is told where the rows were not counted."""
    path = _file(tmp_path, "in.jsonl", b"".join(b'{"n": %d}\n' % n for n in range(50_000)))
    source = open_source(path)
    assert source.fraction() is None
    rows = iter(source)
    next(rows)
    fraction = source.fraction()
    assert fraction is not None
    assert 0 < fraction < 1
    assert sum(1 for _ in rows) == 49_999
    assert source.fraction() == 1.0


def test_the_same_content_is_the_same_input(tmp_path: Path) -> None:
    """A fingerprint is of the content; size alone would not tell two inputs apart."""
    one, two, other = (
        _file(tmp_path, name, text) for name, text in (("1.csv", b"a\n1"), ("2.csv", b"a\n1"), ("3.csv", b"a\n2"))
    )
    prints = [open_source(path).fingerprint() for path in (one, two, other)]
    assert prints[0]["digest"] == prints[1]["digest"] != prints[2]["digest"]


@pytest.mark.parametrize(
    ("name", "content", "options", "told"),
    [
        ("missing.csv", None, {}, "file not found"),
        ("in.txt", b"x", {}, "cannot infer the format from .*pass format"),
        ("in.csv", b"", {}, "is empty"),
        ("in.csv", b"a,a\n", {}, "column 'a' twice"),
        ("in.csv", b"a,b\n", {"types": {"c": "int"}}, "types: the input has no column 'c'"),
        ("in.csv", b"a,b\n", {"types": {"a": "date"}}, "a type is one of"),
        ("in.csv", b"a,b\n", {"encoding": "klingon"}, "encoding: unknown encoding 'klingon'"),
        ("in.jsonl", b"{}", {"delimiter": ","}, "are for CSV"),
        ("in.jsonl", b"{}", {"quotechar": ""}, "are for CSV"),
        ("in.parquet", b"PAR1", {"encoding": "latin-1"}, "encoding is for CSV and JSON"),
        ("in.jsonl", b"{}", {"skip_lines": 1}, "skip_lines and no_header are for CSV and .xlsx"),
        ("in.jsonl", b"{}", {"comment": "#"}, "comment is for CSV"),
        ("in.csv", b"a,b", {"comment": "\n"}, "comment must be the characters"),
        ("in.csv", b"a,b", {"sheet": "Sheet1"}, "sheet is for .xlsx"),
        ("in.csv", b"a,b", {"quotechar": "''"}, "quotechar must be one character"),
        ("in.csv", b"a,b", {"escapechar": ""}, "escapechar must be one character"),
        ("in.csv", b"a,b", {"delimiter": "'", "quotechar": "'"}, "must differ"),
    ],
)
def test_an_input_that_cannot_be_opened_says_what_to_do(
    tmp_path: Path, name: str, content: bytes, options: dict[str, Any], told: str
) -> None:
    """Before a row is sent."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=told):
        _read(path, **options)


def test_formats_are_known_by_name() -> None:
    """Whatever the case, gzipped or not."""
    names = ["A.CSV", "a.tsv", "a.csv.gz", "a.jsonl", "a.ndjson.gz", "a.parquet", "a.txt", "a"]
    assert [format_of(name) for name in names] == ["csv", "csv", "csv", "jsonl", "jsonl", "parquet", None, None]


def test_a_field_larger_than_the_standard_librarys_bound_is_read(tmp_path: Path) -> None:
    """Python's csv refuses fields above 131,072 characters; an e-mail may be longer."""
    text = "x" * 200_000
    assert _read(_file(tmp_path, "in.csv", f"id,text\n1,{text}\n".encode())) == [(2, {"id": "1", "text": text})]


def test_a_gzip_that_ends_in_its_first_line_is_refused(tmp_path: Path) -> None:
    """There are no columns to speak of."""
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(b"id,body\n1,a\n")[:12])
    with pytest.raises(ConfigurationError, match=r"in\.csv\.gz: its first line cannot be read: .*ended before"):
        list(open_source(path))


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_a_csv_row_that_is_too_long_is_skipped_to_its_end(ending) -> None:
    """A line of any length, of few or many fields, or a quoted field over many lines; later lines keep their number."""
    long_rows = (b"9," + b"x" * 500, b"9," * 500, b'9,"' + b"x\n" * 300 + b'"')
    for row in long_rows:
        content = b'id,text\n1,"a\nb"\n' + row + b"\n2,b" + ending
        source = CsvSource(Input(None, io.BytesIO(content)), longest=200)
        read = list(source)
        assert [columns for _, columns, _ in read] == [{"id": "1", "text": "a\nb"}, None, {"id": "2", "text": "b"}]
        assert read[1] == (4, None, "line 4 is longer than 200 bytes")
        assert read[2][0] == 4 + row.count(b"\n") + 1


def test_a_header_of_very_many_columns_is_read_in_time() -> None:
    """Looking for a name that stands twice is linear."""
    names = ",".join(f"c{number}" for number in range(50_000))
    began = time.process_time()
    assert len(CsvSource(Input(None, io.BytesIO(names.encode()))).header or []) == 50_000
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_file_is_open_only_while_its_rows_are_read(name: str, tmp_path: Path) -> None:
    """Rows that nobody reads, as those of a run that is finished, leave no open file."""
    path = tmp_path / name
    path.write_text("n\n1\n2\n" if name.endswith(".csv") else '{"n": 1}\n{"n": 2}\n', encoding="utf-8")

    def is_open() -> bool:
        return str(path) in {file.path for file in psutil.Process().open_files()}

    rows = iter(open_source(path))
    assert not is_open()
    next(rows)
    assert is_open()
    rows.close()  # type: ignore[attr-defined]
    assert not is_open()
