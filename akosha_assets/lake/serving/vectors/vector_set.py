"""Vectors of one part in one space: which rows have one, and which of them are nearest to a question.

A scan over two bits a number proposes candidates; stored vectors score them. Scores are cosines, since vectors are
unit length. Nothing here knows about text, tables or tiers.
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

# Below this an exact scan is as quick as an index.
INDEX_MIN_ROWS = 2048
# The lists of an index that a question looks into: these many, or this share where it is more. Chosen by `akosha bench
# search` for hot and by `akosha bench tiers` for warm.
PROBED_LISTS = 128
PROBED_SHARE = {"float16": 0.11, "int8": 0.12}
FORMS = {"float16": "<f2", "int8": "i1", "sketch": "u1"}
# From float16 to float32: fraction and exponent move left, the sign stays on the left, the exponents' zeros are this
# far apart.
HALF_SHIFT = 13
HALF_BITS = np.uint32(0x8FFFE000).view(np.int32)
HALF_EXPONENT = np.float32(2.0**112)


@dataclass(frozen=True)
class VectorSet:
    """`matrix[i]`, times `scale[i]` where there is one, belongs to row `rows[i]` of its part; `rows` ascends.

    `form` is float16, int8 (with a scale) or sketch (bits, with the scale that makes estimates unbiased).
    """

    rows: np.ndarray
    matrix: np.ndarray
    form: str = "float16"
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
        """Bytes of the vectors and of the index that they have or will get."""
        indexed = inverted_file.nbytes(len(self), self.dimensions) if self._takes_index else 0
        return (
            int(self.rows.nbytes + self.matrix.nbytes) + (0 if self.scale is None else int(self.scale.nbytes)) + indexed
        )

    @property
    def is_approximate(self) -> bool:
        """Scores are estimates, because the vectors themselves were not kept."""
        return self.form == "sketch"

    @property
    def _takes_index(self) -> bool:
        return (
            len(self) >= INDEX_MIN_ROWS
            and self.form != "sketch"
            and self.dimensions % inverted_file.NUMBERS_PER_BYTE == 0
        )

    def indexed(self, space: str, layouts: CoarseQuantizers) -> Self:
        """The same with an index, where there are rows enough for one to help."""
        if self.index is not None or not self._takes_index:
            return self
        use_one_faiss_thread()
        layout = layouts.of(space, len(self), self.floats)
        return replace(self, index=Segment(InvertedFile.built(len(self), layout, self.floats)))

    def probed(self) -> int:
        """The lists that a question looks into, where it has an index."""
        assert self.index is not None
        lists = len(self.index.file.layout)
        return min(lists, max(PROBED_LISTS, round(PROBED_SHARE[self.form] * lists)))

    def floats(self, positions: np.ndarray | slice) -> np.ndarray:
        """Vectors at `positions` as float32. Not for sketches."""
        numbers = _float32(self.matrix[positions])
        return numbers if self.scale is None else numbers * self.scale[positions, None]

    def scores(self, query: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """Cosines of `query` with the vectors at `positions`, or with all."""
        count = len(self) if positions is None else len(positions)
        found = np.empty(count, np.float32)
        for start in range(0, count, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            at = block if positions is None else positions[block]
            if self.form == "sketch":
                assert self.scale is not None
                found[block] = sketch_scores(query[None], self.matrix[at], self.scale[at])[0]
            else:
                cosines = inner_products(query, _float32(self.matrix[at]))
                found[block] = cosines if self.scale is None else cosines * self.scale[at]
        return found

    def selection(self, selected: np.ndarray | None) -> np.ndarray | None:
        """A mask of these vectors from one of the rows of the part, where there is one."""
        return selected if selected is None or len(selected) == len(self) else selected[self.rows]

    def best(self, query: np.ndarray, wanted: int, selected: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the `wanted` nearest and their cosines, by looking at every vector that the mask `selected`
        holds for.
        """
        among = None if selected is None else np.flatnonzero(selected)
        if self.form == "sketch":
            assert self.scale is not None
            if among is None:
                return sketches.best(query, self.matrix, self.scale, wanted)
            best, estimates = sketches.best(query, self.matrix[among], self.scale[among], wanted)
            return among[best], estimates
        cosines = self.scores(query, among)
        best = top_k(cosines, wanted)
        return best if among is None else among[best], cosines[best]

    def of_row(self, row: int) -> np.ndarray | None:
        """The vector of a row as float32, or None where it has none or only a sketch of it was kept."""
        at = int(np.searchsorted(self.rows, row))
        if self.form == "sketch" or at >= len(self) or self.rows[at] != row:
            return None
        return self.floats(slice(at, at + 1))[0]

    def asked_with(self, row: int) -> np.ndarray | None:
        """The unit vector that finds what is like a row, or None where the row has none; of a sketch the direction it
        stands for.
        """
        at = int(np.searchsorted(self.rows, row))
        if self.form != "sketch" or at >= len(self) or self.rows[at] != row:
            return self.of_row(row)
        return from_sketch(self.matrix[at : at + 1])[0]

    def picked(self, positions: np.ndarray) -> Self:
        """The vectors at `positions`."""
        scale = None if self.scale is None else self.scale[positions]
        return type(self)(self.rows[positions], self.matrix.take(positions, axis=0), self.form, scale)

    def kept(self, keep: np.ndarray) -> Self:
        """Without the rows for which the mask `keep` is false; the others move up."""
        having = keep[self.rows]
        moved = np.cumsum(keep, dtype=np.int32) - 1
        scale = None if self.scale is None else self.scale[having]
        return type(self)(moved[self.rows[having]].astype(np.int32), self.matrix[having], self.form, scale)


