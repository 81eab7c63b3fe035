"""`loopai tasks`: a task is made, found, given a program, and read back."""

from __future__ import annotations

import gzip
import json
import uuid
from pathlib import Path
from typing import Any, Callable

import pytest

SCHEMA = '{"type": "object", "properties": {"text": {"type": "string"}}}'
Command = Callable[..., Any]


@pytest.fixture
def name() -> str:
    return f"task-{uuid.uuid4().hex[:8]}"


def flags(name: str) -> list[str]:
    return ["--name", name, "--description", "Label it", "--input-schema", SCHEMA, "--output-schema", "true"]


def test_a_task_is_made_of_flags(command: Command, name: str) -> None:
    """Flags alone make a task; the answer names it, and says how to run it."""
    done = command("tasks", "create", *flags(name), "--accuracy-target", "0.8", "--sampling-rate", "0")
    assert done.code == 0, done.err
    assert name in done.out
    assert f"loopai execute {name}" in done.err
    kept = json.loads(command("tasks", "get", name, "--json").out)
    assert (kept["description"], kept["output_schema"], kept["accuracy_target"]) == ("Label it", True, 0.8)


def test_a_task_is_made_of_a_file(command: Command, tmp_path: Path, name: str) -> None:
    """A JSON file makes a task; a flag beside it wins; a schema may be a file of its own."""
    (tmp_path / "schema.json").write_text(SCHEMA)
    task = {"name": "not this", "description": "Label it", "inputSchema": {}, "output_schema": {"type": "string"}}
    (tmp_path / "task.json").write_text(json.dumps(task))
    done = command("tasks", "create", "-f", "task.json", "--name", name, "--input-schema", "schema.json", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["name"], made["input_schema"]) == (name, json.loads(SCHEMA))


def test_what_get_writes_create_reads(command: Command, name: str) -> None:
    """`tasks get --json` piped into `tasks create --file -` makes a copy under another name."""
    assert command("tasks", "create", *flags(name)).code == 0
    written = command("tasks", "get", name, "--json").out
    done = command("tasks", "create", "--file", "-", "--name", f"{name}-copy", "--json", given=written)
    assert done.code == 0, done.err
    assert json.loads(done.out)["input_schema"] == json.loads(SCHEMA)


@pytest.mark.parametrize("form", ["examples.jsonl", "examples.jsonl.gz", "examples.json"])
def test_examples_come_from_a_file(command: Command, tmp_path: Path, name: str, form: str) -> None:
    """Examples are JSON lines, gzipped or not, or one array."""
    examples = [{"input": {"text": "größer"}, "output": "a"}, {"input": {"text": "b"}, "output": "b"}]
    text = "\n\n".join(json.dumps(example, ensure_ascii=False) for example in examples)
    content = (json.dumps(examples) if form.endswith(".json") else text).encode()
    (tmp_path / form).write_bytes(gzip.compress(content) if form.endswith(".gz") else content)
    done = command("tasks", "create", *flags(name), "--examples", form, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["examples"] == examples


@pytest.mark.parametrize(
    ("arguments", "given", "told"),
    [
        (["--name", "x"], "", "a task needs --description, --input-schema, --output-schema"),
        (["-f", "nowhere.json"], "", "--file: nowhere.json: No such file"),
        (["--input-schema", "x{key}.json"], "", "--input-schema: x{key}.json: No such file"),
        (["-f", "-"], '{"naem": 1}', "did you mean name?"),
        (["-f", "-"], "[]", "is not a JSON object"),
        (["-f", "-"], "", "empty, where JSON is needed"),
        (["-f", "-"], "{", "not JSON"),
        (["--examples", "-"], '{}\n{"a": NaN}\n', "line 2: not JSON: NaN"),
        (["--examples", "-"], "[" * 100_000, "nested too deeply"),
        (["--sampling-rate", "much"], "", "--sampling-rate: must be a number from 0 to 1, not 'much'"),
        (["--accuracy-target", "nan"], "", "--accuracy-target: must be a number from 0 to 1"),
        (["--latency-target-ms", "0"], "", "--latency-target-ms: must be a whole number from 1"),
    ],
)
def test_what_is_wrong_with_a_task_is_said(command: Command, arguments: list[str], given: str, told: str) -> None:
    """What cannot be read is a usage error of one line, and nothing is sent."""
    done = command("tasks", "create", *arguments, given=given)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert done.err.count("\n") == 1


def test_a_name_that_is_taken_is_refused(command: Command) -> None:
    """What the server refuses is exit code 1, with the server's reason."""
    done = command("tasks", "create", *flags("words"))
    assert (done.code, done.out) == (1, "")
    assert "already exists" in done.err


def test_a_program_becomes_the_next_version(command: Command, tmp_path: Path, name: str) -> None:
    """A pushed program runs, a draft does not, and the source comes back as it was."""
    code = "def main(input):\n    return 1\n"
    (tmp_path / "program.py").write_text(code)
    command("tasks", "create", *flags(name))
    assert "has no program yet" in command("tasks", "artifacts", name).err
    assert command("tasks", "push", name, "program.py").code == 0
    done = command("tasks", "push", name, "-", "--draft", given=code.replace("1", "2"))
    assert "draft" in done.out
    assert json.loads(command("execute", name, "--input", "{}", "--json").out)["output"] == 1
    listed = command("tasks", "artifacts", name).out
    assert "active" in listed
    assert "draft" in listed
    assert command("tasks", "artifacts", name, "--code", "1").out == code
    versions = json.loads(command("tasks", "artifacts", name, "--json").out)
    assert [(found["version"], found["status"]) for found in versions] == [(1, "active"), (2, "draft")]
    assert json.loads(command("tasks", "artifacts", name, "--code", "2", "--json").out)["version"] == 2


def test_a_typescript_program_is_pushed_and_runs(command: Command, tmp_path: Path, name: str) -> None:
    """Known by its file's suffix or `--language`; it runs on the server and, in a batch, at the edge."""
    pytest.importorskip("deno")
    code = 'enum L { A = "a" }\nexport function main(input: {n: number}) { return [L.A, input.n] }\n'
    (tmp_path / "program.ts").write_text(code)
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    command("tasks", "create", *flags(name))
    assert command("tasks", "push", name, "program.ts").code == 0
    assert json.loads(command("execute", name, "--input", '{"n": 1}', "--json").out)["output"] == ["a", 1]
    assert command("batch", name, "rows.jsonl", "-o", "out.jsonl", "--edge").code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["loopai_output"] for row in rows] == [["a", 1], ["a", 2]]
    assert command("tasks", "push", name, "-", "--language", "typescript", given=code).code == 0
    refused = command("tasks", "push", name, "-", "--language", "typescript", given="function main( {")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "SyntaxError: " in refused.err
    assert "line 1, column 17" in refused.err
    versions = json.loads(command("tasks", "artifacts", name, "--json").out)
    assert {found["language"] for found in versions} == {"typescript"}


