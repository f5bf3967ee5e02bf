"""The vectors of one part in one space: which rows have one, and which are nearest to a query.

An index of two bits a number proposes candidates; stored vectors score them. Vectors have unit length, so scores are
cosines. Nothing here knows about text, tables or tiers.
"""

import threading
from dataclasses import dataclass, field, replace
from typing import Self

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.lifecycle.quantization import from_sketch, sketch_scores
from akosha_assets.lake.lifecycle.quantization import matrix as as_matrix
from akosha_assets.lake.serving.vectors import inverted_file, sketches
from akosha_assets.lake.serving.vectors.inverted_file import BLOCK_ROWS, InvertedFile
from akosha_assets.lake.serving.vectors.merging import Segment
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers, inner_products
from akosha_assets.lake.vector_rules import VECTOR_MAX_NUMBERS

# With fewer rows an exact scan is as fast as an index.
INDEX_MIN_ROWS = 2048
# The lists of an index that a query probes: this many, or this share of them if that is more. Chosen by `akosha bench
# search` for hot and by `akosha bench tiers` for warm.
PROBED_LISTS = 128
PROBED_SHARE = {"float16": 0.11, "int8": 0.12}
FORMS = {"float16": "<f2", "int8": "i1", "sketch": "u1"}
# Conversion from float16 to float32: fraction and exponent move left by HALF_SHIFT bits, the sign stays in the highest
# bit, and a multiplication by HALF_EXPONENT corrects the bias of the exponent.
HALF_SHIFT = 13
HALF_BITS = np.uint32(0x8FFFE000).view(np.int32)
HALF_EXPONENT = np.float32(2.0**112)


