"""Data files of a tier table become parts, read with DuckDB.

Knows the columns that serving needs of each tier. Which files to read, and when, is `tier_replica.py`'s to say.
"""

from dataclasses import dataclass, replace
from datetime import date
from threading import Lock

import duckdb
import numpy as np
import pyarrow as pa

from akosha_assets.lake.errors import DataFileUnreadable, StoreUnavailable
from akosha_assets.lake.row_rules import TIME_MAX, TIME_MIN, repair
from akosha_assets.lake.serving.parts.part import CODED, Categories, Part, concatenate_parts
from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.query import Identity
from akosha_assets.lake.serving.table_log.files import DataFile, LocalFiles
from akosha_assets.lake.serving.vectors.vector_set import decode_vectors

BATCH_ROWS = 65_536
KEPT_CONNECTION_ROWS = 20_000
PAYLOAD = ("id", "text", "is_summary", "session_id", "tags", "occurred_from", "upload_id")


@dataclass(frozen=True)
class TierColumns:
    """How a tier's table holds what serving shows and ranks by."""

    text: str
    is_summary: str
    vector: str
    scale: str
    form: str
    # Columns of which some change whenever a row is written anew.
    written: str


WRITTEN = "snapshot_at, batch_id, space"
AGED = f"{WRITTEN}, moved_at, aged_by, policy_version"
TIERS = {
    "hot": TierColumns("text", "false", "vector", "NULL::FLOAT", "float16", WRITTEN),
    "warm": TierColumns(
        "coalesce(text, summary)", "text IS NULL", "vector", "vector_scale", "int8", f"{AGED}, vector_scale"
    ),
    "cold": TierColumns("summary", "true", "sketch", "sketch_scale", "sketch", f"{AGED}, sketch_scale"),
}
HOW_WRITTEN = "SELECT file_row_number, hash(system_id, kind, id, {written}) AS written"
READ = "FROM read_parquet($paths, hive_partitioning = false, union_by_name = true, file_row_number = true)"
# A table may hold times that no answer can show.
CLAMPED_US = f"epoch_us(greatest(least({{}}, TIMESTAMPTZ '{TIME_MAX}'), TIMESTAMPTZ '{TIME_MIN}'))"
QUERY = f"""
{HOW_WRITTEN}, hash(system_id, kind, id) AS identity, hash({{text}}) AS content,
       {CLAMPED_US.format("occurred_at")} AS occurred_us, {CLAMPED_US.format("arrived_at")} AS arrived_us, coalesce(importance, 'nan'::FLOAT) AS importance,
       {{vector}} AS vector, {{scale}} AS vector_scale, space, {{text}} AS text, {{is_summary}} AS is_summary, {{plain}}
{READ}
"""


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that keeps rows in file order and stays off the network."""
    return duckdb.connect(
        config={
            "threads": 2,
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


class Hasher:
    """Gives the identity hash of one memory, as the parts of `Loader` have it."""

    def __init__(self) -> None:
        self._connection = connect()

    def __call__(self, identity: Identity) -> int:
        with self._connection.cursor() as cursor:
            row = cursor.execute("SELECT hash(?, ?, ?)", [identity.system_id, identity.kind, identity.id]).fetchone()
        assert row is not None
        return int(row[0])


def _with_sound_tags(batch: pa.RecordBatch) -> pa.Table:
    """The rows; tags that an earlier version wrote may break a rule of today."""
    place = batch.schema.get_field_index("tags")
    tags = repair(batch.select([place]))[0].column(0)
    return pa.Table.from_batches([batch.set_column(place, batch.schema.field(place), tags)])


class Loader:
    """Reads files of one tier's table into parts. `terms` and `lengths_bytes` are shared by all tables of a replica."""

    def __init__(self, tier: str, files: LocalFiles, terms: dict[str, Categories]):
        self.columns, self.files, self.terms = TIERS[tier], files, terms
        self._connection = connect()
        self._one_at_a_time = Lock()
        self._lengths_bytes: dict[str, int] = {}
        self.refused_vectors = 0
        plain = [name for name in dict.fromkeys(CODED + PAYLOAD) if name not in ("text", "is_summary")]
        self._query = QUERY.format(**vars(self.columns), plain=", ".join(plain))

    def load(self, day: date, files: list[DataFile], starts: list[int]) -> Part | None:
        """The rows of `files`, those of each numbered from its start, which ascend; None where they hold none.

        Several threads may each load a day.

        Raises:
            DataFileUnreadable: a file is gone, damaged or does not hold the rows that the log speaks of.
            StoreUnavailable: a file is remote, and the store did not answer.
        """
        uri = self.files.lake.uri(self.files.address)
        paths = [str(self.files.path(file.path, file.size_bytes)) for file in files]
        # A connection keeps some of what it allocated; one that read much is not kept.
        is_large = sum(file.rows for file in files) > KEPT_CONNECTION_ROWS
        connection = connect() if is_large else self._connection.cursor()
        try:
            relation = connection.sql(self._query, params={"paths": paths})
            pieces = [
                self._piece(day, _with_sound_tags(batch))
                for batch in relation.to_arrow_reader(BATCH_ROWS)
                if len(batch)
            ]
        except duckdb.Error as error:
            # A fetched copy that is damaged would fail again; the next try fetches it anew.
            for file in files:
                self.files.discard(file.path)
            raise DataFileUnreadable(uri, str(error)) from error
        finally:
            connection.close()
        expected = np.concatenate([np.arange(file.rows, dtype=np.int64) for file in files])
        order = np.concatenate([order for _, order in pieces]) if pieces else np.empty(0, np.int64)
        if not np.array_equal(order, expected):
            raise DataFileUnreadable(
                uri, f"{len(files)} files of {day} hold {len(order)} rows; the log says {len(expected)}"
            )
        if not pieces:
            return None
        numbers = expected + np.repeat(np.array(starts, np.int64), [file.rows for file in files])
        return replace(concatenate_parts([part for part, _ in pieces]), row_ids=numbers)

    def written(self, file: DataFile) -> np.ndarray:
        """What the parts of `file` would have as `written`, row by row.

        Raises:
            StoreUnavailable: the file is gone or does not hold the rows that the log speaks of.
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

    def _piece(self, day: date, table: pa.Table) -> tuple[Part, np.ndarray]:
        form = self.columns.form
        scales = None if form == "float16" else table["vector_scale"].to_numpy()
        vectors, refused = decode_vectors(
            table["vector"].combine_chunks(), table["space"].combine_chunks(), form, scales, self._lengths_bytes
        )
        with self._one_at_a_time:
            self.refused_vectors += refused
        part = Part(
            day=day,
            row_ids=np.zeros(len(table), np.int64),
            identity=table["identity"].to_numpy(),
            content=table["content"].to_numpy(),
            written=table["written"].to_numpy(),
            codes={name: self.terms[name].encode(table[name].combine_chunks()) for name in CODED},
            occurred_us=table["occurred_us"].to_numpy(),
            arrived_us=table["arrived_us"].to_numpy(),
            importance=table["importance"].to_numpy(),
            payload=Payload(table.select(PAYLOAD)),
            vectors=vectors,
        )
        return part, table["file_row_number"].to_numpy()
