"""`loopai doctor`: what is configured and from where, and whether it works."""

from __future__ import annotations

import json
import socket
from typing import Any, Callable

import pytest

Command = Callable[..., Any]
KEY = "very-secret-key-0815"


def test_it_tells_each_option_and_its_source(command: Command, cli_server: str) -> None:
    """Values stand beside where they came from, and the server's answer beneath."""
    done = command("doctor", "--timeout", "7", "--json", LOOPAI_MAX_CONNECTIONS="5")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    sources = {name: (row["value"], row["source"]) for name, row in told["options"].items()}
    assert sources["base_url"] == (cli_server, "LOOPAI_BASE_URL")
    assert sources["timeout"] == (7.0, "argument")
    assert sources["max_connections"] == (5, "LOOPAI_MAX_CONNECTIONS")
    assert sources["deadline"] == (None, "default")
    assert (told["server"]["reachable"], told["server"]["status"]) == (True, "healthy")
    assert told["versions"]["httpx"]["version"]
    assert told["versions"]["uvicorn"]["needed_for"] == "fastapi, server"
    assert told["problems"] == []
    shown = command("doctor").out
    assert all(word in shown for word in ("Options", "LOOPAI_BASE_URL", "Server", "healthy", "Versions", "pydantic"))


def test_no_secret_is_shown(command: Command) -> None:
    """Key, headers' values and webhook secrets are never written, by any way of asking."""
    secrets = {
        "LOOPAI_HEADERS": f"x-own={KEY}",
        "LOOPAI_WEBHOOK_SECRETS": f"{KEY},{KEY}2",
        "HTTP_PROXY": f"http://user:{KEY}@127.0.0.1:9",
    }
    for more in ([], ["--json"]):
        done = command("doctor", "--api-key", KEY, *more, **secrets)
        assert KEY not in done.out + done.err
        assert "2 set" in done.out
        assert "x-own" in done.out
    done = command("doctor", LOOPAI_API_KEY=f"{KEY}\u2028", LOOPAI_BASE_URL=f"http://me:{KEY}@there")
    assert done.code == 2
    assert KEY not in done.out + done.err


def test_an_option_that_is_wrong_does_not_hide_the_others(command: Command) -> None:
    """A wrong value is told with its variable, exit code 2, and the rest of the table is there."""
    done = command("doctor", LOOPAI_TIMEOUT="soon", LOOPAI_MAX_RETRIES="-1")
    assert done.code == 2
    assert "LOOPAI_TIMEOUT must be a number" in done.err
    assert "LOOPAI_MAX_RETRIES must be a whole number" in done.err
    assert "max_connections" in done.out


def test_a_misspelt_variable_is_noticed(command: Command) -> None:
    """A variable that is almost an option is told with the right name."""
    done = command("doctor", LOOPAI_TIMOUT="3", LOOPAI_BASEURL="x", LOOPAI_DATABASE_PASSWORD="y")
    assert done.code == 0
    assert "LOOPAI_TIMOUT is not an option of loopai: did you mean LOOPAI_TIMEOUT?" in done.err
    assert "did you mean LOOPAI_BASE_URL?" in done.err
    assert "DATABASE" not in done.err


def test_no_server_is_exit_code_4(command: Command) -> None:
    """Where nobody answers the options are told all the same."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = command("doctor", "--json", LOOPAI_BASE_URL=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == 4
    told = json.loads(done.out)
    assert told["server"]["reachable"] is False
    assert "refused" in told["server"]["error"]
    assert "refused" in done.err


@pytest.mark.parametrize("key", [None, "wrong-key"])
def test_a_key_that_the_server_refuses_is_exit_code_1(command: Command, serving: Command, key: Any) -> None:
    """A server that needs a key and does not get it is reachable, and refuses."""
    server = serving("--temporary", LOOPAI_API_KEY=KEY)
    server.until("Ctrl-C")
    given = {} if key is None else {"LOOPAI_API_KEY": key}
    done = command("doctor", "--json", "--base-url", server.base_url, **given)
    assert done.code == 1
    assert json.loads(done.out)["server"]["reachable"] is True
    assert "refuses the API key" in done.err
    assert command("doctor", "--base-url", server.base_url, "--api-key", KEY).code == 0
    assert KEY not in server.told
