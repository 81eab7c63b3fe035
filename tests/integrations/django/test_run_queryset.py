"""`run_queryset` and `arun_queryset`: which rows, which database, what is refused, and how a run that stops ends."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.management import call_command
from django.db import models, transaction
from django.db.models import Count
from django.db.models.functions import Upper
from inbox.models import Category, Entry, Mail, Message, Prefixed

from loopai.batch.engine.stopping import Stop
from loopai.contrib.django import BatchStopped, arun_queryset, run_queryset
from loopai.contrib.django.models import BatchFailure, BatchRun
from loopai.exceptions import ConfigurationError, ConnectionException, LoopaiException
from loopai.testing import FakeLoopai, ProgramError

pytestmark = pytest.mark.django_db(transaction=True)

MAPPED: dict[str, Any] = {"mapping": ["subject=subject"], "save_to": ["label"]}


def mails(number: int, **fields: Any) -> list[Mail]:
    Mail.objects.bulk_create(Mail(subject=f"mail {turn}", **fields) for turn in range(number))
    return list(Mail.objects.order_by("pk"))


def test_the_run_is_given_and_the_rows_are_written(loopai_fake: FakeLoopai) -> None:
    """A filtered queryset, in whatever order: its rows and no others."""
    mails(30)
    loopai_fake.task("spam").returns({"label": "ham"})
    run = run_queryset(Mail.objects.exclude(subject="mail 7").order_by("-subject"), "spam", chunk_size=4, **MAPPED)
    assert (run.state, run.ok, run.errors, run.total, run.engine) == ("finished", 29, 0, 29, "inline")
    assert [mail.subject for mail in Mail.objects.filter(label="")] == ["mail 7"]
    assert BatchRun.objects.get() == run


def test_inputs_are_checked_where_that_is_wanted(loopai_fake: FakeLoopai) -> None:
    """By this run alone; an alias has `VALIDATE_INPUTS` for all."""
    pytest.importorskip("jsonschema_rs")
    task = loopai_fake.task("spam").takes({"required": ["text"]}).returns({"label": "ham"})
    mails(3)
    run = run_queryset(Mail.objects.all(), "spam", mapping=["body=subject"], save_to=["label"])
    assert (run.ok, run.errors) == (3, 0)
    options: Any = {"mapping": ["body=subject"], "save_to": ["label"], "validate_inputs": True}
    run = run_queryset(Mail.objects.all(), "spam", **options)
    assert (run.ok, run.errors) == (0, 3)
    assert task.call_count == 3


def test_any_queryset_can_be_run(loopai_fake: FakeLoopai) -> None:
    """Annotations, joins that repeat rows, prefetches, other managers, proxies, a name, converted keys."""
    category = Category.objects.create(name="work")
    mails(3, category=category)
    task = loopai_fake.task("spam")
    task.returns({"label": "ham"})
    annotated = Mail.objects.annotate(loud=Upper("subject"), number=Count("category")).select_related("category")
    run_queryset(annotated, "spam", mapping={"text": "loud", "n": "number"}, save_to=["label"])
    assert task.inputs[:3] == [{"text": f"MAIL {number}", "n": 1} for number in range(3)]
    joined = Category.objects.filter(mail__subject__startswith="mail").prefetch_related("mail_set")
    assert run_queryset(joined, "spam", mapping=["text=name"], save_to=["name=output.label"]).ok == 1
    Entry.objects.create(text="x", hidden=True)
    assert run_queryset(Entry.everything.all(), "spam", mapping=["text=text"], save_to=["title=output.label"]).ok == 1
    Prefixed.objects.create(text="x")
    assert run_queryset(Prefixed.objects.all(), "spam", mapping=["text=text"], save_to=["label"]).ok == 1
    assert run_queryset("inbox.Mail:unlabelled", "spam", **MAPPED).total == 0
    assert run_queryset(Mail.objects.none(), "spam", **MAPPED).state == "finished"


def test_failed_rows_that_a_join_gives_twice_run_again(loopai_fake: FakeLoopai) -> None:
    """All of them, each once."""
    messages = [Message.objects.create(text=str(number)) for number in range(4)]
    Mail.objects.bulk_create(Mail(subject="x", message=message) for message in messages for _ in range(3))
    joined = Message.objects.filter(mail__subject="x")
    given: dict[str, Any] = {"mapping": ["text=text"], "save_to": ["label=output"]}
    loopai_fake.task("spam").fails("boo")
    assert run_queryset(joined, "spam", **given).errors == 4
    loopai_fake.task("spam").returns("ham")
    run = run_queryset(joined, "spam", mode="retry_failed", **given)
    assert (run.ok, run.errors, run.skipped) == (4, 0, 0)
    assert set(Message.objects.values_list("label", flat=True)) == {"ham"}


def test_instances_are_always_a_new_run(loopai_fake: FakeLoopai) -> None:
    """A list or generator of them, once and again; what was not among them stays."""
    first, second, _ = mails(3)
    loopai_fake.task("spam").returns({"label": "ham"})
    runs = [run_queryset(given, "spam", **MAPPED) for given in ([first, second], iter([first, second]))]
    assert [run.ok for run in runs] == [2, 2]
    assert len({run.fingerprint for run in runs}) == 2
    assert [mail.label for mail in Mail.objects.order_by("pk")] == ["ham", "ham", ""]


def test_modes_are_those_of_the_command(loopai_fake: FakeLoopai) -> None:
    """The command resumes what code began, and the other way round; a finished run is given as it is."""
    mails(8)
    loopai_fake.task("spam").fails("no")
    with pytest.raises(BatchStopped) as stopped:
        run_queryset("inbox.Mail", "spam", max_errors=3, chunk_size=2, max_in_flight=1, **MAPPED)
    loopai_fake.task("spam").returns({"label": "ham"})
    words = ("--queryset", "inbox.Mail", "--map", "subject=subject", "--save-to", "label", "--retry-failed")
    call_command("loopai_batch", "spam", *words, "--progress", "none")
    again = run_queryset("inbox.Mail", "spam", mode="resume", **MAPPED)
    assert (again.pk, again.state, again.ok) == (stopped.value.run.pk, "finished", 8)
    assert loopai_fake.task("spam").call_count < 20
    assert run_queryset("inbox.Mail", "spam", mode="continue", **MAPPED).pk != again.pk


@pytest.mark.parametrize(
    ("queryset", "told"),
    [
        (lambda: Mail.objects.all()[:3], "sliced"),
        (lambda: Mail.objects.values("subject"), "gives values"),
        (lambda: Mail.objects.values_list("pk"), "gives values"),
        (lambda: Mail.objects.dates("changed_at", "day"), "gives values"),
        (lambda: Mail.objects.all().union(Mail.objects.all()), "combined"),
        (lambda: Mail.objects.order_by("subject").distinct("subject"), "distinct by fields"),
        (Mail.objects.select_for_update, "select_for_update"),
        (lambda: Mail.objects.raw("SELECT * FROM inbox_mail"), "raw query"),
        (list, "at least one"),
        (lambda: [Mail()], "not saved"),
        (lambda: [Mail(pk=1), Message(pk=1)], "one model"),
        (lambda: ["mail 1"], "one model"),
        (lambda: 5, "must be a QuerySet"),
        (lambda: Mail.objects, "must be a QuerySet"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(loopai_fake: FakeLoopai, queryset: Any, told: str) -> None:
    """Before anything is sent, and without a run."""
    with pytest.raises(ConfigurationError, match=told):
        run_queryset(queryset(), "spam", **MAPPED)
    assert loopai_fake.task("spam").call_count == BatchRun.objects.count() == 0


@pytest.mark.parametrize("options", [{"resume": True}, {"output": "x.jsonl"}, {"engine": "celery"}, {"key": "id"}])
def test_options_of_others_are_refused(loopai_fake: FakeLoopai, options: dict[str, Any]) -> None:
    """They are named, with what to pass instead."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        run_queryset(Mail.objects.all(), "spam", **MAPPED, **options)
    (one,) = mails(1)
    with pytest.raises(ConfigurationError, match="always a new run"):
        run_queryset([one], "spam", mode="resume", **MAPPED)


