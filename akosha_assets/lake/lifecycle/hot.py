"""The hot tier: embeds rows without a vector, passages of long texts, and rewrites event days into few files.

Rows enter through `ingestion/arrivals` and leave through `aging.py`.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import commits, days, quoting, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.duckdb_session import connect
from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.passages import UNCUT_MAX_BYTES, CutTexts
from akosha_assets.lake.schemas import HOT

# Rows embedded per commit, and bytes of their texts: about half a minute of work on two cores, the most that a kill can
# cost.
COMMIT_ROWS, COMMIT_BYTES = 8192, 1 << 22
# Rows, and bytes of their texts, between two checks of `stop`: seconds of work.
PIECE_ROWS, PIECE_BYTES = 128, 1 << 17


VECTOR_COLUMNS = ["vector", "space", "passages", "passage_ranges"]


@dataclass(frozen=True)
class Embedded:
    """The rows that were embedded or cut, and the version of the table afterwards; None if there were none."""

    rows: int
    version: int | None


def days_without_vectors(lake: Lake, space: str) -> dict[date, int]:
    """Rows by event day that have no vector of `space`."""
    return _count_by_day(lake, _without_vector(space))


def days_without_passages(lake: Lake, space: str, event_days: Collection[date] | None = None) -> dict[date, int]:
    """Rows by event day with a vector of `space` whose text was not cut into passages.

    With `event_days` only the rows of these days whose text is longer than `UNCUT_MAX_BYTES`.
    """
    if event_days is None:
        return _count_by_day(lake, _without_passages(space))
    is_long = f"octet_length(text) > {UNCUT_MAX_BYTES}"
    return _count_by_day(lake, days.predicate(event_days, f"{_without_passages(space)} AND {is_long}"))


def embed_day(
    lake: Lake, day: date, embedder: Embedder, *, run_id: str, stop: Callable[[], bool] = lambda: False
) -> Embedded:
    """Embeds the rows of `day` that have no vector of the embedder's space, with their passages, until `stop()` is
    true.

    Rows that change meanwhile are left as they are.
    """
    return _embed_rows(lake, day, embedder, _without_vector(embedder.space), run_id=run_id, stop=stop)


def embed_passages(
    lake: Lake,
    day: date,
    embedder: Embedder,
    *,
    run_id: str,
    stop: Callable[[], bool] = lambda: False,
    rows_max: int | None = None,
) -> Embedded:
    """Cuts and embeds the passages of the rows of `day` that have a vector of the embedder's space and were never cut,
    of at most `rows_max` rows, until `stop()` is true. Vectors stay.

    Rows that change meanwhile are left as they are.
    """
    where = _without_passages(embedder.space)
    return _embed_rows(lake, day, embedder, where, run_id=run_id, stop=stop, rows_max=rows_max)


def _embed_rows(
    lake: Lake,
    day: date,
    embedder: Embedder,
    where: str,
    *,
    run_id: str,
    stop: Callable[[], bool],
    rows_max: int | None = None,
) -> Embedded:
    done, version = 0, None
    columns = [*IDENTITY, "content_hash", "text", "vector", "space"]
    missing = lake.select(HOT.address, columns, days.predicate(day, where)).sort_by("system_id").slice(0, rows_max)
    if missing.num_rows:
        # A table of an earlier version has no columns of passages yet.
        lake.create(HOT.address)
    for part in _pieces(missing, COMMIT_ROWS, COMMIT_BYTES):
        rows = _with_vectors(part, embedder, stop)
        if not rows.num_rows:
            break
        systems = quoting.literals(sorted(pc.unique(rows["system_id"]).to_pylist()))
        only = f"t.event_day = DATE '{day}' AND t.system_id IN ({systems})"
        metadata = {"akosha_embed": embedder.space, "akosha_run": run_id}
        version = commits.update_columns(
            lake.uri(HOT.address), rows, VECTOR_COLUMNS, lake.storage_options, metadata, only=only
        )
        done += rows.num_rows
    return Embedded(done, version)


def _with_vectors(rows: pa.Table, embedder: Embedder, stop: Callable[[], bool]) -> pa.Table:
    """The rows without their text, with `VECTOR_COLUMNS`; only the first ones if `stop()` became true.

    A vector of the embedder's space stays.
    """
    columns: dict[str, list[bytes | None]] = {name: [] for name in VECTOR_COLUMNS if name != "space"}
    for piece in _pieces(rows, PIECE_ROWS, PIECE_BYTES):
        if stop():
            break
        texts = CutTexts.cut(embedder, piece["text"].to_pylist())
        has_vector = pc.fill_null(pc.equal(piece["space"], embedder.space), False).to_pylist()
        vectors = iter(
            as_stored(embedder.embed([text for text, has in zip(texts.first, has_vector, strict=True) if not has]))
        )
        columns["vector"] += [
            vector if has else next(vectors)
            for vector, has in zip(piece["vector"].to_pylist(), has_vector, strict=True)
        ]
        columns["passages"] += texts.split(embedder.embed(texts.others).astype("<f2"))
        columns["passage_ranges"] += texts.ranges
    rows = rows.slice(0, len(columns["vector"])).drop_columns(["text", "vector", "space"])
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(values, pa.binary()))
    return rows.append_column("space", pa.repeat(embedder.space, rows.num_rows))


def _pieces(rows: pa.Table, rows_max: int, bytes_max: int) -> Iterator[pa.Table]:
    """The rows in pieces of at most so many rows and bytes of `text`; a longer text is a piece of its own."""
    ends = np.cumsum(pc.binary_length(rows["text"]).to_numpy())
    first = 0
    while first < rows.num_rows:
        read = int(ends[first - 1]) if first else 0
        count = int(np.searchsorted(ends[first : first + rows_max], read + bytes_max, "right"))
        yield rows.slice(first, max(1, count))
        first += max(1, count)


def _without_vector(space: str) -> str:
    return f"(space IS NULL OR space <> {quoting.literals([space])})"


def _without_passages(space: str) -> str:
    return f"(space = {quoting.literals([space])} AND passage_ranges IS NULL)"


def _count_by_day(lake: Lake, where: str) -> dict[date, int]:
    found = lake.select(HOT.address, ["event_day"], where)
    return {entry["values"]: entry["counts"] for entry in found["event_day"].value_counts().to_pylist()}


def rebuild_day(
    lake: Lake, day: date, *, run_id: str, connection: duckdb.DuckDBPyConnection | None = None
) -> days.Stored:
    """Rewrites `day` into as few files as possible, each memory once in its newest form; returns its size.

    Raises:
        TableContended: rows of the day arrived meanwhile; nothing was changed.
    """
    table = lake.create(HOT.address)
    where = days.predicate(day)
    rows = tables.select(table, HOT.schema.names, HOT.schema, where)
    if rows.num_rows:
        own = connection or connect()
        try:
            own.register("day_rows", rows)
            newest = own.sql(
                """SELECT * FROM day_rows
                QUALIFY 1 = row_number() OVER (
                    PARTITION BY system_id, kind, id ORDER BY snapshot_at DESC, batch_id DESC)
                ORDER BY system_id, occurred_at"""
            ).to_arrow_table()
            own.unregister("day_rows")
        finally:
            if connection is None:
                own.close()
        batches = newest.cast(HOT.schema).to_batches()
        days.replace(table, HOT, batches, where, writer=f"rebuild/{HOT.address}", metadata={"akosha_run": run_id})
    return days.stored(lake.create(HOT.address)).get(day, days.Stored(0, 0, 0))
