"""Reads data files of a tier table into parts, with DuckDB.

Knows the columns of each tier that serving needs. `tier_replica.py` decides which files are read, and when.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from akosha_assets.lake.errors import DataFileUnreadable, StoreUnavailable
from akosha_assets.lake.row_rules import TIME_MAX, TIME_MIN, repair
from akosha_assets.lake.serving.parts.part import CODED, Categories, Part, concatenate_parts
from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.replica.row_conversion import RowConversion, RowsSetAside
from akosha_assets.lake.serving.table_log.files import UNKNOWN_ROWS, DataFile, LocalFiles
from akosha_assets.lake.serving.vectors.decoding import PassageColumns, coverage_of, decode_vectors
from akosha_assets.lake.serving.vectors.vector_set import Coverage

BATCH_ROWS = 65_536
KEPT_CONNECTION_ROWS = 20_000
# Batches of a file that is read row by row.
FEW_ROWS = 1024
PAYLOAD = ("id", "text", "is_summary", "session_id", "tags", "occurred_from", "upload_id")


@dataclass(frozen=True)
class TierColumns:
    """SQL expressions for the values that serving needs from a tier's table."""

    text: str
    is_summary: str
    vector: str
    scale: str
    form: str
    # Columns, some of which change whenever a row is rewritten.
    written: str
    # Bytes of the whole text.
    text_bytes: str
    # What a text is that was never cut into passages.
    uncut: Coverage


