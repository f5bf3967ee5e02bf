"""One snapshot from unpacked files to changed rows: reads the tables in order of precedence, compares, converts.

Runs in the worker. Small snapshots are read table by table at once; large ones in batches, so that memory follows the
changed rows and not the snapshot.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import perf_counter

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.databases import Databases, Opened, Table
from akosha_assets.lake.ingestion.differences import (
    MISSING_DAY,
    SEEN_SCHEMA,
    Known,
    content_hashes,
    known_by_kind,
    microseconds,
)
from akosha_assets.lake.ingestion.event_times import MISSING, Anchors, resolve, ulid_times
from akosha_assets.lake.ingestion.fingerprints import Fingerprints
from akosha_assets.lake.ingestion.limits import Limits
from akosha_assets.lake.ingestion.rows import SCHEMA_OF_KIND, checked, decoded, event_days_of, to_rows
from akosha_assets.lake.ingestion.selects import HAS_VECTOR, LOCAL, UTC, VECTOR, select_memories, select_rescued
from akosha_assets.lake.ingestion.source_tables import BOOKKEEPING, SOURCE_TABLES, SourceTable
from akosha_assets.lake.schemas import TABLE_OF_KIND

# Snapshots of up to this many rows are held whole; larger ones are read twice, first for the clock, then in batches.
HELD_ROWS = 50_000
BATCH_ROWS = 32_768
RESCUED = "rescued"

_UNHASHED = frozenset({"fingerprint", VECTOR, HAS_VECTOR})


@dataclass(frozen=True)
class File:
    """One unpacked file and the object it came from."""

    path: Path
    name: str
    key: str
    etag: str


@dataclass
class Snapshot:
    """What one upload gave: changed rows by table address, every row seen, counts."""

    rows: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    seen: list[pa.RecordBatch] = field(default_factory=list)
    rows_read: int = 0
    flaws: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reading:
    table: Table
    kind: str
    query: str
    spec: SourceTable | None
    hashed: tuple[str, ...]


class SnapshotReader:
    """Reads one snapshot after the other on one hardened connection; keeps fingerprints and schemas between them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits, parser_version: int):
        self._connection, self._limits, self._parser_version = connection, limits, parser_version
        self._databases = Databases(connection, limits)
        self._fingerprints = Fingerprints()

    def read(self, files: list[File], snapshot_at: datetime, known: pa.Table) -> Snapshot:
        """Every changed row of the snapshot. Raises: UploadRejected, or duckdb's and Arrow's errors for damaged files."""
        snapshot = Snapshot()
        started = perf_counter()
        with self._databases.opened([(file.path, file.name) for file in files]) as opened:
            snapshot.seconds["open"] = perf_counter() - started
            snapshot.flaws.update(opened.flaws)
            self._read_opened(files, opened, snapshot_at, known, snapshot)
        return snapshot

    def _read_opened(self, files: list[File], opened: Opened, snapshot_at: datetime, known: pa.Table, snapshot: Snapshot) -> None:
        readings = self._plan(opened, snapshot)
        snapshot_us = microseconds(snapshot_at)
        expected = sum(reading.table.rows for reading in readings)
        if expected > self._limits.max_rows:
            raise UploadRejected("too_many_rows", f"about {expected} rows; at most {self._limits.max_rows} are read")

        started = perf_counter()
        held: dict[int, list[pa.RecordBatch]] = {}
        anchors = []
        for place, reading in enumerate(readings):
            if expected <= HELD_ROWS:
                held[place] = list(self._batches(reading.query, reading.table))
                anchors += [_anchors(batch, snapshot_us) for batch in held[place]]
            elif reading.spec and (columns := [name for name in ("id", LOCAL, UTC) if f'"{name}"' in reading.query or name == "id"])[1:]:
                listed = ", ".join(f'"{name}"' for name in columns)
                narrow = self._batches(f"SELECT {listed} FROM ({reading.query})", reading.table)
                anchors += [_anchors(batch, snapshot_us) for batch in narrow]
        clock = Anchors.merged(anchors)
        snapshot.seconds["read"] = perf_counter() - started

        started = perf_counter()
        known_of = known_by_kind(known)
        taken: dict[str, list[pa.Array]] = {}
        for place, reading in enumerate(readings):
            file = files[reading.table.file]
            constants: dict[str, str | int | datetime] = {
                "source_table": reading.table.name,
                "object_key": file.key,
                "object_etag": file.etag,
                "snapshot_at": snapshot_at,
                "parser_version": self._parser_version,
            }
            for batch in held.pop(place, None) or self._batches(self._without_doubles(reading, snapshot), reading.table):
                self._take(batch, reading, clock, snapshot_us, known_of.get(reading.kind), taken, constants, snapshot)
        snapshot.seconds["convert"] = perf_counter() - started

    def _plan(self, opened: Opened, snapshot: Snapshot) -> list[_Reading]:
        tables: dict[str, list[Table]] = {}
        for table in opened.tables:
            tables.setdefault(table.name.lower(), []).append(table)
        readings = []
        for spec in SOURCE_TABLES:
            for table in tables.pop(spec.name, ()):
                query = select_memories(spec, table.relation, list(table.columns), vectors=self._limits.vectors)
                ours = ("id", *(name for name in spec.columns if name not in _UNHASHED), LOCAL, UTC, "attributes", "_rescued")
                readings.append(_Reading(table, spec.kind, query, spec, (*ours, "session_id") if spec.session_in else ours))
        for name, others in tables.items():
            for table in others:
                if name in BOOKKEEPING:
                    snapshot.flaws["bookkeeping_left_out"] += table.rows
                else:
                    query = select_rescued(table.name, table.relation, list(table.columns))
                    readings.append(_Reading(table, RESCUED, query, None, ("id", "row")))
        return readings

    def _batches(self, query: str, table: Table) -> Iterator[pa.RecordBatch]:
        rows = 0
        reader: pa.RecordBatchReader = self._connection.execute(query).to_arrow_reader(BATCH_ROWS)
        for batch in reader:
            rows += batch.num_rows
            if rows > self._limits.max_rows:
                raise UploadRejected("too_many_rows", f"table {table.name[:80]} has more than {self._limits.max_rows} rows")
            if batch.num_rows:
                yield batch

    def _without_doubles(self, reading: _Reading, snapshot: Snapshot) -> str:
        """The query; of rows with one id only the first where a large table, read in batches, has such."""
        doubled = self._connection.execute(f"SELECT count(*) - count(DISTINCT id) FROM ({reading.query})").fetchall()[0][0]
        if not doubled:
            return reading.query
        snapshot.flaws["id_doubled"] += doubled
        return f"SELECT DISTINCT ON (id) * FROM ({reading.query})"

    def _take(
        self,
        batch: pa.RecordBatch,
        reading: _Reading,
        clock: Anchors,
        snapshot_us: int,
        known: Known | None,
        taken: dict[str, list[pa.Array]],
        constants: dict[str, str | int | datetime],
        snapshot: Snapshot,
    ) -> None:
        flaws = snapshot.flaws
        snapshot.rows_read += batch.num_rows
        batch = checked(batch, table=reading.table.name, max_field_bytes=self._limits.max_field_bytes, flaws=flaws)
        if reading.spec and reading.spec.encoded_text:
            batch = decoded(batch)
        batch = _first_of_each_id(batch, taken.setdefault(reading.kind, []), flaws)
        if not batch.num_rows:
            return
        hashes = content_hashes(batch, reading.hashed)
        ids = batch.column("id")
        days = np.full(batch.num_rows, MISSING_DAY, dtype=np.int32)
        standing, changed = hashes, np.ones(batch.num_rows, bool)
        if known is not None:
            comparison = known.compare(ids, hashes, snapshot_us)
            changed, days, standing = comparison.changed, comparison.known_day.astype(np.int32), comparison.standing_hash
        if changed.any():
            fresh = batch if changed.all() else batch.filter(pa.array(changed))
            times = None
            fresh_days = days[changed]
            if reading.kind != RESCUED:
                times = resolve(_times(fresh, LOCAL), _times(fresh, UTC), ulid_times(fresh.column("id")), clock, snapshot_us)
                if times.out_of_range:
                    flaws["timestamp_out_of_range"] += times.out_of_range
                if "event_day" in SCHEMA_OF_KIND[reading.kind].names:
                    fresh_days = np.where(fresh_days == MISSING_DAY, event_days_of(times), fresh_days).astype(np.int32)
                    days[changed] = fresh_days
            fresh = fresh.append_column("content_hash", pa.array(hashes[changed]))
            converted = to_rows(
                fresh, reading.kind, times=times, event_days=fresh_days, constants=constants, fingerprints=self._fingerprints, flaws=flaws
            )
            snapshot.rows.setdefault(TABLE_OF_KIND[reading.kind], []).append(converted)
        event_days = pa.array(days, mask=days == MISSING_DAY).view(pa.date32())
        snapshot.seen.append(
            pa.RecordBatch.from_arrays([pa.repeat(reading.kind, len(ids)), ids, pa.array(standing), event_days], schema=SEEN_SCHEMA)
        )


