"""Reads the rows of snapshots from unpacked files, table by table in order of precedence.

Runs in the worker. Small snapshots are read completely and several at a time, because a step costs about the same for
one row as for many. A large snapshot is read alone and in batches, so memory grows with its changed rows, not with its
size. `changed_rows.py` compares and converts the rows.
"""

from collections.abc import Iterator
from time import perf_counter

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.ingestion.source.batches import batches, streamed
from akosha_assets.lake.ingestion.source.changed_rows import ChangedRows
from akosha_assets.lake.ingestion.source.conversion import (
    SCHEMA_OF_KIND,
    check_fields,
)
from akosha_assets.lake.ingestion.source.databases import Databases, Opened, Table
from akosha_assets.lake.ingestion.source.event_times import Clocks
from akosha_assets.lake.ingestion.source.fingerprints import Fingerprints
from akosha_assets.lake.ingestion.source.id_times import LENGTHS, IdTimes, id_times
from akosha_assets.lake.ingestion.source.limits import Limits
from akosha_assets.lake.ingestion.source.list_texts import parse_lists
from akosha_assets.lake.ingestion.source.queries import RESCUED, Role
from akosha_assets.lake.ingestion.source.snapshots import RetryIndividually, Snapshots, UploadFiles
from akosha_assets.lake.ingestion.source.source_rows import SourceRows, times_of
from akosha_assets.lake.ingestion.source.tables import SOURCE_TABLES

# Snapshots of up to this many rows are read at once; larger ones are read twice, first for the clock, then in batches.
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

        Several uploads must be small in total; an error then does not show which of them is at fault.

        Raises:
            UploadRejected: a file or row is invalid. Errors of DuckDB and Arrow mean damaged files.
            RetryIndividually: several uploads were passed and must be read one by one.
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
        self._connection, self._limits, self._is_single = connection, limits, len(uploads) == 1
        self._changed = ChangedRows(uploads, parser_version, fingerprints)
        self.result = self._changed.result

    def read(self, opened: Opened) -> None:
        for file, flaws in opened.flaws.items():
            self.result.flaws[self._changed.upload_of_file[file]].update(flaws)
        tables = sorted(
            opened.tables, key=lambda table: (_PRECEDENCE.get(table.reading.name.lower(), len(_PRECEDENCE)), table.file)
        )
        expected = sum(table.rows for table in tables)
        if not self._is_single and expected > min(WHOLE_READ_MAX_ROWS, self._limits.max_rows):
            raise RetryIndividually(f"about {expected} rows")
        if expected > self._limits.max_rows:
            raise UploadRejected("too_many_rows", f"about {expected} rows; at most {self._limits.max_rows} are read")
        started = perf_counter()
        if expected <= WHOLE_READ_MAX_ROWS:
            tables_by_shape: dict[int, list[Table]] = {}
            for table in tables:
                tables_by_shape.setdefault(table.reading.shape, []).append(table)
            parts = [part for alike in tables_by_shape.values() for part in self._parts(alike)]
            times_of_ids = id_times(pa.concat_arrays([part.ids for part in parts])) if parts else None
            clocks = self._clocks(parts, times_of_ids)
            self.result.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._changed.add(parts, clocks, times_of_ids)
        else:
            clocks = self._clocks([part for table in tables if table.reading.spec for part in self._clock_parts(table)])
            self.result.seconds["read"] = perf_counter() - started
            started = perf_counter()
            self._add_in_batches(tables, clocks)
        self.result.seconds["convert"] = perf_counter() - started

    def _add_in_batches(self, tables: list[Table], clocks: Clocks) -> None:
        """Adds the tables one batch at a time. Of rows with the same kind and id, only the first table's is added."""
        earlier_ids: dict[str, list[pa.Array]] = {}
        for table in tables:
            kind, own_ids = table.reading.kind, []
            for part in self._parts([table], distinct=self._has_doubles(table)):
                if kind in earlier_ids:
                    part = self._without(part, pc.is_in(part.ids, value_set=pa.concat_arrays(earlier_ids[kind])))
                if kind != RESCUED:
                    own_ids.append(part.ids)
                self._changed.add([part], clocks)
            if own_ids:
                earlier_ids.setdefault(kind, []).extend(own_ids)

    def _without(self, part: SourceRows, doubled: pa.Array) -> SourceRows:
        """Returns `part` without the rows where `doubled` is true, and counts those."""
        keep = ~doubled.to_numpy(zero_copy_only=False)
        if keep.all():
            return part
        self.result.count(Flaw.ID_DOUBLED, self._changed.uploads_of([part])[~keep])
        return part.filtered(keep)

    def _has_doubles(self, table: Table) -> bool:
        """Whether ids repeat in a table that is read in batches; counts them, because one batch does not show all."""
        sql = table.reading.select.sql
        doubled = self._connection.execute(
            f"SELECT count(*) - count(DISTINCT c0) FROM ({sql}) WHERE c0 <> ''"  # noqa: S608
        ).fetchall()[0][0]
        self.result.flaws[self._changed.upload_of_file[table.file]][Flaw.ID_DOUBLED] += doubled
        return bool(doubled)

    def _parts(self, alike: list[Table], *, distinct: bool = False) -> Iterator[SourceRows]:
        """Yields the rows of tables of one shape, in batches."""
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
                batch, replaced = parse_lists(batch, reading.select.fields)
                part = SourceRows.of(reading, batch, file)
                self.result.rows_read += np.bincount(self._changed.uploads_of([part]), minlength=len(self.result.flaws))
                self.result.count(Flaw.TEXT_NOT_UTF8, self._changed.uploads_of([part])[replaced])
                yield part

    def _clock_parts(self, table: Table) -> Iterator[SourceRows]:
        """Yields ids and times of rows whose id may have a time; nothing for a table without local times."""
        if not any(one.role is Role.LOCAL for one in table.reading.select.fields):
            return
        sql = f"SELECT * FROM ({table.reading.select.sql}) WHERE length(c0) IN {LENGTHS}"  # noqa: S608
        for batch in streamed(self._connection, sql):
            yield SourceRows.of_times(table.reading, batch, np.full(batch.num_rows, table.file))

    def _clocks(self, parts: list[SourceRows], times_of_ids: IdTimes | None = None) -> Clocks:
        """Returns the clocks of the uploads, derived from the rows of `parts`."""
        if not parts:
            return Clocks.unproven(self._changed.latest_us)
        if times_of_ids is None:
            times_of_ids = id_times(pa.concat_arrays([part.ids for part in parts]))
        return Clocks.proven(*times_of(parts), times_of_ids, self._changed.uploads_of(parts), self._changed.latest_us)
