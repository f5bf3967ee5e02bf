"""Prometheus metrics of ingestion, tables and Dagster, the same from the service and from `akosha metrics`.

Every metric is declared in `METRICS`, which the docs and a test follow. No label names a system, an upload or a user:
labels are tables, states, reasons, daemons, sensors and jobs, whose number is bounded.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import duckdb
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LakeError, LedgerDamaged, LedgerUnavailable, OrchestratorUnavailable
from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.ledger import outages
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.inventory import table_size
from akosha_assets.lake.lifecycle.aging import due
from akosha_assets.lake.lifecycle.hot import days_without_vectors
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.tiers import Tier
from akosha_assets.lake.watch import alerts, bootstrap, orchestration

# A scrape within this time uses the last reading.
READING_SECONDS = 5.0
TABLES_SECONDS = 60.0
FRESHNESS = {"healthy": 0, "warning": 1, "degraded": 2, "unknown": 3}


@dataclass(frozen=True)
class Declared:
    """One metric: its name, help text and label names."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


METRICS = {
    one.name: one
    for one in (
        Declared(
            "akosha_ingestion_backlog_count",
            "Complete uploads that are not ingested yet, those of running batches included.",
        ),
        Declared("akosha_ingestion_backlog_bytes", "Compressed bytes of the waiting uploads."),
        Declared("akosha_ingestion_oldest_waiting_seconds", "Age of the oldest waiting upload; 0 when none waits."),
        Declared("akosha_ingestion_claimed_count", "Waiting uploads that a running batch has claimed."),
        Declared("akosha_ingestion_arriving_count", "Uploads without a manifest so far."),
        Declared(
            "akosha_ingestion_incomplete_count",
            "Uploads without a manifest for longer than AKOSHA_INCOMPLETE_GRACE_SECONDS.",
        ),
        Declared("akosha_ingestion_ingested_count", "Ingested uploads in the ledger."),
        Declared("akosha_ingestion_quarantined_count", "Uploads in quarantine, by reason.", ("reason",)),
        Declared("akosha_ingestion_arrivals_per_second", "Uploads discovered per second over the last five minutes."),
        Declared("akosha_ingestion_drained_per_second", "Uploads ingested per second over the last five minutes."),
        Declared(
            "akosha_ingestion_catch_up_seconds",
            "Predicted seconds until no upload waits; +Inf while the backlog does not shrink.",
        ),
        Declared(
            "akosha_ingestion_largest_system_ratio", "Share of the waiting uploads that come from the busiest system."
        ),
        Declared("akosha_ingestion_live_batches", "Batches that hold a lease."),
        Declared(
            "akosha_ingestion_expired_leases", "Batches whose lease ended and that no process has taken over yet."
        ),
        Declared("akosha_ingestion_counted", "Counters of the ledger since its creation, by name.", ("name",)),
        Declared(
            "akosha_ingestion_outage_seconds",
            "Seconds since a store, the ledger or a disk by_step discovery or ingest; 0 while none does.",
            ("step",),
        ),
        Declared("akosha_ledger_up", "1 while the ledger answers."),
        Declared("akosha_store_up", "1 while the tables can be read."),
        Declared("akosha_table_rows", "Rows of a table.", ("table",)),
        Declared("akosha_table_bytes", "Bytes of a table's live files.", ("table",)),
        Declared("akosha_table_files", "Live files of a table.", ("table",)),
        Declared("akosha_embedding_backlog_rows", "Hot rows without a vector of the configured model."),
        Declared(
            "akosha_lifecycle_due_days",
            "Event days that lie in a hotter tier than their age asks for, by the tier they belong in.",
            ("tier",),
        ),
        Declared("akosha_lifecycle_oldest_due_days", "Days by which the oldest of them is late."),
        Declared("akosha_dagster_up", "1 while Dagster's webserver at AKOSHA_DAGSTER_URL answers."),
        Declared("akosha_dagster_queued_runs", "Runs in Dagster's queue, counted up to 500."),
        Declared("akosha_dagster_oldest_queued_seconds", "Age of the oldest queued run; 0 when none is queued."),
        Declared("akosha_dagster_active_runs", "Runs that start or run, counted up to 500."),
        Declared("akosha_dagster_failed_runs", "Runs of the last day that failed, by job.", ("job",)),
        Declared("akosha_dagster_heartbeat_seconds", "Seconds since the last heartbeat of a daemon.", ("daemon",)),
        Declared("akosha_dagster_sensor_lag_seconds", "Seconds by which a sensor's next tick is overdue.", ("sensor",)),
        Declared(
            "akosha_dagster_freshness",
            "Freshness of an asset: 0 fresh, 1 late, 2 failed, 3 never materialized.",
            ("asset",),
        ),
        Declared("akosha_bootstrap_mode", "1 while the orchestrator is configured and does not answer."),
        Declared("akosha_alerts_firing", "Firing alerts, by severity.", ("severity",)),
        Declared(
            "akosha_alerts_undelivered", "Alert messages that no channel, or not every channel, has accepted yet."
        ),
    )
}

Sample = tuple[str, tuple[str, ...], float]


