"""Reconciles the snapshots of a batch with the known rows of their systems: the rows to store, and the new known rows.

Pure: Arrow tables in, Arrow tables out, computed by DuckDB over the entire batch at once. A worker has compared each
upload with its system; this module reconciles several uploads of one system.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from akosha_assets.lake.columns import UTC
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.ingestion.merge import renumbering
from akosha_assets.lake.ingestion.merge.known_rows import KNOWN_BY_SYSTEM
from akosha_assets.lake.ingestion.merge.stored_texts import TEXT_HASHES

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
        ("text_hash", pa.int64()),
        ("stated_seconds", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Difference:
    """The effect of a batch on the tables.

    `chosen`: keys of the rows to store (ref, kind, id, is_change, memory_id, memory_day). Of several uploads of one
    system the newest version of a row wins; a version that a later upload reverted is not stored. A row of a renumbered
    memory is stored under `memory_id` on `memory_day`; both are null for other rows. `known`: KNOWN_BY_SYSTEM after the
    batch, ordered by system. `absent`: rows that are no longer in their source, or are back again. `aliases`: new ids
    of memories. `counts`: by upload and name of the count.
    """

    chosen: pa.Table
    known: pa.Table
    absent: pa.Table
    aliases: pa.Table
    counts: dict[int, dict[str, int]]


def compare(
    snapshots: pa.Table,
    seen: pa.Table,
    known: pa.Table,
    *,
    spill: Path,
    stored_texts: Callable[[pa.Table], pa.Table] = lambda _: TEXT_HASHES.empty_table(),
) -> Difference:
    """Compares `snapshots` (SNAPSHOTS) and their rows `seen` (SEEN) with the rows `known` (KNOWN_BY_SYSTEM).

    DuckDB uses at most MEMORY_MIB and writes what does not fit to the folder `spill`. `stored_texts` as in
    `renumbering.find`.

    An older snapshot never replaces a known row. Rows that are missing in a snapshot are absent only if it has other
    rows of their kind, because an empty table may not have been written yet. A memory is absent if none of its ids is
    in the snapshot.
    """
    with connect(SETTINGS, memory_mib=MEMORY_MIB, spill=spill) as connection:
        for name, table in {"snapshots": snapshots, "seen_rows": seen, "known_rows": known}.items():
            connection.register(name, table)
        renumbering.find(connection, stored_texts)
        connection.execute(RECONCILE)
        connection.execute(PRESENCE)
        chosen = connection.sql("SELECT ref, kind, id, is_change, memory_id, memory_day FROM stored").to_arrow_table()
        after = connection.sql(AFTERWARDS).to_arrow_table().cast(KNOWN_BY_SYSTEM)
        absent = connection.sql("SELECT * FROM presence").to_arrow_table()
        aliases = connection.sql(ALIASES).to_arrow_table()
        counts = {
            ref: {"new_rows": new, "changed_rows": changed, "unchanged_rows": unchanged, "absent_rows": absent_rows}
            for ref, new, changed, unchanged, absent_rows in connection.execute(COUNTS).fetchall()
        }
    return Difference(chosen=chosen, known=after, absent=absent, aliases=aliases, counts=counts)


# `verdict`: the newest version of each id in the batch, with the known version and the id of its memory. `stored`: one
# row for each memory, from the earliest upload with the version to store, which counts the row.
RECONCILE = """
CREATE TEMP TABLE newest AS
    SELECT * FROM rows
    QUALIFY row_number() OVER (PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC, ref DESC) = 1;
CREATE TEMP TABLE verdict AS
    SELECT n.*, k.content_hash AS known_hash, k.event_day AS known_day, k.snapshot_at AS known_at,
           k.text_hash AS known_text_hash, k.stated_seconds AS known_stated_seconds,
           coalesce(k.is_absent, false) AS was_absent,
           k.id IS NOT NULL AS is_known,
           coalesce(a.memory_id, k.memory_id, n.id) AS memory_id,
           a.event_day AS memory_day,
           coalesce(a.is_memory_known, k.id IS NOT NULL) AS is_memory_known,
           CASE WHEN a.id IS NOT NULL
                THEN n.content_hash <> a.content_hash AND coalesce(n.snapshot_at >= a.memory_at, true)
                ELSE k.id IS NULL OR (n.snapshot_at >= k.snapshot_at AND n.content_hash <> k.content_hash)
           END AS is_stored
    FROM newest n LEFT JOIN known_rows k USING (system_id, kind, id)
    LEFT JOIN renumbered a USING (system_id, kind, id);
CREATE TEMP TABLE stored AS
    SELECT v.system_id, v.kind, v.id, r.ref, coalesce(v.memory_day, r.event_day) AS event_day, v.memory_day,
           nullif(v.memory_id, v.id) AS memory_id, v.is_memory_known AS is_change
    FROM verdict v JOIN rows r USING (system_id, kind, id)
    WHERE v.is_stored AND r.content_hash = v.content_hash AND (v.known_at IS NULL OR r.snapshot_at >= v.known_at)
    QUALIFY row_number() OVER (
        PARTITION BY v.system_id, v.kind, v.memory_id
        ORDER BY v.snapshot_at DESC, v.ref DESC, v.id, r.snapshot_at, r.ref
    ) = 1;
