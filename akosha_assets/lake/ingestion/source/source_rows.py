"""Rows of one source table, of one or several uploads, with the id and the times of each row.

`changed_rows.py` compares the rows with each other and with known rows.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.source.change_detection import md5_low
from akosha_assets.lake.ingestion.source.databases import Reading
from akosha_assets.lake.ingestion.source.id_times import MISSING
from akosha_assets.lake.ingestion.source.json_columns import metadata_times, objects
from akosha_assets.lake.ingestion.source.queries import Role


@dataclass
class SourceRows:
    """A batch of one table with the ids and times derived from it."""

    reading: Reading
    batch: pa.RecordBatch
    # (rows,) int64, ascending: the number of the file that each row comes from.
    file: np.ndarray
    # (rows,) string
    ids: pa.Array
    # (rows,) int64 microseconds since 1970, MISSING if there is none: naive local time, and UTC.
    local: np.ndarray
    utc: np.ndarray
    # (rows,) string, the row as a JSON object; only for tables of kind `rescued`.
    rescued: pa.Array | None = None

    @staticmethod
    def of(reading: Reading, batch: pa.RecordBatch, file: np.ndarray) -> "SourceRows":
        """Adds ids and times to `batch`. Raises: UploadRejected if a row has no id."""
        ids, rescued = batch.column(0), None
        if reading.spec is None:
            unknown = [
                (field, batch.column(place))
                for place, field in enumerate(reading.select.fields)
                if field.role is Role.UNKNOWN
            ]
            rescued = objects(unknown, batch.num_rows).fill_null("{}")
            hashes = pa.array([f"{number & (2**64 - 1):016x}" for number in md5_low(rescued).tolist()])
            own = pc.if_else(pc.equal(ids.fill_null(""), ""), hashes, ids)
            ids = pc.binary_join_element_wise(reading.name, own, "/")
        elif ids.null_count:
            raise UploadRejected("row_without_id", f"table {reading.name} has a row whose id is null")
        return SourceRows(reading, batch, file, ids, *_times(reading, batch), rescued)

    @staticmethod
    def of_times(reading: Reading, batch: pa.RecordBatch, file: np.ndarray) -> "SourceRows":
        """Returns only ids and times, for a table whose first column is the id."""
        return SourceRows(reading, batch, file, batch.column(0), *_times(reading, batch))

    def filtered(self, keep: np.ndarray) -> "SourceRows":
        """Returns the rows where `keep`, (rows,) bool, is true."""
        mask = pa.array(keep)
        rescued = None if self.rescued is None else self.rescued.filter(mask)
        return SourceRows(
            self.reading,
            self.batch.filter(mask),
            self.file[keep],
            self.ids.filter(mask),
            self.local[keep],
            self.utc[keep],
            rescued,
        )


def _times(reading: Reading, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Returns naive local and UTC times of the rows, each (rows,) int64 microseconds."""
    by_role: dict[Role, np.ndarray] = {}
    for place, one in enumerate(reading.select.fields):
        if one.role is Role.LOCAL or one.role is Role.UTC:
            column = batch.column(place).view(pa.int64())
            times = (column.fill_null(MISSING) if column.null_count else column).to_numpy(zero_copy_only=False)
            if one.role in by_role:
                times = np.where(by_role[one.role] == MISSING, times, by_role[one.role])
            by_role[one.role] = times
        elif one.name == "metadata" and reading.spec and reading.spec.first_generation:
            times = metadata_times(batch.column(place))
            if Role.UTC in by_role:
                # A column may also have a zone.
                times = np.where(times == MISSING, by_role[Role.UTC], times)
            by_role[Role.UTC] = times
    local, utc = by_role.get(Role.LOCAL), by_role.get(Role.UTC)
    nothing = np.full(batch.num_rows, MISSING)
    return nothing if local is None else local, nothing if utc is None else utc


def times_of(parts: list[SourceRows]) -> tuple[np.ndarray, np.ndarray]:
    """Returns naive local and UTC times of the rows of all parts, each (rows,) int64 microseconds."""
    return np.concatenate([part.local for part in parts]), np.concatenate([part.utc for part in parts])
