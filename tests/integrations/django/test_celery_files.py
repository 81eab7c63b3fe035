"""`loopai_batch --engine celery` from and into files, its workers in this process: what is read, written, repeated."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

import pytest
from celery import current_app
from django.core.management import CommandError, call_command, load_command_class
from django.db import connections, transaction
from django.utils import timezone
from inbox.models import Mail, Message

from loopai.batch.engine.stopping import Stop
from loopai.batch.rows import OK, Outcome, Row
from loopai.contrib.celery import look_after, run_part, start_batch
from loopai.contrib.django.batches import parts
from loopai.contrib.django.batches.files import FileRows
from loopai.contrib.django.batches.following import follow
from loopai.contrib.django.batches.plans import Plan
from loopai.contrib.django.batches.runs import Work
from loopai.contrib.django.batches.segments import FileStore
from loopai.contrib.django.models import BatchFailure, BatchPart, BatchRun, LeaseLost
from loopai.exceptions import ConfigurationError
from loopai.testing import FakeLoopai, ProgramError

pytestmark = pytest.mark.django_db(transaction=True)

QUICK = ("--progress", "none", "--chunk-size", "7")
CELERY = ("--engine", "celery", *QUICK)


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


def rows(number: int) -> list[dict[str, Any]]:
    return [
        {"id": f"m{n}", "text": f"mail {n}", "note": "two\nlines, \"quoted\"" if n % 5 == 0 else "é",
         "is": "spam" if n % 2 else "ham"}
        for n in range(1, number + 1)
    ]  # fmt: skip


def given(folder: Path, kind: str, found: list[dict[str, Any]]) -> Path:
    path = folder / f"mails.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in found))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
    else:
        arrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(arrow.Table.from_pylist(found), path, row_group_size=13)
    return path


def written(path: Path) -> list[dict[str, Any]]:
    """The rows of an output, less their latencies."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            found: list[dict[str, Any]] = list(csv.DictReader(file))
    elif path.suffix == ".parquet":
        import pyarrow.parquet

        found = pyarrow.parquet.read_table(path).to_pylist()
    else:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "loopai_latency_ms"} for row in found]


def by_id(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda row: int(row["id"][1:]))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("made", ["jsonl", "csv", "parquet"])
def test_the_output_is_what_one_process_writes(spam: Any, tmp_path: Path, kind: str, made: str) -> None:
    """Every kind of input into every kind of output: the same rows, in the order of the input, and nothing beside."""
    source = given(tmp_path, kind, rows(60))
    inline, celery = tmp_path / f"inline.{made}", tmp_path / f"celery.{made}"
    words = (str(source), "--id-field", "id", "--map", "text=text")
    batch(*words, "--output", str(inline), *QUICK, code=1)
    told = batch(*words, "--output", str(celery), *CELERY, code=1)
    assert "54 ok, 6 errors" in told
    assert written(celery) == by_id(written(inline))
    assert [row["id"] for row in written(celery)] == [row["id"] for row in rows(60)]
    run = BatchRun.objects.get()
    assert (run.state, run.engine, run.ok, run.errors, run.total) == ("finished", "celery", 54, 6, 60)
    assert {(failure.key, failure.code) for failure in run.failures.all()} == {
        (f"m{n}", "program") for n in range(9, 61, 9)
    }
    assert run.parts.count() == 0


