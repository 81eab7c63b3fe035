"""Clients that generators make of the server's OpenAPI document are ones that one would use as they come."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loopai import local

pytestmark = pytest.mark.slow
if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
# What a user of a generated client writes; the address and a folder with the client are its arguments.
USE = """
import sys

sys.path.insert(0, sys.argv[2])
from made import Client
from made.api.executions import delete_executions, execute, list_executions
from made.api.programs import list_artifacts, push_program
from made.api.tasks import create_task, get_task_by_name
from made.models import CreateTaskRequest, ErrorResponse, ExecuteRequest, ExecutionResultStatus, PushProgramRequest

client = Client(base_url=sys.argv[1])
schema = {"type": "object"}
wanted = CreateTaskRequest(name="t", description="d", input_schema=schema, output_schema=True)
task = create_task.sync(client=client, body=wanted)
code = "def main(input):\\n    return len(input['text'])\\n"
pushed = push_program.sync(task.id, client=client, body=PushProgramRequest(code=code))
assert pushed.version == 1
done = execute.sync(task.id, client=client, body=ExecuteRequest(task_id=task.id, input_={"text": "four"}))
assert (done.status, done.output) == (ExecutionResultStatus.SUCCESS, 4), done
assert done.executed_at.year > 2000
assert list_artifacts.sync(task.id, client=client)[0].code == code
assert get_task_by_name.sync("t", client=client).id == task.id
assert [record.input_ for record in list_executions.sync(task.id, client=client)] == [{"text": "four"}]
assert delete_executions.sync(client=client, older_than_days=0).deleted == 1
missing = get_task_by_name.sync("nobody", client=client)
assert isinstance(missing, ErrorResponse) and missing.code == "TASK_NOT_FOUND", missing
"""

USE_RUNS = """
import io
import sys
import time
from uuid import uuid4

sys.path.insert(0, sys.argv[2])
from runs_made import Client
from runs_made.api.runs import runs_delete, runs_get, runs_list, runs_output, runs_report, runs_resume, runs_start
from runs_made.models import Problem, RunPage, RunsStartFilesBody, RunStatus, RunStatusState
from runs_made.types import File

client = Client(base_url=sys.argv[1], headers={"X-User": "ann"})


def rows():
    file = File(payload=io.BytesIO(b"body\\na\\nb\\n"), file_name="mails.csv", mime_type="text/csv")
    return RunsStartFilesBody(file=file)


run = runs_start.sync(client=client, body=rows(), key="body", idempotency_key="k")
assert isinstance(run, RunStatus), run
assert runs_start.sync(client=client, body=rows(), key="body", idempotency_key="k").id == run.id
until = time.monotonic() + 30
while run.state is not RunStatusState.FINISHED:
    assert time.monotonic() < until, run
    run = runs_get.sync(run.id, client=client)
assert (run.rows, run.done, run.ok, run.error) == (2, 2, 2, None), run
page = runs_list.sync(client=client, limit=1)
assert isinstance(page, RunPage) and page.runs[0].id == run.id and page.next_ is None, page
output = runs_output.sync_detailed(run.id, client=client)
assert (output.status_code, output.content.count(b"loopai_key")) == (200, 2), output
assert b"<!doctype html>" in runs_report.sync_detailed(run.id, client=client).content
assert runs_resume.sync_detailed(run.id, client=client).status_code == 409
missing = runs_get.sync(uuid4(), client=client)
assert isinstance(missing, Problem) and missing.status == 404, missing
assert runs_delete.sync_detailed(run.id, client=client).status_code == 204
assert runs_list.sync(client=client).runs == []
"""

RUNS_APPLICATION = """
from typing import Annotated, Optional
from fastapi import FastAPI, Header
from pydantic import BaseModel
from loopai.contrib.fastapi import LoopaiLifespan, RunFolder, runs_router
from loopai.testing import FakeLoopai

def user(x_user: Annotated[Optional[str], Header()] = None) -> Optional[str]:
    return x_user

class Verdict(BaseModel):
    label: str

