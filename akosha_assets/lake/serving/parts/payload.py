"""What answers show of the rows of a part beside what they are filtered by: ids, texts, tags. In memory, or in a file.

Which part has which is `disk_cache.py`'s to say, and how rows become a part is in `part.py`.
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
    """Columns in memory, or mapped from files that are read whole."""

    def __init__(self, table: pa.Table):
        self._table = table
        self._columns: dict[str, pa.ChunkedArray] = dict(zip(table.column_names, table.columns, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of its columns, wherever they lie."""
        return int(self._table.nbytes)

    def value(self, name: str, row: int) -> Any:
        """What a column has of one row."""
        return self._columns[name][row].as_py()

    def beside_text(self, row: int) -> dict[str, Any]:
        """What all columns but that of the text have of one row."""
        return {name: column[row].as_py() for name, column in self._columns.items() if name != TEXT}

    def tags(self) -> pa.ChunkedArray:
        """The tags of all rows."""
        return self._columns["tags"]

    def select(self, names: Sequence[str]) -> pa.Table:
        """Whole columns."""
        return self.whole().select(names)

    def whole(self) -> pa.Table:
        """All columns."""
        return self._table


class FilePayload(Payload):
    """Columns in an Arrow file. The texts of single rows are read from it, so that no page of them stays in this
    process; whole columns are mapped for as long as somebody holds them.
    """

    def __init__(self, file: IO[bytes]):
        """`file` may be closed, and need not have a name, afterwards."""
        self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        held = self._mapped()
        super().__init__(pa.ipc.open_file(held).read_all())
        # By chunk: its first row, where its bytes begin in the file, and where in them each text ends and the next
        # begins.
        self._first_rows: list[int] = []
        self._texts: list[tuple[int, np.ndarray]] = []
        rows = 0
        for chunk in self._columns[TEXT].chunks:
            _, ends, letters = chunk.buffers()
            self._first_rows.append(rows)
            self._texts.append((letters.address - held.address if letters else 0, np.frombuffer(ends, np.int32)))
            rows += len(chunk)

    def value(self, name: str, row: int) -> Any:
        """What a column has of one row."""
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
