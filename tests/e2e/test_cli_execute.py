"""`loopai execute`, `health`, `batch` and the ways to name a server and a task."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

Command = Callable[..., Any]
INPUT = '{"text": "a b c"}'


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_an_input_becomes_an_output(command: Command) -> None:
    """The output is shown with its time and version; `--json` gives the server's result alone."""
    done = command("execute", "words", "--input", INPUT)
    assert (done.code, done.err) == (0, "")
    assert '"words": 3' in done.out
    done = command("execute", "words", "--input", "-", "--json", given=f"\ufeff{INPUT}\n")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["output"] == {"words": 3}


def test_a_program_that_fails_is_exit_code_1(command: Command) -> None:
    """The program's error is one line on stderr; with `--json` the result is still on stdout."""
    done = command("execute", "words", "--input", '{"text": "boom"}', "--json")
    assert done.code == 1
    assert json.loads(done.out)["status"] == "error"
    told = json.loads(done.err)
    assert told["error"].startswith("the program failed: ")
    assert ("bang and a second line" in " ".join(told["error"].split()), told["exit_code"]) == (True, 1)
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["words", "--input", '{"text": 3}'], 1, "input.text"),
        (["nobody", "--input", "1"], 1, "'nobody' not found"),
        (["words", "--input", INPUT, "--version", "99"], 1, "99"),
        (["words", "--input", "text"], 2, """a text needs its own quotes: --input '"text"'"""),
        (["words"], 2, "Missing option '--input'"),
        (["words", "--input", INPUT, "--timeout", "soon"], 2, "timeout must be a number"),
        (["words", "--input", INPUT, "--base-url", "nowhere"], 2, "base_url must be an http:// or https:// address"),
        (["words", "--inputs", INPUT], 2, "No such option"),
    ],
)
def test_what_goes_wrong_is_one_line(command: Command, arguments: list[str], code: int, told: str) -> None:
    """Refused and unknown is exit code 1, usage and configuration 2; the line says which."""
    done = command("execute", *arguments)
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert done.err.count("\n") == 1


def test_inputs_are_checked_before_they_are_sent(command: Command, tmp_path: Path) -> None:
    """On a server that does not: the flag stands before or after the command's name, and holds for a file's rows."""
    from loopai import SyncLoopaiClient, local

    with local.running(check_inputs=False) as server, SyncLoopaiClient(server.base_url) as client:
        task = client.create_task("loose", "d", {"required": ["text"]}, {})
        client.push_program(task.id, "def main(input):\n    return 1\n")
        given = ["loose", "--input", "{}", "--base-url", server.base_url]
        assert command("execute", *given).code == 0
        for arguments in (["--validate-inputs", "execute", *given], ["execute", *given, "--validate-inputs"]):
            done = command(*arguments)
            assert (done.code, done.out) == (1, "")
            assert 'input.text: "text" is a required property' in done.err
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"text": "a"}\n{}\n')
        output = tmp_path / "out.jsonl"
        asked = ["batch", "loose", str(rows), "--output", str(output), "--validate-inputs"]
        assert command(*asked, "--base-url", server.base_url).code == 1
        assert sorted('"error"' in line for line in output.read_text().splitlines()) == [False, True]
        assert len(client.list_executions(task.id)) == 2


def test_no_server_is_exit_code_4(command: Command, nobody: str, silent: str) -> None:
    """Nobody there and nobody answering are the same to a script."""
    done = command("execute", "words", "--input", INPUT, "--base-url", nobody, "--max-retries", "0")
    assert (done.code, done.out) == (4, "")
    assert "refused" in done.err
    done = command("execute", "words", "--input", INPUT, "--base-url", silent, "--deadline", "0.2")
    assert (done.code, done.out) == (4, "")


def test_a_flag_may_stand_before_or_after_the_command(command: Command, cli_server: str, nobody: str) -> None:
    """A flag beats the environment, and one after the command's name beats one before it."""
    done = command("--base-url", nobody, "--json", "health", "--base-url", cli_server, LOOPAI_BASE_URL="nonsense")
    assert (done.code, json.loads(done.out)["status"]) == (0, "healthy")
    assert command("--base-url", nobody, "health").code == 4


def test_a_task_has_a_name_of_ones_own(command: Command) -> None:
    """A name in `LOOPAI_TASKS` is taken before the server is asked; an id always works."""
    task_id = json.loads(command("tasks", "get", "words", "--json").out)["id"]
    for named, tasks in [("mine", f"mine={task_id}"), (task_id, ""), (task_id.upper(), "")]:
        done = command("execute", named, "--input", INPUT, "--json", LOOPAI_TASKS=tasks)
        assert done.code == 0, done.err


def test_health_says_how_the_server_is(command: Command) -> None:
    """`health` is exit code 0 for a server that is well, and tells of its parts when asked."""
    done = command("health")
    assert done.code == 0
    assert "healthy" in done.out
    assert "database" in command("health", "--detailed").out
    assert "components" in json.loads(command("health", "--detailed", "--json").out)


