"""The input and the result of a snapshot reader: uploads to read, and their rows in pieces."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa

from akosha_assets.lake.ingestion.source.databases import File


class RetryIndividually(Exception):
    """One of several uploads is at fault; reading each individually shows which."""


@dataclass(frozen=True)
class UploadFiles:
    """One upload to read: its files, the time of the snapshot, the known rows of its system (KNOWN_SCHEMA).

    `latest_at`: the time of rows without one of their own, and at most a day before any that they have. None: that of
    the snapshot.
    """

    files: Sequence[File]
    snapshot_at: datetime
    known: pa.Table
    latest_at: datetime | None = None


@dataclass(frozen=True)
class Piece:
    """Rows of one or several uploads, ordered by upload."""

    batch: pa.RecordBatch
    # (rows,) int64, ascending: the position of each row's upload.
    upload: np.ndarray


@dataclass
class Snapshots:
    """The rows of uploads: changed rows by table address, keys of all rows in `seen`, and counts by upload."""

    # (uploads,) int64
    rows_read: np.ndarray
    flaws: list[Counter[str]]
    rows: dict[str, list[Piece]] = field(default_factory=dict)
    seen: list[Piece] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """The Arrow bytes of all rows."""
        pieces = [*self.seen, *(piece for pieces in self.rows.values() for piece in pieces)]
        return sum(piece.batch.nbytes for piece in pieces)

    def count(self, code: str, uploads: np.ndarray) -> None:
        """Counts a flaw once for each row. `uploads`: (rows,) int64, the position of each row's upload."""
        if len(uploads):
            for place, number in enumerate(np.bincount(uploads).tolist()):
                if number:
                    self.flaws[place][code] += number
