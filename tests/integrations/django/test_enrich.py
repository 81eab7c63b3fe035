"""`enrich` and `enqueue`: rows that run through a task when they are saved. One process, against a fake."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core import serializers
from django.core.checks import ERROR, run_checks
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from inbox.models import Category, Entry, Letter, Mail, Message, Note, Prefixed, Reminder, ShownEntry

from loopai.contrib.django import enqueue, enrich, enrich_action
from loopai.contrib.django.enrichment import carrying, declarations, outbox, saving
from loopai.contrib.django.enrichment.declarations import Declaration
from loopai.contrib.django.models import BatchRun, PendingRow
from loopai.exceptions import ConfigurationError
from loopai.testing import FakeLoopai, ProgramError

pytestmark = pytest.mark.django_db(transaction=True)

Declare = Callable[..., Declaration]


def pending(*words: Any, **options: Any) -> tuple[int, str]:
    """What `loopai_batch --pending` ends with, and says."""
    said = io.StringIO()
    try:
        call_command("loopai_batch", "--pending", *words, stderr=said, stdout=said, **options)
    except CommandError as error:
        return error.returncode, f"{said.getvalue()}{error}"
    return 0, said.getvalue()


def left() -> list[tuple[str, str, int]]:
    return list(PendingRow.objects.order_by("key").values_list("key", "state", "revision"))


def undone() -> None:
    """Save a row in a transaction, or savepoint, that is rolled back."""
    with transaction.atomic():
        Mail.objects.create(subject="undone")
        transaction.set_rollback(True)


# A save


def test_a_saved_row_runs_after_the_commit(declare: Declare, spam: Any) -> None:
    """Inline: the row, the instance and the outbox are as one expects once the save returns, without a `BatchRun`."""
    declare()
    mail = Mail.objects.create(subject="hello")
    assert (mail.label, Mail.objects.get().label, spam.inputs) == ("ham", "ham", [{"subject": "hello"}])
    assert (left(), BatchRun.objects.count()) == ([], 0)
    mail.subject = "again"
    mail.save()
    assert (spam.call_count, Mail.objects.get().label) == (1, "ham")


def test_the_entry_is_part_of_the_savers_transaction(declare: Declare, spam: Any) -> None:
    """Rolled back with it, by savepoint too; nothing is sent before the commit, and all of it in one request."""
    declare()
    with transaction.atomic():
        Mail.objects.create(subject="first")
        undone()
        Mail.objects.create(subject="second")
        assert (len(left()), spam.call_count) == (2, 0)
    assert sorted(given["subject"] for given in spam.inputs) == ["first", "second"]
    undone()
    assert (left(), spam.call_count) == ([], 2)


def test_the_first_savepoint_may_be_undone(declare: Declare, spam: Any) -> None:
    """Its callback goes, and the others' work is still done."""
    declare()
    with transaction.atomic():
        undone()
        Mail.objects.create(subject="kept")
    assert [given["subject"] for given in spam.inputs] == ["kept"]


@pytest.mark.parametrize(
    ("save", "calls"),
    [
        (lambda mail: mail.save(update_fields=["score"]), 0),
        (lambda mail: mail.save(update_fields=["subject"]), 1),
        (lambda mail: mail.save(update_fields=["subject", "score"]), 1),
        (lambda mail: mail.save(), 1),  # as the others
        (lambda mail: setattr(mail, "label", "spam") or mail.save(), 0),
        (lambda mail: Mail.objects.filter(pk=mail.pk).update(subject="x"), 0),
        (lambda mail: Mail.objects.only("pk", "subject").get(pk=mail.pk).save(), 1),
        (lambda mail: next(serializers.deserialize("json", serializers.serialize("json", [mail]))).save(), 0),
    ],
)  # fmt: skip
def test_which_saves_are_worth_a_run(declare: Declare, spam: Any, save: Any, calls: int) -> None:
    """Those that may have changed what is mapped, of rows whose targets are empty."""
    (mail,) = Mail.objects.bulk_create([Mail(subject="hello")])
    declare()
    save(mail)
    assert spam.call_count == calls
    assert left() == []


def test_a_function_whose_query_fails_takes_nothing_along(declare: Declare, spam: Any, caplog: Any) -> None:
    """The saver's transaction is as it was, and functions that ask nothing cost no savepoint."""

    def asks(instance: Any, created: bool) -> bool:
        if instance.subject == "twice":
            Mail.objects.create(code="one", label="ham")
        elif instance.subject == "nonsense":
            with connection.cursor() as cursor:
                cursor.execute("SELECT * FROM no_such_table")
        return instance.subject == "none" or Mail.objects.filter(subject="first").exists()

    declare(when=asks, save_to=["score=output.score"])
    with transaction.atomic():
        Mail.objects.create(subject="first", code="one", label="ham")
        Mail.objects.create(subject="nonsense", label="ham")
        Mail.objects.create(subject="twice", label="ham")
        Mail.objects.create(subject="last", label="ham")
        with CaptureQueriesContext(connection) as asked:
            Mail.objects.create(subject="none")
    assert len([1 for query in asked if query["sql"].startswith("SAVEPOINT")]) == 1
    assert caplog.text.count("`when` failed") == 2
    done = Mail.objects.exclude(score=None).order_by("pk").values_list("subject", flat=True)
    assert list(done) == ["first", "last", "none"]
    assert Mail.objects.count() == 5


