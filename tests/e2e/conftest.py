"""What tests as users have it need: the command line as a process, on a terminal, with one server; and a browser."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

import pytest

COMMAND = [sys.executable, "-m", "loopai"]
PATIENCE = 60.0
CHROMIUM = "/usr/bin/chromium"
# In a container Chromium is root; it is to ask nobody but the page.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
VIEWS: dict[str, dict[str, Any]] = {
    "desktop, light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "desktop, dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone, light": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
    "phone, dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
    "small phone": {"viewport": {"width": 320, "height": 600}, "has_touch": True},
}
"""Screens that a page is looked at on: arguments of Playwright's contexts."""
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WIPED = re.compile(r"[^\n]*\n(?:\x1b\[\?25h|\r)*\x1b\[1A\x1b\[2K")
"""A line, and the way back to its start that wipes it."""

PROGRAM = """
def main(input):
    text = input["text"]
    if text == "boom":
        raise ValueError("bang\\nand a second line")
    if text == "loop":
        while True:
            pass
    return {"words": len(text.split())}
"""
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def environment(**changed: str) -> dict[str, str]:
    """The environment without options of loopai's, nor of terminals'."""
    dropped = ("LOOPAI_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR")
    own = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**own, "TERM": "xterm-256color", "PYTHONWARNINGS": "error", **changed}


class Terminal:
    """A command on a pseudo-terminal of its own."""

    def __init__(self, *arguments: str, columns: int, cwd: Path, env: Mapping[str, str]) -> None:
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

        # A session's leader owns the terminal that it opens, so Ctrl-C becomes a signal.
        opened = ["sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(side)]
        self.process = subprocess.Popen(
            [*opened, *COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env=environment(**env),
            start_new_session=True,
        )
        self._side = side  # open here, too: what was written can then be read after the command's end
        self._written = b""

    @property
    def raw(self) -> str:
        return self._written.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """What was written, without colours."""
        return ANSI.sub("", self.raw).replace("\r\n", "\n")

    @property
    def kept(self) -> str:
        """What was written and not wiped again, as a spinner is; with its colours."""
        kept = WIPED.sub("", self.raw.replace("\r\n", "\n"))
        return "\n".join(line.rsplit("\x1b[2K", 1)[-1] for line in kept.split("\n"))

    @property
    def lines(self) -> list[str]:
        """What is left on the screen, without colours."""
        return ANSI.sub("", self.kept).split("\n")

    def until(self, wanted: str) -> None:
        """Read until `wanted` was written."""
        ends = time.monotonic() + PATIENCE
        while wanted not in self.text:
            assert time.monotonic() < ends, f"{wanted!r} never came:\n{self.text}"
            assert self._read(), f"it ended without {wanted!r}:\n{self.text}"

    def type(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def end(self) -> int:
        """Read all that comes, and give the exit code."""
        ends = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < ends, f"it does not end:\n{self.text}"
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._main)
        os.close(self._side)

    def _read(self) -> bool:
        """Read what there is; false if there is no more to come."""
        if select.select([self._main], [], [], 0.1)[0]:
            self._written += os.read(self._main, 65536)
            return True
        return self.process.poll() is None


class Serving:
    """`loopai serve` as a process; `base_url` is where."""

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", *arguments],
            cwd=cwd,
            env=environment(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told = ""

    def until(self, wanted: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told += line
            if wanted in line:
                return self.told
        raise AssertionError(f"it ended without {wanted!r}:\n{self.told}")

    @property
    def base_url(self) -> str:
        found = re.search(r"http://\S+:\d+", self.told or self.until("Ctrl-C"))
        assert found, self.told
        return found[0]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PATIENCE)
        self.told += err
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts a command on a pseudo-terminal."""
    opened: list[Terminal] = []

    def start(*arguments: str, columns: int = 100, **env: str) -> Terminal:
        opened.append(Terminal(*arguments, columns=columns, cwd=tmp_path, env=env))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts `loopai serve` on a free port."""
    started: list[Serving] = []

    def start(*arguments: str, **env: str) -> Serving:
        started.append(Serving(*arguments, cwd=tmp_path, env=env))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def piped(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command with pipes."""

    def run(*arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=given,
            cwd=tmp_path,
            env=environment(**env),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=PATIENCE,
        )

    return run


class Done:
    """How a command in this process ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli_server: str
) -> Callable[..., Done]:
    """Runs a command in this process, on the server of the tests: what a process of its own adds, `piped` tests."""
    from loopai.cli import main

    for name in [name for name in os.environ if name.startswith("LOOPAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("LOOPAI_BASE_URL", cli_server)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, given: Optional[str] = None, **env: str) -> Done:
        import io

        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            if given is not None:
                patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
            code = main(arguments)
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    return run


@pytest.fixture(scope="session")
def cli_server() -> Iterator[str]:
    """A server with the task `words`."""
    from loopai import SyncLoopaiClient, local

    with local.running() as server:
        with SyncLoopaiClient(server.base_url) as client:
            task: Any = client.create_task("words", "Count the words of a text", SCHEMA, {"type": "object"})
            client.push_program(task.id, PROGRAM)
        yield server.base_url


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium. Not longer than a module: Playwright's loop runs meanwhile, and async tests need theirs."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pages are tested with Playwright")
    if not Path(CHROMIUM).exists() and os.environ.get("CI") != "true":
        pytest.skip(f"pages are tested in {CHROMIUM}, which is not there")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a view. What the console says, or a request to somebody else, is an error of the test.

    A page on the disk is opened without network: it asks for nothing but itself, and its console stays empty.
    """
    contexts: list[Any] = []
    said: list[str] = []
    asked: list[str] = []

    def start(url: str, **view: Any) -> Any:
        on_disk = url.startswith("file:")
        own = (url,) if on_disk else ("blob:", "data:", "{0.scheme}://{0.netloc}/".format(urlsplit(url)))

        def hear(message: Any) -> None:
            if on_disk or message.type in {"error", "warning"}:
                said.append(message.text)

        context = browser.new_context(offline=on_disk, **view)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(2 * PATIENCE * 1000)
        page.on("console", hear)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url) if not request.url.startswith(own) else None)
        page.goto(url)
        return page

    yield start
    for context in contexts:
        context.close()
    assert said == []
    assert asked == [], "a page asks somebody else"


CONTRAST = """
() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (channels(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const low = [];
  let seen = 0;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (style.clipPath !== "none" || element.closest("svg")) continue;  // for screen readers; drawn in other colours
    seen += 1;
    const [one, other] = [style.color, behind(element)].map((c) => luminance(channels(c)));
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName} ${texts.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return [seen, low];
}
"""


def legible(page: Any, view: str = "") -> None:
    """`accessible`, and every text has the contrast that WCAG asks of small ones."""
    accessible(page, view)
    seen, low = page.evaluate(CONTRAST)
    assert seen > 5, f"{view}: there is hardly a text"
    assert low == [], view


def accessible(page: Any, view: str = "") -> None:
    """Nothing sticks out to the side, and axe-core finds nothing."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pages are checked with axe-core").Axe()
    page.wait_for_load_state()
    width, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= room, view
    found = axe.run(page).response["violations"]
    told = [f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}" for rule in found for node in rule["nodes"]]
    assert told == [], view
