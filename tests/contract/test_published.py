"""The contract suite runs against a server that is not ours, with programs from the generator's stub."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the stand-in is an embedded server", allow_module_level=True)
pytest.importorskip("deno")

from .generator import generating

HERE = Path(__file__).parent
SUITE = [str(HERE / f"test_{area}.py") for area in ("tasks", "executions", "health", "edge")]

pytestmark = pytest.mark.skipif("LOOPAI_CONTRACT_URL" in os.environ, reason="runs the suite itself")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_generators_stub_answers_as_the_contract_says() -> None:
    """The program after `CODE:` in TypeScript, or a failure with its reason."""
    with generating(0) as port:
        where = f"http://127.0.0.1:{port}/generate"
        made = httpx.post(where, json={"description": "say CODE:function main() { return 1 }"}).json()
        failed = httpx.post(where, json={"description": "say"}).json()
    assert (made["success"], made["code"], made["language"]) == (True, "function main() { return 1 }", "typescript")
    assert (failed["success"], failed["error_message"]) == (False, "the description has no CODE:")


@pytest.mark.slow
def test_the_suite_runs_against_a_server_without_additions() -> None:
    """No test fails or ends in an error; those that need an addition say so and are skipped."""
    server_port, generator_port = free_port(), free_port()
    root = HERE.parents[1]
    command = [sys.executable, "-m", "tests.contract.published", str(server_port), f"http://127.0.0.1:{generator_port}"]
    with subprocess.Popen(command, cwd=root) as server:
        try:
            url = f"http://127.0.0.1:{server_port}"
            with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
                assert client.get(f"{url}/health").text == "Healthy"
            suite = subprocess.run(
                [sys.executable, "-m", "pytest", *SUITE, "-q", "--generator-port", str(generator_port)],
                cwd=root,
                env={**os.environ, "LOOPAI_CONTRACT_URL": url},
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
        finally:
            server.terminate()
    assert suite.returncode == 0, suite.stdout[-5000:]
    [ran, skipped] = re.findall(r"(\d+) (?:passed|skipped)", suite.stdout.splitlines()[-1])
    assert int(ran) > 150
    assert int(skipped) > 50
    told = [line for line in suite.stdout.splitlines() if line.startswith("SKIPPED")]
    assert told
    assert all("needs an addition of the embedded server: " in line for line in told if "contract/conftest" in line)
