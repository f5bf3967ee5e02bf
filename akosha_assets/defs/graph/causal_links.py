"""`graph/causal_links` as an asset: written by the ingest run together with the memories, kept for the graph stage."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata

causal_links = dg.AssetSpec(
    ["graph", "causal_links"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description="Which memory led to which, as the source observed or inferred. Written by ingestion.",
    group_name="graph",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("graph/causal_links"),
)
