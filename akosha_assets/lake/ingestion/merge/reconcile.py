"""Reconciles the snapshots of a batch with the known rows of their systems: the rows to store, and the new known rows.

Pure: Arrow tables in, Arrow tables out, computed by DuckDB over the entire batch at once. A worker has compared each
upload with its system; this module reconciles several uploads of one system.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from akosha_assets.lake.columns import UTC
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.ingestion.merge.known_rows import KNOWN_BY_SYSTEM

# Without a limit DuckDB uses about 700 MB for a million rows.
MEMORY_MIB = 256
SETTINGS = {"threads": "2", "preserve_insertion_order": "false"}

SNAPSHOTS = pa.schema([("ref", pa.int64()), ("system_id", pa.string()), ("snapshot_at", UTC)])
SEEN = pa.schema(
    [
        ("ref", pa.int64()),
        ("kind", pa.string()),
        ("id", pa.string()),
        ("content_hash", pa.int64()),
        ("event_day", pa.date32()),
    ]
)


@dataclass(frozen=True)
class Difference:
    """The effect of a batch on the tables.

    `chosen`: keys of the rows to store (ref, kind, id, is_change). Of several uploads of one system the newest version
    of a row wins; a version that a later upload reverted is not stored. `known`: KNOWN_BY_SYSTEM after the batch,
    ordered by system. `absent`: rows that are no longer in their source, or are back again. `counts`: by upload and
    name of the count.
    """

    chosen: pa.Table
    known: pa.Table
    absent: pa.Table
    counts: dict[int, dict[str, int]]


def compare(snapshots: pa.Table, seen: pa.Table, known: pa.Table, *, spill: Path) -> Difference:
    """Compares `snapshots` (SNAPSHOTS) and their rows `seen` (SEEN) with the rows `known` (KNOWN_BY_SYSTEM).

    DuckDB uses at most MEMORY_MIB and writes what does not fit to the folder `spill`.

    An older snapshot never replaces a known row. Rows that are missing in a snapshot are absent only if it has other
    rows of their kind, because an empty table may not have been written yet.
    """
    with connect(SETTINGS, memory_mib=MEMORY_MIB, spill=spill) as connection:
        for name, table in {"snapshots": snapshots, "seen_rows": seen, "known_rows": known}.items():
            connection.register(name, table)
        connection.execute(RECONCILE)
        connection.execute(PRESENCE)
        chosen = connection.sql("SELECT ref, kind, id, is_change FROM stored").to_arrow_table()
        after = connection.sql(AFTERWARDS).to_arrow_table().cast(KNOWN_BY_SYSTEM)
        absent = connection.sql("SELECT * FROM presence").to_arrow_table()
        counts = {
            ref: {"new_rows": new, "changed_rows": changed, "unchanged_rows": unchanged, "absent_rows": absent_rows}
            for ref, new, changed, unchanged, absent_rows in connection.execute(COUNTS).fetchall()
        }
    return Difference(chosen, after, absent, counts)


# `verdict`: the newest version of each (system, kind, id) in the batch, with the known version. `stored`: the earliest
# upload with that version, which counts the row.
RECONCILE = """
CREATE TEMP TABLE rows AS SELECT s.system_id, s.snapshot_at, r.* FROM seen_rows r JOIN snapshots s USING (ref);
CREATE TEMP TABLE newest AS
    SELECT * FROM rows
    QUALIFY row_number() OVER (PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC, ref DESC) = 1;
CREATE TEMP TABLE verdict AS
    SELECT n.*, k.content_hash AS known_hash, k.event_day AS known_day, k.snapshot_at AS known_at,
           coalesce(k.is_absent, false) AS was_absent,
           k.id IS NOT NULL AS is_known,
           k.id IS NULL OR (n.snapshot_at > k.snapshot_at AND n.content_hash <> k.content_hash) AS is_stored
    FROM newest n LEFT JOIN known_rows k USING (system_id, kind, id);
