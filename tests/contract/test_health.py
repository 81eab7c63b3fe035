"""Health and metrics, on every client and transport."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Calls


async def test_health_in_all_its_forms(calls: Calls) -> None:
    """Plain, JSON, by component, ready and live."""
    health = await calls.get_health()
    assert (health.status, health.environment) == ("healthy", "Development")
    assert health.timestamp.utcoffset() is not None
    detailed = await calls.get_detailed_health()
    assert detailed.status == "healthy"
    assert {"api", "database", "redis"} <= detailed.components.keys()
    assert all(part.status == "healthy" for part in detailed.components.values())
    ready = await calls.get_ready()
    assert (ready.ready, ready.database, ready.redis) == (True, True, True)
    assert (await calls.get_live()).status == "alive"
    assert (await calls.get_plain_health()).status == "healthy"


@pytest.mark.addition("counting executions")
async def test_metrics_count_executions(calls: Calls, task: Any) -> None:
    """`/metrics` is Prometheus text with the server's own names."""
    await calls.execute(task.id, {"text": "x"})
    text = await calls.get_metrics()
    assert text.reply.status_code == 200
    assert f'loopai_program_executions_total{{status="success",task_id="{task.id}"}} 1.0' in text
