"""Ranked rows as columns: each memory once, two rankings fused into one, hits made only as far as a page needs them.

How rows are found is not its business, nor what callers see of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from akosha_assets.lake.serving.parts.part import Part

# Every part of a snapshot with its tier.
Places = Sequence[tuple[str, Part]]


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that was ranked."""

    tier: str
    part: Part
    row: int
    score: float
    scores: dict[str, float]
    # The identity hash of the row, and that of its text.
    identity: int
    content: int


@dataclass(frozen=True)
class Ranking:
    """Rows, best first: `place` is the position of a row's part among those of the snapshot.

    `scores` has the score in each ranking by name, not a number where that one did not find the row.
    """

    place: np.ndarray
    row: np.ndarray
    identity: np.ndarray
    content: np.ndarray
    score: np.ndarray
    scores: dict[str, np.ndarray]

    @classmethod
    def of(cls, name: str, places: Places, place: np.ndarray, row: np.ndarray, score: np.ndarray) -> Self:
        """Rows in the order in which the ranking `name` found them."""
        identity, content = np.empty(len(row), np.uint64), np.empty(len(row), np.uint64)
        for number in set(place.tolist()):
            mine = place == number
            part, rows = places[number][1], row[mine]
            identity[mine], content[mine] = part.identity[rows], part.content[rows]
        wide = score.astype(np.float64)
        return cls(place, row, identity, content, wide, {name: wide})

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        none = np.empty(0, np.int64)
        return cls(none, none, np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0), {})

    def __len__(self) -> int:
        return len(self.row)

    @property
    def contents(self) -> int:
        """How many different texts its rows have."""
        return len(np.unique(self.content))

    def picked(self, positions: np.ndarray) -> Self:
        """The rows at `positions`, or where such a mask holds."""
        scores = {name: values[positions] for name, values in self.scores.items()}
        place, row, identity, content = (
            each[positions] for each in (self.place, self.row, self.identity, self.content)
        )
        return type(self)(place, row, identity, content, self.score[positions], scores)

    def settled(self) -> Self:
        """Equal scores in order of identity, and each memory once: of its forms with one score the hottest, which is
        placed first.
        """
        ordered = self.picked(np.lexsort((self.place, self.identity, -self.score)))
        return ordered.distinct()

    def distinct(self) -> Self:
        """The first row of each memory."""
        first = np.unique(self.identity, return_index=True)[1]
        return self if len(first) == len(self) else self.picked(np.sort(first))

    def without(self, identities: np.ndarray) -> Self:
        """The rows of other memories than these."""
        return self.picked(~np.isin(self.identity, identities)) if len(identities) else self

    def hits(self, places: Places) -> Iterator[Hit]:
        """Hit after hit, each made when it is asked for."""
        names = tuple(self.scores)
        columns = zip(*(values.tolist() for values in self.scores.values()), strict=True)
        rows = zip(
            *(column.tolist() for column in (self.place, self.row, self.score, self.identity, self.content)),
            columns,
            strict=True,
        )
        for place, row, score, identity, content, found in rows:
            tier, part = places[place]
            scores = {name: one for name, one in zip(names, found, strict=True) if one == one}
            yield Hit(tier, part, row, score, scores, identity, content)


def reciprocal_rank_fusion(semantic: Ranking, keyword: Ranking, weights: tuple[float, float], constant: int) -> Ranking:
    """One ranking by the sum of `weight / (constant + rank)` over the rankings that found a memory."""
    identity, first, which = np.unique(
        np.concatenate([semantic.identity, keyword.identity]), return_index=True, return_inverse=True
    )
    shares = [
        weight / (constant + np.arange(1, len(each) + 1))
        for each, weight in zip((semantic, keyword), weights, strict=True)
    ]
    score = np.bincount(which, np.concatenate(shares), len(identity))
    of_keyword, of_semantic = np.full(len(identity), np.nan), np.full(len(identity), np.nan)
    of_semantic[which[: len(semantic)]] = semantic.score
    of_keyword[which[len(semantic) :]] = keyword.score
    pairs = ((semantic.place, keyword.place), (semantic.row, keyword.row), (semantic.content, keyword.content))
    place, row, content = (np.concatenate(pair)[first] for pair in pairs)
    whole = Ranking(place, row, identity, content, score, {"keyword": of_keyword, "semantic": of_semantic})
    order = np.lexsort((identity, -score))
    return whole.picked(order[score[order] > 0])
