"""Files as people's programs write them: read as they were meant, or refused with what to do."""

from __future__ import annotations

import bz2
import codecs
import datetime as dt
import gzip
import io
import json
import lzma
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from loopai import ConfigurationError
from loopai.batch.formats.opening import open_source
from loopai.batch.formats.packing import packing_of
from loopai.batch.formats.xlsx import XlsxSource
from loopai.batch.formats.xlsx_cells import cells_without_value
from loopai.option_names import in_shell, spelled

ROWS = [{"id": "1", "text": "Grüße, 你好"}, {"id": "2", "text": "b"}]
CSV = 'id,text\n1,"Grüße, 你好"\n2,b\n'
OBJECTS = [{"id": 1, "text": "Grüße [{"}, {"id": 2, "text": "b", "more": [[{"a": "]"}]]}]


def read(path: Path, **options: Any) -> list[Any]:
    """The rows; a problem stands for one that cannot be read."""
    return [columns if problem is None else problem for _, columns, problem in open_source(path, **options)]


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(path, **options)
    return spelled(caught.value, in_shell)


@pytest.fixture
def put(tmp_path: Path) -> Any:
    """Writes a file, and gives its path."""

    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("ends", ["", "-le", "-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_unicode_is_found_with_and_without_a_mark(put: Any, encoding: str, ends: str, mark: str) -> None:
    """CSV, lines of JSON and an array, also gzipped."""
    if encoding == "utf-8":
        encoding, ends = "utf-8", ""
    name = encoding + ends
    mark = "" if name in {"utf-16", "utf-32"} else mark  # Python writes one there
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in OBJECTS)
    array = json.dumps(OBJECTS, ensure_ascii=False, indent=1)
    assert read(put("in.csv", (mark + CSV).encode(name))) == ROWS
    assert read(put("in.csv.gz", gzip.compress((mark + CSV).encode(name)))) == ROWS
    assert read(put("in.jsonl", (mark + lines).encode(name))) == OBJECTS
    assert read(put("in.json", (mark + array).encode(name))) == OBJECTS


@pytest.mark.parametrize("text", ["编号,文本\r\n1,你好\r\n", "н,т\r\n1,привет\r\n", "id,text"])
@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_found_in_any_script(put: Any, text: str, name: str) -> None:
    """Line breaks and delimiters tell it where letters do not; a header without rows is found as well."""
    path = put("in.csv", text.encode(name))
    assert open_source(path).header == text.splitlines()[0].split(",")


def test_zeros_in_other_text_make_it_no_utf16(put: Any) -> None:
    """They stay what they are."""
    path = put("in.csv", b"id,text\n1,a\0b\n2,c\n" * 1)
    assert open_source(path).header == ["id", "text"]
    assert read(path)[1] == {"id": "2", "text": "c"}


@pytest.mark.parametrize("name", ["cp1252", "latin-1", "cp850", "iso8859-15"])
@pytest.mark.parametrize("header", ["Id;Straße;Text", "straße:int;x", "é"])
def test_a_header_that_is_not_utf8_is_refused_with_the_flag(put: Any, name: str, header: str) -> None:
    """As Excel writes it in German or French; with the encoding it is read."""
    path = put("in.csv", f"{header}\r\n{';'.join('1' * (header.count(';') + 1))}\r\n".encode(name))
    said = refused(path)
    assert "line 1 is not utf-8" in said
    assert "--encoding" in said
    assert "stra" in (open_source(path, encoding=name).header or [""])[0].lower() or "é" in header or "Id" in header


def test_a_bad_byte_in_the_middle_is_that_rows_error(put: Any) -> None:
    """In UTF-8 the others are read; every error names its line, and none leaves what is not UTF-8 behind."""
    assert read(put("in.csv", b"id,text\n1,a\n2,\xff\n3,c\n")) == [
        {"id": "1", "text": "a"},
        "line 3 is not utf-8: pass the encoding of the file",
        {"id": "3", "text": "c"},
    ]
    assert read(put("in.jsonl", b'{"id":1}\n{"id":"\xff"}\n{"id":3}\n')) == [
        {"id": 1},
        "line 2 is not utf-8: pass the encoding of the file",
        {"id": 3},
    ]


def test_json_in_another_encoding_is_read_with_the_flag(put: Any) -> None:
    """As CSV is."""
    path = put("in.jsonl", '{"text": "Straße"}\n'.encode("cp1252"))
    assert read(path, encoding="cp1252") == [{"text": "Straße"}]
    torn = put("in.jsonl", '{"n": 1}\n'.encode("utf-16") + b"\x00\xd8x\x00")
    assert read(torn)[-1] == "what follows line or row 0 is not utf-16: pass the encoding of the file; it is not read"


@pytest.mark.parametrize("name", ["rot13", "zlib", "base64", "utf-80"])
def test_what_is_no_encoding_of_text_is_refused(put: Any, name: str) -> None:
    """Python knows codecs that are none."""
    assert "--encoding: unknown encoding" in refused(put("in.csv", b"a,b\n"), encoding=name)


# CSV


@pytest.mark.parametrize(
    "content",
    [
        "id,text\n1,a\n2,b\n",
        "\n\nid,text\n\n1,a\n\n2,b\n\n",
        " \n,,\nid,text\n1,a\n2,b\n",
        "sep=;\r\nid;text\r\n1;a\r\n2;b\r\n",
        "sep=; ;\r\nid;text\r\n1;a\r\n2;b\r\n",
        "SEP=|\r\nid|text\r\n1|a\r\n2|b\r\n",
        '"sep=\t"\r\nid\ttext\r\n1\ta\r\n2\tb\r\n',
        "\ufeffsep=,\n\nid,text\n1,a\n2,b",
        "id,text\r1,a\r2,b\r",
        "id,text\r\n1,a\r\n2,b\r\n\x1a",
        "id,text\r\n1,a\r\n2,b\x1a",
        "id,text\r\n1,a\r\n2,b\r\n\x1a\x1a",
        "id,text\r\n1,a\r\n2,b\r\n\x1a\r\n",
        'id,text\n"1","a"\n"2",b',
        "id\ttext\n1\ta\n2\tb\n",
        "id|text\n1|a\n2|b\n",
    ],
)
def test_a_csv_is_read_as_it_was_meant(put: Any, content: str) -> None:
    """Lines that tell the separator, blank lines, Ctrl-Z at the end, line breaks of three kinds."""
    assert read(put("in.csv", content.encode())) == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("Report of May\n\nid,text\n1,a\n2,b\n", {"skip_lines": 1}),
        ('Report "quoted\n\nid,text\n1,a\n2,b\n', {"skip_lines": 2}),
        ("# made by x\n# at noon\nid,text\n1,a\n# in between\n2,b\n#end", {"comment": "#"}),
        ("// a, b, c\nid,text\n1,a\n2,b\n", {"comment": "//"}),
        ("title\n# c\nid,text\n1,a\n2,b\n", {"skip_lines": 1, "comment": "#"}),
        ("title\nsep=;\nid;text\n1;a\n2;b\n", {"skip_lines": 1}),
    ],
)
def test_titles_and_comments_are_skipped_where_a_flag_says_so(put: Any, content: str, options: dict[str, Any]) -> None:
    """Rows keep their line numbers; without the flag the file is refused, and the error names it."""
    path = put("in.csv", content.encode())
    records = list(open_source(path, **options))
    assert [columns for _, columns, _ in records] == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    lines = content.replace(";", ",").split("\n")
    assert [line for line, _, _ in records] == [lines.index("1,a") + 1, lines.index("2,b") + 1]
    said = refused(path)
    assert "--skip-lines" in said
    assert "--comment" in said


