"""A snapshot: everything a search needs, at one instant. Immutable, so a search is never disturbed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Protocol

import numpy as np

from akosha_assets.lake.serving.parts import Part, Terms
from akosha_assets.lake.serving.query import Filters, Identity
from akosha_assets.lake.serving.tail import Load


class Keywords(Protocol):
    """Finds row numbers by words."""

    def search(self, text: str, filters: Filters, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and scores of the best `k`, best first."""

    def highlights(self, text: str) -> frozenset[str]:
        """Stems of the words of a question that are looked for."""


@dataclass(frozen=True)
class TierView:
    """One tier at one instant. `state` is empty (no table), loading, ready, unavailable or skipped (not asked); `why` says more."""

    name: str
    state: str = "loading"
    why: str | None = None
    version: int | None = None
    watermark: datetime | None = None
    parts: tuple[Part, ...] = ()
    refused_vectors: int = 0
    # The files whose rows are in `parts`, by path.
    loads: Mapping[str, Load] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows that can be found."""
        return sum(len(part) - (0 if part.hidden is None else int(part.hidden.sum())) for part in self.parts)

    @property
    def days_on_disk(self) -> list[date]:
        """Days answered from disk, oldest first."""
        return sorted({part.day for part in self.parts if part.folder is not None})


@dataclass(frozen=True)
class Snapshot:
    """The tiers, hottest first, and the keyword index."""

    tiers: dict[str, TierView]
    keywords: Keywords
    keyword_rows: int
    terms: dict[str, Terms]
    hashed: Callable[[Identity], int]

    @property
    def rows(self) -> int:
        """Rows of all tiers, hidden ones too."""
        return sum(len(part) for tier in self.tiers.values() for part in tier.parts)

    def dimensions(self) -> dict[str, int]:
        """Vector length of each space that has vectors."""
        return {space: held.dimensions for tier in self.tiers.values() for part in tier.parts for space, held in part.vectors.items()}

    def rows_of_numbers(self, numbers: np.ndarray) -> list[tuple[str, Part, int] | None]:
        """Tier, part and row that each number means, or None where it is no longer served."""
        places, first, last = self._spans
        found: list[tuple[str, Part, int] | None] = [None] * len(numbers)
        # The numbers of a part need not be without gaps, so several parts may span one number.
        of_number, of_part = np.nonzero((numbers[:, None] >= first) & (numbers[:, None] <= last))
        for at, place in zip(of_number.tolist(), of_part.tolist(), strict=True):
            name, part = places[place]
            row = part.row_of_number(int(numbers[at]))
            if row is not None and (part.hidden is None or not part.hidden[row]):
                found[at] = (name, part, row)
        return found

    @cached_property
    def _spans(self) -> tuple[list[tuple[str, Part]], np.ndarray, np.ndarray]:
        """Every part with its tier, and the first and the last number of each."""
        places = [(name, part) for name, tier in self.tiers.items() for part in tier.parts]
        first, last = (np.array([part.numbers[end] for _, part in places], np.int64) for end in (0, -1))
        return places, first, last

    def find(self, identity: Identity) -> tuple[str, Part, int] | None:
        """Tier, part and row of a memory, from the hottest tier that has it."""
        hashed = self.hashed(identity)
        for name, tier in self.tiers.items():
            for part in reversed(tier.parts):
                for row in part.rows_of(hashed):
                    # In a past snapshot the form that came later is hidden in the same tier.
                    if (part.hidden is None or not part.hidden[row]) and part.payload["id"][int(row)].as_py() == identity.id:
                        return name, part, int(row)
        return None
