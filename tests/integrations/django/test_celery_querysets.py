"""`loopai_batch --engine celery` and `start_batch`, their workers in this process: what is sent, saved, repeated."""

from __future__ import annotations

import inspect
import io
import json
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from celery import current_app
from celery.exceptions import Retry, SoftTimeLimitExceeded
from django.core.management import CommandError, call_command, load_command_class
from django.db import OperationalError, connection, connections, transaction
from django.test import override_settings
from django.utils import timezone
from inbox.models import Mail, MailManager, Message

from loopai.batch.engine.stopping import Stop
from loopai.batch.options import QUERYSET, table
from loopai.batch.rows import OK, Outcome
from loopai.contrib.celery import QuerysetOptions, partitions, run_part, start_batch
from loopai.contrib.celery.monitor import WATCH_SECONDS, follow
from loopai.contrib.celery.tasks import look_after, watch_run
from loopai.contrib.django.batches.leases import owner_name
from loopai.contrib.django.batches.options import RunOptions
from loopai.contrib.django.batches.plan import Plan
from loopai.contrib.django.batches.queryset import KeyedRow
from loopai.contrib.django.batches.recording import LeaseLost
from loopai.contrib.django.batches.row_writer import RowWriter
from loopai.contrib.django.batches.run_lookup import ResolvedPlan
from loopai.contrib.django.models import BatchFailure, BatchPart, BatchRun
from loopai.exceptions import ConfigurationError
from loopai.testing import FakeLoopai, ProgramError

pytestmark = pytest.mark.django_db(transaction=True)

QUICK = ("--progress", "none", "--chunk-size", "7")
CELERY = ("--engine", "celery", *QUICK)
MAILS = ("--queryset", "inbox.Mail", "--map", "text=subject")


@pytest.fixture(autouse=True)
def workers() -> Iterator[None]:
    """What is sent to workers is done by the sender, at once."""
    before = {name: getattr(current_app.conf, name) for name in ("task_always_eager", "task_eager_propagates")}
    current_app.conf.update(dict.fromkeys(before, True))
    yield
    current_app.conf.update(before)


@pytest.fixture
def spam(loopai_fake: FakeLoopai) -> Any:
    """A task that fails on every ninth text, and finds every other to be spam."""
    task = loopai_fake.task("spam")
    task.computes(judge)
    return task


def judge(mail: dict[str, Any]) -> dict[str, str]:
    number = int(mail["text"].split()[1])
    if number % 9 == 0:
        raise ProgramError(f"no words in 'mail {number}'")
    return {"label": "spam" if number % 2 else "ham"}


def batch(*words: str, code: int = 0) -> str:
    said = io.StringIO()
    found, told = 0, ""
    try:
        call_command("loopai_batch", "spam", *words, stderr=said, stdout=said)
    except SystemExit as end:
        found = int(end.code or 0)
    except CommandError as error:
        found, told = error.returncode, str(error)
    assert found == code, said.getvalue() + told
    return said.getvalue() + told


def mails(number: int) -> None:
    Mail.objects.bulk_create(Mail(subject=f"mail {n}", score=1) for n in range(1, number + 1))


def labels() -> dict[int, str]:
    return {int(subject.split()[1]): label for subject, label in Mail.objects.values_list("subject", "label")}


def test_each_row_gets_its_result(spam: Any) -> None:
    """Parts of one chunk each: every row its own result, failed ones on record, no part left."""
    mails(60)
    assert "54 ok, 6 errors" in batch(*MAILS, "--save-to", "label", *CELERY, code=1)
    wanted = {n: "" if n % 9 == 0 else "spam" if n % 2 else "ham" for n in range(1, 61)}
    assert labels() == wanted
    run = BatchRun.objects.get()
    assert (run.state, run.engine, run.ok, run.errors, run.total) == ("finished", "celery", 54, 6, 60)
    assert {failure.code for failure in run.failures.all()} == {"program"}
    assert (run.failures.count(), run.parts.count()) == (6, 0)