def test_a_comment_is_one_only_where_a_row_begins(put: Any) -> None:
    """Within quotes it is text."""
    path = put("in.csv", b'id,text\n1,"a\n#b"\n2,#c\n#3,d\n')
    assert read(path, comment="#") == [{"id": "1", "text": "a\n#b"}, {"id": "2", "text": "#c"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Report\nid,text\n1,a\n2,b\n", "line 1 has 1 column, and rows below it have 2"),
        ("Report;;;\n;;;\nid;text;n;m\n1;a;2;3\n", "line 1 names only one of its 4 columns"),
        ("a,b\n1,2,3\n4,5,6\n", "line 1 has 2 columns, and none of the rows below it has as many"),
        ("id:text\n1:a,b\n", "--delimiter"),
        ("id,text,text\n1,a,b\n", "column 'text' twice. Rename one, or pass --no-header and --skip-lines 1"),
        ("\n\nid,id\n1,a\n", "--skip-lines 3"),
        ("", "is empty"),
        ("\n\n \n", "is empty"),
        (",,\n;;\n", "is empty"),
        ("\x1a", "is empty"),
        ("\0" * 100, "line 1 is not text"),
        ("a\x01,b\n1,2\n", "line 1 is not text"),
        ('[{"id": 1}, {"id": 2}]', "looks like JSON, not CSV: pass --format json"),
        ('{"id": 1, "text": "a"}\n', "looks like JSON, not CSV: pass --format json"),
    ],
)
def test_a_csv_whose_header_is_none_is_refused(put: Any, content: str, told: str) -> None:
    """Before anything is sent, with the flag to pass."""
    assert told in refused(put("in.csv", content.encode()))


