"""The rows that a search by vector found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, kw_only=True)
class RankedRows:
    """The rows nearest to a query, best first, each once, with its best vector."""

    # (rows,) int64: the position of each row's set.
    owner: np.ndarray
    # (rows,) int32: the row in the part of the set.
    row: np.ndarray
    # (rows,) float32: the cosine of the row's best vector.
    score: np.ndarray
    # (rows, 2) int32: the passage of that vector, as in `VectorSet.passages`.
    passage: np.ndarray

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        return cls(
            owner=np.empty(0, np.int64),
            row=np.empty(0, np.int32),
            score=np.empty(0, np.float32),
            passage=np.empty((0, 2), np.int32),
        )

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def join(cls, found: Sequence[Self]) -> Self:
        """The rows of all of `found`, best first; one that is in several, several times."""
        if len(found) == 1:
            return found[0]
        names = ("owner", "row", "score", "passage")
        joined = cls(**{name: np.concatenate([getattr(each, name) for each in found]) for name in names})
        return joined.take(np.argsort(-joined.score, kind="stable"))

    def take(self, positions: np.ndarray) -> Self:
        """The rows at `positions`, (n,) int64."""
        return type(self)(
            owner=self.owner[positions],
            row=self.row[positions],
            score=self.score[positions],
            passage=self.passage[positions],
        )
