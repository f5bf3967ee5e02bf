"""A snapshot: the parts and indexes that a search uses. Immutable, so that updates do not affect searches."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from typing import Protocol

import numpy as np

from akosha_assets.lake.errors import NotFound, TierUnavailable
from akosha_assets.lake.serving.parts.part import Categories, Part, RowRange
from akosha_assets.lake.serving.parts.source_presence import SourcePresence
from akosha_assets.lake.serving.query import Filters, Identity, ParsedQuery
from akosha_assets.lake.serving.states import ViewState
from akosha_assets.lake.serving.vectors.vector_set import Coverage, VectorSet

# Vectors whose mean is that of an average row, and the number of vectors of mean 0 that count beside them.
SAMPLED_ROWS, PRIOR_ROWS = 256, 30
# Vectors are of any length: those of clients, and of models that do not normalize.
BACKGROUND_MAX = 0.95


class Keywords(Protocol):
    """Keyword search over row ids."""

    def search(self, question: ParsedQuery, filters: Filters, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(hits,) int64 row ids and (hits,) float32 scores of the best `k`, best first."""

    def full_score(self, question: ParsedQuery) -> float:
        """The score of a row of average length that has each word once."""

    def word_weights(self, question: ParsedQuery) -> dict[str, float]:
        """The inverse document frequency of each stem that is looked for."""

    def highlights(self, question: ParsedQuery) -> frozenset[str]:
        """Stems of the words to highlight."""

    def has_tag(self, tag: str) -> bool:
        """Whether a row has the tag."""


def _mean(vector_sets: list[VectorSet]) -> np.ndarray:
    """The sum of a sample of all vectors by its size and `PRIOR_ROWS`: (dimensions,) float32."""
    ends = np.cumsum([len(vector_set) for vector_set in vector_sets])
    sampled = np.unique(np.linspace(0, ends[-1] - 1, min(SAMPLED_ROWS, int(ends[-1]))).astype(np.int64))
    owners = np.searchsorted(ends, sampled, "right")
    total = np.zeros(vector_sets[0].dimensions, np.float32)
    for owner in np.unique(owners).tolist():
        vector_set = vector_sets[owner]
        total += vector_set.floats(sampled[owners == owner] - (ends[owner] - len(vector_set))).sum(axis=0)
    mean: np.ndarray = total / (len(sampled) + PRIOR_ROWS)
    return mean


@dataclass(frozen=True)
class TierView:
    """One tier of a snapshot. `reason` explains the state."""

    name: str
    state: ViewState = ViewState.LOADING
    reason: str | None = None
    version: int | None = None
    watermark: datetime | None = None
    parts: tuple[Part, ...] = ()
    refused_vectors: int = 0
    # Rows that cannot be served, and those among them whose data files cannot be read.
    rows_set_aside: int = 0
    rows_unreadable: int = 0
    # Identity hashes of rows that are set aside in readable files.
    identities_set_aside: frozenset[int] = frozenset()
    # The row ids of each data file in `parts`, by path.
    row_ranges: Mapping[str, RowRange] = field(default_factory=dict)

    @cached_property
    def rows(self) -> int:
        """Rows that are not hidden."""
        return sum(len(part) - (0 if part.hidden is None else int(part.hidden.sum())) for part in self.parts)

    @cached_property
    def rows_with_vector(self) -> int:
        """Rows with a vector, hidden ones included."""
        return sum(len(vector_set.distinct_rows) for part in self.parts for vector_set in part.vectors.values())

    def with_presence(self, presence: SourcePresence) -> "TierView":
        """The view with the absences of `presence` in its parts."""
        return replace(self, parts=tuple(part.with_presence(presence) for part in self.parts))

    @property
    def rows_without_vector(self) -> int:
        """Rows without a vector yet."""
        return max(0, self.rows - self.rows_with_vector)

    @property
    def doubt(self) -> str | None:
        """Why the view may lack rows of the table; None if it is complete."""
        if self.state == ViewState.LOADING:
            return f"is still being loaded{f' ({self.reason})' if self.reason else ''}"
        if self.state == ViewState.READY and self.rows_set_aside:
            return f"is incomplete ({self.reason})"
        if self.state == ViewState.UNAVAILABLE:
            return f"{'is stale' if self.is_loaded else 'is unavailable'} ({(self.reason or '').rstrip('.')})"
        return None

    def doubt_about(self, identity: int) -> str | None:
        """Why the view may lack a row with this identity hash that the table has; None if it cannot."""
        if self.state == ViewState.READY and not self.rows_unreadable and identity not in self.identities_set_aside:
            return None
        return self.doubt

    @property
    def is_whole(self) -> bool:
        """The view has all rows of its version, and a version if there is a table."""
        return self.is_loaded and not self.rows_set_aside

    @property
    def is_loaded(self) -> bool:
        """Some version was loaded, perhaps without rows that cannot be served."""
        return self.state in (ViewState.READY, ViewState.EMPTY, ViewState.SKIPPED) or (
            self.state == ViewState.UNAVAILABLE and self.version is not None
        )

    @cached_property
    def days_on_disk(self) -> list[date]:
        """Days with parts on disk, oldest first."""
        return sorted({part.day for part in self.parts if part.folder is not None})