class IngestionCollector(Collector):
    """Reads the ledger, the table logs and Dagster when scraped, each at most once per some seconds."""

    def __init__(self, lake: Lake, ledger: Callable[[], Ledger]):
        self.lake, self.ledger = lake, ledger
        self._lock = threading.Lock()
        self._readings: dict[str, tuple[float, list[Sample]]] = {}

    def describe(self) -> list[Metric]:
        """Every metric without samples, so that registration reads nothing."""
        return [_family(one) for one in METRICS.values()]

    def collect(self) -> Iterator[Metric]:
        """Every metric that can be read now. Those of a source that does not answer are absent, and its `…_up` is 0."""
        families = {name: _family(one) for name, one in METRICS.items()}
        with self._lock:
            samples = [
                *self._reading("ledger", READING_SECONDS, self._of_ledger),
                *self._reading("tables", TABLES_SECONDS, self._of_tables),
                *self._reading("dagster", READING_SECONDS, self._of_dagster),
            ]
        for name, labels, value in samples:
            families[name].add_metric(labels, value)
        yield from (family for family in families.values() if family.samples)

    def _reading(self, name: str, seconds: float, read: Callable[[], Iterator[Sample]]) -> list[Sample]:
        at, samples = self._readings.get(name, (-seconds, []))
        if time.monotonic() - at >= seconds or not samples:
            samples = list(read())
            self._readings[name] = (time.monotonic(), samples)
        return samples

    def _of_ledger(self) -> Iterator[Sample]:
        try:
            ledger = self.ledger()
            measured = backlog.measure(ledger, now=datetime.now(UTC))
            counts = ledger.counts()
            by_step = {outage.step: outage for outage in outages.find_all(ledger)}
            firing, undelivered = alerts.count_alerts(ledger)
            bootstrapped = bootstrap.since(ledger) is not None
        except (LedgerUnavailable, LedgerDamaged):
            yield "akosha_ledger_up", (), 0
            return
        yield "akosha_ledger_up", (), 1
        catch_up = float("inf") if measured.catch_up_seconds is None else measured.catch_up_seconds
        for name, value in (
            ("backlog_count", measured.waiting),
            ("backlog_bytes", measured.waiting_bytes),
            ("oldest_waiting_seconds", measured.oldest_waiting_seconds),
            ("claimed_count", measured.claimed),
            ("arriving_count", measured.arriving),
            ("incomplete_count", measured.incomplete),
            ("ingested_count", measured.ingested),
            ("arrivals_per_second", measured.arrivals_per_second),
            ("drained_per_second", measured.drained_per_second),
            ("catch_up_seconds", catch_up),
            ("largest_system_ratio", measured.largest_system_share),
            ("live_batches", measured.live_batches),
            ("expired_leases", measured.expired_leases),
        ):
            yield f"akosha_ingestion_{name}", (), value
        for step in outages.STEPS:
            seconds = (measured.measured_at - by_step[step].since).total_seconds() if step in by_step else 0.0
            yield "akosha_ingestion_outage_seconds", (step,), max(0.0, seconds)
        for reason, count in (measured.quarantined_by_reason or {"none": 0}).items():
            yield "akosha_ingestion_quarantined_count", (reason,), count
        for name, count in counts.items():
            yield "akosha_ingestion_counted", (name,), count

        yield "akosha_bootstrap_mode", (), bootstrapped
        for severity, count in firing.items():
            yield "akosha_alerts_firing", (severity,), count
        yield "akosha_alerts_undelivered", (), undelivered

    def _of_tables(self) -> Iterator[Sample]:
        try:
            with duckdb.connect() as connection:
                sizes = [table_size(self.lake, address, connection) for address in TABLES]
            today = datetime.now(UTC).date()
            policy = TierPolicy.of(self.lake.settings)
            late = due(self.lake, policy, today)
            without_vector = sum(days_without_vectors(self.lake, self.lake.settings.embedding_model).values())
        except (LakeError, OSError):
            yield "akosha_store_up", (), 0
            return
        yield "akosha_store_up", (), 1
        for one in sizes:
            yield "akosha_table_rows", (one.address,), one.rows
            yield "akosha_table_bytes", (one.address,), one.stored_bytes
            yield "akosha_table_files", (one.address,), one.files
        yield "akosha_embedding_backlog_rows", (), without_vector
        for tier in (Tier.WARM, Tier.COLD):
            yield "akosha_lifecycle_due_days", (tier,), sum(item.tier == tier for item in late)
        last: dict[str, date] = {
            Tier.WARM: policy.last_day_of(Tier.HOT, today),
            Tier.COLD: policy.last_day_of(Tier.WARM, today),
        }
        yield (
            "akosha_lifecycle_oldest_due_days",
            (),
            max((last[item.tier] - item.event_day).days for item in late) if late else 0,
        )

    def _of_dagster(self) -> Iterator[Sample]:
        if not self.lake.settings.dagster_url:
            return
        try:
            settings = self.lake.settings
            state = orchestration.read(
                settings.dagster_url, token=settings.dagster_token.get_secret_value(), now=datetime.now(UTC)
            )
        except OrchestratorUnavailable:
            yield "akosha_dagster_up", (), 0
            return
        yield "akosha_dagster_up", (), 1
        yield "akosha_dagster_queued_runs", (), state.queued
        yield "akosha_dagster_oldest_queued_seconds", (), state.oldest_queued_seconds
        yield "akosha_dagster_active_runs", (), len(state.active)
        for job, count in (state.failed_by_job or {"none": 0}).items():
            yield "akosha_dagster_failed_runs", (job,), count
        for daemon, seconds in state.heartbeat_seconds.items():
            yield "akosha_dagster_heartbeat_seconds", (daemon,), seconds
        for sensor, seconds in state.sensor_lag_seconds.items():
            yield "akosha_dagster_sensor_lag_seconds", (sensor,), seconds
        for asset, freshness in state.freshness.items():
            yield "akosha_dagster_freshness", (asset,), FRESHNESS[freshness]


def _family(one: Declared) -> GaugeMetricFamily:
    return GaugeMetricFamily(one.name, one.help, labels=one.labels)
