"""`lifecycle/retention`: every night, rows past the cold window are counted, and deleted if a setting says so."""

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
    key=["lifecycle", "retention"],
    deps=[dg.AssetKey(["lifecycle", "cold"])],
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
    output_required=False,
    pool=POOL,
)
def retention(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.MaterializeResult[None]]:
    """Counts rows older than AKOSHA_COLD_YEARS that no hold protects, and deletes them if AKOSHA_RETENTION_DELETES is
    set.
    """
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded
    from akosha_assets.lake.lifecycle.policy import TierPolicy
    from akosha_assets.lake.lifecycle.retention import expire

    with exclusive(lake, Duty.RETENTION, context.log) as is_ours:
        if not is_ours:
            return
        with guarded(lake):
            expired = expire(
                lake,
                TierPolicy.of(lake.settings),
                today=datetime.now(UTC).date(),
                run=context.run.run_id,
                dry_run=not lake.settings.retention_deletes,
            )
    rows = sum(expired.rows.values())
    outcome = "would be deleted" if expired.is_dry_run else "were deleted"
    context.log.info("%d rows from before %s %s", rows, expired.before_day, outcome)
    holds = [{name: str(value) for name, value in asdict(hold).items()} for hold in expired.holds]
    yield dg.MaterializeResult(
        metadata={
            "rows_past_retention": rows,
            "is_dry_run": expired.is_dry_run,
            "before_day": str(expired.before_day),
            "rows_held": expired.rows_held,
            "rows_by_tier": dg.MetadataValue.json(expired.rows),
            "holds": dg.MetadataValue.json(holds),
        }
    )


retention_job = dg.define_asset_job(
    "apply_retention",
    selection=[retention],
    description="Counts rows past the cold window, and deletes them if AKOSHA_RETENTION_DELETES is set.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)
apply_retention_nightly = one_at_a_time(
    retention_job,
    name="apply_retention_nightly",
    cron="53 3 * * *",
    description="Counts rows past the cold window, and deletes them if AKOSHA_RETENTION_DELETES is set, every night.",
)
