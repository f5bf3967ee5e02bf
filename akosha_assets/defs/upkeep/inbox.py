"""`upkeep/inbox`: uploads that were taken in and kept long enough to be replayed leave the inbox, once a day."""

from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.lake.settings import LakeSettings


@dg.asset(
    key=["upkeep", "inbox"],
    deps=[dg.AssetKey(["ingestion", "ledger"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"s3"},
)
def inbox() -> dg.MaterializeResult[None]:
    """Removes uploads ingested more than AKOSHA_INBOX_KEEP_DAYS ago from the inbox; never one that was not taken in."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.upkeep.inbox import expire

    settings = LakeSettings()
    ledger = Ledger.open(settings)
    try:
        expired = expire(settings, ledger, now=datetime.now(UTC), dry_run=False)
    finally:
        ledger.close()
    counts = {"uploads removed": len(expired.uploads), "bytes removed": expired.bytes}
    if expired.failed:
        example, reason = next(iter(expired.failed.items()))
        raise dg.Failure(
            f"{len(expired.failed)} uploads could not be removed from the inbox, one of them {example}: {reason}",
            metadata={**counts, "uploads not removed": len(expired.failed)},
        )
    return dg.MaterializeResult(metadata={**counts, "uploads not removed": 0})


expire_inbox = dg.define_asset_job(
    "expire_inbox", selection=[inbox], executor_def=dg.in_process_executor, tags=BACKGROUND
)

expire_inbox_nightly = one_at_a_time(
    expire_inbox,
    name="expire_inbox_nightly",
    cron="20 3 * * *",
    description="Removes ingested uploads from the inbox after AKOSHA_INBOX_KEEP_DAYS.",
)