def test_a_program_that_is_none_is_refused(command: Command) -> None:
    """Code that does not load is refused with the reason, and exit code 1."""
    done = command("tasks", "push", "words", "-", given="def main(")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1


def test_a_task_that_is_not_there_has_no_programs_either(command: Command) -> None:
    """An id that nobody knows is not found, although the server lists no programs for it."""
    done = command("tasks", "artifacts", str(uuid.uuid4()))
    assert (done.code, done.out) == (1, "")
    assert "not found" in done.err


def test_the_list_has_whole_lines_where_there_is_no_terminal(command: Command, name: str) -> None:
    """In a pipe each task is one line, however long its name."""
    long = f"{name}-{'x' * 80}"
    assert command("tasks", "create", "--name", long, *flags("")[2:]).code == 0
    done = command("tasks", "list")
    assert done.code == 0
    assert any(long in line for line in done.out.splitlines())
    names = [task["name"] for task in json.loads(command("--json", "tasks", "list").out)]
    assert {"words", long} <= set(names)


def test_text_of_the_server_does_not_command_the_terminal(command: Command, name: str) -> None:
    """Control characters in what a task says are written out."""
    description = f"{name} \x1b[31mred\x07"
    done = command("tasks", "create", *flags(name)[:2], "--description", description, *flags(name)[4:])
    assert "\\x1b[31mred\\x07" in done.out
    assert "\x1b" not in done.out


def written(path: Path, examples: list[tuple[Any, Any]]) -> str:
    """A file of examples; one whose output is None is only an input."""
    lines = [{"input": one} if other is None else {"input": one, "output": other} for one, other in examples]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path.name


def test_a_task_is_waited_for_and_grows(command: Command, tmp_path: Path, name: str) -> None:
    """`--wait` says how it went and what is in doubt; more examples make the next version, which is compared."""
    names = [("Ann Bell", "Bell"), ("Carl Dunn", "Dunn"), ("Eva Fox", "Fox"), ("Ida von Jung", None)]
    task = [
        "--name",
        name,
        "--description",
        "Last name",
        "--input-schema",
        '{"type": "string"}',
        "--output-schema",
        "{}",
    ]
    done = command("tasks", "create", *task, "--examples", written(tmp_path / "first", names), "--wait")
    assert done.code == 0, done.err
    assert "version 1, active, score 1.000" in done.out
    assert 'give the output for "Ida von Jung"' in done.err
    assert command("tasks", "examples", name, written(tmp_path / "more", [("Ida von Jung", "Jung")])).code == 0
    done = command("tasks", "generate", name)
    assert done.code == 0, done.err
    assert "On the 4 current examples" in done.err
    assert command("tasks", "diff", name, "1", "2").code == 0
    assert "is being made" in command("tasks", "generate", name, "--no-wait").err
    assert command("tasks", "retire", name, "2").code == 0
    assert "active" in command("tasks", "activate", name, "1").out
    assert json.loads(command("tasks", "get", name, "--json").out)["active_version"] == 1
    assert command("tasks", "delete", name).code == 0


def test_a_task_that_cannot_be_learnt_is_exit_code_1(command: Command, tmp_path: Path, name: str) -> None:
    """With `--wait` alone; the task is created in any case, and the next step is named."""
    few = written(tmp_path / "few", [({"text": "a"}, "x")])
    done = command("tasks", "create", *flags(name), "--examples", few, "--wait")
    assert done.code == 1
    assert "the task is created, and has no program: 1 example is too few" in done.err
    done = command("tasks", "create", *flags(f"{name}-2"), "--examples", few)
    assert done.code == 0
    assert "could not be made" in done.out
    assert f"loopai tasks examples {name}-2 FILE" in done.err
