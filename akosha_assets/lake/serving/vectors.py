"""Vectors of one part in one space: which rows have one, and which of them are nearest to a question.

Scores are cosines: vectors are unit length. Nothing here knows about text, tables or tiers.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Vectors:
    """`matrix[i]` (float16, unit length) belongs to row `rows[i]` of its part; `rows` ascends."""

    rows: np.ndarray
    matrix: np.ndarray

    @property
    def dimensions(self) -> int:
        """Numbers in one vector."""
        return int(self.matrix.shape[1])

    def nearest(self, query: np.ndarray, k: int, selected: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Rows and cosines of the `k` nearest, best first; of the rows for which the mask `selected` holds only."""
        among = np.arange(len(self.rows)) if selected is None else np.flatnonzero(selected[self.rows])
        scores = self._exact(query, among)
        best = top(scores, k)
        return self.rows[among[best]], scores[best]

    def of_row(self, row: int) -> np.ndarray | None:
        """The vector of a row as float32, or None where it has none."""
        at = int(np.searchsorted(self.rows, row))
        return self.matrix[at].astype(np.float32) if at < len(self.rows) and self.rows[at] == row else None

    def kept(self, keep: np.ndarray) -> Self:
        """Without the rows for which the mask `keep` is false; the others move up."""
        having = keep[self.rows]
        moved = np.cumsum(keep, dtype=np.int32) - 1
        return type(self)(moved[self.rows[having]].astype(np.int32), self.matrix[having])

    def _exact(self, query: np.ndarray, among: np.ndarray) -> np.ndarray:
        scores = np.empty(len(among), np.float32)
        whole = len(among) == len(self.rows)
        for start in range(0, len(among), BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, len(among))
            block = self.matrix[start:stop] if whole else self.matrix[among[start:stop]]
            scores[start:stop] = block.astype(np.float32) @ query
        return scores


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the `k` highest scores, best first; equal scores in order of position."""
    if len(scores) > k:
        best = np.sort(np.argpartition(-scores, k - 1)[:k])
        return best[np.argsort(-scores[best], kind="stable")]
    return np.argsort(-scores, kind="stable")


def joined(pieces: list[tuple[int, Vectors]]) -> Vectors:
    """One set from several, each with the position its first row takes."""
    rows = np.concatenate([vectors.rows + np.int32(offset) for offset, vectors in pieces])
    return Vectors(rows, np.concatenate([vectors.matrix for _, vectors in pieces]))


def decoded(column: pa.BinaryArray, spaces: pa.StringArray) -> tuple[dict[str, Vectors], int]:
    """Vectors by space from stored bytes, and how many were left out for a wrong length or a number that is not finite."""
    found: dict[str, Vectors] = {}
    refused = 0
    for space in pc.unique(spaces).drop_null().to_pylist():
        mask = pc.and_kleene(pc.equal(spaces, space), column.is_valid()).fill_null(False)
        lengths = pc.binary_length(column.filter(mask))
        if not len(lengths):
            continue
        usual = pc.mode(lengths)[0]["mode"].as_py()
        right = pc.and_(mask, pc.equal(pc.binary_length(column), usual).fill_null(False))
        picked = column.filter(right)
        start = picked.offset
        offsets = np.frombuffer(picked.buffers()[1], np.int32)[start : start + len(picked) + 1]
        matrix = np.frombuffer(picked.buffers()[2], "<f2")[offsets[0] // 2 : offsets[-1] // 2].reshape(len(picked), usual // 2)
        rows = np.flatnonzero(right.to_numpy(zero_copy_only=False)).astype(np.int32)
        # An exponent of all ones is an infinity or not a number.
        damaged = ((matrix.view(np.uint16) & 0x7C00) == 0x7C00).any(axis=1)
        if damaged.any():
            rows, matrix = rows[~damaged], matrix[~damaged]
        refused += pc.sum(mask).as_py() - len(rows)
        if len(rows):
            found[space] = Vectors(rows, matrix)
    return found, refused
