"""OpenTelemetry for the client: a span for each call, batch and chunk, trace context in requests, and metrics.

Requires `opentelemetry-api`, which is imported only when the hooks are created:

    LoopaiClient(telemetry=True)                              # or LOOPAI_TELEMETRY=1; the global providers
    LoopaiClient(hooks=[OpenTelemetryHooks(tracer_provider=…, meter_provider=…)])
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, Optional
from urllib.parse import urlsplit

from ._core.hooks import CallInfo, Hooks
from ._core.wire import Answer, Reply, Request
from ._version import __version__
from .exceptions import ConfigurationError, LoopaiException

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider


class OpenTelemetryHooks(Hooks):
    """Records spans `loopai.<operation>` of kind client, with a batch's chunks under `loopai.batch`, and four metrics.

    A span has `loopai.task.id`, `loopai.task.version`, `loopai.items`, `loopai.attempts`, `http.response.status_code`,
    `server.address`, and `error.type` if the call raised. Metrics: `loopai.client.duration` and
    `loopai.client.queue_wait` (histograms, seconds), `loopai.client.in_flight`, `loopai.client.retries`.
    """

    def __init__(
        self,
        tracer_provider: Optional[TracerProvider] = None,
        meter_provider: Optional[MeterProvider] = None,
    ) -> None:
        try:
            from opentelemetry import context, metrics, propagate, trace
        except ImportError:
            raise ConfigurationError("telemetry needs OpenTelemetry's API: pip install opentelemetry-api") from None
        self._trace = trace
        self._inject = propagate.inject
        self._attach = context.attach
        self._detach = context.detach
        self._tracer = trace.get_tracer("loopai", __version__, tracer_provider)
        meter = metrics.get_meter("loopai", __version__, meter_provider)
        self._duration = meter.create_histogram(
            "loopai.client.duration", "s", "Duration of calls, with all attempts and pauses"
        )
        self._queue_wait = meter.create_histogram(
            "loopai.client.queue_wait", "s", "Time that an attempt waits for a connection"
        )
        self._in_flight = meter.create_up_down_counter("loopai.client.in_flight", "{call}", "Calls in flight")
        self._retries = meter.create_counter(
            "loopai.client.retries", "{attempt}", "Attempts after the first one of a call"
        )

        # The span of the current batch: its chunks are sent by threads and tasks that have no current span.
        self._batch: Optional[Context] = None
        self._requests = 0

    def batch_started(self, batch: CallInfo) -> Hooks:
        """Open the run's span, the parent of its chunks' spans."""
        span = self._tracer.start_span("loopai.batch", attributes=_attributes(batch))
        hooks = copy.copy(self)
        hooks._batch = self._trace.set_span_in_context(span)
        hooks._requests = 0
        batch.notes[self] = span, hooks
        return hooks

    def batch_ended(self, batch: CallInfo, error: Optional[BaseException]) -> None:
        """Close the run's span, with its number of requests."""
        span, hooks = batch.notes.pop(self)
        span.set_attribute("loopai.attempts", hooks._requests)
        self._end(span, error)

    def call_started(self, call: CallInfo) -> None:
        """Open the call's span, under the current span or that of its batch."""
        attributes = {**_attributes(call), "loopai.items": call.items}
        kind = self._trace.SpanKind.CLIENT
        callers = [context for context in call.callers.get(self, ()) if context.is_valid]
        links = [self._trace.Link(context) for context in callers] if call.items > 1 or len(callers) > 1 else []
        span = self._tracer.start_span(
            f"loopai.{call.operation}", self._batch, kind=kind, attributes=attributes, links=links
        )
        call.notes[self] = span
        call.notes[self, "began"] = time.perf_counter()
        self._in_flight.add(1, {"loopai.operation": call.operation})

    def attempt_started(self, call: CallInfo, request: Request) -> None:
        """Send the trace's context with the request."""
        span: Span = call.notes[self]
        if call.attempts == 1:
            span.set_attribute("server.address", urlsplit(request.url).hostname or "")
        else:
            self._retries.add(1, {"loopai.operation": call.operation})
            span.add_event("retry", {"loopai.attempt": call.attempts})
        context = self._trace.set_span_in_context(span)
        self._inject(request.headers, context=context)
        # Current while the request is sent, so that spans of an instrumented HTTP library nest in it.
        call.notes[self, "token"] = self._attach(context), span

    def attempt_ended(self, call: CallInfo, answer: Answer) -> None:
        """Record the status, and how long the attempt waited for its connection."""
        self._leave(call)
        if isinstance(answer, Reply):
            call.notes[self].set_attribute("http.response.status_code", answer.status)
        self._queue_wait.record(answer.queued, {"loopai.operation": call.operation})

    def call_ended(self, call: CallInfo, error: Optional[BaseException]) -> None:
        """Close the span. A call that raised is an error, with the name of its class."""
        self._leave(call)
        span: Span = call.notes.pop(self)
        span.set_attribute("loopai.attempts", call.attempts)
        self._requests += call.attempts
        labels = {"loopai.operation": call.operation}
        if error is not None:
            labels["error.type"] = _kind(error)
        self._end(span, error)
        self._in_flight.add(-1, {"loopai.operation": call.operation})
        self._duration.record(time.perf_counter() - call.notes.pop((self, "began")), labels)

    def joined(self) -> Any:
        """Return the caller's span. The request that carries several calls links to each of theirs."""
        return self._trace.get_current_span().get_span_context()

    def _leave(self, call: CallInfo) -> None:
        token = call.notes.pop((self, "token"), None)
        if token is not None:
            here, current = token
            # A cancelled call may end in another context, where its span is not current.
            if self._trace.get_current_span() is current:
                self._detach(here)

    def _end(self, span: Span, error: Optional[BaseException]) -> None:
        if error is not None:
            span.set_attribute("error.type", _kind(error))
            message = error.message if isinstance(error, LoopaiException) else type(error).__name__
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, message))
        span.end()


def _attributes(call: CallInfo) -> dict[str, Any]:
    attributes: dict[str, Any] = {"loopai.operation": call.operation}
    if call.task_id is not None:
        attributes["loopai.task.id"] = call.task_id
    if call.version is not None:
        attributes["loopai.task.version"] = call.version
    return attributes


def _kind(error: BaseException) -> str:
    return "cancelled" if isinstance(error, GeneratorExit) else type(error).__name__
