"""What one Delta table is: its address, columns, partition, and which of its rows count. The tables are in `schemas.py`."""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class TableSpec:
    """One Delta table: its address, columns, kinds of rows, partition columns, and the columns with file statistics."""

    address: str
    schema: pa.Schema
    kinds: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ("system_id", "kind", "id")


def text_field(name: str, comment: str) -> pa.Field:
    """A nullable text column."""
    return pa.field(name, pa.string(), metadata={"comment": comment})


def bare(schema: pa.Schema) -> pa.Schema:
    """The same columns without their comments."""
    return pa.schema([field.remove_metadata() for field in schema])
