"""Sets of vectors from the columns of a tier's table. A vector that cannot be compared is left out and counted."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.columns import RANGE_BYTES
from akosha_assets.lake.lifecycle.quantization import concatenated
from akosha_assets.lake.lifecycle.quantization import matrix as as_matrix
from akosha_assets.lake.passages import UNCUT_MAX_BYTES
from akosha_assets.lake.serving.vectors.inverted_file import BLOCK_ROWS
from akosha_assets.lake.serving.vectors.vector_set import Coverage, VectorSet
from akosha_assets.lake.vector_rules import VECTOR_MAX_NUMBERS

FORMS = {"float16": "<f2", "int8": "i1", "sketch": "u1"}
SCALE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class PassageColumns:
    """The columns of passages of a table, each (rows,) binary."""

    vectors: pa.BinaryArray
    # Null everywhere for float16.
    scales: pa.BinaryArray
    ranges: pa.BinaryArray


def decode_vectors(
    column: pa.BinaryArray,
    spaces: pa.StringArray,
    form: str,
    scales: np.ndarray | None,
    lengths_bytes: dict[str, int],
    passages: PassageColumns | None = None,
) -> tuple[dict[str, VectorSet], int]:
    """Vectors by space from stored bytes, and the number of vectors left out: wrong or too large length, or not finite.

    `column`: (rows,) binary; `spaces`: (rows,) string; `scales`: (rows,) float32. `lengths_bytes` has the length of a
    vector by space; a new space gets the most frequent length of its vectors here. Passages that do not fit the
    vector or the ranges of their row are left out together.
    """
    by_space: dict[str, VectorSet] = {}
    left_out = 0
    lengths = pc.binary_length(column)
    for space in pc.unique(spaces).drop_null().to_pylist():
        mask = pc.and_kleene(pc.equal(spaces, space), column.is_valid()).fill_null(False)
        stored = pc.sum(mask).as_py() or 0
        if not stored:
            continue
        length = lengths_bytes.setdefault(space, pc.mode(lengths.filter(mask))[0]["mode"].as_py())
        has_length = pc.and_(mask, pc.equal(lengths, length).fill_null(False))
        # `filter` copies; most tables need no filter.
        filtered = column if pc.all(has_length).as_py() else column.filter(has_length)
        numbers_each = length * 8 if form == "sketch" else length // np.dtype(FORMS[form]).itemsize
        has_whole_numbers = length % np.dtype(FORMS[form]).itemsize == 0
        if not len(filtered) or not has_whole_numbers or not 0 < numbers_each <= VECTOR_MAX_NUMBERS:
            left_out += stored
            continue
        rows = np.flatnonzero(has_length.to_numpy(zero_copy_only=False)).astype(np.int32)
        scale = None if scales is None else scales[rows].astype(np.float32)
        vectors = _finite(VectorSet(rows, as_matrix(filtered, FORMS[form]), form, scale))
        left_out += stored - len(vectors)
        if len(vectors) and passages is not None and passages.vectors.null_count < len(column):
            vectors, bad_passages = _with_passages(vectors, passages, length)
            left_out += bad_passages
        if len(vectors):
            by_space[space] = vectors
    return by_space, left_out


def coverage_of(ranges: pa.BinaryArray, text_bytes: np.ndarray, uncut: Coverage) -> np.ndarray:
    """How much of each text its vectors describe: (rows,) uint8, of `Coverage`.

    `ranges`: the column `passage_ranges`, (rows,) binary; `text_bytes`: (rows,) int64; `uncut`: what a text is that is
    longer than `UNCUT_MAX_BYTES` and has no ranges.
    """
    lengths = _lengths(ranges)
    coverage = np.where((lengths == 0) & (text_bytes > UNCUT_MAX_BYTES), uncut, Coverage.WHOLE).astype(np.uint8)
    is_cut = (lengths > 0) & (lengths % RANGE_BYTES == 0)
    if is_cut.any():
        ends = concatenated(ranges.filter(pa.array(is_cut))).view("<i4")
        last = ends[np.cumsum(lengths[is_cut] // 4) - 1]
        coverage[np.flatnonzero(is_cut)[last < text_bytes[is_cut]]] = Coverage.PARTIAL
    return coverage


def _with_passages(vectors: VectorSet, columns: PassageColumns, length: int) -> tuple[VectorSet, int]:
    """The vectors of rows, with those of their passages, and the number of passages left out."""
    taken = pa.array(vectors.rows)
    stored, ranges, scales = (each.take(taken) for each in (columns.vectors, columns.ranges, columns.scales))
    stored_bytes = _lengths(stored)
    counts = stored_bytes // length
    fits = (counts > 0) & (counts * length == stored_bytes) & (_lengths(ranges) == RANGE_BYTES * (counts + 1))
    if vectors.scale is not None:
        fits &= _lengths(scales) == SCALE_BYTES * counts
    left_out = int(np.maximum(counts, stored_bytes > 0)[~fits].sum())
    if not fits.any():
        return vectors, left_out
    chosen, counts = pa.array(fits), counts[fits]
    spans = concatenated(ranges.filter(chosen)).view("<i4").reshape(-1, 2)
    firsts = np.cumsum(counts + 1) - (counts + 1)
    own = np.zeros((len(vectors), 2), np.int32)
    own[fits] = spans[firsts]
    scale = None
    if vectors.scale is not None:
        scale = concatenated(scales.filter(chosen)).view("<f4")
    form = FORMS[vectors.form]
    others = VectorSet(
        np.repeat(vectors.rows[fits], counts),
        concatenated(stored.filter(chosen)).view(form).reshape(-1, length // np.dtype(form).itemsize),
        vectors.form,
        scale,
        passages=np.delete(spans, firsts, axis=0).astype(np.int32),
    )
    finite = _finite(others)
    left_out += len(others) - len(finite)
    rows = np.concatenate([vectors.rows, finite.rows])
    # Stable: the vector of a row comes before those of its passages.
    order = np.argsort(rows, kind="stable")
    together = VectorSet(
        rows[order],
        np.concatenate([vectors.matrix, finite.matrix])[order],
        vectors.form,
        None if vectors.scale is None else np.concatenate([vectors.scale, finite.scale])[order],
        passages=np.concatenate([own, finite.passages_at(np.arange(len(finite)))])[order],
    )
    return together, left_out


def _finite(vectors: VectorSet) -> VectorSet:
    """The vectors whose numbers and scales are finite."""
    is_finite = _are_finite(vectors.matrix) if vectors.scale is None else np.isfinite(vectors.scale)
    return vectors if is_finite.all() else vectors.take(np.flatnonzero(is_finite))


def _are_finite(vectors: np.ndarray) -> np.ndarray:
    """Which rows of a float16 matrix are finite, (rows,) bool: infinities and NaN have an exponent of all ones."""
    are_finite = np.empty(len(vectors), bool)
    bits = vectors.view(np.uint16)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        are_finite[block] = (bits[block] & 0x7C00).max(axis=1, initial=0) != 0x7C00
    return are_finite


def _lengths(column: pa.BinaryArray) -> np.ndarray:
    """Bytes of each value, (rows,) int64; 0 for null."""
    lengths: np.ndarray = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths
