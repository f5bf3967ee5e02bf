"""Metadata of assets: columns in the definition; rows, bytes and version in a materialization."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa

from akosha_assets.lake import inventory
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.days import Stored
from akosha_assets.lake.schemas import TABLES

OWNERS = ["team:lake"]

TYPE_NAMES = {"timestamp[us, tz=UTC]": "timestamp (UTC)", "date32[day]": "date", "list<item: string>": "list of string"}


def column_schema(address: str) -> dg.TableSchema:
    """The columns of the table at `address` with their types and comments."""
    return dg.TableSchema([_column(field) for field in TABLES[address].schema])


def table_metadata(address: str) -> dict[str, Any]:
    """Metadata in the definition of an asset that is a table."""
    return {"dagster/column_schema": column_schema(address), "dagster/table_name": address}


def written_metadata(lake: Lake, address: str, connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Rows, bytes, files, version and columns of the table now."""
    size = inventory.table_size(lake, address, connection)
    return {
        "dagster/row_count": size.rows,
        "bytes": size.stored_bytes,
        "files": size.files,
        "table version": size.version,
        "dagster/uri": lake.uri(address),
        "dagster/column_schema": column_schema(address),
    }


def day_metadata(day: Stored | None, table: inventory.TableSize) -> dict[str, Any]:
    """Rows, bytes and files of one partition, zero if it has no rows, and the size of its table."""
    return {
        "dagster/partition_row_count": day.rows if day else 0,
        "bytes": day.stored_bytes if day else 0,
        "files": day.files if day else 0,
        "dagster/row_count": table.rows,
        "table version": table.version,
        "dagster/column_schema": column_schema(table.address),
    }


def day_key(day: date) -> str:
    """The partition key of `day`."""
    return day.isoformat()


def counted(counts: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """`counts` as a Markdown table."""
    lines = "\n".join(f"| {name} | {count:,} |" for name, count in counts.items())
    return dg.MetadataValue.md(f"| | |\n|---|--:|\n{lines}")


def _column(field: pa.Field) -> dg.TableColumn:
    comment = (field.metadata or {}).get(b"comment", b"").decode()
    kind = str(field.type)
    return dg.TableColumn(
        field.name,
        TYPE_NAMES.get(kind, kind),
        description=comment,
        constraints=dg.TableColumnConstraints(nullable=field.nullable),
    )
