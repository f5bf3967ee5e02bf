"""Detects the changed rows of a snapshot: compares a stable hash of each row with the known rows of its system.

Pure functions over Arrow. The order of columns, new columns that are empty, and usage counters do not change a hash.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.columns import UTC
from akosha_assets.lake.ingestion.source.queries import Field, Role
from akosha_assets.lake.ingestion.source.tables import SourceTable

KNOWN_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("id", pa.string()),
        ("content_hash", pa.int64()),
        ("event_day", pa.date32()),
        ("snapshot_at", UTC),
        # Whether this id is no longer in its source.
        ("is_absent", pa.bool_()),
        # The low 64 bits of the MD5 of the row's text; null for kinds without one, and in states of older releases.
        ("text_hash", pa.int64()),
        # Seconds since 1970 of the time that the source states, as it states it; null where it states none.
        ("stated_seconds", pa.int64()),
        # The id under which the tables have the memory; null where it is `id`.
        ("memory_id", pa.string()),
    ]
)
SEEN_SCHEMA = pa.schema(
    [KNOWN_SCHEMA.field(name) for name in ("kind", "id", "content_hash", "event_day", "text_hash", "stated_seconds")]
)

FIELD_END, ITEM_END, NOTHING = "\x1f", "\x1e", "\x00"
_FIELD_END, _NOTHING, _EMPTY = (pa.scalar(text, pa.string()) for text in (FIELD_END, NOTHING, ""))
MISSING_DAY = np.iinfo(np.int32).min


@dataclass(frozen=True)
class Hashed:
    """The columns of a query that a row's hash covers.

    `fixed`: positions of the columns of a modelled table, None for a column that the upload does not have. `unknown`:
    name and position of the other columns, ordered by name.
    """

    fixed: tuple[int | None, ...]
    unknown: tuple[tuple[str, int], ...]

    @staticmethod
    def of(spec: SourceTable | None, fields: tuple[Field, ...]) -> "Hashed":
        """Returns the columns of `fields` that a hash covers.

        Fingerprints and vectors are excluded: they follow from the text, vectors by an unknown model.
        """
        place_of = {(field.role, field.name): place for place, field in enumerate(fields)}
        expected: list[tuple[Role, str]] = []
        if spec is not None:
            expected += [(Role.COLUMN, name) for name in ("id", *spec.columns) if name != "fingerprint"]
            expected += [(role, name) for name in spec.occurred for role in (Role.LOCAL, Role.UTC)]
            expected += [(Role.ATTRIBUTE, name) for name in spec.attributes]
        unknown = sorted((field.name, place) for place, field in enumerate(fields) if field.role is Role.UNKNOWN)
        return Hashed(tuple(place_of.get(key) for key in expected), tuple(unknown))


def canonical_texts(batch: pa.RecordBatch, hashed: Hashed) -> pa.Array:
    """Returns one text per row with all hashed values, (rows,) string; it does not depend on other rows."""
    parts: list[pa.Scalar | pa.Array] = [
        _NOTHING if place is None else _canonical(batch.column(place)) for place in hashed.fixed
    ]
    filled = [
        (name, column) for name, place in hashed.unknown if (column := batch.column(place)).null_count < batch.num_rows
    ]
    if filled:
        # An unknown column counts only where it is not null, so a new column of a later release changes no hash.
        members = [pc.binary_join_element_wise(name, _canonical(column), "=") for name, column in filled]
        # With `skip`, Arrow 26 drops a row whose members are all null; the empty text prevents that.
        parts.append(pc.binary_join_element_wise("", *members, FIELD_END, null_handling="skip"))
    else:
        parts.append(_EMPTY)
    if not any(isinstance(part, pa.Array) for part in parts):
        parts[-1] = pa.repeat(_EMPTY, batch.num_rows)
    return pc.binary_join_element_wise(*parts, _FIELD_END, null_handling="replace", null_replacement=NOTHING)


def md5_low(texts: pa.Array) -> np.ndarray:
    """Returns the low 64 bits of each text's MD5: (rows,) int64."""
    # One C call per row: Arrow has no digest, and SQL would need a query plan for every table of every upload.
    digests = [hashlib.md5(text, usedforsecurity=False).digest() for text in texts.cast(pa.binary()).to_pylist()]
    return np.frombuffer(b"".join(digests), dtype="<i8").reshape(-1, 2)[:, 1].astype(np.int64)


