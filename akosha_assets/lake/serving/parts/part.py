"""A part: an immutable run of rows of one event day, laid out for filtering, ranking and answering.

A day is a few parts. New rows make a new part, small parts are joined, removed rows make a smaller part; whoever
searches holds the parts of one instant and is never disturbed. How files become parts is in `loading.py`.
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
from akosha_assets.lake.serving.vectors.vector_set import VectorSet, concatenate_vectors

# Filtered by equality; held as int32 codes of a `Categories` of the same name, -1 for null.
CODED = ("system_id", "kind", "project", "namespace", "category", "source_type")


class Categories:
    """Codes for the strings of one column, the same in every part. Codes are never taken back."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self._adding = Lock()

    def encode(self, column: pa.StringArray) -> np.ndarray:
        """The code of each string, -1 for null."""
        encoded = column.dictionary_encode()
        codes = np.array([self._of(name) for name in encoded.dictionary.to_pylist()] + [-1], np.int32)
        return codes[encoded.indices.fill_null(len(codes) - 1).to_numpy(zero_copy_only=False)]

    def code(self, name: str) -> int:
        """The code of `name`, or -2, which no row has, where it was never seen."""
        return self._codes.get(name, -2)

    def name(self, code: int) -> str | None:
        """The string behind a code."""
        return None if code < 0 else self.names[code]

    def learn(self, names: list[str]) -> None:
        """The names have the codes of their positions. For one that knows none yet."""
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


@dataclass(frozen=True)
class Part:
    """Rows of one day. Row i has number `row_ids[i]`, ascending, which no other row of this process ever has."""

    day: date
    row_ids: np.ndarray
    identity: np.ndarray
    # A hash of the text.
    content: np.ndarray
    # A hash of what changes whenever a table's row is written anew: rows of one tier that agree in it are one and the
    # same.
    written: np.ndarray
    codes: dict[str, np.ndarray]
    occurred_us: np.ndarray
    arrived_us: np.ndarray
    importance: np.ndarray
    payload: Payload
    vectors: dict[str, VectorSet] = field(default_factory=dict)
    # The folder its bytes are mapped from; None in memory.
    folder: Path | None = None
    # Rows that a hotter tier holds in a newer form; None where it holds none.
    hidden: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.row_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of its columns, vectors and their indexes, in memory or mapped."""
        arrays = [self.row_ids, self.identity, self.content, self.written, *self.codes.values()]
        arrays += [self.occurred_us, self.arrived_us, self.importance]
        vectors = sum(held.nbytes for held in self.vectors.values())
        return self.payload.nbytes + sum(array.nbytes for array in arrays) + vectors

    @cached_property
    def order(self) -> np.ndarray:
        """Positions of the rows in ascending order of `identity`."""
        return np.argsort(self.identity).astype(np.int32)

    @cached_property
    def sorted_identity(self) -> np.ndarray:
        """The identity hashes in ascending order."""
        return self.identity[self.order]

    def rows_of(self, identity: int) -> np.ndarray:
        """Positions of the rows with this identity hash."""
        wanted = np.uint64(identity)
        left, right = (int(np.searchsorted(self.sorted_identity, wanted, side)) for side in ("left", "right"))
        return self.order[left:right]

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first and the last number."""
        return int(self.row_ids[0]), int(self.row_ids[-1])

    def numbered(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row of each number, which lies in the span, and a mask of those that can be found."""
        first, last = self.span
        if last - first == len(self) - 1:
            rows, found = numbers - first, np.ones(len(numbers), bool)
        else:
            rows = np.searchsorted(self.row_ids, numbers)
            found = self.row_ids[rows] == numbers
        return rows, found if self.hidden is None else found & ~self.hidden[rows]

    def hiding(self, hidden: np.ndarray) -> Self:
        """The part with just those rows hidden for which the mask holds."""
        return replace(self, hidden=hidden if hidden.any() else None)

    def kept(self, keep: np.ndarray) -> Self:
        """The rows for which the mask holds."""
        return type(self)(
            self.day,
            self.row_ids[keep],
            self.identity[keep],
            self.content[keep],
            self.written[keep],
            {name: codes[keep] for name, codes in self.codes.items()},
            self.occurred_us[keep],
            self.arrived_us[keep],
            self.importance[keep],
            Payload(self.payload.whole().filter(pa.array(keep))),
            {space: vectors.kept(keep) for space, vectors in self.vectors.items()},
        )

    def has_tag(self, tag: str) -> np.ndarray:
        """Mask of the rows that carry `tag`."""
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
    """A file whose rows are served: numbers `start` up to `stop`."""

    start: int
    stop: int
    day: date

    def is_in(self, part: Part) -> bool:
        """Whether `part` has rows of it."""
        at = int(np.searchsorted(part.row_ids, self.start))
        return at < len(part) and int(part.row_ids[at]) < self.stop


def concatenate_parts(parts: Sequence[Part]) -> Part:
    """One part from several of one day, in ascending order of their numbers."""
    offsets = np.cumsum([0] + [len(part) for part in parts])
    spaces = {space for part in parts for space in part.vectors}
    return Part(
        parts[0].day,
        np.concatenate([part.row_ids for part in parts]),
        np.concatenate([part.identity for part in parts]),
        np.concatenate([part.content for part in parts]),
        np.concatenate([part.written for part in parts]),
        {name: np.concatenate([part.codes[name] for part in parts]) for name in CODED},
        np.concatenate([part.occurred_us for part in parts]),
        np.concatenate([part.arrived_us for part in parts]),
        np.concatenate([part.importance for part in parts]),
        Payload(pa.concat_tables([part.payload.whole() for part in parts]).combine_chunks()),
        {
            space: concatenate_vectors(
                [
                    (int(offset), part.vectors[space])
                    for offset, part in zip(offsets, parts, strict=False)
                    if space in part.vectors
                ]
            )
            for space in spaces
        },
    )


def compact_parts(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same rows in fewer parts: the last two are joined while the last is at least half the size of the one before.

    So a row is copied as many times as its day doubles, and a day of n rows is at most log n parts.
    """
    stack = list(parts)
    while len(stack) > 1 and 2 * len(stack[-1]) >= len(stack[-2]):
        last = stack.pop()
        stack[-1] = concatenate_parts([stack[-1], last])
    return tuple(stack)


def hide_shadowed(parts: tuple[Part, ...], hotter: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same parts with those rows hidden whose memory is among `hotter`, which are of the same day."""
    if not hotter:
        return tuple(part if part.hidden is None else replace(part, hidden=None) for part in parts)
    known = np.concatenate([part.identity for part in hotter])
    masks = [np.isin(part.identity, known) for part in parts]
    return tuple(part.hiding(mask) for part, mask in zip(parts, masks, strict=True))
