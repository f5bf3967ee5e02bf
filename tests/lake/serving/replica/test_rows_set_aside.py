"""What one row of a readable file may cost: that row, which is counted and named."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import TierUnavailable
from akosha_assets.lake.serving.parts.part import Part
from akosha_assets.lake.serving.query import Filters, Identity
from akosha_assets.lake.serving.replica import row_conversion
from akosha_assets.lake.serving.replica.loading import Loader
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.replica.row_conversion import RowConversion
from akosha_assets.lake.serving.search.results import describe_tier
from akosha_assets.lake.serving.text import keyword_index
from akosha_assets.lake.serving.text.query_syntax import parse_query
from tests.hot_rows import NOW, commit, memory
from tests.lake.serving.replica.test_cache_folder import found
from tests.lake.serving.replica.test_replica import texts

OLD = timedelta(days=30)
ALL = parse_query("marmot")


def rewrite(lake: Lake, day: date, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the rows of a day's only file without a commit, as no writer of Akosha does."""
    (path,) = (Path(lake.uri("lifecycle/hot")) / f"event_day={day}").glob("*.parquet")
    rows = pq.ParquetFile(path).read()
    schema = pa.schema([field.with_nullable(True) for field in rows.schema])
    pq.write_table(change(rows.cast(schema)), path)


def with_value(rows: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    place = rows.schema.get_field_index(name)
    values = rows[name].to_pylist()
    values[row] = value
    return rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))


@pytest.mark.parametrize("column", ["system_id", "kind", "id", "text", "occurred_at", "arrived_at", "occurred_from"])
@pytest.mark.parametrize("age", [timedelta(), OLD], ids=["memory", "disk"])
def test_a_row_with_a_null_in_a_required_column_is_set_aside(lake: Lake, column: str, age: timedelta) -> None:
    commit(lake, 1, *(memory(f"m{number}", f"marmot {number}", age=age) for number in range(5)))
    rewrite(lake, (NOW - age).date(), lambda rows: with_value(rows, column, 2, None))
    for _ in range(2):
        # The second process continues with the first one's cache.
        replica = Replica(lake, today=NOW.date)
        replica.refresh()
        hot = replica.snapshot.tiers["hot"]
        assert (hot.rows, hot.rows_set_aside, hot.rows_unreadable, hot.state) == (4, 1, 0, "ready")
        assert replica.snapshot.keyword_rows == len(found(replica, "marmot")) == 4
        assert describe_tier(hot)["state"] == "partial"
        name = {"occurred_at": "occurred_us", "arrived_at": "arrived_us"}.get(column, column)
        assert "1 rows in 1 files cannot be served and are left out" in (hot.reason or "")
        assert f"{name} is null" in (hot.reason or "")
        replica.stop()


def test_only_a_row_that_is_set_aside_is_in_doubt(lake: Lake) -> None:
    commit(lake, 1, memory("a", "one"), memory("b", "two"))
    rewrite(lake, NOW.date(), lambda rows: with_value(rows, "text", rows["id"].to_pylist().index("b"), None))
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    assert replica.snapshot.find(Identity("laptop-ada", "conversation", "a")) is not None
    assert replica.snapshot.find(Identity("laptop-ada", "conversation", "c")) is None
    with pytest.raises(TierUnavailable, match="laptop-ada/conversation/b: text is null"):
        replica.snapshot.find(Identity("laptop-ada", "conversation", "b"))
    replica.stop()


def test_a_text_that_is_not_utf8_is_repaired_and_others_are_unchanged(lake: Lake) -> None:
    commit(lake, 1, memory("a", "marmot one"), memory("b", "marmot two"))

    def damage(rows: pa.Table) -> pa.Table:
        texts = rows["text"].cast(pa.binary()).to_pylist()
        texts[rows["id"].to_pylist().index("b")] = b"marmot \xff"
        column = pa.Array.from_buffers(pa.string(), 2, pa.array(texts, pa.binary()).buffers())
        return rows.set_column(rows.schema.get_field_index("text"), "text", column)

    rewrite(lake, NOW.date(), damage)
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    assert texts(replica) == ["marmot one", "marmot �"]
    assert replica.snapshot.tiers["hot"].rows_set_aside == 0
    assert len(found(replica, "marmot")) == 2
    replica.stop()


def test_a_text_too_long_for_any_answer_is_set_aside(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_conversion, "TEXT_MAX_BYTES", 100)
    commit(lake, 1, memory("a", "marmot one"), memory("b", "marmot " * 20))
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    hot = replica.snapshot.tiers["hot"]
    assert (texts(replica), hot.rows_set_aside) == (["marmot one"], 1)
    assert "laptop-ada/conversation/b: its text has more than 100 bytes" in (hot.reason or "")
    replica.stop()


