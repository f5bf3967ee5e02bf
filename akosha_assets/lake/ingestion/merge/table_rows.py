"""Builds the rows of each table from the extractions of a batch: selects, adds provenance, sorts."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.ingestion.extraction.pool import Extraction
from akosha_assets.lake.ingestion.extraction.spooled_rows import SpooledRows
from akosha_assets.lake.ingestion.inbox.fetching import Fetched
from akosha_assets.lake.ingestion.merge.reconcile import SEEN, SNAPSHOTS, Difference
from akosha_assets.lake.passages import CutTexts
from akosha_assets.lake.quoting import literals
from akosha_assets.lake.schemas import ABSENCES, ALIASES, MEMORY_LINKS, TABLES
from akosha_assets.lake.table_spec import TableSpec

EMBED_ROWS = 256


@dataclass
class TableRows:
    """Rows for one table. `replaces`: SQL condition on the target rows that they may replace; empty if none."""

    rows: pa.Table
    replaces: str = ""


def snapshots(extractions: Mapping[int, Extraction], fetched: Mapping[int, Fetched]) -> pa.Table:
    """Returns SNAPSHOTS of the extracted uploads."""
    uploads = [fetched[ref].upload for ref in extractions]
    return pa.table(
        [list(extractions), [one.system_id for one in uploads], [one.snapshot_at for one in uploads]], schema=SNAPSHOTS
    )


def seen(extractions: Mapping[int, Extraction]) -> pa.Table:
    """Returns SEEN: every row of every extracted snapshot."""
    parts = [SEEN.empty_table()]
    for ref, extraction in extractions.items():
        table = extraction.seen
        parts.append(pa.table([pa.repeat(pa.scalar(ref, pa.int64()), table.num_rows), *table.columns], schema=SEEN))
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class Provenance:
    """Sources of the columns that a batch adds.

    `fetched`: by the upload's id in the ledger. `uploaded_space`: the vector space of uploaded vectors.
    """

    batch_id: int
    fetched: Mapping[int, Fetched]
    uploaded_space: str


def parts(
    extractions: Mapping[int, Extraction], difference: Difference, provenance: Provenance
) -> Iterator[dict[str, TableRows]]:
    """Yields the rows to store, by table address and in the table's schema, in parts that are committed in order.

    The first part has all rows that are in memory, and removes them from `extractions`. Every other part has rows of
    one large upload and table. Aliases are the last part: a batch that fails before finds them again.
    """
    memories = MemoryIds.from_known(difference.known)
    first = _of_memory(extractions, difference, provenance, memories)
    for extraction in extractions.values():
        # Free the originals: a commit needs several times the memory of its rows.
        extraction.rows.clear()
    yield first
    del first
    for address, spec in TABLES.items():
        for ref, extraction in extractions.items():
            if (spooled := extraction.spooled.pop(address, None)) is not None:
                for rows in _of_file(ref, spooled, difference.chosen):
                    yield {address: _with_provenance(rows, spec, provenance, memories)}
    if difference.aliases.num_rows:
        yield {ALIASES.address: TableRows(_aliases(difference.aliases, provenance))}


def _of_memory(
    extractions: Mapping[int, Extraction], difference: Difference, provenance: Provenance, memories: "MemoryIds"
) -> dict[str, TableRows]:
    by_address: dict[str, TableRows] = {}
    for address, spec in TABLES.items():
        tables = []
        for ref, extraction in extractions.items():
            if (table := extraction.rows.get(address)) is not None and table.num_rows:
                tables.append(table.append_column("ref", pa.repeat(pa.scalar(ref, pa.int64()), table.num_rows)))
        if not tables:
            continue
        rows = _chosen(pa.concat_tables(tables), difference.chosen)
        if rows.num_rows:
            by_address[address] = _with_provenance(rows, spec, provenance, memories)
    if difference.absent.num_rows:
        by_address[ABSENCES.address] = TableRows(_absences(difference.absent, provenance))
    return by_address


def _of_file(ref: int, spooled: SpooledRows, chosen: pa.Table) -> Iterator[pa.Table]:
    """Yields the rows of `spooled` that are in `chosen`, as `_chosen` returns them, in parts that fit in memory."""
    of_upload = chosen.filter(pc.equal(chosen["ref"], ref)).drop_columns(["ref"])
    keys = spooled.keys.append_column("position", pa.array(np.arange(spooled.num_rows)))
    found = keys.join(of_upload, ["kind", "id"], join_type="inner").sort_by("position")
    positions = found["position"].to_numpy()
    for part in spooled.parts(positions):
        rows = spooled.take(part).append_column("ref", pa.repeat(pa.scalar(ref, pa.int64()), len(part)))
        yield _as_chosen(rows, found.take(pa.array(np.searchsorted(positions, part))))


def _chosen(rows: pa.Table, chosen: pa.Table) -> pa.Table:
    """Returns the rows that are in `chosen`, with their `is_change`, each under the id and day of its memory."""
    keys = rows.select(["ref", "kind", "id"]).append_column("position", pa.array(np.arange(rows.num_rows)))
    matches = keys.join(chosen, ["ref", "kind", "id"], join_type="inner").sort_by("position")
    if matches.num_rows < rows.num_rows:
        rows = rows.take(matches["position"])
    return _as_chosen(rows, matches)


def _as_chosen(rows: pa.Table, matches: pa.Table) -> pa.Table:
    """`rows` with the values of `matches`, which has a row for each of them."""
    for name, own in (("id", "memory_id"), ("event_day", "memory_day")):
        if name in rows.column_names and matches[own].null_count < matches.num_rows:
            rows = rows.set_column(rows.schema.get_field_index(name), name, pc.coalesce(matches[own], rows[name]))
    return rows.append_column("is_change", matches["is_change"])


@dataclass(frozen=True)
class MemoryIds:
    """The ids under which renumbered memories are stored, by system and another id of theirs."""

    # (aliases,) string each; `keys` are system and id.
    keys: pa.Array
    memory_ids: pa.Array

    @classmethod
    def from_known(cls, known: pa.Table) -> "MemoryIds":
        """The aliases in `known` (KNOWN_BY_SYSTEM)."""
        aliases = known.filter(known["memory_id"].is_valid()).combine_chunks()
        return cls(_link_keys(aliases["system_id"], aliases["id"]), _one_array(aliases["memory_id"]))

    def resolve(self, systems: pa.Array, ids: pa.ChunkedArray) -> pa.Array:
        """`ids`, (rows,) string, each replaced by the id of its memory where it is an alias."""
        places = pc.index_in(_link_keys(systems, ids), value_set=self.keys)
        return pc.coalesce(self.memory_ids.take(places), _one_array(ids))


def _link_keys(systems: pa.Array, ids: pa.ChunkedArray) -> pa.Array:
    return pc.binary_join_element_wise(_one_array(systems), _one_array(ids), "\x1f")


def _one_array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _with_provenance(rows: pa.Table, spec: TableSpec, provenance: Provenance, memories: MemoryIds) -> TableRows:
    refs = sorted(provenance.fetched)
    place = pa.array(np.searchsorted(refs, rows["ref"].to_numpy()))
    uploads = [provenance.fetched[ref].upload for ref in refs]
    count = rows.num_rows
    added = {
        "system_id": pa.array([one.system_id for one in uploads], pa.string()).take(place),
        "upload_id": pa.array([one.upload_id for one in uploads], pa.string()).take(place),
        "arrived_at": pa.array([one.seen_at for one in uploads], spec.schema.field("arrived_at").type).take(place),
        "batch_id": pa.repeat(pa.scalar(provenance.batch_id, pa.int64()), count),
    }
    if "space" in spec.schema.names:
        has_vector = pc.is_valid(rows["vector"])
        added["space"] = pc.if_else(
            has_vector, pa.scalar(provenance.uploaded_space, pa.string()), pa.scalar(None, pa.string())
        )
        added |= {name: pa.nulls(count, pa.binary()) for name in ("passages", "passage_ranges")}
    if len(memories.keys):
        for name in MEMORY_LINKS.get(spec.address, ()):
            added[name] = memories.resolve(added["system_id"], rows[name])
    changed = rows.filter(rows["is_change"])
    replaces = ""
    if changed.num_rows:
        systems = pc.unique(added["system_id"].filter(rows["is_change"].combine_chunks())).to_pylist()
        replaces = f"t.system_id IN ({literals(sorted(systems))})"
        if "event_day" in spec.partition_by:
            days = ", ".join(f"DATE '{day}'" for day in sorted(pc.unique(changed["event_day"]).to_pylist()))
            replaces = f"t.event_day IN ({days}) AND {replaces}"
    table = pa.table(
        [added.get(name, rows[name] if name in rows.column_names else None) for name in spec.schema.names],
        schema=spec.schema,
    )
    # Files sorted by system have narrow statistics, so later reads and replacements touch few of them.
    return TableRows(table.sort_by([(name, "ascending") for name in (*spec.partition_by, "system_id")]), replaces)


def _absences(absent: pa.Table, provenance: Provenance) -> pa.Table:
    return _shown_by_upload(absent, provenance).select(ABSENCES.schema.names).cast(ABSENCES.schema)


def _aliases(aliases: pa.Table, provenance: Provenance) -> pa.Table:
    return _shown_by_upload(aliases, provenance).select(ALIASES.schema.names).cast(ALIASES.schema)


def _shown_by_upload(rows: pa.Table, provenance: Provenance) -> pa.Table:
    """`rows` with the `upload_id` of their `ref` and the `batch_id`."""
    ids = {ref: one.upload.upload_id for ref, one in provenance.fetched.items()}
    uploads = pa.array([ids[ref] for ref in rows["ref"].to_pylist()], pa.string())
    batches = pa.repeat(pa.scalar(provenance.batch_id, pa.int64()), rows.num_rows)
    return rows.append_column("upload_id", uploads).append_column("batch_id", batches)


def with_vectors(rows: pa.Table, embedder: Embedder | None, deadline: float) -> pa.Table:
    """Adds missing vectors to `rows`, then those of passages of long texts, newest events first, until about `deadline`
    (of `time.monotonic`).

    Rows that are not reached keep null.
    """
    if embedder is None:
        return rows
    columns = {name: rows[name].to_pylist() for name in ("vector", "space", "passages", "passage_ranges")}
    newest_first = np.argsort(-rows["occurred_at"].cast(pa.int64()).to_numpy(), kind="stable").tolist()
    bare = [row for row in newest_first if columns["vector"][row] is None]
    for start in range(0, len(bare), EMBED_ROWS):
        if time.monotonic() > deadline:
            break
        part = bare[start : start + EMBED_ROWS]
        texts = CutTexts.cut(embedder, rows["text"].take(pa.array(part)).to_pylist())
        for place, (row, vector) in enumerate(zip(part, as_stored(embedder.embed(texts.first)), strict=True)):
            columns["vector"][row], columns["space"][row] = vector, embedder.space
            columns["passage_ranges"][row] = texts.ranges[place] if texts.is_short(place) else None
    for row in newest_first:
        if time.monotonic() > deadline:
            break
        if columns["space"][row] == embedder.space and columns["passage_ranges"][row] is None:
            text = CutTexts.cut(embedder, [rows["text"][row].as_py()])
            [columns["passages"][row]] = text.split(embedder.embed(text.others).astype("<f2"))
            [columns["passage_ranges"][row]] = text.ranges
    for name, values in columns.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))
    return rows
