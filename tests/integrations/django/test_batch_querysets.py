"""`loopai_batch` over a queryset, in this process and against a fake: which rows, which inputs, what is written."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any, Optional

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from inbox.models import Category, Letter, Mail, Message, Note, Reminder

from loopai import RunInProgressError
from loopai.batch.formats.opening import open_source
from loopai.contrib.django import run_queryset
from loopai.contrib.django.batches.database import IDLE_SECONDS, Database
from loopai.contrib.django.batches.leases import LEASE_SECONDS
from loopai.contrib.django.models import BatchRun
from loopai.testing import FakeLoopai

pytestmark = pytest.mark.django_db(transaction=True)

OLD = datetime(2020, 1, 1, tzinfo=timezone.utc)


class Ended:
    """How a command ended: its exit code, and what it said."""

    def __init__(self, code: int, told: str) -> None:
        self.code = code
        self.told = told


def batch(*words: str) -> Ended:
    said = io.StringIO()
    try:
        call_command("loopai_batch", "spam", *words, stderr=said, stdout=said)
    except SystemExit as end:
        return Ended(int(end.code or 0), said.getvalue())
    except CommandError as error:
        return Ended(error.returncode, f"{said.getvalue()}{error}")
    return Ended(0, said.getvalue())


def mails(number: int, **fields: Any) -> list[Mail]:
    Mail.objects.bulk_create(Mail(subject=f"mail {turn}", **fields) for turn in range(number))
    Mail.objects.update(changed_at=OLD)
    return list(Mail.objects.order_by("pk"))


def labels() -> dict[str, str]:
    return dict(Mail.objects.values_list("subject", "label"))


def meanwhile(fake: FakeLoopai, change: Callable[[], Any]) -> None:
    """Have the first request change the table, as another process may, before it is answered with ham for all."""
    done: list[bool] = []

    def judge(_: Any) -> Any:
        if not done:
            done.append(True)
            change()
            connection.close()  # that of the request's thread
        return {"label": "ham"}

    fake.task("spam").computes(judge)


@pytest.fixture
def spam(loopai_fake: FakeLoopai) -> Any:
    """A task that finds every other mail to be spam."""
    task = loopai_fake.task("spam")
    task.computes(lambda mail: {"label": "spam" if int(mail["subject"].split()[1]) % 2 else "ham"})
    return task


def given(task: Any) -> list[Any]:
    return list(task.inputs)


MAILS = ("--queryset", "inbox.Mail", "--map", "subject=subject")


# What is written


def test_every_row_gets_its_own_result(spam: Any) -> None:
    """250 rows in three requests: each has its label, `auto_now` is set, nothing else has changed."""
    before = mails(250)
    ended = batch(*MAILS, "--save-to", "label")
    assert ended.code == 0, ended.told
    assert "250 ok, 0 errors" in ended.told
    after = list(Mail.objects.order_by("pk"))
    assert [mail.label for mail in after] == ["ham", "spam"] * 125
    assert all(mail.changed_at > OLD for mail in after)
    assert [(mail.pk, mail.subject, mail.score) for mail in after] == [(mail.pk, mail.subject, None) for mail in before]
    run = BatchRun.objects.get()
    assert (run.state, run.ok, run.errors, run.skipped, run.total) == ("finished", 250, 0, 0, 250)
    assert run.mark == run.upper_key == str(before[-1].pk)
    assert run.lease_until is None


def test_paths_start_at_the_result_and_values_take_the_types_of_their_fields(loopai_fake: FakeLoopai) -> None:
    """Members of the output, all of it, the latency, a foreign key, a date, a decimal: each as its field keeps it."""
    category = Category.objects.create(name="work")
    mails(3)
    output = {
        "verdict": {"name": "ham", "score": "7"},
        "share": 0.25,
        "at": "2025-11-03T08:16:05Z",
        "category": category.pk,
        "tags": ["a", {"b": None}],
    }
    loopai_fake.task("spam").returns(output)
    targets = (
        "label=output.verdict.name", "score=output.verdict.score", "share", "judged_at=output.at", "category",
        "verdict=output", "milliseconds=latency_ms",
    )  # fmt: skip
    words = [word for target in targets for word in ("--save-to", target)]
    assert batch(*MAILS, *words).code == 0
    for mail in Mail.objects.all():
        assert (mail.label, mail.score, str(mail.share), mail.category_id) == ("ham", 7, "0.25", category.pk)
        assert mail.judged_at == datetime(2025, 11, 3, 8, 16, 5, tzinfo=timezone.utc)
        assert mail.verdict == output
        assert mail.milliseconds is not None


def test_a_bare_field_takes_a_scalar_output_whole(loopai_fake: FakeLoopai) -> None:
    """`--save-to score` of a program that gives a number writes the number."""
    mails(2)
    loopai_fake.task("spam").returns(41)
    assert batch(*MAILS, "--save-to", "score").code == 0
    assert set(Mail.objects.values_list("score", flat=True)) == {41}


def test_null_is_written_where_the_field_takes_it(loopai_fake: FakeLoopai) -> None:
    """A result of null empties a field that may be empty."""
    mails(2, score=3)
    loopai_fake.task("spam").returns({"score": None, "verdict": None})
    assert batch(*MAILS, "--save-to", "score", "--save-to", "verdict").code == 0
    assert set(Mail.objects.values_list("score", "verdict")) == {(None, None)}


UNFIT: list[tuple[str, Any, str]] = [
    ("label", {"label": "neither"}, "not a valid choice"),
    ("label", {"label": {"a": 1}}, "is not a text"),
    ("label", {"label": True}, "is not a text"),
    ("label", {"label": None}, "null"),
    ("label", {"other": "spam"}, "the output has no 'label'"),
    ("score", {"score": 3.7}, "not a whole number"),
    ("score", {"score": "many"}, "must be an integer"),
    ("share", {"share": 1234567.5}, "no more than"),
    ("category", {"category": 999_999}, "instance with id"),
    ("code", {"code": "a\0b"}, "NUL"),
    ("code", {"code": "x" * 11}, "at most 10"),
    ("judged_at", {"judged_at": "soon"}, "invalid format"),
    ("score=output.a.b", {"a": 1}, "nothing named 'b'"),
]


@pytest.mark.parametrize(("target", "output", "reason"), UNFIT)
def test_what_does_not_fit_its_field_is_that_rows_error(
    loopai_fake: FakeLoopai, target: str, output: Any, reason: str
) -> None:
    """The row ends as an error that names field and reason, keeps what it had, and its neighbours are written."""
    rows = mails(3)

    def good(mail: Any) -> Any:
        return {
            "label": "ham",
            "score": 1,
            "share": 0.5,
            "category": None,
            "code": mail["subject"],
            "judged_at": None,
            "a": {"b": 1},
        }

    loopai_fake.task("spam").computes(lambda mail: output if mail["subject"] == "mail 1" else good(mail))
    ended = batch(*MAILS, "--save-to", target)
    assert ended.code == 1, ended.told
    failure = BatchRun.objects.get().failures.get()
    assert (failure.key, failure.code) == (str(rows[1].pk), "unfit")
    assert failure.message.startswith(f"{target.partition('=')[0]}: ")
    assert reason in failure.message
    assert Mail.objects.filter(changed_at=OLD).count() == 1


def test_a_number_too_large_for_its_column_is_that_rows_error(loopai_fake: FakeLoopai) -> None:
    """Django says so, or (4.2 over SQLite) only the database; either way the neighbours are written."""
    mails(3)
    loopai_fake.task("spam").computes(lambda mail: {"score": 10**30 if mail["subject"] == "mail 1" else 1})
    assert batch(*MAILS, "--save-to", "score").code == 1
    assert BatchRun.objects.get().failures.get().code == "unfit"
    assert Mail.objects.filter(score=1).count() == 2


def test_a_row_that_the_database_refuses_takes_no_other_with_it(loopai_fake: FakeLoopai) -> None:
    """A unique column gets one value twice: one row has it, the other an error; the 98 others are right."""
    mails(100)
    codes = {"mail 3": "twice", "mail 70": "twice"}
    loopai_fake.task("spam").computes(lambda mail: {"code": codes.get(mail["subject"], mail["subject"])})
    ended = batch(*MAILS, "--save-to", "code")
    assert ended.code == 1, ended.told
    run = BatchRun.objects.get()
    assert (run.ok, run.errors) == (99, 1)
    assert "refused the row" in run.failures.get().message
    assert Mail.objects.filter(code="twice").count() == 1
    assert Mail.objects.exclude(code=None).count() == 99


def test_a_row_deleted_meanwhile_does_not_come_back(loopai_fake: FakeLoopai) -> None:
    """While its request is under way: the update finds it gone, counts it as skipped, and inserts nothing."""
    mails(10)
    meanwhile(loopai_fake, lambda: Mail.objects.filter(subject="mail 4").delete())
    ended = batch(*MAILS, "--save-to", "label")
    assert ended.code == 0, ended.told
    assert "1 row was deleted" in ended.told
    assert Mail.objects.count() == 9
    run = BatchRun.objects.get()
    assert (run.ok, run.skipped, run.done) == (9, 1, 10)


# Which rows


def test_only_empty_leaves_what_is_filled(spam: Any) -> None:
    """Rows with a label are not sent."""
    mails(6)
    Mail.objects.filter(subject__in=["mail 0", "mail 3"]).update(label="spam")
    assert batch(*MAILS, "--save-to", "label", "--only-empty").code == 0
    assert len(given(spam)) == 4
    assert labels()["mail 0"] == "spam"


def test_a_row_filled_while_its_request_was_under_way_is_left_alone(loopai_fake: FakeLoopai) -> None:
    """Somebody labels a row by hand meanwhile: theirs stands, and the row counts as skipped."""
    mails(10)
    meanwhile(loopai_fake, lambda: Mail.objects.filter(subject="mail 7").update(label="spam"))
    ended = batch(*MAILS, "--save-to", "label", "--only-empty")
    assert ended.code == 0, ended.told
    assert labels()["mail 7"] == "spam"
    assert labels()["mail 6"] == "ham"
    assert BatchRun.objects.get().skipped == 1


def test_a_queryset_is_named_by_a_manager_method_and_filtered(spam: Any) -> None:
    """`app.Model:method` with filters of each kind gives these rows only."""
    mails(12)
    Mail.objects.filter(subject="mail 1").update(label="ham")
    words = ("--queryset", "inbox.Mail:unlabelled", "--map", "subject=subject", "--save-to", "label")
    assert batch(*words, "--filter", "subject__in=mail 1,mail 2,mail 5", "--filter", "score__isnull=true").code == 0
    assert sorted(mail["subject"] for mail in given(spam)) == ["mail 2", "mail 5"]


@pytest.mark.parametrize("kind", ["uuid", "text", "child"])
def test_rows_are_paged_by_keys_of_any_kind(loopai_fake: FakeLoopai, kind: str) -> None:
    """UUIDs, texts in whatever order the database has, keys inherited from a parent: each row once, each its own."""
    words = [f"{word}{turn}" for turn in range(40) for word in ("a", "B", "é", "Z", "_")]
    model: Any = {"uuid": Letter, "text": Note, "child": Reminder}[kind]
    for word in words:
        model.objects.create(text=word, **({} if kind == "uuid" else {"slug": word}))
    loopai_fake.task("spam").computes(lambda row: {"text": f"{row['text']}!"})
    named = f"inbox.{model.__name__}"
    ended = batch("--queryset", named, "--map", "text=text", "--save-to", "text", "--chunk-size", "7")
    assert ended.code == 0, ended.told
    assert sorted(model.objects.values_list("text", flat=True)) == sorted(f"{word}!" for word in words)
    assert BatchRun.objects.get().ok == len(words)


def test_rows_that_come_later_are_not_run(loopai_fake: FakeLoopai) -> None:
    """Rows are inserted while requests are under way: the run ends at the highest key of its start."""
    mails(5)
    meanwhile(loopai_fake, lambda: Mail.objects.create(subject="late"))
    assert batch(*MAILS, "--save-to", "label", "--chunk-size", "2", "--max-in-flight", "1").code == 0
    assert len(given(loopai_fake.task("spam"))) == 5
    assert labels()["late"] == ""


def test_the_input_is_what_the_tasks_schema_names(loopai_fake: FakeLoopai) -> None:
    """Without `--map` the members of the schema are the columns of that name; neither key nor target is sent."""
    mails(2, score=7)
    schema = {"type": "object", "properties": {"subject": {}, "score": {}, "label": {}}, "required": ["subject"]}
    loopai_fake.client().create_task("spam", "a task", schema, {})
    loopai_fake.task("spam").returns({"label": "ham"})
    assert batch("--queryset", "inbox.Mail", "--save-to", "label").code == 0
    assert given(loopai_fake.task("spam"))[0] == {"subject": "mail 0", "score": 7}


def test_columns_of_relations_and_inside_json_are_read(loopai_fake: FakeLoopai) -> None:
    """`message.text` is the related row's, `facts.from.name` lies inside JSON; a row that lacks it is an error."""
    message = Message.objects.create(text="hello")
    mails(2, message=message, facts={"from": {"name": "Ada"}})
    Mail.objects.create(subject="bare")
    loopai_fake.task("spam").returns({"label": "ham"})
    words = ("--map", "text=message.text", "--map", "sender=facts.from.name", "--map", "id=pk")
    ended = batch("--queryset", "inbox.Mail", *words, "--save-to", "label")
    assert ended.code == 1, ended.told
    first = Mail.objects.order_by("pk")[0]
    assert given(loopai_fake.task("spam"))[0] == {"text": "hello", "sender": "Ada", "id": first.pk}
    assert BatchRun.objects.get().failures.get().code == "unmapped"


