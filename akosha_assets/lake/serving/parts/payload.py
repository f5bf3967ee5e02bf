"""The columns of a part that results show and nothing filters by: ids, texts, tags. In memory, or in a file.

`disk_cache.py` decides which of the two a part has.
"""

import mmap
import os
import weakref
from bisect import bisect_right
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa

TEXT = "text"


class Payload:
    """Columns in memory, or mapped from a file."""

    def __init__(self, table: pa.Table):
        self._table = table
        self._columns: dict[str, pa.ChunkedArray] = dict(zip(table.column_names, table.columns, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of the columns, in memory or mapped."""
        return int(self._table.nbytes)

    def value(self, name: str, row: int) -> Any:
        """The value of one column in one row."""
        return self._columns[name][row].as_py()

    def without_text(self, row: int) -> dict[str, Any]:
        """The values of one row by column, without the text."""
        return {name: column[row].as_py() for name, column in self._columns.items() if name != TEXT}

    def tags(self) -> pa.ChunkedArray:
        """The tags of all rows: (rows,) list of string."""
        return self._columns["tags"]

    def select(self, names: Sequence[str]) -> pa.Table:
        """The named columns."""
        return self.whole().select(names)

    def whole(self) -> pa.Table:
        """All columns."""
        return self._table


class FilePayload(Payload):
    """Columns in an Arrow file.

    The text of one row is read from the file, so none of its pages stay in this process; whole columns are mapped as
    long as they are referenced.
    """

    def __init__(self, file: IO[bytes]):
        """Opens the columns of `file`, which may be closed and deleted afterwards."""
        self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        mapped = self._mapped()
        super().__init__(pa.ipc.open_file(mapped).read_all())
        # By chunk: its first row, the file offset of its texts, and their offsets, (rows + 1,) int32.
        self._first_rows: list[int] = []
        self._texts: list[tuple[int, np.ndarray]] = []
        rows = 0
        for chunk in self._columns[TEXT].chunks:
            _, ends, letters = chunk.buffers()
            self._first_rows.append(rows)
            self._texts.append((letters.address - mapped.address if letters else 0, np.frombuffer(ends, np.int32)))
            rows += len(chunk)

    def value(self, name: str, row: int) -> Any:
        """The value of one column in one row."""
        if name != TEXT:
            return super().value(name, row)
        chunk = bisect_right(self._first_rows, row) - 1
        first, ends = self._texts[chunk]
        at = row - self._first_rows[chunk]
        start, stop = ends[at : at + 2].tolist()
        return os.pread(self._file, stop - start, first + start).decode()

    def whole(self) -> pa.Table:
        """All columns."""
        return pa.ipc.open_file(self._mapped()).read_all()

    def _mapped(self) -> pa.Buffer:
        return pa.py_buffer(mmap.mmap(self._file, 0, access=mmap.ACCESS_READ))
