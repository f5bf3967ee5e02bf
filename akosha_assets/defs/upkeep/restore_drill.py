"""`upkeep/restore_drill`: the newest backup is restored into a scratch place every week and compared."""

from dataclasses import asdict

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings


@dg.asset(
    key=["upkeep", "restore_drill"],
    deps=[dg.AssetKey(["upkeep", "backup"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake"},
    pool="backup",
)
def restore_drill(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
    """Proof that the newest backup can be brought back: checksums, versions and counts of every table and of the
    ledger.
    """
    from akosha_assets.lake.upkeep.restore_drill import drill

    restored = drill(lake.settings)
    return dg.MaterializeResult(
        metadata={
            name: dg.MetadataValue.json(value) if isinstance(value, dict) else value
            for name, value in asdict(restored).items()
        }
    )


restore_drill_job = dg.define_asset_job(
    "drill_restore", selection=[restore_drill], executor_def=dg.in_process_executor, tags=BACKGROUND
)


def request_drill_restore(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:  # noqa: ARG001
    """A run where a place for backups is named."""
    return (
        dg.RunRequest()
        if LakeSettings().backup_url
        else dg.SkipReason("AKOSHA_BACKUP_URL is not set, so there is nothing to restore")
    )


drill_restore_weekly = one_at_a_time(
    restore_drill_job,
    name="drill_restore_weekly",
    cron="7 4 * * 0",
    description="Restores the newest backup into a scratch place and compares it, where AKOSHA_BACKUP_URL names one.",
    request=request_drill_restore,
)
