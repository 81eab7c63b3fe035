"""`make demo`: the site's commands in a row, on an embedded server and a database that go with it. With `--serve` the
site follows, which is `make demo-serve`.

The last line that `make demo` prints is for scripts: `demo: rows=… errors=… accuracy=… rows_per_s=…`. Exit code 0 if
no row failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from loopai import local

if TYPE_CHECKING:
    from loopai.contrib.django.models import BatchRun

HERE = Path(__file__).parent
PORT = 8000
USER = PASSWORD = "demo"

# The width of a log file, if there is no terminal.
console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)


def manage(*words: str) -> None:
    """Show and run a command of the site's, as anybody would type it."""
    console.print(f"$ python manage.py {' '.join(words)}", style="bold", soft_wrap=True, markup=False)
    sys.stdout.flush()
    # Ctrl-C is this process's to take: a command that gets it in its imports would show where.
    subprocess.run([sys.executable, "manage.py", *words], cwd=HERE, check=True, start_new_session=True)


def prepare(examples: int) -> None:
    """A database with e-mails, and a verdict on each."""
    manage("migrate", "--verbosity", "0")
    manage("make_filter", "--examples", str(examples))
    manage("import_mail")
    manage("loopai_batch", "spam", "--queryset", "mail.Message", "--save-to", "label=output.label")


def set_up() -> None:
    """Django in this process too, on the same settings."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "triage.settings"
    django.setup()


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def report() -> tuple[BatchRun, float]:
    """Show how good the verdicts are; return the run and the accuracy."""
    from mail.models import Message

    from loopai.contrib.django.models import BatchRun

    run, counts = BatchRun.objects.get(), Message.objects.counts()
    accuracy = share(counts["compared"] - counts["mistaken"], counts["compared"])
    table = Table(title="Spam filter on real e-mail", show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    for name, value in {
        "rows": f"{run.done:,}",
        "rows that failed": f"{run.errors:,}",
        "accuracy": f"{accuracy:.3f}",
        "precision of spam": f"{share(counts['hits'], counts['known_calls']):.3f}",
        "recall of spam": f"{share(counts['hits'], counts['known_spam']):.3f}",
        "rows a second, read, judged and written back": f"{run.snapshot().rate:,.0f}",
    }.items():
        table.add_row(name, value)
    console.print(table)
    return run, accuracy


def serve(listening: socket.socket, server_url: str) -> None:
    """Serve the site until Ctrl-C."""
    import uvicorn
    from django.contrib.auth import get_user_model
    from django.db import connections
    from triage.asgi import application

    get_user_model().objects.create_superuser(USER, password=PASSWORD)
    connections.close_all()
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=5
    )
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    console.print(f"\nInbox        {url}/", soft_wrap=True)
    console.print(f"Admin        {url}/admin/  (user {USER}, password {PASSWORD})", soft_wrap=True)
    console.print(f"Server docs  {server_url}/docs", soft_wrap=True)
    console.print("\nCtrl-C ends it all.")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    connections.close_all()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve the site afterwards, until Ctrl-C")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the site ({PORT}); 0 takes a free one")
    parser.add_argument("--examples", type=int, default=1000, help="e-mails that the filter is made from (1000)")
    chosen = parser.parse_args()
    # Like Ctrl-C: end everything that was started, and remove the folder.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("LOOPAI_")]:
        del os.environ[name]
    try:
        # Before anything is made: a port that is in use is better found at once.
        listening = socket.create_server(("127.0.0.1", chosen.port)) if chosen.serve else None
    except OSError as error:
        parser.error(
            f"port {chosen.port} cannot be used ({error.strerror}): choose another with --port, or PORT= of make"
        )
    with TemporaryDirectory(prefix="loopai-demo-") as folder, local.running() as server:
        os.environ.update(MAIL_DATA=folder, LOOPAI_BASE_URL=server.base_url)
        console.print(f"Embedded server at {server.base_url}", soft_wrap=True)
        try:
            prepare(chosen.examples)
        except subprocess.CalledProcessError as failed:
            return failed.returncode or 1
        set_up()
        run, accuracy = report()
        if listening is not None:
            with listening:
                serve(listening, server.base_url)
        else:
            console.print("See it in a browser: make demo-serve")
            figures = f"accuracy={accuracy:.3f} rows_per_s={run.snapshot().rate:.0f}"
            print(f"demo: rows={run.done} errors={run.errors} {figures}")
        return 1 if run.errors else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
