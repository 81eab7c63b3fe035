"""`kill -9` of a batch at random moments, each resumed: the output has every key once, as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_monty")
pytest.importorskip("uvicorn")

from loopai import SyncLoopaiClient
from loopai.batch.formats.opening import open_source
from loopai.batch.formats.spool import spool_of
from loopai.local import running


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, str]]:
    with running() as made, SyncLoopaiClient(made.base_url) as client:
        doubled = {"type": "object", "properties": {"twice": {"type": "integer"}}}
        task = client.create_task("kills", "Doubles", {"type": "object"}, doubled)
        client.push_program(task.id, "def main(input):\n    return {'twice': input['n'] * 2}\n")
        yield made.base_url, str(task.id)


def _runner(server: tuple[str, str], given: Path, output: Path) -> subprocess.Popen[bytes]:
    url, task = server
    command = [sys.executable, "-m", "loopai", "batch", task, given, "--output", output, "--map", "n=n"]
    options = ["--key", "id", "--chunk-size", "20", "--resume", "--progress", "none", "--base-url", url]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _size(output: Path) -> int:
    path = spool_of(output) if output.suffix == ".xlsx" else output
    return path.stat().st_size if path.exists() else 0


def _killed(process: subprocess.Popen[bytes], output: Path, chance: random.Random) -> bool:
    """Kill the runner some time after its output has grown, within a chunk's write or between two.

    False if it ended first.
    """
    with process:
        size = _size(output)
        for _ in range(chance.randrange(1, 12)):
            while process.poll() is None and _size(output) == size:
                select.select([], [], [], 0.0002)
            size = _size(output)
        # Up to 8 ms more, by the clock: a chunk is written, fsynced and recorded in about that.
        until = time.perf_counter() + chance.random() * 0.008
        while time.perf_counter() < until:
            select.select([], [], [], 0)
        if process.poll() is not None:
            return False
        process.kill()
    return process.returncode == -9


def _kills(server: tuple[str, str], folder: Path, rows: int, kills: int, output: Path) -> None:
    given = folder / "in.jsonl"
    given.write_text("".join(json.dumps({"id": f"k{n}", "n": n}) + "\n" for n in range(rows)))
    chance = random.Random(kills)
    done = sum(_killed(_runner(server, given, output), output, chance) for _ in range(kills))
    assert done == kills
    with _runner(server, given, output) as last:
        _, said = last.communicate(timeout=120)
    assert last.returncode == 0, said.decode()
    assert b"from before" in said
    found = {}
    for row in _rows(output):
        assert row["id"] not in found
        found[row["id"]] = row["loopai_output"]
        if output.suffix != ".jsonl":
            assert json.dumps(row["loopai_output"]["twice"]) == str(row["output.twice"])
    assert found == {f"k{n}": {"twice": n * 2} for n in range(rows)}


def _rows(output: Path) -> list[dict[str, Any]]:
    """The rows of an output, with `loopai_output` as a value."""
    if output.suffix == ".jsonl":
        return [json.loads(line) for line in output.read_text().splitlines()]
    rows = [columns for _, columns, _ in open_source(output) if columns is not None]
    return [{**row, "loopai_output": json.loads(row["loopai_output"])} for row in rows]


@pytest.mark.parametrize(
    "name", ["out.jsonl", *(pytest.param(f"out.{end}", marks=pytest.mark.slow) for end in ("csv", "xlsx"))]
)
def test_killed_twice_and_resumed(server: tuple[str, str], tmp_path: Path, name: str) -> None:
    """The two kills fall anywhere; columns of the output's members are those of an unbroken run."""
    _kills(server, tmp_path, 2_000, 2, tmp_path / name)


@pytest.mark.slow
def test_killed_at_twenty_random_moments_and_resumed(server: tuple[str, str], tmp_path: Path) -> None:
    """Each time another runner goes on."""
    _kills(server, tmp_path, 20_000, 20, tmp_path / "out.jsonl")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_ends_with_a_clear_error_and_resumes_with_room(server: tuple[str, str], tmp_path: Path) -> None:
    """The output holds no torn line, and the journal what is in it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    try:
        given, output = tmp_path / "in.jsonl", disk / "out.jsonl"
        given.write_text("".join(json.dumps({"id": f"k{n}", "n": n, "pad": "x" * 100}) + "\n" for n in range(2_000)))
        with _runner(server, given, output) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "the disk is full. Free some space, then run again with --resume" in said.decode()
        part = [json.loads(line) for line in output.read_text().splitlines()]
        assert 0 < len(part) < 2_000
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        with _runner(server, given, output) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
        keys = [json.loads(line)["id"] for line in output.read_text().splitlines()]
        assert sorted(keys) == sorted(f"k{n}" for n in range(2_000))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_closed_output_pipe_ends_with_a_clear_error_and_can_be_resumed(
    server: tuple[str, str], tmp_path: Path
) -> None:
    """Whoever reads a named pipe goes away in the middle; a new reader gets the rest."""
    given, pipe = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = 3_000
    given.write_text("".join(json.dumps({"id": f"k{n}", "n": n, "pad": "x" * 300}) + "\n" for n in range(rows)))
    os.mkfifo(pipe)
    with _runner(server, given, pipe) as process:
        with open(pipe, "rb") as reader:
            first = [json.loads(reader.readline())["id"] for _ in range(500)]
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the reader of the output has closed it. Run again with --resume" in said.decode()
    with _runner(server, given, pipe) as process:
        with open(pipe, "rb") as reader:
            rest = [json.loads(line)["id"] for line in reader]
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()
    assert len(rest) == len(set(rest))
    # A pipe cannot be cut back: rows of the write that broke come again, and those it still held when its reader went
    # (64 KB, and as much again in the reader's buffer) are with neither.
    assert len(set(first) & set(rest)) <= 200
    assert rows - 600 <= len(set(rest) | set(first)) <= rows
