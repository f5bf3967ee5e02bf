"""The Lake: opens every table by its address. The one object that assets, the service and the CLI are handed.

Which columns a table has is in `schemas.py`; what may be done to one is in `tables.py`.
"""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from akosha_assets.lake import tables
from akosha_assets.lake.errors import TableLost
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.table_spec import TableSpec

# Defaults of the client wait three minutes on a store that does not answer; an operator wants to hear of it sooner.
CLIENT = {"timeout": "60s", "connect_timeout": "5s", "max_retries": "5", "retry_timeout": "30s"}


@dataclass(frozen=True)
class Lake:
    """Tables by address under one URL, made when first written to.

    `expected` holds the tables that must be there: what the ledger knows, and what this process has written to. Nothing
    is written where one of them is gone, went back to an older version or was replaced by another table.
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
        """Where the table of `address` lies: a path for a folder, else a URL."""
        url = f"{self.settings.lake()}/{address}"
        return unquote(urlsplit(url).path) if url.startswith("file:") else url

    def create(self, address: str) -> tables.Table:
        """The table exists; returns a fresh handle.

        Raises:
            TableLost: it is expected and is not there as it was, or data files lie there without a log: a new table
                would hide their rows, and a vacuum remove them.
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
        self.expected[address] = found
        return table

    def open(self, address: str, version: int | None = None) -> tables.Table | None:
        """A fresh handle on the newest version or the one given; None while nothing was written to the table, or no
        such version.
        """
        return tables.open_table(self.uri(address), self.storage_options, version)

    def has_lost_log(self, address: str) -> bool:
        """Whether a table that cannot be opened was written to: it is made before files come to it, so such files once
        had a log.
        """
        entries = ObjectStore(f"{self.settings.lake()}/{address}").list()
        return any(not entry.key.startswith("_delta_log/") for entry in entries)

    def spec(self, address: str) -> TableSpec:
        """What the table holds."""
        return TABLES[address]

    def append(self, address: str, rows: pa.Table, fence: tables.Fence, metadata: dict[str, str]) -> int:
        """`rows` are in the table once; returns the version that holds them."""
        self.create(address)
        options, expected = self.storage_options, self.expected[address]
        return tables.append(self.uri(address), rows, fence, options, metadata, expected=expected)

    def upsert(self, address: str, rows: pa.Table, fence: tables.Fence, metadata: dict[str, str], *, only: str) -> int:
        """Each of `rows` stands in the table in this form; returns the version that holds them."""
        self.create(address)
        options, expected = self.storage_options, self.expected[address]
        return tables.upsert(self.uri(address), rows, fence, options, metadata, only=only, expected=expected)

    def select(self, address: str, columns: list[str], where: str = "") -> pa.Table:
        """`columns` of the rows for which `where` (SQL, no alias) holds; no rows while the table does not exist."""
        table = self.open(address)
        schema = self.spec(address).schema
        if table is None:
            return pa.schema([schema.field(name) for name in columns]).empty_table()
        return tables.select(table, columns, schema, where)
