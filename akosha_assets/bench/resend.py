"""Measures the cost of a snapshot that is sent again, unchanged or with 1 % changed rows, relative to its first time.

A round is one ingest run. It first ingests small uploads, which start its workers, and then the measured snapshots: a
run starts its workers once, however many uploads wait. A round ends when the rows are stored and, if an embedding model
can be loaded, have vectors. Embedding is most of the cost of a new row.
"""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from isal import igzip

from akosha_assets.bench import runs
from akosha_assets.fleet.databases import Database, Renderer
from akosha_assets.fleet.rows import Row
from akosha_assets.fleet.systems import FleetPlan, history, system_id
from akosha_assets.fleet.upload import UploadedSnapshot, compressed, put_files, upload_id
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.arrivals import BatchResult
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings

ROUNDS = ("first", "unchanged", "one_percent")


def run(*, systems: int, memories: int, work: Path | None) -> dict[str, Any]:
    """Upload `systems` full snapshots of `memories` memories each three times. `rows_alone` excludes vectors."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="akosha-bench-", dir=work) as folder:
        settings = LakeSettings(
            home=Path(folder), batch_uploads=systems + 1, batch_seconds=3600, embedding_seconds=36_000
        )
        store, lake, ledger = ObjectStore(settings.inbox()), Lake(settings), Ledger.open(settings)
        tables = history(FleetPlan(systems=1, memories=memories, now=now), 0)[-1].tables
        small = history(FleetPlan(systems=1, memories=5, now=now, seed=1), 0)[-1].tables
        with Renderer() as renderer:
            warming, first, changed = (compressed(renderer, each) for each in (small, tables, _one_percent(tables)))
        # Compressed again for each upload, as clients do; only the time in the gzip header differs.
        again = {name: igzip.compress(igzip.decompress(data), compresslevel=1) for name, data in first.items()}
        rounds = []
        for number, data in enumerate((first, again, changed)):
            at = now - timedelta(minutes=10 - number)
            for index in range(settings.batch_uploads):
                _put(store, f"warming-{number}-{index}", at, warming)
            listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
            for index in range(systems):
                _put(store, system_id(index), at, data)
            listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
            # The small uploads fill the first batch.
            rounds.append(arrivals.ingest(lake, ledger, run_id=f"bench-{number}")[1:])
        embedded = lake.select(HOT.address, ["space"]).filter(pc.is_valid(pc.field("space"))).num_rows
        ledger.close()
    steps = [_steps(results) for results in rounds]
    totals = [sum(each.values()) for each in steps]
    rows = [seconds - each["embed"] for seconds, each in zip(totals, steps, strict=True)]
    first_seconds, *later = totals
    return {
        "systems": systems,
        "memories": memories,
        "vectors_made": embedded,
        "first_seconds": round(first_seconds, 3),
        "unchanged_ratio": round(later[0] / first_seconds, 4),
        "one_percent_ratio": round(later[1] / first_seconds, 4),
        "rows_alone": {
            "first_seconds": round(rows[0], 3),
            "unchanged_ratio": round(rows[1] / rows[0], 4),
            "one_percent_ratio": round(rows[2] / rows[0], 4),
        },
        "rows_stored": {name: _stored(results) for name, results in zip(ROUNDS, rounds, strict=True)},
        "where_the_time_goes": {
            name: {step: round(seconds, 3) for step, seconds in each.items()}
            for name, each in zip(ROUNDS, steps, strict=True)
        },
        "machine": runs.machine(),
    }


def _put(store: ObjectStore, system: str, at: datetime, files: Mapping[Database, bytes]) -> None:
    put_files(store, UploadedSnapshot(system, upload_id(system, at), "", at, {}), files)


def _steps(results: Sequence[BatchResult]) -> dict[str, float]:
    total: dict[str, float] = {}
    for result in results:
        for step, seconds in result.seconds.items():
            total[step] = total.get(step, 0.0) + seconds
    return total


def _stored(results: Sequence[BatchResult]) -> int:
    return sum(sum(result.rows.values()) for result in results)


def _one_percent(tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The snapshot with another importance of every hundredth memory."""
    changed = {name: list(rows) for name, rows in tables.items()}
    for name in ("conversations_v2", "reflections_v2"):
        rows = changed.get(name, [])
        for place in range(0, len(rows), 100):
            rows[place] = {**rows[place], "importance_score": 0.99}
    return changed
