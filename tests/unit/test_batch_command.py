"""`run_command`: exit codes, what is said where, signals. Flags are the command line's own tests."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopai import FileJournal, RunInProgressError, SyncLoopaiClient
from loopai.batch.api import prepare
from loopai.batch.engine.chunks import outcome_of
from loopai.batch.engine.scheduler import INTERRUPTED, TOO_MANY_ERRORS
from loopai.batch.engine.stopping import Stop
from loopai.batch.formats.opening import open_source
from loopai.batch.options import BatchOptions
from loopai.batch.reporting.statistics import Statistics, Summary
from loopai.batch.rows import Row
from loopai.exceptions import OptionError
from loopai.shell.command import BatchCommand, refuse, run_command
from loopai.shell.exit_codes import TO_RESUME, TO_RETRY, CommandResult, told
from loopai.shell.options import CommandOptions, options_of
from loopai.testing import FakeLoopai, ProgramError


@pytest.fixture
def fake() -> FakeLoopai:
    made = FakeLoopai()

    def program(given: Any) -> Any:
        if given["n"] == 13:
            raise ProgramError("thirteen")
        return {"label": "even" if given["n"] % 2 == 0 else "odd"}

    made.task("parity").computes(program)
    return made


@pytest.fixture
def client(fake: FakeLoopai) -> Iterator[SyncLoopaiClient]:
    with fake.client() as made:
        yield made


def _input(folder: Path, count: int = 20) -> str:
    path = folder / "in.csv"
    rows = [f"k{n},{n},{'even' if n % 2 == 0 else 'odd'}" for n in range(count)]
    path.write_text("\n".join(["id,n:int,label", *rows]) + "\n")
    return str(path)


class Ran:
    """One command, with all it said."""

    def __init__(self, client: SyncLoopaiClient, stdin: bytes = b"", **options: Any) -> None:
        self.stdout, self.stderr = io.BytesIO(), io.StringIO()
        parsed = {"task": "parity", "mapping": ["n=n"], **options}
        try:
            given = options_of(CommandOptions, parsed)
        except OptionError as error:
            self.code = refuse(error, options.get("json", False), self.stderr)
        else:
            self.code = run_command(given, client, stdin=io.BytesIO(stdin), stdout=self.stdout, stderr=self.stderr)
        self.said = self.stderr.getvalue()
        self.rows = [json.loads(line) for line in self.stdout.getvalue().splitlines()]


def test_all_rows_ok_is_0(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """The rows are in the output, and the summary on stderr."""
    ran = Ran(client, input=_input(tmp_path, 10), output=str(tmp_path / "out.jsonl"), key="id")
    assert ran.code == 0
    assert "10 ok, 0 errors" in ran.said
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 10
    assert ran.rows == []


def test_failed_rows_are_1_and_stay_1_until_they_are_mended(
    client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path
) -> None:
    """A resumed run that adds no error still has the earlier one."""
    options = {"input": _input(tmp_path), "output": str(tmp_path / "out.jsonl"), "key": "id"}
    ran = Ran(client, **options, limit=15)
    assert ran.code == 1
    assert "1 × thirteen" in ran.said
    assert "--retry-failed" in ran.said
    assert Ran(client, **options, mode="resume").code == 1
    again = Ran(client, **options, mode="resume")
    assert (again.code, "finished already" in again.said) == (0, True)
    fake.task("parity").returns({"label": "odd"})
    assert Ran(client, **options, mode="retry_failed").code == 0


def test_rows_go_to_stdout_and_come_from_stdin(client: SyncLoopaiClient) -> None:
    """A filter among others: rows on stdout, everything else on stderr."""
    ran = Ran(client, b'{"n": 1}\n{"n": 2}\n', progress="plain")
    assert ran.code == 0
    assert [row["loopai_output"] for row in ran.rows] == [{"label": "odd"}, {"label": "even"}]
    assert "2 rows" in ran.said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mapping": ["n"]}, "write MEMBER=COLUMN"),
        ({"mapping": ["n=nn"]}, "no column 'nn'"),
        ({"key": "key"}, "no column 'key'"),
        ({"expect": "truth"}, "no column 'truth'"),
        ({"max_errors": "many"}, "--max-errors must be a count (20) or a share (5%), not 'many'"),
        ({"progress": "loud"}, "--progress must be one of"),
        ({"resume": True, "overwrite": True}, "--resume and --overwrite exclude each other"),
        ({"chunk_size": 0}, "--chunk-size must be a whole number from 1, not 0"),
        ({"max_concurrency": 200}, "--max-concurrency must be a whole number from 1 to 100, not 200"),
        ({"input": "missing.csv"}, "file not found: missing.csv"),
        ({"output": "out.txt"}, "cannot infer the format from 'out.txt'; pass --output-format"),
        ({"output": "out.jsonl.gz"}, "gzip it afterwards"),
        ({"resume": True, "output": "-"}, "keeps nothing to resume from"),
        ({"report": "nowhere/report.html"}, "--report: folder not found: nowhere"),
        ({"report": "."}, "--report: . is a folder; name a file in it"),
        ({"output": "."}, "--output: . is a folder; name a file in it"),
        (
            {"output": "-", "output_format": "xml"},
            "--output-format must be one of csv, jsonl, parquet, xlsx, not 'xml'",
        ),
        ({"format": "xml"}, "--format must be one of csv, jsonl, json, parquet, xlsx, not 'xml'"),
        ({"delimiter": "\\t"}, "--delimiter must be one character"),
        ({"grace": -1}, "--grace must be a number of seconds from 0, not -1"),
    ],
)
def test_usage_and_configuration_are_2(
    client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    """The error says what to do, and no row was sent."""
    ran = Ran(client, **{"input": _input(tmp_path), "output": str(tmp_path / "out.jsonl"), **options})
    assert (ran.code, fake.task("parity").call_count) == (2, 0)
    assert told in ran.said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"output": "in.csv"}, "the input and the output are the same file"),
        ({"output": "link.csv"}, "the input and the output are the same file"),
        ({"output": "hard.csv"}, "the input and the output are the same file"),
        ({"output": "out.jsonl", "journal": "in.csv"}, "the input and the journal are the same file"),
        ({"output": "out.jsonl", "journal": "out.jsonl"}, "the output and the journal are the same file"),
        ({"output": "out.jsonl", "report": "out.jsonl"}, "the output and the report are the same file"),
        ({"output": "out.jsonl", "report": "out.jsonl.journal"}, "the journal and the report are the same file"),
        ({"report": "in.csv"}, "the input and the report are the same file"),
    ],
)
def test_no_file_of_a_run_is_written_over_another(
    client: SyncLoopaiClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    told: str,
) -> None:
    """Not even with --overwrite, and by whatever name: the input is as it was."""
    monkeypatch.chdir(tmp_path)
    before = Path(_input(tmp_path)).read_bytes()
    (tmp_path / "link.csv").symlink_to("in.csv")
    os.link("in.csv", "hard.csv")
    ran = Ran(client, **{"input": "in.csv", "overwrite": True, **options})
    assert ran.code == 2
    assert told in ran.said
    assert (tmp_path / "in.csv").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["hard.csv", "in.csv", "link.csv"]


def test_a_version_that_is_not_there_is_2(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """Asked before the first row, so that not each row says so."""
    ran = Ran(client, input=_input(tmp_path), version=9)
    assert (ran.code, fake.task("parity").call_count) == (2, 0)
    assert "--task-version: task 'parity' has no version 9" in ran.said


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_a_finished_run_still_has_its_accuracy_and_report(client: SyncLoopaiClient, tmp_path: Path, name: str) -> None:
    """They are made of the rows that are there, as after a report that could not be written; nothing is sent."""
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    options = {"input": _input(tmp_path, 10), "output": str(tmp_path / name), "key": "id"}
    assert Ran(client, **options).code == 0
    report = tmp_path / "report.html"
    more = {"resume": True, "expect": "label", "report": str(report)}
    ran = Ran(client, **options, **more)
    assert ran.code == 0
    assert "finished already: nothing was sent" in ran.said
    assert "Accuracy 1.0000 over 10 rows" in ran.said
    assert "Confusion matrix" in report.read_text()
    summary = json.loads(Ran(client, **options, **more, json=True).said)["summary"]
    assert (summary["ended"], summary["quality"]["accuracy"]) == ("finished_before", 1.0)
    (tmp_path / name).unlink()
    gone = Ran(client, **options, **more)
    assert gone.code == 2
    assert f"{name} was removed, but not its journal; start again with --overwrite" in gone.said


@pytest.mark.parametrize("name", ["again.jsonl", "again.csv"])
def test_the_output_of_a_run_may_be_the_input_of_another(client: SyncLoopaiClient, tmp_path: Path, name: str) -> None:
    """What the earlier run added is replaced, in whatever format and over a resume; no column is there twice."""
    first, again = str(tmp_path / "out.csv"), str(tmp_path / name)
    assert Ran(client, input=_input(tmp_path), output=first).code == 1
    options = {"input": first, "output": again, "types": {"n": "int"}, "key": "id", "mapping": ["n=n"]}
    assert Ran(client, **options, limit=5).code == 0
    assert Ran(client, **options, mode="resume").code == 1
    found = list(open_source(again))
    assert [problem for _, _, problem in found] == [None] * 20
    columns = [
        "id",
        "n",
        "label",
        "loopai_status",
        "loopai_output",
        "loopai_error",
        "loopai_latency_ms",
        "loopai_confidence",
    ]
    assert all(list(row or {}) == columns for _, row, _ in found)


def test_an_unknown_task_is_2(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """Asked before the first row, so that not each row says so."""
    fake.task("parity").is_unknown()
    ran = Ran(client, input=_input(tmp_path))
    assert ran.code == 2
    assert "has no task" in ran.said


def test_duplicate_keys_are_2_and_named(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """With both line numbers, before anything is sent."""
    path = tmp_path / "in.csv"
    path.write_text("id,n:int\na,1\nb,2\na,3\n")
    ran = Ran(client, input=str(path), key="id")
    assert ran.code == 2
    assert "'a' on lines 2 and 4" in ran.said


def test_stopped_by_max_errors_is_3(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """It can be gone on with."""
    fake.task("parity").fails("no")
    options = {
        "input": _input(tmp_path, 500),
        "output": str(tmp_path / "out.jsonl"),
        "key": "id",
        "chunk_size": 10,
    }
    ran = Ran(client, **options, max_errors="20")
    assert ran.code == 3
    assert "more errors than --max-errors 20" in ran.said
    fake.task("parity").returns({"label": "odd"})
    assert Ran(client, **options, mode="retry_failed").code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 500


def test_an_unreachable_server_is_4(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """Before the first row."""
    fake.unreachable()
    ran = Ran(client, input=_input(tmp_path), json=True)
    assert ran.code == 4
    assert json.loads(ran.said.splitlines()[-1])["exit_code"] == 4


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_is_130_or_143_and_resumable(
    client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path, number: int, code: int
) -> None:
    """What is under way ends, the summary is written, and resume has the rest; the handlers are put back."""
    options = {
        "input": _input(tmp_path, 400),
        "output": str(tmp_path / "out.jsonl"),
        "key": "id",
        "chunk_size": 10,
    }
    before = signal.getsignal(number)
    seen = []

    def program(given: Any) -> Any:
        seen.append(given)
        if len(seen) == 55:
            os.kill(os.getpid(), number)
        return {"label": "odd"}

    fake.task("parity").computes(program)
    ran = Ran(client, **options)
    assert ran.code == code
    assert "Interrupted. Run again with --resume" in ran.said
    assert signal.getsignal(number) is before
    part = len((tmp_path / "out.jsonl").read_text().splitlines())
    assert 50 <= part < 400
    assert Ran(client, **options, mode="resume").code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 400
    assert len(seen) == 400


def test_a_second_signal_ends_at_once(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """Without waiting for what is under way; resume goes on all the same."""
    import threading

    options = {
        "input": _input(tmp_path, 100),
        "output": str(tmp_path / "out.jsonl"),
        "key": "id",
        "chunk_size": 10,
    }
    released = threading.Event()

    def program(given: Any) -> Any:
        if given["n"] == 25:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            released.wait(30)
        return {"label": "odd"}

    fake.task("parity").computes(program)
    ran = Ran(client, **options)
    released.set()
    assert ran.code in {130, 143}
    assert "Ended at once. Run again with --resume" in ran.said
    fake.task("parity").returns({"label": "odd"})
    assert Ran(client, **options, mode="resume").code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 100


def test_a_dry_run_shows_the_plan_and_sends_nothing(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """Rows, requests, and the first three inputs as they would be sent."""
    ran = Ran(client, input=_input(tmp_path, 250), key="id", dry_run=True, output=str(tmp_path / "out.jsonl"))
    assert (ran.code, fake.task("parity").call_count) == (0, 0)
    assert "250 rows" in ran.said
    assert "3 requests of at most 100" in ran.said
    assert 'k0: {"n": 0}\nk1: {"n": 1}\nk2: {"n": 2}\n' in ran.said
    assert os.listdir(tmp_path) == ["in.csv"]


def test_quality_is_in_the_summary_and_the_report(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """With --expect the outputs are held against a column, which is not sent."""
    report = tmp_path / "report.html"
    options = {"input": _input(tmp_path), "output": str(tmp_path / "out.jsonl"), "mapping": []}
    ran = Ran(client, **options, expect="label", report=str(report), json=True, progress="json")
    *progress, summary = [json.loads(line) for line in ran.said.splitlines()]
    assert progress[-1]["progress"]["done"] == 20
    quality = summary["summary"]["quality"]
    assert (quality["accuracy"], quality["rows"], quality["failed"]) == (1.0, 19, 1)
    assert quality["confusion"] == [[10, 0], [0, 9]]
    page = report.read_text()
    assert "Confusion matrix" in page
    assert "thirteen" in page


def test_rows_without_the_right_answer_have_no_accuracy(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """It is said, as nothing tells before which columns JSONL has."""
    ran = Ran(client, b'{"n": 1}\n{"n": 2}\n', expect="lable", progress="none")
    assert ran.code == 0
    assert "No accuracy: no row has both an output and the column that --expect names" in ran.said


def test_a_report_that_cannot_be_written_is_said_after_the_summary(
    client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path
) -> None:
    """The rows are in the output all the same, and nothing is to be run again for them."""
    folder = tmp_path / "reports"
    folder.mkdir()

    def program(given: Any) -> Any:
        if folder.exists():
            folder.rmdir()
        return {"label": "odd"}

    fake.task("parity").computes(program)
    output = tmp_path / "out.jsonl"
    ran = Ran(client, input=_input(tmp_path), output=str(output), report=str(folder / "report.html"), progress="none")
    assert ran.code == 2
    summary, *_, error = ran.said.splitlines()
    assert summary.startswith("20 ok, 0 errors")
    assert error == f"loopai: the report {folder}/report.html cannot be written: No such file or directory"
    assert len(output.read_text().splitlines()) == 20


def test_errors_and_labels_of_many_lines_are_one(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """In progress and summary, and what they hold for a terminal does not reach it; JSON has them as they are."""

    def program(given: Any) -> Any:
        if given["n"] % 2:
            raise ProgramError("bang\nand\r\n\x1b[2Jmore " + "x" * 1_000)
        return {"label": "two\nlines\x07"}

    fake.task("parity").computes(program)
    options = {"input": _input(tmp_path, 4), "output": str(tmp_path / "out.jsonl"), "overwrite": True}
    said = Ran(client, **options, expect="label", progress="plain").said
    assert "  2 × bang and \ufffd[…Jmore xxx" in said
    assert "last error: bang and \ufffd[2Jmore xxx" in said
    assert "  two lines\ufffd: precision 0.000" in said
    assert max(map(len, said.splitlines())) < 300
    as_json = Ran(client, **options, json=True, progress="none").said
    assert json.loads(as_json)["summary"]["last_error"].startswith("bang\nand\r\n")


def test_a_command_of_ones_own_ends_like_any_other(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """It brings its work, and what it adds to the summary; voice, report and exit codes are shared."""

    def ended(how: str, options: CommandOptions, **more: Any) -> tuple[int, list[str]]:
        stderr = io.StringIO()
        command = BatchCommand(options, client, stderr)

        def work(stop: Stop) -> CommandResult:
            made = prepare("t", [], BatchOptions(watchers=command.watchers()))
            made.scheduler.stopped = how
            return CommandResult(made.complete(), made.snapshot(), **{"errors": 0, **more})

        return command.carry_out(work), stderr.getvalue().splitlines()

    quiet = CommandOptions(task="t", progress="none", report=str(tmp_path / "report.html"), max_errors="5")
    code, said = ended(INTERRUPTED, quiet, interrupted="Cancelled.", interrupted_code=143, notes=["2 rows are gone."])
    assert code == 143
    assert said[1:] == ["2 rows are gone.", f"Cancelled. {TO_RESUME}", f"Report: {quiet.report}"]
    assert "Interrupted" in (tmp_path / "report.html").read_text()
    assert ended(TOO_MANY_ERRORS, quiet, errors=6)[0] == 3
    assert ended("unusable", quiet, stopped="Stopped: the file is gone.", code=2)[1][1].startswith("Stopped: the file")
    assert ended("finished", quiet, errors=6) == (1, [said[0], TO_RETRY, f"Report: {quiet.report}"])
    code, said = ended("finished", CommandOptions(task="t", progress="none", json=True), members={"gone": 2})
    assert (code, json.loads(said[0])["summary"]["gone"]) == (0, 2)


def test_a_pipe_that_nobody_reads_is_said(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """`loopai batch … | head` ends with a clear error; with --journal it can be gone on with."""
    read, write = os.pipe()
    os.close(read)
    stderr = io.StringIO()
    options = CommandOptions(
        task="parity", input=_input(tmp_path), mapping=["n=n"], journal=str(tmp_path / "j"), key="id"
    )
    with os.fdopen(write, "wb", 0) as closed:
        code = run_command(options, client, stdout=closed, stderr=stderr)
    assert code == 2
    assert "the reader of the output has closed it" in stderr.getvalue()
    out = io.BytesIO()
    assert run_command(replace(options, mode="resume"), client, stdout=out, stderr=io.StringIO()) == 1
    assert len(out.getvalue().splitlines()) == 20


def test_a_pipe_that_cannot_be_resumed_does_not_say_resume(client: SyncLoopaiClient, tmp_path: Path) -> None:
    """Without a journal --resume would be refused: what makes it possible is named instead."""
    read, write = os.pipe()
    os.close(read)
    stderr = io.StringIO()
    with os.fdopen(write, "wb", 0) as closed:
        code = run_command(
            CommandOptions(task="parity", input=_input(tmp_path), mapping=["n=n"]), client, stdout=closed, stderr=stderr
        )
    assert code == 2
    assert "Nothing was kept to resume from; pass --output FILE, or --journal FILE" in stderr.getvalue()
    assert "--resume" not in stderr.getvalue()


@pytest.mark.parametrize("progress", ["plain", "json"])
def test_a_run_goes_on_where_nobody_listens(client: SyncLoopaiClient, tmp_path: Path, progress: str) -> None:
    """As after `2>&1 | head`: the rows are what counts."""
    read, write = os.pipe()
    os.close(read)
    output = tmp_path / "out.jsonl"
    options = CommandOptions(
        task="parity", input=_input(tmp_path, 10), output=str(output), mapping=["n=n"], progress=progress
    )
    with io.TextIOWrapper(os.fdopen(write, "wb", 0), write_through=True) as nobody:
        assert run_command(options, client, stderr=nobody) == 0
    assert len(output.read_text().splitlines()) == 10


@pytest.mark.parametrize(
    ("closed", "options", "told"),
    [
        ("stdin", {"input": "-"}, "standard input is closed; name a file"),
        ("stdout", {"output": "-"}, "standard output is closed; pass --output FILE"),
    ],
)
def test_a_stream_that_is_closed_is_2(
    client: SyncLoopaiClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    closed: str,
    options: dict[str, Any],
    told: str,
) -> None:
    """As a daemon's may be."""
    monkeypatch.setattr(sys, closed, None)
    stderr = io.StringIO()
    given = CommandOptions(**{"task": "parity", "input": _input(tmp_path), "mapping": ["n=n"], **options})
    assert run_command(given, client, stderr=stderr) == 2
    assert told in stderr.getvalue()