def test_a_server_in_the_process(command: Command, tmp_path: Path) -> None:
    """`--local DIR` needs no server, and what one command did the next one finds."""
    (tmp_path / "program.py").write_text("def main(input):\n    return input\n")
    schemas = ["--input-schema", "true", "--output-schema", "true"]
    assert command("--local", "data", "tasks", "create", "--name", "echo", "--description", "It", *schemas).code == 0
    assert command("tasks", "push", "echo", "program.py", "--local", "data").code == 0
    done = command("execute", "echo", "--input", '"é"', "--json", "--local", "data")
    assert json.loads(done.out)["output"] == "é"


def test_rows_of_a_file_run_as_a_batch(piped: Command, cli_server: str, tmp_path: Path) -> None:
    """`loopai batch` reads rows, writes rows with what became of them, and its exit code counts the failed."""
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "said": "x y"}\n{"id": "b", "said": "boom"}\n')
    asked = ["batch", "words", "rows.jsonl", "--map", "text=said", "--key", "id", "--chunk-size", "1"]
    done = piped(*asked, "--output", "out.jsonl", "--base-url", cli_server)
    assert done.returncode == 1, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {row["id"]: (row["loopai_status"], row["loopai_output"]) for row in rows} == {
        "a": ("ok", {"words": 2}),
        "b": ("error", None),
    }
    done = piped(*asked, "--limit", "1", "--overwrite", "-o", "-", LOOPAI_BASE_URL=cli_server)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loopai_output"] == {"words": 2}


def test_a_batch_without_a_server_is_exit_code_4(piped: Command, nobody: str) -> None:
    """The codes of a batch are those of the other commands."""
    done = piped("batch", "words", "-", "--base-url", nobody, "--max-retries", "0", given="{}\n")
    assert (done.returncode, done.stdout) == (4, "")


@pytest.mark.slow
def test_json_is_all_that_is_on_stdout(piped: Command, cli_server: str) -> None:
    """A process's stdout is one JSON document for every command, in UTF-8, and its stderr is empty."""
    for asked in (
        ["tasks", "list"],
        ["tasks", "get", "words"],
        ["tasks", "artifacts", "words"],
        ["execute", "words", "--input", INPUT],
        ["health"],
        ["doctor"],
    ):
        done = piped("--json", *asked, LOOPAI_BASE_URL=cli_server)
        assert (done.returncode, done.stderr) == (0, ""), asked
        json.loads(done.stdout)


def test_a_reader_who_leaves_is_no_failure(piped: Command, cli_server: str) -> None:
    """A closed output pipe is quiet: no traceback, and the exit code of the operation."""
    asked = f"{{ {' '.join(_shell())} tasks get words --base-url {cli_server}; echo $? >&2; }} | true"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == "0\n"


def test_a_full_disk_is_told(cli_server: str) -> None:
    """Output that cannot be written is exit code 1 and one line."""
    asked = f"{' '.join(_shell())} --json health --base-url {cli_server} > /dev/full"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"] == "the output could not be written: No space left on device"


def test_an_output_that_is_closed_is_no_failure(cli_server: str) -> None:
    """A process started without stdout does its work."""
    asked = f"{' '.join(_shell())} health --base-url {cli_server} >&-"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_output_of_another_encoding(piped: Command, cli_server: str) -> None:
    """JSON stays JSON where the output is not UTF-8, and text stays readable."""
    env = {"LOOPAI_BASE_URL": cli_server, "PYTHONIOENCODING": "ascii"}
    asked = ["tasks", "create", "--name", "in-ascii", "--input-schema", "{}", "--output-schema", "{}"]
    done = piped(*asked, "--description", "größer", "--json", **env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["description"] == "größer"
    done = piped("tasks", "get", "in-ascii", **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfer" in done.stdout


def _shell() -> list[str]:
    import sys

    return [sys.executable, "-m", "loopai"]


@pytest.mark.slow
def test_recorded_executions(command: Command, tmp_path: Path) -> None:
    """They are listed, exported as JSON lines, and deleted by age."""
    there = ["--local", str(tmp_path / "data")]
    schemas = ["--input-schema", "true", "--output-schema", "true"]
    assert command("tasks", "create", "--name", "t", "--description", "d", *schemas, *there).code == 0
    program = "def main(input):\n    return 10 / input\n"
    assert command("tasks", "push", "t", "-", *there, given=program).code == 0
    for value, code in (("4", 0), ("0", 1), ("5", 0)):
        assert command("execute", "t", "--input", value, *there).code == code
    listed = command("executions", "list", "t", *there)
    assert listed.code == 0
    assert "2.5" in listed.out
    assert "division by zero" in listed.out
    found = json.loads(command("executions", "list", "t", "--status", "error", "--json", *there).out)
    assert [record["input"] for record in found] == [0]
    lines = command("executions", "export", "t", *there).out.splitlines()
    assert [json.loads(line)["input"] for line in lines] == [5, 0, 4]
    wrong = command("executions", "list", "t", "--status", "maybe", *there)
    assert (wrong.code, wrong.err) == (2, "loopai: --status must be success or error, not 'maybe'\n")
    assert command("executions", "delete", *there).code == 2
    assert command("executions", "delete", "--older-than-days", "1", "--json", *there).out == '{\n  "deleted": 0\n}\n'
    assert "3 executions deleted" in command("executions", "delete", "--older-than-days", "0", *there).err
    assert command("executions", "export", "t", *there).out == ""
