"""`lifecycle/hot`: the newest memories, one partition per event day. Ingestion writes it; here it is only described."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata
from akosha_assets.defs.partitions import EVENT_DAYS

hot = dg.AssetSpec(
    ["lifecycle", "hot"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description="The newest memories, whole text and vector, one partition per day they tell of.",
    group_name="lifecycle",
    owners=OWNERS,
    kinds={"deltalake", "duckdb"},
    partitions_def=EVENT_DAYS,
    metadata=table_metadata("lifecycle/hot"),
)
