"""`graph/provenance` as an asset: written by the ingest run together with the memories, kept for the graph stage."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata

provenance = dg.AssetSpec(
    ["graph", "provenance"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description="Where a memory came from by its source's own account. Written by ingestion.",
    group_name="graph",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("graph/provenance"),
)
