"""`python example_projects/fastapi_mail`: an embedded server, a spam filter made from real e-mails, and the page."""

from __future__ import annotations

import argparse
import gzip
import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import uvicorn
from application import Email, create_app
from rich.console import Console

from loopai import SyncLoopaiClient, local
from loopai.contrib.fastapi import LoopaiLifespan, LoopaiSettings, RunFolder

DATA = Path(__file__).parents[1] / "data"
LABEL = {"type": "object", "properties": {"label": {"enum": ["spam", "ham"]}}, "required": ["label"]}


def make_filter(base_url: str, examples: int) -> UUID:
    """Make the program from the first `examples` e-mails; return the task's id."""
    with gzip.open(DATA / "emails.train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:examples]
    with SyncLoopaiClient(base_url, timeout=120) as client:
        task = client.create_task(
            "spam",
            "Tell spam from wanted e-mail",
            Email,
            LABEL,
            examples=[{"input": Email(**row), "output": {"label": row["label"]}} for row in rows],
        )
        # The server makes the program at the first execution.
        client.execute(task.id, Email(body="hello"))
        return task.id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--examples", type=int, default=1000, help="e-mails that the program is made from")
    chosen = parser.parse_args()
    console = Console()
    try:
        # Before the program is made: a port that is in use is better found at once.
        listening = socket.create_server((chosen.host, chosen.port))
    except OSError as error:
        parser.error(
            f"port {chosen.port} cannot be used ({error.strerror}): choose another with --port, or PORT= of make"
        )
    # The task lives as long as this process, and so do its runs.
    with listening, local.running() as server, TemporaryDirectory() as folder:
        started = time.perf_counter()
        with console.status(f"Making a program from {chosen.examples:,} e-mails …"):
            task_id = make_filter(server.base_url, chosen.examples)
        console.print(f"Made a program from {chosen.examples:,} e-mails in {time.perf_counter() - started:.1f} s.")
        console.print(f"Open http://{chosen.host}:{listening.getsockname()[1]}/ (Ctrl-C ends it all)", soft_wrap=True)
        settings = LoopaiSettings(base_url=server.base_url, tasks={"spam": task_id}, local=False)
        app = create_app(LoopaiLifespan(settings), RunFolder(folder))
        config = uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=5)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
