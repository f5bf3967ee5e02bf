"""Whatever Arrow lets a column hold, repaired rows keep every rule, and only the cells that broke one change."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.row_rules import LABEL_MAX_BYTES, LIST_MAX_ITEMS, repair, repair_table

SCHEMA = pa.schema(
    [("text", pa.string()), ("project", pa.string()), ("tags", pa.list_(pa.string())), ("importance", pa.float32())]
)
MIN_US, MAX_US = -62_135_596_800_000_000, 253_402_300_799_999_999
LONG = ("é" * LABEL_MAX_BYTES).encode()
# Stand for what would be long to print: `LONG`, and a list of too many items.
TEXTS = st.binary(max_size=8) | st.text(max_size=8).map(str.encode) | st.just(b"<long>")
MANY = [b"<many>"]
ROWS = st.lists(
    st.tuples(
        st.none() | TEXTS,
        st.none() | TEXTS,
        st.none() | st.lists(st.none() | TEXTS, max_size=4) | st.just(MANY),
        st.none() | st.floats(width=32),
    ),
    max_size=8,
)


def written_out(value: object) -> object:
    if value == MANY:
        return [b"t"] * (LIST_MAX_ITEMS + 1)
    if isinstance(value, list):
        return [written_out(item) for item in value]
    return LONG if value == b"<long>" else value


def raw(rows: list[tuple[object, ...]]) -> pa.RecordBatch:
    """The rows with the bytes as they are, also where they are no UTF-8."""
    text, project, tags, importance = zip(*rows, strict=True) if rows else ((), (), (), ())
    lists = pa.array(tags, pa.list_(pa.binary()))
    # A view, not a cast: a cast would look at the bytes.
    items = pa.ListArray.from_arrays(
        lists.offsets, lists.values.view(pa.string()), mask=lists.is_null() if lists.null_count else None
    )
    columns = [pa.array(text, pa.binary()).view(pa.string()), pa.array(project, pa.binary()).view(pa.string()), items]
    return pa.RecordBatch.from_arrays([*columns, pa.array(importance, pa.float32())], schema=SCHEMA)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_repaired_rows_keep_every_rule(rows: list[tuple[object, ...]]) -> None:
    rows = [tuple(written_out(value) for value in row) for row in rows]
    batch, broken = repair(raw(rows))
    batch.validate(full=True)
    again, still_broken = repair(batch)
    assert again.equals(batch) and not still_broken
    for place, row in enumerate(batch.to_pylist()):
        assert all(item is not None and len(item.encode()) <= LABEL_MAX_BYTES for item in row["tags"] or ())
        assert len(row["tags"] or ()) <= LIST_MAX_ITEMS
        assert row["project"] is None or len(row["project"].encode()) <= LABEL_MAX_BYTES
        assert row["importance"] is None or np.isfinite(row["importance"])
        assert [value is None for value in row.values()][:3] == [value is None for value in rows[place][:3]]
        if not any(place in places for places in broken.values()):
            text, project, tags, importance = rows[place]
            assert row["text"] == (None if text is None else text.decode()) and row["project"] == (
                None if project is None else project.decode()
            )  # type: ignore[attr-defined]
            # type: ignore[attr-defined]
            assert row["tags"] == (None if tags is None else [tag.decode() for tag in tags])
            assert row["importance"] == importance


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=8))
def test_times_are_clamped_to_what_python_can_express(times_us: list[int | None]) -> None:
    times = pa.array(times_us, pa.int64()).view(pa.timestamp("us", tz="UTC"))
    repaired, counts = repair_table(pa.table({"at": times}))
    expected = [None if at is None else min(max(at, MIN_US), MAX_US) for at in times_us]
    assert repaired["at"].combine_chunks().view(pa.int64()).to_pylist() == expected
    assert len(repaired["at"].to_pylist()) == len(times_us)
    assert counts.get("timestamp_out_of_range", 0) == sum(a != b for a, b in zip(times_us, expected, strict=True))


def test_a_null_among_tags_costs_the_item_and_is_counted() -> None:
    rows = pa.table({"id": ["a", "b"], "tags": [["sql", None], ["x"]]})
    repaired, counts = repair_table(rows)
    assert repaired["tags"].to_pylist() == [["sql"], ["x"]] and counts == {"list_item_null": 1}
