"""`graph/relations` as an asset: written by the ingest run together with the memories, kept for the graph stage."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata

relations = dg.AssetSpec(
    ["graph", "relations"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description="Edges between two entities of one system. Written by ingestion.",
    group_name="graph",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("graph/relations"),
)
