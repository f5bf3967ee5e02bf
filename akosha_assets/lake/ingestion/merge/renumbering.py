"""Recognizes memories that their source has given new ids: same system, kind and text, and the old id is gone.

SQL over the tables that `reconcile.py` registers. A renumbered memory keeps the id under which it was first stored; the
new id becomes an alias of it.
"""

from collections.abc import Callable

import duckdb
import pyarrow as pa

from akosha_assets.lake.ingestion.merge.stored_texts import TEXT_HASHES

# `turns`: the snapshots of each system in their order. `rows`: every row of theirs. `arrived`: each memory id that no
# known row has, in its first form; only for systems that have known rows or several snapshots, since elsewhere no id
# can be gone.
ARRIVED = """
CREATE TEMP TABLE turns AS
    SELECT *, row_number() OVER (PARTITION BY system_id ORDER BY snapshot_at, ref) AS turn FROM snapshots;
CREATE TEMP TABLE rows AS
    SELECT s.system_id, s.snapshot_at, s.turn, r.* FROM seen_rows r JOIN turns s USING (ref);
CREATE TEMP TABLE arrived AS
    SELECT r.* FROM rows r ANTI JOIN known_rows k USING (system_id, kind, id)
    WHERE r.text_hash IS NOT NULL AND r.system_id IN (
        SELECT system_id FROM turns WHERE turn > 1 UNION SELECT system_id FROM known_rows
    )
    QUALIFY row_number() OVER (PARTITION BY r.system_id, r.kind, r.id ORDER BY r.turn) = 1;
"""

# `unhashed`: known memories whose text hash is not known, and that no snapshot of the batch has while new ids arrive.
UNHASHED = """
CREATE TEMP TABLE unhashed AS
    SELECT k.system_id, k.kind, coalesce(k.memory_id, k.id) AS memory_id, k.id, k.event_day FROM known_rows k
    SEMI JOIN arrived a USING (system_id, kind)
    ANTI JOIN rows r USING (system_id, kind, id)
    WHERE k.text_hash IS NULL AND k.is_absent IS NOT TRUE;
"""
HASHED = """
CREATE TEMP TABLE hashed AS
    SELECT u.system_id, u.kind, u.id, h.text_hash FROM unhashed u
    JOIN stored_texts h ON h.system_id = u.system_id AND h.kind = u.kind AND h.id = u.memory_id
    QUALIFY row_number() OVER (PARTITION BY u.system_id, u.kind, u.id ORDER BY h.snapshot_at DESC) = 1;
"""

# `former`: the forms with the texts of arrived ids that ids had before: known ones, and earlier ones of the batch.
FORMER = """
CREATE TEMP TABLE former AS
    WITH texts AS (SELECT system_id, kind, text_hash, max(turn) AS turn FROM arrived GROUP BY ALL),
    known_texts AS (
        SELECT * FROM known_rows WHERE text_hash IS NOT NULL
        UNION ALL
        SELECT k.* REPLACE (h.text_hash AS text_hash) FROM known_rows k JOIN hashed h USING (system_id, kind, id)
    )
    SELECT k.system_id, k.kind, k.id, 0 AS turn, k.snapshot_at, k.text_hash, k.stated_seconds,
           coalesce(k.memory_id, k.id) AS memory_id, coalesce(k.is_absent, false) AS is_absent
    FROM known_texts k SEMI JOIN texts USING (system_id, kind, text_hash)
    UNION ALL
    SELECT r.system_id, r.kind, r.id, r.turn, r.snapshot_at, r.text_hash, r.stated_seconds,
           CASE WHEN k.id IS NOT NULL THEN coalesce(k.memory_id, k.id) END, false
    FROM rows r
    JOIN texts t ON t.system_id = r.system_id AND t.kind = r.kind AND t.text_hash = r.text_hash AND t.turn > r.turn
    LEFT JOIN known_rows k ON k.system_id = r.system_id AND k.kind = r.kind AND k.id = r.id;
"""

