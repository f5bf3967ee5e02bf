"""Any row that Arrow allows can be stored and served once repaired; only cells that broke a rule change."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake import commits, days, row_rules, tables
from akosha_assets.lake.columns import IDENTITY
from akosha_assets.lake.flaws import Flaw
from akosha_assets.lake.row_rules import (
    JSON_COLUMNS,
    LABEL_MAX_BYTES,
    LABELS,
    LIST_MAX_ITEMS,
    TEXT_MAX_BYTES,
    repair,
    repair_table,
)
from akosha_assets.lake.schemas import TABLES
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.table_spec import TableSpec, bare
from akosha_assets.lake.tables import Fence

# In the place of 64 MiB, which take long to make.
TEXT_BOUND = 4096
# Written out where a value is made, since Hypothesis prints what it drew.
LONG_LABEL, LONG_TEXT, MANY_ITEMS = b"<long label>", b"<long text>", [b"<many>"]
WRITTEN_OUT = {
    LONG_LABEL: "é".encode() * LABEL_MAX_BYTES,
    LONG_TEXT: b"t" * (TEXT_BOUND + 1),
}

TEXTS = (
    st.binary(max_size=8)
    | st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from([LONG_LABEL, LONG_TEXT, b"a\0b", b"{}"])
)
HALVES = st.lists(st.floats(width=16), min_size=1, max_size=4).map(lambda numbers: np.array(numbers, "<f2").tobytes())


def values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Anything that a column of this type can hold but null; texts as bytes."""
    if pa.types.is_string(kind):
        return TEXTS
    if pa.types.is_list(kind):
        return st.lists(st.none() | TEXTS, max_size=3) | st.just(MANY_ITEMS)
    if pa.types.is_floating(kind):
        return st.floats(width=kind.bit_width)
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_binary(kind):
        return st.binary(max_size=8) | HALVES
    bits = 32 if pa.types.is_date32(kind) or pa.types.is_int32(kind) else 64
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) | st.integers(-10, 20_000)


def rows_of(schema: pa.Schema) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    columns = [values(field.type) if not field.nullable else st.none() | values(field.type) for field in schema]
    return st.lists(st.tuples(*columns), max_size=3)


def written_out(value: Any) -> Any:
    if value == MANY_ITEMS:
        return [b"t"] * (LIST_MAX_ITEMS + 1)
    if isinstance(value, list):
        return [written_out(item) for item in value]
    return WRITTEN_OUT.get(value, value) if isinstance(value, bytes) else value


def column(field: pa.Field, drawn: list[Any]) -> pa.Array:
    """The values as they are, also texts that are no UTF-8 and times that Python does not know."""
    kind = field.type
    if pa.types.is_string(kind):
        # A view, not a cast: a cast would look at the bytes.
        return pa.array(drawn, pa.binary()).view(kind)
    if pa.types.is_list(kind):
        lists = pa.array(drawn, pa.list_(pa.binary()))
        mask = lists.is_null() if lists.null_count else None
        return pa.ListArray.from_arrays(lists.offsets, lists.values.view(pa.string()), type=kind, mask=mask)
    if pa.types.is_timestamp(kind):
        return pa.array(drawn, pa.int64()).view(kind)
    return pa.array(drawn, pa.int32()).view(kind) if pa.types.is_date32(kind) else pa.array(drawn, kind)