def test_a_column_of_texts_may_hold_delimiters(put: Any) -> None:
    """Where few do; what a row has too many fields for is that row's error."""
    assert read(put("in.csv", b"text\nhello\nworld; yes\n")) == [{"text": "hello"}, {"text": "world; yes"}]
    assert read(put("in.csv", b"text\na\nb, c\nd\n"))[1] == "line 3 has 2 fields where the header has 1"
    path = put("in.csv", b"text\na; b\nc; d\n")
    assert "--delimiter" in refused(path)
    assert read(path, delimiter=",") == [{"text": "a; b"}, {"text": "c; d"}]


def test_columns_without_a_name_are_numbered(put: Any) -> None:
    """By their place; a name that is taken is not given twice."""
    assert read(put("in.csv", b"id,text,,\n1,a,,x\n")) == [{"id": "1", "text": "a", "column_3": "", "column_4": "x"}]
    assert open_source(put("in.csv", b",column_1,:int,a\n")).header == ["column_1_", "column_1", "column_3", "a"]
    assert read(put("in.csv", b",b,:int,d\n1,2,3,4\n")) == [{"column_1": "1", "b": "2", "column_3": 3, "d": "4"}]


def test_a_csv_without_a_header_is_read_with_the_flag(put: Any) -> None:
    """Its columns are numbered, have types by these names, and the first row is one."""
    path = put("in.csv", b"\n1;a\n2;b\n3\n")
    assert list(open_source(path, no_header=True, types={"column_1": "int"})) == [
        (2, {"column_1": 1, "column_2": "a"}, None),
        (3, {"column_1": 2, "column_2": "b"}, None),
        (4, None, "line 4 has 1 field where the header has 2"),
    ]
    twice = put("in.csv", b"a,a\n1,2\n")
    assert read(twice, no_header=True, skip_lines=1) == [{"column_1": "1", "column_2": "2"}]


def test_how_a_csv_is_read_is_part_of_the_run(put: Any) -> None:
    """Other flags make other rows of the same bytes."""
    path = put("in.csv", b"a,b\n1,2\n3,4\n")
    read_as = [open_source(path, **options).reading for options in ({}, {"skip_lines": 1}, {"no_header": True})]
    assert len({str(found) for found in read_as}) == 3


# JSON


@pytest.mark.parametrize("name", ["in.json", "in.jsonl", "in.ndjson", "in.json.gz"])
@pytest.mark.parametrize("indent", [None, 0, 2])
def test_a_json_array_is_read_by_its_first_byte(put: Any, name: str, indent: Any) -> None:
    """Whatever its name says; pretty-printed too."""
    text = b"\xef\xbb\xbf \n" + json.dumps(OBJECTS, indent=indent).encode()
    assert read(put(name, gzip.compress(text) if name.endswith(".gz") else text)) == OBJECTS


def test_a_json_file_may_hold_lines(put: Any) -> None:
    """As some programs name them; Ctrl-Z at the end is none."""
    assert read(put("in.json", b'{"a": 1}\n\n{"a": 2}\n\x1a')) == [{"a": 1}, {"a": 2}]
    assert read(put("in.json", b'{"a": 1}\x1a')) == [{"a": 1}]
    assert read(put("in.json", b'{"a": 1}\r\n\x1a\r\n')) == [{"a": 1}]


