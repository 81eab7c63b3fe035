"""How the command line starts: at once, and with a word to those who lack its libraries."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "loopai.client",
    "httpx",
    "fastapi",
    "sqlalchemy",
    "sklearn",
    "pydantic_monty",
    "uvicorn",
    "rich.progress",
    "loopai.local",
}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["execute", "--help"], ["serve", "--help"], ["--version"]])
def test_help_imports_nothing_that_it_does_not_need(arguments: list[str]) -> None:
    """Help answers at once: neither an HTTP library nor the server's are imported."""
    done = python(
        f"import sys, json; from loopai.cli import main; code = main({arguments!r}); "
        f"print(json.dumps([code, sorted({HEAVY!r} & set(sys.modules))]))"
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, []], done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_library_is_named(missing: str) -> None:
    """Without typer or rich there is one line that says what to install, and exit code 2."""
    done = python(f"import sys; sys.modules[{missing!r}] = None; from loopai.cli import main; sys.exit(main([]))")
    expected = "loopai: the command line needs typer and rich: pip install typer rich\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_alone_it_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command there is help, with every command and the exit codes."""
    from loopai import __version__
    from loopai.cli import main

    assert main([]) == 0
    told = capsys.readouterr().out
    assert all(f" {name} " in told for name in ("serve", "tasks", "execute", "batch", "health", "doctor"))
    assert "Exit codes" in told
    assert main(["tasks"]) == 0
    assert " push " in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"loopai {__version__}\n"


def test_an_unknown_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there is exit code 2, with where to look."""
    from loopai.cli import main

    assert main(["tasks", "lst"]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("loopai: No such command 'lst'")
    assert written.err.endswith("(see: loopai tasks --help)\n")


def test_every_option_of_a_batch_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """What a batch can be told, the command line can tell it."""
    import typer

    from loopai.batch.options import FILE
    from loopai.cli.app import app
    from loopai.shell.options import CommandOptions, flags_of

    command = typer.main.get_command(app).commands["batch"]  # type: ignore[attr-defined]  # a group has commands
    flags = {flag for part in command.params for flag in part.opts}
    for flag in flags_of(CommandOptions, [FILE]):
        assert set(flag.flags) <= flags
