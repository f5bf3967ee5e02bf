"""A batch of snapshots gives the same known rows as its snapshots one by one, in any order of arrival."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akosha_assets.lake.ingestion.extraction.pool import KNOWN_SCHEMA
from akosha_assets.lake.ingestion.merge import known_rows, reconcile
from akosha_assets.lake.ingestion.merge.reconcile import SEEN, SNAPSHOTS, Difference

AT = datetime(2026, 11, 20, tzinfo=UTC)
DAY = date(2026, 11, 20)
# A snapshot maps row ids to versions; each is one hour later than the previous one.
SNAPSHOT_LISTS = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), min_size=1), min_size=1, max_size=4
)


def compare(spill: Path, snapshots: dict[int, dict[str, int]], known: pa.Table) -> Difference:
    """Compares snapshots of one system, by their hour."""
    refs = pa.Table.from_pylist(
        [{"ref": hour, "system_id": "a", "snapshot_at": AT + timedelta(hours=hour)} for hour in snapshots], SNAPSHOTS
    )
    seen = [
        {"ref": hour, "kind": "reflection", "id": row, "content_hash": version, "event_day": DAY}
        for hour, rows in snapshots.items()
        for row, version in rows.items()
    ]
    return reconcile.compare(refs, pa.Table.from_pylist(seen, SEEN), known, spill=spill)


def versions(known: pa.Table) -> dict[str, tuple[int, bool]]:
    return {row["id"]: (row["content_hash"], row["is_absent"]) for row in known.to_pylist()}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(snapshots=SNAPSHOT_LISTS, data=st.data())
def test_a_batch_gives_the_same_rows_as_its_snapshots_one_by_one(
    tmp_path: Path, snapshots: list[dict[str, int]], data: st.DataObject
) -> None:
    nothing = known_rows.KNOWN_BY_SYSTEM.empty_table()
    batch = compare(tmp_path, dict(enumerate(snapshots)), nothing)
    one_by_one = nothing
    for hour, rows in enumerate(snapshots):
        one_by_one = compare(tmp_path, {hour: rows}, one_by_one).known
    newest = {row: version for rows in snapshots for row, version in rows.items()}
    expected = {row: (version, row not in snapshots[-1]) for row, version in newest.items()}
    assert versions(batch.known) == versions(one_by_one) == expected
    assert sorted(batch.chosen["id"].to_pylist()) == sorted(newest)
    assert sum(counts["new_rows"] for counts in batch.counts.values()) == len(newest)

    # Late older snapshots only add rows that no other snapshot has.
    late = data.draw(st.integers(0, len(snapshots) - 1))
    before = compare(tmp_path, dict(enumerate(snapshots[late:], late)), nothing).known
    after = compare(tmp_path, dict(enumerate(snapshots[:late])), before).known
    assert {row: version for row, (version, _) in versions(after).items()} == newest


def test_known_rows_are_split_by_system_and_decoded_unchanged() -> None:
    row = {"kind": "reflection", "content_hash": 1, "event_day": DAY, "snapshot_at": AT, "is_absent": False}
    rows = [row | {"system_id": system, "id": f"R{number}"} for system in ("a", "c") for number in range(3)]
    table = pa.concat_tables(
        pa.Table.from_pylist(part, known_rows.KNOWN_BY_SYSTEM) for part in (rows[:2], rows[2:4], rows[4:])
    )
    by_system = known_rows.split(table, ["a", "b", "c"])
    assert {name: own.num_rows for name, own in by_system.items()} == {"a": 3, "b": 0, "c": 3}
    again = known_rows.decode(known_rows.encode(by_system["c"]))
    assert again.to_pylist() == [{name: row.get(name) for name in again.schema.names} for row in rows[3:]]


def test_known_rows_of_an_earlier_release_have_nulls_in_the_new_columns() -> None:
    new = ("text_hash", "stated_seconds", "memory_id")
    schema = pa.schema([field for field in KNOWN_SCHEMA if field.name not in new])
    row = {"kind": "reflection", "id": "R1", "content_hash": 1, "event_day": DAY, "snapshot_at": AT, "is_absent": False}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist([row], schema))
    decoded = known_rows.decode(sink.getvalue().to_pybytes())
    assert decoded.schema == KNOWN_SCHEMA
    assert decoded.to_pylist() == [row | dict.fromkeys(new)]