def test_a_limit_is_of_rows_and_may_be_raised_by_resume(spam: Any) -> None:
    """`--limit 4`, then `--resume --limit 6`, then without: each goes on where the last ended."""
    mails(10)
    words = (*MAILS, "--save-to", "label", "--chunk-size", "3")
    assert batch(*words, "--limit", "4").code == 0
    assert sum(map(bool, labels().values())) == 4
    assert "finished already" in batch(*words, "--limit", "4", "--resume").told
    assert batch(*words, "--limit", "6", "--resume").code == 0
    assert sum(map(bool, labels().values())) == 6
    assert batch(*words, "--resume").code == 0
    assert len(given(spam)) == 10
    assert BatchRun.objects.get().ok == 10


# Running it again


def test_failed_rows_are_repeated(loopai_fake: FakeLoopai) -> None:
    """Rows failed; `--retry-failed` sends those only, and what fails again stays on record."""
    mails(10)
    task = loopai_fake.task("spam")
    bad = {"mail 2", "mail 5", "mail 8"}
    task.computes(lambda mail: {"label": "neither" if mail["subject"] in bad else "ham"})
    words = (*MAILS, "--save-to", "label")
    assert batch(*words).code == 1
    Mail.objects.filter(subject="mail 8").delete()
    bad.discard("mail 2")
    sent = len(given(task))
    ended = batch(*words, "--retry-failed")
    assert ended.code == 1, ended.told
    assert sorted(mail["subject"] for mail in given(task)[sent:]) == ["mail 2", "mail 5"]
    run = BatchRun.objects.get()
    assert (run.ok, run.errors, run.skipped, run.state) == (8, 1, 1, "finished")
    bad.clear()
    assert batch(*words, "--retry-failed").code == 0
    assert "no row failed" in batch(*words, "--retry-failed").told
    run.refresh_from_db()
    assert (run.ok, run.errors, run.skipped) == (9, 0, 1)


