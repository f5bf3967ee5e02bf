"""Builds warm and cold tables of any size for benchmarks from vectors, with rows in the form of their tier.

Rows are written straight into the tier, because aging the rows of a quarter would take hours. Fingerprints are null:
serving does not read them.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle import quantization
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.lifecycle.warm import Move, constants
from akosha_assets.lake.lifecycle_tables import COLD, WARM
from akosha_assets.lake.table_spec import TableSpec
from akosha_assets.lake.tables import Fence

# Days before today of the newest day in the tier.
NEWEST = {"warm": 8, "cold": 91}
SENTENCES = {"warm": 3, "cold": 1}
SPECS: dict[str, TableSpec] = {"warm": WARM, "cold": COLD}


class AgedLake:
    """Fills the table of one tier, day by day. Summaries are sentences of `texts`: three in warm, one in cold."""

    def __init__(self, lake: Lake, tier: str, texts: list[str], space: str, *, systems: int):
        self.lake, self.tier, self.space, self.systems = lake, tier, space, systems
        self._sentences = pa.array([text.split(". ")[0].rstrip(".") + "." for text in texts])
        self._names = pa.array([f"system-{number:05d}" for number in range(systems)])
        self._projects = pa.array([f"project-{number}" for number in range(24)])
        self._move = Move(TierPolicy.of(lake.settings), datetime.now(UTC), "bench")
        self._commits = 0

    def append(self, numbers: np.ndarray, vectors: np.ndarray, day: int) -> np.ndarray:
        """Commits rows with `numbers` as ids to day `day` of the tier; returns their vectors as stored.

        The cold tier stores no vectors, so its float vectors are returned.
        """
        spec = SPECS[self.tier]
        self._commits += 1
        occurred = (datetime.now(UTC) - timedelta(days=NEWEST[self.tier] + day)).replace(microsecond=0)
        columns, stored_vectors = self._vectors(vectors)
        columns |= self._columns(numbers, occurred)
        rows = pa.table(
            [columns.get(f.name, pa.nulls(len(numbers), f.type)).cast(f.type) for f in spec.schema], schema=spec.schema
        )
        self.lake.append(spec.address, rows, Fence("bench", self._commits), {})
        return stored_vectors

    def _vectors(self, vectors: np.ndarray) -> tuple[dict[str, pa.Array], np.ndarray]:
        every = np.arange(len(vectors))
        if self.tier == "cold":
            sketches, scale = quantization.to_sketch(vectors)
            return {
                "sketch": quantization.scatter(len(vectors), [(every, sketches)]),
                "sketch_scale": pa.array(scale),
            }, vectors
        numbers, scale = quantization.to_int8(vectors)
        columns = {"vector": quantization.scatter(len(vectors), [(every, numbers)]), "vector_scale": pa.array(scale)}
        return columns, quantization.from_int8(numbers, scale)

    def _columns(self, numbers: np.ndarray, occurred: datetime) -> dict[str, pa.Array]:
        count, pool = len(numbers), len(self._sentences)
        ids = pa.array(numbers)
        chosen = (numbers, numbers * 7_919 + numbers // pool, numbers * 104_729 + numbers // 7)[: SENTENCES[self.tier]]
        summary = pc.binary_join_element_wise(*(self._sentences.take(pa.array(each % pool)) for each in chosen), " ")
        fixed = {
            "kind": "conversation", "event_day": occurred.date(), "occurred_at": occurred, "occurred_from": "column",
            "space": self.space, "source_table": "conversations_v2", "upload_id": "bench", "object_key": "bench",
            "object_etag": "bench", "snapshot_at": occurred, "arrived_at": occurred, "batch_id": self._commits,
                "parser_version": 1,
        }  # fmt: skip
        schema = SPECS[self.tier].schema
        return {name: pa.repeat(pa.scalar(value, schema.field(name).type), count) for name, value in fixed.items()} | {
            "system_id": self._names.take(pa.array(numbers % self.systems)),
            "id": pc.utf8_lpad(ids.cast(pa.string()), 26, "0"),
            "summary": summary,
            "project": self._projects.take(pa.array(numbers % len(self._projects))),
            "content_hash": ids.cast(pa.int64()),
            "text_bytes": pc.cast(pc.binary_length(summary), pa.int32()),
            **constants(self._move, count),
        }