def _canonical(values: pa.Array) -> pa.Array | pa.Scalar:
    kind = values.type
    if values.null_count == len(values):
        return _NOTHING
    if pa.types.is_string(kind):
        return values
    if pa.types.is_floating(kind):
        # The bits of a float are portable; its text depends on the library that prints it.
        values = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif pa.types.is_timestamp(kind):
        values = values.view(pa.int64())
    elif pa.types.is_list(kind):
        items = values.flatten().fill_null(NOTHING)
        lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        joined = pc.binary_join(pa.ListArray.from_arrays(offsets, items), ITEM_END)
        return pc.if_else(values.is_valid(), joined, pa.scalar(None, pa.string()))
    return values.cast(pa.string())


def keys_of(kinds: pa.Array, ids: pa.Array, uploads: np.ndarray | None) -> pa.Array:
    """Returns kind and id as one text, (rows,) string, prefixed by `uploads`, (rows,) int64, if there are several."""
    if uploads is None:
        return pc.binary_join_element_wise(kinds, ids, FIELD_END)
    return pc.binary_join_element_wise(pa.array(uploads).cast(pa.string()), kinds, ids, FIELD_END)


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison for each row."""

    # (rows,) bool: whether the row must be stored.
    changed: np.ndarray
    # (rows,) int32 days since 1970, MISSING_DAY for an unknown row.
    known_day: np.ndarray
    # (rows,) int64: the hash that is valid after this snapshot.
    standing_hash: np.ndarray
    # (rows,) int64: the hash of the text where it is known and the row did not change.
    text_hash: np.ndarray
    # (rows,) bool: whether `text_hash` is set.
    has_text_hash: np.ndarray


class RowBaseline:
    """The known rows of the system of each upload."""

    def __init__(self, tables: list[pa.Table]):
        rows = pa.concat_tables(tables).combine_chunks()
        self._rows = rows.num_rows
        if self._rows:
            uploads = (
                np.repeat(np.arange(len(tables)), [table.num_rows for table in tables]) if len(tables) > 1 else None
            )
            kinds, ids = (rows.column(name).combine_chunks() for name in ("kind", "id"))
            self._keys = keys_of(kinds, ids, uploads)
            self._hash = rows.column("content_hash").to_numpy()
            self._day = rows.column("event_day").cast(pa.int32()).fill_null(MISSING_DAY).to_numpy()
            self._snapshot_us = rows.column("snapshot_at").cast(pa.int64()).to_numpy()
            self._absent = rows.column("is_absent").fill_null(False).to_numpy()
            self._has_text_hash = rows.column("text_hash").is_valid().to_numpy()
            self._text_hash = rows.column("text_hash").fill_null(0).to_numpy()

    def compare(self, keys: pa.Array, hashes: np.ndarray, snapshot_us: np.ndarray) -> Comparison:
        """Compares rows with the known ones: a row changed if it is unknown, was absent, or differs from the known one,
        unless that is of a later snapshot. A file that is written again under its key is of the same snapshot.

        `keys`: (rows,) string of `keys_of`; `hashes`: (rows,) int64; `snapshot_us`: (rows,) int64, the time of each
        row's snapshot.
        """
        if not self._rows:
            return Comparison(
                changed=np.ones(len(keys), bool),
                known_day=np.full(len(keys), MISSING_DAY, np.int32),
                standing_hash=hashes,
                text_hash=np.zeros(len(keys), np.int64),
                has_text_hash=np.zeros(len(keys), bool),
            )
        place = pc.index_in(keys, value_set=self._keys).fill_null(-1).to_numpy(zero_copy_only=False)
        is_known = place >= 0
        is_not_older = self._snapshot_us[place] <= snapshot_us
        changed = ~is_known | self._absent[place] | ((self._hash[place] != hashes) & is_not_older)
        standing = np.where(changed, hashes, self._hash[place])
        return Comparison(
            changed=changed,
            known_day=np.where(is_known, self._day[place], MISSING_DAY).astype(np.int32),
            standing_hash=standing,
            text_hash=self._text_hash[place],
            has_text_hash=~changed & self._has_text_hash[place],
        )


def microseconds(moment: datetime) -> int:
    """Returns the exact UTC microseconds since 1970 of an aware time."""
    return int(pa.scalar(moment, UTC).value)
