"""The metrics of `/metrics`, with the contract's names: counters of this process, and figures from the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .records import Execution
from .store import Store

M = TypeVar("M", Counter, Gauge, Histogram)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

RUN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 60)
"""Buckets of the histograms: programs take from half a millisecond to the longest timeout, a minute."""

MOST_SERIES = 1000
"""Cached series per metric: looking up their labels for each call took longer than counting."""

SAMPLING = "random"
"""The only sampling strategy: random, at the task's rate."""


class Metrics:
    """One server's counters. Validations, comparisons and canaries will add theirs."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._executions = _series(
            Counter("loopai_program_executions_total", "Executions.", ["task_id", "status"], registry=self._registry)
        )
        self._durations = _series(
            Histogram(
                "loopai_program_execution_duration_seconds",
                "Duration of executions.",
                ["task_id"],
                registry=self._registry,
                buckets=RUN_SECONDS,
            )
        )
        self._decisions = _series(
            Counter(
                "loopai_sampling_decisions_total",
                "Decisions whether to sample an execution for review.",
                ["task_id", "strategy", "sampled"],
                registry=self._registry,
            )
        )
        self._rates = _series(
            Gauge(
                "loopai_sampling_rate", "Sampled share of executions.", ["task_id", "strategy"], registry=self._registry
            )
        )
        self._requests = _series(
            Counter(
                "http_requests_received_total",
                "Requests answered.",
                ["code", "method", "endpoint"],
                registry=self._registry,
            )
        )
        self._request_durations = _series(
            Histogram(
                "http_request_duration_seconds",
                "Response time of requests.",
                ["method", "endpoint"],
                registry=self._registry,
                buckets=RUN_SECONDS,
            )
        )
        self.in_progress = Gauge("http_requests_in_progress", "Requests being answered.", registry=self._registry)

    def watch(self, store: Store) -> None:
        """Report current figures of the store."""
        self._registry.register(_Held(store))

    def executed(self, execution: Execution, sampling_rate: float) -> None:
        """Count one execution."""
        self._executions(execution.task_id, execution.status).inc()
        self._durations(execution.task_id).observe(execution.latency_ms / 1000)
        self._decisions(execution.task_id, SAMPLING, "true" if execution.sampled else "false").inc()
        self._rates(execution.task_id, SAMPLING).set(sampling_rate)

    def answered(self, status: int, method: str, endpoint: str, seconds: float) -> None:
        """Count one request; `endpoint` is the route's template, so that ids do not create series."""
        self._requests(str(status), method, endpoint).inc()
        self._request_durations(method, endpoint).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _series(metric: M) -> Callable[..., M]:
    """A metric's series by its labels' values."""
    return lru_cache(MOST_SERIES)(metric.labels)


class _Held(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        # Otherwise registering would read the store to learn the names.
        return []

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("loopai_active_tasks", "Tasks.", value=self._store.count_tasks())
        versions = GaugeMetricFamily("loopai_program_versions", "Programs of a task.", labels=["task_id"])
        for task_id, count in self._store.versions_by_task():
            versions.add_metric([task_id], count)
        yield versions
