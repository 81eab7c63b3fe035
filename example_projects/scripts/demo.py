"""The main job: make a spam filter from 1,000 real e-mails, then judge 1,452 others with it through the real client.

Run by `make demo`. The last line printed is for scripts: `demo: rows=… errors=… accuracy=… rows_per_s=…`.
Exit code 0 if no row failed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from loopai import BatchExecuteResponse, LoopaiClient, Task, local

DATA = Path(__file__).parents[1] / "data"
BATCH = 100
# As many as the cores of a small machine; the server works on the rows of a batch at the same time anyway.
IN_FLIGHT = 2


class Email(BaseModel):
    """What the program sees: neither `id` nor `group`, as they give the label away."""

    subject: str
    body: str


class Verdict(BaseModel):
    label: Literal["spam", "ham"]


class Row(BaseModel):
    """One line of the data."""

    subject: str
    body: str
    label: Literal["spam", "ham"]

    @property
    def email(self) -> Email:
        return Email(subject=self.subject, body=self.body)


def rows(name: str) -> list[Row]:
    with gzip.open(DATA / f"emails.{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [Row.model_validate(json.loads(line)) for line in lines]


async def make_task(client: LoopaiClient, examples: list[Row]) -> Task:
    return await client.create_task(
        name="spam",
        description="Tell spam from wanted e-mail",
        input_schema=Email,
        output_schema=Verdict,
        examples=[{"input": row.email, "output": {"label": row.label}} for row in examples],
    )


async def judge(
    client: LoopaiClient, task: Task, emails: list[Row], done: Callable[[int], None]
) -> list[BatchExecuteResponse]:
    """The batches' outcomes in the order of the e-mails; `done` is told of each."""
    free = asyncio.Semaphore(IN_FLIGHT)

    async def batch(start: int) -> BatchExecuteResponse:
        async with free:
            response = await client.batch_execute(task.id, [row.email for row in emails[start : start + BATCH]])
        done(response.total_items)
        return response

    return await asyncio.gather(*(batch(start) for start in range(0, len(emails), BATCH)))


@contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, a line every quarter elsewhere."""
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as shown:
            bar = shown.add_task("e-mails", total=total)
            yield lambda count: shown.advance(bar, count)
    else:
        so_far = 0

        def advance(count: int) -> None:
            nonlocal so_far
            before, so_far = so_far, so_far + count
            if so_far * 4 // total > before * 4 // total:
                console.print(f"{so_far:,} of {total:,} e-mails")

        yield advance


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


async def main() -> int:
    # Of a log file's width, where there is no terminal to ask.
    console = Console(width=None if sys.stdout.isatty() else 110)
    examples, emails = rows("train"), rows("dev")

    with local.running() as server:
        console.print(f"Embedded server at {server.base_url}; its documentation is at {server.base_url}/docs")
        async with LoopaiClient(server.base_url, timeout=120) as client:
            console.print(f"Making a program from {len(examples):,} e-mails …")
            started = time.perf_counter()
            task = await make_task(client, examples)
            # The server makes the program when it is first asked for, so this is no part of the rate below.
            await client.execute(task.id, emails[0].email)
            making = time.perf_counter() - started
            program = (await client.list_artifacts(task.id))[-1]

            with progress(console, len(emails)) as done:
                started = time.perf_counter()
                batches = await judge(client, task, emails, done)
                rate = int(len(emails) / (time.perf_counter() - started))

    results = [result for batch in batches for result in batch.results]
    client_ms = sum(batch.reply.elapsed * 1000 for batch in batches if batch.reply) / len(emails)
    server_ms = sum(batch.total_duration_ms for batch in batches) / len(emails)
    verdicts = [result.output["label"] if result.success else None for result in results]
    errors = [result for result in results if not result.success]
    right = sum(verdict == row.label for verdict, row in zip(verdicts, emails))
    hits = sum(verdict == row.label == "spam" for verdict, row in zip(verdicts, emails))
    accuracy = share(right, len(emails))

    table = Table(title="Spam filter on real e-mail", show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in {
        "rows": f"{len(emails):,}",
        "rows that failed": f"{len(errors):,}",
        "accuracy": f"{accuracy:.3f}",
        "precision of spam": f"{share(hits, verdicts.count('spam')):.3f}",
        "recall of spam": f"{share(hits, sum(row.label == 'spam' for row in emails)):.3f}",
        "rows a second": f"{rate:,}",
        f"client ms a row ({IN_FLIGHT} batches of {BATCH} in flight)": f"{client_ms:.2f}",
        "server ms a row (of its batch's time there)": f"{server_ms:.2f}",
        "making the program, once": f"{making:.1f} s",
        "the program": f"{len(program.code) / 1000:,.0f} KB of {program.language}",
    }.items():
        table.add_row(name, value)
    console.print(table)

    shown = Table(title="Three of them")
    for column in ("subject", "label", "verdict"):
        shown.add_column(column, no_wrap=True, overflow="ellipsis", max_width=70)
    for row, verdict in list(zip(emails, verdicts))[:3]:
        shown.add_row(Text(row.subject), row.label, verdict or "failed")
    console.print(shown)

    for result in errors[:3]:
        console.print(f"row {result.id} failed: {result.error_message}", markup=False)
    print(f"demo: rows={len(emails)} errors={len(errors)} accuracy={accuracy:.3f} rows_per_s={rate}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
