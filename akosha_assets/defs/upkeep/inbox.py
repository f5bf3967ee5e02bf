"""`upkeep/inbox`: every night, uploads that were ingested long enough ago are removed from the inbox."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.defs.schedules import BACKGROUND, exclusive, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty


@dg.asset(
    key=["upkeep", "inbox"],
    deps=[dg.AssetKey(["ingestion", "ledger"])],
    group_name="upkeep",
    owners=OWNERS,
    kinds={"s3"},
    output_required=False,
)
def inbox(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.MaterializeResult[None]]:
    """Removes uploads from the inbox that were ingested more than AKOSHA_INBOX_KEEP_DAYS ago, and no others."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.upkeep.inbox import expire

    with exclusive(lake, Duty.INBOX, context.log) as is_ours, closing(Ledger.open(lake.settings)) as ledger:
        if not is_ours:
            return
        expired = expire(lake.settings, ledger, now=datetime.now(UTC), dry_run=False)
    metadata = {
        "uploads removed": len(expired.uploads),
        "bytes removed": expired.bytes,
        "uploads not removed": len(expired.failed),
    }
    if expired.failed:
        example, reason = next(iter(expired.failed.items()))
        raise dg.Failure(
            f"{len(expired.failed)} uploads could not be removed from the inbox, one of them {example}: {reason}",
            metadata=metadata,
        )
    yield dg.MaterializeResult(metadata=metadata)


expire_inbox = dg.define_asset_job(
    "expire_inbox",
    selection=[inbox],
    description="Removes ingested uploads from the inbox after AKOSHA_INBOX_KEEP_DAYS.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)

expire_inbox_nightly = one_at_a_time(
    expire_inbox,
    name="expire_inbox_nightly",
    cron="20 3 * * *",
    description="Removes ingested uploads from the inbox after AKOSHA_INBOX_KEEP_DAYS, every night.",
)
