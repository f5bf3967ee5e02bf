"""A snapshot: everything a search needs, at one instant. Immutable, so a search is never disturbed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Protocol

import numpy as np

from akosha_assets.lake.errors import NotFound, TierUnavailable
from akosha_assets.lake.serving.parts.part import Categories, Part, RowRange
from akosha_assets.lake.serving.query import Filters, Identity, ParsedQuery


class Keywords(Protocol):
    """Finds row numbers by words."""

    def search(self, question: ParsedQuery, filters: Filters, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and scores of the best `k`, best first."""

    def highlights(self, question: ParsedQuery) -> frozenset[str]:
        """Stems of the words of a question that are looked for."""


@dataclass(frozen=True)
class TierView:
    """One tier at one instant. `state` is empty (no table), loading, ready, unavailable or skipped (not asked);
    `reason` says more.
    """

    name: str
    state: str = "loading"
    reason: str | None = None
    version: int | None = None
    watermark: datetime | None = None
    parts: tuple[Part, ...] = ()
    refused_vectors: int = 0
    # Rows that cannot be served, those of files that cannot be read among them.
    rows_set_aside: int = 0
    rows_unreadable: int = 0
    # Identity hashes of the rows that are set aside in files that can be read.
    identities_set_aside: frozenset[int] = frozenset()
    # The files whose rows are in `parts`, by path.
    loads: Mapping[str, RowRange] = field(default_factory=dict)

    @cached_property
    def rows(self) -> int:
        """Rows that can be found."""
        return sum(len(part) - (0 if part.hidden is None else int(part.hidden.sum())) for part in self.parts)

    @cached_property
    def rows_with_vector(self) -> int:
        """Rows of its parts that have a vector."""
        return sum(len(held.rows) for part in self.parts for held in part.vectors.values())

    @property
    def rows_without_vector(self) -> int:
        """Rows that wait for a vector."""
        return max(0, self.rows - self.rows_with_vector)

    @property
    def doubt(self) -> str | None:
        """Why its table may hold rows that are not among these; None where it does not."""
        if self.state == "loading":
            return f"is still being loaded{f' ({self.reason})' if self.reason else ''}"
        if self.state == "ready" and self.rows_set_aside:
            return f"is not whole ({self.reason})"
        if self.state == "unavailable":
            return f"{'is stale' if self.is_loaded else 'is unavailable'} ({(self.reason or '').rstrip('.')})"
        return None

    def doubt_about(self, identity: int) -> str | None:
        """Why its table may hold a row with this identity hash that is not among these; None where it does not."""
        if self.state == "ready" and not self.rows_unreadable and identity not in self.identities_set_aside:
            return None
        return self.doubt

    @property
    def is_whole(self) -> bool:
        """All rows of the version that it shows are here, and of a table that is there some version is shown."""
        return self.is_loaded and not self.rows_set_aside

    @property
    def is_loaded(self) -> bool:
        """It was loaded, perhaps without rows that cannot be read."""
        return self.state in ("ready", "empty", "skipped") or (self.state == "unavailable" and self.version is not None)

    @cached_property
    def days_on_disk(self) -> list[date]:
        """Days answered from disk, oldest first."""
        return sorted({part.day for part in self.parts if part.folder is not None})


@dataclass(frozen=True)
class Snapshot:
    """The tiers, hottest first, and the keyword index."""

    tiers: dict[str, TierView]
    keywords: Keywords
    keyword_rows: int
    terms: dict[str, Categories]
    hashed: Callable[[Identity], int]

    @cached_property
    def places(self) -> list[tuple[str, Part]]:
        """Every part with its tier, hottest first."""
        return [(name, part) for name, tier in self.tiers.items() for part in tier.parts]

    @cached_property
    def rows(self) -> int:
        """Rows of all tiers, hidden ones too."""
        return sum(len(part) for _, part in self.places)

    @cached_property
    def visible_rows(self) -> int:
        """Rows of all tiers that can be found."""
        return sum(tier.rows for tier in self.tiers.values())

    @cached_property
    def vectors(self) -> dict[tuple[str, int], int]:
        """How many rows that can be found have a vector of each space, by its name and length."""
        counted: dict[tuple[str, int], int] = {}
        for _, part in self.places:
            for space, held in part.vectors.items():
                rows = len(held) - (0 if part.hidden is None else int(part.hidden[held.rows].sum()))
                counted[space, held.dimensions] = counted.get((space, held.dimensions), 0) + rows
        return counted

    def dimensions(self) -> dict[str, int]:
        """Vector length of each space that has vectors."""
        return {
            space: held.dimensions
            for tier in self.tiers.values()
            for part in tier.parts
            for space, held in part.vectors.items()
        }

    def rows_of_numbers(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each number the position of its part in `places`, -1 if it is no longer served, and its row there."""
        first, last = self._spans
        found, rows = np.full(len(numbers), -1, np.int64), np.zeros(len(numbers), np.int64)
        # The numbers of a part need not be without gaps, so several parts may span one number.
        of_place, of_number = np.nonzero((numbers >= first[:, None]) & (numbers <= last[:, None]))
        for place in set(of_place.tolist()):
            mine = of_number[of_place == place]
            at, served = self.places[place][1].rows_with_ids(numbers[mine])
            found[mine[served]], rows[mine[served]] = place, at[served]
        return found, rows

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last number of each part."""
        spans = np.array([part.span for _, part in self.places], np.int64).reshape(-1, 2)
        return spans[:, 0], spans[:, 1]

    def missing(self, identity: Identity) -> NotFound:
        """What is raised where `find` found nothing."""
        unasked = next((tier.reason for tier in self.tiers.values() if tier.state == "skipped"), None)
        return NotFound("memory", f"{identity.system_id}/{identity.kind}/{identity.id}", unasked)

    def find(self, identity: Identity) -> tuple[str, Part, int] | None:
        """Tier, part and row of a memory, from the hottest tier that has it; None where no table has it.

        Raises:
            TierUnavailable: it was not found, and a tier may have it that is not served as its table is.
        """
        hashed = self.hashed(identity)
        for name, tier in self.tiers.items():
            for part in reversed(tier.parts):
                for row in part.rows_of(hashed):
                    # In a past snapshot the form that came later is hidden in the same tier.
                    if (part.hidden is None or not part.hidden[row]) and part.payload.value(
                        "id", int(row)
                    ) == identity.id:
                        return name, part, int(row)
        about = {name: tier.doubt_about(hashed) for name, tier in self.tiers.items()}
        if doubts := {name: doubt for name, doubt in about.items() if doubt is not None}:
            named = f"{identity.system_id}/{identity.kind}/{identity.id}"
            raise TierUnavailable(f"whether there is a memory {named!r} cannot be said now", doubts)
        return None
