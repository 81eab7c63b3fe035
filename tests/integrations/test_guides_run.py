"""The guides in docs/ are followed as a reader follows them: files written, commands typed, shown output compared."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from uuid import uuid4

import pytest

from loopai import SyncLoopaiClient, local

from . import scripted_model

pytest.importorskip("pydantic_monty", reason="the guides run on the embedded server, which needs Python 3.10")
for library in ("django", "celery", "fastapi", "pydantic_settings", "openai", "pyarrow", "pyreqwest"):
    pytest.importorskip(library, reason="the guides use all of loopai's extras")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a reader has running, and what stands in for it here.
SERVER = "http://localhost:8080"
MODEL = "http://localhost:11434/v1"
SITE = re.compile(r"(?:localhost|127\.0\.0\.1):8000|--port 8000")
BROKER = "redis://localhost:6379/0"
PROGRAM = "def main(input):\n    return {'label': 'spam' if 'money' in input['text'] else 'ham'}\n"
# What the guides' language model writes.
WRITTEN = 'def main(input):\n    return "spam" if "free money" in input["text"].lower() else "not_spam"\n'
WITHIN = 60.0
BAD_NEWS = re.compile(r"Traceback|unclosed|never awaited|Exception ignored|Event loop is closed")
# Pages whose files and first commands a page builds on.
BUILDS_ON = {"celery": ["django"], "deployment": ["django", "fastapi"]}
PREPARES = re.compile(r"django-admin startproject|python manage\.py (?:startapp|makemigrations|migrate|loaddata)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `name` is the file that it is, or goes on with."""

    language: str
    code: str
    line: int
    name: Optional[str]


