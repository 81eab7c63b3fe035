"""The cost of a queryset's row with its write-back, compared with the obvious loop, and the cost for a view.

Everything with Django runs in separate processes: `python -m benchmarks.django_batches WHAT …` prints one figure.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from .goals import TimesAndMore, TimesLess
from .measuring import Goal, Row, group
from .peer import TASK_ID, running

MODULE = "benchmarks.django_batches"
WORKERS = 4
BROKER = os.environ.get("LOOPAI_BENCH_BROKER", "redis://127.0.0.1:6379/0")
POSTGRESQL = {"HOST": "127.0.0.1", "USER": "postgres"}
CALLS = 20_000
SAVES = 300


@dataclass(frozen=True)
class Stated(Goal):
    """A figure that is shown without a goal."""

    def __init__(self) -> None:
        super().__init__(float("inf"))

    def __str__(self) -> str:
        return "stated"


# In the separate process


def set_up(database: str, base_url: str) -> type[Any]:
    """Set up a Django project in a few lines, and return its model."""
    import django
    from django.conf import settings

    name = {"ENGINE": "django.db.backends.postgresql", "NAME": database, **POSTGRESQL}
    alias = {"BASE_URL": base_url, "TASKS": {"spam": TASK_ID}, "TRANSPORT": "httpx"}
    settings.configure(
        DATABASES={"default": name},
        INSTALLED_APPS=["loopai.contrib.django", "benchmarks"],
        LOOPAI={"default": alias},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        ROOT_URLCONF="benchmarks.django_batches",
        ALLOWED_HOSTS=["testserver"],
    )
    django.setup()
    from django.db import models

    class Mail(models.Model):
        subject = models.CharField(max_length=200)
        body = models.TextField()
        label = models.CharField(max_length=20, blank=True)
        changed_at = models.DateTimeField(auto_now=True)

        class Meta:
            app_label = "benchmarks"

        def __str__(self) -> str:
            return str(self.subject)

    return Mail


def fill(model: type[Any], rows: int) -> None:
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", "loopai", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(model)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO benchmarks_mail (subject, body, label, changed_at)"
            " SELECT 'You have won ' || n, repeat('Claim it today. ', 10), '', now() FROM generate_series(1, %s) AS n",
            [rows],
        )
        cursor.execute("VACUUM ANALYZE benchmarks_mail")


def command(*words: str) -> None:
    from django.core.management import call_command

    given = ["loopai_batch", "spam", "--queryset", "benchmarks.Mail", "--map", "subject=subject", "--map", "body=body"]
    # The command's output for 20,000 rows is a few lines; the figure excludes a terminal.
    said = io.StringIO()
    call_command(*given, "--save-to", "label", "--progress", "none", *words, stderr=said, stdout=said)


def by_command(model: type[Any], base_url: str, rows: int) -> float:
    command("--limit", "100")
    started = time.perf_counter()
    command("--limit", str(rows))
    return (time.perf_counter() - started) / rows * 1e6


def by_hand(model: type[Any], base_url: str, rows: int) -> float:
    """The obvious loop, with one client that is reused."""
    with httpx.Client(base_url=base_url) as client:
        model.objects.first()
        started = time.perf_counter()
        for mail in model.objects.all()[:rows]:
            given = {"task_id": TASK_ID, "input": {"subject": mail.subject, "body": mail.body}}
            response = client.post("/api/v1/tasks/execute", json=given)
            response.raise_for_status()
            mail.label = response.json()["output"]["label"]
            mail.save()
        return (time.perf_counter() - started) / rows * 1e6


def without_calls(model: type[Any], base_url: str, rows: int) -> float:
    """The same pages and the same updates, each in its transaction, without any request."""
    from django.db import transaction

    from loopai.contrib.django.batches.bulk_update import update

    label = model._meta.get_field("label")
    model.objects.first()
    started = time.perf_counter()
    last = 0
    for _ in range(rows // 100):
        page = list(model.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "subject", "body")[:100])
        last = page[-1][0]
        with transaction.atomic():
            update("default", model, [label], [(row[0], ["spam"]) for row in page])
    return (time.perf_counter() - started) / rows * 1e6


def in_workers(model: type[Any], base_url: str, rows: int) -> float:
    """Four worker processes that are already running; the time is the command's."""
    queue = f"loopai-bench-{uuid4().hex[:8]}"
    celery_app(queue)
    words = [sys.executable, "-m", MODULE, "worker", sys.argv[2], base_url, queue]
    workers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(WORKERS)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            # After Celery's own start-up messages.
            assert any(line.strip() == "ready" for line in worker.stdout)
        return by_celery(rows)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
        forget(queue)


def forget(queue: str) -> None:
    """Remove messages that killed workers left in the broker."""
    if BROKER.startswith("redis"):
        import redis

        with redis.Redis.from_url(BROKER) as server:
            for key in server.scan_iter(f"{queue}:*"):
                server.delete(key)
        return
    from kombu import Connection  # type: ignore[attr-defined]  # kombu exports lazily

    with Connection(BROKER) as connection:  # type: ignore[no-untyped-call]  # kombu has no types
        connection.SimpleQueue(queue).queue.delete()


def by_celery(rows: int) -> float:
    started = time.perf_counter()
    command("--limit", str(rows), "--engine", "celery")
    return (time.perf_counter() - started) / rows * 1e6


def celery_app(queue: str) -> Any:
    from celery import Celery

    import loopai.contrib.celery  # registers the tasks

    assert loopai.contrib.celery.run_part.name
    app = Celery("benchmarks", broker=BROKER, set_as_current=True)
    app.conf.update(task_default_queue=queue, worker_prefetch_multiplier=1)
    if BROKER.startswith("redis"):
        app.conf.broker_transport_options = {"global_keyprefix": f"{queue}:"}
    return app


