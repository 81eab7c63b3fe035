"""What mypy and pyright say of a user's module: nothing of one that is right, and one error for each typo."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BEFORE = """
from typing import Literal, Union
from pydantic import BaseModel
from loopai import LoopaiClient, Outcome, Summary, SyncLoopaiClient
from loopai.contrib.celery import start_batch
from loopai.testing import FakeLoopai

class Email(BaseModel):
    text: str

client = SyncLoopaiClient.local()
labels = client.bind("spam", input=Email, output=Literal["spam", "ham"])
either = client.bind("spam", input=Union[Email, str], output=Union[Email, None])

def kept(outcome: Outcome, summary: Summary) -> object:
    return (
"""

RIGHT = [
    'SyncLoopaiClient(transport="pyreqwest")',
    'LoopaiClient(transport="httpx2")',
    "client.with_options(timeout=5)",
    "LoopaiClient().with_options(timeout=5, deadline=None)",
    "SyncLoopaiClient.local(max_retries=3)",
    'LoopaiClient.local("data", max_retries=None)',
    "FakeLoopai().client(timeout=5)",
    'outcome.status == "ok"',
    'outcome.code == "refused"',
    'summary.ended == "interrupted"',
    'labels(Email(text="")) == "spam"',
    'either("") is None',
    'client.execute("spam", "").status == "a value of a newer server"',
    'client.subscribe_webhook("", ["canaryRollback", 3])',
    'client.run_batch("spam", "mails.csv", "judged.csv", mode="resume", chunk_size=5)',
    'start_batch("spam", "mail.Message", save_to=["label"], mode="retry_failed", max_errors="5%")',
]

TYPOS = [
    'SyncLoopaiClient(transport="pyrequest")',
    'LoopaiClient(transport="pyrequest")',
    "client.with_options(timeot=5)",
    "LoopaiClient().with_options(timeot=5)",
    'client.with_options(base_url="http://x")',
    'client.with_options(timeout="5")',
    "SyncLoopaiClient.local(max_retires=3)",
    "LoopaiClient.local(max_retires=3)",
    "FakeLoopai().client(timeot=5)",
    "FakeLoopai().async_client(timeot=5)",
    'outcome.status == "okay"',
    'outcome.code == "unreadible"',
    'summary.ended == "finised"',
    'labels(Email(text="")) == "spma"',
    "either(5)",
    'client.subscribe_webhook("", ["canaryRolback"])',
    'client.run_batch("spam", "mails.csv", "judged.csv", mode="resum")',
    'client.run_batch("spam", "mails.csv", "judged.csv", chunksize=5)',
    'LoopaiClient().batch_stream("spam", [], mode="overwrite")',
    'start_batch("spam", "mail.Message", chunksize=5)',
    'start_batch("spam", "mail.Message", mode="resum")',
]


def module_of(expressions: list[str]) -> tuple[str, int]:
    """A user's module in which each expression has a line of its own, and the first one's number."""
    return f"{BEFORE}{''.join(f'        {each},{chr(10)}' for each in expressions)}    )\n", BEFORE.count("\n") + 1


def with_mypy(path: Path) -> dict[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={path.parent / 'cache'}", path],
        capture_output=True, text=True, timeout=300, check=False, cwd=path.parent,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return {int(line): text for line, text in re.findall(rf"{path.name}:(\d+): error: (.*)", done.stdout)}


def with_pyright(path: Path) -> dict[int, str]:
    (path.parent / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, path],
        capture_output=True, text=True, timeout=300, check=False, cwd=path.parent,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    problems = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in problems if one["severity"] == "error"}


@pytest.fixture(params=[with_mypy, with_pyright], ids=["mypy", "pyright"])
def checked(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Checks a user's module of these expressions, and gives the errors by the expression's place."""
    if importlib.util.find_spec(request.param.__name__.removeprefix("with_")) is None:
        pytest.skip("is not installed")

    def run(expressions: list[str]) -> dict[int, str]:
        text, first = module_of(expressions)
        path = tmp_path / "shop.py"
        path.write_text(text)
        return {line - first: error for line, error in request.param(path).items()}

    return run


def test_what_is_right_is_not_reported(checked) -> None:  # type: ignore[no-untyped-def]
    """In strict mode, a user's module that uses the public names as the guides do has no error."""
    assert checked(RIGHT) == {}


def test_each_typo_is_reported(checked) -> None:  # type: ignore[no-untyped-def]
    """An option, a transport, a status: where the name or value is wrong, its own line is reported."""
    errors = checked(TYPOS)
    assert [typo for place, typo in enumerate(TYPOS) if place not in errors] == []