# `arrivals`: each snapshot that brings ids of a kind, and the one before it that has rows of this kind.
# `family`: every known id of memories that have several.
# `gone`: ids that an arrival lacks, and whose memory has no other id in it. Those are `is_replaced` that the snapshot
# before had. Others left earlier, or are known from a later snapshot; for them the stated time must be equal too.
GONE = """
CREATE TEMP TABLE arrivals AS
    WITH kinds AS (SELECT DISTINCT system_id, kind, turn FROM rows WHERE text_hash IS NOT NULL)
    SELECT a.system_id, a.kind, a.turn, a.snapshot_at, max(q.turn) AS turn_before
    FROM (SELECT DISTINCT system_id, kind, turn, snapshot_at FROM arrived) a
    LEFT JOIN kinds q ON q.system_id = a.system_id AND q.kind = a.kind AND q.turn < a.turn
    GROUP BY ALL;
CREATE TEMP TABLE family AS
    SELECT k.system_id, k.kind, k.id, coalesce(k.memory_id, k.id) AS memory_id, k.is_absent
    FROM known_rows k
    SEMI JOIN (SELECT system_id, kind, memory_id FROM known_rows WHERE memory_id IS NOT NULL) f
        ON f.system_id = k.system_id AND f.kind = k.kind AND f.memory_id = coalesce(k.memory_id, k.id);
CREATE TEMP TABLE gone AS
    WITH pairs AS (
        SELECT q.system_id, q.kind, q.turn, q.turn_before, q.snapshot_at AS arrived_at, o.id, o.turn AS former_turn,
               o.snapshot_at, o.text_hash, o.stated_seconds, o.memory_id, o.is_absent
        FROM arrivals q JOIN former o ON o.system_id = q.system_id AND o.kind = q.kind AND o.turn < q.turn
        QUALIFY row_number() OVER (PARTITION BY q.system_id, q.kind, q.turn, o.id ORDER BY o.turn DESC) = 1
    ),
    here AS (SELECT system_id, kind, turn, id FROM rows SEMI JOIN arrivals USING (system_id, kind, turn)),
    lacking AS (
        SELECT p.* FROM pairs p ANTI JOIN here h USING (system_id, kind, turn, id)
    ),
    alone AS (
        SELECT l.* FROM lacking l
        ANTI JOIN (
            SELECT h.system_id, h.kind, h.turn, f.memory_id FROM here h JOIN family f USING (system_id, kind, id)
        ) k USING (system_id, kind, turn, memory_id)
    ),
    present AS (
        SELECT a.*, CASE
            WHEN snapshot_at > arrived_at THEN false
            WHEN turn_before IS NULL THEN NOT is_absent
            ELSE EXISTS (
                SELECT 1 FROM rows r
                WHERE r.system_id = a.system_id AND r.kind = a.kind AND r.turn = a.turn_before AND r.id = a.id
            ) END AS is_replaced
        FROM alone a
    )
    SELECT * FROM present p
    WHERE is_replaced OR (stated_seconds IS NOT NULL AND (snapshot_at > arrived_at OR NOT EXISTS (
        SELECT 1 FROM family f
        WHERE f.system_id = p.system_id AND f.kind = p.kind AND f.memory_id = p.memory_id AND f.id <> p.id
              AND NOT f.is_absent
    )));
"""

# `matches`: an arrived id with the id that it replaces, both once. Of several memories with one text, those with the
# same stated time belong together, and the others in the order of their times.
MATCHES = """
CREATE TEMP TABLE matches AS
    WITH exact AS (
        SELECT n.system_id, n.kind, n.turn, n.id, g.id AS former_id, g.memory_id FROM (
            SELECT *, row_number() OVER (
                PARTITION BY system_id, kind, turn, text_hash, stated_seconds ORDER BY id) AS place FROM arrived
        ) n JOIN (
            SELECT *, row_number() OVER (
                PARTITION BY system_id, kind, turn, text_hash, stated_seconds
                ORDER BY is_replaced DESC, former_turn DESC, id) AS place FROM gone
        ) g ON g.system_id = n.system_id AND g.kind = n.kind AND g.turn = n.turn AND g.text_hash = n.text_hash
               AND g.stated_seconds IS NOT DISTINCT FROM n.stated_seconds AND g.place = n.place
    ), ordered AS (
        SELECT n.system_id, n.kind, n.turn, n.id, g.id AS former_id, g.memory_id FROM (
            SELECT *, row_number() OVER (
                PARTITION BY system_id, kind, turn, text_hash ORDER BY stated_seconds NULLS LAST, id) AS place
            FROM arrived ANTI JOIN exact USING (system_id, kind, id)
        ) n JOIN (
            SELECT g.*, row_number() OVER (
                PARTITION BY g.system_id, g.kind, g.turn, g.text_hash
                ORDER BY g.stated_seconds NULLS LAST, g.id) AS place
            FROM gone g ANTI JOIN exact e
                ON e.system_id = g.system_id AND e.kind = g.kind AND e.turn = g.turn AND e.former_id = g.id
            WHERE g.is_replaced
        ) g ON g.system_id = n.system_id AND g.kind = n.kind AND g.turn = n.turn AND g.text_hash = n.text_hash
               AND g.place = n.place
    )
    SELECT * FROM (SELECT * FROM exact UNION ALL SELECT * FROM ordered)
    QUALIFY row_number() OVER (PARTITION BY system_id, kind, former_id ORDER BY turn) = 1;
"""