def test_always_and_functions(declare: Declare, spam: Any) -> None:
    """Whatever the targets hold; and what a function says of instance and `created`. One that fails is logged."""
    declare(when="always", name="always")
    mail = Mail.objects.create(subject="hello", label="spam")
    mail.save()
    assert (spam.call_count, Mail.objects.get().label) == (2, "ham")
    asked: list[Any] = []
    declare(when=lambda one, created: asked.append((one.pk, created)) or 1 / 0, name="fails", save_to=["score"])
    other = Mail.objects.create(subject="other")
    assert (asked, spam.call_count, other.score) == ([(other.pk, True)], 3, None)


def test_proxies_and_children_are_covered(declare: Declare, loopai_fake: FakeLoopai) -> None:
    """A proxy's save is one of its model, as is one of a model that inherits its table."""
    loopai_fake.task("spam").returns("y")
    declare(Entry, mapping=["t=text"], save_to=["rank=output"], name="entries", when="always")
    loopai_fake.task("spam").returns(5)
    ShownEntry.objects.create(text="a")
    assert Entry.everything.get().rank == 5
    loopai_fake.task("notes").returns("out")
    declare(Note, "notes", mapping=["t=slug"], save_to=["text=output"])
    Reminder.objects.create(slug="s")
    assert Reminder.objects.get().text == "out"
    declare(Letter, "notes", mapping=["t=id"], save_to=["text=output"], name="letters")
    letter = Letter.objects.create()
    assert (letter.text, Letter.objects.get().text) == ("out", "out")


def test_a_row_is_read_as_its_fields_have_it(declare: Declare, loopai_fake: FakeLoopai) -> None:
    """A field may convert its key, and mapped values may come from a relation or from JSON; on every save."""
    task = loopai_fake.task("spam")
    task.returns("y")
    declare(Prefixed, mapping=["id=id", "text=text"], save_to=["label=output"], name="prefixed")
    rows = [Prefixed.objects.create(text=text) for text in "ab"]
    assert task.inputs == [{"id": row.pk, "text": row.text} for row in rows]
    assert [row.pk.partition("_")[0] for row in rows] == ["entry", "entry"]
    assert [row.label for row in Prefixed.objects.all()] == ["y", "y"]
    message = Message.objects.create(text="hello")
    declare(mapping=["text=message.text", "n=facts.n"], save_to=["label=output"])
    for number in (1, 2):
        Mail.objects.create(subject="x", message=message, facts={"n": number})
    assert task.inputs[2:] == [{"text": "hello", "n": 1}, {"text": "hello", "n": 2}]


def test_the_instance_keeps_what_was_set_meanwhile(declare: Declare, spam: Any) -> None:
    """Within a transaction it is another value by the commit; that one stays."""
    declare(save_to=["label=output.label", "score=output.score"])
    with transaction.atomic():
        mail = Mail.objects.create(subject="hello")
        mail.score = 99
    assert (mail.label, mail.score) == ("ham", 99)
    assert Mail.objects.get().score == 7


def test_autocommit_off_is_no_error(declare: Declare, spam: Any) -> None:
    """Nobody says when the commit is: the entry waits for the command."""
    declare()
    transaction.set_autocommit(False)
    try:
        Mail.objects.create(subject="hello")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert (spam.call_count, len(left())) == (0, 1)
    assert pending()[0] == 0
    assert (Mail.objects.get().label, left()) == ("ham", [])


def test_enqueue_with_autocommit_off_is_no_error(declare: Declare, spam: Any) -> None:
    """Whoever would be told hears nothing, and the entry waits for the command."""
    pytest.importorskip("loopai.contrib.celery.tasks")
    declare(engine="celery")
    Mail.objects.bulk_create([Mail(subject="hello")])
    transaction.set_autocommit(False)
    try:
        assert enqueue(Mail.objects.all(), "spam:label") == 1
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert pending()[0] == 0
    assert (Mail.objects.get().label, left()) == ("ham", [])


