"""`ingestion/absences` as an asset: what a later snapshot no longer holds, written by the ingest run."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS, table_metadata

absences = dg.AssetSpec(
    ["ingestion", "absences"],
    deps=[dg.AssetKey(["ingestion", "arrivals"])],
    description=(
        "Rows that a later snapshot of their system no longer holds. Absence is noted, never a deletion. "
        "Written by ingestion."
    ),
    group_name="ingestion",
    owners=OWNERS,
    kinds={"deltalake"},
    metadata=table_metadata("ingestion/absences"),
)
