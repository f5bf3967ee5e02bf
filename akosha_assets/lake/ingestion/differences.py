"""Which rows of a snapshot are new: a stable hash of what each row says, compared with what is known of its system.

Pure functions over Arrow. Neither order of columns, nor a new column that is still empty, nor usage counters change a hash.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.schemas import UTC

KNOWN_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("id", pa.string()),
        ("content_hash", pa.int64()),
        ("event_day", pa.date32()),
        ("snapshot_at", UTC),
        ("is_absent", pa.bool_()),
    ]
)
SEEN_SCHEMA = pa.schema(KNOWN_SCHEMA.field(name) for name in ("kind", "id", "content_hash", "event_day"))

MILLIONTHS = 1e6
FIELD_END, ITEM_END, NOTHING = "\x1f", "\x1e", "\x00"


def content_hashes(batch: pa.RecordBatch, columns: tuple[str, ...]) -> np.ndarray:
    """For each row the low 64 bits of the MD5 over `columns` in the given order; a column the batch lacks counts as null."""
    present = set(batch.schema.names)
    parts = [_canonical(batch.column(name)) if name in present else pa.scalar(None, pa.string()) for name in columns]
    joined = pc.binary_join_element_wise(*parts, FIELD_END, null_handling="replace", null_replacement=NOTHING)
    # One C call a row; the digest has no vectorised form in Arrow, and in SQL it costs a query plan per table and upload.
    digests = [hashlib.md5(row, usedforsecurity=False).digest() for row in joined.cast(pa.binary()).to_pylist()]
    return np.frombuffer(b"".join(digests), dtype="<i8").reshape(-1, 2)[:, 1].astype(np.int64)


def _canonical(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_string(kind):
        return values
    if pa.types.is_floating(kind):
        # Text of a float depends on who prints it; millionths as an integer do not.
        values = pc.round(pc.multiply(values.cast(pa.float64()), MILLIONTHS)).cast(pa.int64(), safe=False)
    elif pa.types.is_timestamp(kind):
        values = values.cast(pa.int64())
    elif pa.types.is_list(kind):
        items = values.flatten().fill_null(NOTHING)
        lengths = np.concatenate([[0], np.cumsum(pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False))])
        joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(lengths, pa.int32()), items), ITEM_END)
        return pc.if_else(values.is_valid(), joined, pa.scalar(None, pa.string()))
    return values.cast(pa.string())


@dataclass(frozen=True)
class Comparison:
    """For each row: whether it is to be stored, and the day and hash it is known under (day MISSING_DAY: none)."""

    changed: np.ndarray
    known_day: np.ndarray
    standing_hash: np.ndarray


MISSING_DAY = np.iinfo(np.int32).min


class Known:
    """What is known of one system's rows of one kind."""

    def __init__(self, rows: pa.Table):
        rows = rows.combine_chunks()
        self._ids = rows.column("id").combine_chunks()
        self._hash = rows.column("content_hash").to_numpy()
        self._day = rows.column("event_day").cast(pa.int32()).fill_null(MISSING_DAY).to_numpy()
        self._snapshot_us = rows.column("snapshot_at").cast(pa.int64()).to_numpy()
        self._absent = rows.column("is_absent").fill_null(False).to_numpy()

    def compare(self, ids: pa.Array, hashes: np.ndarray, snapshot_us: int) -> Comparison:
        """A row is stored when it is unknown, was absent, or says something else than an older snapshot said."""
        if not len(self._ids):
            return Comparison(np.ones(len(ids), bool), np.full(len(ids), MISSING_DAY, np.int32), hashes)
        place = pc.index_in(ids, value_set=self._ids).fill_null(-1).to_numpy()
        met = place >= 0
        differs = met & (self._hash[place] != hashes)
        newer = self._snapshot_us[place] < snapshot_us
        absent = met & self._absent[place]
        changed = ~met | absent | (differs & newer)
        return Comparison(
            changed, np.where(met, self._day[place], MISSING_DAY), np.where(changed, hashes, np.where(met, self._hash[place], hashes))
        )


def known_by_kind(known: pa.Table) -> dict[str, Known]:
    """The known rows of each kind that has any."""
    if not known.num_rows:
        return {}
    return {kind: Known(known.filter(pc.equal(known.column("kind"), kind))) for kind in pc.unique(known.column("kind")).to_pylist()}


def microseconds(moment: datetime) -> int:
    """UTC microseconds since 1970 of an aware time, exactly."""
    return int(pa.scalar(moment, UTC).value)
