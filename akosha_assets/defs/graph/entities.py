"""`graph/entities` as an asset: written by the ingest run together with the memories, kept for the graph stage."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata

entities = dg.AssetSpec(
    ["graph", "entities"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description=(
        "People, technologies, files and concepts that memories mention, one row per entity of a system. "
        "Written by ingestion."
    ),
    group_name="graph",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("graph/entities"),
)
