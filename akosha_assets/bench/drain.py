"""Measures how fast a backlog of small uploads from many systems drains, and whether every row is stored once."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from akosha_assets.bench import runs
from akosha_assets.fleet.systems import FleetPlan
from akosha_assets.fleet.upload import upload_fleet
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.schemas import HOT


def run(
    *, uploads: int, systems: int, memories: int, distinct: int, work: Path | None, on_upload: Callable[[], None]
) -> dict[str, Any]:
    """Fill an inbox with `uploads` uploads of `systems` systems, then time one ingest process from its start to its
    end.

    `distinct` databases are rendered; the other systems upload copies. Identity is per system, so every row is stored
    for each system. `rows_expected` are the memories of each system's last snapshot.
    """
    snapshots = max(1, uploads // systems)
    plan = FleetPlan(
        systems=systems,
        memories=memories,
        snapshots=snapshots,
        distinct=distinct,
        fingerprints=True,
        now=datetime.now(UTC),
    )
    with runs.home(work) as settings:
        sent = upload_fleet(settings.inbox(), plan, on_upload=lambda _: on_upload())
        expected = sum({one.system_id: one.memories for one in sent}.values())
        ingested = runs.ingest_process(settings)
        seconds = ingested.report["seconds"]
        rows = Lake(settings).select(HOT.address, ["system_id", "kind", "id"])
        with duckdb.connect() as connection:
            connection.register("hot", rows)
            once = connection.execute("SELECT count(*) FROM (SELECT DISTINCT system_id, kind, id FROM hot)").fetchone()
        return {
            "uploads": len(sent),
            "systems": systems,
            "rows_expected": expected,
            "rows_found": rows.num_rows,
            "rows_distinct": once[0] if once else 0,
            "seconds": seconds,
            "uploads_per_second": round(len(sent) / seconds, 1),
            "cpu_seconds": ingested.cpu_seconds,
            "peak_rss_bytes": ingested.peak_rss_bytes,
            "became": ingested.report["uploads"],
            "where_the_time_goes": ingested.report["seconds_by_step"],
            "machine": runs.machine(),
        }