class Vector(list[int]):
    """What compares as an array does: not as a whole."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # as lists


def test_a_target_may_hold_what_does_not_compare(declare: Declare, spam: Any) -> None:
    """An array is not empty, and its save raises nothing."""
    declare(save_to=["verdict=output"])
    Mail.objects.create(subject="x", verdict=Vector([1]))
    assert (spam.call_count, left()) == (0, [])


def test_a_missing_table_is_no_error_of_a_save(declare: Declare, spam: Any, caplog: Any) -> None:
    """The row is saved, within a transaction too, and the log says what is missing."""
    declare()
    with connection.schema_editor() as editor:
        editor.delete_model(PendingRow)
    try:
        with transaction.atomic():
            Mail.objects.create(subject="hello")
        assert Mail.objects.count() == 1
    finally:
        with connection.schema_editor() as editor:
            editor.create_model(PendingRow)
    assert "saved without its entry" in caplog.text


def test_what_a_save_costs_the_database(declare: Declare, spam: Any) -> None:
    """Without a transaction the saver takes its entry as it puts it in: no statement and no commit more for that."""
    declare()
    Mail.objects.create(subject="the task is looked up")
    with CaptureQueriesContext(connection) as asked:
        Mail.objects.create(subject="x")
    verbs = [query["sql"].split()[0] for query in asked if query["sql"].split()[0] not in {"BEGIN", "COMMIT", "START"}]
    taking = [] if outbox.can_take_at_once("default") else ["UPDATE", "SELECT"]
    # SQLite refuses to write after a read, where another process wrote in between.
    first = ["UPDATE"] if connection.vendor == "sqlite" else []
    assert verbs == ["INSERT", "INSERT", *taking, "SELECT", *first, "SELECT", "UPDATE", "DELETE"]
    assert (spam.call_count, left()) == (2, [])


def test_an_entry_that_was_taken_at_once_is_anothers_once_the_row_is_saved_again(declare: Declare, spam: Any) -> None:
    """While the request is under way it is leased; a save from elsewhere takes it, and its result is what stays."""
    declare(when="always")
    Mail.objects.create(subject="the task is looked up")
    leases: list[Any] = []

    def save_again() -> None:
        leases.extend(PendingRow.objects.values_list("revision", "lease_until"))
        spam.returns({"label": "spam"})
        changed = Mail.objects.get(subject="old")
        changed.subject = "new"
        changed.save()

    meanwhile(spam, save_again)
    mail = Mail.objects.create(subject="old")
    ((revision, lease_until),) = leases
    assert (revision, lease_until > timezone.now()) == (1, True)
    assert [given["subject"] for given in spam.inputs][1:] == ["old", "new"]
    assert (Mail.objects.get(pk=mail.pk).label, mail.label, left()) == ("spam", "", [])


def test_entries_taken_at_once_are_given_back_where_they_cannot_be_carried_out(declare: Declare, spam: Any) -> None:
    """Whatever it is: a worker need not wait for the lease."""
    one = declare()
    Mail.objects.create(subject="the task is looked up")
    saving._inline.work = lambda *_: None  # as if the process were killed
    Mail.objects.create(subject="killed")
    assert [entry.owner != "" for entry in PendingRow.objects.all()] == [True]
    assert (pending()[0], len(left())) == (0, 1)
    del saving._inline.work  # the class's own again
    object.__setattr__(one, "within", 0.0)
    Mail.objects.create(subject="no time")
    assert [entry.owner != "" for entry in PendingRow.objects.order_by("created_at")] == [True, False]
    assert (pending()[0], len(left())) == (0, 1)


# What is refused


def test_what_cannot_be_declared_is_refused() -> None:
    """At once, in words."""

    class Meta:
        app_label, abstract = "inbox", True

    abstract = type("Abstract", (models.Model,), {"__module__": "inbox.models", "Meta": Meta})
    given: dict[str, Any] = {"mapping": ["text=subject"], "save_to": ["label"]}
    for model, changed, told in (
        (abstract, {}, "abstract"),
        (Mail, {"when": "never"}, "when must be"),
        (Mail, {"engine": "threads"}, "engine must be"),
        (Mail, {"mapping": []}, "needs a mapping"),
        (Mail, {"save_to": []}, "needs save_to"),
        (Mail, {"mapping": ["text=body"]}, "no field 'body'"),
        (Mail, {"save_to": ["lable"]}, "no field 'lable'"),
        (Mail, {"name": "n" * 101}, "too long"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            enrich(model, "spam", **{**given, **changed})
    assert declarations.declared() == []


def test_the_same_twice_is_one_and_another_is_refused(declare: Declare, spam: Any) -> None:
    """As where `ready` is called twice."""
    assert declare() is declare(mapping={"subject": "subject"})
    assert len(declarations.declared()) == 1
    Mail.objects.create(subject="hello")
    assert spam.call_count == 1
    with pytest.raises(ConfigurationError, match="declared twice"):
        declare(when="always")


def test_checks_see_targets_and_circles(declare: Declare) -> None:
    """Two that write one target; and two that wait for each other."""
    declare()
    declare(Mail, "other", name="other")
    assert [message.id for message in run_checks(tags=["loopai"]) if message.level >= ERROR] == ["loopai.E006"]
    declare(Entry, "a", mapping=["t=title"], save_to=["rank=output"], name="a")
    declare(Entry, "b", mapping=["r=rank"], save_to=["title=output"], name="b", when="always")
    found = [message.id for message in run_checks(tags=["loopai"]) if message.level >= ERROR]
    assert found == ["loopai.E006", "loopai.E007", "loopai.E007"]
    Entry.objects.create(text="x")  # nothing hangs


def test_one_that_maps_anothers_target_runs_after_it(declare: Declare, loopai_fake: FakeLoopai) -> None:
    """In one commit, and for rows that were filled later."""
    declare(Mail, "second", mapping=["label=label"], save_to=["score=output"], name="second")
    declare(Mail, "first", mapping=["s=subject"], save_to=["label=output"], name="first")
    loopai_fake.task("first").returns("ham")
    loopai_fake.task("second").computes(lambda given: {"ham": 1, "": 2}[given["label"]])
    mail = Mail.objects.create(subject="x")
    assert (mail.label, Mail.objects.get().score) == ("ham", 1)
    Mail.objects.bulk_create([Mail(subject="y")])
    assert enqueue(Mail.objects.all(), "first") == 1
    assert pending()[0] == 0
    assert list(Mail.objects.values_list("label", "score")) == [("ham", 1)] * 2


def test_one_that_maps_what_the_parents_declaration_writes_runs_after_it(
    declare: Declare, loopai_fake: FakeLoopai
) -> None:
    """Of a model that inherits its table, which has the same key; the parent's other rows have no such work."""
    declare(Reminder, "dates", mapping=["text=text"], save_to=["due=output"], name="child")
    declare(Note, "notes", mapping=["t=slug"], save_to=["text=output"], name="parent")
    loopai_fake.task("notes").returns("2026-01-02")
    loopai_fake.task("dates").computes(lambda given: {"2026-01-02": "2026-01-03"}[given["text"]])
    Note.objects.create(slug="a")
    assert left() == []
    reminder = Reminder.objects.create(slug="b")
    assert (reminder.text, str(reminder.due)) == ("2026-01-02", "2026-01-03")
    Reminder.objects.update(due=None)
    Note.objects.update(text="")
    assert enqueue(Note.objects.all(), "parent") == 2
    assert pending()[0] == 0
    assert (str(Reminder.objects.get().due), left()) == ("2026-01-03", [])


