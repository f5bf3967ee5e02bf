"""Spooled rows are read back unchanged, in parts that fit in memory and have few days each."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akosha_assets.lake.ingestion.extraction import spooled_rows
from akosha_assets.lake.ingestion.extraction.spooled_rows import SpooledRows, row_bytes

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("id", pa.string()),
        ("event_day", pa.date32()),
        ("text", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("importance", pa.float32()),
        ("vector", pa.binary()),
        ("occurred_at", pa.timestamp("us", "UTC")),
    ]
)
ROWS = st.fixed_dictionaries(
    {
        "event_day": st.integers(0, 4),
        "text": st.text("xä", max_size=30),
        "tags": st.none() | st.lists(st.none() | st.text("ab", max_size=5), max_size=3),
        "importance": st.none() | st.just(0.5),
        "vector": st.none() | st.binary(max_size=4),
    }
)


def table(rows: list[dict[str, object]]) -> pa.Table:
    at = datetime(2026, 11, 27, tzinfo=UTC)
    filled = [row | {"kind": "reflection", "id": f"R{place}", "occurred_at": at} for place, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, SCHEMA)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, max_size=40), batch_rows=st.integers(1, 9), max_rows=st.integers(1, 12), data=st.data())
def test_parts_contain_every_row_once_and_are_limited(
    tmp_path: Path, rows: list[dict[str, object]], batch_rows: int, max_rows: int, data: st.DataObject
) -> None:
    all_rows = table(rows)
    chosen = np.flatnonzero(np.array([data.draw(st.booleans()) for _ in rows], bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spooled_rows, "PART_BYTES", 120)
        patch.setattr(spooled_rows, "PART_ROWS", max_rows)
        spooled = SpooledRows.write(all_rows.to_batches(batch_rows), SCHEMA, tmp_path)
        parts = list(
            spooled.parts(data.draw(st.permutations(chosen.tolist()).map(lambda one: np.array(one, np.int64))))
        )
    assert sorted(np.concatenate([np.zeros(0, np.int64), *parts]).tolist()) == chosen.tolist()
    latest = [5]
    for part in parts:
        assert spooled.take(part).equals(all_rows.take(part))
        assert len(part) <= max_rows
        assert len(part) == 1 or spooled.sizes[part].sum() <= 120
        days = [day["event_day"] for day in (rows[place] for place in part)]
        assert max(days) <= latest[-1]
        latest.append(min(days))
    assert spooled.num_rows == len(rows)
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_a_row_is_the_size_of_its_values() -> None:
    rows = table(
        [
            {"event_day": 0, "text": "four", "tags": ["a", None, "bcd"], "importance": 1.0, "vector": b"12"},
            {"event_day": 0, "text": "ä", "tags": None, "importance": None, "vector": None},
        ]
    )
    fixed = 4 + 4 + 8
    (batch,) = rows.slice(0, 2).to_batches()
    assert row_bytes(batch).tolist() == [
        fixed + len("reflection") + 2 + 4 + 4 + 2,
        fixed + len("reflection") + 2 + 2,
    ]
    assert row_bytes(batch.slice(1)).tolist() == row_bytes(batch).tolist()[1:]


def test_only_keys_days_and_sizes_stay_in_memory(tmp_path: Path) -> None:
    rows = table([{"event_day": 0, "text": 10_000 * "x", "tags": [], "importance": None, "vector": None}] * 20)
    received = [
        pa.ipc.read_record_batch(pa.py_buffer(bytes(batch.serialize())), SCHEMA) for batch in rows.to_batches(5)
    ]
    spooled = SpooledRows.write(received, SCHEMA, tmp_path)
    assert spooled.keys.get_total_buffer_size() < 5_000
