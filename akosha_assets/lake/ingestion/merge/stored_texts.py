"""Hashes of the texts of stored memories, read from the tiers.

Needed only where the known rows have no hash: a release without text hashes stored them, or they were lost.
"""

import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.columns import UTC
from akosha_assets.lake.ingestion.source.memory_texts import hash_texts
from akosha_assets.lake.lifecycle_tables import COLD, WARM
from akosha_assets.lake.quoting import literals
from akosha_assets.lake.schemas import HOT

TEXT_HASHES = pa.schema(
    [
        *[pa.field(name, pa.string()) for name in ("system_id", "kind", "id")],
        ("text_hash", pa.int64()),
        ("snapshot_at", UTC),
    ]
)
_KEYS = ["system_id", "kind", "id", "snapshot_at"]
_TEXTS = {
    HOT: ["text"],
    WARM: ["text", "summary", "text_bytes"],
    COLD: ["summary", "text_bytes"],
}


def text_hashes(lake: Lake, rows: pa.Table) -> pa.Table:
    """TEXT_HASHES of the memories of the systems and event days in `rows` (system_id, event_day), as far as a tier has
    the whole text: in the warm and the cold tier where the summary is all of it.
    """
    systems, event_days = (pc.unique(rows[name]).to_pylist() for name in ("system_id", "event_day"))
    days_in_sql = literals([day.isoformat() for day in event_days if day is not None])
    if not days_in_sql:
        return TEXT_HASHES.empty_table()
    where = f"system_id IN ({literals(systems)}) AND event_day IN ({days_in_sql})"
    parts = [TEXT_HASHES.empty_table()]
    for spec, columns in _TEXTS.items():
        if (table := lake.open(spec.address)) is None:
            continue
        for batch in days.stream(table, spec, [*_KEYS, *columns], where):
            texts = _whole_texts(batch)
            keys = pa.table(batch.select(_KEYS)).filter(texts.is_valid())
            hashes = pa.array(hash_texts(texts.drop_null()))
            parts.append(keys.add_column(3, "text_hash", hashes).cast(TEXT_HASHES))
    return pa.concat_tables(parts)


def _whole_texts(batch: pa.RecordBatch) -> pa.Array:
    """The whole text of each row, (rows,) string; null where the tier has a summary of it only."""
    if "summary" not in batch.schema.names:
        return batch["text"]
    is_whole = pc.equal(pc.binary_length(batch["summary"]), batch["text_bytes"])
    summaries = pc.if_else(is_whole, batch["summary"], pa.scalar(None, pa.string()))
    return pc.coalesce(batch["text"], summaries) if "text" in batch.schema.names else summaries
