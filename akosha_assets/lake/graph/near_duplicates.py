"""`graph/near_duplicates`: groups memories of the fleet with nearly the same text. No row is dropped for it.

Memories with equal fingerprints are one. Among the others, locality-sensitive hashing finds candidates, and the share
of equal MinHash values, an estimate of the Jaccard similarity of their 3-grams, confirms them (Broder, 1997).
"""

from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
from datasketch import MinHash, MinHashLSH

from akosha_assets.lake import commits
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.schemas import HOT, NEAR_DUPLICATES

VALUES = 128
# Texts above this similarity differ in little more than names and numbers.
SIMILARITY = 0.85
# Leaders that one memory is compared with at most. Fingerprints come from outside: if more share a bucket they were
# crafted to, and comparing all with all would take quadratic time.
CANDIDATES_MAX = 1000
# Session-Buddy's values are compared only with each other; the library must not mix them with other schemes.
SCHEME = "legacy"


@dataclass(frozen=True)
class Grouped:
    """The result of grouping: memories compared, memories in groups, groups, systems in the widest group."""

    memories: int
    grouped: int
    groups: int
    widest_systems: int
    version: int
    # Fingerprints that were not added as leaders, because they already had the maximum of candidates.
    crowded: int


def group(lake: Lake, *, now: datetime, run_id: str) -> Grouped:
    """Rewrites the table: every memory of the hot tier that has near-duplicates, with its group."""
    rows = lake.select(
        HOT.address, ["system_id", "kind", "id", "fingerprint", "occurred_at"], "fingerprint IS NOT NULL"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
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