@pytest.mark.parametrize("engine", [QUICK, CELERY])
def test_a_reply_that_is_too_large_is_its_rows_error(loopai_fake: FakeLoopai, engine: tuple[str, ...]) -> None:
    """Split until it is alone, in workers at once too: no part is put off, and no other row fails."""
    loopai_fake.task("spam").computes(
        lambda mail: {"label": "spam", "why": "x" * (20_000 if mail["text"] == "mail 5" else 1)}
    )
    mails(20)
    with override_settings(LOOPAI={"default": {"MAX_REPLY_BYTES": 8_000}}):
        assert "19 ok, 1 error in" in batch(*MAILS, "--save-to", "label=output.label", *engine, code=1)
    run = BatchRun.objects.get()
    assert (run.state, run.ok, run.errors) == ("finished", 19, 1)
    (failure,) = run.failures.all()
    assert failure.code == "refused"
    assert "larger than 8,000 bytes" in failure.message
    assert len(loopai_fake.requests) <= 13  # the artifacts twice: for the plan, and before the first execution


@pytest.mark.parametrize("engine", [QUICK, CELERY])
def test_a_program_that_cannot_be_made_stops_the_run(loopai_fake: FakeLoopai, engine: tuple[str, ...]) -> None:
    """With exit code 2 and the reason, its rows unfinished: `--resume` takes them once there is one."""
    task = loopai_fake.task("spam")
    task.fails("Program generation failed: There are no examples to learn from")
    mails(60)
    words = (*MAILS, "--save-to", "label=output.label", *engine)
    assert "There are no examples to learn from" in batch(*words, code=2)
    run = BatchRun.objects.get()
    assert (run.state, run.ok, run.errors, run.failures.count()) == ("stopped", 0, 0, 0)
    task.returns({"label": "ham"})
    assert "60 ok, 0 errors" in batch(*words, "--resume")


@pytest.mark.parametrize("engine", [QUICK, CELERY])
def test_a_dry_run_checks_rows_against_the_input_schema(loopai_fake: FakeLoopai, engine: tuple[str, ...]) -> None:
    """The first that does not fit is shown with why, and the exit code is 1."""
    pytest.importorskip("jsonschema_rs")
    task = loopai_fake.task("spam")
    task.record["input_schema"] = {"type": "object", "properties": {"text": {"maxLength": 6}}}
    mails(20)
    told = batch(*MAILS, "--save-to", "label", "--dry-run", *engine, code=1)
    assert 'mail 10"} does not fit: input.text:' in told
    assert "Checked the first 20 rows against the task's input schema: 11 cannot be read or do not fit." in told
    assert task.inputs == []


def test_failed_rows_are_repeated(spam: Any) -> None:
    """`--retry-failed` sends the failed rows alone, until none is left."""
    mails(60)
    words = (*MAILS, "--save-to", "label", *CELERY)
    batch(*words, code=1)
    spam.computes(lambda mail: judge(mail) if mail["text"] == "mail 9" else {"label": "ham"})
    before = len(spam.inputs)
    assert "5 ok, 1 error," in batch(*words, "--retry-failed", code=1)
    assert [mail["text"] for mail in spam.inputs[before:]] == [f"mail {n}" for n in range(9, 61, 9)]
    spam.computes(lambda mail: {"label": "spam"})
    batch(*words, "--retry-failed")
    assert [labels()[n] for n in (1, 9, 18)] == ["spam", "spam", "ham"]
    assert "finished already" in batch(*words, "--resume")
    run = BatchRun.objects.get()
    assert (run.ok, run.errors, run.failures.count()) == (60, 0, 0)