@pytest.mark.parametrize("content", [b"[]", b" [ \n ] ", b"", b"\n\n", b"\x1a"])
def test_json_without_rows_has_none(put: Any, content: bytes) -> None:
    """An empty array, and an empty file."""
    assert read(put("in.json", content)) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[{"a": 1}, {"b"', "after row 1, the array ends in the middle, or something else follows it"),
        (b'[{"a": 1}] garbage', "after row 1, the array ends in the middle, or something else follows it"),
        (b'[{"a": 1}][{"a": 2}]', "after row 1, the array ends in the middle, or something else follows it"),
        (b'[{"a": 1}, 2]', "row 2 is a JSON number: each row must be an object {…}"),
        (b'[{"a": 1}, null]', "row 2 is null: each row must be an object {…}"),
        (b'[{"a": 1}, "x"]', "row 2 is a JSON string: each row must be an object {…}"),
        (b'[{"a": 1}, [{"a": 1}]]', "row 2 is a JSON array: each row must be an object {…}"),
        (b'[{"a": 1}, {"a": NaN}]', "row 2 is not JSON: expected value at column 7"),
        (b'[{"a": 1},]', "row 2 is not JSON: EOF while parsing a value"),
        (b'[{"a": 1}, {"a": 1e400}]', "row 2 is not JSON: a number in it is too large: write it as text"),
    ],
)
def test_what_is_wrong_in_an_array_is_said_after_its_rows(put: Any, content: bytes, told: str) -> None:
    """The rows before it are read."""
    assert read(put("in.json", content)) == [{"a": 1}, told]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.jsonl", b"id,text\n1,a\n", "starts with 'i'"),
        ("in.json", b'"text"', "starts with '\"'"),
        ("in.json", b"12", "starts with '1'"),
        ("in.json", "é".encode(), "starts with 'é'"),
        ("in.json", b"\xff{}", "starts with"),
        ("in.json", b'{\n  "rows": [{"a": 1}]\n}', "one object over several lines"),
        ("in.json", b'{"a": 1,\n "b": 2}\n', "one object over several lines"),
    ],
)
def test_what_is_neither_lines_nor_an_array_is_refused(put: Any, name: str, content: bytes, told: str) -> None:
    """At its first byte."""
    said = refused(put(name, content))
    assert told in said
    assert "an array of objects" in said


def test_numbers_are_what_they_were(put: Any) -> None:
    """Large whole ones keep all their digits; what no number can hold is that row's error, wherever it stands."""
    lines = (
        b'{"n": 12345678901234567890123, "m": 9007199254740993}\n{"n": 1e400}\n{"n": [{"m": -1E999}]}\n{"n": "1e400"}\n'
    )
    huge = "is not JSON: a number in it is too large: write it as text"
    assert read(put("in.jsonl", lines)) == [
        {"n": 12345678901234567890123, "m": 9007199254740993},
        f"line 2 {huge}",
        f"line 3 {huge}",
        {"n": "1e400"},
    ]
    assert read(put("in.csv", b"n:json\n1e400\n")) == ["line 2: n is '1e400', which is not a valid json"]


# Packed files

PACKINGS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": partial(lzma.compress, preset=0)}
CONTENT = CSV.encode() + b"".join(b"%d,%s\n" % (n, os.urandom(20).hex().encode()) for n in range(2000))


