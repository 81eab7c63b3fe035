"""What surrounds every request to the embedded server: paths, versions, key, rations, sizes, idempotency, health."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

if sys.version_info < (3, 10):
    pytest.skip("the embedded server needs Python 3.10", allow_module_level=True)

import httpx

from loopai import SyncLoopaiClient
from loopai.local.app import create_app
from loopai.local.settings import Settings

NOWHERE = "11111111-2222-4333-8444-555555555555"
ECHO = "def main(input):\n    return input\n"
NEW = {"name": "t", "description": "d", "input_schema": {}, "output_schema": {}, "sampling_rate": 0}

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(Settings(data=tmp_path, **settings))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://loopai.test") as client:
                yield client

    return run


async def create(http: httpx.AsyncClient) -> str:
    task_id: str = (await http.post("/api/v1/tasks", json=NEW)).json()["id"]
    await http.post(f"/api/v1/tasks/{task_id}/artifacts", json={"code": ECHO})
    return task_id


@pytest.mark.parametrize(
    "path", ["/api/v1/tasks", "/API/V1/Tasks", "/api/v1/TASKS/", "/api/v1.0/tasks", "/api/v1/Tasks/By-Name/Tasks"]
)
async def test_paths_match_in_any_case_and_with_a_slash(serve: Serve, path: str) -> None:
    """As ASP.NET matches them; a task's name keeps its case."""
    async with serve() as http:
        await http.post("/api/v1/tasks", json={**NEW, "name": "Tasks"})
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/v2/tasks", {}, 404),
        ("/api/v1.1/tasks", {}, 404),
        ("/api/vfoo/tasks", {}, 400),
        ("/api/tasks", {}, 404),
        ("/api", {}, 404),
        ("/nothing", {}, 404),
        ("/nowhere", {}, 404),
        ("/api/v1/nowhere", {}, 404),
        ("/api/v1/metrics", {}, 404),
        ("/api/v1/tasks", {"x-api-version": "2.0"}, 400),
        ("/api/v1/tasks", {"x-api-version": "1.0"}, 200),
        ("/api/v1/tasks?api-version=2.0", {}, 400),
        ("/api/v1/tasks?api-version=1.0", {}, 200),
    ],
)
async def test_other_paths_and_versions_are_refused_without_a_body(
    serve: Serve, path: str, headers: dict[str, str], status: int
) -> None:
    """404 for what is not there, 400 for versions that are none or disagree."""
    async with serve() as http:
        reply = await http.get(path, headers=headers)
        assert reply.status_code == status
        assert (reply.content == b"") is (status != 200)


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("DELETE", "/api/v1/tasks", "GET, POST"),
        ("GET", "/api/v1/batch/execute", "POST"),
        ("PUT", f"/api/v1/tasks/{NOWHERE}", "DELETE, GET"),
        ("HEAD", f"/api/v1/tasks/{NOWHERE}", "DELETE, GET"),
        ("POST", "/metrics", "GET"),
    ],
)
async def test_the_wrong_verb_is_405_and_says_which_are_right(serve: Serve, verb: str, path: str, allowed: str) -> None:
    """No body; `Allow` names every verb of the path."""
    async with serve() as http:
        reply = await http.request(verb, path)
        assert (reply.status_code, reply.content, reply.headers["allow"]) == (405, b"", allowed)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json; charset=utf-8", 201),
        ("text/json", 201),
        ("application/vnd.x+json", 201),
        ("text/plain", 415),
        ("", 415),
    ],
)
async def test_bodies_are_json(serve: Serve, content_type: str, status: int) -> None:
    """415 problem details, without errors, for other media types."""
    async with serve() as http:
        content = b'{"name":"t","description":"d","input_schema":1,"output_schema":1}'
        reply = await http.post("/api/v1/tasks", content=content, headers={"content-type": content_type})
        assert reply.status_code == status
        if status == 415:
            assert list(reply.json()) == ["type", "title", "status", "traceId"]
            assert reply.json()["title"] == "Unsupported Media Type"


