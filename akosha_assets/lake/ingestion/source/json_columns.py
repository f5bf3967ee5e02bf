"""Writes source columns as JSON objects, and reads times and sessions from metadata.

Arrow has no JSON writer, so this costs one C call per row, for changed rows only.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from akosha_assets.lake import lenient_json
from akosha_assets.lake.ingestion.source.id_times import MISSING
from akosha_assets.lake.ingestion.source.queries import Field

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def objects(members: Iterable[tuple[Field, pa.Array]], rows: int) -> pa.Array:
    """Returns one JSON object per row with the members that are not null, (rows,) string; null if all are null."""
    filled = [(field, values) for field, values in members if values.null_count < rows]
    if not filled:
        return pa.nulls(rows, pa.string())
    names = [field.name for field, _ in filled]
    columns = [map(_fragment, values.to_pylist()) if field.is_json else _values(values) for field, values in filled]
    return pa.array([_object(names, row) for row in zip(*columns, strict=True)], pa.string())


def _values(values: pa.Array) -> list[Any]:
    # Times as text: Python cannot represent years after 9999.
    listed: list[Any] = (values.cast(pa.string()) if pa.types.is_timestamp(values.type) else values).to_pylist()
    return listed


def _object(names: list[str], row: tuple[Any, ...]) -> str | None:
    members = {name: value for name, value in zip(names, row, strict=True) if value is not None}
    return orjson.dumps(members).decode() if members else None


def _fragment(text: str | None) -> Any:
    """Returns `text` as JSON, or as a JSON string if it is not valid JSON."""
    if text is None:
        return None
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text)


def metadata_times(metadata: pa.Array) -> np.ndarray:
    """Returns UTC microseconds of the member `timestamp`, (rows,) int64; MISSING if absent or without a zone."""
    return np.array([_time(_member(text, "timestamp")) for text in metadata.to_pylist()], dtype=np.int64)


def metadata_sessions(metadata: pa.Array) -> pa.Array:
    """Returns the member `source_session` of each text, (rows,) string."""
    return pa.array([_member(text, "source_session") for text in metadata.to_pylist()], pa.string())


def _member(text: str | None, name: str) -> str | None:
    if text is None or f'"{name}"' not in text:
        return None
    try:
        document, _ = lenient_json.load(text.encode())
    except (ValueError, RecursionError):
        return None
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None


def _time(text: str | None) -> int:
    if text is None:
        return MISSING
    try:
        moment = datetime.fromisoformat(text)
        return MISSING if moment.tzinfo is None else (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return MISSING
