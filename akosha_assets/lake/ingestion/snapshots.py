"""One snapshot from unpacked files to changed rows: reads the tables in order of precedence, compares, converts.

Runs in the worker. Small snapshots are read whole and compared at once; large ones in batches, so that memory follows
the changed rows and not the snapshot.
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

from akosha_assets.lake.columns import UTC
from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.databases import Databases, Opened, Table
from akosha_assets.lake.ingestion.differences import MISSING_DAY, SEEN_SCHEMA, Known, canonical_texts, keys_of, md5_low, microseconds
from akosha_assets.lake.ingestion.event_times import DAY_US, MISSING, OCCURRED_FROM, Anchors, resolve, ulid_times
from akosha_assets.lake.ingestion.fingerprints import Fingerprints
from akosha_assets.lake.ingestion.json_texts import metadata_sessions, metadata_times, objects
from akosha_assets.lake.ingestion.limits import Limits
from akosha_assets.lake.ingestion.rows import ID_MAX_BYTES, SCHEMA_OF_KIND, Origin, check_fields, decoded, is_utf8, mended, to_rows
from akosha_assets.lake.ingestion.selects import RESCUED, Role
from akosha_assets.lake.ingestion.source_tables import SOURCE_TABLES
from akosha_assets.lake.ingestion.table_batches import batches, streamed
from akosha_assets.lake.schemas import TABLE_OF_KIND

# Snapshots of up to this many rows are held whole; larger ones are read twice, first for the clock, then in batches.
HELD_ROWS = 50_000

_PRECEDENCE = {spec.name: place for place, spec in enumerate(SOURCE_TABLES)}
_PARTITIONED = frozenset(kind for kind, schema in SCHEMA_OF_KIND.items() if "event_day" in schema.names)


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


@dataclass
class _Part:
    """A batch of one table with what is derived from it."""

    table: Table
    batch: pa.RecordBatch
    ids: pa.Array
    local: np.ndarray
    utc: np.ndarray
    rescued: pa.Array | None = None

    def filtered(self, keep: np.ndarray) -> "_Part":
        mask = pa.array(keep)
        rescued = None if self.rescued is None else self.rescued.filter(mask)
        return _Part(self.table, self.batch.filter(mask), self.ids.filter(mask), self.local[keep], self.utc[keep], rescued)


class SnapshotReader:
    """Reads one snapshot after the other on one hardened connection; keeps fingerprints and schemas between them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits, parser_version: int):
        self._connection, self._limits, self._parser_version = connection, limits, parser_version
        self._databases = Databases(connection, limits)
        self._fingerprints = Fingerprints()

    def read(self, files: list[File], snapshot_at: datetime, known: pa.Table) -> Snapshot:
        """Every changed row of the snapshot. Raises: UploadRejected, or duckdb's and Arrow's errors for damaged files."""
        started = perf_counter()
        with self._databases.opened([(file.path, file.name) for file in files]) as opened:
            one = _OneSnapshot(self._connection, self._limits, self._parser_version, self._fingerprints, files, snapshot_at, known)
            one.snapshot.seconds["open"] = perf_counter() - started
            one.read(opened)
        return one.snapshot


