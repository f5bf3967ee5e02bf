"""What the rows of a table may hold beyond their Arrow types, in one place: extraction applies it, and so does every
write.

Readers rely on it: list items are not null, labels are short, texts are UTF-8 without NUL, numbers are finite, times
are years 1 to 9999, vectors can be compared. What breaks a rule is repaired in its own cell and reported by code and
row. Columns that may not be null are Delta's own rule. `IDENTITY` is only made UTF-8: it is compared with known rows.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake import vector_rules
from akosha_assets.lake.columns import FACETS, IDENTITY
from akosha_assets.lake.flaws import Flaw

# Labels are shown, counted and filtered by; a longer one is a text in the wrong column.
LABEL_MAX_BYTES = 1024
LIST_MAX_ITEMS = 1024
# The highest value of AKOSHA_UPLOAD_MAX_FIELD_BYTES: no text of an upload is longer.
TEXT_MAX_BYTES = 64 * 1024**2
LABELS = frozenset(field.name for field in FACETS if pa.types.is_string(field.type))
# Part of a JSON text is no JSON text: these become null instead of being cut.
JSON_COLUMNS = frozenset(("attributes", "properties", "graph", "row", "_rescued"))

# What Python and JSON can express. Arrow's and Delta's times reach 290,000 years further in both directions.
TIME_MIN, TIME_MAX = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

# A repaired column and the rows, (rows,) bool, in which it broke a rule; None where it broke none.
Repair = tuple[pa.Array, np.ndarray] | None
Rule = tuple[Flaw, Callable[[pa.Array], Repair]]


def repair(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[Flaw, np.ndarray]]:
    """The batch with every rule kept, and by code of Flaw the rows, (n,) int64 ascending, in which one was broken."""
    broken: dict[Flaw, np.ndarray] = {}

    def change(place: int, code: Flaw, repaired: Repair) -> None:
        nonlocal batch
        if repaired is not None:
            column, rows = repaired
            batch = batch.set_column(place, batch.schema.field(place), column)
            broken[code] = broken.get(code, np.zeros(len(batch), bool)) | rows

    for place, field in enumerate(batch.schema):
        for code, rule in _rules(field):
            change(place, code, rule(batch.column(place)))
    # They depend on the scales, which are repaired by now.
    for name, rows in vector_rules.find_unusable(batch).items():
        place = batch.schema.get_field_index(name)
        column = batch.column(place)
        nulls = pa.scalar(None, column.type)
        change(place, Flaw.VECTOR_UNUSABLE, (pc.if_else(pa.array(rows), nulls, column), rows))
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


def _rules(field: pa.Field) -> list[Rule]:
    """The rules of a column, in the order in which they are applied."""
    kind = field.type
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return [
            (Flaw.LIST_ITEM_NULL, _drop_null_items),
            (Flaw.TEXT_NOT_UTF8, lambda lists: _repair_items(lists, _replace_invalid_utf8)),
            (Flaw.TEXT_WITH_NUL, lambda lists: _repair_items(lists, _replace_nul)),
            (Flaw.LIST_TOO_LONG, _shorten_lists),
        ]
    if pa.types.is_string(kind):
        return _text_rules(field)
    if pa.types.is_floating(kind):
        return [(Flaw.NUMBER_NOT_FINITE, lambda numbers: _replace_not_finite(numbers, is_nullable=field.nullable))]
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        return [(Flaw.TIMESTAMP_OUT_OF_RANGE, _clamp)]
    return []


def _text_rules(field: pa.Field) -> list[Rule]:
    rules: list[Rule] = [(Flaw.TEXT_NOT_UTF8, _replace_invalid_utf8)]
    if field.name in IDENTITY:
        return rules
    rules.append((Flaw.TEXT_WITH_NUL, _replace_nul))
    if field.name in LABELS:
        return [*rules, (Flaw.LABEL_TOO_LONG, lambda labels: _cut(labels, LABEL_MAX_BYTES))]
    if field.name in JSON_COLUMNS and field.nullable:
        return [*rules, (Flaw.JSON_TOO_LONG, _drop_long)]
    return [*rules, (Flaw.TEXT_TOO_LONG, lambda texts: _cut(texts, TEXT_MAX_BYTES))]


def _is_utf8(texts: pa.Array) -> bool:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _replace_invalid_utf8(texts: pa.Array) -> Repair:
    if _is_utf8(texts):
        return None
    values = texts.cast(pa.binary()).to_pylist()
    decoded = [None if value is None else value.decode("utf-8", "replace") for value in values]
    changed = [
        value is not None and text != value.decode("utf-8", "ignore")
        for text, value in zip(decoded, values, strict=True)
    ]
    return pa.array(decoded, pa.string()), np.array(changed, bool)


def _replace_nul(texts: pa.Array) -> Repair:
    if not _has_nul(texts):
        return None
    rows = pc.fill_null(pc.match_substring(texts, "\0"), False).to_numpy(zero_copy_only=False)
    return (pc.replace_substring(texts, "\0", "\ufffd"), rows) if rows.any() else None


def _has_nul(texts: pa.Array) -> bool:
    """Whether a NUL is among the bytes of the texts; one pass over the buffer."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return False
    first, last = np.frombuffer(offsets, np.int32)[[texts.offset, texts.offset + len(texts)]]
    return bool((np.frombuffer(data, np.uint8)[first:last] == 0).any())


