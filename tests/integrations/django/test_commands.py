"""`manage.py loopai_health` and `loopai_tasks`."""

from __future__ import annotations

import json
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any, Optional

import pytest
from django.core import checks
from django.core.management import call_command, load_command_class
from django.core.management.base import CommandError
from django.test import override_settings
from pydantic import BaseModel

from loopai.contrib.django.testing import override_loopai
from loopai.testing import FakeLoopai


class Email(BaseModel):
    text: str


class Verdict(BaseModel):
    label: str


def typed(*arguments: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    out = StringIO()
    try:
        call_command(*arguments, stdout=out, stderr=out, no_color=True)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, out.getvalue() or str(error)
    return 0, out.getvalue()


def health(*arguments: str, **fakes: FakeLoopai) -> tuple[int, str]:
    with override_settings(LOOPAI={alias: {"TRANSPORT": fake} for alias, fake in fakes.items()}):
        return typed("loopai_health", *arguments)


def test_health_of_every_alias() -> None:
    """One line an alias, exit code 0 where all are healthy."""
    line = "{}: healthy http://localhost:8080 fake Development\n"
    told = line.format("default") + line.format("other")
    assert health(default=FakeLoopai(), other=FakeLoopai()) == (0, told)


def test_health_tells_what_is_worst() -> None:
    """A server that cannot be reached is 4, one that says it is ill 1, a wrong setting or key 2."""
    ill, away, closed, broken = FakeLoopai(), FakeLoopai(), FakeLoopai(), FakeLoopai()
    ill.operation("get_health").replies({"status": "unhealthy"})
    away.unreachable()
    closed.raises(401)
    broken.raises(500)
    assert health(default=FakeLoopai(), other=ill)[0] == 1
    assert health(default=broken)[0] == 1
    assert health(default=ill, other=away)[0] == 4
    assert health(default=away, other=closed)[0] == 2
    assert health("--alias", "default", default=FakeLoopai(), other=away)[0] == 0
    code, text = health("--alias", "othr", default=FakeLoopai())
    assert (code, "no alias 'othr'" in text) == (2, True)
    with override_settings(LOOPAI={"other": {}}):
        assert typed("loopai_health")[0] == 2


def test_health_as_json() -> None:
    """A list of objects, with each alias's own exit code."""
    away = FakeLoopai()
    away.unreachable()
    code, text = health("--json", default=FakeLoopai(), other=away)
    first, second = json.loads(text)
    assert code == 4
    assert (first["alias"], first["status"], first["exit_code"]) == ("default", "healthy", 0)
    assert (second["alias"], second["status"], second["exit_code"]) == ("other", "unreachable", 4)
    assert "Refused" in second["error"]


CLASSES = ["--input-schema", f"{__name__}.Email", "--output-schema", f"{__name__}.Verdict"]


@override_loopai()
def test_a_task_is_created_from_two_classes_and_read_back() -> None:
    """The classes are named by their dotted path; what a verb shows is plain text, or JSON."""
    code, text = typed("loopai_tasks", "create", "--name", "spam", "--description", "Tells \x1b[31mspam", *CLASSES,
                       "--accuracy-target", "0.9")  # fmt: skip
    assert (code, text.splitlines()[0]) == (0, "name: spam")
    assert "description: Tells \\x1b[31mspam\n" in text
    [told] = json.loads(typed("loopai_tasks", "list", "--json")[1])
    assert told["input_schema"]["required"] == ["text"]
    assert told["accuracy_target"] == 0.9
    assert json.loads(typed("loopai_tasks", "get", told["id"], "--json")[1])["id"] == told["id"]
    heading, line = typed("loopai_tasks", "list")[1].splitlines()
    assert heading.split() == ["name", "id", "version", "made"]
    assert line.startswith(f"spam  {told['id']}  ")
    code, text = typed("loopai_tasks", "create", "--name", "spam", "--description", "Again", *CLASSES)
    assert (code, "already exists" in text) == (1, True)


def test_a_task_is_created_from_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopai_fake: FakeLoopai) -> None:
    """From a file or standard input; flags beat the file."""
    task = {
        "name": "spam",
        "description": "Tells spam",
        "input_schema": {"type": "object"},
        "output_schema": {"type": "object"},
        "examples": [{"input": {"text": "a prize"}, "output": {"label": "spam"}}],
    }
    file = tmp_path / "task.json"
    file.write_text(json.dumps(task))
    code, text = typed("loopai_tasks", "create", "--file", str(file), "--json")
    assert (code, json.loads(text)["name"]) == (0, "spam")
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(json.dumps(task).encode())))
    code, text = typed("loopai_tasks", "create", "--name", "ham", "-f", "-", "--json")
    assert (code, json.loads(text)["name"]) == (0, "ham")
    sent = [json.loads(request.content) for request in loopai_fake.requests]
    assert [each["name"] for each in sent] == ["spam", "ham"]
    assert sent[0]["examples"] == task["examples"]


