"""Data files of a tier table become parts, read with DuckDB; days outside the hot window are laid down on disk.

Knows the columns that serving needs. Which files to read, and when, is `replica.py`'s to say.
"""

import json
import shutil
from datetime import date
from pathlib import Path
from urllib.parse import quote

import duckdb
import numpy as np
import pyarrow as pa

from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.serving.files import DataFile, LocalFiles
from akosha_assets.lake.serving.parts import CODED, Part, Terms, join
from akosha_assets.lake.serving.vectors import Vectors, decoded

BATCH_ROWS = 65_536
PAYLOAD = ("id", "text", "session_id", "tags", "content_hash", "occurred_from", "upload_id")
QUERY = """
SELECT file_row_number, hash(system_id, kind, id) AS identity, epoch_us(occurred_at) AS occurred_us,
       epoch_us(arrived_at) AS arrived_us, coalesce(importance, 'nan'::FLOAT) AS importance, vector, space,
       {columns}
FROM read_parquet($paths, hive_partitioning = false, union_by_name = true, file_row_number = true)
"""


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that keeps rows in file order and stays off the network."""
    return duckdb.connect(
        config={
            "threads": 2,
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "arrow_large_buffer_size": False,
        }
    )


class Loader:
    """Reads files of one table into parts. `terms` gives the codes and is shared by all tables of a replica."""

    def __init__(self, files: LocalFiles, terms: dict[str, Terms]):
        self.files, self.terms = files, terms
        self._connection = connect()
        self.refused_vectors = 0

    def load(self, day: date, files: list[DataFile], first_number: int) -> Part | None:
        """The rows of `files`, numbered from `first_number` in the order of the files; None where they hold none.

        Raises:
            StoreUnavailable: a file is gone or does not hold the rows that the log speaks of.
        """
        paths = [str(self.files.path(file.path)) for file in files]
        columns = ", ".join(dict.fromkeys(CODED + PAYLOAD))
        try:
            relation = self._connection.sql(QUERY.format(columns=columns), params={"paths": paths})
            pieces = [self._piece(day, pa.Table.from_batches([batch])) for batch in relation.to_arrow_reader(BATCH_ROWS) if len(batch)]
        except duckdb.Error as error:
            raise StoreUnavailable(self.files.lake.uri(self.files.address), str(error)) from error
        rows = sum(len(part) for part, _ in pieces)
        expected = np.concatenate([np.arange(file.rows, dtype=np.int64) for file in files])
        order = np.concatenate([order for _, order in pieces]) if pieces else np.empty(0, np.int64)
        if not np.array_equal(order, expected):
            raise StoreUnavailable(
                self.files.lake.uri(self.files.address), f"{len(files)} files of {day} hold {rows} rows; the log says {len(expected)}"
            )
        if not pieces:
            return None
        part = join([part for part, _ in pieces])
        part.numbers[:] = np.arange(first_number, first_number + rows)
        return part

    def _piece(self, day: date, table: pa.Table) -> tuple[Part, np.ndarray]:
        vectors, refused = decoded(table["vector"].combine_chunks(), table["space"].combine_chunks())
        self.refused_vectors += refused
        part = Part(
            day,
            np.zeros(len(table), np.int64),
            table["identity"].to_numpy(),
            {name: self.terms[name].encode(table[name].combine_chunks()) for name in CODED},
            table["occurred_us"].to_numpy(),
            table["arrived_us"].to_numpy(),
            table["importance"].to_numpy(),
            _compact(table.select(PAYLOAD)),
            vectors,
        )
        return part, table["file_row_number"].to_numpy()


def _compact(table: pa.Table) -> pa.Table:
    """The same rows in buffers of just their size; a producer's buffers may be twice that."""
    return pa.concat_tables([table, table.slice(0, 0)]).combine_chunks()


def laid_down(part: Part, folder: Path) -> Part:
    """The same part with its bytes in files under `folder`, mapped when touched."""
    target = folder / quote(f"{part.day}-{part.numbers[0]}-{len(part)}", safe="")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    payload = target / "payload.arrow"
    with pa.OSFile(str(payload), "wb") as sink, pa.ipc.new_file(sink, part.payload.schema) as writer:
        writer.write_table(part.payload, max_chunksize=BATCH_ROWS)
    with pa.memory_map(str(payload)) as source:
        mapped = pa.ipc.open_file(source).read_all()

    def array(name: str, values: np.ndarray) -> np.ndarray:
        path = target / f"{name}.npy"
        np.save(path, values)
        return np.load(path, mmap_mode="r")

    vectors = {
        space: Vectors(array(f"rows-{index}", held.rows), array(f"matrix-{index}", held.matrix))
        for index, (space, held) in enumerate(part.vectors.items())
    }
    (target / "spaces.json").write_text(json.dumps(list(part.vectors)))
    return Part(
        part.day,
        array("numbers", part.numbers),
        array("identity", part.identity),
        {name: array(name, codes) for name, codes in part.codes.items()},
        array("occurred_us", part.occurred_us),
        array("arrived_us", part.arrived_us),
        array("importance", part.importance),
        mapped,
        vectors,
        "disk",
    )
