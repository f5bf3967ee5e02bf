"""Snapshots from unpacked files to changed rows: reads the tables in order of precedence, compares, converts.

Runs in the worker. Small snapshots are read whole and several together, since what a step costs hardly depends on the
number of rows; large ones are read alone and in batches, so that memory follows the changed rows and not the snapshot.
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
    ID_MAX_BYTES,
    SCHEMA_OF_KIND,
    Origin,
    check_fields,
    decoded,
    is_utf8,
    mended,
    to_rows,
)
from akosha_assets.lake.ingestion.source.databases import Databases, Opened, Table
from akosha_assets.lake.ingestion.source.event_times import DAY_US, OCCURRED_FROM, Clocks, ulid_times
from akosha_assets.lake.ingestion.source.fingerprints import Fingerprints
from akosha_assets.lake.ingestion.source.json_columns import metadata_sessions
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.queries import RESCUED, Role
from akosha_assets.lake.ingestion.source.snapshots import Piece, RetryIndividually, Snapshots, UploadFiles
from akosha_assets.lake.ingestion.source.source_rows import SourceRows, times_of
from akosha_assets.lake.ingestion.source.tables import SOURCE_TABLES
from akosha_assets.lake.schemas import TABLE_OF_KIND

# Snapshots of up to this many rows are held whole; larger ones are read twice, first for the clock, then in batches.
HELD_ROWS = 50_000

_PRECEDENCE = {spec.name: place for place, spec in enumerate(SOURCE_TABLES)}
_PARTITIONED = frozenset(kind for kind, schema in SCHEMA_OF_KIND.items() if "event_day" in schema.names)


class SnapshotReader:
    """Reads snapshots on one hardened connection; keeps fingerprints and schemas between them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits, parser_version: int):
        self._connection, self._limits, self._parser_version = connection, limits, parser_version
        self._databases = Databases(connection, limits)
        self._fingerprints = Fingerprints()

    def read(self, uploads: list[UploadFiles]) -> Snapshots:
        """Every changed row of the uploads; each is compared with what is known of its own system alone.

        Several together must be small; whatever is raised then says nothing of any one of them.

        Raises: UploadRejected, or duckdb's and Arrow's errors for damaged files; RetryIndividually for several uploads
            only.
        """
        started = perf_counter()
        with self._databases.opened([file for upload in uploads for file in upload.files]) as opened:
            together = _BatchReader(self._connection, self._limits, self._parser_version, self._fingerprints, uploads)
            together.result.seconds["open"] = perf_counter() - started
            together.read(opened)
        return together.result

    def is_clean(self) -> bool:
        """Whether nothing of an upload is left attached and queries still run."""
        return self._databases.is_clean()


