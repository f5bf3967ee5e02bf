"""A batch of snapshots ends in the same known rows as the snapshots one by one, in any order of arrival."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akosha_assets.lake.ingestion.merge import known_rows, reconcile
from akosha_assets.lake.ingestion.merge.reconcile import SEEN, SNAPSHOTS, Difference

AT = datetime(2026, 11, 20, tzinfo=UTC)
DAY = date(2026, 11, 20)
# A snapshot is a form by the id of a row; each of these is taken an hour after the one before it.
SNAPSHOT_LISTS = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), min_size=1), min_size=1, max_size=4
)


def compare(spill: Path, snapshots: dict[int, dict[str, int]], known: pa.Table) -> Difference:
    """The difference of snapshots of one system, by the hour at which each was taken."""
    refs = pa.Table.from_pylist(
        [{"ref": hour, "system_id": "a", "snapshot_at": AT + timedelta(hours=hour)} for hour in snapshots], SNAPSHOTS
    )
    seen = [
        {"ref": hour, "kind": "reflection", "id": row, "content_hash": form, "event_day": DAY}
        for hour, rows in snapshots.items()
        for row, form in rows.items()
    ]
    return reconcile.compare(refs, pa.Table.from_pylist(seen, SEEN), known, spill=spill)


def forms(known: pa.Table) -> dict[str, tuple[int, bool]]:
    return {row["id"]: (row["content_hash"], row["is_absent"]) for row in known.to_pylist()}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(snapshots=SNAPSHOT_LISTS, data=st.data())
def test_a_batch_gives_the_same_rows_as_its_snapshots_in_turn(
    tmp_path: Path, snapshots: list[dict[str, int]], data: st.DataObject
) -> None:
    nothing = known_rows.KNOWN_BY_SYSTEM.empty_table()
    batch = compare(tmp_path, dict(enumerate(snapshots)), nothing)
    in_turn = nothing
    for hour, rows in enumerate(snapshots):
        in_turn = compare(tmp_path, {hour: rows}, in_turn).known
    newest = {row: form for rows in snapshots for row, form in rows.items()}
    expected = {row: (form, row not in snapshots[-1]) for row, form in newest.items()}
    assert forms(batch.known) == forms(in_turn) == expected
    assert sorted(batch.chosen["id"].to_pylist()) == sorted(newest)
    assert sum(counts["new_rows"] for counts in batch.counts.values()) == len(newest)

    # Older snapshots that come late change nothing but what only they have.
    late = data.draw(st.integers(0, len(snapshots) - 1))
    before = compare(tmp_path, dict(enumerate(snapshots[late:], late)), nothing).known
    after = compare(tmp_path, dict(enumerate(snapshots[:late])), before).known
    assert {row: form for row, (form, _) in forms(after).items()} == newest


def test_known_rows_are_split_by_system_and_come_back_from_the_ledger() -> None:
    row = {"kind": "reflection", "content_hash": 1, "event_day": DAY, "snapshot_at": AT, "is_absent": False}
    rows = [row | {"system_id": system, "id": f"R{number}"} for system in ("a", "c") for number in range(3)]
    table = pa.concat_tables(
        pa.Table.from_pylist(part, known_rows.KNOWN_BY_SYSTEM) for part in (rows[:2], rows[2:4], rows[4:])
    )
    by_system = known_rows.split(table, ["a", "b", "c"])
    assert {name: own.num_rows for name, own in by_system.items()} == {"a": 3, "b": 0, "c": 3}
    again = known_rows.decode(known_rows.encode(by_system["c"]))
    assert again.to_pylist() == [{name: row[name] for name in again.schema.names} for row in rows[3:]]