@pytest.mark.parametrize("made", ["jsonl", "csv", "parquet"])
def test_failed_rows_are_repeated_where_they_stood(spam: Any, tmp_path: Path, made: str) -> None:
    """`--retry-failed` sends the failed rows alone; the output is whole and in order, and no other file stays."""
    source, output = given(tmp_path, "csv", rows(60)), tmp_path / f"out.{made}"
    words = (str(source), "--id-field", "id", "--map", "text=text", "--output", str(output), *CELERY)
    assert f"{output}.parts stays for --retry-failed" in batch(*words, code=1)
    spam.computes(lambda mail: judge(mail) if mail["text"] == "mail 9" else {"label": "late"})
    before = len(spam.inputs)
    assert "5 ok, 1 errors" in batch(*words, "--retry-failed", code=1)
    assert [mail["text"] for mail in spam.inputs[before:]] == [f"mail {n}" for n in range(9, 61, 9)]
    spam.computes(lambda mail: {"label": "later"})
    batch(*words, "--retry-failed")
    found = written(output)
    assert [row["id"] for row in found] == [row["id"] for row in rows(60)]
    assert {row["loopai_status"] for row in found} == {"ok"}
    labels = [json.loads(row["loopai_output"]) if made != "jsonl" else row["loopai_output"] for row in found]
    assert [labels[n - 1]["label"] for n in (1, 9, 18, 20)] == ["spam", "later", "late", "ham"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mails.csv", f"out.{made}"]
    assert "finished already" in batch(*words, "--resume")
    run = BatchRun.objects.get()
    assert (run.ok, run.errors, run.failures.count(), run.segments.count()) == (60, 0, 0, 0)


def test_rows_that_cannot_be_read_end_as_errors_with_their_lines(spam: Any, tmp_path: Path) -> None:
    """A broken line, one that lacks a member, keys by number: as one process has them."""
    source = tmp_path / "mails.jsonl"
    lines = [json.dumps(row) for row in rows(30)]
    lines[10] = "{"
    lines[17] = '{"id": "m18"}'
    source.write_text("\n".join(lines))
    inline, celery = tmp_path / "inline.jsonl", tmp_path / "celery.jsonl"
    words = (str(source), "--map", "text=text")
    batch(*words, "--output", str(inline), *QUICK, code=1)
    batch(*words, "--output", str(celery), *CELERY, code=1)
    assert sorted(map(str, written(celery))) == sorted(map(str, written(inline)))
    assert {failure.key: failure.code for failure in BatchFailure.objects.all()} == {
        "9": "program", "11": "unreadable", "18": "unmapped", "27": "program"
    }  # fmt: skip
    assert "line 11 is no JSON" in BatchFailure.objects.get(key="11").message


def test_rows_that_share_a_key(spam: Any, tmp_path: Path) -> None:
    """Refused with their lines, or with `--allow-duplicates` told apart by these."""
    source, output = given(tmp_path, "csv", [{**row, "id": "one"} for row in rows(20)]), tmp_path / "out.csv"
    words = (str(source), "--id-field", "id", "--map", "text=text", "--output", str(output), *CELERY)
    assert "'one' on lines 2 and 3" in batch(*words, code=2)
    batch(*words, "--allow-duplicates", code=1)
    assert sorted(failure.key for failure in BatchFailure.objects.all()) == ["one (line 11)", "one (line 22)"]
    spam.returns({"label": "ham"})
    batch(*words, "--allow-duplicates", "--retry-failed")
    assert len(written(output)) == 20
    assert BatchFailure.objects.count() == 0


def test_a_limit_is_of_the_file(spam: Any, tmp_path: Path) -> None:
    """The first rows; with another limit it is another run."""
    source, output = given(tmp_path, "jsonl", rows(60)), tmp_path / "out.jsonl"
    words = (str(source), "--map", "text=text", "--output", str(output), *CELERY)
    batch(*words, "--limit", "8")
    assert [row["id"] for row in written(output)] == [row["id"] for row in rows(8)]
    assert "its limit is 8, this run's 20" in batch(*words, "--limit", "20", "--resume", code=2)


def test_an_empty_file(spam: Any, tmp_path: Path) -> None:
    """An empty output."""
    source, output = tmp_path / "none.jsonl", tmp_path / "out.jsonl"
    source.touch()
    batch(str(source), "--map", "text=text", "--output", str(output), *CELERY)
    assert output.read_bytes() == b""
    assert BatchRun.objects.get().state == "finished"


def test_a_queryset_into_a_file(spam: Any, tmp_path: Path) -> None:
    """As one process writes it; rows that are gone when failed ones are repeated leave the output."""
    Mail.objects.bulk_create(Mail(subject=f"mail {n}") for n in range(1, 41))
    inline, celery = tmp_path / "inline.csv", tmp_path / "celery.csv"
    words = ("--queryset", "inbox.Mail", "--map", "text=subject", "--expect", "label")
    batch(*words, "--output", str(inline), *QUICK, code=1)
    words = (*words, "--output", str(celery), *CELERY)
    batch(*words, code=1)
    assert written(celery) == sorted(written(inline), key=lambda row: int(row["id"]))
    Mail.objects.get(subject="mail 9").delete()
    spam.returns({"label": "ham"})
    batch(*words, "--retry-failed")
    assert [row["subject"] for row in written(celery)] == [f"mail {n}" for n in range(1, 41) if n != 9]
    run = BatchRun.objects.get()
    assert (run.ok, run.errors, run.skipped) == (39, 0, 1)


# What is refused


def test_inputs_that_workers_cannot_read(spam: Any, tmp_path: Path) -> None:
    """Standard input, a gzipped file, a missing one: exit code 2, nothing sent, and what to do."""
    output = ("--output", str(tmp_path / "out.jsonl"), *CELERY)
    packed = tmp_path / "mails.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"text": "mail 1"}\n'))
    assert "cannot read standard input" in batch("-", *output, code=2)
    assert "cannot read standard input" in batch(*output, code=2)
    assert "gunzip it, or take --engine inline" in batch(str(packed), *output, code=2)
    assert "there is no file" in batch(str(tmp_path / "none.csv"), *output, code=2)
    assert spam.inputs == []
    assert BatchRun.objects.count() == 0


def test_outputs_that_workers_cannot_write(spam: Any, tmp_path: Path) -> None:
    """None, standard output, gzip, no known kind, a folder that is not there, a journal: exit code 2."""
    source = str(given(tmp_path, "jsonl", rows(3)))
    assert "--output FILE" in batch(source, *CELERY, code=2)
    assert "--output FILE" in batch(source, "--output", "-", *CELERY, code=2)
    assert "gzip it afterwards" in batch(source, "--output", str(tmp_path / "o.jsonl.gz"), *CELERY, code=2)
    assert "says none of" in batch(source, "--output", str(tmp_path / "out"), *CELERY, code=2)
    assert "cannot be written" in batch(source, "--output", str(tmp_path / "no" / "o.csv"), *CELERY, code=2)
    assert "--journal" in batch(
        source, "--output", str(tmp_path / "o.csv"), "--journal", str(tmp_path / "j"), *CELERY, code=2
    )
    assert "need --queryset" in batch(source, "--save-to", "label", *CELERY, code=2)
    assert BatchRun.objects.count() == 0


def test_an_output_that_is_there(spam: Any, tmp_path: Path) -> None:
    """It is kept, unless `--overwrite`; the two engines do not go on with each other's."""
    source, output = str(given(tmp_path, "jsonl", rows(12))), tmp_path / "out.jsonl"
    words = (source, "--map", "text=text", "--output", str(output))
    batch(*words, *CELERY, code=1)
    assert "exists: go on with --resume" in batch(*words, *CELERY, code=2)
    assert "is of a run with --engine celery" in batch(*words, *QUICK, "--resume", code=2)
    spam.returns({"label": "new"})
    batch(*words, *CELERY, "--overwrite")
    assert [row["loopai_output"]["label"] for row in written(output)] == ["new"] * 12
    batch(*words, *QUICK, "--overwrite")
    assert "is of a run without --engine celery" in batch(*words, *CELERY, "--resume", code=2)
    output.unlink()
    Path(f"{output}.journal").unlink()
    assert "Nothing was" not in batch(*words, *CELERY)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda path: path.write_text(path.read_text() + json.dumps(rows(1)[0])), "its input is"),
        (lambda path: path.write_text(path.read_text().replace("mail 2", "mail 3")), "its input is"),
    ],
)
def test_another_file_than_the_run_s(spam: Any, tmp_path: Path, change: Callable[[Path], Any], named: str) -> None:
    """A run goes on with the file that it began with, or says what differs."""
    source, output = given(tmp_path, "jsonl", rows(12)), tmp_path / "out.jsonl"
    words = (str(source), "--map", "text=text", "--output", str(output), *CELERY)
    batch(*words, code=1)
    change(source)
    assert named in batch(*words, "--retry-failed", code=2)
    assert len(spam.inputs) == 12


