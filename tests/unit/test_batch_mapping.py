"""What a row's input is made of: `--map`."""

from __future__ import annotations

import pytest

from loopai import ConfigurationError
from loopai.batch.mapping import InputMapping, Unmapped

ROW = {"body": "hello", "meta": {"lang": "en", "tags": ["a", "b"]}, "a.b": 1, "label": "ham"}


@pytest.mark.parametrize(
    ("parts", "made"),
    [
        (["text=body"], {"text": "hello"}),
        (["text=body", "lang=meta.lang"], {"text": "hello", "lang": "en"}),
        (["mail.text=body", "mail.tag=meta.tags.1"], {"mail": {"text": "hello", "tag": "b"}}),
        (['lang:="en"', "n:=3", "text=body"], {"text": "hello", "lang": "en", "n": 3}),
        (['options:={"deep": true}'], {"options": {"deep": True}}),
        (["=body"], "hello"),
        (["=meta.tags"], ["a", "b"]),
        (["x=a.b"], {"x": 1}),
        ({"text": "body"}, {"text": "hello"}),
    ],
)
def test_members_are_columns_paths_constants_or_the_whole_input(parts: object, made: object) -> None:
    """`member=column`, both sides dotted, `member:=json` and `=column` each say what they look like."""
    assert InputMapping(parts)(ROW) == made  # type: ignore[arg-type]  # lists and mappings alike


def test_without_a_mapping_the_input_is_the_row_less_the_expected_column() -> None:
    """The right answer is never sent to the program that is to find it."""
    assert InputMapping()(ROW) == ROW
    assert "label" not in InputMapping(without=["label"])(ROW)


def test_a_constant_is_each_rows_own() -> None:
    """A program that changes its input does not change the next row's."""
    mapping = InputMapping(["list:=[]"])
    first = mapping(ROW)
    first["list"].append(1)
    assert mapping(ROW) == {"list": []}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (["text"], "write MEMBER=COLUMN"),
        (["text="], "write MEMBER=COLUMN"),
        (["lang:=en"], """lang:='"en"'"""),
        (["n:=NaN"], "is not JSON"),
        ([":=1"], "needs the name"),
        (["a=x", "a=y"], "twice"),
        (["a=x", "a.b=y"], "twice, or a part"),
        (["=x", "a=y"], "pass no other beside it"),
    ],
)
def test_a_part_that_says_nothing_is_refused(parts: list[str], told: str) -> None:
    """The error shows the right way to write it."""
    with pytest.raises(ConfigurationError, match=told):
        InputMapping(parts)


def test_a_column_that_no_row_has_is_refused_before_anything_is_sent() -> None:
    """The header is enough to know, and the nearest column is named."""
    with pytest.raises(ConfigurationError, match="did you mean 'body'"):
        InputMapping(["text=bdy"]).check(["id", "body"])
    InputMapping(["text=body.inner"]).check(["id", "body"])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("txt", "no column 'txt'"),
        ("meta.x", "nothing named 'x' in 'meta'"),
        ("meta.tags.9", "nothing named '9' in 'meta.tags', a list of 2$"),
    ],
)
def test_a_row_without_the_column_says_which(path: str, told: str) -> None:
    """Rows of JSONL differ; the one that lacks a member is an error of its own."""
    with pytest.raises(Unmapped, match=told):
        InputMapping([f"text={path}"])(ROW)
