"""What an ingest run did, as asset materializations: every table, event day and arrival day that it changed.

Each event costs about ten milliseconds, so batches are added up and recorded twice a minute and at the end.
"""

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import duckdb

from akosha_assets.defs.ingestion.backlog import backlog_metadata
from akosha_assets.defs.ingestion.ledger import ledger_metadata
from akosha_assets.defs.metadata import counted, day_key, day_metadata, written_metadata
from akosha_assets.defs.partitions import is_event_day
from akosha_assets.lake import days, inventory
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.arrivals import BatchResult
from akosha_assets.lake.ingestion.backlog import is_caught_up, measure
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.replay import day_totals
from akosha_assets.lake.lifecycle.hot import days_without_vectors
from akosha_assets.lake.schemas import HOT

RECORD_SECONDS = 30


def arrival_metadata(ledger: Ledger, day: date) -> dict[str, Any]:
    """Counts of all uploads of an arrival day, from the ledger."""
    totals = day_totals(ledger, day)
    return {
        "dagster/partition_row_count": totals.rows["rows_read"],
        "bytes": totals.upload_bytes,
        "uploads of the day": counted(totals.uploads),
        "rows of the day": counted({name.replace("_", " "): count for name, count in totals.rows.items()}),
    }


class Record:
    """Adds up batches and records what they changed, with `log_event`; with `arrivals`, also arrival days."""

    def __init__(
        self,
        lake: Lake,
        ledger: Ledger,
        connection: duckdb.DuckDBPyConnection,
        log_event: Callable[[dg.AssetMaterialization], None],
        *,
        arrivals: bool,
    ):
        self.lake, self.ledger, self.connection, self.log_event = lake, ledger, connection, log_event
        self.arrivals = arrivals
        self.total: Counter[str] = Counter()
        self._reset()

    def _reset(self) -> None:
        self.rows: Counter[str] = Counter()
        self.event_days: Counter[date] = Counter()
        self.arrival_days: Counter[date] = Counter()
        self.uploads: Counter[str] = Counter()
        self.batches = 0
        self.since = time.monotonic()

    def add(self, result: BatchResult) -> None:
        """Counts the batch; if the last record is more than `RECORD_SECONDS` old, records everything counted."""
        self.rows.update(result.rows)
        self.event_days.update(result.event_days)
        self.arrival_days.update(result.arrival_days)
        self.uploads.update(result.uploads)
        self.batches += 1
        if time.monotonic() - self.since > RECORD_SECONDS:
            self.write()

    def write(self) -> None:
        """Everything counted since the last record is in Dagster's event log."""
        # Upstream first: the UI shows an asset as unsynced if its upstream is newer.
        measured = measure(self.ledger, now=datetime.now(UTC))
        self._materialize("ingestion/ledger", ledger_metadata(measured))
        if self.batches:
            self.total.update(
                {
                    "batches": self.batches,
                    "rows": sum(self.rows.values()),
                    **{f"uploads {k}": n for k, n in self.uploads.items()},
                }
            )
            self._arrival_days()
            for address, rows in self.rows.items():
                if address != HOT.address:
                    written = written_metadata(self.lake, address, self.connection)
                    self._materialize(address, {"rows written": rows, **written})
            self._hot_days()
        if is_caught_up(measured, self.ledger.settings):
            self._materialize("ingestion/backlog", backlog_metadata(measured))
        self._reset()

    def _arrival_days(self) -> None:
        for day, uploads in sorted(self.arrival_days.items()) if self.arrivals else ():
            ingested = {"uploads ingested": uploads, "rows written by table": counted(self.rows)}
            self._materialize("ingestion/arrivals", {**ingested, **arrival_metadata(self.ledger, day)}, day)

    def _hot_days(self) -> None:
        if not self.event_days:
            return
        table = inventory.table_size(self.lake, HOT.address, self.connection)
        stored = days.stored(self.lake.create(HOT.address))
        without_vector = days_without_vectors(self.lake, self.lake.settings.embedding_model)
        for day, rows in sorted(self.event_days.items()):
            if is_event_day(day_key(day)):
                self._materialize(
                    HOT.address,
                    {
                        "rows written": rows,
                        "rows without vector": without_vector.get(day, 0),
                        **day_metadata(stored.get(day), table),
                    },
                    day,
                )

    def _materialize(self, address: str, metadata: dict[str, Any], day: date | None = None) -> None:
        self.log_event(
            dg.AssetMaterialization(address.split("/"), metadata=metadata, partition=day_key(day) if day else None)
        )
