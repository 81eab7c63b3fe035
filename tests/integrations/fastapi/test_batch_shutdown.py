"""An open batch when its server shuts down: under each server it ends with a summary, within `close_grace`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CLOSE_GRACE = 4.0
APPLICATION = f"""
import asyncio
from fastapi import FastAPI
from loopai.contrib.fastapi import LoopaiLifespan, LoopaiSettings, batch_router

class Upstream:
    async def asend(self, request):
        await asyncio.Event().wait()
    async def aclose(self):
        pass

app = FastAPI(lifespan=LoopaiLifespan(LoopaiSettings(transport=Upstream(), close_grace={CLOSE_GRACE})))
app.include_router(batch_router("7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60", heartbeat_every=0.2))
"""

SERVERS = {
    "uvicorn": ("uvicorn", "served:app --port {port}"),
    "uvicorn, the oldest": ("uvicorn", "served:app --port {port}"),
    "uvicorn, two workers": ("uvicorn", "served:app --port {port} --workers 2"),
    "gunicorn, uvicorn's worker": ("gunicorn", "served:app -k uvicorn.workers.UvicornWorker -b 127.0.0.1:{port}"),
    "gunicorn, its own worker": ("gunicorn", "served:app -k asgi -b 127.0.0.1:{port}"),
    "hypercorn": ("hypercorn", "served:app --workers 0 -b 127.0.0.1:{port}"),
    "granian": ("granian", "--interface asgi served:app --port {port}"),
    "granian, two workers": ("granian", "--interface asgi served:app --port {port} --workers 2"),
}
OLDEST_UVICORN = "uvicorn==0.30.0"  # the lower bound of the extra `server`


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
        return found


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs the application, in a process group of its own."""
    module, arguments = SERVERS[request.param]
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    if request.param == "gunicorn, its own worker" and find_spec("gunicorn.asgi") is None:
        pytest.skip("this gunicorn has no worker for ASGI")
    if request.param == "gunicorn, uvicorn's worker" and find_spec("uvicorn.workers") is None:
        pytest.skip("this uvicorn has no worker for gunicorn")
    (tmp_path / "served.py").write_text(APPLICATION)
    if "oldest" in request.param:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), OLDEST_UVICORN]
        if subprocess.run(pip, capture_output=True, check=False, timeout=120).returncode:
            pytest.skip(f"{OLDEST_UVICORN} cannot be installed")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, *arguments.format(port=port).split()],
            env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def connected(port: int, process: subprocess.Popen[bytes]) -> socket.socket:
    """A connection, once the server listens."""
    until = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)


def test_an_open_batch_ends_with_a_summary(server: subprocess.Popen[bytes], port: int) -> None:
    """The rows that had not ended are cancelled, the summary says why, and the server ends."""
    body = b'[{"a": 1}]'
    head = f"POST /batch?format=json HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(port, server) as client:
        client.sendall(head.encode() + body)
        text = b""
        while b"heartbeat" not in text:
            part = client.recv(65536)
            assert part
            text += part
        server.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while b'"ended":"interrupted"' not in text:
            part = client.recv(65536)
            assert part, "closed without a summary"
            assert time.monotonic() - began < CLOSE_GRACE
            text += part
    server.wait(20)
