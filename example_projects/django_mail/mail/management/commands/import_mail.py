"""`manage.py import_mail`: e-mails from JSONL files into the inbox, each once however often it is called."""

from __future__ import annotations

import gzip
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mail.models import Message

DATA = Path(__file__).parents[4] / "data"
CHUNK = 500


class Command(BaseCommand):
    help = "Import e-mails from .jsonl or .jsonl.gz files. What is there already stays as it is, with its verdict."

    def add_arguments(self, parser: ArgumentParser) -> None:
        default = [DATA / "emails.dev.jsonl.gz"]
        parser.add_argument("files", nargs="*", type=Path, default=default, help="(default: the 1,452 of this example)")
        parser.add_argument("--limit", type=int, metavar="N", help="at most so many of each file")

    def handle(self, *args: Any, **options: Any) -> None:
        before, read = Message.objects.count(), 0
        for file in options["files"]:
            rows = islice(messages(file), options["limit"])
            while chunk := list(islice(rows, CHUNK)):
                # The id identifies existing mail, and the database keeps it unique.
                Message.objects.bulk_create(chunk, ignore_conflicts=True)
                read += len(chunk)
        added = Message.objects.count() - before
        self.stdout.write(f"{read:,} e-mails read: {added:,} added, {read - added:,} were there already.")


def messages(file: Path) -> Iterator[Message]:
    """The file's e-mails, not saved. Raises `CommandError` naming file and line."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    yield Message(
                        source_id=row["id"],
                        subject=row.get("subject", "")[:500],
                        body=row["body"],
                        known=row.get("label", ""),
                    )
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise CommandError(
                        f"{file}, line {number}: {error!r}; a line is an object with id, subject, body"
                    ) from None
    except (OSError, EOFError) as error:
        raise CommandError(f"{file} cannot be read: {error}") from None
