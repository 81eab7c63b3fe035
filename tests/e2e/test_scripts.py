"""The scripts that come as examples, run as a user runs them: as commands, on an embedded server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopai import exceptions, local

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "example_projects" / "scripts"


def run(script: str, **environ: str) -> str:
    """What the script prints; it must end with exit code 0 and without a word on stderr."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("LOOPAI_")}
    # Warnings are errors, as in the tests: an example must not leave a socket open.
    command = [sys.executable, "-W", "error", str(SCRIPTS / script)]
    done = subprocess.run(command, env={**own, **environ}, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def check_basic_usage(told: str) -> None:
    assert "The server says it is healthy" in told
    assert "{'label': 'spam'}" in told
    assert "{'label': 'ham'}" in told
    assert "3 of 3 succeeded" in told
    assert "Verdict(label='spam')" in told


def check_advanced_batch(told: str) -> None:
    assert "email-002: {'words': 4}" in told
    assert "set aside for validation, at least those forced: email-001" in told
    assert "One row fails: 2 succeeded, 1 failed" in told
    assert "to be looked at: b" in told
    assert "Stopped at the first error: 1 succeeded, 2 failed" in told
    assert "quick: {'words': 2}" in told
    assert "A row that takes too long: 1 succeeded, 1 failed" in told


def check_error_handling(told: str) -> None:
    of_calls = {name for name in exceptions.__all__ if name.endswith("Exception")} - {"LoopaiException"}
    for name in (*of_calls, "ConfigurationError"):
        assert f"\n{name}: " in f"\n{told}", f"{name} was not provoked"


CHECKS = {
    "basic_usage.py": check_basic_usage,
    "advanced_batch.py": check_advanced_batch,
    "error_handling.py": check_error_handling,
}


@pytest.mark.parametrize("script", CHECKS)
def test_a_script_brings_its_own_server(script: str) -> None:
    """Without `LOOPAI_BASE_URL` a script starts an embedded server, does its work and ends well."""
    CHECKS[script](run(script))


@pytest.mark.parametrize("script", CHECKS)
def test_a_script_uses_the_server_it_is_told(script: str) -> None:
    """With `LOOPAI_BASE_URL` a script works on that server, and can do so twice."""
    with local.running() as server:
        for _ in range(2):
            CHECKS[script](run(script, LOOPAI_BASE_URL=server.base_url))


def test_every_script_is_run() -> None:
    """No script is left out."""
    assert {path.name for path in SCRIPTS.glob("*.py")} == set(CHECKS)