# Meanwhile


def meanwhile(task: Any, change: Callable[[], Any]) -> None:
    """Have the first request do that in another connection before it is answered."""
    done: list[bool] = []

    def judge(_: Any) -> Any:
        if not done:
            done.append(True)
            change()
            connection.close()
        return {"label": "ham"}

    task.computes(judge)


def test_a_row_saved_meanwhile_is_not_overwritten(declare: Declare, spam: Any) -> None:
    """What was made of the old row is dropped; the entry stays, with a higher revision, and runs again."""
    declare(when="always", engine=None)
    mail = Mail.objects.create(subject="old")
    meanwhile(spam, lambda: Mail.objects.get(pk=mail.pk).save())
    assert pending()[0] == 0
    assert spam.call_count == 2
    assert left() == []
    Mail.objects.update(label="")
    Mail.objects.get().save()

    def take_over() -> None:
        PendingRow.objects.update(owner="another", lease_until=timezone.now() + timedelta(hours=1))

    meanwhile(spam, take_over)
    pending()
    assert (Mail.objects.get().label, len(left())) == ("", 1)


def test_what_was_filled_or_deleted_meanwhile_stays_so(declare: Declare, spam: Any) -> None:
    """With `empty`: a target that was filled is left alone. A deleted row's entry goes."""
    declare(engine=None)
    Mail.objects.create(subject="filled")
    meanwhile(spam, lambda: Mail.objects.update(label="mine"))
    assert pending()[0] == 0
    assert (Mail.objects.get().label, left()) == ("mine", [])
    Mail.objects.create(subject="deleted")
    meanwhile(spam, lambda: Mail.objects.filter(subject="deleted").delete())
    assert pending()[0] == 0
    assert (Mail.objects.count(), left()) == (1, [])
    gone = Mail.objects.create(subject="gone before")
    gone.delete()
    assert pending()[0] == 0
    assert left() == []


def test_entries_of_one_that_was_killed_are_taken_up(declare: Declare, spam: Any) -> None:
    """Not before its lease is out."""
    declare(engine=None)
    Mail.objects.create(subject="x")
    PendingRow.objects.update(owner="killed", lease_until=timezone.now() + timedelta(seconds=30))
    assert pending()[0] == 0
    assert spam.call_count == 0
    PendingRow.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert pending()[0] == 0
    assert (Mail.objects.get().label, left()) == ("ham", [])


# What fails