def test_a_run_stopped_by_errors_is_gone_on_with(loopai_fake: FakeLoopai) -> None:
    """RowWriter that do not fit count for `--max-errors`: exit 3; a second run is refused, `--resume` finishes it."""
    mails(400)
    task = loopai_fake.task("spam")
    task.returns({"label": "neither"})
    words = (*MAILS, "--save-to", "label", "--max-in-flight", "1", "--chunk-size", "20")
    ended = batch(*words, "--max-errors", "30")
    assert ended.code == 3, ended.told
    run = BatchRun.objects.get()
    assert run.state == "stopped"
    assert 30 < run.errors < 100
    refused = batch(*words)
    assert refused.code == 2
    assert "--resume" in refused.told
    task.returns({"label": "ham"})
    done = run.done
    sent = len(given(task))
    assert batch(*words, "--resume").code == 1  # the rows that failed before are still failed
    assert len(given(task)) - sent == 400 - done
    run.refresh_from_db()
    assert (run.state, run.done) == ("finished", 400)
    assert batch(*words, "--retry-failed").code == 0
    assert set(labels().values()) == {"ham"}


def test_a_server_that_refuses_the_run_or_is_away_has_its_own_exit_code(loopai_fake: FakeLoopai) -> None:
    """401 is a wrong setting (2), no reply an unreachable server (4)."""
    mails(3)
    loopai_fake.task("spam").is_unknown()
    assert batch(*MAILS, "--save-to", "label").code == 2
    loopai_fake.unreachable()
    assert batch(*MAILS, "--save-to", "label").code == 4


