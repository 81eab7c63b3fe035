"""What the page Troubleshooting says is printed is what is printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_monty", reason="the embedded server needs Python 3.10")
pytest.importorskip("uvicorn")

from loopai import SyncLoopaiClient, local

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^    (\S.*)$", PAGE, re.M)
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with local.running(api_key="the key") as running:
        yield running.base_url


def _task(client: SyncLoopaiClient, name: str, program: bool) -> None:
    task = client.create_task(name, "Tell spam", TEXT, {})
    if program:
        client.push_program(task.id, "def main(input):\n    return 'spam'\n")


def no_server(client: SyncLoopaiClient, folder: Path) -> None:
    SyncLoopaiClient("http://localhost:1", max_retries=0).get_health()


def unknown_task(client: SyncLoopaiClient, folder: Path) -> None:
    client.execute("spam", {"text": "a"})


def no_key(client: SyncLoopaiClient, folder: Path) -> None:
    client.with_options(api_key=None).get_task("7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60")


def too_slow(client: SyncLoopaiClient, folder: Path) -> None:
    task = client.get_task_by_name("known")
    client.with_options(timeout=1e-6).execute(task.id, {"text": "a"})


def no_program(client: SyncLoopaiClient, folder: Path) -> None:
    _task(client, "bare", program=False)
    client.execute("bare", {"text": "a"})


def wrong_input(client: SyncLoopaiClient, folder: Path) -> None:
    client.execute("known", {"txt": "a"})


def output_exists(client: SyncLoopaiClient, folder: Path) -> None:
    (folder / "judged.jsonl").write_text("")
    client.run_batch("known", [{"text": "a"}], folder / "judged.jsonl")


def other_journal(client: SyncLoopaiClient, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text(f"text\n{name}\n")
    client.run_batch("known", folder / "a.csv", folder / "judged.jsonl")
    client.run_batch("known", folder / "b.csv", folder / "judged.jsonl", mode="resume")


def wrong_column(client: SyncLoopaiClient, folder: Path) -> None:
    (folder / "a.csv").write_text("text\na\n")
    client.run_batch("known", folder / "a.csv", folder / "judged.jsonl", mapping=["text=body"])


MISTAKES: list[Callable[[SyncLoopaiClient, Path], Any]] = [
    no_server, unknown_task, no_key, too_slow, no_program, wrong_input, output_exists, other_journal, wrong_column
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_prints_what_the_page_shows(
    mistake: Callable[[SyncLoopaiClient, Path], Any], server: str, tmp_path: Path
) -> None:
    """Word for word, but for what differs."""
    with SyncLoopaiClient(server, api_key="the key", max_retries=0) as client:
        if "known" not in {task.name for task in client.list_tasks()}:
            _task(client, "known", program=True)
        with pytest.raises(Exception) as caught:  # noqa: PT011  # each mistake has a class of its own, which is compared
            mistake(client, tmp_path)
    said = f"{type(caught.value).__name__}: {caught.value}"
    said = said.replace(f"{tmp_path}/", "").replace(server, "http://localhost:8080")
    said = said.replace("http://localhost:1 ", "http://localhost:8080 ").replace("of 1e-06 s", "of 30 s")
    assert any(re.fullmatch(".*".join(map(re.escape, line.split("…"))), said) for line in SHOWN), said


def test_there_are_the_fifteen_commonest() -> None:
    """Each with a heading of its own."""
    assert len(re.findall(r"^## ", PAGE, re.M)) >= 15