@dataclass(frozen=True)
class VectorSet:
    """The vectors of some rows of a part: `matrix[i]`, times `scale[i]` if there is one, belongs to row `rows[i]`.

    `form` is float16, int8 (with a scale) or sketch (bits, with the scale that makes estimates unbiased).
    """

    # (vectors,) int32, sorted: rows of the part.
    rows: np.ndarray
    # (vectors, dimensions) float16 or int8; for sketches (vectors, dimensions / 8) uint8.
    matrix: np.ndarray
    form: str = "float16"
    # (vectors,) float32; None for float16.
    scale: np.ndarray | None = None
    index: Segment | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dimensions(self) -> int:
        """Numbers in one vector."""
        return int(self.matrix.shape[1]) * (8 if self.form == "sketch" else 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors and of the index that they have or will have."""
        index = inverted_file.nbytes(len(self), self.dimensions) if self._needs_index else 0
        scale = 0 if self.scale is None else int(self.scale.nbytes)
        return int(self.rows.nbytes + self.matrix.nbytes) + scale + index

    @property
    def is_approximate(self) -> bool:
        """Whether scores are estimates because only sketches of the vectors are stored."""
        return self.form == "sketch"

    @property
    def _needs_index(self) -> bool:
        return (
            len(self) >= INDEX_MIN_ROWS
            and self.form != "sketch"
            and self.dimensions % inverted_file.NUMBERS_PER_BYTE == 0
        )

    def with_index(self, space: str, quantizers: CoarseQuantizers) -> Self:
        """The same set with an index if it has enough rows for one."""
        if self.index is not None or not self._needs_index:
            return self
        use_one_faiss_thread()
        quantizer = quantizers.of(space, len(self), self.floats)
        return replace(self, index=Segment(InvertedFile.build(len(self), quantizer, self.floats)))

    def probe_count(self) -> int:
        """The number of lists that a query probes. Only for a set with an index."""
        assert self.index is not None
        lists = len(self.index.file.quantizer)
        return min(lists, max(PROBED_LISTS, round(PROBED_SHARE[self.form] * lists)))

    def floats(self, positions: np.ndarray | slice) -> np.ndarray:
        """The vectors at `positions`: (positions, dimensions) float32. Not for sketches."""
        numbers = _float32(self.matrix[positions])
        return numbers if self.scale is None else numbers * self.scale[positions, None]

    def scores(self, query: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """Cosines of `query` with the vectors at `positions`, or with all: (positions,) float32."""
        count = len(self) if positions is None else len(positions)
        scores = np.empty(count, np.float32)
        for start in range(0, count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            at = block if positions is None else positions[block]
            if self.form == "sketch":
                assert self.scale is not None
                scores[block] = sketch_scores(query[None], self.matrix[at], self.scale[at])[0]
            else:
                cosines = inner_products(query, _float32(self.matrix[at]))
                scores[block] = cosines if self.scale is None else cosines * self.scale[at]
        return scores

    def row_scores(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Cosines of `query` with the vectors of `rows`, (n,) int64: (n,) float32; NaN for rows without one."""
        scores = np.full(len(rows), np.nan, np.float32)
        positions = np.minimum(np.searchsorted(self.rows, rows), len(self) - 1)
        if len(self):
            has_vector = self.rows[positions] == rows
            scores[has_vector] = self.scores(query, positions[has_vector])
        return scores

    def selection(self, selected: np.ndarray | None) -> np.ndarray | None:
        """A mask of the vectors, (vectors,) bool, from a mask of the rows of the part; None selects all."""
        return selected if selected is None or len(selected) == len(self) else selected[self.rows]

    def scan(self, query: np.ndarray, k: int, selected: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positions, (k,) int64, and cosines, (k,) float32, of the `k` nearest, by an exact scan.

        `selected`: (vectors,) bool, the vectors to scan; None scans all.
        """
        candidates = None if selected is None else np.flatnonzero(selected)
        if self.form == "sketch":
            assert self.scale is not None
            if candidates is None:
                return sketches.scan(query, self.matrix, self.scale, k)
            best, estimates = sketches.scan(query, self.matrix[candidates], self.scale[candidates], k)
            return candidates[best], estimates
        cosines = self.scores(query, candidates)
        best = top_k(cosines, k)
        return best if candidates is None else candidates[best], cosines[best]

    def vector_of(self, row: int) -> np.ndarray | None:
        """The vector of a row, (dimensions,) float32; None if it has none or only a sketch of it is stored."""
        at = int(np.searchsorted(self.rows, row))
        if self.form == "sketch" or at >= len(self) or self.rows[at] != row:
            return None
        vector: np.ndarray = self.floats(slice(at, at + 1))[0]
        return vector

    def query_vector(self, row: int) -> np.ndarray | None:
        """The unit vector that finds rows similar to `row`, (dimensions,) float32; for a sketch, its direction.

        None if the row has no vector.
        """
        at = int(np.searchsorted(self.rows, row))
        if self.form != "sketch" or at >= len(self) or self.rows[at] != row:
            return self.vector_of(row)
        direction: np.ndarray = from_sketch(self.matrix[at : at + 1])[0]
        return direction

    def take(self, positions: np.ndarray) -> Self:
        """The vectors at `positions`, in their order."""
        scale = None if self.scale is None else self.scale[positions]
        return type(self)(self.rows[positions], self.matrix.take(positions, axis=0), self.form, scale)

    def filter(self, keep: np.ndarray) -> Self:
        """The vectors of the rows that `keep`, a mask of the part's rows, holds for; `rows` are renumbered."""
        is_kept = keep[self.rows]
        new_rows = np.cumsum(keep, dtype=np.int32) - 1
        scale = None if self.scale is None else self.scale[is_kept]
        return type(self)(new_rows[self.rows[is_kept]].astype(np.int32), self.matrix[is_kept], self.form, scale)


def _float32(numbers: np.ndarray) -> np.ndarray:
    """The same finite numbers as float32.

    numpy converts float16 numbers one by one; shifting their bits converts whole arrays at once.
    """
    if numbers.dtype != np.float16:
        return numbers.astype(np.float32)
    bits = numbers.view(np.int16).astype(np.int32)
    bits <<= HALF_SHIFT
    bits &= HALF_BITS
    floats: np.ndarray = bits.view(np.float32)
    floats *= HALF_EXPONENT
    return floats


def use_one_faiss_thread() -> None:
    """Calls of FAISS from this thread start no threads; on a busy machine those would wait for each other."""
    if not hasattr(_faiss_threads, "is_set"):
        faiss.omp_set_num_threads(1)
        _faiss_threads.is_set = True


# Set once a thread: FAISS keeps the setting as long as the thread lives, and each call releases the interpreter lock.
_faiss_threads = threading.local()


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the `k` highest scores, (k,) int64, best first; equal scores in order of position."""
    if len(scores) > k:
        best = np.sort(np.argpartition(-scores, k - 1)[:k])
        return best[np.argsort(-scores[best], kind="stable")]
    return np.argsort(-scores, kind="stable")


def concatenate_vectors(pieces: list[tuple[int, VectorSet]]) -> VectorSet:
    """One set from several of one form and dimension; each comes with the row that its row 0 gets."""
    rows = np.concatenate([vectors.rows + np.int32(offset) for offset, vectors in pieces])
    scales = [vectors.scale for _, vectors in pieces if vectors.scale is not None]
    form = pieces[0][1].form
    return VectorSet(
        rows,
        np.concatenate([vectors.matrix for _, vectors in pieces]),
        form,
        np.concatenate(scales) if scales else None,
    )


def _are_finite(vectors: np.ndarray) -> np.ndarray:
    """Which rows of a float16 matrix are finite, (rows,) bool: infinities and NaN have an exponent of all ones."""
    are_finite = np.empty(len(vectors), bool)
    bits = vectors.view(np.uint16)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        are_finite[block] = (bits[block] & 0x7C00).max(axis=1, initial=0) != 0x7C00
    return are_finite


def decode_vectors(
    column: pa.BinaryArray, spaces: pa.StringArray, form: str, scales: np.ndarray | None, lengths_bytes: dict[str, int]
) -> tuple[dict[str, VectorSet], int]:
    """Vectors by space from stored bytes, and the number of vectors left out: wrong or too large length, or not finite.

    `column`: (rows,) binary; `spaces`: (rows,) string; `scales`: (rows,) float32. `lengths_bytes` has the length of a
    vector by space; a new space gets the most frequent length of its vectors here.
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
        if not len(filtered) or length % np.dtype(FORMS[form]).itemsize or numbers_each > VECTOR_MAX_NUMBERS:
            left_out += stored
            continue
        numbers = as_matrix(filtered, FORMS[form])
        rows = np.flatnonzero(has_length.to_numpy(zero_copy_only=False)).astype(np.int32)
        scale = None if scales is None else scales[rows].astype(np.float32)
        finite = _are_finite(numbers) if scale is None else np.isfinite(scale)
        if not finite.all():
            rows, numbers, scale = rows[finite], numbers[finite], None if scale is None else scale[finite]
        left_out += stored - len(rows)
        if len(rows):
            by_space[space] = VectorSet(rows, numbers, form, scale)
    return by_space, left_out