class _OneSnapshot:
    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        limits: Limits,
        parser_version: int,
        fingerprints: Fingerprints,
        files: list[File],
        snapshot_at: datetime,
        known: pa.Table,
    ):
        self._connection, self._limits, self._parser_version = connection, limits, parser_version
        self._fingerprints, self._files, self._snapshot_at = fingerprints, files, snapshot_at
        self._known = Known(known)
        self._snapshot_us = microseconds(snapshot_at)
        self.snapshot = Snapshot()

    def read(self, opened: Opened) -> None:
        self.snapshot.flaws.update(opened.flaws)
        tables = sorted(opened.tables, key=lambda table: _PRECEDENCE.get(table.reading.name.lower(), len(_PRECEDENCE)))
        expected = sum(table.rows for table in tables)
        if expected > self._limits.max_rows:
            raise UploadRejected("too_many_rows", f"about {expected} rows; at most {self._limits.max_rows} are read")
        started = perf_counter()
        if expected <= HELD_ROWS:
            parts = [part for table in tables for part in self._parts(table)]
            ulid = ulid_times(pa.concat_arrays([part.ids for part in parts])) if parts else None
            clock = Anchors.merged([self._anchors(parts, ulid)])
            self.snapshot.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._take(parts, clock, ulid)
        else:
            clock = Anchors.merged([self._anchors([part]) for table in tables if table.reading.spec for part in self._clock_parts(table)])
            self.snapshot.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._take_in_batches(tables, clock)
        self.snapshot.seconds["convert"] = perf_counter() - started

    def _take_in_batches(self, tables: list[Table], clock: Anchors) -> None:
        earlier: dict[str, list[pa.Array]] = {}
        for table in tables:
            kind, taken = table.reading.kind, []
            for part in self._parts(table, distinct=self._has_doubles(table)):
                if kind in earlier:
                    part = self._without(part, pc.is_in(part.ids, value_set=pa.concat_arrays(earlier[kind])))
                if kind != RESCUED:
                    taken.append(part.ids)
                self._take([part], clock)
            earlier.setdefault(kind, []).extend(taken)
            if not earlier[kind]:
                del earlier[kind]

    def _without(self, part: _Part, doubled: pa.Array) -> _Part:
        keep = ~doubled.to_numpy(zero_copy_only=False)
        if keep.all():
            return part
        self.snapshot.flaws["id_doubled"] += int(np.count_nonzero(~keep))
        return part.filtered(keep)

    def _has_doubles(self, table: Table) -> bool:
        """Counts the doubled ids of a table that is read in batches, where a batch does not show them."""
        sql = table.reading.select.sql
        doubled = self._connection.execute(f"SELECT count(*) - count(DISTINCT c0) FROM ({sql}) WHERE c0 <> ''").fetchall()[0][0]
        self.snapshot.flaws["id_doubled"] += doubled
        return bool(doubled)

    def _parts(self, table: Table, *, distinct: bool = False) -> Iterator[_Part]:
        reading = table.reading
        fields, rows = reading.select.fields, 0
        for batch in batches(self._connection, reading, rows=table.rows, distinct=distinct):
            rows += batch.num_rows
            if rows > self._limits.max_rows:
                raise UploadRejected("too_many_rows", f"table {reading.name[:80]} has more than {self._limits.max_rows} rows")
            if batch.num_rows:
                self.snapshot.rows_read += batch.num_rows
                check_fields(batch, fields, table=reading.name, max_field_bytes=self._limits.max_field_bytes)
                yield self._part(table, batch)

    def _part(self, table: Table, batch: pa.RecordBatch) -> _Part:
        reading = table.reading
        ids, rescued = batch.column(0), None
        if reading.spec is None:
            unknown = [(field, batch.column(place)) for place, field in enumerate(reading.select.fields) if field.role is Role.UNKNOWN]
            rescued = objects(unknown, batch.num_rows).fill_null("{}")
            hashes = pa.array([f"{number & (2**64 - 1):016x}" for number in md5_low(rescued).tolist()])
            own = pc.if_else(pc.equal(ids.fill_null(""), ""), hashes, ids)
            ids = pc.binary_join_element_wise(reading.name, own, "/")
        elif ids.null_count:
            raise UploadRejected("row_without_id", f"table {reading.name} has a row whose id is null")
        return _Part(table, batch, ids, *self._times(table, batch), rescued)

    def _times(self, table: Table, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        found: dict[Role, np.ndarray] = {}
        for place, one in enumerate(table.reading.select.fields):
            if one.role is Role.LOCAL or one.role is Role.UTC:
                column = batch.column(place).view(pa.int64())
                times = (column.fill_null(MISSING) if column.null_count else column).to_numpy(zero_copy_only=False)
                found[one.role] = np.where(found[one.role] == MISSING, times, found[one.role]) if one.role in found else times
            elif one.name == "metadata" and table.reading.spec and table.reading.spec.first_generation:
                found[Role.UTC] = metadata_times(batch.column(place))
        local, utc = found.get(Role.LOCAL), found.get(Role.UTC)
        nothing = np.full(batch.num_rows, MISSING)
        return nothing if local is None else local, nothing if utc is None else utc

    def _clock_parts(self, table: Table) -> Iterator[_Part]:
        """Ids and times alone, of tables whose ids may carry the time or whose metadata does."""
        fields = table.reading.select.fields
        if not any(one.role is Role.LOCAL for one in fields):
            return
        for batch in streamed(self._connection, f"SELECT * FROM ({table.reading.select.sql}) WHERE length(c0) = 26"):
            yield _Part(table, batch, batch.column(0), *self._times(table, batch))

    def _anchors(self, parts: list[_Part], ulid: np.ndarray | None = None) -> Anchors:
        if not parts:
            return Anchors(np.empty(0, np.int64), np.empty(0, np.int64))
        local = np.concatenate([part.local for part in parts])
        utc = np.concatenate([part.utc for part in parts])
        if ulid is None:
            ulid = ulid_times(pa.concat_arrays([part.ids for part in parts]))
        return Anchors.merged([Anchors.proven(local, ulid, self._snapshot_us), Anchors.proven(local, utc, self._snapshot_us)])

    def _take(self, parts: list[_Part], clock: Anchors, ulid: np.ndarray | None = None) -> None:
        """Compares the parts with what is known, keeps what changed and notes what was seen. `ulid`: the times in their ids, if at hand."""
        parts = [part for part in parts if part.batch.num_rows]
        if not parts:
            return
        lengths = [len(part.ids) for part in parts]
        ids = pa.concat_arrays([part.ids for part in parts])
        kinds = pa.concat_arrays([pa.repeat(part.table.reading.kind, length) for part, length in zip(parts, lengths, strict=True)])
        shortest, longest = pc.min_max(pc.binary_length(ids)).as_py().values()
        if not shortest:
            raise UploadRejected("row_without_id", "a row has an empty id")
        if longest > ID_MAX_BYTES:
            raise UploadRejected("field_too_large", f"an id of {longest} bytes; at most {ID_MAX_BYTES} are read")
        keys = keys_of(kinds, ids)
        if pc.count_distinct(keys).as_py() < len(keys):
            first = np.unique(np.asarray(keys.dictionary_encode().indices), return_index=True)[1]
            doubled = np.ones(len(keys), bool)
            doubled[first] = False
            self.snapshot.flaws["id_doubled"] += int(np.count_nonzero(doubled))
            pieces = np.split(~doubled, np.cumsum(lengths)[:-1])
            self._take([part.filtered(keep) for part, keep in zip(parts, pieces, strict=True)], clock)
            return

        texts = pa.concat_arrays([canonical_texts(part.batch, part.table.reading.hashed) for part in parts])
        if not is_utf8(texts):
            self.snapshot.flaws["text_not_utf8"] += 1
            self._take([self._part(part.table, mended(part.batch)) for part in parts], clock)
            return
        hashes = md5_low(texts)
        comparison = self._known.compare(keys, hashes, self._snapshot_us)
        days = comparison.known_day
        if comparison.changed.any():
            local, utc = np.concatenate([part.local for part in parts]), np.concatenate([part.utc for part in parts])
            times = resolve(local, utc, ulid_times(ids) if ulid is None else ulid, clock, self._snapshot_us)
            event_days = (times.occurred_us // DAY_US).astype(np.int32)
            start = 0
            for part, length in zip(parts, lengths, strict=True):
                stop = start + length
                changed = comparison.changed[start:stop]
                if part.table.reading.kind in _PARTITIONED:
                    days[start:stop] = np.where(days[start:stop] == MISSING_DAY, event_days[start:stop], days[start:stop])
                if changed.any():
                    place = np.flatnonzero(changed) + start
                    if out_of_range := int(np.count_nonzero(times.out_of_range[place])):
                        self.snapshot.flaws["timestamp_out_of_range"] += out_of_range
                    derived = {
                        "content_hash": pa.array(hashes[place]),
                        "occurred_at": pa.array(times.occurred_us[place]).view(UTC),
                        "occurred_from": OCCURRED_FROM.take(pa.array(times.occurred_from[place])),
                        "event_day": pa.array(days[place]).view(pa.date32()),
                    }
                    self._convert(part if len(place) == length else part.filtered(changed), derived)
                start = stop
        event_day = pa.array(days, mask=days == MISSING_DAY).view(pa.date32())
        self.snapshot.seen.append(
            pa.RecordBatch.from_arrays([kinds, ids, pa.array(comparison.standing_hash), event_day], schema=SEEN_SCHEMA)
        )

    def _convert(self, part: _Part, derived: dict[str, pa.Array]) -> None:
        reading, file = part.table.reading, self._files[part.table.file]
        derived["id"] = part.ids
        if part.rescued is not None:
            derived |= {"row": part.rescued, "_rescued": pa.nulls(len(part.ids), pa.string())}
        places = {(one.role, one.name): place for place, one in enumerate(reading.select.fields)}
        if reading.spec and reading.spec.first_generation:
            derived["text"] = decoded(part.batch.column(places[Role.COLUMN, "text"]))
        if reading.spec and reading.spec.session_in_metadata and (Role.ATTRIBUTE, "metadata") in places:
            sessions = metadata_sessions(part.batch.column(places[Role.ATTRIBUTE, "metadata"]))
            if (own := places.get((Role.COLUMN, "session_id"))) is not None:
                sessions = pc.coalesce(part.batch.column(own), sessions)
            derived["session_id"] = sessions
        origin = Origin(reading.kind, reading.name, file.key, file.etag, self._snapshot_at, self._parser_version)
        converted = to_rows(part.batch, reading.select.fields, origin, derived, fingerprints=self._fingerprints, flaws=self.snapshot.flaws)
        self.snapshot.rows.setdefault(TABLE_OF_KIND[reading.kind], []).append(converted)