def test_a_composite_primary_key_is_refused(loopai_fake: FakeLoopai) -> None:
    """Rows are paged by one column."""
    kind = getattr(models, "CompositePrimaryKey", None)
    if kind is None:
        pytest.skip("this Django has none")
    body = {"__module__": "inbox.models", "pk": kind("a", "b"), "a": models.IntegerField(), "b": models.IntegerField()}
    pair = type("Pair", (models.Model,), body)
    try:
        with pytest.raises(ConfigurationError, match="CompositePrimaryKey"):
            run_queryset(pair._default_manager.all(), "spam", mapping=["text=a"], save_to=["b"])
    finally:
        del apps.all_models["inbox"]["pair"]
        apps.clear_cache()


def test_a_run_that_stops_is_an_exception_with_the_run(loopai_fake: FakeLoopai) -> None:
    """Too many errors, a server that is away, a call of `stop`: never an exit code."""
    mails(6)
    loopai_fake.task("spam").computes(lambda mail: (_ for _ in ()).throw(ProgramError("no")))
    with pytest.raises(BatchStopped, match="mode='resume'") as stopped:
        run_queryset(Mail.objects.all(), "spam", max_errors=2, chunk_size=1, max_in_flight=1, **MAPPED)
    run = stopped.value.run
    assert (run.state, run.errors, BatchFailure.objects.filter(run=run).count()) == ("stopped", 3, 3)
    assert isinstance(stopped.value, LoopaiException)
    assert pickle.loads(pickle.dumps(stopped.value)).run == run
    stop = Stop()
    stop()
    with pytest.raises(BatchStopped, match="interrupted"):
        run_queryset(Mail.objects.all(), "spam", mode="resume", stop=stop, **MAPPED)
    assert BatchRun.objects.get().state == "interrupted"