@dataclass(frozen=True)
class Snapshot:
    """The tiers, hottest first, and the keyword index. `keyword_rows` of the rows are in the index."""

    tiers: dict[str, TierView]
    keywords: Keywords
    keyword_rows: int
    terms: dict[str, Categories]
    hashed: Callable[[Identity], int]
    presence: SourcePresence = field(default_factory=SourcePresence)

    @cached_property
    def places(self) -> list[tuple[str, Part]]:
        """Every part with its tier, hottest first."""
        return [(name, part) for name, tier in self.tiers.items() for part in tier.parts]

    def has_value(self, field: str, value: str) -> bool:
        """Whether a row has, or had since the service started, this value of a coded column or of `tags`."""
        return self.keywords.has_tag(value) if field == "tags" else self.terms[field].code(value) >= 0

    def unknown_values(self, filters: Filters) -> dict[str, list[str]]:
        """The values of each filter that no row has. Tags only if all rows are in the keyword index."""
        values = dict(filters.equals)
        if filters.tags and self.keyword_rows >= self.rows:
            values["tags"] = filters.tags
        missing = {
            name: [value for value in of_name if not self.has_value(name, value)] for name, of_name in values.items()
        }
        return {name: of_name for name, of_name in missing.items() if of_name}

    @cached_property
    def rows(self) -> int:
        """Rows of all tiers, hidden ones included."""
        return sum(len(part) for _, part in self.places)

    @cached_property
    def visible_rows(self) -> int:
        """Rows of all tiers that are not hidden."""
        return sum(tier.rows for tier in self.tiers.values())

    @cached_property
    def vectors(self) -> dict[tuple[str, int], int]:
        """How many visible rows have a vector of each space, by name and dimensions of the space."""
        counted: dict[tuple[str, int], int] = {}
        for _, part in self.places:
            for space, vector_set in part.vectors.items():
                rows = vector_set.distinct_rows
                visible = len(rows) - (0 if part.hidden is None else int(part.hidden[rows].sum()))
                counted[space, vector_set.dimensions] = counted.get((space, vector_set.dimensions), 0) + visible
        return counted

    @cached_property
    def coverage(self) -> dict[tuple[str, int], np.ndarray]:
        """How many visible rows with a vector of each space have each `Coverage`, (3,) int64; by name and dimensions of
        the space.
        """
        counted: dict[tuple[str, int], np.ndarray] = {}
        for _, part in self.places:
            for space, vector_set in part.vectors.items():
                rows = vector_set.distinct_rows
                visible = rows if part.hidden is None else rows[~part.hidden[rows]]
                of_part = np.bincount(part.coverage[visible], minlength=len(Coverage))
                counted[space, vector_set.dimensions] = counted.get((space, vector_set.dimensions), 0) + of_part
        return counted

    def background(self, space: str, query: np.ndarray) -> float:
        """The cosine of `query`, (dimensions,) float32, with an average row that has a vector of `space`.

        With few rows it is near 0, since the rows that are sought are a large share of them. It is at most
        `BACKGROUND_MAX`, and 0 where vectors are too long for a mean.
        """
        mean = self._mean_vectors.get((space, len(query)))
        cosine = 0.0 if mean is None else float(mean @ query)
        return min(max(cosine, -1.0), BACKGROUND_MAX) if math.isfinite(cosine) else 0.0

    @cached_property
    def _mean_vectors(self) -> dict[tuple[str, int], np.ndarray]:
        """The mean of a sample of the vectors of each space, (dimensions,) float32, by name and dimensions."""
        by_space: dict[tuple[str, int], list[VectorSet]] = {}
        for _, part in self.places:
            for space, vector_set in part.vectors.items():
                if len(vector_set) and vector_set.form != "sketch":
                    by_space.setdefault((space, vector_set.dimensions), []).append(vector_set)
        return {key: _mean(vector_sets) for key, vector_sets in by_space.items()}

    def dimensions(self) -> dict[str, int]:
        """Dimensions of each space that has vectors, by its name."""
        return {
            space: vector_set.dimensions
            for tier in self.tiers.values()
            for part in tier.parts
            for space, vector_set in part.vectors.items()
        }

    def locate(self, row_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The part and row of each row id: (n,) int64 positions in `places`, -1 if not served, and (n,) int64 rows."""
        first, last = self._spans
        places, rows = np.full(len(row_ids), -1, np.int64), np.zeros(len(row_ids), np.int64)
        # The row ids of a part may have gaps, so several parts may span one id.
        candidate_places, candidates = np.nonzero((row_ids >= first[:, None]) & (row_ids <= last[:, None]))
        for place in set(candidate_places.tolist()):
            chosen = candidates[candidate_places == place]
            part_rows, is_served = self.places[place][1].rows_with_ids(row_ids[chosen])
            places[chosen[is_served]], rows[chosen[is_served]] = place, part_rows[is_served]
        return places, rows

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray]:
        """(parts,) int64: the first and the last row id of each part."""
        spans = np.array([part.span for _, part in self.places], np.int64).reshape(-1, 2)
        return spans[:, 0], spans[:, 1]

    def missing(self, identity: Identity) -> NotFound:
        """The error for a memory that `find` did not find."""
        skipped = next((tier.reason for tier in self.tiers.values() if tier.state == ViewState.SKIPPED), None)
        return NotFound("memory", f"{identity.system_id}/{identity.kind}/{identity.id}", skipped)

    def resolve(self, identity: Identity) -> Identity:
        """The name under which a memory is stored, for any name of it."""
        stored_id = self.presence.memory_id(self.hashed(identity))
        return identity if stored_id is None else Identity(identity.system_id, identity.kind, stored_id)

    def find(self, identity: Identity) -> tuple[str, Part, int] | None:
        """Tier, part and row of a memory by any name of it, from the hottest tier that has it; None if no table has it.

        Raises:
            TierUnavailable: it was not found, and an incomplete tier may have it.
        """
        identity = self.resolve(identity)
        hashed = self.hashed(identity)
        for name, tier in self.tiers.items():
            for part in reversed(tier.parts):
                for row in part.rows_of(hashed):
                    # In a snapshot of an earlier time, a later version of the row is hidden in the same tier.
                    if (part.hidden is None or not part.hidden[row]) and part.payload.value(
                        "id", int(row)
                    ) == identity.id:
                        return name, part, int(row)
        about = {name: tier.doubt_about(hashed) for name, tier in self.tiers.items()}
        if doubts := {name: doubt for name, doubt in about.items() if doubt is not None}:
            name = f"{identity.system_id}/{identity.kind}/{identity.id}"
            raise TierUnavailable(f"memory {name!r} was not found, but tiers that may have it are incomplete", doubts)
        return None
