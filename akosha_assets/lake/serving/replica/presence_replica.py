"""Follows the tables of absences and aliases. Each of their files is read once."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LakeError, StoreUnavailable
from akosha_assets.lake.schemas import ABSENCES, ALIASES
from akosha_assets.lake.serving.parts.source_presence import ALIASES_SCHEMA, PRESENCE_SCHEMA, SourcePresence
from akosha_assets.lake.serving.replica.loading import connect
from akosha_assets.lake.serving.table_log.files import Follower, LocalFiles
from akosha_assets.lake.tables import KnownTable

_READ = {
    ABSENCES.address: (
        PRESENCE_SCHEMA,
        "hash(system_id, kind, id) AS identity, is_absent, epoch_us(snapshot_at) AS snapshot_us, batch_id",
    ),
    ALIASES.address: (
        ALIASES_SCHEMA,
        "hash(system_id, kind, id) AS identity, hash(system_id, kind, memory_id) AS memory_identity, id, memory_id, "
        "epoch_us(snapshot_at) AS snapshot_us",
    ),
}


class PresenceReplica:
    """The newest `SourcePresence`, by polling. For one thread."""

    def __init__(self, lake: Lake, cache: Path, known_table: Callable[[str], KnownTable | None]):
        self._lake = lake
        self._tables = {address: _Rows(lake, address, cache, known_table) for address in _READ}
        self.presence = SourcePresence()

    def refresh(self) -> LakeError | None:
        """Reads what is new. Returns why a table cannot be read; what was read of it before stays."""
        changed, failure = False, None
        for address, table in self._tables.items():
            try:
                changed = table.poll() or changed
            except LakeError as error:
                failure = error
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                failure = StoreUnavailable(self._lake.uri(address), f"{type(error).__name__}: {error}")
        if changed:
            absences, aliases = (table.rows for table in self._tables.values())
            self.presence = SourcePresence(absences, aliases)
        return failure


class _Rows:
    """The rows of one table, by data file."""

    def __init__(self, lake: Lake, address: str, cache: Path, known_table: Callable[[str], KnownTable | None]):
        self._follower = Follower(lake, address, known_table)
        self._files = LocalFiles(lake, address, cache)
        self._schema, self._columns = _READ[address]
        self._by_file: dict[str, pa.Table] = {}

    @property
    def rows(self) -> pa.Table:
        """Every row."""
        return pa.concat_tables([self._schema.empty_table(), *self._by_file.values()]).combine_chunks()

    def poll(self) -> bool:
        """Reads new files and drops removed ones; returns whether there were any. Raises as
        `Follower.poll` and `LocalFiles.path`, and what DuckDB raises for a file that it cannot read.
        """
        listing = self._follower.poll()
        if listing is None:
            return False
        try:
            by_file = {path: rows for path, rows in self._by_file.items() if path in listing.files}
            for path, file in listing.files.items():
                if path not in by_file:
                    by_file[path] = self._read(self._files.path(path, file.size_bytes))
        except BaseException:
            # The next poll tries again.
            self._follower.forget()
            raise
        self._by_file = by_file
        return True

    def _read(self, path: Path) -> pa.Table:
        with connect() as connection:
            query = f"SELECT {self._columns} FROM read_parquet($path)"  # noqa: S608
            return connection.sql(query, params={"path": str(path)}).to_arrow_table().cast(self._schema)
