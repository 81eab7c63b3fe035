"""`loopai serve` as a process: what it says, what it keeps, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any, Callable

import psutil
import pytest

from ..integrations.scripted_model import block, scripted

Command = Callable[..., Any]
INPUT = '{"text": "a b"}'


def make_task(command: Command, base_url: str) -> None:
    schemas = ["--input-schema", '{"type": "object"}', "--output-schema", "true"]
    there = ["--base-url", base_url]
    assert command("tasks", "create", "--name", "t", "--description", "d", *schemas, *there).code == 0
    assert command("tasks", "push", "t", "-", *there, given="def main(input):\n    return 7\n").code == 0
    assert command("execute", "t", "--input", "{}", *there).code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_its_workers(serving: Command, command: Command, number: int, code: int) -> None:
    """SIGTERM is a request that succeeds, Ctrl-C an interruption; neither leaves a worker or a traceback."""
    server = serving("--temporary")
    server.until("Ctrl-C")
    make_task(command, server.base_url)
    workers = psutil.Process(server.process.pid).children(recursive=True)
    assert workers, "programs run in processes of their own"
    assert server.end(number) == code
    psutil.wait_procs(workers, timeout=10)
    assert not [worker for worker in workers if worker.is_running()]
    assert server.told.splitlines()[-1] == "Ctrl-C ends it."


def test_it_says_where_it_is_and_keeps_what_it_is_given(serving: Command, command: Command, tmp_path: Path) -> None:
    """Address, documentation and folder are on stderr; the folder is .loopai here, and outlives the server."""
    server = serving()
    told = server.until("Ctrl-C")
    assert f"documentation  {server.base_url}/docs" in told
    assert str(tmp_path / ".loopai") in told
    make_task(command, server.base_url)
    assert server.end() == 0
    again = serving("--data", ".loopai", "--json")
    assert again.process.stdout is not None
    said = "".join(iter(again.process.stdout.readline, "}\n")) + "}"
    where = json.loads(said)
    assert (where["data"], where["api_key"]) == (str(tmp_path / ".loopai"), False)
    done = command("execute", "t", "--input", "{}", "--json", "--base-url", where["base_url"])
    assert json.loads(done.out)["output"] == 7
    assert again.end() == 0
    assert again.told == ""


@pytest.mark.slow
def test_inputs_may_go_unchecked(serving: Command, command: Command) -> None:
    """With `--no-check-inputs` an input that does not fit the schema reaches the program."""
    server = serving("--temporary", "--no-check-inputs")
    server.until("Ctrl-C")
    make_task(command, server.base_url)
    assert command("execute", "t", "--input", "3", "--base-url", server.base_url).code == 0


def test_a_port_that_is_taken(command: Command) -> None:
    """The line says which port, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = command("serve", "--port", port, "--temporary")
    assert (done.code, done.out) == (1, "")
    assert (
        done.err
        == f"loopai: port {port} of 127.0.0.1 is in use; choose another with --port, or a free one with --port 0\n"
    )


def test_an_address_that_is_none(command: Command) -> None:
    """An address that is not this machine's is told as such."""
    done = command("serve", "--host", "192.0.2.1", "--port", "0", "--temporary")
    assert (done.code, done.out) == (1, "")
    assert "cannot listen on 192.0.2.1" in done.err


def test_a_folder_that_cannot_be_used(command: Command, tmp_path: Path) -> None:
    """A data folder that is a file is a matter of configuration."""
    (tmp_path / "file").write_text("")
    done = command("serve", "--port", "0", "--data", "file")
    assert (done.code, done.out) == (2, "")
    assert "file" in done.err


def test_flags_of_clients_are_not_for_servers(command: Command, cli_server: str) -> None:
    """A flag that would be ignored is refused."""
    done = command("--base-url", cli_server, "serve", "--port", "0")
    assert (done.code, done.err) == (2, "loopai: serve calls no server and has no option --base-url\n")


@pytest.mark.slow
def test_an_open_address_without_a_key_is_noticed(serving: Command) -> None:
    """Who serves to others without a key is told so."""
    server = serving("--host", "0.0.0.0", "--temporary")  # the point is an open address
    assert "anyone who can reach this address" in server.until("Ctrl-C")
    assert server.end() == 0


@pytest.mark.slow
def test_a_language_model_is_said_and_asked(serving: Command, command: Command) -> None:
    """The first lines say what leaves the machine; a task without examples runs."""
    pytest.importorskip("openai")
    schemas = ["--input-schema", '{"type": "string"}', "--output-schema", '{"enum": ["spam", "not_spam"]}']
    program = 'def main(input):\n    return "spam" if "free" in input else "not_spam"\n'
    with scripted(block(program)) as model:
        server = serving("--temporary", "--llm-model", "gpt-x", "--llm-base-url", model.base_url, "--llm-examples", "3")
        told = server.until("Ctrl-C")
        assert "gpt-x: descriptions, schemas and up to 3 of their examples are sent to 127.0.0.1" in told
        there = ["--base-url", server.base_url]
        assert command("tasks", "create", "--name", "t", "--description", "Is it spam?", *schemas, *there).code == 0
        done = command("execute", "t", "--input", '"free money"', "--json", *there)
        assert json.loads(done.out)["output"] == "spam"
        assert server.end() == 0
    assert "programs are made with the help of 127.0.0.1" in server.told


def test_a_model_and_a_generator_exclude_each_other(command: Command) -> None:
    """One of them is asked; and a setting that cannot be is named by its flag's option."""
    both = ["--llm-model", "m", "--generator", "http://localhost:1"]
    done = command("serve", "--port", "0", "--temporary", *both)
    assert (done.code, done.out) == (2, "")
    assert "exclude each other" in done.err
    done = command("serve", "--port", "0", "--temporary", "--llm-model", "m", "--llm-base-url", "ollama")
    assert done.code == 2
    assert "llm_base_url must be an http:// or https:// address" in done.err
