"""The servers that people run Django under, each for real, with clients that were warm before the fork."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow

REQUESTS = 200
AT_ONCE = 16
STARTS_WITHIN = 30.0
BAD_NEWS = re.compile(r"Traceback|unclosed|RuntimeWarning|Exception ignored|never awaited|Event loop is closed")
# Sockets of the servers' own, which they leave to the end of the process: ours would have the upstream's port.
OWN_SOCKETS = r"unclosed <socket.socket fd=\d+, [^<>]*, laddr=\('127.0.0.1', {port}\)[^<>]*>"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], project: Path, tmp_path: Path, **environ: str) -> Iterator[Path]:
    """The server as a process group of its own; gives its log, and ends it as a service manager does."""
    log = tmp_path / "server.log"
    variables = {
        **os.environ,
        "PYTHONPATH": str(project),
        "DJANGO_SETTINGS_MODULE": "mailsite.settings",
        "PYTHONWARNINGS": "default::ResourceWarning",
        "HOME": str(tmp_path),  # gunicorn's control socket
        **environ,
    }
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=variables, stdout=file, stderr=file, start_new_session=True
        )
        try:
            yield log
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


def answers(url: str, path: str) -> set[int]:
    """Asks the site many times at once; each answer must be its own. Gives the processes that answered."""

    def ask(turn: int) -> int:
        answer = client.get(f"{url}/{path}/", params={"text": f"{path} {turn}"})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        assert told["output"] == {"text": f"{path} {turn}"}
        process: int = told["process"]
        return process

    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(AT_ONCE) as threads:
        return set(threads.map(ask, range(REQUESTS)))


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


PYTHON = sys.executable
GUNICORN = [PYTHON, "-m", "gunicorn", "--workers", "3", "--access-logfile", "-"]
COMMANDS = {
    "runserver": [PYTHON, "-m", "django", "runserver", "127.0.0.1:{port}"],
    "runserver-noreload": [PYTHON, "-m", "django", "runserver", "--noreload", "127.0.0.1:{port}"],
    "gunicorn-sync": [*GUNICORN, "--bind", "127.0.0.1:{port}", "mailsite.wsgi"],
    "gunicorn-sync-preload": [*GUNICORN, "--preload", "--bind", "127.0.0.1:{port}", "mailsite.wsgi"],
    "gunicorn-gthread": [*GUNICORN, "--threads", "8", "--bind", "127.0.0.1:{port}", "mailsite.wsgi"],
    "gunicorn-gthread-preload": [
        *GUNICORN, "--threads", "8", "--preload", "--bind", "127.0.0.1:{port}", "mailsite.wsgi",
    ],
    "uvicorn": [PYTHON, "-m", "uvicorn", "--workers", "2", "--port", "{port}", "mailsite.asgi:application"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_each_answer_is_its_own(name: str, server: Any, project: Path, tmp_path: Path) -> None:
    """200 calls of a sync and of an async view, 16 at once: every reply is the caller's, none is lost, all is quiet."""
    module = COMMANDS[name][2]
    pytest.importorskip(module)
    port = free_port()
    command = [word.format(port=port) for word in COMMANDS[name]]
    url = f"http://127.0.0.1:{port}"
    with running(command, project, tmp_path, MAILSITE_UPSTREAM=server.url) as log:
        wait_for(url, log)
        processes = answers(url, "check") | answers(url, "acheck")
    if "gunicorn" in name:
        assert len(processes) > 1  # else nothing was shared that could be mixed up
    text = re.sub(OWN_SOCKETS.format(port=port), "", log.read_text())
    assert not BAD_NEWS.search(text), text


def test_celery_prefork_workers_use_their_parent_s_clients(server: Any, project: Path, tmp_path: Path) -> None:
    """Tasks in 3 forked workers, on clients that the parent had warmed, get each their own replies."""
    pytest.importorskip("celery")
    for folder in ("messages", "control", "results"):
        (tmp_path / folder).mkdir()
    command = [PYTHON, "-m", "celery", "-A", "mailsite.worker", "worker", "-P", "prefork", "-c", "3", "-l", "ERROR"]
    environ = {"MAILSITE_UPSTREAM": server.url, "MAILSITE_QUEUE": str(tmp_path), "C_FORCE_ROOT": "1"}
    ask = (
        "from mailsite.worker import check\n"
        "from celery import group\n"
        f"found = group(check.s(f'text {{turn}}') for turn in range({REQUESTS}))().get(timeout=60)\n"
        "assert [each[:2] for each in found] == [[{'text': f'text {turn}'}] * 2 for turn in range(len(found))]\n"
        "workers, parents = {each[2] for each in found}, {each[3] for each in found}\n"
        "assert len(workers) > 1 and len(parents) == 1 and not workers & parents, (workers, parents)\n"
    )
    with running(command, project, tmp_path, **environ) as log:
        variables = {**os.environ, **environ, "PYTHONPATH": str(project)}
        asked = subprocess.run(
            [PYTHON, "-c", ask], env=variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert asked.returncode == 0, asked.stderr + log.read_text()
    assert not BAD_NEWS.search(log.read_text()), log.read_text()
