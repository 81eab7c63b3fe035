"""A cause that concerns every row stops the run at its first, and is not the error of each."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopai import (
    ExecutionException,
    LoopaiException,
    OptionError,
    SyncLoopaiClient,
    ValidationException,
)
from loopai.batch.mapping import InputMapping
from loopai.shell.command import run_command
from loopai.shell.options import CommandOptions
from loopai.testing import FakeLoopai, ProgramError

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

OF_THE_TASK = [
    "Program generation failed: There are no examples to learn from",
    "Version 1 is a draft, as no example verifies it: read it and activate it, or add examples",
    "Version 1 is a draft, as its score 0.67 is below the accuracy target 0.90: add examples and generate again",
    "Version 2 is a draft: activate it, or generate the next version",
]


@pytest.fixture
def fake() -> FakeLoopai:
    return FakeLoopai()


@pytest.fixture
def client(fake: FakeLoopai) -> Iterator[SyncLoopaiClient]:
    with fake.client() as made:
        made.create_task("mails", "Mails", SCHEMA, {})
        yield made


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id,body\n" + "".join(f"{n},text {n}\n" for n in range(3000)))
    return path


def command(client: SyncLoopaiClient, given: Path, **options: Any) -> tuple[int, str]:
    said = io.StringIO()
    made = CommandOptions(
        task="mails", input=str(given), output=str(given.parent / "out.jsonl"), progress="none", **options
    )
    return run_command(made, client, stderr=said), said.getvalue()


@pytest.mark.parametrize("text", OF_THE_TASK)
def test_a_program_that_cannot_be_made_stops_the_run(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, text: str
) -> None:
    """Exit code 2 with the reason, after a few requests, and nothing is left."""
    fake.task("mails").fails(text)
    code, said = command(client, given, mapping=["text=body"])
    assert code == 2
    assert text in said
    assert "0 ok, 0 errors" in said
    assert fake.task("mails").call_count <= 4 * 100
    assert [path.name for path in given.parent.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("text", OF_THE_TASK)
def test_python_raises_what_concerns_every_row(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, text: str
) -> None:
    """`run_batch` and `batch_stream` alike, whose rows are cancelled."""
    fake.task("mails").fails(text)
    with pytest.raises(ExecutionException, match=text[:20]):
        client.run_batch("mails", given, given.parent / "out.jsonl", mapping=["text=body"])
    ended = []
    with pytest.raises(ExecutionException):
        ended.extend(outcome.status for outcome in client.batch_stream("mails", given, mapping=["text=body"]))
    assert "error" not in ended


def test_an_error_of_one_row_stops_nothing(client: SyncLoopaiClient, fake: FakeLoopai, given: Path) -> None:
    """Where another of the same request ended otherwise, the texts are the rows' own."""

    def program(value: Any) -> Any:
        if value["text"].endswith("7"):
            raise ProgramError(OF_THE_TASK[0])
        return value

    fake.task("mails").computes(program)
    code, said = command(client, given, mapping=["text=body"])
    assert (code, "2,700 ok, 300 errors" in said) == (1, True)


@pytest.mark.parametrize("mapping", [["txt=body"], ["txt=body", 'lang:="en"'], None])
def test_a_mapping_of_which_nothing_fits_is_refused(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path, mapping: Any
) -> None:
    """Before anything is sent; the error names what the task takes. Without a mapping, columns are compared."""
    code, said = command(client, given, mapping=mapping)
    assert code == 2
    assert "the task's input has text: every row would fail. Pass --map text=COLUMN" in said
    assert fake.task("mails").call_count == 0


@pytest.mark.parametrize(
    ("parts", "schema", "header"),
    [
        (["text=body"], SCHEMA, ["body"]),
        (["text.part=body", "more=x"], SCHEMA, []),
        (["=body"], SCHEMA, ["body"]),
        ([], SCHEMA, ["text", "id"]),
        ([], SCHEMA, []),
        (["txt=body"], {"type": "object"}, []),
        (["txt=body"], {"type": "string"}, []),
        (["txt=body"], True, []),
    ],
)
def test_a_mapping_that_may_fit_is_taken(parts: list[str], schema: Any, header: list[str]) -> None:
    """Only what can fit in no row is refused."""
    InputMapping(parts).check_schema(schema, header)
    with pytest.raises(OptionError, match="every row would fail"):
        InputMapping(["txt=body"]).check_schema(SCHEMA, header)


def test_a_member_that_no_row_has_stops_the_run_in_python(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path
) -> None:
    """The server names what is required, and the mapping makes it for no row."""
    fake.task("mails").fails("input.text: … is a required property")
    with pytest.raises(ValidationException, match=r"input\.text: .* the mapping makes txt"):
        client.run_batch("mails", given, given.parent / "out.jsonl", mapping=["txt=body"])
    # Rows of a mapping that makes it lack it each for themselves, as do rows without a mapping.
    for mapping in (["text=body"], None):
        ended = {outcome.status for outcome in client.batch_stream("mails", given, mapping=mapping, limit=10)}
        assert ended == {"error"}


def test_a_key_that_is_refused_stops_the_run(client: SyncLoopaiClient, fake: FakeLoopai, given: Path) -> None:
    """At the first request."""
    fake.operation("batch_execute").raises(401)
    code, said = command(client, given, mapping=["text=body"])
    assert code == 2
    assert "0 errors" in said
    with pytest.raises(LoopaiException):
        client.run_batch("mails", given, given.parent / "out.jsonl", mapping=["text=body"])


# What `--dry-run` checks


def test_a_dry_run_checks_rows_against_the_input_schema(
    client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path
) -> None:
    """Those shown, and many beyond them; the first that does not fit is shown with why."""
    pytest.importorskip("jsonschema_rs")
    given = tmp_path / "in.jsonl"
    given.write_text("".join('{"text": %s}\n' % ("1" if n in {40, 50} else '"a"') for n in range(100)))
    code, said = command(client, given, dry_run=True)
    assert code == 1
    assert '1: {"text": "a"}\n' in said
    assert '41: {"text": 1} does not fit: input.text:' in said
    assert "51:" not in said
    assert "Checked the first 100 rows against the task's input schema: 2 cannot be read or do not fit." in said
    assert fake.task("mails").call_count == 0
    given.write_text('{"text": "a"}\n')
    code, said = command(client, given, dry_run=True)
    assert (code, "Checked the first 1 row against the task's input schema: all fit." in said) == (0, True)


def test_a_dry_run_without_the_library_shows_the_rows_unchecked(
    client: SyncLoopaiClient, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what to install."""
    monkeypatch.setitem(sys.modules, "loopai.programs.input_check", None)
    code, said = command(client, given, mapping=["text=body"], dry_run=True)
    assert code == 0
    assert "Rows are not checked against the task's input schema, which needs: pip install jsonschema-rs" in said
    assert '1: {"text": "text 0"}' in said


def test_a_dry_run_without_a_server_shows_the_rows_unchecked(
    client: SyncLoopaiClient, fake: FakeLoopai, given: Path
) -> None:
    """It needs none to show them."""
    pytest.importorskip("jsonschema_rs")
    fake.unreachable()
    code, said = command(client, given, mapping=["text=body"], dry_run=True)
    assert code == 0
    assert "Rows are not checked against the task's input schema: " in said
    assert '1: {"text": "text 0"}' in said
