"""Turns a batch of source columns, as `selects.py` reads them, into rows of the table that its kind belongs to.

Works on changed rows only. What is odd about a row and does not stop it is counted by code in `flaws`.
"""

import base64
import binascii
from collections import Counter
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.event_times import DAY_US, OCCURRED_FROM, EventTimes
from akosha_assets.lake.ingestion.fingerprints import HASHES, Fingerprints
from akosha_assets.lake.ingestion.selects import HAS_VECTOR, VECTOR
from akosha_assets.lake.schemas import TABLE_OF_KIND, TABLES, UTC, extracted

VECTOR_NUMBERS = 384
ID_MAX_BYTES = 1024
ENCODED_TEXT = "__SB64__"
# The source cuts longer texts to this and says so at their end.
TRUNCATED, TRUNCATED_CHARACTERS = "[TRUNCATED]", 65_536

SCHEMA_OF_KIND = {kind: extracted(TABLES[address]) for kind, address in TABLE_OF_KIND.items()}


def checked(batch: pa.RecordBatch, *, table: str, max_field_bytes: int, flaws: Counter[str]) -> pa.RecordBatch:
    """The batch with proper UTF-8 and within the field bound. Raises: UploadRejected for a huge field or a row without id."""
    for place, name in enumerate(batch.schema.names):
        column = batch.column(place)
        if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
            continue
        if column.get_total_buffer_size() > (ID_MAX_BYTES if name == "id" else max_field_bytes):
            longest = pc.max(pc.binary_length(column)).as_py() or 0
            if longest > (ID_MAX_BYTES if name == "id" else max_field_bytes):
                raise UploadRejected("field_too_large", f"column {name} of table {table[:80]} holds a field of {longest} bytes")
        if pa.types.is_string(column.type) and not _is_utf8(column):
            values = [None if value is None else value.decode("utf-8", "replace") for value in column.cast(pa.binary()).to_pylist()]
            flaws["text_not_utf8"] += 1
            batch = batch.set_column(place, name, pa.array(values, pa.string()))
    ids = batch.column("id")
    if ids.null_count or pc.any(pc.equal(pc.binary_length(ids), 0)).as_py():
        raise UploadRejected("row_without_id", f"table {table[:80]} has a row whose id is null or empty")
    return batch


def _is_utf8(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with `__SB64__` texts as the text they encode."""
    text = batch.column("text")
    if not pc.any(pc.starts_with(text, ENCODED_TEXT)).as_py():
        return batch
    return batch.set_column(
        batch.schema.get_field_index("text"), "text", pa.array([_decode(value) for value in text.to_pylist()], pa.string())
    )


def _decode(text: str | None) -> str | None:
    if text is None or not text.startswith(ENCODED_TEXT):
        return text
    try:
        raw = base64.b64decode(text.removeprefix(ENCODED_TEXT), validate=True).decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeDecodeError):
        return text
    # Pairs of surrogates become the character they stand for, lone ones U+FFFD.
    return raw.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def to_rows(
    batch: pa.RecordBatch,
    kind: str,
    *,
    times: EventTimes | None,
    event_days: np.ndarray,
    constants: dict[str, str | int | datetime],
    fingerprints: Fingerprints,
    flaws: Counter[str],
) -> pa.RecordBatch:
    """Rows of the kind's table. `batch` carries `content_hash` besides what was selected; `event_days` counts from 1970."""
    rows = batch.num_rows
    columns = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
    schema = SCHEMA_OF_KIND[kind]
    columns["kind"] = pa.repeat(kind, rows)
    for name, value in constants.items():
        columns[name] = pa.repeat(pa.scalar(value, schema.field(name).type), rows)
    if times is not None:
        columns["occurred_at"] = pa.array(times.occurred_us).view(UTC)
        columns["occurred_from"] = OCCURRED_FROM.take(pa.array(times.occurred_from))
    if "vector" in schema.names:
        columns["event_day"] = pa.array(event_days.astype(np.int32)).view(pa.date32())
        columns["text"] = _texts(columns["text"], flaws)
        columns["fingerprint"] = _fingerprints(columns.get("fingerprint"), columns["text"], fingerprints, flaws)
        columns["vector"] = _vectors(columns.get(VECTOR), flaws)
    if HAS_VECTOR in columns and (left := pc.sum(columns[HAS_VECTOR]).as_py()):
        flaws["vector_left_out"] += left
    arrays = []
    for field in schema:
        column = columns.get(field.name)
        if column is None:
            column = pa.nulls(rows, field.type)
        arrays.append(column if column.type == field.type else column.cast(field.type, safe=False))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def event_days_of(times: EventTimes) -> np.ndarray:
    """UTC days since 1970 of the events."""
    return times.occurred_us // DAY_US


def _texts(texts: pa.Array, flaws: Counter[str]) -> pa.Array:
    if texts.null_count:
        flaws["text_missing"] += texts.null_count
        texts = texts.fill_null("")
    if texts.get_total_buffer_size() > TRUNCATED_CHARACTERS:
        cut = pc.and_(pc.ends_with(texts, TRUNCATED), pc.greater_equal(pc.utf8_length(texts), TRUNCATED_CHARACTERS))
        if count := pc.sum(cut).as_py():
            flaws["text_truncated"] += count
    return texts


def _fingerprints(given: pa.Array | None, texts: pa.Array, fingerprints: Fingerprints, flaws: Counter[str]) -> pa.Array:
    if given is None:
        return pa.array([fingerprints.of(text) for text in texts.to_pylist()], pa.binary())
    proper = pc.equal(pc.binary_length(given), 8 * HASHES).fill_null(False)
    missing = np.flatnonzero(~proper.to_numpy(zero_copy_only=False))
    if not len(missing):
        return given
    if wrong := len(missing) - given.null_count:
        flaws["fingerprint_wrong_size"] += wrong
    made = pa.array([fingerprints.of(text) for text in texts.take(pa.array(missing)).to_pylist()], pa.binary())
    return pc.replace_with_mask(given, pc.invert(proper), made)


def _vectors(given: pa.Array | None, flaws: Counter[str]) -> pa.Array | None:
    if given is None:
        return None
    lengths = pc.list_value_length(given)
    right = pc.equal(lengths, VECTOR_NUMBERS).fill_null(False)
    if wrong := pc.count(lengths).as_py() - (pc.sum(right).as_py() or 0):
        flaws["vector_wrong_size"] += wrong
    places = np.flatnonzero(right.to_numpy(zero_copy_only=False))
    numbers = given.filter(right).flatten()
    values = numbers.cast(pa.float32()).fill_null(np.nan).to_numpy(zero_copy_only=False).reshape(-1, VECTOR_NUMBERS).astype(np.float64)
    with np.errstate(all="ignore"):
        length = np.sqrt(np.square(values).sum(axis=1, keepdims=True))
    finite = np.isfinite(values).all(axis=1) & np.isfinite(length[:, 0])
    usable = finite & (length[:, 0] > 0)
    if count := int(np.count_nonzero(~finite)):
        flaws["vector_not_finite"] += count
    if count := int(np.count_nonzero(finite & ~usable)):
        flaws["vector_zero"] += count
    halves = (values[usable] / length[usable]).astype("<f2")
    packed = pa.Array.from_buffers(pa.binary(2 * VECTOR_NUMBERS), len(halves), [None, pa.py_buffer(halves.tobytes())]).cast(pa.binary())
    at = np.full(len(given), -1, dtype=np.int64)
    at[places[usable]] = np.arange(len(halves))
    return packed.take(pa.array(at, mask=at < 0))
