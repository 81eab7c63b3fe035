"""Real brokers, and worker processes on them that tests may kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from .sites import Site, site

BROKERS = {"redis": "redis://127.0.0.1:6379/0", "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//"}


class Workers:
    """Worker processes of one site; each is a process group of its own, as under a service manager."""

    def __init__(self, made: Site) -> None:
        self.site = made
        self.log = made.folder / "workers.log"
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, number: int) -> None:
        words = [sys.executable, "-m", "celery", "-A", "mailsite.queue", "worker", "--concurrency", "1",
                 "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--hostname"]  # fmt: skip
        for _ in range(number):
            with self.log.open("ab") as file:
                name = f"{uuid4().hex[:8]}@test"
                self.running.append(
                    subprocess.Popen(
                        [*words, name], cwd=self.site.folder, env=self.site.environ, stdout=file, stderr=file,
                        start_new_session=True,
                    )
                )  # fmt: skip

    def kill_one(self, chance: random.Random) -> None:
        """kill -9 of a whole worker, which another replaces, or of the child alone that is at a part."""
        worker = chance.choice(self.running)
        children = psutil.Process(worker.pid).children()
        if children and chance.random() < 0.5:
            children[0].kill()
            return
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
        self.running.remove(worker)
        self.start(1)

    def end(self) -> None:
        for worker in self.running:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(30)


def _purge(broker: str, name: str) -> None:
    from kombu import Connection

    if broker == "redis":
        import redis

        with redis.Redis.from_url(BROKERS[broker]) as server:
            for key in server.scan_iter(f"{name}:*"):
                server.delete(key)
        return
    with Connection(BROKERS[broker]) as connection:
        connection.SimpleQueue(name).queue.delete()


@contextmanager
def queued(broker: str, kind: str, folder: Path, upstream: str) -> Iterator[tuple[Site, Workers]]:
    """A site whose commands and workers use a broker."""
    from kombu import Connection
    from kombu.exceptions import OperationalError

    try:
        with Connection(BROKERS[broker], connect_timeout=5) as connection:
            connection.ensure_connection(max_retries=1)
    except OperationalError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no {broker} on this machine: {error}")
    name = f"loopai-test-{uuid4().hex[:8]}"
    with site(kind, folder, upstream) as made:
        made.environ.update(MAILSITE_BROKER=BROKERS[broker], MAILSITE_QUEUE_NAME=name)
        workers = Workers(made)
        try:
            yield made, workers
        finally:
            workers.end()
            _purge(broker, name)


def rows_sent(server: Any) -> int:
    return sum(len(json.loads(asked.body)["items"]) for asked in server.asked if asked.method == "POST")
