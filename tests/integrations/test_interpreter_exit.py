"""What happens when a program ends just after its last reply."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

PROGRAM = """
import asyncio, sys
from loopai import LoopaiClient, SyncLoopaiClient

base_url, task, transport, kind = sys.argv[1:]

async def calls():
    client = LoopaiClient(base_url, transport=transport)
    await asyncio.gather(*(client.execute(task, turn) for turn in range(100)))
    if kind == "closed":
        await client.close()

if kind == "sync":
    for turn in range(5):
        SyncLoopaiClient(base_url, transport=transport).execute(task, turn)
else:
    asyncio.run(calls())
"""


@pytest.mark.parametrize("kind", ["closed", "left open", "sync"])
@pytest.mark.parametrize("runs", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_a_program_ends_quietly(server: Any, transport_name: str, task: str, kind: str, runs: int) -> None:
    """However soon after its last reply, and whether or not its client was closed, a program ends well and in silence.

    More programs than processors at once, so that threads are interrupted where it hurts.
    """
    command = [sys.executable, "-W", "error", "-c", PROGRAM, server.url, task, transport_name, kind]

    def run(_: int) -> tuple[int, str]:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(run, range(runs)))
    assert results == [(0, "")] * runs
