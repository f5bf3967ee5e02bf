"""`lifecycle/warm`: event days past the hot window, as summaries and int8 vectors."""

from collections.abc import Iterator

import dagster as dg

from akosha_assets.defs.aging import POOL, age_partitions, recall_check
from akosha_assets.defs.metadata import OWNERS, table_metadata
from akosha_assets.defs.partitions import EVENT_DAYS
from akosha_assets.defs.schedules import BACKGROUND
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.tiers import Tier


@dg.asset(
    key=["lifecycle", "warm"],
    deps=[dg.AssetKey(["lifecycle", "hot"])],
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake"},
    partitions_def=EVENT_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[recall_check(Tier.WARM.value)],
    # Only days that moved are materialized.
    output_required=False,
    pool=POOL,
    metadata=table_metadata("lifecycle/warm"),
)
def warm(context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]) -> Iterator[dg.AssetCheckResult]:
    """Memories past the hot window: a summary of at most three sentences, int8 vectors, and every column that search
    filters on.
    """
    yield from age_partitions(context, lake, Tier.WARM.value)


age_to_warm = dg.define_asset_job(
    "age_to_warm",
    selection=[warm],
    description="Moves event days that are due from the hot to the warm tier.",
    executor_def=dg.in_process_executor,
    tags=BACKGROUND,
)
