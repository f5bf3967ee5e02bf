"""Reads the rows of tables as Arrow batches, in the cheaper of two ways with equal results.

DuckDB converts a result to Arrow with a second statement, which for a few rows costs several times the query. Small
tables are therefore fetched as Python values; large ones are streamed.
"""

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from akosha_assets.lake.ingestion.source.conversion import nulls
from akosha_assets.lake.ingestion.source.databases import Table

FEW_ROWS = 2_000
BATCH_ROWS = 32_768

# By DuckDB's name of the type; queries cast all other types.
ARROW_TYPES = {
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us"),
    "VARCHAR[]": pa.list_(pa.string()),
}

# DuckDB converts infinite times to the last and the first time of Python.
_INFINITE = np.iinfo(np.int64).max
_LAST_US = int(np.datetime64("9999-12-31T23:59:59.999999", "us").astype(np.int64))
_FIRST_US = int(np.datetime64("0001-01-01T00:00:00", "us").astype(np.int64))


def batches(
    connection: duckdb.DuckDBPyConnection, alike: list[Table], *, distinct: bool = False
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yields the rows of tables of one shape, with the file number of each: (rows,) int64.

    `distinct`: of rows with one id in a table, only the first.
    """
    if all(table.rows <= FEW_ROWS for table in alike) and not distinct:
        few = _few(connection, alike)
        if few is not None:
            yield few
            return
    for table in alike:
        sql = table.reading.select.sql
        for batch in streamed(connection, f"SELECT DISTINCT ON (c0) * FROM ({sql})" if distinct else sql):  # noqa: S608
            yield batch, np.full(batch.num_rows, table.file)


def streamed(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[pa.RecordBatch]:
    """Yields the result of a query, batch by batch."""
    reader: pa.RecordBatchReader = connection.sql(sql).to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        if batch.num_rows:
            yield pa.RecordBatch.from_arrays(
                [_normalized(column) for column in batch.columns], names=batch.schema.names
            )


def _few(connection: duckdb.DuckDBPyConnection, alike: list[Table]) -> tuple[pa.RecordBatch, np.ndarray] | None:
    """Returns all rows at once; None if Python cannot represent a value and the rows must be streamed."""
    types = [ARROW_TYPES.get(field.type) for field in alike[0].reading.select.fields]
    if None in types:
        return None
    values: list[tuple[Any, ...]] = []
    lengths = []
    try:
        for table in alike:
            rows_of_table = connection.execute(table.reading.statement).fetchall()
            values += rows_of_table
            lengths.append(len(rows_of_table))
        columns = list(zip(*values, strict=True)) or [()] * len(types)
        rows = len(values)
        arrays = [
            nulls(rows, kind) if column.count(None) == rows else pa.array(column, kind)
            for column, kind in zip(columns, types, strict=True)
        ]
    except (UnicodeDecodeError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{place}" for place in range(len(types))])
    return batch, np.repeat([table.file for table in alike], lengths)


def _normalized(column: pa.Array) -> pa.Array:
    """Returns `column` without extension types, with infinite times replaced by the first and last of Python."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if not pa.types.is_timestamp(column.type):
        return column
    times = column.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if not (np.abs(times) >= _INFINITE).any():
        return column
    times = np.where(times >= _INFINITE, _LAST_US, np.where(times <= -_INFINITE, _FIRST_US, times))
    return pa.array(times, mask=~column.is_valid().to_numpy(zero_copy_only=False)).view(column.type)
