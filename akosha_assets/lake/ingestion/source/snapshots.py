"""What a snapshot reader is given and what it returns: uploads to read, and their rows in pieces."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from akosha_assets.lake.ingestion.source.databases import File


class RetryIndividually(Exception):
    """Something about one of several uploads that only reading each by itself can tell of."""


@dataclass(frozen=True)
class UploadFiles:
    """One upload to read: its files, when it was taken, what is known of its system (KNOWN_SCHEMA)."""

    files: Sequence[File]
    snapshot_at: datetime
    known: pa.Table


@dataclass(frozen=True)
class Piece:
    """Rows of several uploads; `upload` is the place of each row's upload among them, ascending."""

    batch: pa.RecordBatch
    upload: np.ndarray


@dataclass
class Snapshots:
    """What uploads gave: changed rows by table address, every row seen; counts by upload."""

    rows_read: np.ndarray
    flaws: list[Counter[str]]
    rows: dict[str, list[Piece]] = field(default_factory=dict)
    seen: list[Piece] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows in Arrow."""
        pieces = [*self.seen, *(piece for pieces in self.rows.values() for piece in pieces)]
        return sum(piece.batch.nbytes for piece in pieces)

    def count(self, code: str, uploads: np.ndarray) -> None:
        """A flaw of rows, each of which belongs to one of `uploads`."""
        if len(uploads):
            for place, number in enumerate(np.bincount(uploads).tolist()):
                if number:
                    self.flaws[place][code] += number