# What is refused


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("mails.csv", "--output", "judged.csv"), "--engine celery takes --queryset with --save-to"),
        (("mails.csv",), "--engine celery takes --queryset with --save-to"),
        (("-", "--output", "judged.csv"), "--engine celery takes --queryset with --save-to"),
        ((*MAILS, "--output", "judged.csv"), "--engine celery cannot write --output: save results to the rows"),
    ],
)
def test_files_are_refused(
    spam: Any, words: tuple[str, ...], told: str, dry_run: tuple[str, ...], tmp_path: Path, monkeypatch: Any
) -> None:
    """Exit code 2, nothing sent or written, and what to do instead."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mails.csv").write_text("text\nmail 1\n")
    mails(1)
    said = batch(*words, *CELERY, *dry_run, code=2)
    assert told in said
    assert "--engine inline" in said
    assert spam.inputs == []
    assert [path.name for path in tmp_path.iterdir()] == ["mails.csv"]
    assert BatchRun.objects.count() == 0


@pytest.mark.parametrize("name", ["engine", "dry_run", "output", "key", "resume"])
def test_what_start_batch_does_not_take_is_named(name: str) -> None:
    """An option of the command or of files is an error that names it, as it is one for a type checker."""
    assert name not in get_type_hints(QuerysetOptions)
    options: Any = {name: True}
    with pytest.raises(ConfigurationError, match=name):
        start_batch("spam", "inbox.Mail", save_to=["verdict=label"], **options)


def test_start_batch_has_the_options_of_the_table() -> None:
    """By the names and types of `loopai_batch`: what a type checker accepts is accepted when it runs."""
    own = {item for item in inspect.signature(start_batch).parameters if item != "options"}
    of_the_command = {"output", "output_format", "nested", "dry_run", "engine", "progress", "grace"}
    options = {name for name, info in table(RunOptions) if QUERYSET in info.where} - own - of_the_command
    described = get_type_hints(QuerysetOptions)
    assert described.keys() == options
    written = get_type_hints(RunOptions)
    assert {name for name in options if described[name] != written[name]} == {"max_errors"}


def test_help_says_what_an_engine_cannot_do(capsys: Any) -> None:
    """Before one tries it; and a share is written with one sign."""
    with pytest.raises(SystemExit):
        load_command_class("loopai.contrib.django", "loopai_batch").run_from_argv(
            ["manage.py", "loopai_batch", "--help"]
        )
    told = " ".join(capsys.readouterr().out.split())
    assert "inline (this process; files too) or celery (workers; --queryset with --save-to)" in told
    assert "--max-errors N|P% " in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dry_run": True}, "start_batch has no option 'dry_run': it is for the command"),
        ({"overwrite": True}, "pass mode='overwrite'"),
        (
            {"mode": "retry-failed"},
            "mode must be one of new, resume, retry_failed, overwrite, continue, not 'retry-failed'",
        ),
        ({"output": "judged.csv"}, "output: start_batch runs a queryset and saves to its rows"),
        ({"input": "mails.csv"}, "input: start_batch runs a queryset and saves to its rows"),
        ({"key": "id"}, "key: start_batch runs a queryset and saves to its rows"),
    ],
)
def test_start_batch_refuses_what_it_would_not_heed(spam: Any, options: dict[str, Any], told: str) -> None:
    """Above all a dry run that would send rows."""
    with pytest.raises(ConfigurationError, match=told):
        start_batch("spam", "inbox.Mail", save_to=["label"], mapping=["text=subject"], **options)
    assert BatchRun.objects.count() == 0


# Going on


def failed_before(spam: Any) -> tuple[BatchRun, tuple[str, ...]]:
    """A finished run, six of whose rows failed, that is to repeat them; its words."""
    mails(60)
    words = (*MAILS, "--save-to", "label", *CELERY)
    batch(*words, code=1)
    spam.returns({"label": "ham"})
    run = BatchRun.objects.get()
    BatchRun.objects.update(state=BatchRun.State.PENDING, mode=BatchRun.Mode.RETRY_FAILED)
    assert run.acquire(partitions.WORKERS, timezone.now(), 60)
    return run, words


def handed_out(run: BatchRun) -> list[BatchPart]:
    with transaction.atomic():
        return partitions.first_parts(run, ResolvedPlan(Plan.of(run), "default"))


def test_a_worker_that_lacks_the_alias_stops_the_run(spam: Any) -> None:
    """Its settings are others than the command's: said, and not tried for ever."""
    run, _ = failed_before(spam)
    BatchRun.objects.update(options={**run.options, "alias": "elsewhere"})
    run_part.apply((run.pk, handed_out(run)[0].pk))
    run.refresh_from_db()
    assert run.state == "stopped"
    assert "LOOPAI has no alias 'elsewhere'" in run.error


