"""`upkeep/backup`: tables and ledger of one moment, copied to `AKOSHA_BACKUP_URL` every night."""

from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings


@dg.asset(
    key=["upkeep", "backup"],
    deps=[dg.AssetKey(["lifecycle", tier]) for tier in ("hot", "warm", "cold")]
    + [dg.AssetKey(["ingestion", "ledger"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake", "s3"},
    # Two at once would prune each other's half-made files.
    pool="backup",
)
def backup(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
    """A consistent set of table versions and the ledger; unchanged files are not copied again."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.upkeep.backup import backup as make

    ledger = Ledger.open(lake.settings)
    try:
        made = make(lake, ledger, now=datetime.now(UTC))
    finally:
        ledger.close()
    return dg.MaterializeResult(metadata=asdict(made))


backup_job = dg.define_asset_job("back_up", selection=[backup], executor_def=dg.in_process_executor, tags=BACKGROUND)


def request_back_up(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:  # noqa: ARG001
    """A run where a place for backups is named."""
    return (
        dg.RunRequest()
        if LakeSettings().backup_url
        else dg.SkipReason("AKOSHA_BACKUP_URL is not set, so no backups are made")
    )


back_up_nightly = one_at_a_time(
    backup_job,
    name="back_up_nightly",
    cron="23 1 * * *",
    description="Backs up the tables and the ledger where AKOSHA_BACKUP_URL names a place.",
    request=request_back_up,
)
