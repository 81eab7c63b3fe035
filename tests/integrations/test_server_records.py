"""What the embedded server keeps of executions, for how long, and how a folder of an earlier version is taken on."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

from loopai import SyncLoopaiClient, local
from loopai.local.store import Store
from loopai.local.timestamps import days_ago

ECHO = "def main(input):\n    if input == 'bad':\n        raise ValueError('bad')\n    return input"

SCHEMA_1 = """
CREATE TABLE artifacts (id TEXT NOT NULL, task_id TEXT NOT NULL, version INTEGER NOT NULL, language TEXT NOT NULL,
    code TEXT NOT NULL, synthesis_strategy TEXT NOT NULL, confidence_score FLOAT NOT NULL,
    cyclomatic_complexity INTEGER, lines_of_code INTEGER, estimated_latency_ms FLOAT, llm_provider TEXT NOT NULL,
    llm_model TEXT NOT NULL, generation_cost FLOAT NOT NULL, generation_time_sec FLOAT NOT NULL, status TEXT NOT NULL,
    deployment_percentage FLOAT NOT NULL, created_at INTEGER NOT NULL, deployed_at INTEGER, PRIMARY KEY (id),
    UNIQUE (task_id, version), FOREIGN KEY(task_id) REFERENCES tasks (id));
CREATE TABLE tasks (id TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL, input_schema BLOB NOT NULL,
    output_schema BLOB NOT NULL, examples BLOB NOT NULL, accuracy_target FLOAT NOT NULL,
    latency_target_ms INTEGER NOT NULL, sampling_rate FLOAT NOT NULL, created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL, PRIMARY KEY (id), UNIQUE (name));
CREATE TABLE executions (seq INTEGER NOT NULL, id TEXT NOT NULL, task_id TEXT NOT NULL, program_id TEXT NOT NULL,
    version INTEGER NOT NULL, input BLOB NOT NULL, output BLOB, error_message TEXT, latency_ms FLOAT NOT NULL,
    sampled BOOLEAN NOT NULL, executed_at INTEGER NOT NULL, PRIMARY KEY (seq));
CREATE INDEX ix_executions_program_id ON executions (program_id);
CREATE TABLE idempotent_replies ("key" TEXT NOT NULL, fingerprint BLOB NOT NULL, status INTEGER NOT NULL,
    location TEXT, body BLOB NOT NULL, kept_at INTEGER NOT NULL, PRIMARY KEY ("key")) WITHOUT ROWID;
CREATE INDEX ix_idempotent_replies_kept_at ON idempotent_replies (kept_at);
INSERT INTO tasks VALUES ('7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60', 'old', 'd', '{}', '{}', '[]', 0.9, 10, 0.1,
    17000000000000000, 17000000000000000);
