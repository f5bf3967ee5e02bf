"""`upkeep/compaction`: every table in few, ordered files, hourly."""

from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.aging import POOL
from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.lake.catalog import Lake


@dg.asset(
    key=["upkeep", "compaction"],
    deps=[dg.AssetKey(["lifecycle", tier]) for tier in ("hot", "warm", "cold")],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake"},
    pool=POOL,
)
def compaction(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
    """Small files packed, days at rest ordered by system and time, a checkpoint, the old end of the log removed."""
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.upkeep.compaction import compact

    metadata: dict[str, dg.MetadataValue] = {}
    contended = 0
    with guarded(lake):
        compacted = [
            done for address in TABLES if (done := compact(lake, address, today=datetime.now(UTC).date())) is not None
        ]
    for done in compacted:
        metadata[done.address] = dg.MetadataValue.json(
            {name: value for name, value in asdict(done).items() if name != "address"}
        )
        contended += done.contended
        context.log.info(
            "%s: %d partitions, %d files, %d before", done.address, done.partitions, done.files_after, done.files_before
        )
    return dg.MaterializeResult(metadata=metadata | {"parts_left_for_next_time": dg.MetadataValue.int(contended)})


compaction_job = dg.define_asset_job(
    "compact_tables", selection=[compaction], executor_def=dg.in_process_executor, tags=BACKGROUND
)
compaction_hourly = one_at_a_time(
    compaction_job,
    name="compact_tables_hourly",
    cron="17 * * * *",
    description="Packs every table into few, ordered files, hourly.",
)