def _float32(numbers: np.ndarray) -> np.ndarray:
    """The same finite numbers as float32. numpy widens a float16 one by one; its bits, moved to their place, are wide
    at once.
    """
    if numbers.dtype != np.float16:
        return numbers.astype(np.float32)
    bits = numbers.view(np.int16).astype(np.int32)
    bits <<= HALF_SHIFT
    bits &= HALF_BITS
    wide = bits.view(np.float32)
    wide *= HALF_EXPONENT
    return wide


def use_one_faiss_thread() -> None:
    """FAISS starts no threads of its own in calls of this thread; on a busy machine they would wait for each other."""
    if not hasattr(_told, "once"):
        faiss.omp_set_num_threads(1)
        _told.once = True


# Threads that told FAISS so: it is heeded for as long as a thread lives, and each call of FAISS gives up the
# interpreter lock.
_told = threading.local()


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the `k` highest scores, best first; equal scores in order of position."""
    if len(scores) > k:
        best = np.sort(np.argpartition(-scores, k - 1)[:k])
        return best[np.argsort(-scores[best], kind="stable")]
    return np.argsort(-scores, kind="stable")


def concatenate_vectors(pieces: list[tuple[int, VectorSet]]) -> VectorSet:
    """One set from several of one form and length, each with the position its first row takes."""
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
    """Which rows of a float16 matrix have only finite numbers: an exponent of all ones is an infinity or not a number."""
    sound = np.empty(len(vectors), bool)
    bits = vectors.view(np.uint16)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        sound[block] = (bits[block] & 0x7C00).max(axis=1, initial=0) != 0x7C00
    return sound


def decode_vectors(
    column: pa.BinaryArray, spaces: pa.StringArray, form: str, scales: np.ndarray | None, lengths_bytes: dict[str, int]
) -> tuple[dict[str, VectorSet], int]:
    """Vectors by space from stored bytes, and how many were left out for another length or a number that is not finite.

    `lengths_bytes` holds the length of each space; that of a new space is the usual one among its vectors here.
    """
    found: dict[str, VectorSet] = {}
    refused = 0
    lengths = pc.binary_length(column)
    for space in pc.unique(spaces).drop_null().to_pylist():
        mask = pc.and_kleene(pc.equal(spaces, space), column.is_valid()).fill_null(False)
        stored = pc.sum(mask).as_py() or 0
        if not stored:
            continue
        usual = lengths_bytes.setdefault(space, pc.mode(lengths.filter(mask))[0]["mode"].as_py())
        right = pc.and_(mask, pc.equal(lengths, usual).fill_null(False))
        # Filtering copies, which for most tables is all that there is to do.
        picked = column if pc.all(right).as_py() else column.filter(right)
        if not len(picked) or usual % np.dtype(FORMS[form]).itemsize:
            refused += stored
            continue
        numbers = as_matrix(picked, FORMS[form])
        rows = np.flatnonzero(right.to_numpy(zero_copy_only=False)).astype(np.int32)
        scale = None if scales is None else scales[rows].astype(np.float32)
        sound = _are_finite(numbers) if scale is None else np.isfinite(scale)
        if not sound.all():
            rows, numbers, scale = rows[sound], numbers[sound], None if scale is None else scale[sound]
        refused += stored - len(rows)
        if len(rows):
            found[space] = VectorSet(rows, numbers, form, scale)
    return found, refused
