"""Tables as an earlier version of Akosha left them: without some columns."""

from collections.abc import Collection

import pyarrow as pa
from deltalake import write_deltalake

from akosha_assets.lake.catalog import Lake

PASSAGE_COLUMNS = ("passages", "passage_scales", "passage_ranges")


def write_without(lake: Lake, address: str, rows: pa.Table, columns: Collection[str] = PASSAGE_COLUMNS) -> None:
    """Create the table of `address` without `columns`, with `rows`."""
    spec = lake.spec(address)
    old = rows.drop_columns([name for name in columns if name in rows.column_names])
    write_deltalake(lake.uri(address), old, mode="append", partition_by=list(spec.partition_by))
