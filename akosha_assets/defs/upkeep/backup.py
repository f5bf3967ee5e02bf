"""`upkeep/backup`: every night, a consistent copy of the tables and the ledger in `AKOSHA_BACKUP_URL`."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, exclusive, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty


@dg.asset(
    key=["upkeep", "backup"],
    deps=[dg.AssetKey(["lifecycle", tier]) for tier in ("hot", "warm", "cold")]
    + [dg.AssetKey(["ingestion", "ledger"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake", "s3"},
    output_required=False,
    # A backup prunes files that another one may just have copied.
    pool="backup",
)
def backup(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.MaterializeResult[None]]:
    """A consistent set of table versions and the ledger; files that the backup already has are not copied again."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.upkeep.backup import backup as back_up

    with exclusive(lake, Duty.BACKUP, context.log) as is_ours, closing(Ledger.open(lake.settings)) as ledger:
        if is_ours:
            yield dg.MaterializeResult(metadata=asdict(back_up(lake, ledger, now=datetime.now(UTC))))


backup_job = dg.define_asset_job(
    "back_up",
    selection=[backup],
    description="Copies the tables and the ledger to AKOSHA_BACKUP_URL.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)


def request_back_up(_context: dg.ScheduleEvaluationContext, lake: Lake) -> dg.RunRequest | dg.SkipReason:
    """A backup, if AKOSHA_BACKUP_URL is set."""
    if lake.settings.backup_url:
        return dg.RunRequest()
    return dg.SkipReason("AKOSHA_BACKUP_URL is not set, so no backup is made")


back_up_nightly = one_at_a_time(
    backup_job,
    name="back_up_nightly",
    cron="23 1 * * *",
    description="Copies the tables and the ledger to AKOSHA_BACKUP_URL every night, if it is set.",
    request=request_back_up,
)