def _zstd(content: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(content)
    return packed


def pack(kind: str, content: bytes) -> bytes:
    return _zstd(content) if kind == "zst" else PACKINGS[kind](content)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_packed_file_is_read(put: Any, kind: str) -> None:
    """By its first bytes, whatever its name; of several members all are."""
    packed = pack(kind, CONTENT)
    assert packing_of(packed) is not None
    expected = read(put("in.csv", CONTENT))
    assert len(expected) == 2002
    for name in (f"in.csv.{kind}", "packed.csv"):
        assert read(put(name, packed)) == expected
    half = CONTENT.index(b"\n", 50_000) + 1
    assert read(put(f"in.csv.{kind}", pack(kind, CONTENT[:half]) + pack(kind, CONTENT[half:]))) == expected
    lines = b'{"n": 1}\n{"n": 2}\n'
    assert read(put(f"in.jsonl.{kind}", pack(kind, lines))) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_what_follows_packed_bytes_is_said(put: Any, kind: str) -> None:
    """All rows are read, and an error says that something was not."""
    rows = read(put(f"in.csv.{kind}", pack(kind, CONTENT) + b"garbage"))
    assert len(rows) == 2003
    assert "something else follows the end of the compressed data" in rows[-1]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_packed_file_that_ends_in_the_middle_is_said(put: Any, kind: str) -> None:
    """After the rows that could be read, and never taken for the whole."""
    # In blocks of up to 900,000 bytes, as bzip2 has them.
    packed = pack(kind, b"id,text\n" + b"".join(b"%d,%s\n" % (n, os.urandom(20).hex().encode()) for n in range(50_000)))
    rows = read(put(f"in.csv.{kind}", packed[: len(packed) * 2 // 3]))
    assert "the input ends in the middle" in rows[-1]
    assert 2002 < len(rows) < 50_000
    assert all(isinstance(row, dict) for row in rows[:-2])
    assert "first line cannot be read" in refused(put(f"in.csv.{kind}", packed[:15]))


def test_xz_may_be_padded(put: Any) -> None:
    """With zeros, as tapes are; the next stream is read as well."""
    packed = lzma.compress(b"a\n1\n") + b"\0" * 8 + lzma.compress(b"2\n") + b"\0" * 4
    assert read(put("in.csv.xz", packed)) == [{"a": "1"}, {"a": "2"}]


@pytest.mark.parametrize("kind", ["bz2", "xz", "zst"])
def test_what_unpacks_to_very_much_is_read_in_bounded_memory(put: Any, kind: str) -> None:
    """A row that is too long is that row's error; 60 MB of it are never held."""
    content = b'{"n": 1}\n{"text": "' + b" " * 60_000_000 + b'"}\n{"n": 2}\n'
    path = put(f"in.jsonl.{kind}", pack(kind, content))
    del content
    tracemalloc.start()
    try:
        rows = read(path)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == [{"n": 1}, "line 2 is longer than 30,000,000 bytes", {"n": 2}]
    assert held < 50_000_000


def _zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_the_one_file_in_a_zip_is_read(tmp_path: Path) -> None:
    """By its own name; what macOS adds is none."""
    files = {"folder/": b"", "folder/in.csv": CSV.encode(), "__MACOSX/folder/._in.csv": b"x"}
    assert read(_zipped(tmp_path / "in.zip", files)) == ROWS
    assert read(_zipped(tmp_path / "in.csv.zip", {"data": CSV.encode()})) == ROWS
    assert read(_zipped(tmp_path / "in.zip", {"in.jsonl.gz": gzip.compress(b'{"n": 1}')})) == [{"n": 1}]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.csv": b"a\n", "b.csv": b"b\n"}, "holds 2 files (a.csv, b.csv): unpack it"),
        ({}, "is an empty archive"),
        ({"a.txt": b"a\n"}, "cannot infer the format"),
        ({"mimetype": b"x", "content.xml": b"<x/>"}, "OpenDocument"),
        ({"[Content_Types].xml": b"", "word/document.xml": b""}, "an Office document"),
        ({"[Content_Types].xml": b"", "xl/workbook.bin": b""}, ".xlsb"),
    ],
)
def test_other_archives_are_refused_by_name(tmp_path: Path, files: dict[str, bytes], told: str) -> None:
    """Never taken for text."""
    assert told in refused(_zipped(tmp_path / "in.zip", files))
    csv = _zipped(tmp_path / "in.csv", files)
    if "a.txt" not in files:
        assert told in refused(csv)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, ".xls"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive: unpack it"),
        (b"Rar!\x1a\x07\x00", "a RAR archive: unpack it"),
        (b"\x04\x22\x4d\x18abcdef", "lz4"),
        (lzma.compress(b"a", format=lzma.FORMAT_ALONE), "lzma"),
        (b"a.csv".ljust(257, b"\0") + b"ustar\x0000", "a tar archive: unpack it"),
        (gzip.compress(gzip.compress(gzip.compress(b"a\n"))), "compressed more than twice"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"SQLite format 3\0", "SQLite"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"ARROW1\0\0", "Arrow"),
        (b"PK\x03\x04garbage", "cannot be read"),
    ],
)
def test_other_formats_are_refused_by_name(put: Any, content: bytes, told: str) -> None:
    """By their first bytes, whatever the file is called."""
    for name in ("in.csv", "in.jsonl", "in.json"):
        said = refused(put(name, content))
        assert told in said
        assert "Traceback" not in said


