"""`graph/near_duplicates`: groups of memories with nearly the same text. No memory is removed or hidden because of it:
members of a group may differ in a number or a negation.

Memories with equal fingerprints are compared once. Locality-sensitive hashing finds candidates among the distinct
ones; the share of equal MinHash values, which estimates the Jaccard similarity of their 3-grams, confirms them (Broder,
1997).
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from datasketch import MinHash, MinHashLSH

from akosha_assets.lake import commits
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.schemas import HOT, NEAR_DUPLICATES

VALUES = 128
# Texts above this estimate differ in little more than names and numbers.
SIMILARITY = 0.85
# The most leaders that one memory is compared with. Fingerprints come from uploads: more distinct ones in one bucket
# are crafted, and comparing all with all would take the square of their number.
CANDIDATES_MAX = 1000
# Values of Session-Buddy are only compared with each other; the library must not mix them with its own.
SCHEME = "legacy"


@dataclass(frozen=True)
class Grouped:
    """Counts of a run: all memories, memories in groups, groups, and systems in the group with most systems."""

    memories: int
    grouped: int
    groups: int
    widest_systems: int
    version: int
    # Distinct fingerprints that do not lead a group, because they had `CANDIDATES_MAX` candidates.
    crowded: int


def group(lake: Lake, *, now: datetime, run_id: str) -> Grouped:
    """Replaces the table by the groups of near-duplicates in the hot tier."""
    rows = lake.select(
        HOT.address, ["system_id", "kind", "id", "fingerprint", "occurred_at"], "fingerprint IS NOT NULL"
    )
    with connect() as connection:
        connection.register("memories", rows)
        distinct = connection.sql(
            """SELECT fingerprint, arg_min(system_id || '/' || kind || '/' || id, occurred_at) AS first
               FROM memories WHERE octet_length(fingerprint) = 1024 GROUP BY 1 ORDER BY min(occurred_at), 2"""
        ).to_arrow_table()
        values = np.frombuffer(b"".join(distinct["fingerprint"].to_pylist()), "<u8").reshape(-1, VALUES)
        leader, similarity, crowded = leaders(values)
        named = distinct["first"].take(pa.array(leader))
        connection.register(
            "leaders",
            pa.table(
                {"fingerprint": distinct["fingerprint"], "group_id": named, "similarity": similarity.astype(np.float32)}
            ),
        )
        found = connection.sql(
            """SELECT system_id, kind, id, group_id, similarity, count(*) OVER one_group AS group_memories
               FROM memories JOIN leaders USING (fingerprint)
               WINDOW one_group AS (PARTITION BY group_id) QUALIFY group_memories > 1 ORDER BY system_id, kind, id"""
        ).to_arrow_table()
        found = found.append_column(
            "grouped_at", pa.repeat(pa.scalar(now, NEAR_DUPLICATES.schema.field("grouped_at").type), found.num_rows)
        )
        found = found.select(NEAR_DUPLICATES.schema.names).cast(NEAR_DUPLICATES.schema)
        connection.register("found", found)
        counted = connection.execute(
            "SELECT count(*), coalesce(max(systems), 0) FROM (SELECT count(DISTINCT system_id) AS systems FROM found "
            "GROUP BY group_id)"
        ).fetchone()
    version = commits.overwrite(lake.create(NEAR_DUPLICATES.address), found, {"akosha_run": run_id})
    groups, widest = counted or (0, 0)
    return Grouped(rows.num_rows, found.num_rows, groups, widest, version, crowded)


def leaders(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The most similar leader of each fingerprint, (rows,) int64, and the similarity, (rows,) float64.

    `values`: (rows, 128) uint64, oldest first. A fingerprint without a similar leader leads its own group. Members are
    compared with leaders only, so a group cannot drift from text to text. The last value counts fingerprints that were
    not added as leaders because they had `CANDIDATES_MAX` candidates: this bounds every bucket of the index, so the
    time is linear in the rows.
    """
    crowded = 0
    leader, similarity = np.arange(len(values)), np.ones(len(values))
    index = MinHashLSH(threshold=SIMILARITY, num_perm=VALUES)
    permutations = MinHash(num_perm=VALUES, scheme=SCHEME).permutations
    for position, row in enumerate(values):
        sketch = MinHash(num_perm=VALUES, hashvalues=row, permutations=permutations, scheme=SCHEME)
        candidates = np.array(sorted(index.query(sketch)), dtype=np.int64)
        shares = (values[candidates] == row).mean(axis=1) if len(candidates) else np.empty(0)
        if len(shares) and shares.max() >= SIMILARITY:
            leader[position], similarity[position] = candidates[shares.argmax()], shares.max()
        elif len(candidates) < CANDIDATES_MAX:
            index.insert(position, sketch, check_duplication=False)
        else:
            crowded += 1
    return leader, similarity, crowded
