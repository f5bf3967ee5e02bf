"""The vectors of one part in one space: which rows have one, and which are nearest to a query. A row whose text is long
has one for each passage.

An index of two bits a number proposes candidates; stored vectors score them. Vectors have unit length, so scores are
cosines. Nothing here knows about text, tables or tiers.
"""

import threading
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Self

import faiss
import numpy as np

from akosha_assets.lake.lifecycle.quantization import from_sketch, sketch_scores
from akosha_assets.lake.serving.vectors import inverted_file, sketches
from akosha_assets.lake.serving.vectors.inverted_file import BLOCK_ROWS, InvertedFile
from akosha_assets.lake.serving.vectors.merging import Segment
from akosha_assets.lake.serving.vectors.quantizer import CoarseQuantizers, inner_products

# With fewer rows an exact scan is as fast as an index.
INDEX_MIN_ROWS = 2048
# The lists of an index that a query probes: this many, or this share of them if that is more. Chosen by `akosha bench
# search` for hot and by `akosha bench tiers` for warm.
PROBED_LISTS = 128
PROBED_SHARE = {"float16": 0.11, "int8": 0.12}
# Conversion from float16 to float32: fraction and exponent move left by HALF_SHIFT bits, the sign stays in the highest
# bit, and a multiplication by HALF_EXPONENT corrects the bias of the exponent.
HALF_SHIFT = 13
HALF_BITS = np.uint32(0x8FFFE000).view(np.int32)
HALF_EXPONENT = np.float32(2.0**112)


class Coverage(IntEnum):
    """How much of a row's text its vectors describe."""

    WHOLE = 0
    # The beginning: the text has more passages than get a vector, or it moved to a colder tier before it was cut.
    PARTIAL = 1
    # The beginning, until the passages are embedded.
    WAITING = 2


@dataclass(frozen=True)
class VectorSet:
    """The vectors of some rows of a part: `matrix[i]`, times `scale[i]` if there is one, belongs to row `rows[i]`.

    A position is the place of a vector in the set. The first vector of a row is its own, the others are its passages'.
    `form` is float16, int8 (with a scale) or sketch (bits, with the scale that makes estimates unbiased).
    """

    # (vectors,) int32, sorted: rows of the part; a row with passages several times.
    rows: np.ndarray
    # (vectors, dimensions) float16 or int8; for sketches (vectors, dimensions / 8) uint8.
    matrix: np.ndarray
    form: str = "float16"
    # (vectors,) float32; None for float16.
    scale: np.ndarray | None = None
    index: Segment | None = field(default=None, compare=False)
    # (vectors, 2) int32: start and end of the passage in bytes of the text, 0 and 0 for the only vector of a row; None
    # if no row has several.
    passages: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self.rows)

    @cached_property
    def distinct_rows(self) -> np.ndarray:
        """The rows with a vector, each once: (rows,) int32, sorted."""
        return self.rows if self.passages is None else self.rows[np.diff(self.rows, prepend=-1) > 0]

    @property
    def dimensions(self) -> int:
        """Numbers in one vector."""
        return int(self.matrix.shape[1]) * (8 if self.form == "sketch" else 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors and of the index that they have or will have."""
        index = inverted_file.nbytes(len(self), self.dimensions) if self._needs_index else 0
        optional = sum(int(array.nbytes) for array in (self.scale, self.passages) if array is not None)
        return int(self.rows.nbytes + self.matrix.nbytes) + optional + index

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
        """The highest cosine of `query` with the vectors of each of `rows`, (n,) int64: (n,) float32; NaN for rows
        without one.
        """
        scores = np.full(len(rows), np.nan, np.float32)
        first, end = (np.searchsorted(self.rows, rows, side) for side in ("left", "right"))
        has_vector = end > first
        if not has_vector.any():
            return scores
        counts = (end - first)[has_vector]
        # Where the vectors of each row begin among those of all rows.
        begins = np.cumsum(counts) - counts
        positions = np.arange(int(counts.sum())) + np.repeat(first[has_vector] - begins, counts)
        scores[has_vector] = np.maximum.reduceat(self.scores(query, positions), begins)
        return scores

    def selection(self, selected: np.ndarray | None) -> np.ndarray | None:
        """A mask of the vectors, (vectors,) bool, from a mask of the rows of the part; None selects all."""
        is_every_row = self.passages is None and selected is not None and len(selected) == len(self)
        return selected if selected is None or is_every_row else selected[self.rows]

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
        """The first vector of a row, (dimensions,) float32; None if it has none or only a sketch of it is stored."""
        at = int(np.searchsorted(self.rows, row))
        if self.form == "sketch" or at >= len(self) or self.rows[at] != row:
            return None
        vector: np.ndarray = self.floats(slice(at, at + 1))[0]
        return vector

    def query_vectors(self, row: int) -> np.ndarray:
        """The unit vectors that find rows similar to `row`, one for each passage, (vectors, dimensions) float32; for
        sketches, their directions. None of them if the row has no vector.
        """
        first, last = (int(np.searchsorted(self.rows, row, side)) for side in ("left", "right"))
        return from_sketch(self.matrix[first:last]) if self.form == "sketch" else self.floats(slice(first, last))

    def passages_at(self, positions: np.ndarray) -> np.ndarray:
        """The passages of the vectors at `positions`: (positions, 2) int32, as in `passages`."""
        if self.passages is None:
            return np.zeros((len(positions), 2), np.int32)
        of_positions: np.ndarray = self.passages[positions]
        return of_positions

    def take(self, positions: np.ndarray) -> Self:
        """The vectors at `positions`, in their order."""
        return self._select(positions, self.rows[positions], self.matrix.take(positions, axis=0))

    def filter(self, keep: np.ndarray) -> Self:
        """The vectors of the rows that `keep`, a mask of the part's rows, holds for; `rows` are renumbered."""
        is_kept = keep[self.rows]
        new_rows = np.cumsum(keep, dtype=np.int32) - 1
        return self._select(is_kept, new_rows[self.rows[is_kept]].astype(np.int32), self.matrix[is_kept])

    def _select(self, chosen: np.ndarray, rows: np.ndarray, matrix: np.ndarray) -> Self:
        """The vectors that `chosen`, positions or a mask, selects; `rows` and `matrix` are theirs."""
        scale = None if self.scale is None else self.scale[chosen]
        passages = None if self.passages is None else self.passages[chosen]
        return type(self)(rows, matrix, self.form, scale, passages=passages)


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
    has_passages = any(vectors.passages is not None for _, vectors in pieces)
    return VectorSet(
        rows,
        np.concatenate([vectors.matrix for _, vectors in pieces]),
        form,
        np.concatenate(scales) if scales else None,
        passages=np.concatenate([vectors.passages_at(np.arange(len(vectors))) for _, vectors in pieces])
        if has_passages
        else None,
    )