def test_schemas_and_examples_come_as_in_the_other_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopai_fake: FakeLoopai
) -> None:
    """A schema is JSON or a file, also one whose name could be a class's; examples may be JSON lines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    (tmp_path / "examples.jsonl").write_text('{"input": 1, "output": 2}\n{"input": 2, "output": 3}\n')
    code, text = typed("loopai_tasks", "create", "--name", "n", "--description", "d", "--input-schema", "schema.json",
                       "--output-schema", "true", "--examples", "examples.jsonl")  # fmt: skip
    assert code == 0, text
    sent = json.loads(loopai_fake.requests[0].content)
    assert (sent["input_schema"], sent["output_schema"], len(sent["examples"])) == ({"type": "object"}, True, 2)


@pytest.mark.parametrize(
    ("arguments", "content", "text"),
    [
        (["create", "--name", "spam"], None, "a task needs --description, --input-schema, --output-schema"),
        (["create", "--file", "{file}"], "[]", "is not a JSON object"),
        (["create", "--file", "{file}"], "{", "not JSON"),
        (["create", "--file", "{file}"], '{"naem": "a"}', "unknown member 'naem': did you mean name?"),
        (["create", "--file", "{file}"], '{"colour": 1}', "unknown member 'colour': a task has name, description"),
        (
            ["create", "--input-schema", "no.such.Class"],
            None,
            "--input-schema: no.such.Class is not a file, and cannot",
        ),
        (["create", "--output-schema", "pathlib.Path"], None, "--output-schema: pathlib.Path is not a pydantic class"),
        (["create", "--sampling-rate", "2"], None, "--sampling-rate: must be a number from 0 to 1, not '2'"),
        (["artifacts", "spam", "--code", "0"], None, "--code: must be a whole number from 1"),
        (["push", "spam", "{file}"], None, "No such file"),
        (["list", "--alias", "othr"], None, "no alias 'othr'"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_sent(
    arguments: list[str], content: Optional[str], text: str, tmp_path: Path, loopai_fake: FakeLoopai
) -> None:
    """Exit code 2, a message that names what is wrong, and no request."""
    file = tmp_path / "given.json"
    if content is not None:
        file.write_text(content)
    code, said = typed("loopai_tasks", *(word.format(file=file) for word in arguments))
    assert (code, text in said) == (2, True), said
    assert loopai_fake.requests == []


def test_both_shells_have_the_same_verbs_and_flags() -> None:
    """Beside how each chooses its server, and help, there is no difference, metavars and help included."""
    typer = pytest.importorskip("typer")
    from django.core.management import load_command_class

    from loopai.cli.session import FLAGS
    from loopai.cli.tasks import app

    commands = typer.main.get_command(app).commands
    ours = {
        name: [
            (*(part.opts if part.param_type_name == "option" else ()), part.metavar, " ".join(part.help.split()))
            for part in command.params
            if part.name not in {*FLAGS, "as_json"}
        ]
        for name, command in commands.items()
    }
    parser = load_command_class("loopai.contrib.django", "loopai_tasks").create_parser("manage.py", "loopai_tasks")
    [verbs] = [action for action in parser._actions if action.dest == "verb"]
    theirs = {
        name: [
            (*action.option_strings, action.metavar, action.help)
            for action in verb._actions
            if action.dest not in {"help", "alias", "json"}
        ]
        for name, verb in verbs.choices.items()
    }
    assert ours == theirs
    changing = {"examples", "generate", "activate", "retire", "diff", "delete"}
    assert set(ours) == {"list", "get", "create", "push", "artifacts"} | changing
    for name, command in commands.items():
        assert "--json" in {flag for part in command.params for flag in part.opts}
        assert {"--json", "--alias"} <= set(verbs.choices[name]._option_string_actions)


def test_a_server_that_is_away_is_exit_code_4(loopai_fake: FakeLoopai) -> None:
    """Scripts can tell it from a refusal."""
    loopai_fake.unreachable()
    assert typed("loopai_tasks", "list")[0] == 4


def test_a_program_is_pushed_and_runs(tmp_path: Path) -> None:
    """By the task's name or id; the embedded server runs it."""
    pytest.importorskip("pydantic_monty", reason="the embedded server needs Python 3.10")
    from loopai.contrib.django import get_client

    program = tmp_path / "words.py"
    program.write_text("def main(input):\n    return {'words': len(input['text'].split())}\n")
    schema = json.dumps({"name": "words", "description": "Counts", "input_schema": {}, "output_schema": {}})
    (tmp_path / "task.json").write_text(schema)
    with override_settings(LOOPAI={"default": {"LOCAL": True}}):
        code, text = typed("loopai_tasks", "create", "--file", str(tmp_path / "task.json"), "--json")
        task_id: Any = json.loads(text)["id"]
        assert "no program yet" in typed("loopai_tasks", "artifacts", "words")[1]
        code, text = typed("loopai_tasks", "push", "words", str(program))
        assert (code, text.splitlines()[:2]) == (0, ["version: 1", "status: active"])
        assert "status: draft" in typed("loopai_tasks", "push", task_id, str(program), "--draft")[1]
        result = get_client().execute(task_id, {"text": "one two"})
        assert (result.output, result.version) == ({"words": 2}, 1)
        lines = typed("loopai_tasks", "artifacts", "words")[1].splitlines()
        assert [line.split()[:3] for line in lines[1:]] == [["1", "active", "python"], ["2", "draft", "python"]]
        assert typed("loopai_tasks", "artifacts", "words", "--code", "2") == (0, program.read_text())
        program.write_text("def other(input):\n    return 1\n")
        assert typed("loopai_tasks", "push", "words", str(program))[0] == 1
        assert typed("loopai_tasks", "push", "unknown", str(program))[0] == 1