def test_two_who_have_one_run_go_on_repeat_its_rows_once(spam: Any) -> None:
    """The admin and a command at one moment: nothing is sent or counted twice."""
    run, _ = failed_before(spam)
    before = len(spam.inputs)
    for part in [*handed_out(run), *handed_out(run)]:
        run_part.apply((run.pk, part.pk))
    assert len(spam.inputs) - before == 6
    run.refresh_from_db()
    assert (run.state, run.ok, run.errors, run.parts.count()) == ("finished", 60, 0, 0)


def test_who_looked_after_a_run_before_does_not_end_it_as_it_goes_on(spam: Any) -> None:
    """A look at the moment when it was taken and has no parts yet; one that nobody ended is ended."""
    run, _ = failed_before(spam)
    look_after(run, run.done)
    run.refresh_from_db()
    assert run.state == "running"
    BatchRun.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=5))
    run.refresh_from_db()
    look_after(run, run.done)
    run.refresh_from_db()
    assert run.state == "finished"


def test_rows_that_failed_since_are_repeated_too(spam: Any) -> None:
    """A repetition that was cut short, more rows that failed after it: the next is of all, with all its attempts."""
    run, words = failed_before(spam)
    first = run.failures.order_by("pk")[0]
    run.parts.create(run=run, after="0", upto=str(first.pk), failed=True, attempts=9)
    BatchRun.objects.update(state=BatchRun.State.CANCELLED, owner="")
    assert "6 ok, 0 errors" in batch(*words, "--retry-failed")
    assert "" not in labels().values()
    left = run.parts.create(run=run, upto="60", attempts=9)
    handed_out(run)
    left.refresh_from_db()
    assert left.attempts == 0


def test_a_worker_that_lost_its_part_keeps_nothing(spam: Any) -> None:
    """Two repeat the same failed rows, as the first was silent for too long: one of them is heard."""
    run, _ = failed_before(spam)
    resolved = ResolvedPlan(Plan.of(run), "default")
    first = run.failures.order_by("pk")[0]
    slow = run.parts.create(run=run, after="0", upto=str(first.pk), failed=True)
    quick = BatchPart.objects.get(pk=slow.pk)
    found: list[tuple[str, BatchPart, list[KeyedRow]]] = []
    for part, owner in ((slow, "spam"), (quick, "ham")):
        assert part.acquire(owner, timezone.now(), -1)
        found.append((owner, part, partitions.rows_of(run, part, resolved)[0]))
    for label, part, again in reversed(found):
        outcomes = [Outcome(row, OK, {"label": label}, None, None, 1.0, 1) for row in again]
        writer = RowWriter(run, resolved.rows, resolved.targets, False, part)
        if label == "ham":
            writer.write(outcomes)
            continue
        with pytest.raises(LeaseLost):
            writer.write(outcomes)
    run.refresh_from_db()
    assert (run.ok, run.errors) == (55, 5)
    assert labels()[9] == "ham"


def test_errors_of_before_do_not_stop_their_repetition(spam: Any) -> None:
    """`--max-errors` stops where rows fail, not where those that did end well."""
    _, words = failed_before(spam)
    BatchRun.objects.update(state=BatchRun.State.FINISHED, owner="")
    assert "6 ok, 0 errors" in batch(*words, "--retry-failed", "--max-errors", "3")


def test_rows_that_a_join_repeats_run_once(spam: Any, tmp_path: Path) -> None:
    """A filter over many gives a row several times: it is sent, written and counted once, in both engines."""
    for n in range(1, 41):
        message = Message.objects.create(text=f"mail {n}")
        Mail.objects.bulk_create(Mail(subject="x", message=message, label="ham") for _ in range(3))
    words = ("--queryset", "inbox.Message", "--filter", "mail__label=ham", "--map", "text=text")
    output = tmp_path / "judged.jsonl"
    assert "36 ok, 4 errors" in batch(*words, "--output", str(output), *QUICK, code=1)
    found = [json.loads(line)["text"] for line in output.read_text().splitlines()]
    assert sorted(int(text.split()[1]) for text in found) == list(range(1, 41))
    for engine in (QUICK, CELERY):
        before = len(spam.inputs)
        assert "36 ok, 4 errors" in batch(*words, "--save-to", "label", *engine, "--overwrite", code=1)
        assert len(spam.inputs) - before == 40