CREATE TEMP TABLE stored AS
    SELECT v.system_id, v.kind, v.id, r.ref, r.event_day, v.is_known AS is_change
    FROM verdict v JOIN rows r USING (system_id, kind, id)
    WHERE v.is_stored AND r.content_hash = v.content_hash AND (v.known_at IS NULL OR r.snapshot_at > v.known_at)
    QUALIFY row_number() OVER (PARTITION BY v.system_id, v.kind, v.id ORDER BY r.snapshot_at, r.ref) = 1;
"""

# `kinds`: the kinds with any row in the newest snapshot of a system in the batch. `judged`: known and new rows of these
# kinds, and whether they are missing in that snapshot. Rescued rows may come from any file, including one that was
# skipped because it is unchanged, so their absence proves nothing.
PRESENCE = """
CREATE TEMP TABLE presence AS
WITH latest AS (
        SELECT system_id, max_by(ref, (snapshot_at, ref)) AS ref, max(snapshot_at) AS snapshot_at
        FROM snapshots GROUP BY system_id
     ),
     kinds AS (
        SELECT DISTINCT l.system_id, l.ref, l.snapshot_at, r.kind
        FROM latest l JOIN seen_rows r USING (ref) WHERE r.kind <> 'rescued'
     ),
     candidates AS (
        SELECT system_id, kind, id, coalesce(known_at, snapshot_at) AS at, was_absent FROM verdict
        UNION ALL
        SELECT k.system_id, k.kind, k.id, k.snapshot_at, k.is_absent
        FROM known_rows k ANTI JOIN newest n USING (system_id, kind, id)
     ),
     judged AS (
        SELECT c.system_id, c.kind, c.id, c.was_absent, q.ref, q.snapshot_at, r.id IS NULL AS is_absent
        FROM candidates c
        JOIN kinds q ON q.system_id = c.system_id AND q.kind = c.kind AND q.snapshot_at >= c.at
        LEFT JOIN seen_rows r ON r.ref = q.ref AND r.kind = c.kind AND r.id = c.id
     )
SELECT system_id, kind, id, is_absent, snapshot_at, ref FROM judged WHERE is_absent <> was_absent
"""

AFTERWARDS = """
WITH rows_after AS (
    SELECT system_id, kind, id,
           CASE WHEN is_stored OR NOT is_known THEN content_hash ELSE known_hash END AS content_hash,
           coalesce(v.known_day, w.event_day) AS event_day,
           greatest(snapshot_at, coalesce(known_at, snapshot_at)) AS snapshot_at,
           was_absent AS is_absent
    FROM verdict v LEFT JOIN (SELECT system_id, kind, id, event_day FROM stored) w USING (system_id, kind, id)
    UNION ALL
    SELECT k.system_id, k.kind, k.id, k.content_hash, k.event_day, k.snapshot_at, k.is_absent
    FROM known_rows k ANTI JOIN newest n USING (system_id, kind, id)
)
SELECT system_id, kind, id, content_hash, event_day, snapshot_at, coalesce(p.is_absent, a.is_absent) AS is_absent
FROM rows_after a LEFT JOIN (SELECT system_id, kind, id, is_absent FROM presence) p USING (system_id, kind, id)
ORDER BY system_id
"""

COUNTS = """
WITH absent AS (SELECT ref, count(*) AS rows FROM presence WHERE is_absent GROUP BY ref),
     written AS (
        SELECT ref, count(*) FILTER (NOT is_change) AS new_rows, count(*) FILTER (is_change) AS changed_rows
        FROM stored GROUP BY ref
     ),
     read_rows AS (SELECT ref, count(*) AS rows FROM seen_rows GROUP BY ref)
SELECT s.ref, coalesce(w.new_rows, 0), coalesce(w.changed_rows, 0),
       coalesce(r.rows, 0) - coalesce(w.new_rows, 0) - coalesce(w.changed_rows, 0), coalesce(a.rows, 0)
FROM snapshots s LEFT JOIN written w USING (ref) LEFT JOIN read_rows r USING (ref) LEFT JOIN absent a USING (ref)
"""