def test_a_zip_from_a_pipe_is_read() -> None:
    """Its table of contents stands at its end: it is kept in a file meanwhile."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in.csv", CSV)
    data = packed.getvalue()
    source = open_source("-", "csv", stdin=io.BytesIO(data))
    assert [columns for _, columns, _ in source] == ROWS
    with pytest.raises(ConfigurationError, match="unpack it first"):
        open_source("-", "csv", stdin=io.BytesIO(gzip.compress(data)))


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_packed_standard_input_is_read(kind: str) -> None:
    """Of any packing that can be read from its start."""
    source = open_source("-", "csv", stdin=io.BytesIO(pack(kind, CSV.encode())))
    assert [columns for _, columns, _ in source] == ROWS


def test_an_input_that_may_not_be_read_is_refused(put: Any) -> None:
    """Before anything is sent. Root may read everything, so a file is taken that nobody can open."""
    path = put("in.csv", b"a\n1\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        path = Path("/proc/self/mem")  # opens, and cannot be read at its start
    assert "cannot be read" in refused(path, format="csv")


# Workbooks


def _workbook(
    path: Path,
    sheets: dict[str, list[list[Any]]],
    hidden: tuple[str, ...] = (),
    change: Callable[[Any], None] = lambda sheet: None,
) -> Path:
    made = pytest.importorskip("openpyxl").Workbook()
    made.remove(made.active)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
        if name in hidden:
            sheet.sheet_state = "hidden"
        change(sheet)
    made.save(path)
    return path


def test_a_workbook_is_read(tmp_path: Path) -> None:
    """Whole numbers, dates, truth values and empty cells as JSON has them; empty rows are skipped."""
    rows = [
        ["id", "text", "when", "n", "yes", "day", "time"],
        [1, "Grüße", dt.datetime.fromisoformat("2024-02-29T13:30"), 1.5, True, dt.date(2024, 2, 29), dt.time(1, 2, 3)],
        [],
        [2, None, None, 10**12, False, None, None],
    ]
    path = _workbook(tmp_path / "in.xlsx", {"Data": rows})
    source = open_source(path)
    assert source.header == rows[0]
    assert list(source) == [
        (2, {"id": 1, "text": "Grüße", "when": "2024-02-29T13:30:00", "n": 1.5, "yes": True, "day": "2024-02-29",
             "time": "01:02:03"}, None),
        (4, {"id": 2, "text": None, "when": None, "n": 10**12, "yes": False, "day": None, "time": None}, None),
    ]  # fmt: skip
    assert source.fraction() == 1.0
    # By its first bytes, as a mail program may name it.
    assert read(path.rename(tmp_path / "in.csv"))[0]["text"] == "Grüße"
    assert "in.csv is xlsx, not csv" in refused(tmp_path / "in.csv", format="csv")


def test_a_sheet_is_chosen_by_name(tmp_path: Path) -> None:
    """Where there are several; one that is hidden is not asked for."""
    sheets = {"A": [["x"], [1]], "B": [["x"], [2]]}
    path = _workbook(tmp_path / "in.xlsx", sheets)
    assert "has the sheets 'A', 'B': choose one with --sheet" in refused(path)
    assert read(path, sheet="B") == [{"x": 2}]
    assert "has no sheet 'C' (sheets: 'A', 'B')" in refused(path, sheet="C")
    assert open_source(path, sheet="A").reading != open_source(path, sheet="B").reading
    path = _workbook(tmp_path / "hidden.xlsx", sheets, hidden=("A",))
    assert read(path) == [{"x": 2}]
    assert read(path, sheet="A") == [{"x": 1}]


def test_a_workbook_whose_header_is_none_is_refused_with_the_flag(tmp_path: Path) -> None:
    """Titles, empty sheets, cells without a name, and no header at all."""
    path = _workbook(tmp_path / "in.xlsx", {"A": [["Report of May"], [], ["id", None, "text"], [1, 2, "a"]]})
    assert "--skip-lines" in refused(path)
    assert list(open_source(path, skip_lines=1)) == [(4, {"id": 1, "column_2": 2, "text": "a"}, None)]
    assert read(path, skip_lines=3, no_header=True) == [{"column_1": 1, "column_2": 2, "column_3": "a"}]
    assert "is empty" in refused(_workbook(tmp_path / "empty.xlsx", {"A": []}))
    assert "'x' twice" in refused(_workbook(tmp_path / "twice.xlsx", {"A": [["x", "x"], [1, 2]]}))


def test_a_workbook_that_is_damaged_or_huge_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library holds a sheet in memory; what it would unpack to is known before."""
    whole = _workbook(tmp_path / "in.xlsx", {"A": [["x"], *([n] for n in range(1000))]})
    monkeypatch.setattr(XlsxSource, "most_bytes", 1000)
    assert "more than 1,000: save it as CSV" in refused(whole)
    (tmp_path / "cut.xlsx").write_bytes(whole.read_bytes()[:2000])
    assert "cannot be read" in refused(tmp_path / "cut.xlsx")
    (tmp_path / "text.xlsx").write_bytes(b"a,b\n1,2\n")
    assert "is not an Excel workbook" in refused(tmp_path / "text.xlsx")
    damaged = _zipped(tmp_path / "damaged.xlsx", {"xl/workbook.xml": b"<workbook><sheets><"})
    monkeypatch.undo()
    assert "cannot be read" in refused(damaged)


