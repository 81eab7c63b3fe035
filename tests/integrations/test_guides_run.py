"""The guides in docs/ are followed as a reader follows them: files written, commands typed, shown output compared."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loopai import SyncLoopaiClient, local

from . import scripted_model
from .guide_reader import BROKER, FENCE, Block, Reader, blocks, follow

pytest.importorskip("pydantic_monty", reason="the guides run on the embedded server, which needs Python 3.10")
for library in ("django", "celery", "fastapi", "pydantic_settings", "openai", "pyarrow", "pyreqwest"):
    pytest.importorskip(library, reason="the guides use all of loopai's extras")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROGRAM = "def main(input):\n    return {'label': 'spam' if 'money' in input['text'] else 'ham'}\n"
# What the guides' language model writes.
WRITTEN = 'def main(input):\n    return "spam" if "free money" in input["text"].lower() else "not_spam"\n'
# Pages whose files and first commands a page builds on.
BUILDS_ON = {"celery": ["django"], "deployment": ["django", "fastapi"]}
PREPARES = re.compile(r"django-admin startproject|python manage\.py (?:startapp|makemigrations|migrate|loaddata)")


@contextmanager
def reader_in(folder: Path) -> Iterator[Reader]:
    """A reader with a server that has the task `spam`, and a language model."""
    with local.running() as running, scripted_model.scripted(scripted_model.block(WRITTEN)) as model:
        with SyncLoopaiClient(running.base_url) as client:
            text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
            label = {"type": "object", "properties": {"label": {"type": "string"}}}
            task = client.create_task("spam", "Tell spam from wanted messages", text, label)
            client.push_program(task.id, PROGRAM)
        reader = Reader(folder, running.base_url, str(task.id), model.base_url)
        try:
            yield reader
        finally:
            reader.clean()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    if shutil.which("curl") is None and os.environ.get("CI") != "true":
        pytest.skip("the guides ask servers with curl")
    with reader_in(tmp_path) as made:
        yield made


def read(page: str) -> list[Block]:
    return blocks((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))


def prepare(reader: Reader, page: str, instead: Iterable[Block] = ()) -> None:
    """Come to where a page leaves its readers, without what it tries out; `instead` take their files' places."""
    other = {block.name: block for block in instead}
    for block in read(page):
        if block.language == "console":
            reader.run_commands(block, PREPARES)
        elif block.name is not None:
            reader.write(other.get(block.name, block))


def _needs_broker() -> None:
    import redis

    try:
        with redis.Redis.from_url(BROKER) as broker:
            broker.ping()
    except redis.ConnectionError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Redis on this machine: {error}")


# An empty folder, and nothing set up: their readers start what they need themselves.
TUTORIALS = sorted(path.stem for path in (ROOT / "docs" / "tutorials").glob("*.md"))
PAGES = sorted(
    str(path.relative_to(ROOT / "docs").with_suffix(""))
    for path in (ROOT / "docs").rglob("*.md")
    if path.parent.name != "tutorials"
)


@pytest.mark.parametrize("page", PAGES)
def test_a_guide_does_what_it_says(page: str, reader: Reader) -> None:
    """Its files, commands and snippets, in their order, in one folder: each ends well and says what is shown."""
    if page == "celery":
        _needs_broker()
    for earlier in BUILDS_ON.get(page, []):
        prepare(reader, earlier)
    follow(reader, read(page))


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_does_what_it_says(page: str, tmp_path: Path) -> None:
    """From an empty folder, with loopai installed and nothing else."""
    reader = Reader(tmp_path)
    try:
        follow(reader, read(f"tutorials/{page}"))
    finally:
        reader.end()


README = (ROOT / "README.md").read_text(encoding="utf-8")


def section_of(text: str, heading: str) -> str:
    """What stands below a heading, up to the next; a comment in code is none."""
    without_code = FENCE.sub(lambda found: " " * len(found[0]), text)
    start = without_code.index(f"{heading}\n") + len(heading)
    following = re.compile(r"^##? ", re.MULTILINE).search(without_code, start)
    return text[start : following.start() if following else None]


@pytest.mark.parametrize(
    ("section", "pages"),
    [
        ("## Django", ["django"]),
        ("## FastAPI", []),
        ("## Celery", ["django", "celery"]),
    ],
)
def test_a_section_of_readme_does_what_it_says(section: str, pages: list[str], reader: Reader) -> None:
    """README's files take the places of the guides' own, and its commands and snippets run among them."""
    if section == "## Celery":
        _needs_broker()
    found = blocks(section_of(README, section))
    assert found
    files = [block for block in found if block.name is not None] if pages else []
    for page in pages:
        prepare(reader, page, files)
    follow(reader, [block for block in found if block not in files])