def test_overwrite_begins_anew_and_a_finished_run_does_not_stand_in_the_way(spam: Any) -> None:
    """After a finished run the same command runs all rows again; `--overwrite` gives an unfinished one up."""
    mails(3)
    words = (*MAILS, "--save-to", "label")
    assert batch(*words).code == 0
    assert batch(*words).code == 0
    newest = BatchRun.objects.order_by("-pk")[0]
    BatchRun.objects.filter(pk=newest.pk).update(state="interrupted")
    assert batch(*words).code == 2
    assert batch(*words, "--overwrite").code == 0
    assert len(given(spam)) == 9
    assert sorted(BatchRun.objects.values_list("state", flat=True)) == ["cancelled", "finished", "finished"]


# What is refused before a row is sent

REFUSED = [
    (("--queryset", "inbox.Mial", "--save-to", "label"), "did you mean 'inbox.Mail'"),
    (("--queryset", "inbox.Mail:nope", "--save-to", "label"), "no method 'nope'"),
    (("--queryset", "inbox.Mail:_private", "--save-to", "label"), "no method"),
    (("--queryset", "inbox.Mail:first_ten", "--save-to", "label"), "sliced"),
    (("--queryset", "inbox.Mail:names", "--save-to", "label"), "gives no queryset"),
    (("--queryset", "inbox.Diary", "--save-to", "day"), "integers, UUIDs or texts"),
    ((*MAILS, "--save-to", "lable"), "did you mean 'label'"),
    ((*MAILS, "--save-to", "label=verdict.label"), "did you mean label=output.verdict.label"),
    ((*MAILS, "--save-to", "label="), "FIELD=output.PATH"),
    ((*MAILS, "--save-to", "id"), "primary key"),
    ((*MAILS, "--save-to", "label", "--save-to", "label=output"), "twice"),
    ((*MAILS,), "where results go"),
    ((*MAILS, "--save-to", "label", "--output", "x.jsonl"), "where results go"),
    ((*MAILS, "--save-to", "changed_at", "--only-empty"), "never empty"),
    ((*MAILS, "--save-to", "label", "--filter", "nope=1"), "Cannot resolve keyword"),
    ((*MAILS, "--save-to", "label", "--filter", "score=many"), "--filter"),
    ((*MAILS, "--save-to", "label", "--filter", "score"), "FIELD=VALUE"),
    (("--queryset", "inbox.Mail", "--map", "text=bodi", "--save-to", "label"), "no field 'bodi'"),
    (("--queryset", "inbox.Mail", "--map", "text=subject.words", "--save-to", "label"), "nothing lies inside"),
    (("--queryset", "inbox.Message", "--map", "text=mail.subject", "--save-to", "label"), "many values"),
    ((*MAILS, "--save-to", "label", "--chunk-size", "0"), "--chunk-size"),
    ((*MAILS, "--save-to", "label", "--max-concurrency", "101"), "--max-concurrency"),
    ((*MAILS, "--save-to", "label", "--max-errors", "some"), "--max-errors"),
    ((*MAILS, "--save-to", "label", "--limit", "0"), "--limit"),
    ((*MAILS, "--save-to", "label", "--id-field", "id"), "for files"),
    ((*MAILS, "--save-to", "label", "--database", "elsewhere"), "DATABASES has no"),
    (("rows.jsonl", "--save-to", "label"), "needs --queryset"),
]