def _first_of_each_id(batch: pa.RecordBatch, taken: list[pa.Array], flaws: Counter[str]) -> pa.RecordBatch:
    ids = batch.column("id")
    keep = np.ones(len(ids), bool)
    if pc.count_distinct(ids).as_py() < len(ids):
        first = np.unique(np.asarray(ids.dictionary_encode().indices), return_index=True)[1]
        keep[:] = False
        keep[first] = True
        flaws["id_doubled"] += len(ids) - len(first)
    if taken:
        elsewhere = pc.is_in(ids, value_set=pa.concat_arrays(taken)).to_numpy(zero_copy_only=False)
        if elsewhere.any():
            flaws["id_in_two_tables"] += int(np.count_nonzero(elsewhere & keep))
            keep &= ~elsewhere
    if not keep.all():
        batch = batch.filter(pa.array(keep))
    taken.append(batch.column("id"))
    return batch


def _times(batch: pa.RecordBatch, name: str) -> np.ndarray:
    if name not in batch.schema.names:
        return np.full(batch.num_rows, MISSING, dtype=np.int64)
    return batch.column(name).cast(pa.timestamp("us", tz=batch.column(name).type.tz)).cast(pa.int64()).fill_null(MISSING).to_numpy()


def _anchors(batch: pa.RecordBatch, snapshot_us: int) -> Anchors:
    local, utc = _times(batch, LOCAL), _times(batch, UTC)
    if "id" not in batch.schema.names or LOCAL not in batch.schema.names:
        return Anchors(np.empty(0, np.int64), np.empty(0, np.int64))
    ulid = ulid_times(batch.column("id"))
    return Anchors.merged([Anchors.proven(local, ulid, snapshot_us), Anchors.proven(local, utc, snapshot_us)])