def test_codecs_have_the_marks_that_are_looked_for() -> None:
    """UTF-32's begins as UTF-16's does."""
    assert codecs.BOM_UTF32_LE.startswith(codecs.BOM_UTF16_LE)


def test_cells_that_only_seem_empty_fail_their_row(tmp_path: Path) -> None:
    """Errors, and formulas that nobody calculated: the library gives both as nothing."""

    def change(sheet: Any) -> None:
        for place, error in (("A3", "#DIV/0!"), ("B3", "#N/A"), ("B4", "#REF!")):
            sheet[place].value, sheet[place].data_type = error, "e"

    rows = [["a", "b"], [1, 2], [None, None], [3, None], [4, "=A4+1"], [5, "text"]]
    path = _workbook(tmp_path / "in.xlsx", {"Other": [["x"]], "Data & more": rows}, change=change)
    source = open_source(path, sheet="Data & more")
    assert list(source) == [
        (2, {"a": 1, "b": 2}, None),
        (3, None, "row 3: A3 is #DIV/0!"),
        (4, None, "row 4: B4 is #REF!"),
        (5, None, "row 5: B5 is a formula without a saved value: open the workbook in Excel, and save it"),
        (6, {"a": 5, "b": "text"}, None),
    ]
    assert list(open_source(path, sheet="Data & more", skip_lines=5, no_header=True)) == [
        (6, {"column_1": 5, "column_2": "text"}, None)
    ]
    header = _workbook(tmp_path / "header.xlsx", {"A": [["a", "=1+1"], [1, 2]]})
    assert "row 1: B1 is a formula without a saved value" in refused(header)


def test_a_title_above_two_columns_and_charts_are_told_from_rows(tmp_path: Path) -> None:
    """A title is no header; a sheet that is a chart is none of those to choose from."""
    path = tmp_path / "in.xlsx"
    assert "names only one of its 2 columns" in refused(_workbook(path, {"A": [["Report"], [], ["a", "b"], [1, 2]]}))
    assert [columns for _, columns, _ in open_source(path, skip_lines=1)] == [{"a": 1, "b": 2}]
    made = pytest.importorskip("openpyxl").load_workbook(path)
    made.create_chartsheet("Chart")
    made.save(path)
    assert [columns for _, columns, _ in open_source(path, skip_lines=1)] == [{"a": 1, "b": 2}]


def test_a_workbook_with_entities_is_read_by_the_library_alone(tmp_path: Path) -> None:
    """Entities can make any size of a small file."""
    whole = _workbook(tmp_path / "whole.xlsx", {"A": [["a"], ["=1+1"]]})
    with zipfile.ZipFile(whole) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = b'<!DOCTYPE x [<!ENTITY e "text">]>' + parts[name]
    assert cells_without_value(whole, "A")
    assert cells_without_value(_zipped(tmp_path / "entities.xlsx", parts), "A") == {}


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (b"\xef\xbb\xbf\xef\xbb\xbfid,text\n1,a\n", {}),
        ("id,text\n1,a\n".encode("utf-16"), {"encoding": "utf-16-le"}),
        (b'\xef\xbb\xbf"\xef\xbb\xbfid",text\n1,a\n', {}),
    ],
    ids=["twice", "encoding", "quoted"],
)
def test_a_byte_order_mark_is_part_of_no_name(put: Any, content: bytes, options: dict[str, Any]) -> None:
    """Written twice, kept by the encoding that was given, or within quotes."""
    source = open_source(put("in.csv", content), **options)
    assert [columns for _, columns, _ in source] == [{"id": "1", "text": "a"}]


