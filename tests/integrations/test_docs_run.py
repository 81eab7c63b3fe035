"""What README.md shows is run: Python, shell commands, make verbs, tables. Sites are run with the guides in docs/."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loopai import SyncLoopaiClient

pytest.importorskip("pydantic_monty", reason="README's code runs on the embedded server, which needs Python 3.10")
from loopai import local

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The address a reader has a server at; here the embedded one stands in for it.
SHOWN_ADDRESS = "http://localhost:8080"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = "def main(input):\n    return {'label': 'spam' if 'money' in input['text'] else 'ham'}\n"


@dataclass(frozen=True)
class Block:
    """A fenced block, the heading it stands under, and its line."""

    section: str
    language: str
    code: str
    line: int


def blocks() -> list[Block]:
    found = []
    for match in FENCE.finditer(README):
        before = README[: match.start()]
        section = re.findall(r"^#+ (.+)$", re.sub(FENCE, "", before), re.MULTILINE)[-1]
        found.append(Block(section, match[1], match[2], before.count("\n") + 1))
    return found


BLOCKS = blocks()
PYTHON = [block for block in BLOCKS if block.language == "python"]
# A file of a site is named by its first line; these are run where the guides are, in a site.
FILES = [block for block in PYTHON if re.match(r"# [\w/]+\.py\n", block.code)]
SNIPPETS = [block for block in PYTHON if block not in FILES]
COMMANDS = [
    (block.section, line[2:])
    for block in BLOCKS
    if block.language == "console"
    for line in block.code.replace("\\\n", "").splitlines()
    if line.startswith("$ ")
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with local.running() as running:
        yield running.base_url


@pytest.fixture
def spam(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who has set up a server, with a task `spam` on it."""
    with SyncLoopaiClient(server) as client:
        known = {task.name: task.id for task in client.list_tasks()}
        if "spam" not in known:
            text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
            task = client.create_task("spam", "Tell spam from wanted messages", text, {"type": "object"})
            client.push_program(task.id, PROGRAM)
            known["spam"] = task.id
    monkeypatch.setenv("LOOPAI_BASE_URL", server)
    monkeypatch.setenv("LOOPAI_TASKS", f"spam={known['spam']}")


@pytest.mark.usefixtures("spam")
@pytest.mark.parametrize("section", list(dict.fromkeys(block.section for block in SNIPPETS)))
def test_a_sections_python_runs_from_top_to_bottom(
    section: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snippets of a section, run one after the other in one namespace, raise nothing."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in SNIPPETS:
        if block.section == section:
            # As many lines first as stand before it, so that a traceback names README's own.
            source = "\n" * block.line + block.code.replace(SHOWN_ADDRESS, server)
            exec(compile(source, "README.md", "exec", dont_inherit=True), namespace)


@pytest.mark.parametrize(("section", "command"), [pair for pair in COMMANDS if pair[1].startswith("make")])
def test_a_make_verb_that_is_shown_exists(section: str, command: str) -> None:
    """`make` knows each verb that README names."""
    verbs = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    words = [word for word in shlex.split(command, comments=True)[1:] if "=" not in word]
    assert set(words) <= set(verbs), f"{section}: {command}"


@pytest.mark.slow
def test_the_shells_commands_run(tmp_path: Path) -> None:
    """The `loopai` commands of README, in its order, each end with exit code 0, on a server that knows no task yet."""
    commands = [command for _, command in COMMANDS if command.startswith("loopai ")]
    assert commands
    (task,) = (block.code for block in BLOCKS if block.language == "json")
    (tmp_path / "spam.json").write_text(task, encoding="utf-8")
    (tmp_path / "mails.csv").write_text("id,body\n1,Free money\n2,Lunch?\n", encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with local.running() as running:
        environ = {**os.environ, "PATH": path, "LOOPAI_BASE_URL": running.base_url}
        for command in commands:
            # A server stays up until it is stopped: here its options are read, and one is running already.
            told = f"{command.rstrip(' &')} --help" if command.startswith("loopai serve") else command
            run = subprocess.run(
                told.replace(SHOWN_ADDRESS, running.base_url),
                shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
            assert "Warning" not in run.stderr, f"{command}\n{run.stderr}"
    judged = [json.loads(line) for line in (tmp_path / "judged.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["body"]: row["loopai_output"]["label"] for row in judged} == {"Free money": "spam", "Lunch?": "ham"}


@pytest.mark.slow
def test_the_install_commands_install(tmp_path: Path) -> None:
    """README's way from the checkout to an installed package, in an environment of its own."""
    venv.create(tmp_path / "venv", with_pip=True)
    environ = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    commands = [command for section, command in COMMANDS if section == "Install"]
    assert commands
    for command in [*commands, "loopai --help", "python -c 'import loopai.local'"]:
        run = subprocess.run(
            command, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=400
        )
        assert run.returncode == 0, f"{command}\n{run.stdout}{run.stderr}"
