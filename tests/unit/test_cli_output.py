"""What the command line writes to a terminal cannot command it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from loopai.cli import output
from loopai.cli.app import run as command_line

EVIL = "return 'evil' #\x1b[1A\x1b[2K\x9b2K\u202egood\x07\r\tend"


class Terminal(io.StringIO):
    """A stdout that somebody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_code_on_a_terminal_shows_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out, so that no line hides another; line ends and tabs stay."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    output.show_raw(EVIL + "\nsecond")
    written = sys.stdout.getvalue()  # type: ignore[attr-defined]  # ours
    assert written == "return 'evil' #\\x1b[1A\\x1b[2K\\x9b2K\\u202egood\\x07\\r\tend\nsecond\n"


def test_code_in_a_pipe_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever reads it wants the very program."""
    output.show_raw(EVIL)
    assert capsys.readouterr().out == EVIL + "\n"


def test_json_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """And says the same."""
    output.show_json({"code": EVIL})
    written = capsys.readouterr().out
    assert not set(written) & set("\x1b\x9b\u202e\x07\r")
    assert json.loads(written) == {"code": EVIL}


@pytest.mark.parametrize(
    "typed",
    [
        "batch --json",
        "--json batch",
        "batch --json t in.csv --nope",
        "batch t missing.csv --json",
        "batch t --json --limit -1",
        "execute t --json --input {",
        "execute t --json --input 1 --version x",
        "executions list --json --limit x",
        "tasks get --json",
        "--json tasks nope",
        "health --json --timeout soon",
        "doctor --json --nope",
        "serve --json --port x",
        "--json nope",
    ],
)
def test_with_json_wrong_usage_is_one_json_line(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads the errors of a command reads one format."""
    assert command_line(typed.split()) == 2
    told = capsys.readouterr()
    [line] = told.err.splitlines()
    assert json.loads(line).keys() == {"error", "exit_code"}
    assert json.loads(line)["exit_code"] == 2
    assert told.out == ""


def test_an_error_as_json_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A text of a server's within it is written out, and says the same."""
    output.complain(EVIL, 1, as_json=True)
    written = capsys.readouterr().err
    assert json.loads(written)["error"] == EVIL
    assert written[:-1].isprintable()
