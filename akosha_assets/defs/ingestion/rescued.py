"""`ingestion/rescued` as an asset: what no table has a place for, written by the ingest run."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata

rescued = dg.AssetSpec(
    ["ingestion", "rescued"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description="Source rows that no table has a place for, whole, as JSON. Written by ingestion.",
    group_name="ingestion",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("ingestion/rescued"),
)