def test_a_row_that_fails_unexpectedly_is_found_and_set_aside(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = Loader._part

    def fail(self: Loader, day: date, rows: pa.Table, row_ids: np.ndarray) -> Part:
        if "odd" in rows["text"].to_pylist():
            raise ValueError("an odd row")
        return convert(self, day, rows, row_ids)

    monkeypatch.setattr(Loader, "_part", fail)
    commit(lake, 1, *(memory(f"m{number}", "odd" if number == 7 else f"marmot {number}") for number in range(20)))
    commit(lake, 2, memory("z", "odd", age=OLD))
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    hot = replica.snapshot.tiers["hot"]
    assert (len(texts(replica)), hot.rows_set_aside, replica.snapshot.keyword_rows) == (19, 2, 19)
    assert "ValueError: an odd row" in (hot.reason or "")
    commit(lake, 3, memory("later", "marmot later"))
    replica.refresh()
    assert len(found(replica, "later")) == 1
    # Rows of removed files are not counted.
    table = lake.open("lifecycle/hot")
    assert table is not None
    table.delete("text = 'odd'")
    replica.refresh()
    assert replica.snapshot.tiers["hot"].rows_set_aside == 0
    assert replica.snapshot.tiers["hot"].reason is None
    replica.stop()


@given(broken=st.sets(st.integers(0, 299)), files=st.lists(st.integers(1, 100), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_every_row_is_either_converted_or_set_aside(broken: set[int], files: list[int]) -> None:
    count = sum(files)
    broken = {row for row in broken if row < count}
    starts = [1000 + sum(files[:place]) for place in range(len(files))]

    def convert(rows: pa.Table, row_ids: np.ndarray) -> Part:
        if broken & set(rows["identity"].to_pylist()):
            raise OverflowError("odd")
        return row_ids  # type: ignore[return-value]

    names = [str(row) for row in range(count)]
    rows = pa.table(dict.fromkeys(row_conversion.REQUIRED, names) | {"identity": np.arange(count)})
    conversion = RowConversion(convert)
    conversion.add(rows, np.arange(1000, 1000 + count))
    converted = [row_id - 1000 for part in conversion.parts for row_id in part]  # type: ignore[attr-defined]
    left_out = conversion.rows_set_aside([f"file-{place}" for place in range(len(files))], starts)
    assert converted == sorted(set(range(count)) - broken)
    assert sorted(identity for rows in left_out.values() for identity in rows.identities) == sorted(broken)
    for place, start in enumerate(starts):
        expected = {row for row in broken if start - 1000 <= row < start - 1000 + files[place]}
        assert set(left_out[f"file-{place}"].identities if expected else ()) == expected


def test_a_file_without_statistics_in_the_log_is_served(lake: Lake) -> None:
    commit(lake, 1, memory("a", "one"))
    log = Path(lake.uri("lifecycle/hot")) / "_delta_log"
    (newest,) = (path for path in log.glob("*.json") if '"add"' in path.read_text())
    text = newest.read_text()
    assert '\\"numRecords\\":1' in text
    newest.write_text(text.replace('\\"numRecords\\":1', '\\"noRecords\\":1'))
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    assert texts(replica) == ["one"]
    replica.stop()
    (path,) = Path(lake.uri("lifecycle/hot")).rglob("*.parquet")
    path.write_bytes(b"")
    again = Replica(lake, today=NOW.date)
    again.refresh()
    hot = again.snapshot.tiers["hot"]
    assert (hot.state, hot.rows, hot.rows_unreadable) == ("ready", 0, 1)
    again.stop()


@pytest.mark.parametrize("step", ["indexed_texts", "_document"])
def test_only_the_row_that_cannot_be_indexed_is_left_out_of_keyword_search(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(keyword_index, step)

    def fail(texts: Any, *others: Any) -> Any:
        if "odd" in (texts if isinstance(texts, str) else texts.to_pylist()):
            raise ValueError("odd")
        return original(texts, *others)

    monkeypatch.setattr(keyword_index, step, fail)
    commit(lake, 1, *(memory(f"m{number}", "odd" if number == 7 else f"marmot {number}") for number in range(20)))
    for _ in range(2):
        replica = Replica(lake, today=NOW.date)
        replica.refresh()
        assert len(texts(replica)) == 20
        assert replica.snapshot.keyword_rows == len(replica.snapshot.keywords.search(ALL, Filters(), 99)[0]) == 19
        replica.stop()