@pytest.mark.parametrize(("words", "reason"), REFUSED)
def test_what_is_wrong_is_said_before_a_row_is_sent(loopai_fake: FakeLoopai, words: Sequence[str], reason: str) -> None:
    """Exit code 2, a text that says what to do, and neither a request for rows nor a run on record."""
    mails(1)
    loopai_fake.task("spam").returns({"label": "ham"})
    ended = batch(*words)
    assert (ended.code, reason in ended.told) == (2, True), ended.told
    assert not loopai_fake.calls
    assert not BatchRun.objects.exists()


def test_a_dry_run_shows_the_plan_and_writes_nothing(spam: Any) -> None:
    """Where rows go, how many, three of them as they would be sent."""
    mails(250)
    ended = batch(*MAILS, "--save-to", "label=output.label", "--dry-run")
    assert ended.code == 0, ended.told
    assert "250 rows" in ended.told
    assert "3 requests" in ended.told
    assert "inbox.Mail.label = output.label" in ended.told
    assert ended.told.count('{"subject": "mail ') == 3
    assert not given(spam)
    assert not BatchRun.objects.exists()


# Files


def test_a_queryset_may_go_into_a_file(spam: Any, tmp_path: Path) -> None:
    """`--output` writes key, columns and result of each row; `--resume` finds the file finished."""
    mails(30)
    path = tmp_path / "out.jsonl"
    words = (*MAILS, "--output", str(path), "--chunk-size", "7")
    assert batch(*words).code == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["subject"]: row["loopai_output"]["label"] for row in rows}["mail 7"] == "spam"
    assert {row["id"] for row in rows} == set(Mail.objects.values_list("pk", flat=True))
    assert "finished already" in batch(*words, "--resume").told
    assert batch(*words).code == 2
    assert set(labels().values()) == {""}


