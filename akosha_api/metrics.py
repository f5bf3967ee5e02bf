"""Prometheus metrics of the service: requests, searches, the replica. `lake/watch/metrics.py` has those of the lake."""

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
from akosha_assets.lake.serving.states import RankingStatus, TierStatus, ViewState
from akosha_assets.lake.watch.metrics import Declared, IngestionCollector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

METRICS = {
    one.name: one
    for one in (
        Declared("akosha_http_requests_total", "Requests, by route, method and status.", ("route", "method", "status")),
        Declared("akosha_http_request_seconds", "Seconds from request to answer, by route.", ("route",)),
        Declared("akosha_searches_total", "Searches answered, by mode.", ("mode",)),
        Declared("akosha_search_seconds", "Seconds that a search took inside the service, by mode.", ("mode",)),
        Declared("akosha_search_stage_seconds", "Seconds that one ranking of a search took, by stage.", ("stage",)),
        Declared(
            "akosha_search_tier_seconds", "Seconds of searches that a tier answered completely, by tier.", ("tier",)
        ),
        Declared(
            "akosha_search_incomplete_total",
            "Searches that a tier did not answer completely, by tier and state.",
            ("tier", "state"),
        ),
        Declared(
            "akosha_search_snippet_failures_total",
            "Results shown without highlights because their snippet failed.",
        ),
        Declared(
            "akosha_search_recall_ratio",
            "recall@10 of the last measurement, with stored vectors as queries; absent while there are too few.",
        ),
        Declared("akosha_replica_rows", "Memories that this process serves, by tier.", ("tier",)),
        Declared("akosha_replica_rows_without_vector", "Served memories without a vector, by tier.", ("tier",)),
        Declared(
            "akosha_replica_rows_set_aside",
            "Rows that cannot be served, by tier.",
            ("tier",),
        ),
        Declared("akosha_replica_version", "Table version that this process serves, by tier.", ("tier",)),
        Declared("akosha_replica_lag_seconds", "Seconds since the tables were last read successfully."),
        Declared("akosha_replica_ready", "1 while the newest version of the table is served, by tier.", ("tier",)),
        Declared(
            "akosha_replica_cache_writable",
            "1 while the serving cache can be written; 0 while everything is served from memory.",
        ),
        Declared("akosha_embedder_up", "1 if an embedding model is loaded, so that text can be embedded."),
    )
}


class RequestMetrics:
    """The registry of one service and the metrics that its routes update."""

    def __init__(self, state: AppState):
        # `_created` series would double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call,unused-ignore]
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(*_declared("akosha_http_requests_total"), registry=registry)
        self.request_seconds = Histogram(*_declared("akosha_http_request_seconds"), registry=registry, buckets=BUCKETS)
        self.searches = Counter(*_declared("akosha_searches_total"), registry=registry)
        self.search_seconds = Histogram(*_declared("akosha_search_seconds"), registry=registry, buckets=BUCKETS)
        self.stage_seconds = Histogram(*_declared("akosha_search_stage_seconds"), registry=registry, buckets=BUCKETS)
        self.tier_seconds = Histogram(*_declared("akosha_search_tier_seconds"), registry=registry, buckets=BUCKETS)
        self.incomplete = Counter(*_declared("akosha_search_incomplete_total"), registry=registry)
        # Absent until it is measured: an unmeasured recall is not a recall of 0.
        self.recall = _Recall(registry)
        registry.register(_ReplicaCollector(state))
        registry.register(IngestionCollector(state.lake, state.ledger))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def count_search(self, answer: Answer, request: Request) -> None:
        """Counts a search and records its spans below the caller's span."""
        _record_spans(answer, request)
        seconds = answer.took_ms / 1000
        self.searches.labels(answer.mode).inc()
        self.search_seconds.labels(answer.mode).observe(seconds)
        for name, stage in answer.stages.items():
            if stage.state is RankingStatus.ANSWERED:
                self.stage_seconds.labels(name).observe(stage.took_ms / 1000)
        for name, tier in answer.tiers.items():
            if tier["state"].is_whole or tier["state"] is TierStatus.SKIPPED:
                self.tier_seconds.labels(name).observe(seconds)
            else:
                self.incomplete.labels(name, tier["state"]).inc()

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts a request under the route that answered it; unknown paths are one route."""
        self.requests.labels(route, method, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)


def _record_spans(answer: Answer, request: Request) -> None:
    if not telemetry.is_tracing():
        return
    end = datetime.now(UTC)
    start = end - timedelta(milliseconds=answer.took_ms)
    attributes = {
        "akosha.mode": str(answer.mode),
        "akosha.results": len(answer.results),
        "akosha.request_id": request.state.request_id,
    }
    tiers = {f"akosha.tier.{name}": str(tier["state"]) for name, tier in answer.tiers.items()}
    parent = telemetry.remote_parent(request.headers)
    search = telemetry.record_span("search", start, end, attributes | tiers, parent=parent)
    at = start
    for name, stage in answer.stages.items():
        # The rankings run one after the other; the rest of the time is fusing and rendering.
        until = at + timedelta(milliseconds=stage.took_ms)
        of_stage = {
            "akosha.state": str(stage.state),
            "akosha.candidates": stage.candidates,
            "akosha.space": stage.space,
        }
        telemetry.record_span(name, at, until, of_stage, parent=search)
        at = until


class _Recall:
    def __init__(self, registry: CollectorRegistry):
        self._registry = registry
        self._gauge: Gauge | None = None

    def set(self, value: float) -> None:
        """Sets the recall that was just measured, from 0 to 1."""
        if self._gauge is None:
            self._gauge = Gauge(*_declared("akosha_search_recall_ratio"), registry=self._registry)
        self._gauge.set(value)


class _ReplicaCollector(Collector):
    def __init__(self, state: AppState):
        self.state = state

    def describe(self) -> list[Metric]:
        """No metrics, so that registration reads no state."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of the replica and the searcher now."""
        replica = self.state.replica
        families = {
            name: GaugeMetricFamily(name, one.help, labels=one.labels)
            for name, one in METRICS.items()
            if "_replica_" in name
        }
        for name, tier in replica.snapshot.tiers.items():
            for metric, value in (
                ("rows", tier.rows),
                ("rows_without_vector", tier.rows_without_vector),
                ("rows_set_aside", tier.rows_set_aside),
                ("version", math.nan if tier.version is None else tier.version),
                ("ready", tier.state in (ViewState.READY, ViewState.EMPTY)),
            ):
                families[f"akosha_replica_{metric}"].add_metric([name], float(value))
        families["akosha_replica_lag_seconds"].add_metric([], replica.silent_seconds())
        families["akosha_replica_cache_writable"].add_metric([], float(replica.cache_reason is None))
        yield from families.values()
        failures = METRICS["akosha_search_snippet_failures_total"]
        yield CounterMetricFamily(failures.name, failures.help, value=self.state.searcher.snippet_failures)
        model = METRICS["akosha_embedder_up"]
        yield GaugeMetricFamily(model.name, model.help, value=float(self.state.searcher.embedder is not None))


def _declared(name: str) -> tuple[str, str, tuple[str, ...]]:
    one = METRICS[name]
    return one.name, one.help, one.labels