def work(queue: str) -> None:
    from celery.signals import worker_ready

    def ready(**_: Any) -> None:
        # Celery turns printed lines into log lines.
        print("ready", file=sys.__stdout__, flush=True)

    worker_ready.connect(ready, weak=False)
    # In this process: prefork's parent would be a fifth process.
    arguments = ["worker", "--pool", "solo", "--loglevel", "ERROR", "--without-gossip", "--without-mingle", "-n"]
    celery_app(queue).worker_main([*arguments, f"{uuid4().hex[:6]}@bench"])


def view(uses_client: bool, first: bool) -> float:
    from django.http import HttpRequest, HttpResponse

    from loopai.contrib.django import get_client

    def with_client(request: HttpRequest) -> HttpResponse:
        get_client()
        return HttpResponse("ok")

    def without(request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    shown, request = with_client if uses_client else without, HttpRequest()
    without(request)
    calls = 1 if first else CALLS
    if not first:
        shown(request)
    started = time.perf_counter()
    for _ in range(calls):
        shown(request)
    return (time.perf_counter() - started) / calls * 1e6


def save(model: type[Any], way: str) -> float:
    """Saves of one row each: with inline work, without work, or without `enrich`; or a call without a save."""
    from django.db.models.signals import post_save

    from loopai.contrib.django import enrich, get_client

    if way not in {"bare", "plain"}:
        # A version, since this server reports none: tasks without a program do not run inline.
        enrich(model, "spam", mapping=["subject=subject"], save_to=["label"], version=1)
    mail = model.objects.create(subject="You have won", body="Claim it today.", label="spam")
    told: dict[str, Any] = {"created": False, "raw": False, "using": "default", "update_fields": None}

    def inline() -> None:
        saved = model.objects.create(subject="You have won", body="Claim it today.")
        assert saved.label == "spam"

    ways: dict[str, Callable[[], object]] = {
        "inline": inline,
        "plain": lambda: model.objects.create(subject="You have won", body="Claim it today."),
        "idle": lambda: post_save.send(model, instance=mail, **told),
        "bare": lambda: post_save.send(model, instance=mail, **told),
        "execute": lambda: get_client().execute("spam", {"subject": mail.subject}),
    }
    calls = CALLS if way in {"idle", "bare"} else SAVES
    for _ in range(5):
        ways[way]()
    started = time.perf_counter()
    for _ in range(calls):
        ways[way]()
    return (time.perf_counter() - started) / calls * 1e6


urlpatterns: list[Any] = []


def main(what: str, database: str, base_url: str, argument: str) -> None:
    model = set_up(database, base_url)
    if what == "fill":
        fill(model, int(argument))
    elif what == "worker":
        work(argument)
    elif what == "memory":
        by_command(model, base_url, int(argument))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    elif what.startswith("save-"):
        print(save(model, what.partition("-")[2]))
    elif what.startswith("view"):
        print(view("bare" not in what, "first" in what))
    else:
        ways = {"command": by_command, "loop": by_hand, "without": without_calls, "celery": in_workers}
        print(ways[what](model, base_url, int(argument)))


# In the process that measures


def figure(what: str, database: str, base_url: str, argument: object) -> float:
    words = [sys.executable, "-m", MODULE, what, database, base_url, str(argument)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1]) if done.stdout.strip() else 0.0


@contextlib.contextmanager
def database(rows: int, base_url: str) -> Iterator[str]:
    import psycopg

    name = f"loopai_bench_{uuid4().hex[:8]}"
    with psycopg.connect("host=127.0.0.1 user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            figure("fill", name, base_url, rows)
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@group("django_batches")
def django_batches(quick: bool) -> Iterator[list[Row]]:
    rows, loop, many = (2_000, 200, 4_000) if quick else (20_000, 2_000, 500_000)
    with running() as base_url, database(many, base_url) as name:

        def measured(what: str, argument: object = rows) -> Callable[[], float]:
            return lambda: figure(what, name, base_url, argument)

        what = f"{rows:,} rows of PostgreSQL, --save-to"
        hand = f"for mail in queryset: execute, mail.save(), {loop:,} rows"
        yield [
            Row(f"loopai_batch, {what}", measured("command"), hand, measured("loop", loop), "µs", TimesLess(25)),
            Row(f"loopai_batch, {what}", measured("command"), "the same reads and updates, no call",
                measured("without"), "µs", Goal(2)),
            Row(f"peak memory of {many:,} rows", measured("memory", many), f"that of {rows:,} rows",
                measured("memory", rows), "MB", Goal(1.1)),
            Row(f"--engine celery, {WORKERS} workers, {what}", measured("celery"), "one inline process",
                measured("command"), "µs", Stated()),
            Row("a save that enrich has no work for: its signal", measured("save-idle"), "the signal without enrich",
                measured("save-bare"), "µs", Goal(20, of="figure")),
            Row("a save with its row inline", measured("save-inline"), "a direct execute", measured("save-execute"),
                "µs", TimesAndMore(1.5, more=5_000)),
            Row("the same", measured("save-inline"), "the save without enrich", measured("save-plain"), "µs", Stated()),
            Row("a view with get_client(), first call", measured("view-first"), "the same view without",
                measured("view-first-bare"), "µs", Stated()),
            Row("a view with get_client(), later calls", measured("view"), "the same view without",
                measured("view-bare"), "µs", Stated()),
        ]  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:5])
