"""A snapshot: everything a search needs, at one instant. Immutable, so a search is never disturbed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
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

    def row_of_number(self, number: int) -> tuple[str, Part, int] | None:
        """Tier, part and row that a number means, or None where it is no longer served."""
        for name, tier in self.tiers.items():
            for part in tier.parts:
                if part.numbers[0] <= number <= part.numbers[-1] and (row := part.row_of_number(number)) is not None:
                    return None if part.hidden is not None and part.hidden[row] else (name, part, row)
        return None

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
