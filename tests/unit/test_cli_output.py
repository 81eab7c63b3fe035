"""What the command line writes to a terminal cannot command it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from loopai.cli import output

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