WRITTEN = "snapshot_at, batch_id, space, passage_ranges"
AGED = f"{WRITTEN}, moved_at, aged_by, policy_version"
TIER_COLUMNS = {
    "hot": TierColumns(
        "text", "false", "vector", "NULL::FLOAT", "float16", WRITTEN, "strlen(text)", uncut=Coverage.WAITING
    ),
    "warm": TierColumns(
        "coalesce(text, summary)",
        "text IS NULL",
        "vector",
        "vector_scale",
        "int8",
        f"{AGED}, vector_scale",
        "text_bytes",
        uncut=Coverage.PARTIAL,
    ),
    "cold": TierColumns(
        "summary",
        "true",
        "sketch",
        "sketch_scale",
        "sketch",
        f"{AGED}, sketch_scale",
        "text_bytes",
        uncut=Coverage.PARTIAL,
    ),
}
HOW_WRITTEN = "SELECT file_row_number, hash(system_id, kind, id, {written}) AS written"
# Files of earlier versions have no columns of passages.
ROWS = (
    "FROM (SELECT NULL::BLOB AS passages, NULL::BLOB AS passage_scales, NULL::BLOB AS passage_ranges WHERE false "
    "UNION ALL BY NAME FROM {rows})"
)
READ = ROWS.format(rows="read_parquet($paths, hive_partitioning = false, union_by_name = true, file_row_number = true)")
# A table may have times that Python cannot express. `least` and `greatest` ignore nulls.
CLAMPED_US = (
    f"if({{0}} IS NULL, NULL, epoch_us(greatest(least({{0}}, TIMESTAMPTZ '{TIME_MAX}'), TIMESTAMPTZ '{TIME_MIN}')))"
)
QUERY = f"""
{HOW_WRITTEN}, hash(system_id, kind, id) AS identity, hash({{text}}) AS content,
       {CLAMPED_US.format("occurred_at")} AS occurred_us, {CLAMPED_US.format("arrived_at")} AS arrived_us,
       coalesce(importance, 'nan'::FLOAT) AS importance,
       {{vector}} AS vector, {{scale}} AS vector_scale, space, passages, passage_scales, passage_ranges,
       {{text_bytes}} AS text_bytes, {{text}} AS text, {{is_summary}} AS is_summary, {{plain}}
{READ}
"""


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that reads rows in file order and does not use the network."""
    return duckdb.connect(
        config={
            "threads": 2,
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


class Hasher:
    """Computes the identity hash of a memory, as in `Part.identity`."""

    def __init__(self) -> None:
        self._connection = connect()

    def __call__(self, identity: Identity) -> int:
        with self._connection.cursor() as cursor:
            row = cursor.execute("SELECT hash(?, ?, ?)", [identity.system_id, identity.kind, identity.id]).fetchone()
        assert row is not None
        return int(row[0])


class LoadedFiles(NamedTuple):
    """The rows of data files: a part, None if no row can be served, and by path the rows that are set aside."""

    part: Part | None
    rows_set_aside: dict[str, RowsSetAside]


class Loader:
    """Reads files of one tier's table into parts. All tables of a replica share `terms`."""

    def __init__(self, tier: str, files: LocalFiles, terms: dict[str, Categories]):
        self.columns, self.files, self.terms = TIER_COLUMNS[tier], files, terms
        self._connection = connect()
        self._lock = Lock()
        self._lengths_bytes: dict[str, int] = {}
        self.refused_vectors = 0
        plain = [name for name in dict.fromkeys(CODED + PAYLOAD) if name not in ("text", "is_summary")]
        self._query = QUERY.format(**vars(self.columns), plain=", ".join(plain))

    def load(self, day: date, files: list[DataFile], starts: list[int]) -> LoadedFiles:
        """The rows of `files`; the row ids of each begin at its start, and `starts` ascend. Sets rows aside that cannot
        be served.

        May be called from several threads.

        Raises:
            DataFileUnreadable: a file is missing or damaged, or its number of rows is not that of the log.
            StoreUnavailable: the store of a remote file did not answer.
        """
        uri = self.files.lake.uri(self.files.address)
        paths = [self.files.path(file.path, file.size_bytes) for file in files]
        # A connection keeps memory after a large read, so one that read much is closed.
        is_large = sum(file.rows for file in files) > KEPT_CONNECTION_ROWS
        connection = connect() if is_large else self._connection.cursor()
        try:
            try:
                rows = connection.sql(self._query, params={"paths": [str(path) for path in paths]})
                return self._convert(day, files, starts, rows.to_arrow_reader(BATCH_ROWS))
            except duckdb.Error:
                # One text that is not UTF-8, or texts too long for one batch, must not cost the whole file.
                if len(paths) > 1 or (repaired := _repaired_rows(paths[0])) is None:
                    raise
                connection.register("repaired", repaired)
                rows = connection.sql(self._query.replace(READ, ROWS.format(rows="repaired")))
                return self._convert(day, files, starts, rows.to_arrow_reader(FEW_ROWS))
        except (duckdb.Error, pa.ArrowException) as error:
            # The fetched copy may be damaged, so the next attempt fetches it again.
            for file in files:
                self.files.discard(file.path)
            raise DataFileUnreadable(uri, str(error)) from error
        finally:
            connection.close()

    def with_row_count(self, file: DataFile) -> DataFile:
        """The file with its number of rows, read from its footer if the log has none; 1 if it cannot be read.

        Raises: StoreUnavailable.
        """
        if file.rows != UNKNOWN_ROWS:
            return file
        try:
            return replace(file, rows=pq.read_metadata(self.files.path(file.path, file.size_bytes)).num_rows)
        except (DataFileUnreadable, OSError, pa.ArrowException):
            return replace(file, rows=1)

    def _convert(
        self, day: date, files: list[DataFile], starts: list[int], batches: Iterable[pa.RecordBatch]
    ) -> LoadedFiles:
        expected = np.concatenate([np.arange(file.rows, dtype=np.int64) for file in files])
        row_ids = expected + np.repeat(np.array(starts, np.int64), [file.rows for file in files])
        conversion = RowConversion(lambda rows, ids: self._part(day, rows, ids))
        first = 0
        for batch in batches:
            last = first + len(batch)
            if not np.array_equal(batch["file_row_number"].to_numpy(), expected[first:last]):
                break
            if len(batch):
                conversion.add(_with_sound_tags(batch), row_ids[first:last])
            first = last
        if first != len(expected):
            uri, paths = self.files.lake.uri(self.files.address), ", ".join(file.path for file in files)
            raise DataFileUnreadable(uri, f"{paths}: has other than the {len(expected)} rows that the log says")
        part = concatenate_parts(conversion.parts) if conversion.parts else None
        return LoadedFiles(part, conversion.rows_set_aside([file.path for file in files], starts))

    def written(self, file: DataFile) -> np.ndarray:
        """(rows,) uint64: the hash of each row of a file, as in `Part.written`.

        Raises:
            StoreUnavailable: the file is missing or damaged, or its number of rows is not that of the log.
        """
        uri = self.files.lake.uri(self.files.address)
        query = f"{HOW_WRITTEN.format(written=self.columns.written)} {READ} ORDER BY file_row_number"
        try:
            with self._connection.cursor() as cursor:
                rows = cursor.sql(
                    query, params={"paths": [str(self.files.path(file.path, file.size_bytes))]}
                ).fetchnumpy()
        except duckdb.Error as error:
            self.files.discard(file.path)
            raise StoreUnavailable(uri, str(error)) from error
        if len(rows["written"]) != file.rows:
            raise StoreUnavailable(uri, f"{file.path} holds {len(rows['written'])} rows; the log says {file.rows}")
        written: np.ndarray = rows["written"]
        return written

    def _part(self, day: date, rows: pa.Table, row_ids: np.ndarray) -> Part:
        form = self.columns.form
        scales = None if form == "float16" else rows["vector_scale"].to_numpy()
        vectors, refused = decode_vectors(
            rows["vector"].combine_chunks(),
            rows["space"].combine_chunks(),
            form,
            scales,
            self._lengths_bytes,
            PassageColumns(
                vectors=rows["passages"].combine_chunks(),
                scales=rows["passage_scales"].combine_chunks(),
                ranges=rows["passage_ranges"].combine_chunks(),
            ),
        )
        part = Part(
            day=day,
            row_ids=row_ids,
            identity=rows["identity"].to_numpy(),
            content=rows["content"].to_numpy(),
            written=rows["written"].to_numpy(),
            codes={name: self.terms[name].encode(rows[name].combine_chunks()) for name in CODED},
            occurred_us=rows["occurred_us"].to_numpy(),
            arrived_us=rows["arrived_us"].to_numpy(),
            importance=rows["importance"].to_numpy(),
            coverage=coverage_of(
                rows["passage_ranges"].combine_chunks(), rows["text_bytes"].to_numpy(), self.columns.uncut
            ),
            payload=Payload(rows.select(PAYLOAD)),
            vectors=vectors,
        )
        with self._lock:
            self.refused_vectors += refused
        return part


def _with_sound_tags(batch: pa.RecordBatch) -> pa.Table:
    """The rows with valid tags: earlier versions of Akosha stored null tags and long ones."""
    place = batch.schema.get_field_index("tags")
    tags = repair(batch.select([place]))[0].column(0)
    return pa.Table.from_batches([batch.set_column(place, batch.schema.field(place), tags)])


def _repaired_rows(path: Path) -> pa.RecordBatchReader | None:
    """The repaired rows of a data file that DuckDB cannot read, with their positions; None if pyarrow cannot either."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow.append(pa.field("file_row_number", pa.int64()))
    except (OSError, pa.ArrowException):
        return None

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in file.iter_batches(FEW_ROWS):
            numbers = pa.array(np.arange(first, first + len(batch)))
            first += len(batch)
            columns = repair(batch)[0].columns
            yield pa.RecordBatch.from_arrays([*columns, numbers], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