def batch_of(schema: pa.Schema, rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [column(field, [written_out(value) for value in one]) for field, one in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def stored_bytes(array: pa.Array) -> list[Any]:
    """The cells for comparison: bytes and integers, so that nothing is converted and NaN equals NaN."""
    kind = array.type
    if pa.types.is_string(kind):
        cells: list[Any] = array.view(pa.binary()).to_pylist()
    elif pa.types.is_list(kind):
        lists = pa.ListArray.from_arrays(
            array.offsets, array.values.view(pa.binary()), mask=array.is_null() if array.null_count else None
        )
        cells = lists.to_pylist()
    elif pa.types.is_boolean(kind) or pa.types.is_binary(kind):
        cells = array.to_pylist()
    else:
        cells = array.view(pa.int32() if kind.bit_width == 32 else pa.int64()).to_pylist()
    return cells


def breaks_a_rule(field: pa.Field, cell: Any, scale: Any) -> bool:
    """Whether a stored cell may not be there; written anew from the documented rules, cell by cell."""
    if cell is None:
        return False
    if pa.types.is_list(field.type):
        return len(cell) > LIST_MAX_ITEMS or any(
            item is None or "\0" in item or len(item.encode()) > LABEL_MAX_BYTES for item in cell
        )
    if pa.types.is_string(field.type):
        longest = LABEL_MAX_BYTES if field.name in LABELS else TEXT_BOUND
        return field.name not in IDENTITY and ("\0" in cell or len(cell.encode()) > longest)
    if pa.types.is_floating(field.type):
        return not np.isfinite(cell)
    if field.name in ("vector", "sketch") and field.nullable:
        if scale != "none":
            return not cell or scale is None or abs(scale) > 65_504
        return len(cell) % 2 != 0 or not cell or not np.isfinite(np.frombuffer(cell, "<f2")).all()
    # Anything outside these years has no Python form.
    return pa.types.is_temporal(field.type) and not isinstance(cell, date | datetime)


@pytest.mark.parametrize("address", sorted(TABLES))
def test_anything_that_a_schema_allows_comes_out_storable_or_is_counted(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = bare(TABLES[address].schema)
    monkeypatch.setattr(row_rules, "TEXT_MAX_BYTES", TEXT_BOUND)

    @settings(max_examples=25, deadline=None)
    @given(rows_of(schema))
    def check(drawn: list[tuple[Any, ...]]) -> None:
        before = batch_of(schema, drawn)
        batch, broken = repair(before)
        batch.validate(full=True)
        assert (batch.schema, len(batch), set(broken) - set(Flaw)) == (schema, len(before), set())
        again, still_broken = repair(batch)
        assert again.equals(batch) and not still_broken
        counted = {row for rows in broken.values() for row in rows.tolist()}
        for field, old, new in zip(schema, before.columns, batch.columns, strict=True):
            scale_name = {"vector": "vector_scale", "sketch": "sketch_scale"}.get(field.name)
            has_scale = scale_name in schema.names
            scales = batch.column(scale_name).to_pylist() if has_scale else ["none"] * len(batch)
            for cell, scale in zip(new.to_pylist(), scales, strict=True):
                assert not breaks_a_rule(field, cell, scale), field.name
            changed = {
                row
                for row, (one, other) in enumerate(zip(stored_bytes(old), stored_bytes(new), strict=True))
                if one != other
            }
            assert changed <= counted, field.name
            assert field.nullable or new.null_count == old.null_count

    check()


@pytest.mark.parametrize(
    ("name", "kind", "cell", "repaired", "flaw"),
    [
        ("text", pa.string(), "a\0b", "a\ufffdb", Flaw.TEXT_WITH_NUL),
        ("tags", pa.list_(pa.string()), ["a\0"], ["a\ufffd"], Flaw.TEXT_WITH_NUL),
        ("tags", pa.list_(pa.string()), ["sql", None], ["sql"], Flaw.LIST_ITEM_NULL),
        ("project", pa.string(), "p" * 1025, "p" * 1024, Flaw.LABEL_TOO_LONG),
        ("importance", pa.float32(), float("inf"), None, Flaw.NUMBER_NOT_FINITE),
        ("vector", pa.binary(), np.array([1, np.nan], "<f2").tobytes(), None, Flaw.VECTOR_UNUSABLE),
        ("vector", pa.binary(), b"\0\0\0", None, Flaw.VECTOR_UNUSABLE),
        ("vector", pa.binary(), b"", None, Flaw.VECTOR_UNUSABLE),
    ],
)
def test_a_cell_that_breaks_a_rule_is_repaired_alone_and_counted(
    name: str, kind: pa.DataType, cell: Any, repaired: Any, flaw: Flaw
) -> None:
    sound = {"id": ["a", "b"], "text": ["one", "two"]}
    rows = pa.table({**sound, name: pa.array([cell, None], kind)})
    # Sliced: what a rule looks at begins within a buffer.
    for table in (rows, pa.concat_tables([rows, rows]).combine_chunks().slice(2)):
        fixed, counts = repair_table(table)
        assert counts == {flaw: 1}
        assert fixed.to_pydict() == {**sound, name: [repaired, None]}


@given(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=8),
    st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=8),
)
def test_times_are_clamped_to_what_python_can_express(times_us: list[int | None], days: list[int | None]) -> None:
    bounds_us, bounds_days = (-62_135_596_800_000_000, 253_402_300_799_999_999), (-719_162, 2_932_896)
    for numbers, stored, kind, (low, high) in (
        (times_us, pa.int64(), pa.timestamp("us", tz="UTC"), bounds_us),
        (days, pa.int32(), pa.date32(), bounds_days),
    ):
        repaired, counts = repair_table(pa.table({"at": pa.array(numbers, stored).view(kind)}))
        expected = [None if at is None else min(max(at, low), high) for at in numbers]
        assert repaired["at"].combine_chunks().view(stored).to_pylist() == expected
        assert len(repaired["at"].to_pylist()) == len(numbers)
        assert counts.get("timestamp_out_of_range", 0) == sum(a != b for a, b in zip(numbers, expected, strict=True))


def test_no_text_of_an_upload_is_longer_than_a_table_may_hold() -> None:
    (bound,) = [one.le for one in LakeSettings.model_fields["upload_max_field_bytes"].metadata if hasattr(one, "le")]
    assert bound == TEXT_MAX_BYTES
    assert {"attributes", "_rescued"} <= JSON_COLUMNS


def test_every_write_path_repairs_what_it_writes(tmp_path: Path) -> None:
    spec = TableSpec(
        "lifecycle/test",
        pa.schema(
            [
                *((name, pa.string()) for name in IDENTITY),
                ("event_day", pa.date32()),
                ("snapshot_at", pa.timestamp("us", "UTC")),
                ("content_hash", pa.int64()),
                ("text", pa.string()),
                ("space", pa.string()),
                ("vector", pa.binary()),
            ]
        ),
        partition_by=("event_day",),
    )
    uri = (tmp_path / "table").as_uri()
    tables.create(uri, spec, {})
    bad = {"text": "a\0b", "vector": np.array([np.inf], "<f2").tobytes(), "space": "model"}

    def rows(*ids: str) -> pa.Table:
        same = {"system_id": "s", "kind": "reflection", "event_day": date(2026, 11, 20), "content_hash": 1}
        at = datetime.fromisoformat("2026-11-20T12:00:00+00:00")
        return pa.Table.from_pylist([{**same, **bad, "id": one, "snapshot_at": at} for one in ids], schema=spec.schema)

    commits.append(uri, rows("appended"), Fence("w", 1), {}, {})
    commits.upsert(uri, rows("upserted"), Fence("w", 2), {}, {}, only="t.event_day = '2026-11-20'")
    columns = [*IDENTITY, "content_hash", "text", "vector"]
    commits.update_columns(uri, rows("appended").select(columns), ["text", "vector"], {}, {}, only="true")
    table = tables.open_table(uri, {})
    assert table is not None
    days.append(table, rows("added"), writer="d", metadata={})
    table = tables.open_table(uri, {})
    assert table is not None
    days.replace(
        table,
        spec,
        rows("replaced").to_batches(),
        "event_day = '2026-11-20' AND id = 'replaced'",
        writer="d",
        metadata={},
    )
    found = tables.select(table, ["id", "text", "vector"], spec.schema).sort_by("id").to_pydict()
    assert found["id"] == ["added", "appended", "replaced", "upserted"]
    assert set(found["text"]) == {"a\ufffdb"}
    assert set(found["vector"]) == {None}