def test_with_json_every_line_is_json(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """Notices, progress that nobody chose, a dry run's plan, errors: each is one object with one name."""
    options = {"input": _input(tmp_path), "output": str(tmp_path / "out.jsonl"), "key": "id", "json": True}

    def names(**more: Any) -> list[str]:
        return [next(iter(json.loads(line))) for line in Ran(client, **options, **more).said.splitlines()]

    assert set(names(dry_run=True)) == {"message"}
    assert names(resume=True) == ["message", "progress", "summary"]
    assert names(resume=True, progress="plain") == ["summary"]
    assert names(retry_failed=True, progress="plain") == ["progress", "summary"]
    assert names() == ["error"]


def test_continue_starts_resumes_and_ends_with_0(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """For cron: one command, whatever was before; nothing is sent once the file is done."""
    options = {"input": _input(tmp_path, 10), "output": str(tmp_path / "out.jsonl"), "key": "id", "continue_": True}
    first = Ran(client, **options, limit=4)
    assert (first.code, "Nothing to resume" in first.said) == (0, False)
    assert Ran(client, **options).code == 0
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == fake.task("parity").call_count == 10
    again = Ran(client, **options)
    assert (again.code, again.said.splitlines()[-1]) == (
        0,
        f"{options['output']} is finished already: nothing was sent.",
    )
    assert fake.task("parity").call_count == 10


def test_continue_leaves_a_run_in_progress_alone(client: SyncLoopaiClient, fake: FakeLoopai, tmp_path: Path) -> None:
    """For cron: the next call of a long run is nobody's error; every other mode is refused."""
    output = tmp_path / "out.jsonl"
    options = {"input": _input(tmp_path, 10), "output": str(output), "key": "id"}
    holder = FileJournal(f"{output}.journal", {})
    try:
        told = Ran(client, **options, continue_=True)
        assert (told.code, "another run is using" in told.said, "Nothing was started" in told.said) == (0, True, True)
        as_json = Ran(client, **options, continue_=True, json=True)
        assert (as_json.code, list(json.loads(as_json.said))) == (0, ["message"])
        assert Ran(client, **options, resume=True).code == 2
        with pytest.raises(RunInProgressError, match="another run is using"):
            client.run_batch("parity", tmp_path / "in.csv", output, key="id", mode="continue")
    finally:
        holder.close()
    assert fake.task("parity").call_count == 0
    assert not output.exists()


def _summary(latency: float, kinds: dict[str, int]) -> Summary:
    figures = {"p50": latency, "p95": latency * 10}
    return Summary("finished", 1, sum(kinds.values()), 0, 0, 0, 1.0, figures, errors_by_kind=kinds)


def test_the_summary_reads_well() -> None:
    """Latencies have units and no powers of ten, one row is one row, and what is left out is counted."""
    first, latency, *kinds = told(_summary(123.4, {f"kind {letter}": 2 for letter in "abcdefg"}))
    assert first == "1 ok, 14 errors in 1.0 s (15 rows/s)"
    assert latency == "Latency at the server: half of the rows within 123 ms, 95 % within 1.23 s"
    assert len(kinds) == 6
    assert kinds[-1] == "  … and 2 more kinds of errors, in 4 rows"
    assert told(_summary(1.0, {"one": 1}))[0].startswith("1 ok, 1 error in")


def test_rows_refused_before_they_run_have_no_latency() -> None:
    """A server says 0 ms of them, which is the time of nothing."""
    tally = Statistics(0.0)
    refused = {"success": False, "error_message": "input: text is missing", "latency_ms": 0.0}
    ran = {"success": True, "output": 1, "latency_ms": 40.0}
    tally.add([outcome_of(Row(str(n), {}), result, 1) for n, result in enumerate([refused] * 9 + [ran])], 1.0)
    assert tally.latencies.number == 1
    assert tally.latencies.percentile(0.5) == pytest.approx(40, rel=0.05)
