"""OpenTelemetry: what a call leaves in traces and metrics, and what it costs where it is not wanted."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from loopai import AuthenticationException, LoopaiClient, NotFoundException, ServerException, SyncLoopaiClient
from loopai.shell.command import USAGE, run_command
from loopai.shell.options import CommandOptions
from loopai.telemetry import OpenTelemetryHooks
from loopai.testing import FakeLoopai
from loopai.transports import Answer, Reply, Request

TASK = "7f1c2a34-5b6d-4e7f-8a90-1b2c3d4e5f60"
RESULT = b'{"execution_id":"%b","task_id":"%b","status":"success","output":1}' % (TASK.encode(), TASK.encode())


class Scripted:
    """A transport that gives the replies it was made with, in turn."""

    has_programs = True

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.headers: list[dict[str, str]] = []

    def send(self, request: Request) -> Answer:
        self.headers.append(dict(request.headers))
        return self.replies.pop(0)

    def close(self) -> None:
        pass

    async def asend(self, request: Request) -> Answer:
        return self.send(request)

    async def aclose(self) -> None:
        pass


class Watched:
    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.metrics = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider([self.metrics])
        self.hooks = OpenTelemetryHooks(self.tracers, self.meters)

    def measured(self) -> dict[str, Any]:
        data = self.metrics.get_metrics_data()
        assert data is not None
        found = data.resource_metrics[0].scope_metrics[0].metrics
        return {metric.name: list(metric.data.data_points) for metric in found}


@pytest.fixture
def watched() -> Any:
    watched = Watched()
    yield watched
    watched.tracers.shutdown()
    watched.meters.shutdown()


async def test_a_call_is_a_span_with_task_attempts_and_status(watched: Watched) -> None:
    """Retries are events of the one span; metrics count them."""
    transport = Scripted(Reply(503, {}, b""), Reply(200, {}, RESULT, queued=0.25))
    client = LoopaiClient("http://api.test", transport=transport, hooks=[watched.hooks], retry_waits=False)
    await client.execute(TASK, 1, version=3)
    (span,) = watched.spans.get_finished_spans()
    assert (span.name, span.kind) == ("loopai.execute", SpanKind.CLIENT)
    assert dict(span.attributes or {}) == {
        "loopai.operation": "execute",
        "loopai.items": 1,
        "loopai.task.id": TASK,
        "loopai.task.version": 3,
        "loopai.attempts": 2,
        "server.address": "api.test",
        "http.response.status_code": 200,
    }
    assert [event.name for event in span.events] == ["retry"]
    measured = watched.measured()
    assert measured["loopai.client.retries"][0].value == 1
    assert measured["loopai.client.in_flight"][0].value == 0
    assert measured["loopai.client.duration"][0].count == 1
    assert measured["loopai.client.queue_wait"][0].sum == 0.25


def test_the_trace_goes_upstream_under_the_callers_span(watched: Watched) -> None:
    """The request carries a traceparent whose trace is the caller's."""
    transport = Scripted(Reply(200, {}, RESULT))
    client = SyncLoopaiClient(transport=transport, hooks=[watched.hooks])
    with watched.tracers.get_tracer("test").start_as_current_span("view") as view:
        client.execute(TASK, 1)
    trace_id = format(view.get_span_context().trace_id, "032x")
    assert transport.headers[0]["traceparent"].split("-")[1] == trace_id
    call = next(span for span in watched.spans.get_finished_spans() if span.name == "loopai.execute")
    assert call.parent is not None
    assert call.parent.span_id == view.get_span_context().span_id


def test_a_call_that_raises_is_an_error_by_class(watched: Watched) -> None:
    """Status, class and message; the duration is labelled with the class."""
    transport = Scripted(Reply(404, {}, b'{"code":"TASK_NOT_FOUND","message":"no such task"}'))
    client = SyncLoopaiClient(transport=transport, hooks=[watched.hooks])
    with pytest.raises(NotFoundException):
        client.get_task(TASK)
    (span,) = watched.spans.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "no such task")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "NotFoundException"
    assert watched.measured()["loopai.client.duration"][0].attributes["error.type"] == "NotFoundException"


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_batch_is_a_span_over_its_chunks(watched: Watched, asynchronous: bool) -> None:
    """Chunks are sent by threads or tasks of the engine; their spans stand under the batch's, and no other's count."""
    fake = FakeLoopai()
    fake.task("spam").returns(1)
    rows = [{"n": n} for n in range(250)]
    options: dict[str, Any] = {"transport": fake, "hooks": [watched.hooks]}
    with watched.tracers.get_tracer("test").start_as_current_span("job"):
        if asynchronous:
            client = LoopaiClient(**options)
            await client.execute("spam", {})
            outcomes = [outcome async for outcome in client.batch_stream("spam", rows)]
        else:
            sync_client = SyncLoopaiClient(**options)
            sync_client.execute("spam", {})
            outcomes = list(sync_client.batch_stream("spam", rows))
    assert len(outcomes) == 250
    spans = watched.spans.get_finished_spans()
    (batch,) = [span for span in spans if span.name == "loopai.batch"]
    chunks = [span for span in spans if span.name == "loopai.batch_execute"]
    assert sum(span.attributes["loopai.items"] for span in chunks if span.attributes) == 250
    assert {span.parent.span_id for span in chunks if span.parent} == {batch.context.span_id}
    assert batch.attributes is not None
    assert batch.attributes["loopai.attempts"] == len(chunks)
    assert batch.parent is not None


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_batch_that_raises_is_an_error_by_class(watched: Watched, tmp_path: Path, asynchronous: bool) -> None:
    """As a call is."""
    transport = Scripted(Reply(401, {}, b'{"code":"UNAUTHORIZED","message":"no such key"}'))
    options: dict[str, Any] = {"transport": transport, "hooks": [watched.hooks]}
    output = tmp_path / "out.jsonl"
    if asynchronous:
        with pytest.raises(AuthenticationException):
            await LoopaiClient(**options).run_batch(TASK, [1], output)
    else:
        with pytest.raises(AuthenticationException):
            SyncLoopaiClient(**options).run_batch(TASK, [1], output)
    (batch,) = [span for span in watched.spans.get_finished_spans() if span.name == "loopai.batch"]
    assert batch.status.status_code is StatusCode.ERROR
    assert batch.attributes is not None
    assert batch.attributes["error.type"] == "AuthenticationException"


