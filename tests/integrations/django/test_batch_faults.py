"""Faults of a database, each provoked for real: what passes is tried again, what stays ends with exit code 5."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import DataError, IntegrityError, OperationalError, ProgrammingError, transaction

from loopai.contrib.django.batches.database import TRIES, Database

from .sites import Site, judge, site

pytestmark = pytest.mark.slow

WORDS = (
    "loopai_batch", "spam", "--queryset", "inbox.Mail", "--map", "subject=subject", "--save-to", "score",
    "--chunk-size", "20", "--progress", "none",
)  # fmt: skip


@contextmanager
def beside(made: Site) -> Iterator[Any]:
    """A connection of somebody else's to the site's database."""
    if made.kind == "postgresql":
        import psycopg

        with psycopg.connect(f"host=127.0.0.1 user=postgres dbname={made.name}") as connection:
            yield connection
        return
    import pymysql

    with pymysql.connect(host="127.0.0.1", user="root", database=made.name) as connection:
        yield connection


def run(connection: Any, sql: str) -> Any:
    cursor = connection.cursor()
    cursor.execute(sql)
    return cursor.fetchall() if cursor.description else None


def once_waiting(made: Site, process: Any) -> None:
    """Wait until the command waits for a lock."""
    waits = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'",
        "mariadb": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    }[made.kind]
    seen = threading.Event()
    with beside(made) as watching:
        for _ in range(400):
            if run(watching, waits)[0][0] or process.poll() is not None:
                return
            watching.rollback()
            seen.wait(0.3)  # MariaDB shows what it saw first to who asks more often
    raise AssertionError("nobody waits for a lock")


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_deadlock_is_tried_again(kind: str, make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Somebody else's transaction and the chunk's wait for each other; the database ends the chunk's, and no row is
    lost or counted twice."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made, beside(made) as other:
        made.fill(600)
        if kind == "postgresql":
            run(other, "SET deadlock_timeout = '600s'")  # the command's side finds it
        else:
            run(other, "SET SESSION innodb_lock_wait_timeout = 100")
        # The chunk takes its rows in the order of their keys: the last first here, then the first.
        run(other, "UPDATE inbox_mail SET label = 'ham' WHERE id = 16")
        if kind == "mariadb":
            run(other, "UPDATE inbox_mail SET label = 'ham' WHERE id > 100")
        process = made.start(*WORDS, "--max-in-flight", "1")
        once_waiting(made, process)
        run(other, "UPDATE inbox_mail SET label = 'ham' WHERE id = 4")
        other.commit()
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said
        made.assert_right(600)


def test_a_serialisation_failure_is_tried_again(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """PostgreSQL's 40001, where connections are REPEATABLE READ and somebody else writes the rows meanwhile."""
    server = make_server(judge)
    with site("postgresql", tmp_path, server.url) as made, beside(made) as other:
        made.fill(40)
        made.environ["PGOPTIONS"] = "-c default_transaction_isolation=repeatable\\ read"
        run(other, "UPDATE inbox_mail SET label = 'ham' WHERE id = 6")
        process = made.start(*WORDS)
        once_waiting(made, process)
        other.commit()
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said
        made.assert_right(40)