def test_another_task_or_mapping_than_the_run_s(spam: Any, loopai_fake: FakeLoopai, tmp_path: Path) -> None:
    """The difference is named."""
    source, output = str(given(tmp_path, "jsonl", rows(12))), str(tmp_path / "out.jsonl")
    batch(source, "--map", "text=text", "--output", output, *CELERY, code=1)
    assert "its mapping is ['text=text'], this run's ['text=note']" in batch(
        source, "--map", "text=note", "--output", output, *CELERY, "--retry-failed", code=2
    )
    assert "its key is None, this run's id" in batch(
        source, "--map", "text=text", "--id-field", "id", "--output", output, *CELERY, "--retry-failed", code=2
    )


def interrupted(spam: Any, tmp_path: Path, change: Callable[[], Any]) -> tuple[str, tuple[str, ...], Path]:
    """A run in whose first request something changes; what it said, its words and its output."""
    source, output = given(tmp_path, "csv", rows(40)), tmp_path / "out.csv"
    words = (str(source), "--id-field", "id", "--map", "text=text", "--output", str(output), *CELERY)
    done: list[bool] = []

    def once(mail: dict[str, Any]) -> Any:
        if not done:
            done.append(True)
            change()
            connections.close_all()  # those of the request's thread
        return {"label": "ham"}

    spam.computes(once)
    return batch(*words, code=2), words, output


