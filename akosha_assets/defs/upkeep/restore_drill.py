"""`upkeep/restore_drill`: every week, the newest backup is restored into a temporary place and compared."""

from collections.abc import Iterator
from dataclasses import asdict

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, exclusive, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty


@dg.asset(
    key=["upkeep", "restore_drill"],
    deps=[dg.AssetKey(["upkeep", "backup"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake"},
    output_required=False,
    pool="backup",
)
def restore_drill(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> Iterator[dg.MaterializeResult[None]]:
    """Restores the newest backup and compares checksums, versions and row counts of every table and of the ledger."""
    from akosha_assets.lake.upkeep.restore_drill import drill

    with exclusive(lake, Duty.BACKUP, context.log) as is_ours:
        if not is_ours:
            return
        restored = asdict(drill(lake.settings))
    metadata = {
        name: dg.MetadataValue.json(value) if isinstance(value, dict) else value for name, value in restored.items()
    }
    yield dg.MaterializeResult(metadata=metadata)


restore_drill_job = dg.define_asset_job(
    "drill_restore",
    selection=[restore_drill],
    description="Restores the newest backup into a temporary place and compares it.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)


def request_drill_restore(_context: dg.ScheduleEvaluationContext, lake: Lake) -> dg.RunRequest | dg.SkipReason:
    """A restore drill, if AKOSHA_BACKUP_URL is set."""
    if lake.settings.backup_url:
        return dg.RunRequest()
    return dg.SkipReason("AKOSHA_BACKUP_URL is not set, so there is no backup to restore")


drill_restore_weekly = one_at_a_time(
    restore_drill_job,
    name="drill_restore_weekly",
    cron="7 4 * * 0",
    description="Restores the newest backup into a temporary place and compares it, every week, if there are backups.",
    request=request_drill_restore,
)