def test_a_batch_of_the_command_that_is_refused_is_an_error_too(watched: Watched, tmp_path: Path) -> None:
    """It tells by its exit code what others raise."""
    task = b'{"id":"%b","name":"spam","description":"","created_at":"2025-11-03T08:14:07Z"}' % TASK.encode()
    transport = Scripted(Reply(200, {}, task), Reply(401, {}, b'{"code":"UNAUTHORIZED","message":"no such key"}'))
    (tmp_path / "in.jsonl").write_text('{"n": 1}\n')
    options = CommandOptions(task=TASK, input=str(tmp_path / "in.jsonl"), output=str(tmp_path / "out.jsonl"))
    client = SyncLoopaiClient(transport=transport, hooks=[watched.hooks])
    assert run_command(options, client, stderr=io.StringIO()) == USAGE
    (batch,) = [span for span in watched.spans.get_finished_spans() if span.name == "loopai.batch"]
    assert batch.status.status_code is StatusCode.ERROR
    assert batch.attributes is not None
    assert batch.attributes["error.type"] == "AuthenticationException"


def test_no_key_in_a_span(watched: Watched) -> None:
    """What the server echoes of the key is masked before it reaches a trace."""
    transport = Scripted(Reply(500, {}, b'{"code":"X","message":"bad key s3cret-key"}'))
    client = SyncLoopaiClient(api_key="s3cret-key", transport=transport, hooks=[watched.hooks], max_retries=0)
    with pytest.raises(ServerException):
        client.get_task(TASK)
    assert "s3cret-key" not in watched.spans.get_finished_spans()[0].to_json()


def test_telemetry_is_one_option() -> None:
    """`telemetry=True` hangs the hooks on the global providers; without it nothing of OpenTelemetry is imported."""
    client = SyncLoopaiClient(telemetry=True, transport=Scripted(Reply(200, {}, RESULT)))
    assert client.execute(TASK, 1).output == 1
    code = "import sys, loopai; loopai.LoopaiClient(); sys.exit(any('opentelemetry' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_calls_span_is_current_while_its_requests_are_sent() -> None:
    """So that what an HTTP library is instrumented with nests in it; afterwards the caller's own is current again."""
    from opentelemetry import trace

    watched = Watched()
    seen: list[Any] = []

    class Looking(Scripted):
        def send(self, request: Request) -> Answer:
            seen.append(trace.get_current_span().get_span_context().span_id)
            return super().send(request)

    transport = Looking(Reply(503, {}, b""), Reply(200, {}, RESULT))
    client = SyncLoopaiClient("http://x", transport=transport, hooks=[watched.hooks], retry_waits=False)
    with watched.tracers.get_tracer("mine").start_as_current_span("mine") as mine:
        client.execute(TASK, 1)
        assert trace.get_current_span() is mine
    (span,) = [span for span in watched.spans.get_finished_spans() if span.name == "loopai.execute"]
    assert seen == [span.context.span_id] * 2


async def test_a_coalesced_request_links_to_every_callers_span() -> None:
    """The calls of one moment travel together, and each trace leads to the request."""
    import asyncio

    watched = Watched()
    items = [b'{"id":"%d","success":true,"output":1,"latency_ms":1}' % number for number in range(3)]
    counts = b'"total_items":3,"success_count":3,"failure_count":0'
    batch = b'{"batch_id":"%b","task_id":"%b",%b,"results":[%b]}' % (
        TASK.encode(),
        TASK.encode(),
        counts,
        b",".join(items),
    )
    client = LoopaiClient("http://x", transport=Scripted(Reply(200, {}, batch)), hooks=[watched.hooks], coalesce=True)
    tracer = watched.tracers.get_tracer("mine")

    async def call(number: int) -> int:
        with tracer.start_as_current_span(f"mine {number}") as mine:
            await client.execute(TASK, number)
        return mine.get_span_context().span_id

    callers = await asyncio.gather(*(call(number) for number in range(3)))
    (span,) = [span for span in watched.spans.get_finished_spans() if span.name == "loopai.execute"]
    assert sorted(link.context.span_id for link in span.links) == sorted(callers)
