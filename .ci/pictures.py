"""Make the pictures for the README: a run of `loopai batch` in a terminal, and its report. Needs Chromium.

.venv/bin/python .ci/pictures.py
"""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from loopai import SyncLoopaiClient, local

ROOT = Path(__file__).parents[1]
DATA = ROOT / "example_projects" / "data"
IMAGES = ROOT / "docs" / "images"
COLUMNS = 112
COMMANDS = [
    'loopai execute spam --input \'{"subject": "You have won", "body": "Claim your free prize now"}\'',
    "loopai batch spam mails.jsonl --output judged.jsonl --expect label=output.label --report report.html",
]


def in_terminal(command: str, folder: Path, environ: dict[str, str]) -> str:
    """Return what the command writes to a terminal, with the last state of each line."""
    main, other = pty.openpty()
    process = subprocess.Popen(command, shell=True, cwd=folder, env=environ, stdin=other, stdout=other, stderr=other)
    os.close(other)
    told = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # the terminal's other side is closed
            break
        if not block:
            break
        told += block
    process.wait()
    os.close(main)
    text = told.decode().replace("\r\n", "\n")
    # A progress display rewrites its lines: keep the final text.
    text = re.sub(r"\x1b\[\?25[lh]", "", text)
    while re.search(r"[^\n]*\n?\x1b\[1A\r?\x1b\[2K", text):
        text = re.sub(r"[^\n]*\n?\x1b\[1A\r?\x1b\[2K", "", text, count=1)
    return "\n".join(line.rpartition("\r\x1b[2K")[2] for line in text.split("\n")).rstrip()


def main() -> int:
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as name, local.running() as server:
        folder = Path(name)
        with gzip.open(DATA / "emails.train.jsonl.gz", "rt", encoding="utf-8") as file:
            mails = [json.loads(line) for _, line in zip(range(1000), file)]
        with gzip.open(DATA / "emails.dev.jsonl.gz", "rt", encoding="utf-8") as file:
            (folder / "mails.jsonl").write_text(file.read(), encoding="utf-8")
        with SyncLoopaiClient(server.base_url, timeout=120) as client:
            text = {"type": "string"}
            client.create_task(
                "spam",
                "Tell spam from wanted messages",
                {"type": "object", "properties": {"subject": text, "body": text}},
                {"type": "object", "properties": {"label": {"enum": ["spam", "ham"]}}},
                examples=[
                    {"input": {"subject": mail["subject"], "body": mail["body"]}, "output": {"label": mail["label"]}}
                    for mail in mails
                ],
            )
            client.execute("spam", {"subject": "", "body": "free"})
        environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LOOPAI_BASE_URL": server.base_url,
            "COLUMNS": str(COLUMNS),
            "TERM": "xterm-256color",
            "FORCE_COLOR": "1",
        }
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "bold green"), command))
            console.print(Text.from_ansi(in_terminal(command, folder, environ)))
            console.print()
        # Without the remote fonts that rich's SVG loads.
        form = re.sub(r"(?s)@font-face {{.*?}}\s*|<!-- Generated.*?-->", "", CONSOLE_SVG_FORMAT)
        console.save_svg(str(IMAGES / "batch.svg"), title="loopai batch", code_format=form)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            page.goto((folder / "report.html").as_uri())
            page.screenshot(path=str(IMAGES / "report.png"))
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