def test_a_worker_that_sees_another_file_stops_the_run(spam: Any, tmp_path: Path) -> None:
    """Size, content or absence: host, path and difference are named; with the file back, `--resume` goes on."""
    source = tmp_path / "mails.csv"
    kept = tmp_path / "kept.csv"

    def swap() -> None:
        os.replace(source, kept)
        source.write_bytes(kept.read_bytes()[:-5])

    told, words, output = interrupted(spam, tmp_path, swap)
    assert f"{source} on host " in told
    assert "is not the file that the run began with: its bytes is" in told
    assert not output.exists()
    assert "its input is" in batch(*words, "--resume", code=2)
    source.unlink()
    os.replace(kept, source)
    batch(*words, "--resume")
    assert [row["id"] for row in written(output)] == [row["id"] for row in rows(40)]
    assert len(spam.inputs) == 40


def test_a_worker_that_sees_no_file_stops_the_run(spam: Any, tmp_path: Path) -> None:
    """As above, for a path that is not there."""
    source = tmp_path / "mails.csv"
    told, *_ = interrupted(spam, tmp_path, lambda: os.replace(source, tmp_path / "gone.csv"))
    assert f"{source} cannot be read on host " in told
    assert "every worker must see the run's input under this very path" in told


def test_a_worker_that_does_not_see_the_output_s_folder_stops_the_run(spam: Any, tmp_path: Path) -> None:
    """A folder of the same name on its own disk is not taken for the run's."""
    parts = tmp_path / "out.csv.parts"

    def swap() -> None:
        os.replace(parts, tmp_path / "elsewhere")
        parts.mkdir()

    told, words, output = interrupted(spam, tmp_path, swap)
    assert f"{parts} of run " in told
    assert "every worker must see the output's folder" in told
    parts.rmdir()
    os.replace(tmp_path / "elsewhere", parts)
    batch(*words, "--resume")
    assert len(written(output)) == 40


def test_a_worker_that_lacks_the_alias_stops_the_run(spam: Any, tmp_path: Path) -> None:
    """Its settings are others than the command's: said, and not tried for ever."""
    run, *_ = failed_before(spam, tmp_path)
    BatchRun.objects.update(options={**run.options, "alias": "elsewhere"})
    run_part.apply((run.pk, handed_out(run)[0].pk))
    run.refresh_from_db()
    assert run.state == "stopped"
    assert "LOOPAI has no alias 'elsewhere'" in run.error


def test_a_segment_that_was_lost_is_said(spam: Any, tmp_path: Path) -> None:
    """The run does not finish over rows that are missing."""
    source, output = given(tmp_path, "jsonl", rows(40)), tmp_path / "out.jsonl"
    words = (str(source), "--map", "text=text", "--output", str(output), *CELERY)
    batch(*words, code=1)
    lost = sorted((tmp_path / "out.jsonl.parts").glob("segment-*"))[0]
    lost.unlink()
    spam.returns({"label": "ham"})
    told = batch(*words, "--retry-failed", code=2)
    assert f"{lost} is not there on host" in told


def test_an_output_that_is_gone(spam: Any, tmp_path: Path) -> None:
    """A finished run does not pass for one whose output is there."""
    source, output = str(given(tmp_path, "jsonl", rows(8))), tmp_path / "out.jsonl"
    words = (source, "--map", "text=text", "--output", str(output), *CELERY)
    batch(*words)
    output.unlink()
    assert "is gone: --overwrite starts again" in batch(*words, "--resume", code=2)
    batch(*words, "--overwrite")
    assert len(written(output)) == 8


def test_results_of_a_run_that_the_database_has_not_are_kept(spam: Any, tmp_path: Path) -> None:
    """Of another site, by another path, or deleted in the admin: nobody begins in their place unasked."""
    source, real = str(given(tmp_path, "jsonl", rows(12))), tmp_path / "real"
    real.mkdir()
    (tmp_path / "other").symlink_to(real)
    words = (source, "--map", "text=text", *CELERY)
    batch(*words, "--output", str(real / "out.jsonl"), code=1)
    (real / "out.jsonl").unlink()
    kept = sorted((real / "out.jsonl.parts").iterdir())
    for mode in ((), ("--resume",), ("--retry-failed",)):
        told = batch(*words, "--output", str(tmp_path / "other" / "out.jsonl"), *mode, code=2)
        assert "is of a run that the database does not have" in told
    assert sorted((real / "out.jsonl.parts").iterdir()) == kept
    batch(*words, "--output", str(tmp_path / "other" / "out.jsonl"), "--overwrite", code=1)