def test_a_rows_own_failure_is_kept(declare: Declare, spam: Any) -> None:
    """With code and text, by program and by field; a save, another version or a person take it up again."""
    declare(engine=None)
    spam.computes(
        lambda given: {"no": lambda: (_ for _ in ()).throw(ProgramError("boo"))}.get(
            given["subject"], lambda: {"label": "far too long"}
        )()
    )
    no, long = Mail.objects.create(subject="no"), Mail.objects.create(subject="long")
    code, told = pending()
    assert (code, "2 failed" in told) == (1, True)
    failed = {entry.key: (entry.code, entry.message) for entry in PendingRow.objects.filter(state="failed")}
    assert failed[str(no.pk)] == ("program", "boo")
    assert failed[str(long.pk)][0] == "unfit"
    calls = spam.call_count
    assert (pending()[0], spam.call_count) == (0, calls)
    spam.returns({"label": "ham"})
    no.save()
    assert (pending()[0], spam.call_count) == (0, calls + 1)
    assert (pending("--retry-failed")[0], spam.call_count) == (0, calls + 2)
    assert (left(), set(Mail.objects.values_list("label", flat=True))) == ([], {"ham"})


def test_another_version_of_the_program_takes_up_what_failed(declare: Declare, spam: Any) -> None:
    """And the same one does not."""
    declare(engine=None)
    Mail.objects.create(subject="x")
    spam.fails("boo")
    assert pending()[0] == 1
    spam.returns({"label": "ham"})
    assert (pending()[0], len(left())) == (0, 1)
    PendingRow.objects.update(version=99)
    assert (pending()[0], left()) == (0, [])


def test_what_failed_goes_with_its_row(declare: Declare, spam: Any, loopai_fake: FakeLoopai) -> None:
    """Whatever its key is; what is there stays."""
    declare(engine=None)
    declare(Letter, "spam", mapping=["subject=id"], save_to=["text=output.label"], name="letters", engine=None)
    mails, letters = ([model.objects.create() for _ in range(2)] for model in (Mail, Letter))
    spam.fails("boo")
    assert pending()[0] == 1
    mails[0].delete()
    letters[0].delete()
    assert pending()[0] == 0
    assert {entry.key for entry in PendingRow.objects.all()} == {str(mails[1].pk), letters[1].pk.hex}


def test_an_empty_result_is_done(declare: Declare, spam: Any) -> None:
    """Null or an empty text: written, and not asked for again."""
    declare(save_to=["label=output.label", "score=output.score"])
    spam.returns({"label": "", "score": None})
    Mail.objects.create(subject="x")
    assert (spam.call_count, left()) == (1, [])


def test_a_server_that_is_away_is_tried_later_and_less_and_less(declare: Declare, spam: Any, loopai_fake: Any) -> None:
    """After 1, 5, 15 and 60 minutes, then hourly; the text says why; a save makes it due at once."""
    declare(engine=None)
    mail = Mail.objects.create(subject="x")
    pending()
    mail.label = ""
    mail.save()
    loopai_fake.unreachable()
    waits = []
    for _ in range(6):
        now = timezone.now()
        PendingRow.objects.update(due_at=now)
        assert pending()[0] == 4
        entry = PendingRow.objects.get()
        waits.append(round((entry.due_at - now).total_seconds() / 60))
        assert (entry.state, entry.owner, bool(entry.message)) == ("pending", "", True)
    assert waits == [1, 5, 15, 60, 60, 60]
    mail.save()
    assert PendingRow.objects.get().tries == 0


# enqueue and the command