def test_a_run_that_is_deleted_while_it_is_watched(spam: Any) -> None:
    """Said in words."""
    run, _ = failed_before(spam)
    with pytest.raises(LeaseLost, match="was deleted"):
        follow(
            run, Plan.of(run), [], Stop(), lambda run, _: run.delete() and None, print,
            clock=count(step=9.0).__next__, sleep=lambda _: None,
        )  # fmt: skip


def test_rows_that_are_gone_are_told_by_workers_too(spam: Any) -> None:
    """As by one process: rows that are deleted while they are judged, or before they are repeated."""
    mails(40)
    words = (*MAILS, "--save-to", "label", *CELERY)
    done: list[bool] = []

    def once(mail: dict[str, Any]) -> Any:
        if not done:
            done.append(True)
            Mail.objects.filter(subject="mail 2").delete()
            connections.close_all()
        return judge(mail)

    spam.computes(once)
    assert "1 row was deleted meanwhile: skipped." in batch(*words, code=1)
    Mail.objects.get(subject="mail 9").delete()
    spam.returns({"label": "ham"})
    assert "1 row was deleted meanwhile: skipped." in batch(*words, "--retry-failed")
    run = BatchRun.objects.get()
    assert (run.ok, run.errors, run.skipped) == (38, 0, 2)


# Another version, or a faster command


def test_resume_refuses_another_version(spam: Any) -> None:
    """Given or omitted, as it refuses another task or mapping: it would start at the first row."""
    mails(20)
    words = (*MAILS, "--save-to", "label", *CELERY)
    batch(*words, "--max-errors", "0", code=3)
    sent = len(spam.inputs)
    told = batch(*words, "--task-version", "2", "--resume", code=2)
    assert "its --task-version is not given, this command's 2" in told
    assert "its --map is text=subject, this command's text=label" in batch(
        "--queryset", "inbox.Mail", "--map", "text=label", "--save-to", "label", *CELERY, "--resume", code=2
    )
    assert len(spam.inputs) == sent


@pytest.mark.parametrize("engine", [QUICK, CELERY])
def test_an_active_version_that_changes_is_said(spam: Any, loopai_fake: FakeLoopai, engine: tuple[str, ...]) -> None:
    """Where no version was named the run goes on with the new one: said once, and both stand in the summary."""
    mails(40)
    client = loopai_fake.client()
    client.push_program(client.get_task_by_name("spam").id, "def main(input): ...")
    words = (*MAILS, "--save-to", "label", *engine)
    assert "version" not in batch(*words, "--max-errors", "0", "--max-in-flight", "1", code=3)
    client.push_program(client.get_task_by_name("spam").id, "def main(input): ...")
    spam.returns({"label": "ham"})
    told = batch(*words, "--resume", code=1)
    assert told.count("The active version of task spam was 1 and is 2 now") == 1
    assert "Rows ran on versions 1, 2 of the task." in told
    summary = json.loads(batch(*words, "--retry-failed", "--json").strip().splitlines()[-1])["summary"]
    assert summary["task_versions"] == [1, 2]


def test_a_finished_run_is_not_called_ended_early(spam: Any) -> None:
    """Two commands: the second waits for the first, which finishes meanwhile; its record stays as it is."""
    mails(8)
    words = (*MAILS, "--save-to", "label", *QUICK)
    spam.returns({"label": "ham"})
    batch(*words)
    first = BatchRun.objects.get()
    BatchRun.objects.update(
        state="running", owner=f"{owner_name()}", lease_until=timezone.now() + timedelta(seconds=30)
    )

    def finish() -> None:
        BatchRun.objects.filter(pk=first.pk).update(state="finished", owner="", lease_until=None)
        connections.close_all()

    finishing = threading.Timer(0.6, finish)
    finishing.start()
    batch(*words, "--overwrite")
    finishing.join()
    assert [run.state for run in BatchRun.objects.order_by("pk")] == ["finished", "finished"]