def test_help_says_what_an_engine_cannot_do(capsys: Any) -> None:
    """Before one tries it; and a share is written with one sign."""
    with pytest.raises(SystemExit):
        load_command_class("loopai.contrib.django", "loopai_batch").run_from_argv(
            ["manage.py", "loopai_batch", "--help"]
        )
    told = " ".join(capsys.readouterr().out.split())
    assert "with --engine inline also gzipped, or - for stdin" in told
    assert "what to resume from (beside the output); --engine inline" in told
    assert "--max-errors N|P% " in told


def test_a_dry_run_says_what_workers_cannot_do(spam: Any, tmp_path: Path) -> None:
    """As the run would; and it is no run, so that what another left beside the output is not in its way."""
    source, output = str(given(tmp_path, "jsonl", rows(12))), str(tmp_path / "out.jsonl")
    packed = tmp_path / "mails.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"text": "mail 1"}\n'))
    words = ("--map", "text=text", "--dry-run", *CELERY)
    batch(source, "--map", "text=text", "--output", output, *CELERY, code=1)
    sent = len(spam.inputs)
    assert "12 rows" in batch(source, "--output", output, *words)
    assert "gunzip it" in batch(str(packed), "--output", output, *words, code=2)
    assert "cannot read standard input" in batch("-", "--output", output, *words, code=2)
    assert "--output FILE" in batch(source, "--output", "-", *words, code=2)
    assert "--journal" in batch(source, "--output", output, "--journal", output, *words, code=2)
    assert len(spam.inputs) == sent


# Going on


def failed_before(spam: Any, tmp_path: Path, made: str = "jsonl") -> tuple[BatchRun, Path, tuple[str, ...]]:
    """A finished run, six of whose rows failed in as many segments, that is to repeat them; its output and words."""
    source, output = str(given(tmp_path, "csv", rows(60))), tmp_path / f"out.{made}"
    words = (source, "--id-field", "id", "--map", "text=text", "--output", str(output), *CELERY)
    batch(*words, code=1)
    spam.returns({"label": "late"})
    run = BatchRun.objects.get()
    BatchRun.objects.update(state=BatchRun.State.PENDING, mode=BatchRun.Mode.RETRY_FAILED)
    assert run.acquire(parts.WORKERS, timezone.now(), 60)
    return run, output, words


def handed_out(run: BatchRun) -> list[BatchPart]:
    with transaction.atomic():
        return parts.first_parts(run, Work(Plan.of(run), "default"))


def test_a_message_from_before_does_not_end_a_run_that_goes_on(spam: Any, tmp_path: Path) -> None:
    """The one to join what was written, delivered late: the output has the repeated rows for all that."""
    run, output, _ = failed_before(spam, tmp_path)
    late = run.parts.create(run=run, upto="", joins=True)
    wanted = handed_out(run)
    run_part.apply((run.pk, late.pk))
    for part in wanted:
        run_part.apply((run.pk, part.pk))
    assert {row["loopai_status"] for row in written(output)} == {"ok"}
    run.refresh_from_db()
    assert (run.state, run.ok, run.errors) == ("finished", 60, 0)


def test_two_who_have_one_run_go_on_repeat_its_rows_once(spam: Any, tmp_path: Path) -> None:
    """The admin and a command at one moment: nothing is sent or counted twice."""
    run, output, _ = failed_before(spam, tmp_path)
    before = len(spam.inputs)
    for part in [*handed_out(run), *handed_out(run)]:
        run_part.apply((run.pk, part.pk))
    assert len(spam.inputs) - before == 6
    run.refresh_from_db()
    assert (run.state, run.ok, run.errors, run.parts.count()) == ("finished", 60, 0, 0)
    assert len(written(output)) == 60


def test_who_looked_after_a_run_before_does_not_end_it_as_it_goes_on(spam: Any, tmp_path: Path) -> None:
    """A look at the moment when it was taken and has no parts yet; one that nobody ended is ended."""
    run, *_ = failed_before(spam, tmp_path)
    look_after(run, run.done)
    run.refresh_from_db()
    assert run.state == "running"
    BatchRun.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=5))
    run.refresh_from_db()
    look_after(run, run.done)
    run.refresh_from_db()
    assert run.state == "finished"