@pytest.fixture
def no_such_task(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    """A declaration `nosuch`, before that of spam, of a task that the server does not have."""

    def find(client: Any, task: str) -> Any:
        if task == "nosuch":
            raise ConfigurationError("the server has no task 'nosuch'")
        return found(client, task)

    found = carrying.find_task
    monkeypatch.setattr(carrying, "find_task", find)
    declare(task="nosuch", save_to=["score=output.score"], name="nosuch")
    declare()


@pytest.mark.usefixtures("no_such_task")
def test_a_task_that_is_not_there_keeps_no_others_from_running(spam: Any) -> None:
    """Its rows wait as for a server that is away, and the command says why."""
    Mail.objects.bulk_create([Mail(subject="x")])
    assert enqueue(Mail.objects.all(), "nosuch") == enqueue(Mail.objects.all(), "spam:label") == 1
    code, told = pending()
    assert (code, "1 row done, 0 failed, 1 left for later: the server has no task 'nosuch'" in told) == (2, True)
    entry = PendingRow.objects.get()
    assert (entry.declaration, entry.state, entry.tries, "no task" in entry.message) == ("nosuch", "pending", 1, True)
    assert (pending()[0], Mail.objects.get().label) == (0, "ham")


@pytest.mark.usefixtures("no_such_task", "mail_admin")
def test_an_action_says_that_a_task_is_not_there(spam: Any, admin_client: Any) -> None:
    """In its message, not as a fault of the site."""
    admin.site._registry[Mail].actions = [enrich_action("nosuch")]  # the fixture's end removes it
    (mail,) = Mail.objects.bulk_create([Mail(subject="x")])
    given = {"action": "loopai_enrich_nosuch", "_selected_action": [mail.pk]}
    answer = admin_client.post("/admin/inbox/mail/", given, follow=True)
    told = [str(message).partition(" <a")[0] for message in answer.context["messages"]]
    assert told == ["nosuch: 1 row: 1 queued. the server has no task &#x27;nosuch&#x27;"]


def test_enqueue_fills_a_column_for_the_first_time(declare: Declare, spam: Any) -> None:
    """One statement for all rows whose targets are empty, of whatever key; again is no error, and raises revisions."""
    declare()
    Mail.objects.bulk_create(Mail(subject=f"mail {number}") for number in range(250))
    Mail.objects.filter(subject="mail 7").update(label="spam")
    assert enqueue(Mail.objects.all(), "spam:label") == 249
    assert enqueue(Mail.objects.exclude(subject="mail 3"), "spam:label") == 248
    assert {revision for _, _, revision in left()} == {1, 2}
    assert spam.call_count == 0
    code, told = pending("spam:label")
    assert (code, "249 rows done" in told, spam.call_count, left()) == (0, True, 249, [])
    assert Mail.objects.filter(label="ham").count() == 249


def test_enqueue_knows_every_kind_of_key(declare: Declare, loopai_fake: FakeLoopai) -> None:
    """An entry of enqueue and one of a save are the same."""
    loopai_fake.task("notes").returns("out")
    declare(Letter, "notes", mapping=["t=id"], save_to=["text=output"], name="letters", engine=None)
    declare(Note, "notes", mapping=["t=slug"], save_to=["text=output"], name="notes", engine=None)
    Letter.objects.create()
    Note.objects.create(slug="Ä b")
    assert enqueue(Letter.objects.all(), "letters") == enqueue(Note.objects.all(), "notes") == 1
    assert [revision for _, _, revision in left()] == [2, 2]
    assert pending()[0] == 0
    assert (Letter.objects.get().text, Note.objects.get().text, left()) == ("out", "out", [])


def test_enqueue_refuses_what_it_cannot_do(declare: Declare) -> None:
    """In words."""
    declare()
    for queryset, name, told in (
        (Mail.objects.all()[:3], "spam:label", "sliced"),
        (Mail.objects.values("pk"), "spam:label", "gives values"),
        (Category.objects.all(), "spam:label", "declared for inbox.Mail"),
        (Mail.objects.all(), "ham", "no declaration 'ham'"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            enqueue(queryset, name)


def test_the_command_refuses_what_declarations_say(declare: Declare, spam: Any) -> None:
    """And speaks JSON where it is to."""
    declare(engine=None)
    assert pending("nothing") == (2, "enrich has no declaration 'nothing' (declared: spam:label)")
    assert pending("--map", "a=b")[0] == 2
    with pytest.raises(CommandError, match="name a task"):
        call_command("loopai_batch")
    with pytest.raises(CommandError, match="--watch needs --pending"):
        call_command("loopai_batch", "spam", "--watch")
    Mail.objects.create(subject="x")
    code, told = pending("--json")
    assert (code, json.loads(told)["summary"]["done"]) == (0, 1)


def test_it_works_in_a_test_case(declare: Declare, spam: Any) -> None:
    """`captureOnCommitCallbacks(execute=True)` does what a commit would, once and again."""
    declare()
    for _ in range(2):
        with transaction.atomic():
            with TestCase.captureOnCommitCallbacks(execute=True):
                Mail.objects.create(subject="x")
            assert Mail.objects.get().label == "ham"
            with TestCase.captureOnCommitCallbacks(execute=True):
                other = Mail.objects.create(subject="y")
            assert other.label == "ham"
            transaction.set_rollback(True)
    assert spam.call_count == 4


# Time


def test_inline_work_ends_in_time(declare: Declare, spam: Any) -> None:
    """A server that hangs costs a saver the time that it may cost; the entry waits; after two the process leaves it."""
    declare(within=0.2)
    held = threading.Event()
    spam.computes(lambda _: held.wait(20) and {"label": "ham"})
    try:
        for number in range(4):
            Mail.objects.create(subject=str(number))
        assert (spam.call_count, len(left())) == (2, 4)
        assert all(entry.owner == "" for entry in PendingRow.objects.all())
    finally:
        held.set()
    spam.returns({"label": "ham"})
    assert pending()[0] == 0
    assert (set(Mail.objects.values_list("label", flat=True)), left()) == ({"ham"}, [])


def test_asave_and_acreate(declare: Declare, spam: Any) -> None:
    """From async code."""
    declare()

    async def saved() -> Mail:
        mail = await Mail.objects.acreate(subject="x")
        assert mail.label == "ham"
        mail.label = ""
        await mail.asave()
        return mail

    assert async_to_sync(saved)().label == "ham"
    assert (spam.call_count, Mail.objects.get().label, left()) == (2, "ham", [])


def test_at_most_a_hundred_rows_of_a_commit_are_inline(declare: Declare, spam: Any) -> None:
    """The others are left."""
    declare()
    with transaction.atomic():
        for number in range(120):
            Mail.objects.create(subject=str(number))
    assert (spam.call_count, len(left())) == (100, 20)
    assert outbox.AT_ONCE == saving.MOST_INLINE


@pytest.mark.parametrize("fault", ["rate_limits", "unreachable", "times_out"])
def test_inline_work_waits_for_nothing(declare: Declare, spam: Any, fault: str) -> None:
    """Rate limited or away: one request, and the row waits with the reason, or as long as the server says."""
    declare(within=20)
    Mail.objects.create(subject="looked up")
    getattr(spam, fault)()
    began = timezone.now()
    assert Mail.objects.create(subject="x").label == ""
    entry = PendingRow.objects.get()
    assert (entry.owner, entry.state, entry.tries) == ("", "pending", int(fault != "rate_limits"))
    assert entry.due_at > began
    assert (timezone.now() - began).total_seconds() < 10
    spam.recovers()
    PendingRow.objects.update(due_at=timezone.now())
    assert (pending()[0], left()) == (0, [])


def test_a_first_execution_is_never_inline(declare: Declare, loopai_fake: FakeLoopai) -> None:
    """It makes the program, which takes as long as it takes; a version that is named is there."""
    task = loopai_fake.task("spam")
    declare()
    Mail.objects.create(subject="x")
    assert (task.call_count, len(left())) == (0, 1)
    task.returns({"label": "ham"})
    Mail.objects.create(subject="y")
    assert (task.call_count, len(left())) == (1, 1)


def test_a_request_that_one_row_fails_is_split_in_the_end(declare: Declare, spam: Any, loopai_fake: FakeLoopai) -> None:
    """After some attempts: that row is a failed one, and the others are done."""
    declare(engine=None)
    for subject in ("good", "bad", "fine"):
        Mail.objects.create(subject=subject)

    def judge(given: Any) -> Any:
        if given["subject"] == "bad":
            raise ProgramError("boo")
        return {"label": "ham"}

    spam.computes(judge)
    loopai_fake.operation("batch_execute").raises(502, times=4)
    for _ in range(3):
        assert pending()[0] == 4
        PendingRow.objects.update(due_at=timezone.now())
    assert set(PendingRow.objects.values_list("tries", flat=True)) == {3}
    assert pending()[0] == 1
    assert [(entry.code, entry.message) for entry in PendingRow.objects.all()] == [("program", "boo")]


def test_celery_is_told_that_there_is_work(declare: Declare, spam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message a commit, without rows; a broker that is away does not hurt the save."""
    tasks = pytest.importorskip("loopai.contrib.celery.tasks")
    declare(engine="celery")
    sent: list[Any] = []
    monkeypatch.setattr(tasks.carry_out_pending, "delay", sent.append)
    with transaction.atomic():
        Mail.objects.create(subject="x")
        Mail.objects.create(subject="y")
        assert sent == []
    assert sent == ["default"]
    tasks.carry_out_pending("default")
    assert (left(), set(Mail.objects.values_list("label", flat=True))) == ([], {"ham"})
    Mail.objects.bulk_create([Mail(subject="z")])
    assert enqueue(Mail.objects.all(), "spam:label") == 1
    assert sent == ["default"] * 2

    def away(_: str) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(tasks.carry_out_pending, "delay", away)
    Mail.objects.create(subject="w")
    assert len(left()) == 2


def test_the_tasks_of_django_are_told(declare: Declare, spam: Any) -> None:
    """With its immediate backend the work is done at once."""
    pytest.importorskip("django.tasks", reason="Django 6 has them")
    declare(engine="tasks")
    mail = Mail.objects.create(subject="x")
    mail.refresh_from_db()
    assert (mail.label, left()) == ("ham", [])


def test_the_admin_shows_what_failed_and_runs_it_again(declare: Declare, spam: Any, admin_client: Any) -> None:
    """With its text; whoever may change entries may have them run, and nobody edits them."""
    declare(engine=None)
    Mail.objects.create(subject="x")
    spam.fails("<b>boo</b>")
    assert pending()[0] == 1
    url = "/admin/loopai/pendingrow/"
    assert "&lt;b&gt;boo&lt;/b&gt;" in admin_client.get(url).content.decode()
    entry = PendingRow.objects.get()
    assert admin_client.get(f"{url}{entry.pk}/change/").status_code == 200
    assert admin_client.get(f"{url}add/").status_code == 403
    answer = admin_client.post(url, {"action": "retry", "_selected_action": [entry.pk]}, follow=True)
    assert [str(message) for message in answer.context["messages"]] == ["1 row is due again."]
    spam.returns({"label": "ham"})
    assert (pending()[0], left()) == (0, [])


def test_rows_locked_by_another_transaction_are_left_to_it(declare: Declare, spam: Any) -> None:
    """No save waits for us in a circle: the entry is tried again a second later."""
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("this database locks as a whole")
    declare(engine=None)
    mail = Mail.objects.create(subject="x")
    locked, go_on = threading.Event(), threading.Event()

    def lock() -> None:
        with transaction.atomic():
            Mail.objects.select_for_update().get(pk=mail.pk)
            locked.set()
            go_on.wait(20)
        connection.close()

    thread = threading.Thread(target=lock)
    thread.start()
    try:
        assert locked.wait(10)
        assert pending()[0] == 0
        entry = PendingRow.objects.get()
        assert (entry.owner, Mail.objects.get().label, entry.due_at > timezone.now() - timedelta(seconds=5)) == (
            "",
            "",
            True,
        )
    finally:
        go_on.set()
        thread.join()
    PendingRow.objects.update(due_at=timezone.now())
    assert (pending()[0], Mail.objects.get().label) == (0, "ham")


def _act(client: Any, mails: list[Mail], **more: Any) -> list[str]:
    """The messages after the action on the changelist of mails."""
    given = {"action": "loopai_enrich_spam_label", "_selected_action": [mail.pk for mail in mails], **more}
    answer = client.post("/admin/inbox/mail/", given, follow=True)
    return [re.sub("<.*", "", str(message)).strip() for message in answer.context["messages"]]


@pytest.mark.usefixtures("mail_admin")
def test_an_action_of_the_admin_runs_ticked_rows(declare: Declare, spam: Any, admin_client: Any) -> None:
    """Inline at once, and says what came of them; rows without work are said to have none; a link to the entries."""
    declare()
    mails = Mail.objects.bulk_create(Mail(subject=str(number)) for number in range(3))
    assert _act(admin_client, mails[:2]) == ["spam:label: 2 rows: 2 done."]
    assert list(Mail.objects.order_by("pk").values_list("label", flat=True)) == ["ham", "ham", ""]
    assert _act(admin_client, mails[:2]) == ["spam:label: none of these rows has work to do."]
    spam.fails("boo")
    assert _act(admin_client, mails) == ["spam:label: 1 row: 1 failed."]
    answer = admin_client.get("/admin/loopai/pendingrow/", {"declaration__exact": "spam:label"})
    assert "boo" in answer.content.decode()


@pytest.mark.usefixtures("mail_admin")
def test_an_action_takes_all_that_is_shown(declare: Declare, spam: Any, admin_client: Any) -> None:
    """Without a name on any command line: search and filter hold, and many rows are queued."""
    declare()
    mails = Mail.objects.bulk_create(Mail(subject=str(number), score=number % 2) for number in range(410))
    given = {"action": "loopai_enrich_spam_label", "_selected_action": [mails[0].pk], "select_across": "1"}
    answer = admin_client.post("/admin/inbox/mail/?score=0", given, follow=True)
    assert [str(message).partition(".")[0] for message in answer.context["messages"]] == [
        "spam:label: 205 rows: 205 queued"
    ]
    assert (spam.call_count, len(left())) == (0, 205)


@pytest.mark.usefixtures("mail_admin")
def test_an_action_looks_for_work_among_all_that_is_shown(declare: Declare, spam: Any, admin_client: Any) -> None:
    """At once, however many rows have none."""
    declare()
    mails = Mail.objects.bulk_create(Mail(subject=str(number), label="spam") for number in range(400))
    Mail.objects.bulk_create([Mail(subject="x"), Mail(subject="y")])
    given = {"action": "loopai_enrich_spam_label", "_selected_action": [mails[0].pk], "select_across": "1"}
    with CaptureQueriesContext(connection) as asked:
        answer = admin_client.post("/admin/inbox/mail/", given)
    assert answer.status_code == 302
    assert len([1 for query in asked if query["sql"].startswith("UPDATE") and "lease_until" in query["sql"]]) == 1
    assert (spam.call_count, left(), Mail.objects.filter(label="ham").count()) == (2, [], 2)


@pytest.mark.usefixtures("mail_admin")
def test_an_action_needs_the_change_permission(declare: Declare, spam: Any, client: Any) -> None:
    """Who may only look has no such action."""
    declare()
    (mail,) = Mail.objects.bulk_create([Mail(subject="x")])
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_mail"))
    client.force_login(user)
    client.post("/admin/inbox/mail/", {"action": "loopai_enrich_spam_label", "_selected_action": [mail.pk]})
    assert (spam.call_count, left()) == (0, [])
    user.user_permissions.add(Permission.objects.get(codename="change_mail"))
    client.post("/admin/inbox/mail/", {"action": "loopai_enrich_spam_label", "_selected_action": [mail.pk]})
    assert spam.call_count == 1