def test_a_lock_that_is_not_given_in_time_is_tried_again(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """MariaDB's 1205: the lock is let go after the first time-out."""
    server = make_server(judge)
    with site("mariadb", tmp_path, server.url) as made, beside(made) as other:
        made.fill(40)
        made.environ["MAILSITE_LOCK_WAIT"] = "1"
        run(other, "UPDATE inbox_mail SET label = 'ham' WHERE id = 6")
        process = made.start(*WORDS)
        once_waiting(made, process)
        ended = threading.Timer(2.5, other.rollback)  # the server's own time-out is what is waited for
        ended.start()
        said, _ = process.communicate(timeout=90)
        assert process.returncode == 0, said
        made.assert_right(40)


def locked(path: str) -> sqlite3.Connection:
    """A connection that has the lock of an SQLite database, which only one may have."""
    connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_busy_sqlite_database_is_tried_again(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Locked for longer than the connection's time-out, then free: all rows are written."""
    server = make_server()
    other: list[sqlite3.Connection] = []

    async def lock_first(asked: Any, wire: Any) -> None:
        if asked.method == "POST" and not other:
            other.append(locked(made.name))
        await judge(asked, wire)

    server.behaviour = lock_first
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(60)
        made.environ["MAILSITE_TIMEOUT"] = "0.1"
        process = made.start(*WORDS, "--max-in-flight", "1")
        server.wait_until(lambda: bool(other) or process.poll() is not None, 60)
        ended = threading.Timer(1.0, other[0].close)  # ten of its time-outs
        ended.start()
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        made.assert_right(60)


def test_a_fault_that_stays_ends_the_run_with_exit_code_5(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Said in words; the run is not left running without an error, and `--resume` continues."""
    server = make_server()
    other: list[sqlite3.Connection] = []

    async def lock_first(asked: Any, wire: Any) -> None:
        if asked.method == "POST" and not other:
            other.append(locked(made.name))
        await judge(asked, wire)

    server.behaviour = lock_first
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(60)
        made.environ["MAILSITE_TIMEOUT"] = "0.1"
        said = made.manage(*WORDS, "--max-in-flight", "1", code=5)
        assert "database is locked" in said
        assert "--resume" in said
        other[0].close()
        made.manage(*WORDS, "--resume")
        made.assert_right(60)


KILL = {
    "postgresql": (
        "import psycopg\n"
        "def kill(connection):\n"
        "    number = connection.connection.info.backend_pid\n"
        "    with psycopg.connect(f'host=127.0.0.1 user=postgres dbname=postgres', autocommit=True) as other:\n"
        "        other.execute('SELECT pg_terminate_backend(%s)', [number])\n"
    ),
    "mariadb": (
        "import pymysql as driver\n"
        "def kill(connection):\n"
        "    number = connection.connection.thread_id()\n"
        "    with driver.connect(host='127.0.0.1', user='root') as other:\n"
        "        other.cursor().execute(f'KILL {number}')\n"
    ),
}


@pytest.mark.parametrize("moment", ["before COMMIT", "between COMMIT and its reply"])
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_connection_that_is_lost_at_a_commit(
    kind: str, moment: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """The backend is killed: a chunk whose commit arrived is neither written nor counted again, one whose commit did
    not arrive is."""
    server = make_server(judge)
    with site(kind, tmp_path, server.url) as made:
        made.fill(100)
        first, then = (
            ("kill(connection)", "commit()") if moment == "before COMMIT" else ("commit()", "kill(connection)")
        )
        script = (
            f"{KILL[kind]}"
            "import sys\n"
            "from django.core.management import call_command\n"
            "from django.db import connection\n"
            "commit, commits = connection._commit, []\n"
            "def lost():\n"
            "    commits.append(1)\n"
            "    if len(commits) not in (4, 6):\n"
            "        return commit()\n"
            f"    {first}\n"
            f"    {then}\n"
            "    with connection.wrap_database_errors:\n"
            "        connection.connection.cursor().execute('SELECT 1')\n"
            "connection._commit = lost\n"
            f"call_command(*{[*WORDS, '--max-in-flight', '1', '--chunk-size', '10']!r}, stderr=sys.stderr)\n"
            "result = len(commits)"
        )
        assert made.python(script) >= 6  # the run's own, and one a chunk
        made.assert_right(100)


def test_a_deferred_constraint_fails_the_row_at_fault(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """A row that a key refers to is deleted once it was looked up: that row fails, its neighbours are written."""
    server = make_server()
    asked_for: list[bool] = []

    async def delete_first(asked: Any, wire: Any) -> None:
        asked.body = asked.body.replace(b"mail", b"")
        if asked.method == "POST":
            asked_for.append(True)
            if len(asked_for) == 2:
                with closing(sqlite3.connect(made.name, timeout=20, isolation_level=None)) as other:
                    other.execute("DELETE FROM inbox_category WHERE id = 25")
        await judge(asked, wire)

    server.behaviour = delete_first
    with site("sqlite", tmp_path, server.url) as made:
        made.fill(40)
        made.python("Category.objects.bulk_create(Category(pk=n, name='x') for n in range(40))\nresult = 0")
        words = [*WORDS[:6], "--save-to", "category=output.score", *WORDS[8:]]
        made.manage(*words, "--max-in-flight", "1", code=1)
        assert made.python(
            "run = BatchRun.objects.get()\n"
            "codes = [failure.code for failure in run.failures.all()]\n"
            "result = [run.ok, codes, Mail.objects.get(category=None).subject]"
        ) == [39, ["unfit"], "mail 25"]


@pytest.mark.parametrize("around", ["nullcontext()", "transaction.atomic()"])
def test_a_deferred_unique_constraint_fails_the_row_at_fault(
    around: str, make_server: Callable[..., Any], tmp_path: Path
) -> None:
    """PostgreSQL sees it at the commit, or not before the caller's: one of the two is written, and all others."""
    server = make_server(judge)
    with site("postgresql", tmp_path, server.url) as made:
        words = [
            *WORDS[:3],
            "inbox.Ranked",
            "--map",
            "subject=text",
            "--save-to",
            "rank=output.score",
            "--progress",
            "none",
        ]
        script = (
            "import sys\n"
            "from contextlib import nullcontext\n"
            "from django.core.management import CommandError, call_command\n"
            "from django.db import transaction\n"
            "Ranked.objects.bulk_create(Ranked(text=f'mail {n}') for n in [*range(20), '07'])\n"
            f"with {around}:\n"
            "    try:\n"
            f"        call_command(*{words!r}, stderr=sys.stderr)\n"
            "    except CommandError as error:\n"
            "        assert error.returncode == 1\n"
            "run = BatchRun.objects.get()\n"
            "result = [run.state, run.ok, [failure.code for failure in run.failures.all()],"
            " Ranked.objects.filter(rank=None).count()]"
        )
        assert made.python(script) == ["finished", 20, ["unfit"], 1]


@pytest.mark.django_db(transaction=True)
def test_a_fault_is_tried_again_a_bounded_number_of_times_with_jitter() -> None:
    """Pauses grow to some seconds, no two alike; then the fault is raised as it is."""
    pauses: list[float] = []

    def fail() -> None:
        raise OperationalError("database is locked")

    with pytest.raises(OperationalError):
        Database("default", sleep=pauses.append).attempt(fail)
    assert len(pauses) == TRIES - 1
    assert len(set(pauses)) == len(pauses)
    assert 0.05 <= pauses[0] <= 0.1
    assert 2.0 <= pauses[-1] <= 4.0


@pytest.mark.django_db(transaction=True)
def test_inside_a_caller_s_transaction_nothing_is_tried_again() -> None:
    """It is lost by then: the error is raised."""
    tried: list[int] = []

    def fail() -> None:
        tried.append(1)
        raise OperationalError("database is locked")

    with pytest.raises(OperationalError), transaction.atomic():
        Database("default", sleep=lambda _: None).attempt(fail)
    assert tried == [1]


@pytest.mark.parametrize(
    "error", [IntegrityError("NOT NULL"), ProgrammingError("syntax"), ValueError("no"), DataError("x")]
)
@pytest.mark.django_db(transaction=True)
def test_what_does_not_pass_is_not_tried_again(error: Exception) -> None:
    """A value that is refused, or a mistake: the same the next time."""
    tried: list[int] = []

    def fail() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        Database("default", sleep=lambda _: None).attempt(fail)
    assert tried == [1]


class _Told(Exception):
    """A driver's error with PostgreSQL's code."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.sqlstate = state


def _raised(error: Exception, state: str) -> Exception:
    error.__cause__ = _Told(state)
    return error


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(lambda: _raised(OperationalError("idle"), "57P05"), id="idle session"),
        pytest.param(lambda: _raised(OperationalError("idle"), "25P03"), id="idle transaction"),
        pytest.param(lambda: _raised(OperationalError("cancelled"), "57014"), id="statement time-out"),
        pytest.param(lambda: _raised(OperationalError("pooler"), "08P01"), id="pooler"),
        pytest.param(lambda: OperationalError(1020, "Record has changed since last read"), id="snapshot of MariaDB"),
        pytest.param(lambda: OperationalError(3572, "NOWAIT is set"), id="lock that is not waited for"),
        pytest.param(lambda: OperationalError(1969, "max_statement_time exceeded"), id="time-out of MariaDB"),
        pytest.param(lambda: OperationalError("database table is locked"), id="SQLite's shared cache"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_what_passes_is_tried_again(error: Callable[[], Exception]) -> None:
    """Time-outs of sessions and statements, and those of locks, whatever they are called."""
    tried: list[int] = []

    def fail_once() -> str:
        tried.append(1)
        if len(tried) == 1:
            raise error()
        return "done"

    assert Database("default", sleep=lambda _: None).attempt(fail_once) == "done"
    assert tried == [1, 1]
