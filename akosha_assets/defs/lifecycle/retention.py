"""`lifecycle/retention`: what has outlived the cold window, told every night; deleted only where a setting asks for it."""

from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.aging import POOL
from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.lake.catalog import Lake


@dg.asset(
    key=["lifecycle", "retention"],
    deps=[dg.AssetKey(["lifecycle", "cold"])],
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
    pool=POOL,
)
def retention(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
    """Rows past AKOSHA_COLD_YEARS that no hold keeps: counted, and with AKOSHA_RETENTION_DELETES gone."""
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.lifecycle.retention import expire

    policy = TierPolicy.of(lake.settings)
    with guarded(lake):
        found = expire(
            lake,
            policy,
            today=datetime.now(UTC).date(),
            run=context.run.run_id,
            dry_run=not lake.settings.retention_deletes,
        )
    rows = sum(found.rows.values())
    context.log.info(
        "%d rows from before %s %s", rows, found.before_day, "would be deleted" if found.is_dry_run else "were deleted"
    )
    return dg.MaterializeResult(
        metadata={
            "rows_past_retention": rows,
            "is_dry_run": found.is_dry_run,
            "before_day": str(found.before_day),
            "rows_held": found.rows_held,
            "rows_by_tier": dg.MetadataValue.json(found.rows),
            "holds": dg.MetadataValue.json(
                [{name: str(value) for name, value in asdict(hold).items()} for hold in found.holds]
            ),
        }
    )


retention_job = dg.define_asset_job(
    "apply_retention", selection=[retention], executor_def=dg.in_process_executor, tags=BACKGROUND
)
apply_retention_nightly = one_at_a_time(
    retention_job,
    name="apply_retention_nightly",
    cron="53 3 * * *",
    description="Counts, and deletes where AKOSHA_RETENTION_DELETES is set, rows that outlived the cold window.",
)