class _BatchReader:
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
        self._upload_of_file = np.repeat(np.arange(len(uploads)), [len(upload.files) for upload in uploads])
        self._object_keys, self._object_etags = (
            pa.array([file.key for file in files]),
            pa.array([file.etag for file in files]),
        )
        self._snapshots_at = pa.array([upload.snapshot_at for upload in uploads], UTC)
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
        if not self._alone and expected > min(HELD_ROWS, self._limits.max_rows):
            raise RetryIndividually(f"about {expected} rows")
        if expected > self._limits.max_rows:
            raise UploadRejected("too_many_rows", f"about {expected} rows; at most {self._limits.max_rows} are read")
        started = perf_counter()
        if expected <= HELD_ROWS:
            alike: dict[int, list[Table]] = {}
            for table in tables:
                alike.setdefault(table.reading.shape, []).append(table)
            parts = [part for same in alike.values() for part in self._parts(same)]
            ulid = ulid_times(pa.concat_arrays([part.ids for part in parts])) if parts else None
            clocks = self._clocks(parts, ulid)
            self.result.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._take(parts, clocks, ulid)
        else:
            clocks = self._clocks([part for table in tables if table.reading.spec for part in self._clock_parts(table)])
            self.result.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._take_in_batches(tables, clocks)
        self.result.seconds["convert"] = perf_counter() - started

    def _take_in_batches(self, tables: list[Table], clocks: Clocks) -> None:
        earlier: dict[str, list[pa.Array]] = {}
        for table in tables:
            kind, taken = table.reading.kind, []
            for part in self._parts([table], distinct=self._has_doubles(table)):
                if kind in earlier:
                    part = self._without(part, pc.is_in(part.ids, value_set=pa.concat_arrays(earlier[kind])))
                if kind != RESCUED:
                    taken.append(part.ids)
                self._take([part], clocks)
            earlier.setdefault(kind, []).extend(taken)
            if not earlier[kind]:
                del earlier[kind]

    def _without(self, part: SourceRows, doubled: pa.Array) -> SourceRows:
        keep = ~doubled.to_numpy(zero_copy_only=False)
        if keep.all():
            return part
        self.result.count("id_doubled", self._uploads_of([part])[~keep])
        return part.filtered(keep)

    def _uploads_of(self, parts: list[SourceRows]) -> np.ndarray:
        return self._upload_of_file[np.concatenate([part.file for part in parts])]

    def _has_doubles(self, table: Table) -> bool:
        """Counts the doubled ids of a table that is read in batches, where a batch does not show them."""
        sql = table.reading.select.sql
        doubled = self._connection.execute(
            f"SELECT count(*) - count(DISTINCT c0) FROM ({sql}) WHERE c0 <> ''"
        ).fetchall()[0][0]
        self.result.flaws[self._upload_of_file[table.file]]["id_doubled"] += doubled
        return bool(doubled)

    def _parts(self, alike: list[Table], *, distinct: bool = False) -> Iterator[SourceRows]:
        """The rows of tables of one shape."""
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
        """Ids and times alone, of tables whose ids may carry the time or whose metadata does."""
        if not any(one.role is Role.LOCAL for one in table.reading.select.fields):
            return
        for batch in streamed(self._connection, f"SELECT * FROM ({table.reading.select.sql}) WHERE length(c0) = 26"):
            yield SourceRows.of_times(table.reading, batch, np.full(batch.num_rows, table.file))

    def _clocks(self, parts: list[SourceRows], ulid: np.ndarray | None = None) -> Clocks:
        """The clocks of the uploads, which `parts` prove."""
        if not parts:
            return Clocks.unproven(self._snapshots_us)
        if ulid is None:
            ulid = ulid_times(pa.concat_arrays([part.ids for part in parts]))
        return Clocks.proven(*times_of(parts), ulid, self._uploads_of(parts), self._snapshots_us)

    def _take(self, parts: list[SourceRows], clocks: Clocks, ulid: np.ndarray | None = None) -> None:
        """Compares the parts with what is known, keeps what changed and notes what was seen. `ulid`: the times in their
        ids, if at hand.
        """
        parts = [part for part in parts if part.batch.num_rows]
        if not parts:
            return
        lengths = [len(part.ids) for part in parts]
        ids = pa.concat_arrays([part.ids for part in parts])
        kinds = pa.concat_arrays(
            [pa.repeat(part.reading.kind, length) for part, length in zip(parts, lengths, strict=True)]
        )
        uploads = self._uploads_of(parts)
        shortest, longest = pc.min_max(pc.binary_length(ids)).as_py().values()
        if not shortest:
            raise UploadRejected("row_without_id", "a row has an empty id")
        if longest > ID_MAX_BYTES:
            raise UploadRejected("field_too_large", f"an id of {longest} bytes; at most {ID_MAX_BYTES} are read")
        keys = keys_of(kinds, ids, None if self._alone else uploads)
        if pc.count_distinct(keys).as_py() < len(keys):
            first = np.unique(np.asarray(keys.dictionary_encode().indices), return_index=True)[1]
            doubled = np.ones(len(keys), bool)
            doubled[first] = False
            self.result.count("id_doubled", uploads[doubled])
            pieces = np.split(~doubled, np.cumsum(lengths)[:-1])
            self._take([part.filtered(keep) for part, keep in zip(parts, pieces, strict=True)], clocks)
            return

        texts = pa.concat_arrays([canonical_texts(part.batch, part.reading.hashed) for part in parts])
        if not is_utf8(texts):
            if not self._alone:
                raise RetryIndividually("text that is not UTF-8")
            self.result.flaws[0]["text_not_utf8"] += 1
            self._take([SourceRows.of(part.reading, mended(part.batch), part.file) for part in parts], clocks)
            return
        hashes = md5_low(texts)
        comparison = self._known.compare(keys, hashes, self._snapshots_us[uploads])
        days = comparison.known_day
        if comparison.changed.any():
            times = clocks.resolve(*times_of(parts), ulid_times(ids) if ulid is None else ulid, uploads)
            event_days = (times.occurred_us // DAY_US).astype(np.int32)
            start = 0
            for part, length in zip(parts, lengths, strict=True):
                stop = start + length
                changed = comparison.changed[start:stop]
                if part.reading.kind in _PARTITIONED:
                    days[start:stop] = np.where(
                        days[start:stop] == MISSING_DAY, event_days[start:stop], days[start:stop]
                    )
                if changed.any():
                    place = np.flatnonzero(changed) + start
                    self.result.count("timestamp_out_of_range", uploads[place[times.out_of_range[place]]])
                    derived = {
                        "content_hash": pa.array(hashes[place]),
                        "occurred_at": pa.array(times.occurred_us[place]).view(UTC),
                        "occurred_from": OCCURRED_FROM.take(pa.array(times.occurred_from[place])),
                        "event_day": pa.array(days[place]).view(pa.date32()),
                    }
                    self._convert(part if len(place) == length else part.filtered(changed), derived)
                start = stop
        event_day = pa.array(days, mask=days == MISSING_DAY).view(pa.date32())
        seen = pa.RecordBatch.from_arrays(
            [kinds, ids, pa.array(comparison.standing_hash), event_day], schema=SEEN_SCHEMA
        )
        if self._alone:
            self.result.seen.append(Piece(seen, uploads))
        else:
            order = np.argsort(uploads, kind="stable")
            self.result.seen.append(Piece(seen.take(pa.array(order)), uploads[order]))

    def _convert(self, part: SourceRows, derived: dict[str, pa.Array]) -> None:
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
            derived["text"] = decoded(part.batch.column(places[Role.COLUMN, "text"]))
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
