"""`loopai batch`: a file through a task, on the server and at the edge."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loopai import SyncLoopaiClient

from .conftest import COMMAND, PATIENCE, environment

PROGRAM = """
def main(input):
    if input["text"] == "bad":
        raise ValueError("bad row")
    return {"label": "spam" if "prize" in input["text"] else "ham"}
"""


@pytest.fixture(scope="module")
def task(cli_server: Any) -> str:
    with SyncLoopaiClient(cli_server) as client:
        made = client.create_task("cli-batch", "d", {}, {}, sampling_rate=0)
        client.push_program(made.id, PROGRAM)
    return made.name


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id,body,label\n1,claim your prize,spam\n2,lunch,ham\n3,bad,ham\n4,a prize,ham\n")
    return path


@pytest.mark.parametrize("more", [[], ["--edge"], ["--task-version", "1"]])
def test_a_file_goes_through_a_task(piped: Any, cli_server: Any, task: str, rows: Path, more: list[str]) -> None:
    """Rows keep their columns, failed ones say why, and the summary has the accuracy; the same at the edge."""
    output = rows.with_name("out.jsonl")
    done = piped(
        "batch", task, str(rows), "--map", "text=body", "--key", "id", "--expect", "label",
        "--output", str(output), "--base-url", cli_server, *more,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = {row["id"]: row for row in map(json.loads, output.read_text().splitlines())}
    assert [found[key]["loopai_status"] for key in "1234"] == ["ok", "ok", "error", "ok"]
    assert found["1"]["loopai_output"] == {"label": "spam"}
    assert found["3"]["loopai_error"] == "bad row"
    assert found["2"]["body"] == "lunch"


@pytest.mark.slow
def test_finished_is_finished(piped: Any, cli_server: Any, task: str, rows: Path) -> None:
    """An output that is there is not written over, and a finished run resumed is done at once."""
    output = rows.with_name("out.csv")
    rows.write_text("id,body\n1,lunch\n")
    command = ["batch", task, str(rows), "-m", "text=body", "--key", "id", "-o", str(output)]
    first = piped(*command, "--base-url", cli_server)
    again = piped(*command, "--base-url", cli_server)
    resumed = piped(*command, "--resume", "--base-url", cli_server)
    assert (first.returncode, again.returncode, resumed.returncode) == (0, 2, 0), again.stderr + resumed.stderr
    assert "--overwrite" in again.stderr
    assert "finished already" in resumed.stderr


def test_a_closed_standard_error_changes_nothing(cli_server: Any, task: str, rows: Path) -> None:
    """What nobody hears is not among the rows, and the exit code says the rest."""
    command = [*COMMAND, "batch", task, str(rows), "-m", "text=body", "--base-url", cli_server]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command],
        env=environment(), stdout=subprocess.PIPE, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert {json.loads(line)["id"] for line in done.stdout.splitlines()} == {"1", "2", "3", "4"}