@pytest.mark.parametrize("name", ["out.csv", "out.xlsx"])
def test_a_file_for_people_has_a_column_for_each_member(loopai_fake: FakeLoopai, tmp_path: Path, name: str) -> None:
    """Of the task's output, after what Loopai adds; `--nested` leaves them out."""
    with loopai_fake.client() as client:
        client.create_task("spam", "Judge", {}, {"properties": {"label": {}, "score": {}}})
    loopai_fake.task("spam").returns({"score": 0.5, "label": "spam"})
    mails(3)
    rows = (*MAILS, "--output", str(tmp_path / name))
    assert batch(*rows).code == 0
    assert batch(*rows, "--resume").code == 0
    found = [columns for _, columns, _ in open_source(tmp_path / name) if columns is not None]
    assert [row["output.label"] for row in found] == ["spam"] * 3
    assert list(found[0])[-2:] == ["output.label", "output.score"]
    assert batch(*rows, "--nested", "--overwrite").code == 0
    assert "output.label" not in (open_source(tmp_path / name).header or ())


def test_a_file_is_run_as_on_the_command_line(spam: Any, tmp_path: Path) -> None:
    """INPUT and `--output`: the same engine as `loopai batch`."""
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("id,subject\n" + "".join(f"{turn},mail {turn}\n" for turn in range(5)))
    ended = batch(str(rows), "--id-field", "id", "--map", "subject=subject", "-o", str(out))
    assert ended.code == 0, ended.told
    assert len(out.read_text().splitlines()) == 6
    assert batch(str(rows), "--id-field", "id", "--map", "subject=subject", "-o", str(out)).code == 2


