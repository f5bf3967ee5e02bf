"""What a snapshot costs that was sent before: unchanged, and with one row in a hundred changed, against its first time.

All three rounds go through one ingest process, a batch each, after a batch that warms the workers up, so the ratios
compare the same work without the start of a process.
"""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from isal import igzip

from akosha_assets.bench import runs
from akosha_assets.fleet.databases import Renderer
from akosha_assets.fleet.rows import Row
from akosha_assets.fleet.systems import FleetPlan, history, system_id
from akosha_assets.fleet.upload import UploadedSnapshot, compressed, put_files, upload_id
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals, discovery
from akosha_assets.lake.ingestion.arrivals import BatchResult
from akosha_assets.lake.ingestion.ledger import Ledger
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings

ROUNDS = ("warm-up", "first", "unchanged", "one_percent")


def run(*, systems: int, memories: int, work: Path | None) -> dict[str, Any]:
    """`systems` full snapshots of `memories` memories each, sent three times."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="akosha-bench-", dir=work) as folder:
        settings = LakeSettings(home=Path(folder), batch_uploads=systems, batch_bytes=4 * 1024**3, batch_seconds=3600, embedding_seconds=0)
        store, lake, ledger = ObjectStore(settings.inbox()), Lake(settings), Ledger.open(settings)
        tables = history(FleetPlan(systems=1, memories=memories, now=now), 0)[-1].tables
        small = history(FleetPlan(systems=1, memories=5, now=now, seed=1), 0)[-1].tables
        with Renderer() as renderer:
            files = [compressed(renderer, each) for each in (small, tables, tables, _one_percent(tables))]
        # Compressed anew each time, as a client does; only the time in the gzip header differs.
        files[2] = {name: igzip.compress(igzip.decompress(data), compresslevel=1) for name, data in files[1].items()}
        for number in range(4):
            at = now - timedelta(minutes=10 - number)
            for index in range(systems):
                system = f"warm-{index}" if number == 0 else system_id(index)
                put_files(store, UploadedSnapshot(system, upload_id(system, at), "", at, {}), files[number])
            discovery.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
        results = arrivals.ingest(lake, ledger, run_id="bench")
        ledger.close()
    seconds = [sum(result.seconds.values()) for result in results]
    return {
        "systems": systems,
        "memories": memories,
        "first_seconds": round(seconds[1], 3),
        "unchanged_seconds": round(seconds[2], 3),
        "one_percent_seconds": round(seconds[3], 3),
        "unchanged_ratio": round(seconds[2] / seconds[1], 4),
        "one_percent_ratio": round(seconds[3] / seconds[1], 4),
        "rows": {name: _stored(result) for name, result in zip(ROUNDS, results, strict=True)},
        "where_the_time_goes": {name: result.seconds for name, result in zip(ROUNDS, results, strict=True)},
        "machine": runs.machine(),
    }


def _stored(result: BatchResult) -> int:
    return sum(result.rows.values())


def _one_percent(tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """The same snapshot with every hundredth memory changed in its importance and one in two hundred new."""
    changed = {name: list(rows) for name, rows in tables.items()}
    for name in ("conversations_v2", "reflections_v2"):
        rows = changed.get(name, [])
        for place in range(0, len(rows), 100):
            rows[place] = {**rows[place], "importance_score": 0.99}
    return changed