# `renumbered`: each matched id with its memory, followed through ids that the same batch brought; with the hash that
# its first form has, and with the event day and the newest snapshot of the memory's known rows.
RENUMBERED = """
CREATE TEMP TABLE renumbered AS
    WITH RECURSIVE walk AS (
        SELECT system_id, kind, id, former_id, memory_id FROM matches
        UNION ALL
        SELECT w.system_id, w.kind, w.id, m.former_id, m.memory_id
        FROM walk w JOIN matches m ON m.system_id = w.system_id AND m.kind = w.kind AND m.id = w.former_id
    ),
    roots AS (
        SELECT w.system_id, w.kind, w.id, coalesce(w.memory_id, w.former_id) AS memory_id
        FROM walk w ANTI JOIN matches m ON m.system_id = w.system_id AND m.kind = w.kind AND m.id = w.former_id
    ),
    memories AS (
        SELECT k.system_id, k.kind, coalesce(k.memory_id, k.id) AS memory_id, max(k.event_day) AS event_day,
               max(k.snapshot_at) AS snapshot_at
        FROM known_rows k
        SEMI JOIN roots r ON r.system_id = k.system_id AND r.kind = k.kind AND r.memory_id = coalesce(k.memory_id, k.id)
        GROUP BY ALL
    )
    SELECT r.system_id, r.kind, r.id, r.memory_id, a.ref, a.content_hash, a.snapshot_at,
           m.memory_id IS NOT NULL AS is_memory_known, m.snapshot_at AS memory_at,
           coalesce(m.event_day, f.event_day) AS event_day
    FROM roots r
    JOIN arrived a USING (system_id, kind, id)
    LEFT JOIN memories m USING (system_id, kind, memory_id)
    LEFT JOIN arrived f ON f.system_id = r.system_id AND f.kind = r.kind AND f.id = r.memory_id;
"""


NOTHING_RENUMBERED = """
CREATE TEMP TABLE renumbered (
    system_id VARCHAR, kind VARCHAR, id VARCHAR, memory_id VARCHAR, ref BIGINT, content_hash BIGINT,
    snapshot_at TIMESTAMPTZ, is_memory_known BOOLEAN, memory_at TIMESTAMPTZ, event_day DATE
);
"""


def find(connection: duckdb.DuckDBPyConnection, stored_texts: Callable[[pa.Table], pa.Table]) -> None:
    """Creates the tables `rows` and `renumbered`. In most batches no arrived id has the text of another one, and no
    more than that is looked for.

    `stored_texts` returns the hashes of stored texts, as in `stored_texts.py`; it is called only for memories that left
    their source while new ones arrived, and whose text hash is not known.
    """
    connection.execute(ARRIVED)
    connection.execute(UNHASHED)
    unhashed = connection.sql("SELECT system_id, event_day FROM unhashed").to_arrow_table()
    connection.register("stored_texts", stored_texts(unhashed) if unhashed.num_rows else TEXT_HASHES.empty_table())
    connection.execute(HASHED)
    connection.execute(FORMER)
    if not connection.execute("SELECT 1 FROM former LIMIT 1").fetchall():
        connection.execute(NOTHING_RENUMBERED)
        return
    for step in (GONE, MATCHES, RENUMBERED):
        connection.execute(step)