def _repair_items(lists: pa.Array, rule: Callable[[pa.Array], Repair]) -> Repair:
    items = rule(lists.flatten())
    if items is None:
        return None
    rows = np.zeros(len(lists), bool)
    rows[pc.list_parent_indices(lists).to_numpy()[items[1]]] = True
    return _lists(_lengths(lists), items[0], lists), rows


def _drop_null_items(lists: pa.Array) -> Repair:
    items = lists.flatten()
    if not items.null_count:
        return None
    parents = pc.list_parent_indices(lists).to_numpy()
    is_null = items.is_null().to_numpy(zero_copy_only=False)
    rows = np.zeros(len(lists), bool)
    rows[parents[is_null]] = True
    return _lists(np.bincount(parents[~is_null], minlength=len(lists)), items.drop_null(), lists), rows


def _shorten_lists(lists: pa.Array) -> Repair:
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
    remaining = items.filter(pa.array(keep))
    cut = _cut(remaining, LABEL_MAX_BYTES)
    return _lists(np.bincount(parents[keep], minlength=len(lists)), remaining if cut is None else cut[0], lists), rows


def _longer_than(texts: pa.Array, max_bytes: int) -> np.ndarray:
    """Which texts have more than `max_bytes` bytes: (rows,) bool."""
    is_long: np.ndarray = pc.fill_null(pc.greater(pc.binary_length(texts), max_bytes), False).to_numpy(
        zero_copy_only=False
    )
    return is_long


def _cut(texts: pa.Array, max_bytes: int) -> Repair:
    rows = _longer_than(texts, max_bytes)
    if not rows.any():
        return None
    mask = pa.array(rows)
    long = texts.filter(mask).cast(pa.binary()).to_pylist()
    # A character that the cut divides is removed whole.
    cut = pa.array([value[:max_bytes].decode("utf-8", "ignore") for value in long], pa.string())
    return pc.replace_with_mask(texts, mask, cut), rows


def _drop_long(texts: pa.Array) -> Repair:
    rows = _longer_than(texts, TEXT_MAX_BYTES)
    return (pc.if_else(pa.array(rows), pa.scalar(None, texts.type), texts), rows) if rows.any() else None


def _replace_not_finite(numbers: pa.Array, *, is_nullable: bool) -> Repair:
    is_finite = pc.fill_null(pc.is_finite(numbers), True)
    if pc.all(is_finite).as_py() in (True, None):
        return None
    rows = ~is_finite.to_numpy(zero_copy_only=False)
    return pc.if_else(is_finite, numbers, pa.scalar(None if is_nullable else 0.0, numbers.type)), rows


def clamp_times(rows: pa.Table) -> pa.Table:
    """The table with every time in the years 1 to 9999, the nearest one where it was not."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type) and (repaired := _clamp(rows.column(place).combine_chunks())):
            rows = rows.set_column(place, field, repaired[0])
    return rows


def _clamp(times: pa.Array) -> Repair:
    is_date = pa.types.is_date32(times.type)
    low, high = (pa.scalar(one.date() if is_date else one, times.type) for one in (TIME_MIN, TIME_MAX))
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
    """Lists of these lengths, (rows,) int64, from their items one after the other, null where `like` is."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, items, type=like.type, mask=like.is_null() if like.null_count else None)
