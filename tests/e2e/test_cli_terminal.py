"""The command line on a real pseudo-terminal: colours, widths, what is shown while it waits, Ctrl-C."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest

pytestmark = pytest.mark.slow

Start = Callable[..., Any]
COLOUR = "\x1b["
LOOP = '{"text": "loop"}'


@pytest.mark.parametrize("columns", [60, 120])
@pytest.mark.parametrize(
    "asked", ["tasks list", "tasks get words", "tasks artifacts words", "health", "doctor", "--help"]
)
def test_tables_fit_the_terminal(terminal: Start, cli_server: str, columns: int, asked: str) -> None:
    """No line is wider than the terminal, and there are colours."""
    shown = terminal(*asked.split(), columns=columns, LOOPAI_BASE_URL=cli_server)
    assert shown.end() == 0
    assert max(map(len, shown.lines)) <= columns, shown.text
    assert COLOUR in shown.raw


def test_an_id_is_whole_on_a_narrow_terminal(terminal: Start, cli_server: str) -> None:
    """What is copied from a list of tasks must not be cut."""
    told = terminal("tasks", "get", "words", "--json", LOOPAI_BASE_URL=cli_server)
    assert told.end() == 0
    shown = terminal("tasks", "list", columns=60, LOOPAI_BASE_URL=cli_server)
    assert shown.end() == 0
    assert json.loads("\n".join(told.lines))["id"] in shown.text


def test_no_colours_where_none_are_wanted(terminal: Start, cli_server: str) -> None:
    """`NO_COLOR` is heeded; JSON has no colours on any terminal."""
    plain = terminal("health", LOOPAI_BASE_URL=cli_server, NO_COLOR="1")
    assert plain.end() == 0
    assert "\x1b[3" not in plain.kept
    as_json = terminal("health", "--json", LOOPAI_BASE_URL=cli_server)
    assert as_json.end() == 0
    assert COLOUR + "3" not in as_json.kept


def test_what_is_waited_for_is_shown_and_wiped(terminal: Start, cli_server: str) -> None:
    """A program that takes its time has a line while it runs, which is gone when it ends."""
    shown = terminal("execute", "words", "--input", "-", "--timeout-ms", "1500", LOOPAI_BASE_URL=cli_server)
    shown.type(f"{LOOP}\n\x04")
    shown.until("Running the program")
    assert shown.end() == 1
    assert "\x1b[2K" in shown.raw.rpartition("Running the program")[2], "the line is wiped"
    assert "loopai: the program failed" in shown.text


def test_a_program_that_is_made_has_a_bar(terminal: Start, cli_server: str, tmp_path: Path) -> None:
    """With what is being done, on a line that is gone when it is made; narrow terminals have room for it."""
    rows = [{"input": f"{first} Bell", "output": "Bell"} for first in ("Ann", "Carl")]
    rows += [{"input": "Eva Fox", "output": "Fox"}, {"input": "Gus Hill", "output": "Hill"}]
    (tmp_path / "names.json").write_text(json.dumps(rows))
    name = f"names-{uuid.uuid4().hex[:8]}"
    schemas = ("--input-schema", "true", "--output-schema", "true", "--examples", "names.json")
    asked = ("tasks", "create", "--name", name, "--description", "Last name", *schemas, "--wait")
    shown = terminal(*asked, columns=60, LOOPAI_BASE_URL=cli_server)
    assert shown.end() == 0
    assert "Creating the task: " in shown.text
    assert "━" in shown.text
    assert "\x1b[2K" in shown.raw.rpartition("━")[2], "the line is wiped"
    assert "version 1, active" in shown.text
    again = terminal("tasks", "generate", name, LOOPAI_BASE_URL=cli_server)
    assert again.end() == 0
    assert "Making the program: " in again.text
    quiet = terminal("tasks", "generate", name, "--json", LOOPAI_BASE_URL=cli_server)
    assert quiet.end() == 0
    assert '"version": 3' in quiet.text


def test_ctrl_c_ends_a_call(terminal: Start, cli_server: str) -> None:
    """Ctrl-C during a call is exit code 130, without a traceback, and the cursor is back."""
    shown = terminal("execute", "words", "--input", LOOP, "--timeout-ms", "2500", LOOPAI_BASE_URL=cli_server)
    shown.until("Running the program")
    shown.type("\x03")
    assert shown.end() == 130
    assert "Traceback" not in shown.text
    assert shown.raw.rfind("\x1b[?25h") > shown.raw.rfind("\x1b[?25l")


def test_ctrl_c_ends_the_server_and_its_workers(terminal: Start) -> None:
    """Ctrl-C reaches workers, too: they go quietly, and no traceback is shown."""
    shown = terminal("serve", "--port", "0", "--temporary")
    shown.until("Ctrl-C ends it.")
    base_url = next(word for word in shown.text.split() if word.startswith("http://"))
    from loopai import SyncLoopaiClient

    with SyncLoopaiClient(base_url) as client:
        task = client.create_task("t", "d", True, True)
        client.push_program(task.id, "def main(input):\n    return 1\n")
        assert client.execute(task.id, None).output == 1
    workers = psutil.Process(shown.process.pid).children(recursive=True)
    assert workers
    shown.type("\x03")
    assert shown.end() == 130
    psutil.wait_procs(workers, timeout=10)
    assert not [worker for worker in workers if worker.is_running()]
    assert "Traceback" not in shown.text
    assert shown.lines[-2:] == ["Ctrl-C ends it.", "^C"], shown.text


def test_an_error_is_one_line_of_the_terminal_to_wrap(terminal: Start, cli_server: str) -> None:
    """An error is not broken into lines, so that it can be copied whole."""
    shown = terminal("execute", "words", "--input", '{"text": 3}', columns=60, LOOPAI_BASE_URL=cli_server)
    assert shown.end() == 1
    assert len([line for line in shown.lines if line.strip()]) == 1
    assert "\x1b[1;31mloopai: " in shown.raw