fake = FakeLoopai()
fake.task("spam").returns({"label": "ham"})
app = FastAPI(lifespan=LoopaiLifespan(fake))
app.include_router(runs_router("spam", RunFolder("runs"), mapping=["text=body"], output=Verdict, owner=user))
"""


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with local.running() as server:
        yield server.base_url


@pytest.fixture
def document(served: str, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(httpx.get(f"{served}/openapi.json").text, encoding="utf-8")
    return path


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def test_openapi_python_client(served: str, document: Path, tmp_path: Path) -> None:
    """Methods have our names, replies are typed, statuses are enumerations, and errors are values."""
    needs("openapi_python_client")
    said = run(
        "-m", "openapi_python_client", "generate", "--path", str(document), "--output-path", str(tmp_path / "made"),
        "--meta", "none",
    )  # fmt: skip
    # JSON lines are beyond it: that reply alone has no type.
    assert all("/executions/export" in line for line in said.splitlines() if "WARNING" in line), said
    (tmp_path / "use.py").write_text(USE, encoding="utf-8")
    run(str(tmp_path / "use.py"), served, str(tmp_path))


def test_openapi_python_client_of_runs(tmp_path: Path) -> None:
    """The client of an application with `runs_router`: uploads, states, pages and problems have types."""
    needs("openapi_python_client")
    (tmp_path / "application.py").write_text(RUNS_APPLICATION, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    command = [sys.executable, "-m", "uvicorn", "application:app", "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}) as application:
        try:
            document = tmp_path / "runs.json"
            transport = httpx.HTTPTransport(retries=8)  # it is starting
            with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as asking:
                document.write_text(asking.get("/openapi.json").text, encoding="utf-8")
            said = run(
                "-m", "openapi_python_client", "generate", "--path", str(document), "--meta", "none",
                "--output-path", str(tmp_path / "runs_made"),
            )  # fmt: skip
            # Events and files are beyond it: as replies they have no type, as a body they are left out.
            warned = re.findall(r"WARNING parsing (\S+ \S+) within\s+\S+\s+([^\n]+)", said)
            assert len(warned) == said.count("WARNING"), said
            assert all(
                re.search(r"/(events|output|report)$", place) or place == "POST /runs" for place, told in warned
            ), said
            (tmp_path / "use_runs.py").write_text(USE_RUNS, encoding="utf-8")
            run(str(tmp_path / "use_runs.py"), f"http://127.0.0.1:{port}", str(tmp_path))
        finally:
            application.terminate()


def test_datamodel_code_generator(served: str, document: Path, tmp_path: Path) -> None:
    """Each component is a model that reads what the server says."""
    needs("datamodel_code_generator")
    made = tmp_path / "models_made.py"
    run(
        "-m", "datamodel_code_generator", "--input", str(document), "--output", str(made),
        "--output-model-type", "pydantic_v2.BaseModel", "--input-file-type", "openapi",
    )  # fmt: skip
    spec = importlib.util.spec_from_file_location("models_made", made)
    assert spec is not None
    assert spec.loader is not None
    models: Any = importlib.util.module_from_spec(spec)
    sys.modules["models_made"] = models
    try:
        spec.loader.exec_module(models)
        body = models.CreateTaskRequest(name="models", description="d", input_schema=SCHEMA, output_schema=True)
        sent = json.loads(body.model_dump_json(exclude_unset=True))
        task = models.Task.model_validate(httpx.post(f"{served}/api/v1/tasks", json=sent).json())
        code = {"code": "def main(input):\n    return input['text']\n"}
        pushed = httpx.post(f"{served}/api/v1/tasks/{task.id}/artifacts", json=code).json()
        assert models.ProgramArtifact.model_validate(pushed).status.value == "active"
        run_body = {"task_id": str(task.id), "input": {"text": "x"}}
        reply = httpx.post(f"{served}/api/v1/tasks/{task.id}/execute", json=run_body).json()
        result = models.ExecutionResult.model_validate(reply)
        assert (result.status.value, result.output) == ("success", "x")
        listed = httpx.get(f"{served}/api/v1/tasks/{task.id}/executions").json()
        assert models.ExecutionRecord.model_validate(listed[0]).input == {"text": "x"}
    finally:
        del sys.modules["models_made"]
