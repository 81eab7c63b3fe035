"""`loopai batch` on a real pseudo-terminal: its bar at any width, errors of many lines, Ctrl-C once and twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable

import pytest

from loopai import SyncLoopaiClient

Start = Callable[..., Any]
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROGRAM = """
def main(input):
    if input["n"] % 50 == 49:
        raise ValueError("bad row\\nand a second line, \\x1b[2J and " + "more " * 40)
    if input["n"] == -1:
        while True:
            pass
    return {"label": "a"}
"""


@pytest.fixture(scope="module")
def task(cli_server: str) -> str:
    with SyncLoopaiClient(cli_server) as client:
        made = client.create_task("drawn", "d", {}, {}, sampling_rate=0)
        client.push_program(made.id, PROGRAM)
    return made.name


@pytest.fixture
def batch(terminal: Start, tmp_path: Path, cli_server: str, task: str) -> Start:
    """Starts a batch over these rows on a terminal."""

    def start(rows: list[int], *options: str, columns: int = 80) -> Any:
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps({"id": f"k{place}", "n": n}) + "\n" for place, n in enumerate(rows)))
        command = ["batch", task, str(path), "-m", "n=n", "--key", "id", "-o", str(tmp_path / "out.jsonl")]
        return terminal(*command, *options, columns=columns, LOOPAI_BASE_URL=cli_server)

    return start


def drawn(shown: Any) -> list[str]:
    """Every line that was written, those that were written over, too."""
    parts = re.split(r"\r|\n|\x1b\[1A|\x1b\[2K", shown.raw)
    return [line for line in (ANSI.sub("", part) for part in parts) if line.strip()]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (40, ["100%", "12 errors"]),
        (60, ["100%", "600/600", "12 errors"]),
        (80, ["100%", "600/600", "588 ok", "12 errors", "rows/s"]),
        (120, ["100%", "600/600", "588 ok", "12 errors", "rows/s"]),
    ],
)
def test_the_bar_fits_the_terminal(batch: Start, columns: int, told: list[str]) -> None:
    """The less important is left out where there is no room for it; nothing is cut, and no line is broken."""
    shown = batch(list(range(600)), columns=columns)
    assert shown.end() == 1
    bars = [line for line in drawn(shown) if "━" in line]
    assert len(bars) >= 2
    assert max(map(len, bars)) < columns
    assert not [line for line in bars if "…" in line]
    assert all(part in bars[-1] for part in told), bars[-1]
    assert len({line.count("━") + line.count("╸") + line.count("╺") for line in bars}) == 1, "the bar keeps its length"
    errors = [line for line in drawn(shown) if line.startswith("last error: ")]
    assert all(len(line) < columns for line in errors)


def test_an_error_of_many_lines_is_one(batch: Start) -> None:
    """And what it holds for the terminal does not reach it."""
    shown = batch(list(range(60)), "--progress", "plain")
    assert shown.end() == 1
    assert "1 × bad row and a second line, \ufffd[" in shown.text
    assert "last error: bad row and a second line, " in shown.text
    assert "\x1b[2J" not in shown.raw


def test_ctrl_c_is_heard_and_what_is_under_way_ends(batch: Start) -> None:
    """What it says stands on a line of its own above the bar, and resume is named."""
    shown = batch([-1, *range(3_000)], "--chunk-size", "1", "--timeout-ms", "1500")
    shown.until("━")
    shown.type("\x03")
    assert shown.end() == 130
    lines = [line for line in drawn(shown) if "Stopping: " in line]
    assert lines
    assert all(line.removeprefix("^C").startswith("Stopping: requests in flight") for line in lines), lines
    assert "Interrupted. Run again with --resume to continue." in shown.text


def test_a_second_ctrl_c_leaves_the_terminal_as_it_was(batch: Start) -> None:
    """The bar is put away and the cursor is back, though the run has no end."""
    shown = batch([-1, *range(3_000)], "--chunk-size", "1", "--timeout-ms", "20000")
    shown.until("━")
    shown.type("\x03")
    shown.until("Stopping: ")
    shown.type("\x03")
    assert shown.end() == 130
    assert "Ended at once. Run again with --resume to continue." in shown.lines
    assert shown.raw.rfind("\x1b[?25h") > shown.raw.rfind("\x1b[?25l")
    assert "Traceback" not in shown.text