"""

# `kinds`: the kinds with any row in the newest snapshot of a system in the batch. `judged`: known and new ids of these
# kinds, and whether they are missing in that snapshot. Rescued rows may come from any file, including one that was
# skipped because it is unchanged, so their absence proves nothing. `moved`: ids that are absent now or back again.
# `presence`: memories that are.
PRESENCE = """
CREATE TEMP VIEW candidates AS
    SELECT system_id, kind, id, memory_id, coalesce(known_at, snapshot_at) AS at, was_absent, is_known FROM verdict
    UNION ALL
    SELECT k.system_id, k.kind, k.id, coalesce(k.memory_id, k.id), k.snapshot_at, coalesce(k.is_absent, false), true
    FROM known_rows k ANTI JOIN newest n USING (system_id, kind, id);
CREATE TEMP TABLE moved AS
WITH latest AS (
        SELECT system_id, max_by(ref, (snapshot_at, ref)) AS ref, max(snapshot_at) AS snapshot_at
        FROM snapshots GROUP BY system_id
     ),
     kinds AS (
        SELECT DISTINCT l.system_id, l.ref, l.snapshot_at, r.kind
        FROM latest l JOIN seen_rows r USING (ref) WHERE r.kind <> 'rescued'
     ),
     judged AS (
        SELECT c.system_id, c.kind, c.id, c.memory_id, c.was_absent, q.ref, q.snapshot_at, r.id IS NULL AS is_absent
        FROM candidates c
        JOIN kinds q ON q.system_id = c.system_id AND q.kind = c.kind
             AND (q.snapshot_at > c.at OR (q.snapshot_at = c.at AND NOT c.was_absent))
        LEFT JOIN seen_rows r ON r.ref = q.ref AND r.kind = c.kind AND r.id = c.id
     )
SELECT * FROM judged WHERE is_absent <> was_absent;
CREATE TEMP TABLE presence AS
WITH touched AS (
        SELECT system_id, kind, memory_id, any_value(ref) AS ref, any_value(snapshot_at) AS snapshot_at
        FROM moved GROUP BY system_id, kind, memory_id
        UNION
        SELECT a.system_id, a.kind, a.memory_id, a.ref, a.snapshot_at FROM renumbered a
        ANTI JOIN moved m USING (system_id, kind, memory_id)
     ),
     memories AS (
        SELECT t.system_id, t.kind, t.memory_id AS id, any_value(t.ref) AS ref, any_value(t.snapshot_at) AS snapshot_at,
               coalesce(bool_and(c.was_absent) FILTER (WHERE c.is_known), false) AS was_absent,
               bool_and(coalesce(m.is_absent, c.was_absent)) AS is_absent
        FROM touched t JOIN candidates c USING (system_id, kind, memory_id)
        LEFT JOIN moved m USING (system_id, kind, id)
        GROUP BY t.system_id, t.kind, t.memory_id
     )
SELECT system_id, kind, id, is_absent, snapshot_at, ref FROM memories WHERE is_absent <> was_absent;
"""

AFTERWARDS = """
WITH rows_after AS (
    SELECT v.system_id, v.kind, v.id,
           CASE WHEN v.is_stored OR NOT v.is_known THEN v.content_hash ELSE v.known_hash END AS content_hash,
           coalesce(v.known_day, v.memory_day, w.event_day) AS event_day,
           greatest(v.snapshot_at, coalesce(v.known_at, v.snapshot_at)) AS snapshot_at,
           v.was_absent AS is_absent,
           CASE WHEN v.known_at > v.snapshot_at THEN v.known_text_hash
                ELSE coalesce(v.text_hash, v.known_text_hash) END AS text_hash,
           CASE WHEN v.known_at > v.snapshot_at THEN v.known_stated_seconds
                ELSE coalesce(v.stated_seconds, v.known_stated_seconds) END AS stated_seconds,
           nullif(v.memory_id, v.id) AS memory_id
    FROM verdict v
    LEFT JOIN (SELECT system_id, kind, coalesce(memory_id, id) AS memory_id, event_day FROM stored) w
        USING (system_id, kind, memory_id)
    UNION ALL
    SELECT k.system_id, k.kind, k.id, k.content_hash, k.event_day, k.snapshot_at, k.is_absent, k.text_hash,
           k.stated_seconds, k.memory_id
    FROM known_rows k ANTI JOIN newest n USING (system_id, kind, id)
)
SELECT system_id, kind, id, content_hash, event_day, snapshot_at, coalesce(m.is_absent, a.is_absent) AS is_absent,
       text_hash, stated_seconds, a.memory_id
FROM rows_after a LEFT JOIN (SELECT system_id, kind, id, is_absent FROM moved) m USING (system_id, kind, id)
ORDER BY system_id
"""

ALIASES = "SELECT system_id, kind, id, memory_id, content_hash, snapshot_at, ref FROM renumbered"

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
