"""What the command line tells before it does anything: help, completion, and what to do without a server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from loopai.cli import main, session
from loopai.exceptions import ConnectionException, NotFoundException, TimeoutException
from loopai.shell.text import no_server
from loopai.testing import FakeLoopai

COMMANDS = [
    [],
    ["batch"],
    ["execute"],
    ["serve"],
    ["health"],
    ["doctor"],
    ["tasks"],
    ["tasks", "create"],
    ["tasks", "push"],
    ["tasks", "artifacts"],
    ["tasks", "diff"],
    ["executions", "list"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_names_no_types_of_python(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No `<bool>` beside a flag, no brackets twice, no braces."""
    assert main([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert "Usage" in told
    assert not re.search(r"<\w+>|\[\[|\]\]|\{\w+\}", told)


def test_help_names_no_values_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    """A shell knows neither `None` nor `True`, and passes no functions."""
    assert main(["--help"]) == 0
    assert not re.search(r"\b(None|True|False|function)\b", capsys.readouterr().out)


def test_a_language_that_there_is_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is sent; names in any case, and the other ones, are known."""
    (tmp_path / "program").write_text("def main(input): return input")
    assert main(["tasks", "push", "spam", str(tmp_path / "program"), "--language", "ruby"]) == 2
    assert "--language: must be python or typescript, not 'ruby'" in capsys.readouterr().err


def test_choices_are_completed() -> None:
    """Of an option that takes some words only."""
    assert session.among(("auto", "plain", "json"))("p") == ["plain"]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["execute", "s"], "spam"),
        (["batch", "s"], "spam"),
        (["tasks", "get", "s"], "spam"),
        (["tasks", "push", "s"], "spam"),
        (["executions", "list", "s"], "spam"),
        (["executions", "list", "spam", "--status", "e"], "error"),
        (["batch", "spam", "rows.csv", "--output-format", "x"], "xlsx"),
        (["batch", "spam", "rows.csv", "--format", "p"], "parquet"),
        (["batch", "spam", "rows.csv", "--progress", "p"], "plain"),
        (["tasks", "push", "spam", "program.txt", "--language", "t"], "typescript"),
        (["serve", "--record", "f"], "failures"),
        (["serve", "--check-outputs", "r"], "reject"),
        (["--version", "bat"], "batch"),
    ],
)
def test_a_shell_completes(
    typed: list[str], completed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of tasks wherever a command takes one, and the words of an option that takes some only."""
    monkeypatch.setenv("LOOPAI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("LOOPAI_TASKS", "spam=7f1c2a34-0000-4000-8000-000000000000")
    monkeypatch.setenv("_LOOPAI_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["loopai", *typed]))
    monkeypatch.setenv("COMP_CWORD", str(len(typed)))
    monkeypatch.setattr("sys.argv", ["loopai"])
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.split() == [completed]


def test_names_of_tasks_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of `LOOPAI_TASKS` where no server answers, and none where the settings are wrong."""
    monkeypatch.setenv("LOOPAI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("LOOPAI_TASKS", "spam=7f1c2a34-0000-4000-8000-000000000000")
    assert session._task_names("s") == ["spam"]
    assert session._task_names("x") == []
    monkeypatch.setenv("LOOPAI_BASE_URL", "nonsense")
    assert session._task_names("") == []


def test_without_a_server_it_says_how_to_start_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """For the address that nobody chose, with the variable that chooses another; else the error is as it is."""
    with FakeLoopai().client() as chosen:
        assert no_server(chosen, ConnectionException("no reply")) is None
    monkeypatch.delenv("LOOPAI_BASE_URL", raising=False)
    from loopai import SyncLoopaiClient

    with SyncLoopaiClient() as client:
        told = no_server(client, ConnectionException("no reply", OSError("refused")))
        assert told is not None
        assert "loopai serve" in told
        assert "LOOPAI_BASE_URL" in told
        assert no_server(client, TimeoutException("late")) is None
        assert no_server(client, NotFoundException("no such task")) is None


def test_the_doctor_shows_what_env_files_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The `.env` of the folder, which FastAPI's settings read; a secret is not shown."""
    pytest.importorskip("dotenv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOOPAI_BASE_URL", "http://127.0.0.1:1")
    (tmp_path / ".env").write_text("LOOPAI_BASE_URL=http://127.0.0.1:2\nLOOPAI_API_KEY=hidden-key\nOTHER=1\n")
    assert main(["doctor", "--json"]) == 4
    told = capsys.readouterr()
    assert json.loads(told.out)["dotenv"] == {"base_url": "http://127.0.0.1:2", "api_key": "set"}
    assert main(["doctor"]) == 4
    assert "In .env" in capsys.readouterr().out
    assert "hidden-key" not in told.out + told.err