def test_rows_that_failed_since_are_repeated_too(spam: Any, tmp_path: Path) -> None:
    """A repetition that was cut short, more rows that failed after it: the next is of all, with all its attempts."""
    run, output, words = failed_before(spam, tmp_path)
    first = run.segments.filter(errors__gt=0).order_by("pk")[0]
    run.parts.create(run=run, after="0", upto=str(first.pk), failed=True, attempts=9)
    BatchRun.objects.update(state=BatchRun.State.CANCELLED, owner="")
    assert "6 ok, 0 errors" in batch(*words, "--retry-failed")
    assert {row["loopai_status"] for row in written(output)} == {"ok"}
    left = run.parts.create(run=run, upto="60:0:0", attempts=9)
    handed_out(run)
    left.refresh_from_db()
    assert left.attempts == 0


def test_a_worker_that_lost_its_part_keeps_nothing(spam: Any, tmp_path: Path) -> None:
    """Two repeat the same failed rows, as the first was silent for too long: one of them is heard."""
    run, _, _ = failed_before(spam, tmp_path)
    work = Work(Plan.of(run), "default")
    first = run.segments.filter(errors__gt=0).order_by("pk")[0]
    slow = run.parts.create(run=run, after="0", upto=str(first.pk), failed=True)
    quick = BatchPart.objects.get(pk=slow.pk)
    found: list[tuple[FileStore, BatchPart, list[Row]]] = []
    for part, owner in ((slow, "slow"), (quick, "quick")):
        assert part.acquire(owner, timezone.now(), -1)
        store = FileStore(run, work)
        found.append((store, part, parts.rows_of(run, part, work, store)[0]))
    for (store, part, again), label in reversed(list(zip(found, ("slow", "quick")))):
        outcomes = [Outcome(row, OK, {"label": label}, None, None, 1.0, 1) for row in again]
        if label == "quick":
            store.keep(again, outcomes, part, [])
            continue
        with pytest.raises(LeaseLost):
            store.keep(again, outcomes, part, [])
    run.refresh_from_db()
    assert (run.ok, run.errors) == (55, 5)
    first.refresh_from_db()
    assert "quick" in (tmp_path / "out.jsonl.parts" / first.name).read_text()


@pytest.mark.parametrize("made", ["jsonl", "parquet"])
def test_a_worker_that_lost_the_last_part_leaves_the_output_alone(spam: Any, tmp_path: Path, made: str) -> None:
    """Another has joined newer results by the time that it is done."""
    if made == "parquet":
        pytest.importorskip("pyarrow")
    run, output, _ = failed_before(spam, tmp_path, made)
    last = run.parts.create(run=run, upto="", joins=True)
    asked: list[bool] = []

    def alive() -> None:
        asked.append(True)
        if len(asked) == lives:
            [whole] = Path(f"{output}.parts").glob(f"joined-*.{made}")
            assert b"m60" in whole.read_bytes()
            output.write_text("newer")
            raise LeaseLost("it was silent")

    store, lives = FileStore(run, Work(Plan.of(run), "default")), 0
    before = output.stat().st_ino
    store.join(last, alive)
    assert output.stat().st_ino != before
    # Now it is silent before its very last step.
    lives, asked[:] = len(asked), []
    with pytest.raises(LeaseLost):
        store.join(run.parts.create(run=run, upto="", joins=True), alive)
    assert output.read_text() == "newer"
    assert not (tmp_path / f"out.{made}.part").exists()


