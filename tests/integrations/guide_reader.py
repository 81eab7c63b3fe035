"""A reader of the documentation: writes the files that a page shows, types its commands, compares what is shown.

Knows neither pytest nor loopai, so that `.ci/new_user.py` can follow a tutorial with an installation of its own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional
from uuid import uuid4

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a reader has running, and what stands in for it here.
SERVER = "http://localhost:8080"
MODEL = "http://localhost:11434/v1"
SITE = re.compile(r"(?:localhost|127\.0\.0\.1):8000|--port 8000")
BROKER = "redis://localhost:6379/0"
WITHIN = 60.0
BAD_NEWS = re.compile(r"Traceback|unclosed|never awaited|Exception ignored|Event loop is closed")


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

    def __init__(
        self,
        folder: Path,
        server: Optional[str] = None,
        task_id: str = "",
        model: str = MODEL,
        python: str = sys.executable,
    ) -> None:
        self.folder = folder
        self._model = model
        self._python = python
        self._port = free_port()
        self.site = f"http://127.0.0.1:{self._port}"
        """Where the page's site is."""
        self._own_port = None if server else free_port()
        self._server = server or f"http://localhost:{self._own_port}"
        self._started: list[tuple[subprocess.Popen[str], Path]] = []
        self._prefix = f"loopai-guide-{uuid4().hex[:8]}:"
        own = ("LOOPAI_", "DJANGO_", "PYTEST_", "COV", "CELERY_")
        self._environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith(own)},
            "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
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
        command = [self._python, "-W", "error", path.name]
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

    def _options(self) -> dict[str, Any]:
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


def follow(reader: Reader, found: list[Block]) -> None:
    for block in found:
        if block.language == "console":
            reader.run_commands(block)
        elif block.name is not None:
            reader.write(block)
        else:
            reader.run_python(block)