async def test_a_body_that_is_too_large_is_413(serve: Serve) -> None:
    """The contract's error object, whether the size is announced or found while reading."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    async with serve(largest_body=1000) as http:
        for content in (b" " * 1001, parts()):
            reply = await http.post("/api/v1/tasks", content=content, headers={"content-type": "application/json"})
            assert (reply.status_code, reply.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_an_api_key_guards_everything_under_api(serve: Serve) -> None:
    """401 without or with a wrong one; whether the process lives may be asked without."""
    async with serve(api_key="s3cret") as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cret"}):
            for path in ("/api/v1/tasks", "/API/v1/tasks", "/api/v1/nowhere"):
                reply = await http.get(path, headers=headers)
                assert (reply.status_code, reply.json()["code"]) == (401, "UNAUTHORIZED")
                assert reply.headers["www-authenticate"] == "Bearer"
                assert "s3cret" not in reply.text
        assert (await http.get("/api/v1/tasks", headers={"authorization": "Bearer s3cret"})).status_code == 200
        for path in ("/api/v1/health/live", "/health", "/openapi.json", "/docs"):
            assert (await http.get(path)).status_code == 200


async def test_rations_are_per_path_and_answer_429(serve: Serve) -> None:
    """The real server's intended refusal, with Retry-After; what is allowed says how much is left."""
    async with serve(rate_limit=2) as http:
        first = await http.get("/api/v1/health")
        assert (first.headers["x-rate-limit-limit"], first.headers["x-rate-limit-remaining"]) == ("1m", "1")
        assert first.headers["x-rate-limit-reset"].endswith("Z")
        assert (await http.get("/API/v1/health")).status_code == 200
        refused = await http.get("/api/v1/health")
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json() == {
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Rate limit exceeded. Please try again later.",
        }
        assert (await http.get("/api/v1/tasks")).status_code == 200
        assert {(await http.get("/metrics")).status_code for _ in range(4)} == {200}


async def test_a_repeated_key_gives_the_first_reply_again(serve: Serve) -> None:
    """Status, body and Location are those of the first time, and nothing is done twice, also after a restart."""
    key = {"idempotency-key": "create-1"}
    async with serve() as http:
        first = await http.post("/api/v1/tasks", json=NEW, headers=key)
        assert first.status_code == 201
        assert "idempotent-replayed" not in first.headers
        again = await http.post("/api/v1/tasks", json=NEW, headers=key)
    async with serve() as http:
        later = await http.post("/api/v1/tasks", json=NEW, headers=key)
        for reply in (again, later):
            assert (reply.status_code, reply.content) == (201, first.content)
            assert reply.headers["location"] == first.headers["location"]
            assert reply.headers["idempotent-replayed"] == "true"
        assert len((await http.get("/api/v1/tasks")).json()) == 1


async def test_repeated_executions_and_batches_run_once(serve: Serve, tmp_path: Path) -> None:
    """The same execution id comes back, also for repetitions at the same moment."""
    async with serve() as http:
        task_id = await create(http)
        one = {"task_id": task_id, "input": 1}
        many = {"task_id": task_id, "items": [{"id": "a", "input": 1}]}
        for path, body in ((f"/api/v1/tasks/{task_id}/execute", one), ("/api/v1/batch/execute", many)):
            headers = {"idempotency-key": path}
            replies = await asyncio.gather(*(http.post(path, json=body, headers=headers) for _ in range(8)))
            assert {reply.status_code for reply in replies} == {200}
            assert len({reply.content for reply in replies}) == 1
        metrics = (await http.get("/metrics")).text
        assert f'loopai_program_executions_total{{status="success",task_id="{task_id}"}} 2.0' in metrics