def test_quality_is_told_where_the_right_answers_are_known(spam: Any, tmp_path: Path) -> None:
    """`--expect` compares with a column and sends nothing of it; `--report` writes the page, `--json` the summary."""
    mails(20, code=None)
    for mail in Mail.objects.all():
        Mail.objects.filter(pk=mail.pk).update(facts="spam" if int(mail.subject.split()[1]) % 2 else "ham")
    page = tmp_path / "report.html"
    ended = batch(*MAILS, "--save-to", "label", "--expect", "facts=output.label", "--report", str(page), "--json",
                  "--progress", "none")  # fmt: skip
    assert ended.code == 0, ended.told
    summary: Optional[dict[str, Any]] = json.loads(ended.told.splitlines()[-1])["summary"]
    assert summary is not None
    assert summary["quality"]["accuracy"] == 1.0
    assert "inbox.Mail" in page.read_text()
    run = BatchRun.objects.get()
    assert (run.compared, run.correct, run.accuracy) == (20, 20, 1.0)
    assert "@" in run.started_by


def test_no_transaction_is_open_while_a_request_is_under_way(loopai_fake: FakeLoopai) -> None:
    """With one request at a time, the connection that reads and writes rows is in none at the time of any."""
    mails(30)
    used = connections["default"]
    seen: list[bool] = []
    loopai_fake.task("spam").computes(lambda _: seen.append(used.in_atomic_block) or {"label": "ham"})  # type: ignore[func-returns-value]
    assert batch(*MAILS, "--save-to", "label", "--chunk-size", "10", "--max-in-flight", "1").code == 0
    assert seen == [False] * 30


def test_a_connection_that_was_dropped_during_a_pause_is_replaced() -> None:
    """After a long silence the connection is tried before it is used; one that the server closed is made anew."""
    killing = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s)"),
        "mysql": ("SELECT connection_id()", "KILL %s"),
    }
    if connection.vendor not in killing:
        pytest.skip("no server that could drop it")
    asking, ending = killing[connection.vendor]
    now = [0.0]
    database = Database("default", lambda: now[0])
    with connection.cursor() as cursor:
        cursor.execute(asking)
        (own,) = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute(ending, [own])
    other.close()
    now[0] = IDLE_SECONDS + 1
    database.freshen()
    assert Mail.objects.count() == 0


def test_continue_resumes_what_is_unfinished_and_starts_a_new_run_otherwise(spam: Any, loopai_fake: FakeLoopai) -> None:
    """For cron: after an interrupted run the rest, after a finished one what came since."""
    mails(20)
    words = (*MAILS, "--save-to", "label", "--only-empty", "--continue", "--chunk-size", "5", "--max-in-flight", "1")
    loopai_fake.task("spam").fails("down")
    assert batch(*words, "--max-errors", "7").code == 3
    loopai_fake.task("spam").returns({"label": "ham"})
    assert batch(*words).code == 1
    assert list(BatchRun.objects.values_list("state", flat=True)) == ["finished"]
    Mail.objects.create(subject="mail 20")
    ended = batch(*words)
    assert (ended.code, "Nothing to resume" in ended.told) == (0, False)
    assert not Mail.objects.filter(label="").exists()
    assert call_command("loopai_batch", "spam", *words[:-5], continue_=True, stderr=io.StringIO()) is None
    assert [run.total for run in BatchRun.objects.order_by("pk")] == [20, 11, 0]


def test_continue_leaves_a_run_in_progress_alone(spam: Any) -> None:
    """For cron: while another process carries the run out, there is nothing to do; every other mode is refused."""
    mails(4)
    words = (*MAILS, "--save-to", "label", "--only-empty")
    assert batch(*words).code == 0
    run = BatchRun.objects.get()

    def alive() -> None:
        until = datetime.now(timezone.utc) + timedelta(seconds=LEASE_SECONDS)
        BatchRun.objects.filter(pk=run.pk).update(state="running", owner="elsewhere:1:abc", lease_until=until)

    alive()
    mails(1)
    beating = threading.Event()

    def beat() -> None:
        try:
            while not beating.wait(0.05):
                alive()
        finally:
            connections.close_all()

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        ended = batch(*words, "--continue", "--json")
        assert (ended.code, "in progress" in json.loads(ended.told.splitlines()[-1])["message"]) == (0, True)
        assert batch(*words, "--resume").code == 2
        with pytest.raises(RunInProgressError, match="is in progress"):
            run_queryset("inbox.Mail", "spam", save_to=["label"], mapping=["subject=subject"], only_empty=True,
                         mode="continue")  # fmt: skip
    finally:
        beating.set()
        heart.join()
    assert BatchRun.objects.count() == 1


