"""Converts rows of data files to parts. A row that cannot be served is set aside, counted and named.

Akosha checks rows when it writes them (`row_rules.py`); other programs and earlier versions did not.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.row_rules import TEXT_MAX_BYTES
from akosha_assets.lake.serving.parts.part import Part

# A row without a value in one of these columns cannot be part of an answer.
REQUIRED = ("system_id", "kind", "id", "text", "occurred_us", "arrived_us", "occurred_from")
# How often a load is bisected to find invalid rows; after that, entire batches are set aside.
DIVIDED_MAX = 2000

logger = logging.getLogger(__name__)


class RowsSetAside(NamedTuple):
    """Rows of a readable data file that are not served."""

    # Hashes as in `Part.identity`.
    identities: tuple[int, ...]
    # Names the first row.
    reason: str


class RowConversion:
    """Converts rows to `parts`, and sets rows aside that cannot be converted."""

    def __init__(self, convert: Callable[[pa.Table, np.ndarray], Part]):
        self._convert = convert
        self.parts: list[Part] = []
        self._row_ids: list[np.ndarray] = []
        self._identities: list[np.ndarray] = []
        self._reasons: list[str] = []
        self._divided = 0

    def add(self, rows: pa.Table, row_ids: np.ndarray) -> None:
        """Convert rows with these ids, (rows,) int64 ascending."""
        for reason, is_broken in _broken_rows(rows):
            self._set_aside(rows.filter(pa.array(is_broken)), row_ids[is_broken], reason)
            rows, row_ids = rows.filter(pa.array(~is_broken)), row_ids[~is_broken]
        if not len(rows):
            return
        try:
            self.parts.append(self._convert(rows, row_ids))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - one row must not cost the others
            if len(rows) == 1 or self._divided >= DIVIDED_MAX:
                self._set_aside(rows, row_ids, f"{type(error).__name__}: {error}")
                return
            self._divided += 1
            half = len(rows) // 2
            self.add(rows.slice(0, half), row_ids[:half])
            self.add(rows.slice(half), row_ids[half:])

    def rows_set_aside(self, paths: list[str], starts: list[int]) -> dict[str, RowsSetAside]:
        """The rows that were set aside, by path of their file. The row ids of a file begin at its start."""
        if not self._row_ids:
            return {}
        of_file = [np.searchsorted(starts, row_ids, "right") - 1 for row_ids in self._row_ids]
        result: dict[str, RowsSetAside] = {}
        for place, path in enumerate(paths):
            chosen = [number for number, places in enumerate(of_file) if (places == place).any()]
            if chosen:
                identities = [self._identities[number][of_file[number] == place] for number in chosen]
                reason = self._reasons[chosen[0]]
                result[path] = RowsSetAside(tuple(np.concatenate(identities).tolist()), reason)
        return result

    def _set_aside(self, rows: pa.Table, row_ids: np.ndarray, reason: str) -> None:
        first = rows.slice(0, 1).select(["system_id", "kind", "id"]).to_pylist()[0]
        name = "/".join("?" if value is None else str(value) for value in first.values())
        self._row_ids.append(row_ids)
        self._identities.append(rows["identity"].to_numpy())
        self._reasons.append(f"{name}: {reason}")
        logger.warning("rows are set aside", extra={"rows": len(rows), "first": name, "cause": reason})


def _broken_rows(rows: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
    """Why rows cannot be served, and a mask of them, (rows,) bool, over the rows that no earlier mask has."""
    for name in REQUIRED:
        if rows[name].null_count:
            is_null = rows[name].is_null().to_numpy()
            yield f"{name} is null", is_null
            rows = rows.filter(pa.array(~is_null))
    is_long = pc.greater(pc.binary_length(rows["text"]), TEXT_MAX_BYTES).to_numpy()
    if is_long.any():
        yield f"its text has more than {TEXT_MAX_BYTES} bytes", is_long