# Parts that fail


@pytest.fixture
def faults() -> Iterator[list[Exception]]:
    yield MailManager.faults
    MailManager.faults.clear()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [RuntimeError("the disk is full"), SoftTimeLimitExceeded()])
def test_a_part_that_fails_again_and_again_stops_the_run(spam: Any, faults: list[Exception], fault: Exception) -> None:
    """After three tries, with its error and exit code 5; what remains is not tried, and `--resume` loses no row."""
    mails(40)
    words = ("--queryset", "inbox.Mail:fragile", "--map", "text=subject", "--save-to", "label", *CELERY)

    def fail_from_now_on(mail: dict[str, Any]) -> Any:
        if mail["text"] == "mail 10":
            faults.append(fault)
        return {"label": "ham"}

    spam.computes(fail_from_now_on)
    told = batch(*words, code=5)
    assert f"{type(fault).__name__}: {fault}" in told
    run = BatchRun.objects.get()
    assert (run.state, run.ok, run.errors, run.owner) == ("stopped", 14, 0, "")
    assert [part.attempts for part in run.parts.exclude(error="")] == [3]
    assert run.parts.exclude(error="").get().error in run.error
    assert set(run.parts.filter(error="").values_list("attempts", flat=True)) == {0}
    faults.clear()
    spam.returns({"label": "ham"})
    batch(*words, "--resume")
    assert labels() == dict.fromkeys(range(1, 41), "ham")
    assert len(spam.inputs) == 40
    run.refresh_from_db()
    assert (run.state, run.ok, run.parts.count()) == ("finished", 40, 0)


def test_a_part_whose_workers_are_lost_stops_the_run(spam: Any) -> None:
    """Killed again and again, as by a time limit or for lack of memory: it is not tried without end."""
    run, _ = failed_before(spam)
    [part] = handed_out(run)
    for worker in ("first", "second", "third"):
        assert part.acquire(worker, timezone.now(), -1)
    assert part.lost == 2
    before = len(spam.inputs)
    run_part.apply((run.pk, part.pk))
    run.refresh_from_db()
    assert run.state == "stopped"
    assert "lost 3 times" in run.error
    assert len(spam.inputs) == before


def test_a_run_is_not_stopped_before_the_parts_under_way_have_ended(spam: Any) -> None:
    """What another worker is at is finished and counted first."""
    run, _ = failed_before(spam)
    first = run.failures.order_by("pk")[0]
    bad = run.parts.create(run=run, after="0", upto=str(first.pk), failed=True)
    busy = run.parts.create(run=run, after=str(first.pk), upto="99999", failed=True)
    assert bad.acquire("bad", timezone.now(), 60)
    assert busy.acquire("busy", timezone.now(), 60)
    partitions.give_up(bad, "fault: it broke")
    assert not partitions.settle(run)
    assert partitions.abandoned(run, run.done) == []
    partitions.release(busy)
    assert partitions.settle(run)
    run.refresh_from_db()
    assert (run.state, run.error) == ("stopped", "fault: it broke")


def test_without_a_worker_the_command_says_how_to_start_one(spam: Any) -> None:
    """After ten seconds, once; one that has taken a part is not called for."""
    run, _ = failed_before(spam)
    handed_out(run)
    told: list[str] = []
    seen: list[int] = []

    def end_at_last(run: BatchRun, _: int) -> None:
        seen.append(len(told))
        if len(seen) == 2:
            run.end(partitions.WORKERS, BatchRun.State.CANCELLED, timezone.now())

    follow(
        run, Plan.of(run), [], Stop(), end_at_last, told.append, clock=count(step=3.0).__next__, sleep=lambda _: None
    )
    assert seen == [1, 1]
    assert "celery -A" in told[0]


# Reports