INSERT INTO artifacts VALUES ('0b9e8d7c-6a5b-4c3d-9e2f-1a0b9c8d7e6f', '7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60', 1,
    'python', 'def main(input):
    return 7', 'auto', 0.5, NULL, 2, NULL, 'user', 'none', 0.0, 0.0, 'active', 100.0, 17000000000000000, NULL);
INSERT INTO executions VALUES (1, 'c2d3e4f5-0617-4283-9a4b-5c6d7e8f9012', '7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60',
    '0b9e8d7c-6a5b-4c3d-9e2f-1a0b9c8d7e6f', 1, '1', '7', NULL, 0.5, 0, 17000000000000000);
PRAGMA user_version = 1;
"""
OLD = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"


@contextmanager
def serving(**options: Any) -> Iterator[tuple[SyncLoopaiClient, httpx.Client, str]]:
    with (
        local.running(**options) as server,
        SyncLoopaiClient(server.base_url) as client,
        httpx.Client(base_url=f"{server.base_url}/api/v1") as http,
    ):
        task = client.create_task("echo", "d", {}, {"type": "integer"})
        client.push_program(task.id, ECHO)
        yield client, http, str(task.id)


def run(client: SyncLoopaiClient, task_id: str, *values: Any) -> None:
    for value in values:
        client.execute(task_id, value, raise_on_error=False)


def test_a_folder_of_the_first_version_is_taken_on(tmp_path: Path) -> None:
    """Tasks, programs and executions are still there, the tables are of this version, and the file can shrink."""
    with closing(sqlite3.connect(tmp_path / "loopai.db")) as connection:
        connection.executescript(SCHEMA_1)
    for _ in range(2):
        with SyncLoopaiClient.local(tmp_path) as client:
            assert client.execute(OLD, 1).output == 7
            assert client.get_task_by_name("old").active_version == 1
    with closing(Store(tmp_path)) as store:
        assert len(store.executions(OLD, 10)) == 3
    with closing(sqlite3.connect(tmp_path / "loopai.db")) as connection, closing(Store(None)) as new:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        with closing(sqlite3.connect(new.folder / "loopai.db")) as other:
            for kind in ("table", "index"):
                query = "SELECT name FROM sqlite_master WHERE type = ? ORDER BY name"
                assert connection.execute(query, (kind,)).fetchall() == other.execute(query, (kind,)).fetchall()
            version = "PRAGMA user_version"
            assert connection.execute(version).fetchone() == other.execute(version).fetchone()


def test_executions_are_listed_by_pages_and_exported() -> None:
    """Newest first, with their inputs, by status; the export has all of them."""
    with serving() as (client, http, task_id):
        run(client, task_id, 1, "bad", 2, 3)
        first = http.get(f"/tasks/{task_id}/executions", params={"limit": 2})
        assert [found["input"] for found in first.json()] == [3, 2]
        rest = http.get(f"/tasks/{task_id}/executions", params={"limit": 2, "before": first.headers["x-next-cursor"]})
        assert [found["input"] for found in rest.json()] == ["bad", 1]
        assert "x-next-cursor" not in rest.headers
        errors = http.get(f"/tasks/{task_id}/executions", params={"status": "error"}).json()
        assert [(found["input"], found["error_message"]) for found in errors] == [("bad", "bad")]
        for bad in ({"limit": "0"}, {"limit": "x"}, {"status": "sometimes"}, {"before": "-1"}):
            assert http.get(f"/tasks/{task_id}/executions", params=bad).status_code == 400
        exported = http.get(f"/tasks/{task_id}/executions/export")
        assert exported.headers["content-type"].startswith("application/x-ndjson")
        lines = [json.loads(line) for line in exported.text.splitlines()]
        assert [(line["input"], line.get("output"), line["sampled_for_validation"]) for line in lines] == [
            (found["input"], found.get("output"), found["sampled_for_validation"])
            for found in first.json() + rest.json()
        ]


def test_executions_are_deleted_by_age_and_the_file_shrinks(tmp_path: Path) -> None:
    """Of all tasks; without an age nothing is deleted."""
    with serving(data=str(tmp_path)) as (client, http, task_id):
        client.batch_execute(task_id, ["x" * 2000] * 2000)
        assert http.delete("/executions").status_code == 400
        assert http.delete("/executions", params={"older_than_days": 1}).json() == {"deleted": 0}
        before = sum(found.stat().st_size for found in tmp_path.iterdir())
        assert http.delete("/executions", params={"older_than_days": 0}).json() == {"deleted": 2000}
        assert sum(found.stat().st_size for found in tmp_path.iterdir()) < before / 2
        assert http.get(f"/tasks/{task_id}/executions").json() == []


@pytest.mark.parametrize(("record", "kept"), [("all", [2, "bad", 1]), ("failures", ["bad"]), ("none", [])])
def test_which_executions_are_kept(record: str, kept: list[Any]) -> None:
    """All, those that failed, or none; single ones and those of batches."""
    with serving(record=record, check_outputs="off") as (client, http, task_id):
        run(client, task_id, 1, "bad", 2)
        assert [found["input"] for found in http.get(f"/tasks/{task_id}/executions").json()] == kept
        client.batch_execute(task_id, [1, "bad", 2])
        assert len(http.get(f"/tasks/{task_id}/executions").json()) == 2 * len(kept)


def test_old_executions_are_removed_when_the_server_starts(tmp_path: Path) -> None:
    """`keep_days`: those that are older are gone."""
    with closing(sqlite3.connect(tmp_path / "loopai.db")) as connection:
        connection.executescript(SCHEMA_1)
    with closing(Store(tmp_path)) as store:
        assert store.delete_executions(days_ago(365 * 100)) == 0
    with local.running(data=str(tmp_path), keep_days=30) as server, httpx.Client(base_url=server.base_url) as http:
        while http.get(f"/api/v1/tasks/{OLD}/executions").json():
            http.get("/api/v1/health")
    with pytest.raises(local.ConfigurationError, match="keep_days"):
        local.running(keep_days=0).__enter__()


@pytest.mark.parametrize(("check_outputs", "status"), [("off", "success"), ("warn", "success"), ("reject", "error")])
def test_outputs_are_checked_against_the_schema(
    check_outputs: str, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Alone and in a batch; a warning is logged once for each version."""
    with serving(check_outputs=check_outputs) as (client, _, task_id):
        assert client.execute(task_id, 5).status == "success"
        result = client.execute(task_id, "text", raise_on_error=False)
        assert result.status == status
        batch = client.batch_execute(task_id, [5, "text"])
        assert [item.success for item in batch.results] == [True, status == "success"]
    told = [record.message for record in caplog.records if "Output does not fit" in record.getMessage()]
    assert len(told) == (1 if check_outputs == "warn" else 0)
    if status == "error":
        assert "Output does not fit the task's schema: output: " in str(result.error_message)


def test_tasks_are_listed_by_pages_without_their_examples() -> None:
    """A page says where the next one starts."""
    examples = [{"input": 1, "output": 2}]
    with serving() as (client, http, _):
        for name in ("b", "a", "c"):
            client.create_task(name, "d", {}, {}, examples)
        first = http.get("/tasks", params={"limit": 3})
        assert [task["name"] for task in first.json()] == ["echo", "b", "a"]
        assert not any("examples" in task for task in first.json())
        rest = http.get("/tasks", params={"after": first.headers["x-next-cursor"]})
        assert [task["name"] for task in rest.json()] == ["c"]
        assert "x-next-cursor" not in rest.headers
        assert http.get("/tasks", params={"after": "nonsense"}).status_code == 400
        assert [task.name for task in client.list_tasks()] == ["echo", "b", "a", "c"]


@pytest.mark.parametrize(
    ("examples", "told"),
    [
        ([{"input": {"t": "a"}, "output": "x"}], "too few"),
        (["nonsense"], "not an object"),
        ([{"input": {"t": str(at)}, "output": "same"} for at in range(9)], "same output"),
        (
            [{"input": {"t": str(at)}, "output": "ab"[at % 2]} for at in range(8)] + [{"input": 5, "output": "a"}],
            "input",
        ),
        ([{"input": {"t": str(at)}, "output": "abc"[at % 3]} for at in range(9)], "output"),
    ],
)
def test_examples_are_checked_when_the_task_is_created(
    examples: list[Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The reply and the log say what is missing; the task is created all the same."""
    body = {
        "name": "n",
        "description": "d",
        "input_schema": {"type": "object"},
        "output_schema": {"enum": ["a", "b", "x", "same"]},
        "examples": examples,
    }
    with local.running() as server:
        reply = httpx.post(f"{server.base_url}/api/v1/tasks", json=body)
    assert reply.status_code == 201
    assert any(told in warning for warning in reply.json()["warnings"]), reply.json()["warnings"]
    assert any(told in record.getMessage() for record in caplog.records)
