"""`graph/code_graphs` as an asset: written by the ingest run together with the memories, kept for the graph stage."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata

code_graphs = dg.AssetSpec(
    ["graph", "code_graphs"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description="Nodes and edges of an indexed commit, one row per repository and commit. Written by ingestion.",
    group_name="graph",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("graph/code_graphs"),
)