def in_shell(*words: str) -> int:
    """The exit code of a command as typed."""
    command = load_command_class("loopai.contrib.django", words[0])
    try:
        command.run_from_argv(["manage.py", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    "words",
    [
        "loopai_batch --json --nope",
        "loopai_batch spam --json --map",
        "loopai_batch --json",
        "loopai_tasks list --json --nope",
        "loopai_tasks nope --json",
        "loopai_tasks create --json",
        "loopai_prune --json",
        "loopai_prune --json --older-than soon",
        "loopai_health --json --timeout soon",
    ],
)
@pytest.mark.django_db  # checks ask the database
def test_with_json_wrong_usage_is_one_json_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In a shell. Called from code, each is a `CommandError`, and nothing ends the process."""
    assert in_shell(*words.split()) == 2
    told = capsys.readouterr()
    *_, error = map(json.loads, told.err.splitlines())
    assert error["exit_code"] == 2
    assert told.out == ""
    with pytest.raises(CommandError) as caught:
        call_command(*words.split())
    assert str(caught.value).endswith(error["error"])


def test_without_json_wrong_usage_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """As Django writes it."""
    assert in_shell("loopai_prune", "--nope") == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.django_db
@pytest.mark.parametrize("severity", [checks.Warning, checks.Error])
def test_with_json_what_checks_find_is_a_json_line(
    severity: type[checks.CheckMessage], capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning, and an error, which ends the command."""

    def found(**_: Any) -> list[checks.CheckMessage]:
        return [severity("a setting is odd", id="test.E001")]

    checks.register(found)
    try:
        code = in_shell("loopai_prune", "--json", "--older-than", "soon")
    finally:
        checks.registry.registry.registered_checks.remove(found)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert "a setting is odd" in str(lines[0])
    assert list(lines[-1]) == ["error", "exit_code"]
    assert (len(lines), code) == ((2, 2) if severity is checks.Warning else (1, 1))


def test_a_command_that_is_called_ends_no_process() -> None:
    """Neither a worker nor a test: the exit code is the error's."""
    ill = FakeLoopai()
    ill.operation("get_health").replies({"status": "unhealthy"})
    with override_settings(LOOPAI={"default": {"TRANSPORT": ill}}):
        with pytest.raises(CommandError) as caught:
            call_command("loopai_health", stdout=StringIO())
        assert caught.value.returncode == 1
        assert in_shell("loopai_health") == 1


def test_a_task_is_waited_for(tmp_path: Path) -> None:
    """`--wait` on `create`, `--no-wait` on `generate`; one that cannot be learnt is exit code 1."""
    pytest.importorskip("pydantic_monty", reason="the embedded server needs Python 3.10")
    rows = [("Ann Bell", "Bell"), ("Carl Dunn", "Dunn"), ("Eva Fox", "Fox")]
    task: dict[str, Any] = {"name": "names", "description": "Last name", "input_schema": {}, "output_schema": {}}
    task["examples"] = [{"input": whole, "output": last} for whole, last in rows]
    (tmp_path / "task.json").write_text(json.dumps(task))
    (tmp_path / "few.json").write_text(json.dumps({**task, "name": "few", "examples": task["examples"][:1]}))
    with override_settings(LOOPAI={"default": {"LOCAL": True}}):
        code, text = typed("loopai_tasks", "create", "--file", str(tmp_path / "task.json"), "--wait")
        assert (code, "program: version 1, active, score 1.000" in text) == (0, True), text
        code, text = typed("loopai_tasks", "create", "--file", str(tmp_path / "few.json"), "--wait")
        assert (code, "1 example is too few" in text) == (1, True), text
        code, text = typed("loopai_tasks", "generate", "names")
        assert (code, "status: draft" in text, "not better than version 1" in text) == (0, True, True), text
        assert "is being made" in typed("loopai_tasks", "generate", "names", "--no-wait")[1]
