"""Metrics of the service itself: requests, searches by stage, the replica. Those of the lake come from
`lake/watch/metrics.py`.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from fastapi import Request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from akosha_api.app_state import AppState
from akosha_assets.lake import telemetry
from akosha_assets.lake.serving.search.searcher import Answer
from akosha_assets.lake.watch.metrics import Declared, IngestionCollector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

METRICS = {
    one.name: one
    for one in (
        Declared("akosha_http_requests_total", "Requests, by route, method and status.", ("route", "method", "status")),
        Declared("akosha_http_request_seconds", "Time from request to answer, by route.", ("route",)),
        Declared("akosha_searches_total", "Searches answered, by mode.", ("mode",)),
        Declared("akosha_search_seconds", "Time a search took inside the service, by mode.", ("mode",)),
        Declared("akosha_search_stage_seconds", "Time one ranking of a search took, by stage.", ("stage",)),
        Declared("akosha_search_tier_seconds", "Time of searches that a tier answered, by tier.", ("tier",)),
        Declared(
            "akosha_search_incomplete_total",
            "Searches that a tier did not answer whole, by tier and state.",
            ("tier", "state"),
        ),
        Declared(
            "akosha_search_snippet_failures_total",
            "Results shown without highlights because their snippet failed.",
        ),
        Declared(
            "akosha_search_recall_ratio",
            "recall@10 of stored vectors asked as questions, as last measured; absent while there are too few.",
        ),
        Declared("akosha_replica_rows", "Memories that this process serves, by tier.", ("tier",)),
        Declared("akosha_replica_rows_without_vector", "Served memories without a vector, by tier.", ("tier",)),
        Declared(
            "akosha_replica_rows_set_aside",
            "Rows of data files that cannot be read and are left out, by tier.",
            ("tier",),
        ),
        Declared("akosha_replica_version", "Table version that this process serves, by tier.", ("tier",)),
        Declared("akosha_replica_lag_seconds", "Seconds since the tables were last looked at with success."),
        Declared("akosha_replica_ready", "1 while a tier is served as its table is, by tier.", ("tier",)),
        Declared(
            "akosha_replica_cache_writable",
            "1 while the serving cache can be written; 0 while everything is served from memory.",
        ),
        Declared("akosha_embedder_up", "1 while words can be turned into vectors here."),
    )
}


class RequestMetrics:
    """The registry of one service, and what its routes report to it."""

    def __init__(self, serving: AppState):
        # The time a series began is of no use here and would double the number of series.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        made = self.registry
        self.requests = Counter(*_named("akosha_http_requests_total"), registry=made)
        self.request_seconds = Histogram(*_named("akosha_http_request_seconds"), registry=made, buckets=BUCKETS)
        self.searches = Counter(*_named("akosha_searches_total"), registry=made)
        self.search_seconds = Histogram(*_named("akosha_search_seconds"), registry=made, buckets=BUCKETS)
        self.stage_seconds = Histogram(*_named("akosha_search_stage_seconds"), registry=made, buckets=BUCKETS)
        self.tier_seconds = Histogram(*_named("akosha_search_tier_seconds"), registry=made, buckets=BUCKETS)
        self.incomplete = Counter(*_named("akosha_search_incomplete_total"), registry=made)
        # Registered with its first value: an unmeasured recall is not a recall of 0.
        self.recall = _Recall(made)
        made.register(_ReplicaCollector(serving))
        made.register(IngestionCollector(serving.lake, serving.ledger))
        ProcessCollector(registry=made)
        PlatformCollector(registry=made)

    def searched(self, answer: Answer, request: Request) -> None:
        """The answer is counted, and traced below the span that the caller named."""
        _traced(answer, request)
        seconds = answer.took_ms / 1000
        self.searches.labels(answer.mode).inc()
        self.search_seconds.labels(answer.mode).observe(seconds)
        for name, stage in answer.stages.items():
            if stage.state == "answered":
                self.stage_seconds.labels(name).observe(stage.took_ms / 1000)
        for name, tier in answer.tiers.items():
            if tier["state"] in ("answered", "empty", "skipped"):
                self.tier_seconds.labels(name).observe(seconds)
            else:
                self.incomplete.labels(name, tier["state"]).inc()

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request is counted under the route that answered it; unknown paths are one route."""
        self.requests.labels(route, method, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)


def _traced(answer: Answer, request: Request) -> None:
    if not telemetry.is_tracing():
        return
    end = datetime.now(UTC)
    start = end - timedelta(milliseconds=answer.took_ms)
    named = {
        "akosha.mode": answer.mode,
        "akosha.results": len(answer.results),
        "akosha.request_id": request.state.request_id,
    }
    tiers = {f"akosha.tier.{name}": str(tier["state"]) for name, tier in answer.tiers.items()}
    whole = telemetry.record_span("search", start, end, named | tiers, parent=telemetry.remote_parent(request.headers))
    at = start
    for name, stage in answer.stages.items():
        # One after the other is how they run; the rest of the time is fusing and filling in.
        until = at + timedelta(milliseconds=stage.took_ms)
        told = {"akosha.state": stage.state, "akosha.candidates": stage.candidates, "akosha.space": stage.space}
        telemetry.record_span(name, at, until, told, parent=whole)
        at = until


class _Recall:
    def __init__(self, registry: CollectorRegistry):
        self._registry = registry
        self._gauge: Gauge | None = None

    def set(self, value: float) -> None:
        """The recall was measured."""
        if self._gauge is None:
            self._gauge = Gauge(*_named("akosha_search_recall_ratio"), registry=self._registry)
        self._gauge.set(value)


class _ReplicaCollector(Collector):
    def __init__(self, serving: AppState):
        self.serving = serving

    def describe(self) -> list[Metric]:
        """Nothing is read at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What this process serves."""
        replica = self.serving.replica
        families = {
            name: GaugeMetricFamily(name, one.says, labels=one.labels)
            for name, one in METRICS.items()
            if "_replica_" in name
        }
        for name, tier in replica.snapshot.tiers.items():
            for metric, value in (
                ("rows", tier.rows),
                ("rows_without_vector", tier.rows_without_vector),
                ("rows_set_aside", tier.rows_set_aside),
                ("version", math.nan if tier.version is None else tier.version),
                ("ready", tier.state in ("ready", "empty")),
            ):
                families[f"akosha_replica_{metric}"].add_metric([name], float(value))
        families["akosha_replica_lag_seconds"].add_metric([], replica.silent_seconds())
        families["akosha_replica_cache_writable"].add_metric([], float(replica.cache_reason is None))
        yield from families.values()
        failures = METRICS["akosha_search_snippet_failures_total"]
        yield CounterMetricFamily(failures.name, failures.says, value=self.serving.searcher.snippet_failures)
        model = METRICS["akosha_embedder_up"]
        yield GaugeMetricFamily(model.name, model.says, value=float(self.serving.searcher.embedder is not None))


def _named(name: str) -> tuple[str, str, tuple[str, ...]]:
    one = METRICS[name]
    return one.name, one.says, one.labels