@pytest.mark.parametrize(("target", "output"), [("share", None), ("judged_at", 5), ("score", []), ("judged_at", True)])
def test_no_error_names_a_type_of_python(loopai_fake: FakeLoopai, target: str, output: Any) -> None:
    """What does not fit is told in JSON's words and the field's."""
    mails(1)
    Mail._meta.get_field("share").null = target != "share"
    loopai_fake.task("spam").returns({target: output})
    try:
        ended = batch(*MAILS, "--save-to", target)
    finally:
        Mail._meta.get_field("share").null = True
    assert ended.code == 1
    assert not any(name in ended.told for name in ("NoneType", "'int'", "'list'", "'bool'", "argument"))


class RaisingRouter:
    """A router that must not be asked: the run knows its database."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        raise RuntimeError(f"the router was asked for {model.__name__}")

    db_for_write = db_for_read


@pytest.mark.parametrize("engine", ["inline", "celery"])
def test_no_router_is_asked(
    loopai_fake: FakeLoopai, engine: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a run, its repetition, its parts, failures or foreign keys."""
    monkeypatch.setitem(pytest.importorskip("celery").current_app.conf, "task_always_eager", True)
    category = Category.objects.create(name="letters")
    Mail.objects.bulk_create(Mail(subject=str(number)) for number in range(6))
    given = [["x" * 20, "ham"], ["ham"]]
    loopai_fake.task("spam").computes(
        lambda mail: {"label": given[0].pop(0) if mail["subject"] == "3" else "ham", "category": category.pk}
    )
    settings.DATABASE_ROUTERS = [RaisingRouter()]
    words = ("--queryset", "inbox.Mail", "--map", "subject=subject", "--save-to", "label", "--save-to", "category")
    for more, code in (((), 1), (("--retry-failed",), 0), (("--resume",), 0)):
        with pytest.raises(CommandError) if code else nullcontext():
            call_command("loopai_batch", "spam", *words, *more, "--engine", engine, progress="none")
    assert Mail.objects.using("default").filter(label="ham", category_id=category.pk).count() == 6


@pytest.mark.slow  # some twenty runs
@pytest.mark.parametrize("mode", ["--overwrite", "--retry-failed"])
def test_a_fault_that_passes_at_any_statement_ends_no_run(loopai_fake: FakeLoopai, mode: str) -> None:
    """Each statement of a run fails once, or finds its connection lost: all rows are written and counted once."""
    words = ("--queryset", "inbox.Mail", "--map", "subject=subject", "--save-to", "score", "--chunk-size", "2")
    place, failed = 0, True
    while failed:
        place, failed = place + 1, False
        Mail.objects.all().delete()
        BatchRun.objects.all().delete()
        Mail.objects.bulk_create(Mail(subject=str(number)) for number in range(4))
        fails = [mode == "--retry-failed"]
        loopai_fake.task("spam").computes(
            lambda mail, fails=fails: "none" if fails[0] and mail["subject"] == "2" else int(mail["subject"])
        )
        if mode == "--retry-failed":
            with pytest.raises(CommandError):
                call_command("loopai_batch", "spam", *words, progress="none")
        fails[0] = False
        statements = count(1)

        def fail_once(execute: Any, sql: str, *given: Any, numbers: Any = statements, at: int = place) -> Any:
            nonlocal failed
            if next(numbers) == at:
                failed = True
                if connection.vendor == "sqlite":
                    raise OperationalError("database is locked")
                driver: Any = connection.connection
                if connection.vendor == "mysql":
                    with suppress(connection.Database.Error):
                        driver.query("KILL CONNECTION_ID()")
                else:
                    driver.close()  # as where the network is gone: the driver has no code for it
            return execute(sql, *given)

        with connection.execute_wrapper(fail_once):
            call_command("loopai_batch", "spam", *words, mode, progress="none")
        assert all(mail.subject == str(mail.score) for mail in Mail.objects.all()), place
        run = BatchRun.objects.latest("pk")
        assert (run.state, run.ok, run.errors, run.skipped) == ("finished", 4, 0, 0), place
    assert place > 10
