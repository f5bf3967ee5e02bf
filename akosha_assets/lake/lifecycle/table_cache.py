"""Table handles and a DuckDB connection that a thread keeps between the days it ages.

Opening a table reads its log from the last checkpoint; refreshing a handle reads only what is new. For a small day this
is most of the time.
"""

from types import TracebackType

import duckdb

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.table_spec import missing_columns
from akosha_assets.lake.tables import Table


class TableCache:
    """The tables of `lake` by address, each at its newest version. For one thread at a time."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.connection = duckdb.connect()
        self._handles: dict[str, Table] = {}

    def __enter__(self) -> "TableCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def open(self, address: str) -> Table | None:
        """The table; None while nothing was written to it."""
        handle = self._handles.get(address)
        if handle is None:
            handle = self.lake.open(address)
            if handle is not None:
                self._handles[address] = handle
        else:
            tables.refresh(handle)
        return handle

    def create(self, address: str) -> Table:
        """The table, created if it does not exist, with every column of its schema."""
        handle = self.open(address)
        if handle is None or missing_columns(tables.column_names(handle), self.lake.spec(address).schema):
            handle = self._handles[address] = self.lake.create(address)
        return handle
