"""The description of a Delta table: address, columns, partition, and which rows are current. See `schemas.py`."""

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa

from akosha_assets.lake.columns import IDENTITY


@dataclass(frozen=True)
class TableSpec:
    """One Delta table: its address, columns, kinds of rows, partition columns, and the columns with file statistics.

    `row_key` identifies a row; of several rows with one key the greatest by `newest_by` is current. If
    `is_replaced_by_day` is set, every write replaces all rows of a day. If `run_column` is set, every write replaces
    the whole table, and all its rows have the same value in that column.
    """

    address: str
    schema: pa.Schema
    kinds: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = IDENTITY
    row_key: tuple[str, ...] = IDENTITY
    newest_by: tuple[str, ...] = ()
    is_replaced_by_day: bool = False
    run_column: str = ""
    # What a row is, in a sentence or two; shown for tables that ingestion alone writes.
    description: str = ""


def text_field(name: str, comment: str) -> pa.Field:
    """A nullable text column."""
    return pa.field(name, pa.string(), metadata={"comment": comment})


def bare(schema: pa.Schema) -> pa.Schema:
    """The same columns without their comments."""
    return pa.schema([field.remove_metadata() for field in schema])


def missing_columns(names: Collection[str], schema: pa.Schema) -> list[pa.Field]:
    """The nullable columns of `schema` that a table with the columns `names` does not have: an earlier version of
    Akosha created it.
    """
    return [field for field in schema if field.nullable and field.name not in names]


def rows_with_columns(names: Collection[str], schema: pa.Schema) -> str:
    """SQL for the rows of such a table, registered as `t`, with null in each of `missing_columns`."""
    nulls = ", ".join(f'NULL AS "{field.name}"' for field in missing_columns(names, schema))
    return f"(SELECT *, {nulls} FROM t) AS t" if nulls else "t"  # noqa: S608