@pytest.mark.parametrize(("name", "content"), [("in.csv", "id,text\n1,é\n"), ("in.jsonl", '{"text": "é"}\n')])
def test_another_encoding_for_a_file_with_the_mark_of_utf_8_is_refused(put: Any, name: str, content: str) -> None:
    """Each letter with an accent would be two others."""
    said = refused(put(name, content.encode("utf-8-sig")), encoding="cp1252")
    assert "encoding cp1252: the input starts with the mark of UTF-8" in said


def test_what_is_wrong_with_a_row_of_csv_is_told_in_words(put: Any) -> None:
    """A quote that is not closed, one field, and a number that only Python reads."""
    content = b'id:int,v:float\n1\n1_000,1\n2,1_0.5\n3,"4\n5,6\n'
    problems = [problem for _, _, problem in open_source(put("in.csv", content))]
    assert problems == [
        "line 2 has 1 field where the header has 2",
        "line 3: id is '1_000', which is not a valid int",
        "line 4: v is '1_0.5', which is not a valid float",
        "line 5 is not CSV: unexpected end of data; a quote that opens there is not closed, and what follows was "
        "read as its text",
    ]


# What only looks like rows


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("編号,文字列\n一,漢字\n", [{"編号": "一", "文字列": "漢字"}]),
        ("id;имя\n1;Āна\n", [{"id": "1", "имя": "Āна"}]),
    ],
)
def test_letters_with_zeros_on_either_side_are_found(put: Any, encoding: str, text: str, rows: Any) -> None:
    """UTF-16 without a mark: every letter 一 has a zero where that of an ASCII letter is not."""
    assert read(put("in.csv", text.encode(encoding))) == rows


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.jsonl", b'{"a":1}{"a":2}{"a":3}', "several objects in a line"),
        ("in.jsonl", b'{"a":1}\r{"a":2}\r', "several objects in a line"),
        ("in.jsonl", b'{"a":1},\n{"a":2},\n', "commas between them"),
        ("in.csv", b"\n  <html><body>", "HTML"),
        ("in.csv", "\ufeff<table>".encode(), "HTML"),
        ("in.csv", b"# made by a, b\n# today\nid,text\n1,a\n", "--comment"),
        ("in.csv.bz2", b"BZh91A", "cannot be read"),
        ("in.csv.bz2", b"BZh9", "cannot be read"),
    ],
)
def test_what_would_be_no_rows_is_refused(put: Any, name: str, content: bytes, told: str) -> None:
    """Instead of a run without rows, or one in which all of them fail."""
    assert told in refused(put(name, content))


def test_one_line_of_two_objects_fails_alone(put: Any) -> None:
    """As two lines that a program wrote at once."""
    told, row = read(put("in.jsonl", b'{"a":1}{"a":9}\n{"a":2}\n'))
    assert "line 1 is not JSON" in told
    assert row == {"a": 2}


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("in.csv", b"id\r\n1\r\n\x1a\x1a\x1a\r\n", [{"id": "1"}]),
        ("in.json", b'[{"a":1}]\x1a', [{"a": 1}]),
        ("in.json", b'[{"a":1}]\r\n\x1a\x1a', [{"a": 1}]),
        ("in.tsv", b"#CHROM\tPOS\n#1\t2\n", [{"#CHROM": "#1", "POS": "2"}]),
    ],
)
def test_the_end_of_a_file_is_no_row(put: Any, name: str, content: bytes, rows: Any) -> None:
    """However often it is marked; and a column may begin with a # of its own."""
    assert read(put(name, content)) == rows


def test_a_workbook_may_be_called_xls(put: Any, tmp_path: Path) -> None:
    """What it is, its first bytes tell."""
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("python_calamine")
    book = openpyxl.Workbook()
    book.active.append(["id"])
    book.active.append([1])
    book.save(tmp_path / "in.xlsx")
    assert read((tmp_path / "in.xlsx").rename(tmp_path / "in.xls")) == [{"id": 1}]
