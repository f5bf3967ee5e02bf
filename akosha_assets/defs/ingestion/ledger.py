"""`ingestion/ledger`: one row per upload. Materializing it lists the whole inbox, the sensor a part per tick."""

from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, counted
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.backlog import Backlog
from akosha_assets.lake.ingestion.ledger import schema


@dg.asset(
    key=["ingestion", "ledger"],
    deps=[dg.AssetKey(["ingestion", "uploads"])],
    group_name="ingestion",
    owners=OWNERS,
    kinds={"sqlite", "postgres"},
    metadata={
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn(column.name, str(column.type).lower()) for column in schema.uploads.columns]
        )
    },
)
def ledger(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[None]:  # noqa: ARG001
    """One row per upload: state, lease, attempts, counts, error and times. A SQL database beside the tables."""
    from akosha_assets.lake.ingestion import backlog
    from akosha_assets.lake.ingestion.inbox import listing
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger

    opened = Ledger.open(lake.settings)
    try:
        swept = listing.sweep(lake.settings, opened, now=datetime.now(UTC), whole=True)
        measured = backlog.measure(opened, now=datetime.now(UTC))
    finally:
        opened.close()
    return dg.MaterializeResult(
        metadata={**ledger_metadata(measured), "objects listed": swept.listed, "uploads found": swept.added}
    )


def ledger_metadata(measured: Backlog) -> dict[str, dg.MetadataValue | int]:
    """How many uploads are in each state."""
    states = {
        "arriving": measured.arriving,
        "of them incomplete": measured.incomplete,
        "waiting": measured.waiting,
        "of them claimed": measured.claimed,
        "ingested": measured.ingested,
        "quarantined": measured.quarantined,
    }
    rows = measured.arriving + measured.waiting + measured.ingested + measured.quarantined
    return {"dagster/row_count": rows, "states": counted(states), "quarantined": measured.quarantined}
