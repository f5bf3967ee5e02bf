"""The Lake: opens every table by its address. Assets, the service and the CLI share this class.

`schemas.py` has the columns of each table, `tables.py` and `commits.py` the operations on one.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from akosha_assets.lake import commits, tables
from akosha_assets.lake.errors import TableLost
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.table_spec import TableSpec

# By default the client waits three minutes for a store that does not answer; operators need to know earlier.
CLIENT = {"timeout": "60s", "connect_timeout": "5s", "max_retries": "5", "retry_timeout": "30s"}


@dataclass(frozen=True)
class Lake:
    """Tables by address under one URL, created at the first write.

    `expected` has the tables that must exist: those that the ledger knows and those that this process has written to.
    Nothing is written to one of them that is gone, went back to an older version or was replaced by another table.
    """

    settings: LakeSettings
    expected: dict[str, tables.KnownTable] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def storage_options(self) -> dict[str, str]:
        """Options of the object store client; credentials come from the usual environment of each cloud."""
        url = self.settings.lake()
        if url.startswith("file:"):
            return {}
        options = dict(CLIENT)
        if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:"):
            options["AWS_ALLOW_HTTP"] = "true"
        return options

    def uri(self, address: str) -> str:
        """The place of the table of `address`: a path for a folder, else a URL."""
        url = f"{self.settings.lake()}/{address}"
        return unquote(urlsplit(url).path) if url.startswith("file:") else url

    def create(self, address: str) -> tables.Table:
        """Creates the table unless it exists, adds the columns that an earlier version did not have; returns a fresh
        handle.

        Raises:
            TableLost: it is expected and missing, older or replaced; or there are data files without a log, whose rows
                a new table would hide and a vacuum would remove.
        """
        uri = self.uri(address)
        table, expected = self.open(address), self.expected.get(address)
        if table is None:
            if self.has_lost_log(address):
                raise TableLost(uri, "has data files and no log")
            if expected is not None:
                raise TableLost(uri, "is gone")
            if not urlsplit(uri).scheme:
                Path(uri).mkdir(parents=True, exist_ok=True)
            table = tables.create(uri, TABLES[address], self.storage_options)
        found = tables.KnownTable.from_handle(table)
        if expected is not None and (loss := expected.find_loss(found)) is not None:
            raise TableLost(uri, loss)
        table = commits.add_columns(table, TABLES[address].schema, self.storage_options)
        self.expected[address] = tables.KnownTable.from_handle(table)
        return table

    def open(self, address: str, version: int | None = None) -> tables.Table | None:
        """A fresh handle on `version`, by default the newest; None if there is no table or no such version."""
        return tables.open_table(self.uri(address), self.storage_options, version)

    def has_lost_log(self, address: str) -> bool:
        """Whether a table that cannot be opened was written to: data files were written under a log."""
        entries = ObjectStore(f"{self.settings.lake()}/{address}").list()
        return any(not entry.key.startswith("_delta_log/") for entry in entries)

    def spec(self, address: str) -> TableSpec:
        """The schema and layout of the table."""
        return TABLES[address]

    def append(self, address: str, rows: pa.Table, fence: tables.Fence, metadata: dict[str, str]) -> int:
        """Appends `rows` once; returns the version that contains them."""
        self.create(address)
        options, expected = self.storage_options, self.expected[address]
        return commits.append(self.uri(address), rows, fence, options, metadata, expected=expected)

    def upsert(self, address: str, rows: pa.Table, fence: tables.Fence, metadata: dict[str, str], *, only: str) -> int:
        """Inserts or replaces each of `rows`; returns the version that contains them."""
        self.create(address)
        options, expected = self.storage_options, self.expected[address]
        return commits.upsert(self.uri(address), rows, fence, options, metadata, only=only, expected=expected)

    def select(self, address: str, columns: list[str], where: str = "") -> pa.Table:
        """`columns` of the rows for which `where` (SQL, no alias) holds; no rows if the table does not exist."""
        table = self.open(address)
        schema = self.spec(address).schema
        if table is None:
            return pa.schema([schema.field(name) for name in columns]).empty_table()
        return tables.select(table, columns, schema, where)
