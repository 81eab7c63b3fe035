"""`manage.py loopai_prune`: deletes old runs, failed pending rows and handled events."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from .....exceptions import ConfigurationError
from ...exits import told
from ...in_shell import ShellCommand
from ...pruning import Pruning, age_of


class Command(ShellCommand):
    """Deletes old records."""

    help = (
        "Delete finished and cancelled runs with their failed rows, failed pending rows, and handled webhook events, "
        "older than an age. Events are kept for at least twice the webhook tolerance. "
        "Exit code: 0 done, 2 wrong usage or configuration."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--older-than", required=True, metavar="AGE", help="30d, 12h, 90m or 45s")
        parser.add_argument("--unfinished", action="store_true", help="also runs that stopped or were interrupted")
        parser.add_argument("--dry-run", action="store_true", help="show what would be deleted")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="database with the runs (default)")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, and report how many."""
        using = options["database"]
        with told():
            if using not in connections:
                raise ConfigurationError(f"DATABASES has no {using!r}; it has {', '.join(connections)}")
            pruning = Pruning(using, timezone.now(), age_of(options["older_than"]), unfinished=options["unfinished"])
        found = pruning.count() if options["dry_run"] else pruning.delete()
        if options["json"]:
            self.stdout.write(json.dumps({"deleted": found, "dry_run": options["dry_run"]}))
            return
        said = ", ".join(f"{number:,} {name}" for name, number in found.items())
        self.stdout.write(f"{'Would delete' if options['dry_run'] else 'Deleted'} {said}.")
        if pruning.keeps_events:
            self.stdout.write("Handled events are kept: an alias has no webhook tolerance.")
