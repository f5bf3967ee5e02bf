"""`ingestion/backlog`: materialised only while caught up, so its age is the time since nothing waited."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.backlog import Backlog

KEY = dg.AssetKey(["ingestion", "backlog"])


@dg.asset(
    key=KEY,
    deps=[dg.AssetKey(["ingestion", "ledger"])],
    group_name="ingestion",
    owners=OWNERS,
    kinds={"sqlite", "postgres"},
    output_required=False,
)
def backlog(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.MaterializeResult]:
    """How many uploads wait, their bytes and the age of the oldest. Recorded only while none waits."""
    from akosha_assets.lake.ingestion.backlog import measure
    from akosha_assets.lake.ingestion.ledger import Ledger

    opened = Ledger.open(lake.settings)
    try:
        measured = measure(opened, now=datetime.now(UTC))
    finally:
        opened.close()
    if measured.waiting == 0:
        yield dg.MaterializeResult(metadata=backlog_metadata(measured))
    else:
        context.log.info("%d uploads wait, so nothing is recorded", measured.waiting)


def backlog_metadata(measured: Backlog) -> dict[str, int | float]:
    """The backlog in numbers."""
    return {
        "waiting": measured.waiting,
        "waiting bytes": measured.waiting_bytes,
        "oldest waiting seconds": round(measured.oldest_waiting_seconds, 1),
        "arrivals per second": round(measured.arrivals_per_second, 2),
        "drained per second": round(measured.drained_per_second, 2),
    }
