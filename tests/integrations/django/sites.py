"""A site of its own for tests that run real processes: a database, made and dropped, and `manage.py` on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional
from uuid import uuid4

import pytest

PROJECT = Path(__file__).parent / "project"
TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
STARTS_WITHIN = 60.0


class Site:
    """The tests' site over a database of its own, with the processes that are started on it."""

    def __init__(self, kind: str, name: str, folder: Path, upstream: str) -> None:
        self.kind = kind
        self.folder = folder
        self.name = str(folder / "site.sqlite3") if kind == "sqlite" else name
        self.copies: list[str] = []
        self.environ = {
            **{key: text for key, text in os.environ.items() if not key.startswith("LOOPAI_")},
            "PYTHONPATH": str(PROJECT),
            "DJANGO_SETTINGS_MODULE": "mailsite.settings",
            "LOOPAI_TEST_DATABASE": kind,
            "MAILSITE_DATABASE": name,
            "MAILSITE_SQLITE": str(folder / "site.sqlite3"),
            "MAILSITE_UPSTREAM": upstream,
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "django", *words]

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """`manage.py` with these words, in a process that the test ends."""
        return subprocess.Popen(
            self.command(*words), cwd=self.folder, env=self.environ, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
        )  # fmt: skip

    def manage(self, *words: str, code: Optional[int] = 0) -> str:
        """The same to its end; gives what it said."""
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environ, text=True, check=False, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def python(self, script: str) -> Any:
        """What a script on the site's models gives as `result`."""
        before = "import django, json; django.setup()\nfrom inbox.models import *\n"
        before += "from loopai.contrib.django.models import BatchRun, BatchPart\n"
        words = [sys.executable, "-c", f"{before}{script}\nprint('result:' + json.dumps(result))"]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environ, text=True, check=False, timeout=300, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rpartition("result:")[2])

    def fill(self, rows: int) -> None:
        """So many mails, with a number each."""
        self.python(
            f"mails = (Mail(subject=f'mail {{n}}') for n in range({rows}))\n"
            "Mail.objects.bulk_create(mails, batch_size=2000)\nresult = 0"
        )

    def ended(self) -> dict[str, Any]:
        """The newest run, once it is over."""
        script = (
            "import time\nuntil = time.monotonic() + 120\n"
            "while (run := BatchRun.objects.order_by('-pk')[0]).state in ('pending', 'running'):\n"
            "    assert time.monotonic() < until, (run.state, run.done)\n    time.sleep(0.1)\n"
            "result = {name: getattr(run, name) for name in ('state', 'ok', 'errors', 'skipped', 'error')}"
        )
        found: dict[str, Any] = self.python(script)
        return found

    def assert_right(self, rows: int) -> None:
        """Each row has its own result, and the run has counted each once."""
        found = self.python(
            "rows = list(Mail.objects.values_list('subject', 'score'))\n"
            "run = BatchRun.objects.order_by('-pk')[0]\n"
            "result = [len(rows), sum(subject != f'mail {score}' for subject, score in rows),"
            " run.state, run.ok, run.errors, run.skipped, run.parts.count(), run.error]"
        )
        assert found == [rows, 0, "finished", rows, 0, 0, 0, ""]


def _psql(sql: str) -> None:
    import psycopg

    with psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(sql)


def _mariadb(sql: str) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", user="root") as connection, connection.cursor() as cursor:
        cursor.execute(sql)


def copy_of(made: Site, folder: Path) -> str:
    """The name of a copy of the site's database, as it is now; it goes with the site."""
    if made.kind == "sqlite":
        copy = folder / f"copy-{uuid4().hex[:8]}.sqlite3"
        shutil.copyfile(made.name, copy)
        return str(copy)
    name = f"{made.name}_copy"
    made.copies.append(name)
    if made.kind == "postgresql":
        _psql(f"CREATE DATABASE {name} TEMPLATE {made.name}")
        return name
    _mariadb(f"CREATE DATABASE {name}")
    dump = subprocess.run(["mariadb-dump", "-h127.0.0.1", "-uroot", made.name], capture_output=True, check=True)
    subprocess.run(["mariadb", "-h127.0.0.1", "-uroot", name], input=dump.stdout, check=True)
    return name


@contextmanager
def site(kind: str, folder: Path, upstream: str) -> Iterator[Site]:
    """A migrated site; the test is skipped where there is no such database, except with CI=true."""
    name = f"loopai_{uuid4().hex[:12]}"
    sql = {"postgresql": _psql, "mariadb": _mariadb}.get(kind)
    try:
        if sql is not None:
            sql(f"CREATE DATABASE {name}")
    except Exception as error:  # whichever the driver raises where there is no server
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no {kind} on this machine: {error}")
    made = Site(kind, name, folder, upstream)
    try:
        made.manage("migrate", "--run-syncdb", "--verbosity", "0")
        yield made
    finally:
        if sql is not None:
            for each in (name, *made.copies):
                sql(f"DROP DATABASE {each}" + (" WITH (FORCE)" if kind == "postgresql" else ""))
        shutil.rmtree(folder / "celery", ignore_errors=True)


async def judge(asked: Any, wire: Any) -> None:
    """A server's behaviour: knows the task, and finds the score of `mail 7` to be 7."""
    if asked.method == "GET" and asked.target.endswith("/artifacts"):
        program = {"id": TASK, "task_id": TASK, "version": 1, "language": "python", "code": "", "status": "active"}
        await wire.answer(json.dumps([{**program, "created_at": "2025-11-03T08:16:05Z"}]).encode())
        return
    if asked.method == "GET":
        task = {"id": TASK, "name": "spam", "description": "", "input_schema": {}, "output_schema": {}}
        await wire.answer(json.dumps({**task, "created_at": "2025-11-03T08:16:05Z", "active_version": 1}).encode())
        return
    items = json.loads(asked.body)["items"]
    results = [
        {
            "id": item["id"],
            "execution_id": TASK,
            "success": True,
            "output": {"score": int(re.sub(r"\D", "", item["input"]["subject"]))},
            "latency_ms": 1.0,
        }
        for item in items
    ]
    await wire.answer(json.dumps({"batch_id": TASK, "task_id": TASK, "results": results}).encode())
