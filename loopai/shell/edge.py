"""A client whose batches run in this process instead of on the server. `loopai.edge` loads the programs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Optional

from pydantic_core import from_json, to_json

from .. import models
from .._core.wire import Answer, Reply, Request
from ..client import SyncLoopaiClient
from ..config import OPTIONS
from ..edge import SyncEdgeProgram, program_pool


def at_edge(client: SyncLoopaiClient) -> SyncLoopaiClient:
    """Return a client with the options of `client` whose batches run in this process, for `--edge`.

    Other calls use the connections of `client`; closing this client does not close them. Raises
    `ConfigurationError` if the sandbox is not installed.
    """
    program_pool()
    options = {option.argument: getattr(client.config, option.argument) for option in OPTIONS}
    # The client's hooks include those of telemetry; an embedded server is reached through the client. A program
    # at the edge checks its inputs itself.
    options.update(transport=EdgeTransport(client), local=False, telemetry=False, validate_inputs=False)
    return SyncLoopaiClient(**options, hooks=client.hooks)


class EdgeTransport:
    """A transport that runs batches here and passes everything else on to a client's transport."""

    has_programs = True
    """Programs that run here already exist: no execution makes the server create one."""

    def __init__(self, client: SyncLoopaiClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self.tasks: Mapping[str, str] = getattr(client.config.transport, "tasks", MappingProxyType({}))
        self._programs: dict[tuple[str, Optional[int]], SyncEdgeProgram] = {}

    def send(self, request: Request) -> Answer:
        """Send one request, or run it here; see `Transport`. Raises what loading the program raises."""
        if not request.url.endswith("/api/v1/batch/execute"):
            return self._client.transport.send(request)
        body = from_json(request.content)
        began = datetime.now(timezone.utc)
        program = self._program(body["task_id"], body.get("version"))
        results = program.map(
            [item["input"] for item in body["items"]],
            timeout_ms=body.get("timeout_ms"),
            max_concurrency=body.get("max_concurrency") or 10,
        )
        ended = datetime.now(timezone.utc)
        latencies = [result.latency_ms for result in results]
        succeeded = sum(result.succeeded for result in results)
        answer = {
            "batch_id": uuid.uuid4(),
            "task_id": body["task_id"],
            "version": body.get("version") or 0,
            "total_items": len(results),
            "success_count": succeeded,
            "failure_count": len(results) - succeeded,
            "total_duration_ms": (ended - began).total_seconds() * 1000,
            "avg_latency_ms": sum(latencies) / len(latencies) if latencies else 0,
            "results": [_item(item["id"], result) for item, result in zip(body["items"], results)],
            "started_at": began,
            "completed_at": ended,
        }
        return Reply(200, {"content-type": "application/json"}, to_json(answer))

    def _program(self, task_id: str, version: Optional[int]) -> SyncEdgeProgram:
        with self._lock:
            program = self._programs.get((task_id, version))
        if program is None:
            # If two threads load at the same time, that costs one request.
            program = self._client.load_program(task_id, version)
            with self._lock:
                self._programs[task_id, version] = program
        return program

    def close(self) -> None:
        """Do nothing: the client belongs to the user, and the sandbox to the process."""


def _item(item_id: str, result: models.ExecutionResult) -> dict[str, Any]:
    item: dict[str, Any] = {"id": item_id, "execution_id": result.execution_id, "success": result.succeeded}
    if result.succeeded:
        item["output"] = result.output
        if result.confidence is not None:
            item["confidence"] = result.confidence
    else:
        item["error_message"] = result.error_message
    return {**item, "latency_ms": result.latency_ms, "sampled_for_validation": False}
