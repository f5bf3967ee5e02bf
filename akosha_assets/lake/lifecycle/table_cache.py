"""What a thread that ages days keeps from one to the next: table handles, which are refreshed instead of opened, and
DuckDB.

Opening reads the log from its last checkpoint, refreshing only what is new in it; for a small day that decides the
time.
"""

from types import TracebackType

import duckdb
from deltalake import DeltaTable

from akosha_assets.lake import tables
from akosha_assets.lake.catalog import Lake


class TableCache:
    """The tables of `lake` by address, each at the newest version whenever it is asked for. For one thread at a time."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.connection = duckdb.connect()
        self._held: dict[str, DeltaTable] = {}

    def __enter__(self) -> "TableCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def open(self, address: str) -> DeltaTable | None:
        """The table, or None while nothing was written to it."""
        held = self._held.get(address)
        if held is None:
            held = self.lake.open(address)
            if held is not None:
                self._held[address] = held
        else:
            tables.refresh(held)
        return held

    def create(self, address: str) -> DeltaTable:
        """The table exists; returns its handle."""
        held = self.open(address)
        if held is None:
            held = self._held[address] = self.lake.create(address)
        return held
