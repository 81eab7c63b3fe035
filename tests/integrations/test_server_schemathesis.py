"""Requests made up from the embedded server's own OpenAPI document never bring it down."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("schemathesis and the embedded server need Python 3.10", allow_module_level=True)

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks

from loopai import SyncLoopaiClient, local
from loopai.local.app import create_app
from loopai.local.settings import Settings

schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address of a server, and the id of a task on it that has a program."""
    folder: Path = tmp_path_factory.mktemp("server")
    with local.running(str(folder)) as server:
        with SyncLoopaiClient(server.base_url) as client:
            task = client.create_task("echo", "d", {}, {})
            client.push_program(task.id, "def main(input):\n    return input\n")
        yield server.base_url, str(task.id)


def name_task(values: Any, task_id: str) -> None:
    """Put the id of a task that is there where any other was made up."""
    if isinstance(values, dict) and len(str(values.get("task_id"))) == len(task_id):
        values["task_id"] = task_id


@schema.parametrize()
@pytest.mark.parametrize("known", [True, pytest.param(False, marks=pytest.mark.slow)])
@settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_brings_a_server_error(case: schemathesis.Case, target: tuple[str, str], known: bool) -> None:
    """No 5xx but the contract's own word that a program could not be run; replies are as documented."""
    base_url, task_id = target
    if known:
        name_task(case.path_parameters, task_id)
        name_task(case.body, task_id)
    reply = case.call(base_url=base_url)
    if reply.status_code == 500 and reply.json()["code"] == "EXECUTION_ERROR":
        assert case.path.endswith("/execute")
        return
    case.validate_response(
        reply,
        checks=[
            checks.not_a_server_error,
            checks.status_code_conformance,
            checks.content_type_conformance,
            checks.response_schema_conformance,
        ],
    )