def test_a_worker_that_reads_for_long_keeps_its_part(spam: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A disk may be slow, and a Parquet file of one row group is read from its start: two would take turns for ever."""
    source, left = given(tmp_path, "csv", rows(20)), []
    between = FileRows.between

    def slowly(self: FileRows, run: BatchRun, *bounds: Any) -> list[Row]:
        held = run.parts.exclude(owner="").get()
        left.append((held.lease_until - timezone.now()).total_seconds())
        return between(self, run, *bounds)

    monkeypatch.setattr(FileRows, "between", slowly)
    batch(str(source), "--map", "text=text", "--output", str(tmp_path / "out.jsonl"), *CELERY, code=1)
    assert min(left) > 60


def test_a_run_whose_output_a_later_one_writes_does_not_go_on(spam: Any, tmp_path: Path) -> None:
    """Asked in the admin: it says which run it is, and sends nothing."""
    source, output = str(given(tmp_path, "jsonl", rows(12))), tmp_path / "out.jsonl"
    words = (source, "--map", "text=text", "--output", str(output), *CELERY)
    batch(*words, code=1)
    batch(*words, "--overwrite", code=1)
    later, earlier = BatchRun.objects.order_by("-pk")
    sent = len(spam.inputs)
    assert earlier.request_retry()
    earlier.refresh_from_db()
    assert f"run {later.pk} has begun to write {output} since" in earlier.error
    assert (earlier.state, len(spam.inputs)) == ("interrupted", sent)


def test_errors_of_before_do_not_stop_their_repetition(spam: Any, tmp_path: Path) -> None:
    """`--max-errors` stops where rows fail, not where those that did end well."""
    _, _, words = failed_before(spam, tmp_path)
    BatchRun.objects.update(state=BatchRun.State.FINISHED, owner="")
    assert "6 ok, 0 errors" in batch(*words, "--retry-failed", "--max-errors", "3")


def test_columns_keep_their_places_whatever_the_order_of_the_flags(spam: Any, tmp_path: Path) -> None:
    """A run is cut short and goes on with its `--map` the other way round."""
    Mail.objects.bulk_create(Mail(subject=f"mail {n}", label="ham") for n in range(1, 41))
    output = tmp_path / "out.csv"
    words = ("--queryset", "inbox.Mail", "--output", str(output), *CELERY)
    maps = ("--map", "text=subject", "--map", "note=label")
    batch(*words, *maps, "--max-errors", "0", code=3)
    batch(*words, *maps[2:], *maps[:2], "--resume", code=1)
    assert [(row["subject"], row["label"]) for row in written(output)] == [(f"mail {n}", "ham") for n in range(1, 41)]


def test_rows_that_a_join_repeats_run_once(spam: Any, tmp_path: Path) -> None:
    """A filter over many gives a row several times: it is sent, written and counted once, in both engines."""
    for n in range(1, 41):
        message = Message.objects.create(text=f"mail {n}")
        Mail.objects.bulk_create(Mail(subject="x", message=message, label="ham") for _ in range(3))
    words = ("--queryset", "inbox.Message", "--filter", "mail__label=ham", "--map", "text=text")
    for engine in (QUICK, CELERY):
        before = len(spam.inputs)
        output = tmp_path / f"{len(engine)}.jsonl"
        assert "36 ok, 4 errors" in batch(*words, "--output", str(output), *engine, code=1)
        assert sorted(int(row["text"].split()[1]) for row in written(output)) == list(range(1, 41))
        assert len(spam.inputs) - before == 40
    assert "36 ok, 4 errors" in batch(*words, "--save-to", "label", *CELERY, code=1)


def test_a_run_that_is_deleted_while_it_is_watched(spam: Any, tmp_path: Path) -> None:
    """Said in words."""
    run, _, _ = failed_before(spam, tmp_path)
    with pytest.raises(LeaseLost, match="was deleted"):
        follow(run, Plan.of(run), [], Stop(), lambda run: run.delete() and None, sleep=lambda _: None)


# Reports


def figures(told: str) -> dict[str, Any]:
    """The summary, less what is told by the clock."""
    found: dict[str, Any] = json.loads(told.strip().splitlines()[-1])["summary"]
    for name in ("seconds", "rows_per_s", "latency_ms", "gone_or_filled", "last_error"):
        found.pop(name, None)
    return found


@pytest.mark.parametrize("over", ["file", "queryset into rows", "queryset into file"])
def test_summary_and_report_are_those_of_one_process(spam: Any, tmp_path: Path, over: str) -> None:
    """Counts by kind of error, accuracy, precision, recall and confusion matrix; the page has them, too."""
    spam.computes(lambda mail: {**judge(mail), "score": int(mail["text"][-1]) % 3})
    Mail.objects.bulk_create(Mail(subject=row["text"], score=1) for row in rows(100))
    words: tuple[str, ...] = ("--queryset", "inbox.Mail", "--map", "text=subject", "--expect", "score=output.score")
    if over == "file":
        words = (str(given(tmp_path, "csv", rows(100))), "--map", "text=text", "--expect", "is=output.label")
    ended = {}
    for name, engine in (("inline", QUICK), ("celery", CELERY)):
        target = ("--output", str(tmp_path / f"{name}.jsonl"))
        if over == "queryset into rows":
            target = ("--save-to", "label", "--overwrite")  # type: ignore[assignment]
        page = tmp_path / f"{name}.html"
        told = batch(*words, *target, *engine, "--json", "--report", str(page), code=1)
        ended[name] = figures(told)
        assert "Confusion matrix" in page.read_text()
    assert ended["celery"] == ended["inline"]
    assert ended["celery"]["errors_by_kind"] == {"no words in …": 11}


def test_a_report_after_failed_rows_were_repeated(spam: Any, tmp_path: Path) -> None:
    """The errors that are left, and the repeated rows among the compared."""
    source, output = given(tmp_path, "csv", rows(40)), tmp_path / "out.jsonl"
    words = (str(source), "--map", "text=text", "--expect", "is=output.label", "--output", str(output), *CELERY)
    first = figures(batch(*words, "--json", code=1))
    assert (first["quality"]["rows"], first["quality"]["failed"], first["quality"]["accuracy"]) == (36, 4, 1.0)
    spam.returns({"label": "spam"})
    again = figures(batch(*words, "--json", "--retry-failed"))
    assert (again["ok"], again["errors"], again["errors_by_kind"]) == (4, 0, {})
    assert (again["quality"]["rows"], again["quality"]["failed"]) == (40, 0)
    assert again["quality"]["accuracy"] == 38 / 40


def test_a_run_into_rows_goes_on_with_its_expected_column(spam: Any) -> None:
    """Labels of two columns are not counted together."""
    Mail.objects.bulk_create(Mail(subject=row["text"], score=1) for row in rows(20))
    words = ("--queryset", "inbox.Mail", "--map", "text=subject", "--save-to", "label", *CELERY)
    batch(*words, "--expect", "score=output.label", code=1)
    spam.returns({"label": "ham"})
    told = batch(*words, "--expect", "share=output.label", "--retry-failed", code=2)
    assert "compared its rows with score=output.label" in told
    batch(*words, "--expect", "score=output.label", "--retry-failed")


def test_start_batch_takes_files_and_writes_the_report(spam: Any, tmp_path: Path) -> None:
    """From code: the same as by the command; the worker that ends the run writes the page."""
    source, output, page = given(tmp_path, "jsonl", rows(30)), tmp_path / "out.csv", tmp_path / "page.html"
    run: Optional[BatchRun] = start_batch(
        "spam", input=str(source), output=str(output), map=["text=text"], id_field="id", expect="is=output.label",
        report=str(page), chunk_size=7,
    )  # fmt: skip
    assert run is not None
    run.refresh_from_db()
    assert (run.state, run.ok, run.errors) == ("finished", 27, 3)
    assert [row["id"] for row in written(output)] == [row["id"] for row in rows(30)]
    assert "Confusion matrix" in page.read_text()


def test_rows_that_are_gone_are_told_by_workers_too(spam: Any, tmp_path: Path) -> None:
    """As by one process: a row that is deleted while it is judged."""
    Mail.objects.bulk_create(Mail(subject=f"mail {n}") for n in range(1, 9))
    done: list[bool] = []

    def once(mail: dict[str, Any]) -> Any:
        if not done:
            done.append(True)
            Mail.objects.filter(subject="mail 2").delete()
            connections.close_all()
        return {"label": "ham"}

    spam.computes(once)
    told = batch("--queryset", "inbox.Mail", "--map", "text=subject", "--save-to", "label", *CELERY)
    assert "1 rows were deleted meanwhile: skipped." in told


def test_a_report_that_a_worker_cannot_write_is_no_fault_of_the_run(spam: Any, tmp_path: Path) -> None:
    """Its folder is not on the worker's disk: the run ends as it did."""
    source, output, folder = given(tmp_path, "jsonl", rows(8)), tmp_path / "out.csv", tmp_path / "pages"
    folder.mkdir()

    def judge_late(mail: dict[str, Any]) -> Any:
        folder.exists() and folder.rmdir()
        return {"label": "ham"}

    spam.computes(judge_late)
    run = start_batch(
        "spam", input=str(source), output=str(output), map=["text=text"], report=str(folder / "page.html")
    )
    assert run is not None
    run.refresh_from_db()
    assert run.state == "finished"


def test_start_batch_in_a_transaction(spam: Any, tmp_path: Path) -> None:
    """Workers see nothing of it before it is committed, and are told then."""
    Mail.objects.create(subject="mail 1")
    with transaction.atomic():
        run = start_batch("spam", "inbox.Mail", save_to=["label"], map=["text=subject"])
        assert run is not None
        assert spam.inputs == []
    run.refresh_from_db()
    assert (run.state, run.ok) == ("finished", 1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dry_run": True}, "dry_run is for the command"),
        ({"overwrite": True}, "mode='overwrite' says it"),
        ({"mode": "retry-failed"}, "mode is one of new, resume, retry_failed, overwrite"),
    ],
)
def test_start_batch_refuses_what_it_would_not_heed(spam: Any, options: dict[str, Any], told: str) -> None:
    """Above all a dry run that would send rows."""
    with pytest.raises(ConfigurationError, match=told):
        start_batch("spam", "inbox.Mail", save_to=["label"], map=["text=subject"], **options)
    assert BatchRun.objects.count() == 0