def figures(told: str) -> dict[str, Any]:
    """The summary, less what is told by the clock."""
    found: dict[str, Any] = json.loads(next(line for line in told.splitlines() if line.startswith('{"summary"')))[
        "summary"
    ]
    for name in ("seconds", "rows_per_s", "latency_ms", "gone_or_filled", "last_error"):
        found.pop(name, None)
    return found


def test_summary_and_report_are_those_of_one_process(spam: Any, tmp_path: Path) -> None:
    """Counts by kind of error, accuracy, precision, recall and confusion matrix; the page has them, too."""
    spam.computes(lambda mail: {**judge(mail), "score": int(mail["text"][-1]) % 3})
    mails(100)
    words = (*MAILS, "--expect", "score=output.score", "--save-to", "label", "--overwrite")
    ended = {}
    for name, engine in (("inline", QUICK), ("celery", CELERY)):
        page = tmp_path / f"{name}.html"
        told = batch(*words, *engine, "--json", "--report", str(page), code=1)
        ended[name] = figures(told)
        assert "Confusion matrix" in page.read_text()
        told_in_admin = BatchRun.objects.latest("pk").accuracy
        assert told_in_admin == pytest.approx(ended[name]["quality"]["accuracy"], abs=0.001)
    assert ended["celery"] == ended["inline"]
    assert ended["celery"]["errors_by_kind"] == {"no words in …": 11}


def test_a_report_after_failed_rows_were_repeated(spam: Any) -> None:
    """The errors that are left, and the repeated rows among the compared."""
    mails(40)
    words = (*MAILS, "--expect", "score=output.score", "--save-to", "label", *CELERY, "--json")
    spam.computes(lambda mail: {**judge(mail), "score": 1})
    first = figures(batch(*words, code=1))
    assert (first["quality"]["rows"], first["quality"]["failed"], first["quality"]["accuracy"]) == (36, 4, 1.0)
    spam.returns({"label": "spam", "score": 2})
    again = figures(batch(*words, "--retry-failed"))
    assert (again["ok"], again["errors"], again["errors_by_kind"]) == (4, 0, {})
    assert (again["quality"]["rows"], again["quality"]["failed"]) == (40, 0)
    assert again["quality"]["accuracy"] == 36 / 40


def test_a_run_goes_on_with_its_expected_column(spam: Any) -> None:
    """Labels of two columns are not counted together."""
    mails(20)
    words = (*MAILS, "--save-to", "label", *CELERY)
    batch(*words, "--expect", "score=output.label", code=1)
    spam.returns({"label": "ham"})
    told = batch(*words, "--expect", "share=output.label", "--retry-failed", code=2)
    assert "compared its rows with score=output.label" in told
    batch(*words, "--expect", "score=output.label", "--retry-failed")


def test_start_batch_writes_the_report(spam: Any, tmp_path: Path) -> None:
    """From code: the same as by the command; the worker that ends the run writes the page."""
    mails(30)
    page = tmp_path / "page.html"
    run = start_batch(
        "spam",
        "inbox.Mail",
        save_to=["label"],
        mapping=["text=subject"],
        expect="score=output.label",
        report=str(page),
        chunk_size=7,
    )
    assert run is not None
    run.refresh_from_db()
    assert (run.state, run.ok, run.errors) == ("finished", 27, 3)
    assert "Confusion matrix" in page.read_text()


def test_a_report_that_a_worker_cannot_write_is_no_fault_of_the_run(spam: Any, tmp_path: Path) -> None:
    """Its folder is not on the worker's disk: the run ends as it did."""
    mails(8)
    folder = tmp_path / "pages"
    folder.mkdir()

    def judge_late(mail: dict[str, Any]) -> Any:
        folder.exists() and folder.rmdir()
        return {"label": "ham"}

    spam.computes(judge_late)
    run = start_batch(
        "spam", "inbox.Mail", save_to=["label"], mapping=["text=subject"], report=str(folder / "page.html")
    )
    assert run is not None
    run.refresh_from_db()
    assert run.state == "finished"
    assert BatchFailure.objects.count() == 0


