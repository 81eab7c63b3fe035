"""`manage.py make_filter`: has the server make the program of the task `spam`, from e-mails with their right answer."""

from __future__ import annotations

import gzip
import json
import time
from argparse import ArgumentParser
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from loopai import LoopaiException, NotFoundException, SyncLoopaiClient, Task
from loopai.contrib.django import get_client
from mail.task import TASK, Email, Verdict

EXAMPLES = Path(__file__).parents[4] / "data" / "emails.train.jsonl.gz"
MAKING = 120  # seconds that making the program may take


class Command(BaseCommand):
    help = "Make the spam filter, unless the server has it already, and keep its id for the settings."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--examples", type=int, default=1000, metavar="N", help="e-mails to learn from (1000)")

    def handle(self, *args: Any, **options: Any) -> None:
        client = get_client().with_options(timeout=MAKING, deadline=MAKING)
        started = time.perf_counter()
        try:
            task = self._task(client, options["examples"])
            # The server makes the program at the first execution.
            client.execute(task.id, Email(body="Hello"))
            program = client.list_artifacts(task.id)[-1]
        except LoopaiException as error:
            raise CommandError(str(error)) from None
        settings.TASKS.write_text(f"{TASK}={task.id}\n")
        seconds, size = time.perf_counter() - started, len(program.code) / 1000
        self.stdout.write(f"Task {TASK} ({task.id}): {size:.0f} KB of {program.language}, {seconds:.1f} s")

    def _task(self, client: SyncLoopaiClient, number: int) -> Task:
        try:
            return client.get_task_by_name(TASK)
        except NotFoundException:
            pass
        with gzip.open(EXAMPLES, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in islice(lines, number)]
        return client.create_task(
            name=TASK,
            description="Tell spam from wanted e-mail",
            input_schema=Email,
            output_schema=Verdict,
            examples=[{"input": Email(**row), "output": {"label": row["label"]}} for row in rows],
        )
