"""`graph/near_duplicates`: memories of the hot tier that say nearly the same, grouped every night."""

from datetime import UTC, datetime

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata
from akosha_assets.defs.schedules import BACKGROUND, one_at_a_time
from akosha_assets.lake.catalog import Lake


@dg.asset(
    key=["graph", "near_duplicates"],
    deps=[dg.AssetKey(["lifecycle", "hot"])],
    group_name="graph",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("graph/near_duplicates"),
)
def near_duplicates(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult[None]:
    """Groups of memories across the fleet that are nearly the same by their MinHash fingerprints. A signal: none is
    dropped.
    """
    from akosha_assets.lake.graph.near_duplicates import group
    from akosha_assets.lake.ingestion.ledger.known_tables import guarded

    with guarded(lake):
        grouped = group(lake, now=datetime.now(UTC), run_id=context.run_id)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": grouped.grouped,
            "memories looked at": grouped.memories,
            "groups": grouped.groups,
            "systems in the widest group": grouped.widest_systems,
            "memories that nothing was compared with": grouped.crowded,
            "table version": grouped.version,
        }
    )


group_near_duplicates = dg.define_asset_job(
    "group_near_duplicates", selection=[near_duplicates], executor_def=dg.in_process_executor, tags=BACKGROUND
)

group_near_duplicates_nightly = one_at_a_time(
    group_near_duplicates,
    name="group_near_duplicates_nightly",
    cron="40 3 * * *",
    description="Groups memories that are nearly the same across systems.",
)
