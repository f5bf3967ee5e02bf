"""`graph/near_duplicates`: memories of the hot tier with nearly the same text, grouped every night."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata
from akosha_assets.defs.schedules import BACKGROUND, exclusive, one_at_a_time
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.duty_lease import Duty


@dg.asset(
    key=["graph", "near_duplicates"],
    deps=[dg.AssetKey(["lifecycle", "hot"])],
    group_name="graph",
    owners=OWNERS,
    kinds={"deltalake"},
    output_required=False,
    metadata=table_metadata("graph/near_duplicates"),
)
def near_duplicates(
    context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
) -> Iterator[dg.MaterializeResult[None]]:
    """Groups of memories across all systems whose MinHash fingerprints are nearly the same. No memory is removed."""
    from akosha_assets.lake.graph.near_duplicates import group
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded

    with exclusive(lake, Duty.NEAR_DUPLICATES, context.log) as is_ours:
        if not is_ours:
            return
        with guarded(lake):
            grouped = group(lake, now=datetime.now(UTC), run_id=context.run_id)
    yield dg.MaterializeResult(
        metadata={
            "dagster/row_count": grouped.grouped,
            "memories compared": grouped.memories,
            "groups": grouped.groups,
            "systems in the largest group": grouped.widest_systems,
            "memories not compared": grouped.crowded,
            "table version": grouped.version,
        }
    )


group_near_duplicates = dg.define_asset_job(
    "group_near_duplicates",
    selection=[near_duplicates],
    description="Groups memories with nearly the same text across systems.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)

group_near_duplicates_nightly = one_at_a_time(
    group_near_duplicates,
    name="group_near_duplicates_nightly",
    cron="40 3 * * *",
    description="Groups memories with nearly the same text across systems, every night.",
)
