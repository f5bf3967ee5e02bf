"""The tables that the ingest run writes together with `lifecycle/hot`, as assets without a body of their own."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata
from akosha_assets.lake.schemas import ABSENCES, ALIASES, GRAPH, RESCUED

WRITTEN_TABLES = [
    dg.AssetSpec(
        spec.address.split("/"),
        deps=[dg.AssetKey(["ingestion", "arrivals"])],
        description=f"{spec.description} Written by ingestion.",
        group_name=spec.address.split("/")[0],
        owners=OWNERS,
        kinds={"deltalake"},
        metadata=table_metadata(spec.address),
    )
    for spec in (*GRAPH, RESCUED, ABSENCES, ALIASES)
]