def blocks(text: str) -> list[Block]:
    """A Python file is named by its first line (`# mail/views.py`), another in the text before it."""
    found = []
    for match in FENCE.finditer(text):
        before, language, code = text[: match.start()], match[1], match[2]
        named = re.match(r"# ([\w/]+\.py)\n", code) if language == "python" else None
        if language not in {"python", "console"}:
            named = re.search(r"`([\w./]+)`[^`]*\Z", before)
            assert named, f"nothing names the file of the block on line {before.count(chr(10)) + 1}"
        found.append(Block(language, code, before.count("\n") + 2, named[1] if named else None))
    return found


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.code.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def as_shown(lines: list[str]) -> re.Pattern[str]:
    """What output must look like; `…` stands for any text, and on a line of its own for any lines."""
    parts = ["(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in lines]
    return re.compile("".join(parts))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


class Reader:
    """Someone who follows a page in a folder of their own."""

    def __init__(self, folder: Path, server: Optional[str] = None, task_id: str = "", model: str = MODEL) -> None:
        self.folder = folder
        self._model = model
        self._port = free_port()
        self._own_port = None if server else free_port()
        self._server = server or f"http://localhost:{self._own_port}"
        self._started: list[tuple[subprocess.Popen[str], Path]] = []
        self._prefix = f"loopai-guide-{uuid4().hex[:8]}:"
        own = ("LOOPAI_", "DJANGO_", "PYTEST_", "COV", "CELERY_")
        self._environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith(own)},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LOOPAI_BASE_URL": self._server,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if server:
            self._environ |= {"LOOPAI_TASKS": f"spam={task_id}", "LOOPAI_WEBHOOK_SECRETS": "new,old"}

    def _here(self, text: str) -> str:
        """What is shown, with the addresses of this machine."""
        text = text.replace(SERVER, self._server).replace(MODEL, self._model)
        if self._own_port:
            text = text.replace("loopai serve", f"loopai serve --port {self._own_port}")
        return SITE.sub(lambda found: f"--port {self._port}" if "port" in found[0] else f"127.0.0.1:{self._port}", text)

    def write(self, block: Block) -> None:
        assert block.name is not None
        path = self.folder / block.name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file that is shown in parts goes on where it ended.
        with path.open("a", encoding="utf-8") as file:
            file.write(self._here(block.code))
            if BROKER in block.code:
                # What others have in the broker of this machine is theirs.
                file.write(f"CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix'] = {self._prefix!r}\n")

    def run_python(self, block: Block) -> None:
        path = self.folder / f"line_{block.line}.py"
        path.write_text(self._here(block.code), encoding="utf-8")
        command = [sys.executable, "-W", "error", path.name]
        self._check(subprocess.run(command, check=False, **self._options()), f"line {block.line}", [])
        path.unlink()

    def run_commands(self, block: Block, only: Optional[re.Pattern[str]] = None) -> None:
        """The commands of a block in their order.

        What is started in the background ends with the block; in a tutorial, whose readers start their own server,
        with the page.
        """
        try:
            for command, shown in commands(block):
                if only is not None and not only.match(command):
                    continue
                told = self._here(command)
                if told.endswith(" &"):
                    self._started.append(self._start(told[:-2]))
                else:
                    self._check(subprocess.run(["bash", "-c", told], check=False, **self._options()), command, shown)
        finally:
            if not self._own_port:
                self.end()

    def end(self) -> None:
        """End what was started in the background, and see that it had nothing bad to say."""
        ended, self._started = self._started, []
        for process, _ in ended:
            _end(process)
        for _, log in ended:
            assert not BAD_NEWS.search(log.read_text()), log.read_text()

    def _options(self) -> dict[str, object]:
        return {
            "cwd": self.folder, "env": self._environ, "text": True, "timeout": 180,
            "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
        }  # fmt: skip

    def _check(self, done: subprocess.CompletedProcess[str], what: str, shown: list[str]) -> None:
        said = done.stdout.replace(self._server, SERVER)
        assert done.returncode == 0, f"{what}: exit code {done.returncode}\n{said}"
        assert not BAD_NEWS.search(said), f"{what}\n{said}"
        if shown:
            assert as_shown(shown).fullmatch(said if said.endswith("\n") else f"{said}\n"), f"{what} said\n{said}"

    def _start(self, command: str) -> tuple[subprocess.Popen[str], Path]:
        log = self.folder / f"background-{uuid4().hex[:8]}.log"
        with log.open("w") as file:
            options = {**self._options(), "stdout": file, "stderr": subprocess.STDOUT}
            del options["timeout"]
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], start_new_session=True, **options)
        until = time.monotonic() + WITHIN
        while not self._is_up(command, log):
            if process.poll() is not None or time.monotonic() > until:
                _end(process)
                raise AssertionError(f"{command} does not come up\n{log.read_text()}")
            time.sleep(0.1)
        return process, log

    def _is_up(self, command: str, log: Path) -> bool:
        if str(self._own_port) in command:
            return "http://" in log.read_text()
        if str(self._port) not in command:
            return " ready." in log.read_text()
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self._port)) == 0

    def clean(self) -> None:
        """Take back what was put into the broker."""
        import redis

        try:
            with redis.Redis.from_url(BROKER) as broker:
                for key in broker.scan_iter(f"{self._prefix}*"):
                    broker.delete(key)
        except redis.ConnectionError:
            pass  # then nothing was put there


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    # With what it started, such as the child of runserver's reloader.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def reader_in(folder: Path) -> Iterator[Reader]:
    """A reader with a server that has the task `spam`, and a language model."""
    with local.running() as running, scripted_model.scripted(scripted_model.block(WRITTEN)) as model:
        with SyncLoopaiClient(running.base_url) as client:
            text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
            task = client.create_task("spam", "Tell spam from wanted messages", text, {"type": "object"})
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


def follow(reader: Reader, found: list[Block]) -> None:
    for block in found:
        if block.language == "console":
            reader.run_commands(block)
        elif block.name is not None:
            reader.write(block)
        else:
            reader.run_python(block)


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


@pytest.mark.slow
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
        pytest.param("## Celery", ["django", "celery"], marks=pytest.mark.slow),
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