def test_the_command_in_a_transaction(spam: Any) -> None:
    """As in a TestCase: eager tasks run at once; workers would see nothing of it, which is refused."""
    mails(8)
    words = (*MAILS, "--save-to", "label", *CELERY)
    spam.returns({"label": "ham"})
    with transaction.atomic():
        assert "8 ok" in batch(*words)
    assert BatchRun.objects.get().state == "finished"
    current_app.conf.task_always_eager = False
    with transaction.atomic():
        assert "start_batch" in batch(*words, code=2)
    assert BatchRun.objects.count() == 1


def test_start_batch_in_a_transaction(spam: Any) -> None:
    """Workers see nothing of it before it is committed, and are told then."""
    Mail.objects.create(subject="mail 1")
    with transaction.atomic():
        run = start_batch("spam", "inbox.Mail", save_to=["label"], mapping=["text=subject"])
        assert run is not None
        assert spam.inputs == []
    run.refresh_from_db()
    assert (run.state, run.ok) == ("finished", 1)


@pytest.mark.parametrize("engine", ["inline", "celery"])
def test_inputs_are_checked_where_the_rows_are(loopai_fake: FakeLoopai, engine: str) -> None:
    """In this process or in the workers: what does not fit is the row's error, and is not sent."""
    pytest.importorskip("jsonschema_rs")
    task = loopai_fake.task("spam").takes({"properties": {"text": {"maxLength": 6}}}).returns({"label": "ham"})
    Mail.objects.bulk_create(Mail(subject=f"mail {turn}") for turn in range(8, 12))
    batch(*MAILS, "--save-to", "label=output.label", "--validate-inputs", "--engine", engine, *QUICK, code=1)
    assert sorted(value["text"] for value in task.inputs) == ["mail 8", "mail 9"]
    failures = BatchFailure.objects.order_by("key")
    assert {(failure.code, failure.message) for failure in failures} == {
        ("program", f'input.text: "mail {turn}" is longer than 6 characters') for turn in (10, 11)
    }


PROGRAMS = {
    "python": "def main(input):\n    return {'label': 'spam' if input['text'].endswith('1') else 'ham'}\n",
    "typescript": (
        "export function main(input: {text: string}) { return {label: input.text.endsWith('1') ? 'spam' : 'ham'} }"
    ),
}


@pytest.mark.skipif(sys.version_info < (3, 10), reason="programs run from Python 3.10 on")
@pytest.mark.parametrize("engine", ["inline", "celery"])
@pytest.mark.parametrize("language", PROGRAMS)
def test_with_edge_programs_run_where_the_rows_are(loopai_fake: FakeLoopai, language: str, engine: str) -> None:
    """In this process or in the workers, whatever the program's language; the server executes nothing."""
    if language == "typescript":
        pytest.importorskip("deno")
    task = loopai_fake.task("spam")
    loopai_fake.client().push_program("spam", PROGRAMS[language], language)
    Mail.objects.bulk_create(Mail(subject=f"mail {turn}") for turn in range(20))
    batch(*MAILS, "--save-to", "label=output.label", "--edge", "--engine", engine, *QUICK)
    expected = {f"mail {turn}": "spam" if turn % 10 == 1 else "ham" for turn in range(20)}
    assert dict(Mail.objects.values_list("subject", "label")) == expected
    assert task.inputs == []


def test_a_run_is_watched_on_when_the_database_failed(spam: Any) -> None:
    """A failed look is followed by another."""
    run = start_batch("spam", "inbox.Mail", mapping=["subject=subject"], save_to=["label"])
    assert run is not None

    faults = [OperationalError("database is locked")]

    def fail(execute: Any, *given: Any) -> Any:
        if faults:
            raise faults.pop()
        return execute(*given)

    watch_run.push_request(id="watch", args=(run.pk, "default", 0), kwargs={}, is_eager=False, called_directly=False)
    try:
        with connection.execute_wrapper(fail), pytest.raises(Retry) as retried:
            watch_run.run(run.pk, "default", 0)
    finally:
        watch_run.pop_request()
    assert retried.value.when == WATCH_SECONDS