async def test_a_key_belongs_to_one_request(serve: Serve) -> None:
    """422 for another body or path under it."""
    async with serve() as http:
        task_id = await create(http)
        path, headers = f"/api/v1/tasks/{task_id}/execute", {"idempotency-key": "k"}
        await http.post(path, json={"task_id": task_id, "input": 1}, headers=headers)
        for other, value in ((path, 2), ("/api/v1/tasks/execute", 1)):
            reply = await http.post(other, json={"task_id": task_id, "input": value}, headers=headers)
            assert (reply.status_code, reply.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_refusal_is_not_kept(serve: Serve) -> None:
    """What failed may be asked again under its key, and is then done."""
    async with serve() as http:
        body = {**NEW, "sampling_rate": 2}
        headers = {"idempotency-key": "k"}
        assert (await http.post("/api/v1/tasks", json=body, headers=headers)).status_code == 400
        assert (await http.post("/api/v1/tasks", json=NEW, headers=headers)).status_code == 201


@pytest.mark.parametrize("host", ["[", "a b", "", "x:y:z"])
async def test_a_strange_host_header_is_only_repeated(serve: Serve, host: str) -> None:
    """It ends in Location and nowhere else."""
    async with serve() as http:
        reply = await http.post("/api/v1/tasks", json=NEW, headers={"host": host})
        assert reply.status_code == 201
        assert reply.headers["location"].startswith(f"http://{host}/api/v1/Tasks/")


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_keys_have_a_length(serve: Serve, key: str) -> None:
    """1 to 255 characters."""
    async with serve() as http:
        reply = await http.post("/api/v1/tasks", json=NEW, headers={"idempotency-key": key})
        assert (reply.status_code, reply.json()["details"][0]["property_name"]) == (400, "Idempotency-Key")


async def test_health_of_a_sound_server(serve: Serve) -> None:
    """Plain, detailed, ready and live, in the contract's shapes."""
    async with serve() as http:
        health = (await http.get("/api/v1/health")).json()
        assert list(health) == ["status", "timestamp", "version", "environment"]
        assert (health["status"], health["environment"]) == ("healthy", "Development")
        detailed = (await http.get("/api/v1/health/detailed")).json()
        assert list(detailed) == [*health, "components"]
        assert {name: part["status"] for name, part in detailed["components"].items()} == dict.fromkeys(
            ("api", "database", "redis"), "healthy"
        )
        assert list(detailed["components"]["api"]) == ["status", "response_time"]
        assert detailed["components"]["database"]["message"] == "Database connection successful"
        ready = {"status": "ready", "database": True, "redis": True}
        assert (await http.get("/api/v1/health/ready")).json() == ready
        assert (await http.get("/api/v1/health/live")).json() == {"status": "alive"}
        for verb in ("GET", "POST", "DELETE"):
            plain = await http.request(verb, "/health")
            assert (plain.text, plain.headers["cache-control"]) == ("Healthy", "no-store, no-cache")


async def test_a_lost_database_is_ill_health(serve: Serve, tmp_path: Path) -> None:
    """503 in the same shapes; the process itself still lives."""
    async with serve() as http:
        shutil.rmtree(tmp_path)
        detailed = await http.get("/api/v1/health/detailed")
        assert (detailed.status_code, detailed.json()["status"]) == (503, "degraded")
        database = detailed.json()["components"]["database"]
        assert database["status"] == "unhealthy"
        assert database["message"].startswith("Database connection failed: ")
        ready = await http.get("/api/v1/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "not_ready", "database": False, "redis": True})
        assert (await http.get("/api/v1/health/live")).status_code == 200


async def test_metrics_count_what_happened(serve: Serve) -> None:
    """Executions, decisions, tasks and versions under the contract's names; requests by route, not by id."""
    async with serve() as http:
        task_id = await create(http)
        await http.post(f"/api/v1/tasks/{task_id}/execute", json={"task_id": task_id, "input": 1})
        reply = await http.get("/metrics")
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = reply.text.splitlines()
        for line in (
            f'loopai_program_executions_total{{status="success",task_id="{task_id}"}} 1.0',
            f'loopai_program_execution_duration_seconds_count{{task_id="{task_id}"}} 1.0',
            f'loopai_sampling_decisions_total{{sampled="false",strategy="random",task_id="{task_id}"}} 1.0',
            f'loopai_sampling_rate{{strategy="random",task_id="{task_id}"}} 0.0',
            f'loopai_program_versions{{task_id="{task_id}"}} 1.0',
            "loopai_active_tasks 1.0",
            'http_requests_received_total{code="200",endpoint="/api/v1/tasks/{task_id}/execute",method="POST"} 1.0',
        ):
            assert line in lines


async def test_a_client_that_leaves_within_its_body_is_no_fault(tmp_path: Path, caplog: Any) -> None:
    """It is counted, and not logged as an error of the server."""
    app = create_app(Settings(data=tmp_path))
    coming = iter([{"type": "http.request", "body": b'{"name": "t"', "more_body": True}, {"type": "http.disconnect"}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/tasks",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    async with app.router.lifespan_context(app):
        await app(scope, receive, send)
        assert sent[0]["status"] == 499
        assert not caplog.records
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as http:
            assert 'code="499",endpoint="/api/v1/tasks",method="POST"} 1.0' in (await http.get("/metrics")).text


async def test_the_interactive_documentation_needs_no_network(serve: Serve) -> None:
    """Its page asks for nothing from elsewhere, and what it asks for is there."""
    async with serve() as http:
        page = (await http.get("/docs")).text
        assert "http://" not in page
        assert "https://" not in page
        assets = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(assets) >= 2
        assert {(await http.get(asset)).status_code for asset in assets} == {200}


async def test_the_document_covers_every_route(serve: Serve) -> None:
    """Each operation has its path parameters, its body's schema and its reply's."""
    async with serve() as http:
        document = (await http.get("/openapi.json")).json()
        operations = {
            f"{verb.upper()} {path}": operation
            for path, verbs in document["paths"].items()
            for verb, operation in verbs.items()
        }
        assert set(operations) == {
            "POST /api/v1/tasks",
            "GET /api/v1/tasks",
            "GET /api/v1/tasks/{task_id}",
            "GET /api/v1/tasks/by-name/{name}",
            "POST /api/v1/tasks/execute",
            "POST /api/v1/tasks/{task_id}/execute",
            "GET /api/v1/tasks/{task_id}/artifacts",
            "POST /api/v1/tasks/{task_id}/artifacts",
            "GET /api/v1/tasks/{task_id}/artifacts/{version}",
            "POST /api/v1/tasks/{task_id}/artifacts/{version}/activate",
            "POST /api/v1/tasks/{task_id}/artifacts/{version}/retire",
            "POST /api/v1/tasks/{task_id}/examples",
            "POST /api/v1/tasks/{task_id}/generate",
            "DELETE /api/v1/tasks/{task_id}",
            "POST /api/v1/batch/execute",
            "POST /api/v1/batch/validate",
            "GET /api/v1/tasks/{task_id}/executions",
            "GET /api/v1/tasks/{task_id}/executions/export",
            "DELETE /api/v1/executions",
            "GET /api/v1/health",
            "GET /api/v1/health/detailed",
            "GET /api/v1/health/ready",
            "GET /api/v1/health/live",
            "GET /health",
            "GET /metrics",
        }
        execute = operations["POST /api/v1/tasks/{task_id}/execute"]
        assert [parameter["name"] for parameter in execute["parameters"]] == ["task_id", "Idempotency-Key"]
        body = execute["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/ExecuteRequest"}
        schemas = document["components"]["schemas"]
        assert schemas["ExecuteRequest"]["required"] == ["task_id", "input"]
        # One type each: not the client's alternatives, which take what a newer server says.
        status = schemas["ExecutionResult"]["properties"]["status"]
        assert status == {"title": "Status", "type": "string", "enum": ["success", "error"]}
        assert schemas["PushProgramRequest"]["properties"]["language"]["enum"] == ["python", "typescript"]
        assert not {"verified", "usage"} & set(schemas["ProgramArtifact"]["required"])
        assert schemas["BatchExecuteRequest"]["properties"]["items"]["items"] == {
            "$ref": "#/components/schemas/BatchExecuteItem"
        }
        replied = schemas["ExecutionResult"]
        optional = {"output", "error_message", "memory_usage_mb", "confidence"}
        assert set(replied["properties"]) - set(replied["required"]) == optional
        assert replied["properties"]["executed_at"]["format"] == "date-time"
        assert replied["properties"]["status"]["enum"] == ["success", "error"]
        assert document["components"]["securitySchemes"] == {"apiKey": {"type": "http", "scheme": "bearer"}}
        assert document["servers"]
        created = operations["POST /api/v1/tasks"]["responses"]["201"]
        assert "Location" in created["headers"]
        assert created["links"]["execute"]["operationId"] == execute["operationId"] == "execute"
        names = [operation["operationId"] for operation in operations.values()]
        assert len(set(names)) == len(names)
        additions = {"execute_legacy", "list_executions", "export_executions", "delete_executions"}
        assert all(hasattr(SyncLoopaiClient, name) for name in set(names) - additions)
        result = execute["responses"]["200"]["content"]["application/json"]["schema"]
        assert result == {"$ref": "#/components/schemas/ExecutionResult"}
        assert operations["POST /api/v1/tasks/execute"]["deprecated"] is True
