"""Which stored vectors can be compared with a question. `row_rules.py` makes the others null."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# No model that the settings allow makes vectors of more numbers.
VECTOR_MAX_NUMBERS = 4_096
# No vector of float16 needs a larger scale; with one its numbers overflow.
SCALE_MAX = 65_504
# A half that is infinite or NaN has an exponent of all ones.
_HALF_EXPONENT = np.uint16(0x7C00)
# By name of a column of vectors: the column of its scales.
SCALES = {"vector": "vector_scale", "sketch": "sketch_scale"}
# By name of a column of vectors with a scale: bytes of its longest vector, of int8 numbers or of bits.
SCALED_MAX_BYTES = {"vector": VECTOR_MAX_NUMBERS, "sketch": VECTOR_MAX_NUMBERS // 8}


def find_unusable(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    """The rows whose vector cannot be used, (rows,) bool, by column; only columns that may be null and have such rows.

    A vector without scale is float16: finite numbers, at least one. One with a scale needs that scale. None has more
    than `VECTOR_MAX_NUMBERS`: the rotation of a sketch takes the cube of its numbers.
    """
    found = {}
    for name, scale in SCALES.items():
        place = batch.schema.get_field_index(name)
        if (
            place < 0
            or not batch.schema.field(place).nullable
            or not pa.types.is_binary(batch.schema.field(place).type)
        ):
            continue
        vectors = batch.column(place)
        if scale in batch.schema.names:
            lengths = _lengths(vectors)
            rows = _is_set(vectors) & ((lengths == 0) | (lengths > SCALED_MAX_BYTES[name]))
            # Null compares as NaN.
            scales = np.abs(batch.column(scale).to_numpy(zero_copy_only=False))
            rows |= _is_set(vectors) & ~(scales <= SCALE_MAX)
        elif name == "vector":
            rows = _find_bad_halves(vectors)
        else:
            continue
        if rows.any():
            found[name] = rows
    return found


def _is_set(column: pa.Array) -> np.ndarray:
    """(rows,) bool"""
    valid: np.ndarray = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _lengths(vectors: pa.Array) -> np.ndarray:
    """Bytes of each vector, (rows,) int64; 0 for null."""
    lengths: np.ndarray = pc.fill_null(pc.binary_length(vectors), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _find_bad_halves(vectors: pa.Array) -> np.ndarray:
    """Which vectors are not one or more finite float16: (rows,) bool; null is none of them."""
    lengths = _lengths(vectors)
    rows: np.ndarray = _is_set(vectors) & ((lengths == 0) | (lengths % 2 != 0) | (lengths > 2 * VECTOR_MAX_NUMBERS))
    sound = np.flatnonzero((lengths > 0) & ~rows)
    if len(sound):
        if len(sound) < len(vectors):
            vectors = vectors.take(pa.array(sound))
        _, offsets, data = vectors.buffers()
        first = int(np.frombuffer(offsets, np.int32)[vectors.offset])
        numbers = lengths[sound] // 2
        halves = np.frombuffer(data, np.uint16, count=int(numbers.sum()), offset=first)
        is_bad = (halves & _HALF_EXPONENT) == _HALF_EXPONENT
        if is_bad.any():
            rows[sound[np.logical_or.reduceat(is_bad, np.cumsum(numbers) - numbers)]] = True
    return rows
