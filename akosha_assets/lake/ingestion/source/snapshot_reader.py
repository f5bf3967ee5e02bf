"""Reads the changed rows of snapshots from unpacked files: lists tables by precedence, compares rows, converts them.

Runs in the worker. Small snapshots are read whole and several at a time, because a step costs about the same for one
row as for many. A large snapshot is read alone and in batches, so memory grows with its changed rows, not with its
size.
"""

from collections import Counter
from collections.abc import Iterator
from time import perf_counter

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.columns import UTC
from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.ingestion.source.batches import batches, streamed
from akosha_assets.lake.ingestion.source.change_detection import (
    MISSING_DAY,
    SEEN_SCHEMA,
    RowBaseline,
    canonical_texts,
    keys_of,
    md5_low,
    microseconds,
)
from akosha_assets.lake.ingestion.source.conversion import (
    SCHEMA_OF_KIND,
    Origin,
    check_fields,
    decode_texts,
    is_utf8,
    replace_invalid_utf8,
    to_rows,
)
from akosha_assets.lake.ingestion.source.databases import Databases, Opened, Table
from akosha_assets.lake.ingestion.source.event_times import DAY_US, OCCURRED_FROM, Clocks, ulid_times
from akosha_assets.lake.ingestion.source.fingerprints import Fingerprints
from akosha_assets.lake.ingestion.source.json_columns import metadata_sessions
from akosha_assets.lake.ingestion.source.keyed_rows import KeyedRows, check_ids, filter_parts, mark_first_of_each_key
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.queries import RESCUED, Role
from akosha_assets.lake.ingestion.source.snapshots import Piece, RetryIndividually, Snapshots, UploadFiles
from akosha_assets.lake.ingestion.source.source_rows import SourceRows, times_of
from akosha_assets.lake.ingestion.source.tables import SOURCE_TABLES
from akosha_assets.lake.schemas import TABLE_OF_KIND

# Snapshots of up to this many rows are read whole; larger ones are read twice, first for the clock, then in batches.
WHOLE_READ_MAX_ROWS = 50_000

_PRECEDENCE = {spec.name: place for place, spec in enumerate(SOURCE_TABLES)}
_PARTITIONED = frozenset(kind for kind, schema in SCHEMA_OF_KIND.items() if "event_day" in schema.names)


