"""`manage.py loopai_health` and `loopai_tasks`."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any, Optional

import pytest
from django.core.management import call_command
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
        call_command(*arguments, stdout=out, no_color=True)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, out.getvalue() + str(error)
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


@override_loopai()
def test_a_task_is_created_from_two_classes_and_listed() -> None:
    """The classes are named by their dotted path; the command says the id."""
    code, text = typed(
        "loopai_tasks", "create", "spam", "--description", "Tells spam", "--input", f"{__name__}.Email",
        "--output", f"{__name__}.Verdict", "--accuracy-target", "0.9",
    )  # fmt: skip
    task_id = text.split()[0]
    assert (code, text) == (0, f"{task_id}  spam\n")
    assert typed("loopai_tasks", "list") == (0, f"{task_id}  spam  Tells spam\n")
    [told] = json.loads(typed("loopai_tasks", "list", "--json")[1])
    assert told["input_schema"]["required"] == ["text"]
    assert told["accuracy_target"] == 0.9
    code, text = typed("loopai_tasks", "create", "spam", "--description", "Again", "--input", f"{__name__}.Email",
                       "--output", f"{__name__}.Verdict")  # fmt: skip
    assert (code, "already exists" in text) == (1, True)


def test_a_task_is_created_from_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loopai_fake: FakeLoopai) -> None:
    """From a file or standard input; arguments beat the file."""
    task = {
        "name": "spam",
        "description": "Tells spam",
        "input_schema": {"type": "object"},
        "output_schema": {"type": "object"},
        "examples": [{"input": {"text": "a prize"}, "output": {"label": "spam"}}],
    }
    file = tmp_path / "task.json"
    file.write_text(json.dumps(task))
    code, text = typed("loopai_tasks", "create", "--from", str(file), "--json")
    assert (code, json.loads(text)["name"]) == (0, "spam")
    monkeypatch.setattr(sys, "stdin", StringIO(json.dumps(task)))
    code, text = typed("loopai_tasks", "create", "ham", "--from", "-", "--json")
    assert (code, json.loads(text)["name"]) == (0, "ham")
    sent = [json.loads(request.content) for request in loopai_fake.requests]
    assert [each["name"] for each in sent] == ["spam", "ham"]
    assert sent[0]["examples"] == task["examples"]


@pytest.mark.parametrize(
    ("arguments", "content", "text"),
    [
        (["create", "spam"], None, "a task needs description, input_schema, output_schema"),
        (["create", "--from", "{file}"], "[]", "must hold one JSON object"),
        (["create", "--from", "{file}"], "{", "is not JSON"),
        (["create", "--from", "{file}"], '{"name": "a", "descripton": "b"}', "a task needs description"),
        (["create", "spam", "--input", "no.such.Class"], None, "--input: No module named 'no'"),
        (["create", "spam", "--input", "pathlib.Path"], None, "--input: pathlib.Path is no pydantic class"),
        (["push", "spam", "{file}"], None, "cannot be read"),
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


def test_an_unknown_member_is_refused(tmp_path: Path, loopai_fake: FakeLoopai) -> None:
    """A file's misspelled member is named with those there are."""
    file = tmp_path / "task.json"
    members = {"name": "a", "description": "b", "input_schema": {}, "output_schema": {}, "sampling": 1}
    file.write_text(json.dumps(members))
    code, text = typed("loopai_tasks", "create", "--from", str(file))
    assert (code, "sampling: no member of a task; known are accuracy_target" in text) == (2, True)
    assert loopai_fake.requests == []


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
        code, text = typed("loopai_tasks", "create", "--from", str(tmp_path / "task.json"))
        task_id: Any = text.split()[0]
        assert (code, typed("loopai_tasks", "push", "words", str(program))) == (0, (0, "version 1\n"))
        assert typed("loopai_tasks", "push", task_id, str(program), "--no-activate") == (0, "version 2\n")
        result = get_client().execute(task_id, {"text": "one two"})
        assert (result.output, result.version) == ({"words": 2}, 1)
        program.write_text("def other(input):\n    return 1\n")
        code, text = typed("loopai_tasks", "push", "words", str(program))
        assert code == 1
        assert typed("loopai_tasks", "push", "unknown", str(program))[0] == 1
