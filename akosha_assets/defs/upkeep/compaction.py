"""`upkeep/compaction`: every hour, small files of each table are merged into few, ordered ones."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.aging import POOL
from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, exclusive, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty


@dg.asset(
    key=["upkeep", "compaction"],
    deps=[dg.AssetKey(["lifecycle", tier]) for tier in ("hot", "warm", "cold")],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake"},
    output_required=False,
    pool=POOL,
)
def compaction(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.MaterializeResult[None]]:
    """Merges small files, sorts days that no longer change by system and time, writes a checkpoint and removes old log
    entries of every table.
    """
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.schemas import TABLES
    from akosha_assets.lake.upkeep.compaction import compact

    with exclusive(lake, Duty.COMPACTION, context.log) as is_ours:
        if not is_ours:
            return
        today = datetime.now(UTC).date()
        with guarded(lake):
            results = [result for address in TABLES if (result := compact(lake, address, today=today)) is not None]
    metadata: dict[str, dg.MetadataValue] = {
        "parts_left_for_next_time": dg.MetadataValue.int(sum(result.contended for result in results))
    }
    for result in results:
        values = {name: value for name, value in asdict(result).items() if name != "address"}
        metadata[result.address] = dg.MetadataValue.json(values)
        context.log.info(
            "%s: %d partitions, %d files before, %d after",
            result.address,
            result.partitions,
            result.files_before,
            result.files_after,
        )
    yield dg.MaterializeResult(metadata=metadata)


compaction_job = dg.define_asset_job(
    "compact_tables",
    selection=[compaction],
    description="Merges small files of every table into few, ordered ones.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)
compaction_hourly = one_at_a_time(
    compaction_job,
    name="compact_tables_hourly",
    cron="17 * * * *",
    description="Merges small files of every table into few, ordered ones, every hour.",
)
