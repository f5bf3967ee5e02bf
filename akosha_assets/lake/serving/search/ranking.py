"""Rankings as columns: sorting, removing duplicates, leaving rows out.

A `Hit` per row is made only for the rows that a page needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from akosha_assets.lake.serving.parts.part import Part

# The share of its score that a memory loses when its source no longer has it.
ABSENT_SHARE = 0.25

# Every part of a snapshot with the name of its tier, hottest tier first.
Places = Sequence[tuple[str, Part]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A ranked row."""

    tier: str
    part: Part
    # The position of the row in `part`.
    row: int
    score: float
    # The score in each ranking that found the row.
    scores: dict[str, float]
    # Hashes of the memory's name and of its text.
    identity: int
    content: int


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Rows, best first."""

    # The position of each row's part in `Places`.
    place: np.ndarray  # (rows,) int64
    # The position of each row in its part.
    row: np.ndarray  # (rows,) int64
    identity: np.ndarray  # (rows,) uint64
    content: np.ndarray  # (rows,) uint64
    score: np.ndarray  # (rows,) float64
    # The score in each ranking by its name; NaN where that ranking did not find the row.
    scores: dict[str, np.ndarray]  # (rows,) float64 each

    @classmethod
    def from_rows(cls, name: str, places: Places, *, place: np.ndarray, row: np.ndarray, score: np.ndarray) -> Self:
        """Rows in the given order, with the scores of the ranking `name`.

        `place` and `row` are (rows,) int64, `score` is (rows,) of any float.
        """
        identity, content = np.empty(len(row), np.uint64), np.empty(len(row), np.uint64)
        for number in set(place.tolist()):
            is_here = place == number
            part, rows = places[number][1], row[is_here]
            identity[is_here], content[is_here] = part.identity[rows], part.content[rows]
        wide = score.astype(np.float64)
        return cls(place=place, row=row, identity=identity, content=content, score=wide, scores={name: wide})

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        positions, hashes = np.empty(0, np.int64), np.empty(0, np.uint64)
        return cls(place=positions, row=positions, identity=hashes, content=hashes, score=np.empty(0), scores={})

    def __len__(self) -> int:
        return len(self.row)

    @property
    def distinct_texts(self) -> int:
        """How many different texts the rows have."""
        return len(np.unique(self.content))

    def take(self, positions: np.ndarray) -> Self:
        """The rows at `positions`, (n,) int, or where the mask `positions`, (rows,) bool, holds."""
        return type(self)(
            place=self.place[positions],
            row=self.row[positions],
            identity=self.identity[positions],
            content=self.content[positions],
            score=self.score[positions],
            scores={name: scores[positions] for name, scores in self.scores.items()},
        )

    def sort(self) -> Self:
        """Each memory once, by descending score, then by identity; of its rows with one score, the hottest."""
        return self.take(np.lexsort((self.place, self.identity, -self.score))).deduplicate()

    def deduplicate(self) -> Self:
        """The first row of each memory."""
        first = np.unique(self.identity, return_index=True)[1]
        return self if len(first) == len(self) else self.take(np.sort(first))

    def exclude(self, identities: np.ndarray) -> Self:
        """The rows whose identity is not in `identities`, (n,) uint64."""
        return self.take(~np.isin(self.identity, identities)) if len(identities) else self

    def absent(self, places: Places) -> np.ndarray:
        """Which rows are memories that their source lacks: (rows,) bool."""
        is_absent = np.zeros(len(self), bool)
        for number in set(self.place.tolist()):
            is_here = self.place == number
            is_absent[is_here] = places[number][1].absent(self.row[is_here])
        return is_absent

    def demote_absent(self, places: Places) -> Self:
        """Memories that their source lacks count `ABSENT_SHARE` less of their score, so they rank behind present ones
        of like relevance.
        """
        is_absent = self.absent(places)
        if not is_absent.any():
            return self
        score = np.where(is_absent, self.score - ABSENT_SHARE * np.abs(self.score), self.score)
        order = np.lexsort((self.identity, is_absent, -score))
        return replace(self, score=score).take(order)

    def hits(self, places: Places) -> Iterator[Hit]:
        """The rows, best first, each made when it is needed."""
        names = tuple(self.scores)
        scores_of_rows = zip(*(scores.tolist() for scores in self.scores.values()), strict=True)
        columns = (self.place, self.row, self.score, self.identity, self.content)
        rows = zip(*(column.tolist() for column in columns), scores_of_rows, strict=True)
        for place, row, score, identity, content, scores in rows:
            tier, part = places[place]
            yield Hit(
                tier=tier,
                part=part,
                row=row,
                score=score,
                # NaN is not equal to itself.
                scores={name: one for name, one in zip(names, scores, strict=True) if one == one},
                identity=identity,
                content=content,
            )