class SnapshotReader:
    """Reads snapshots on one hardened connection; caches fingerprints and schemas between them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits, parser_version: int):
        self._connection, self._limits, self._parser_version = connection, limits, parser_version
        self._databases = Databases(connection, limits)
        self._fingerprints = Fingerprints()

    def read(self, uploads: list[UploadFiles]) -> Snapshots:
        """Returns the changed rows of the uploads. Each upload is compared with the known rows of its own system.

        Several uploads at once must be small; an error then does not say which of them is at fault.

        Raises:
            UploadRejected: a file or row breaks the rules; duckdb's and Arrow's own errors mean damaged files.
            RetryIndividually: several uploads were given and must be read one by one.
        """
        started = perf_counter()
        with self._databases.opened([file for upload in uploads for file in upload.files]) as opened:
            reader = _BatchReader(self._connection, self._limits, self._parser_version, self._fingerprints, uploads)
            reader.result.seconds["open"] = perf_counter() - started
            reader.read(opened)
        return reader.result

    def is_clean(self) -> bool:
        """Whether no uploaded file is still attached and queries still run."""
        return self._databases.is_clean()


class _BatchReader:
    """Reads the tables of some uploads once, into `result`."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        limits: Limits,
        parser_version: int,
        fingerprints: Fingerprints,
        uploads: list[UploadFiles],
    ):
        self._connection, self._limits, self._parser_version = connection, limits, parser_version
        self._fingerprints, self._alone = fingerprints, len(uploads) == 1
        files = [file for upload in uploads for file in upload.files]
        # (files,) int64: the position of each file's upload.
        self._upload_of_file = np.repeat(np.arange(len(uploads)), [len(upload.files) for upload in uploads])
        self._object_keys, self._object_etags = (
            pa.array([file.key for file in files]),
            pa.array([file.etag for file in files]),
        )
        self._snapshots_at = pa.array([upload.snapshot_at for upload in uploads], UTC)
        # (uploads,) int64: UTC microseconds since 1970.
        self._snapshots_us = np.array([microseconds(upload.snapshot_at) for upload in uploads])
        self._known = RowBaseline([upload.known for upload in uploads])
        self.result = Snapshots(np.zeros(len(uploads), np.int64), [Counter() for _ in uploads])

    def read(self, opened: Opened) -> None:
        for file, flaws in opened.flaws.items():
            self.result.flaws[self._upload_of_file[file]].update(flaws)
        tables = sorted(
            opened.tables, key=lambda table: (_PRECEDENCE.get(table.reading.name.lower(), len(_PRECEDENCE)), table.file)
        )
        expected = sum(table.rows for table in tables)
        if not self._alone and expected > min(WHOLE_READ_MAX_ROWS, self._limits.max_rows):
            raise RetryIndividually(f"about {expected} rows")
        if expected > self._limits.max_rows:
            raise UploadRejected("too_many_rows", f"about {expected} rows; at most {self._limits.max_rows} are read")
        started = perf_counter()
        if expected <= WHOLE_READ_MAX_ROWS:
            tables_by_shape: dict[int, list[Table]] = {}
            for table in tables:
                tables_by_shape.setdefault(table.reading.shape, []).append(table)
            parts = [part for alike in tables_by_shape.values() for part in self._parts(alike)]
            ulid = ulid_times(pa.concat_arrays([part.ids for part in parts])) if parts else None
            clocks = self._clocks(parts, ulid)
            self.result.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._add(parts, clocks, ulid)
        else:
            clocks = self._clocks([part for table in tables if table.reading.spec for part in self._clock_parts(table)])
            self.result.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._add_in_batches(tables, clocks)
        self.result.seconds["convert"] = perf_counter() - started

    def _add_in_batches(self, tables: list[Table], clocks: Clocks) -> None:
        """Adds the tables one batch at a time. Of rows with one kind and id, the first table's is kept."""
        earlier_ids: dict[str, list[pa.Array]] = {}
        for table in tables:
            kind, own_ids = table.reading.kind, []
            for part in self._parts([table], distinct=self._has_doubles(table)):
                if kind in earlier_ids:
                    part = self._without(part, pc.is_in(part.ids, value_set=pa.concat_arrays(earlier_ids[kind])))
                if kind != RESCUED:
                    own_ids.append(part.ids)
                self._add([part], clocks)
            if own_ids:
                earlier_ids.setdefault(kind, []).extend(own_ids)

    def _without(self, part: SourceRows, doubled: pa.Array) -> SourceRows:
        """`part` without the rows where `doubled` is true, which are counted."""
        keep = ~doubled.to_numpy(zero_copy_only=False)
        if keep.all():
            return part
        self.result.count(Flaw.ID_DOUBLED, self._uploads_of([part])[~keep])
        return part.filtered(keep)

    def _uploads_of(self, parts: list[SourceRows]) -> np.ndarray:
        """The position of each row's upload: (rows,) int64."""
        uploads: np.ndarray = self._upload_of_file[np.concatenate([part.file for part in parts])]
        return uploads

    def _has_doubles(self, table: Table) -> bool:
        """Whether ids repeat in a table that is read in batches. Counts them: one batch does not show them all."""
        sql = table.reading.select.sql
        doubled = self._connection.execute(
            f"SELECT count(*) - count(DISTINCT c0) FROM ({sql}) WHERE c0 <> ''"  # noqa: S608
        ).fetchall()[0][0]
        self.result.flaws[self._upload_of_file[table.file]][Flaw.ID_DOUBLED] += doubled
        return bool(doubled)

    def _parts(self, alike: list[Table], *, distinct: bool = False) -> Iterator[SourceRows]:
        """The rows of tables of one shape, in batches."""
        reading, rows = alike[0].reading, 0
        for batch, file in batches(self._connection, alike, distinct=distinct):
            rows += batch.num_rows
            if rows > self._limits.max_rows:
                raise UploadRejected(
                    "too_many_rows", f"table {reading.name[:80]} has more than {self._limits.max_rows} rows"
                )
            if batch.num_rows:
                check_fields(
                    batch, reading.select.fields, table=reading.name, max_field_bytes=self._limits.max_field_bytes
                )
                part = SourceRows.of(reading, batch, file)
                self.result.rows_read += np.bincount(self._uploads_of([part]), minlength=len(self.result.flaws))
                yield part

    def _clock_parts(self, table: Table) -> Iterator[SourceRows]:
        """Ids and times of the rows whose id has the length of a ULID; none for a table without local times."""
        if not any(one.role is Role.LOCAL for one in table.reading.select.fields):
            return
        for batch in streamed(self._connection, f"SELECT * FROM ({table.reading.select.sql}) WHERE length(c0) = 26"):  # noqa: S608
            yield SourceRows.of_times(table.reading, batch, np.full(batch.num_rows, table.file))

    def _clocks(self, parts: list[SourceRows], ulid: np.ndarray | None = None) -> Clocks:
        """The clocks of the uploads, as the rows of `parts` prove them."""
        if not parts:
            return Clocks.unproven(self._snapshots_us)
        if ulid is None:
            ulid = ulid_times(pa.concat_arrays([part.ids for part in parts]))
        return Clocks.proven(*times_of(parts), ulid, self._uploads_of(parts), self._snapshots_us)

    def _add(self, parts: list[SourceRows], clocks: Clocks, ulid: np.ndarray | None = None) -> None:
        """Adds the changed rows of the parts and every row they hold to `result`.

        `ulid`: the times in the ids, (rows,) int64 microseconds, where they were already computed.
        """
        parts = [part for part in parts if part.batch.num_rows]
        rows = self._keyed_rows(parts)
        if rows is None:
            return
        if ulid is None or rows.parts is not parts:
            ulid = ulid_times(rows.ids)
        hashes = md5_low(rows.texts)
        comparison = self._known.compare(rows.keys, hashes, self._snapshots_us[rows.uploads])
        days = comparison.known_day
        if comparison.changed.any():
            times = clocks.resolve(*times_of(rows.parts), ulid, rows.uploads)
            event_days = (times.occurred_us // DAY_US).astype(np.int32)
            start = 0
            for part in rows.parts:
                stop = start + len(part.ids)
                if part.reading.kind in _PARTITIONED:
                    own = days[start:stop]
                    days[start:stop] = np.where(own == MISSING_DAY, event_days[start:stop], own)
                changed = comparison.changed[start:stop]
                place = np.flatnonzero(changed) + start
                if len(place):
                    self.result.count(Flaw.TIMESTAMP_OUT_OF_RANGE, rows.uploads[place[times.out_of_range[place]]])
                    derived = {
                        "content_hash": pa.array(hashes[place]),
                        "occurred_at": pa.array(times.occurred_us[place]).view(UTC),
                        "occurred_from": OCCURRED_FROM.take(pa.array(times.occurred_from[place])),
                        "event_day": pa.array(days[place]).view(pa.date32()),
                    }
                    self._convert(part if len(place) == len(part.ids) else part.filtered(changed), derived)
                start = stop
        event_day = pa.array(days, mask=days == MISSING_DAY).view(pa.date32())
        seen = pa.RecordBatch.from_arrays(
            [rows.kinds, rows.ids, pa.array(comparison.standing_hash), event_day], schema=SEEN_SCHEMA
        )
        if self._alone:
            self.result.seen.append(Piece(seen, rows.uploads))
        else:
            order = np.argsort(rows.uploads, kind="stable")
            self.result.seen.append(Piece(seen.take(pa.array(order)), rows.uploads[order]))

    def _keyed_rows(self, parts: list[SourceRows]) -> KeyedRows | None:
        """The rows of the parts with their keys and texts: no key twice, every text UTF-8. None for no rows.

        Raises: UploadRejected for an id that is empty or too long; RetryIndividually where the text of one of several
            uploads is not UTF-8.
        """
        while parts:
            ids = pa.concat_arrays([part.ids for part in parts])
            kinds = pa.concat_arrays([pa.repeat(part.reading.kind, len(part.ids)) for part in parts])
            uploads = self._uploads_of(parts)
            check_ids(ids)
            keys = keys_of(kinds, ids, None if self._alone else uploads)
            if pc.count_distinct(keys).as_py() < len(keys):
                parts = self._first_of_each_key(parts, keys, uploads)
                continue
            texts = pa.concat_arrays([canonical_texts(part.batch, part.reading.hashed) for part in parts])
            if is_utf8(texts):
                return KeyedRows(parts=parts, ids=ids, kinds=kinds, uploads=uploads, keys=keys, texts=texts)
            if not self._alone:
                raise RetryIndividually("text that is not UTF-8")
            self.result.flaws[0][Flaw.TEXT_NOT_UTF8] += 1
            # Ids may become equal by this, so the keys are made again.
            parts = [SourceRows.of(part.reading, replace_invalid_utf8(part.batch), part.file) for part in parts]
        return None

    def _first_of_each_key(self, parts: list[SourceRows], keys: pa.Array, uploads: np.ndarray) -> list[SourceRows]:
        """The parts with the first row of each key; the others are counted."""
        is_first = mark_first_of_each_key(keys)
        self.result.count(Flaw.ID_DOUBLED, uploads[~is_first])
        return filter_parts(parts, is_first)

    def _convert(self, part: SourceRows, derived: dict[str, pa.Array]) -> None:
        """Adds the rows of `part`, all of them changed, as rows of the table of their kind."""
        reading, uploads = part.reading, self._uploads_of([part])
        derived |= {
            "id": part.ids,
            "object_key": self._object_keys.take(pa.array(part.file)),
            "object_etag": self._object_etags.take(pa.array(part.file)),
            "snapshot_at": self._snapshots_at.take(pa.array(uploads)),
        }
        if part.rescued is not None:
            derived |= {"row": part.rescued, "_rescued": pa.nulls(len(part.ids), pa.string())}
        places = {(one.role, one.name): place for place, one in enumerate(reading.select.fields)}
        if reading.spec and reading.spec.first_generation:
            derived["text"] = decode_texts(part.batch.column(places[Role.COLUMN, "text"]))
        if reading.spec and reading.spec.session_in_metadata and (Role.ATTRIBUTE, "metadata") in places:
            sessions = metadata_sessions(part.batch.column(places[Role.ATTRIBUTE, "metadata"]))
            if (own := places.get((Role.COLUMN, "session_id"))) is not None:
                sessions = pc.coalesce(part.batch.column(own), sessions)
            derived["session_id"] = sessions
        converted = to_rows(
            part.batch,
            reading.select.fields,
            Origin(reading.kind, reading.name, self._parser_version),
            derived,
            fingerprints=self._fingerprints,
            flaw=lambda code, places: self.result.count(code, uploads[places]),
        )
        self.result.rows.setdefault(TABLE_OF_KIND[reading.kind], []).append(Piece(converted, uploads))