def test_the_servers_error_is_the_cause(loopai_fake: FakeLoopai) -> None:
    """What kept the run from starting is raised as it is."""
    mails(1)
    loopai_fake.unreachable()
    with pytest.raises(ConnectionException):
        run_queryset(Mail.objects.all(), "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60", **MAPPED)
    assert BatchRun.objects.count() == 0


def test_it_runs_within_a_transaction(loopai_fake: FakeLoopai) -> None:
    """As in a view under ATOMIC_REQUESTS: rolled back with it."""
    mails(3)
    loopai_fake.task("spam").returns({"label": "ham"})
    with transaction.atomic():
        assert run_queryset(Mail.objects.all(), "spam", **MAPPED).ok == 3
        transaction.set_rollback(True)
    assert Mail.objects.filter(label="ham").count() == BatchRun.objects.count() == 0


def test_the_database_is_the_one_that_is_written(loopai_fake: FakeLoopai, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.using()` before `database=` before the router's for writing; that for reading is never asked."""
    from loopai.contrib.django.batches import from_python

    asked: list[str] = []

    class Router:
        def db_for_read(self, model: Any, **hints: Any) -> str:
            return "replica"

        def db_for_write(self, model: Any, **hints: Any) -> str:
            asked.append(model.__name__)
            return "default"

    monkeypatch.setattr("django.db.router.routers", [Router()])
    rows_of = from_python._rows_of
    assert rows_of(Mail.objects.using("primary"), "other", "new")[2] == "primary"
    assert rows_of(Mail.objects.all(), "other", "new")[2] == "other"
    assert rows_of(Mail.objects.all(), None, "new")[2] == "default"
    assert rows_of("inbox.Mail", None, "new")[2] == "default"
    assert asked == ["Mail", "Mail"]
    with pytest.raises(ConfigurationError, match="DATABASES has no 'nowhere'"):
        run_queryset(Mail.objects.all(), "spam", database="nowhere", **MAPPED)


def test_from_async_code(loopai_fake: FakeLoopai) -> None:
    """The same, awaited."""
    mails(5)
    loopai_fake.task("spam").returns({"label": "ham"})
    run = async_to_sync(arun_queryset)(Mail.objects.all(), "spam", **MAPPED)
    assert (run.state, run.ok) == ("finished", 5)
    assert Mail.objects.filter(label="ham").count() == 5


def test_a_cancelled_caller_stops_its_run_and_waits(loopai_fake: FakeLoopai) -> None:
    """What was under way is written; no request follows; the run can be resumed."""
    mails(50)
    began, go_on = threading.Event(), threading.Event()

    def judge(_: Any) -> Any:
        began.set()
        assert go_on.wait(10)
        return {"label": "ham"}

    loopai_fake.task("spam").computes(judge)

    async def cancelled() -> bool:
        work = asyncio.ensure_future(arun_queryset(Mail.objects.all(), "spam", chunk_size=1, max_in_flight=1, **MAPPED))
        assert await asyncio.to_thread(began.wait, 10)
        work.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        await asyncio.wait([work])
        return work.cancelled()

    assert async_to_sync(cancelled)()
    run = BatchRun.objects.get()
    assert (run.state, run.lease_until) == ("interrupted", None)
    assert Mail.objects.filter(label="ham").count() == run.ok == loopai_fake.task("spam").call_count == 1
    loopai_fake.task("spam").returns({"label": "ham"})
    assert run_queryset(Mail.objects.all(), "spam", mode="resume", **MAPPED).ok == 50
