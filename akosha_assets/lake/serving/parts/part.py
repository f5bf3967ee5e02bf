"""A part: some rows of one event day as immutable columns, ready to be filtered, ranked and returned.

A day has a few parts. New rows make a new part, small parts are merged, removed rows make a smaller part. A search
uses the parts of one snapshot, which never change. `loading.py` turns files into parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.serving.parts.payload import Payload
from akosha_assets.lake.serving.parts.source_presence import PRESENT, SourcePresence
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, concatenate_vectors

# Columns that are filtered by equality; stored as int32 codes of the `Categories` of the same name, -1 for null.
CODED = ("system_id", "kind", "project", "namespace", "category", "source_type")


# Cached properties of a part that a change of its marks does not affect.
CACHED = ("order", "sorted_identity", "span")


class Categories:
    """Codes for the strings of one column, the same in every part. A code is never reused."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self._adding = Lock()

    def encode(self, column: pa.StringArray) -> np.ndarray:
        """The code of each string, (rows,) int32; -1 for null."""
        encoded = column.dictionary_encode()
        codes = np.array([self._of(name) for name in encoded.dictionary.to_pylist()] + [-1], np.int32)
        of_rows: np.ndarray = codes[encoded.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)]
        return of_rows

    def code(self, name: str) -> int:
        """The code of `name`; -2, which no row has, for an unknown string."""
        return self._codes.get(name, -2)

    def name(self, code: int) -> str | None:
        """The string of a code; None for -1."""
        return None if code < 0 else self.names[code]

    def restore(self, names: list[str]) -> None:
        """Gives each name its position as code. Only for an empty instance."""
        for name in names:
            self._of(name)

    def _of(self, name: str) -> int:
        code = self._codes.get(name)
        if code is not None:
            return code
        with self._adding:
            if name not in self._codes:
                # The name first: a reader that sees the code finds the name.
                self.names.append(name)
                self._codes[name] = len(self.names) - 1
            return self._codes[name]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one day. A row id is unique in this process and never reused."""

    day: date
    # (rows,) int64, sorted
    row_ids: np.ndarray
    # (rows,) uint64: hash of system, kind and id.
    identity: np.ndarray
    # (rows,) uint64: hash of the text.
    content: np.ndarray
    # (rows,) uint64: changes whenever a table's row is written again; equal values in a tier mean the same row.
    written: np.ndarray
    # By column of CODED, each (rows,) int32.
    codes: dict[str, np.ndarray]
    # (rows,) int64 UTC microseconds
    occurred_us: np.ndarray
    arrived_us: np.ndarray
    # (rows,) float32, NaN for null
    importance: np.ndarray
    # (rows,) uint8, of Coverage; only of rows with a vector.
    coverage: np.ndarray
    payload: Payload
    # By space.
    vectors: dict[str, VectorSet] = field(default_factory=dict)
    # The folder whose files are mapped; None for a part in memory.
    folder: Path | None = None
    # (rows,) bool: rows that a hotter tier has in a newer form; None for no rows.
    hidden: np.ndarray | None = None
    # (rows,) int64 UTC microseconds since when the source lacks the memory, PRESENT where it has it; None if it has
    # all.
    absent_since_us: np.ndarray | None = None
    # What `absent_since_us` was computed from.
    presence: SourcePresence | None = None

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of its columns, vectors and their indexes, in memory or mapped."""
        arrays = [self.row_ids, self.identity, self.content, self.written, *self.codes.values()]
        arrays += [self.occurred_us, self.arrived_us, self.importance, self.coverage]
        vectors = sum(of_space.nbytes for of_space in self.vectors.values())
        return self.payload.nbytes + sum(array.nbytes for array in arrays) + vectors

    @cached_property
    def order(self) -> np.ndarray:
        """The rows in ascending order of `identity`: (rows,) int32."""
        return np.argsort(self.identity).astype(np.int32)

    @cached_property
    def sorted_identity(self) -> np.ndarray:
        """The identity hashes, sorted: (rows,) uint64."""
        hashes: np.ndarray = self.identity[self.order]
        return hashes

    def rows_of(self, identity: int) -> np.ndarray:
        """The rows with this identity hash: (matches,) int32."""
        key = np.uint64(identity)
        left, right = (int(np.searchsorted(self.sorted_identity, key, side)) for side in ("left", "right"))
        return self.order[left:right]

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first and the last row id."""
        return int(self.row_ids[0]), int(self.row_ids[-1])

    def rows_with_ids(self, row_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row of each row id, (ids,) int64, and a mask of the ids that have a visible row, (ids,) bool.

        The ids must be within `span`.
        """
        first, last = self.span
        if last - first == len(self) - 1:
            rows, is_visible = row_ids - first, np.ones(len(row_ids), bool)
        else:
            rows = np.searchsorted(self.row_ids, row_ids)
            is_visible = self.row_ids[rows] == row_ids
        return rows, is_visible if self.hidden is None else is_visible & ~self.hidden[rows]

    def with_hidden(self, hidden: np.ndarray) -> Self:
        """The part with the rows of the mask `hidden` hidden, and no others."""
        return replace(self, hidden=hidden if hidden.any() else None)

    def with_presence(self, presence: SourcePresence) -> Self:
        """The part with the absences of `presence`."""
        if self.presence is presence:
            return self
        marked = replace(self, presence=presence, absent_since_us=presence.since(self.identity))
        # They follow from columns that are the same.
        marked.__dict__.update({name: self.__dict__[name] for name in CACHED if name in self.__dict__})
        return marked

    def absent(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows`, (n,) int, are memories that their source lacks: (n,) bool."""
        if self.absent_since_us is None:
            return np.zeros(len(rows), bool)
        is_absent: np.ndarray = self.absent_since_us[rows] != PRESENT
        return is_absent

    def filter(self, keep: np.ndarray) -> Self:
        """The rows of the mask `keep`, in memory and none hidden."""
        return type(self)(
            day=self.day,
            row_ids=self.row_ids[keep],
            identity=self.identity[keep],
            content=self.content[keep],
            written=self.written[keep],
            codes={name: codes[keep] for name, codes in self.codes.items()},
            occurred_us=self.occurred_us[keep],
            arrived_us=self.arrived_us[keep],
            importance=self.importance[keep],
            coverage=self.coverage[keep],
            payload=Payload(self.payload.whole().filter(pa.array(keep))),
            vectors={space: vectors.filter(keep) for space, vectors in self.vectors.items()},
        )

    def has_tag(self, tag: str) -> np.ndarray:
        """A mask of the rows that have `tag`: (rows,) bool."""
        mask = np.zeros(len(self), bool)
        start = 0
        for chunk in self.payload.tags().chunks:
            parents = pc.list_parent_indices(chunk)
            hits = parents.filter(pc.equal(pc.list_flatten(chunk), tag))
            mask[start + hits.to_numpy(zero_copy_only=False)] = True
            start += len(chunk)
        return mask


@dataclass(frozen=True, slots=True)
class RowRange:
    """The row ids of one data file: `start` up to `stop`."""

    start: int
    stop: int
    day: date

    def is_in(self, part: Part) -> bool:
        """Whether `part` has rows of this file."""
        at = int(np.searchsorted(part.row_ids, self.start))
        return at < len(part) and int(part.row_ids[at]) < self.stop


def concatenate_parts(parts: Sequence[Part]) -> Part:
    """One part from several of one day, which must be in the order of their row ids."""
    offsets = np.cumsum([0] + [len(part) for part in parts])
    spaces = {space for part in parts for space in part.vectors}
    by_space = {
        space: [
            (int(offset), part.vectors[space])
            for offset, part in zip(offsets[:-1], parts, strict=True)
            if space in part.vectors
        ]
        for space in spaces
    }
    return Part(
        day=parts[0].day,
        row_ids=np.concatenate([part.row_ids for part in parts]),
        identity=np.concatenate([part.identity for part in parts]),
        content=np.concatenate([part.content for part in parts]),
        written=np.concatenate([part.written for part in parts]),
        codes={name: np.concatenate([part.codes[name] for part in parts]) for name in CODED},
        occurred_us=np.concatenate([part.occurred_us for part in parts]),
        arrived_us=np.concatenate([part.arrived_us for part in parts]),
        importance=np.concatenate([part.importance for part in parts]),
        coverage=np.concatenate([part.coverage for part in parts]),
        payload=Payload(pa.concat_tables([part.payload.whole() for part in parts]).combine_chunks()),
        vectors={space: concatenate_vectors(pieces) for space, pieces in by_space.items()},
    )


def compact_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same rows in fewer parts: the last two are merged while the last has at least half the rows of the other.

    So a row is copied once each time its day doubles, and a day of n rows has at most log n parts.
    """
    stack = list(parts)
    while len(stack) > 1 and 2 * len(stack[-1]) >= len(stack[-2]):
        last = stack.pop()
        stack[-1] = concatenate_parts([stack[-1], last])
    return tuple(stack)


def hide_shadowed(parts: tuple[Part, ...], hotter: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts with the rows hidden whose memory is also in `hotter`, the parts of a hotter tier for the same day."""
    if not hotter:
        return tuple(part if part.hidden is None else replace(part, hidden=None) for part in parts)
    hotter_identities = np.concatenate([part.identity for part in hotter])
    masks = [np.isin(part.identity, hotter_identities) for part in parts]
    return tuple(part.with_hidden(mask) for part, mask in zip(parts, masks, strict=True))
