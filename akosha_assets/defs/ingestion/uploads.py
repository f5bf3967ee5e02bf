"""`ingestion/uploads`: what lies in the inbox. Session-Buddy writes it, so Dagster only shows it."""

import dagster as dg

from akosha_assets.defs.metadata import OWNERS

uploads = dg.AssetSpec(
    ["ingestion", "uploads"],
    description="Snapshots that the fleet's Session-Buddy instances put into the inbox bucket: two databases and, last, a manifest.",
    group_name="ingestion",
    owners=OWNERS,
    kinds={"s3", "duckdb"},
)
