"""What the rows of a table may hold beyond their Arrow types, in one place: extraction applies it, and so does every
write.

Readers rely on it: list items are not null, labels are short, texts are UTF-8, numbers are finite, times lie in the
years 1 to 9999. What breaks a rule is repaired in its own cell and reported by code and row. Columns that may not be
null are Delta's own rule.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.columns import FACETS

# Labels are shown, counted and filtered by; a longer one is a text in the wrong column.
LABEL_MAX_BYTES = 1024
LIST_MAX_ITEMS = 1024
LABELS = frozenset(field.name for field in FACETS if pa.types.is_string(field.type))

# What Python and JSON can express. Arrow's and Delta's times reach 290,000 years further in both directions.
TIME_MIN, TIME_MAX = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

# A repaired column and the rows, (rows,) bool, in which it broke a rule; None where it broke none.
Repair = tuple[pa.Array, np.ndarray] | None


def repair(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[str, np.ndarray]]:
    """The batch with every rule kept, and by code the rows, (n,) int64 ascending, in which one was broken.

    Codes: `text_not_utf8`, `list_item_null`, `list_too_long`, `label_too_long`, `number_not_finite`,
    `timestamp_out_of_range`.
    """
    broken: dict[str, np.ndarray] = {}
    for place, field in enumerate(batch.schema):
        for code, rule in _rules(field):
            if (repaired := rule(batch.column(place))) is not None:
                column, rows = repaired
                batch = batch.set_column(place, field, column)
                broken[code] = broken.get(code, np.zeros(len(batch), bool)) | rows
    return batch, {code: np.flatnonzero(rows) for code, rows in broken.items()}


def repair_table(rows: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The table with every rule kept, and by code how many rows broke one."""
    counts: dict[str, int] = {}
    batches = []
    for batch in rows.to_batches():
        repaired, broken = repair(batch)
        batches.append(repaired)
        for code, places in broken.items():
            counts[code] = counts.get(code, 0) + len(places)
    return (pa.Table.from_batches(batches, rows.schema), counts) if counts else (rows, counts)


def _rules(field: pa.Field) -> list[tuple[str, Callable[[pa.Array], Repair]]]:
    if pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
        return [
            ("list_item_null", _without_null_items),
            ("list_too_long", _shortened),
            ("text_not_utf8", _as_utf8_items),
        ]
    if pa.types.is_string(field.type):
        texts: list[tuple[str, Callable[[pa.Array], Repair]]] = [("text_not_utf8", _as_utf8)]
        return [*texts, ("label_too_long", _cut)] if field.name in LABELS else texts
    if pa.types.is_timestamp(field.type):
        return [("timestamp_out_of_range", _clamped)]
    return [("number_not_finite", _finite)] if pa.types.is_floating(field.type) else []


def _is_utf8(texts: pa.Array) -> bool:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _as_utf8(texts: pa.Array) -> Repair:
    if _is_utf8(texts):
        return None
    held = texts.cast(pa.binary()).to_pylist()
    decoded = [None if value is None else value.decode("utf-8", "replace") for value in held]
    changed = [
        value is not None and text != value.decode("utf-8", "ignore") for text, value in zip(decoded, held, strict=True)
    ]
    return pa.array(decoded, pa.string()), np.array(changed, bool)


def _as_utf8_items(lists: pa.Array) -> Repair:
    items = _as_utf8(lists.flatten())
    if items is None:
        return None
    rows = np.zeros(len(lists), bool)
    rows[pc.list_parent_indices(lists).to_numpy()[items[1]]] = True
    return _lists(_lengths(lists), items[0], lists), rows


def _without_null_items(lists: pa.Array) -> Repair:
    items = lists.flatten()
    if not items.null_count:
        return None
    parents = pc.list_parent_indices(lists).to_numpy()
    is_null = items.is_null().to_numpy(zero_copy_only=False)
    rows = np.zeros(len(lists), bool)
    rows[parents[is_null]] = True
    return _lists(np.bincount(parents[~is_null], minlength=len(lists)), items.drop_null(), lists), rows


def _shortened(lists: pa.Array) -> Repair:
    lengths = _lengths(lists)
    items = lists.flatten()
    is_long = pc.greater(pc.binary_length(items), LABEL_MAX_BYTES).to_numpy(zero_copy_only=False)
    if lengths.max(initial=0) <= LIST_MAX_ITEMS and not is_long.any():
        return None
    parents = pc.list_parent_indices(lists).to_numpy()
    place = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = lengths > LIST_MAX_ITEMS
    rows[parents[is_long]] = True
    keep = place < LIST_MAX_ITEMS
    kept = items.filter(pa.array(keep))
    cut = _cut(kept)
    return _lists(np.bincount(parents[keep], minlength=len(lists)), kept if cut is None else cut[0], lists), rows


def _cut(labels: pa.Array) -> Repair:
    is_long = pc.fill_null(pc.greater(pc.binary_length(labels), LABEL_MAX_BYTES), False)
    rows = is_long.to_numpy(zero_copy_only=False)
    if not rows.any():
        return None
    long = labels.filter(is_long).cast(pa.binary()).to_pylist()
    # A character that the cut divides is left out whole.
    cut = pa.array([value[:LABEL_MAX_BYTES].decode("utf-8", "ignore") for value in long], pa.string())
    return pc.replace_with_mask(labels, is_long, cut), rows


def _finite(numbers: pa.Array) -> Repair:
    is_sound = pc.fill_null(pc.is_finite(numbers), True)
    if pc.all(is_sound).as_py() in (True, None):
        return None
    rows = ~is_sound.to_numpy(zero_copy_only=False)
    return pc.if_else(is_sound, numbers, pa.scalar(None, numbers.type)), rows


def clamp_times(rows: pa.Table) -> pa.Table:
    """The table with every time in the years 1 to 9999, the nearest one where it was not."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type) and (repaired := _clamped(rows.column(place).combine_chunks())):
            rows = rows.set_column(place, field, repaired[0])
    return rows


def _clamped(times: pa.Array) -> Repair:
    low, high = pa.scalar(TIME_MIN, times.type), pa.scalar(TIME_MAX, times.type)
    is_sound = pc.fill_null(pc.and_(pc.greater_equal(times, low), pc.less_equal(times, high)), True)
    if pc.all(is_sound).as_py() in (True, None):
        return None
    rows = ~is_sound.to_numpy(zero_copy_only=False)
    clamped = pc.if_else(pc.less(times, low), low, times)
    return pc.if_else(pc.greater(clamped, high), high, clamped), rows


def _lengths(lists: pa.Array) -> np.ndarray:
    """Items of each list, (rows,) int64; 0 for null."""
    lengths: np.ndarray = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _lists(lengths: np.ndarray, items: pa.Array, like: pa.Array) -> pa.Array:
    """Lists of these lengths from their items one after the other, null where `like` is."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, items, type=like.type, mask=like.is_null() if like.null_count else None)
