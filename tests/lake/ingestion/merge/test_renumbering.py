"""New ids for the same memories: each stays one memory, whatever is new, edited, gone or repeated beside it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akosha_assets.lake.ingestion.merge import known_rows, reconcile
from akosha_assets.lake.ingestion.merge.reconcile import SEEN, SNAPSHOTS, Difference
from akosha_assets.lake.ingestion.merge.stored_texts import TEXT_HASHES

AT = datetime(2026, 11, 20, tzinfo=UTC)
DAY = date(2026, 11, 20)
NOTHING = known_rows.KNOWN_BY_SYSTEM.empty_table()


@dataclass(frozen=True)
class Row:
    """A row of a snapshot: its id, the number of its text, the second that its source states."""

    id: str
    text: int
    second: int | None = 0
    kind: str = "reflection"
    day: date = DAY


def seen(ref: int, row: Row) -> dict[str, object]:
    content_hash = hash((row.id, row.text, row.second)) % 2**62
    return {
        "ref": ref,
        "kind": row.kind,
        "id": row.id,
        "content_hash": content_hash,
        "event_day": row.day,
        "text_hash": row.text,
        "stated_seconds": row.second,
    }


def compare(spill: Path, known: pa.Table, snapshots: dict[int, list[Row]]) -> Difference:
    """The difference of snapshots of one system, by the hour at which each was taken."""
    refs = pa.Table.from_pylist(
        [{"ref": hour, "system_id": "a", "snapshot_at": AT + timedelta(hours=hour)} for hour in snapshots], SNAPSHOTS
    )
    rows = [seen(hour, row) for hour, rows in snapshots.items() for row in rows]
    return reconcile.compare(refs, pa.Table.from_pylist(rows, SEEN), known, spill=spill)


def memories(known: pa.Table) -> dict[str, str]:
    """The memory of each id."""
    return {row["id"]: row["memory_id"] or row["id"] for row in known.to_pylist()}


def aliases(difference: Difference) -> dict[str, str]:
    return {row["id"]: row["memory_id"] for row in difference.aliases.to_pylist()}


def counts(difference: Difference) -> tuple[int, ...]:
    """New, changed, unchanged and absent rows of all snapshots."""
    names = ("new_rows", "changed_rows", "unchanged_rows", "absent_rows")
    return tuple(sum(one[name] for one in difference.counts.values()) for name in names)


def test_new_ids_in_the_snapshot_without_the_old_ones_name_the_same_memories(tmp_path: Path) -> None:
    first = compare(tmp_path, NOTHING, {0: [Row("A", 1), Row("B", 2), Row("C", 3)]})
    # A is renumbered, B renumbered and edited, C left alone, F new.
    second = compare(tmp_path, first.known, {1: [Row("D", 1), Row("E", 22), Row("C", 3), Row("F", 6)]})
    assert aliases(second) == {"D": "A"}
    assert sorted(second.chosen["id"].to_pylist()) == ["E", "F"]
    assert [(row["id"], row["is_absent"]) for row in second.absent.to_pylist()] == [("B", True)]
    assert counts(second) == (2, 0, 2, 1)
    # Nothing happens when it is sent again, or when the old snapshot is.
    for again in ({2: [Row("D", 1), Row("E", 22), Row("C", 3), Row("F", 6)]}, {0: [Row("A", 1), Row("C", 3)]}):
        third = compare(tmp_path, second.known, again)
        assert (third.chosen.num_rows, third.absent.num_rows, third.aliases.num_rows) == (0, 0, 0)


def test_a_later_edit_and_the_end_of_a_renumbered_memory_are_those_of_the_memory(tmp_path: Path) -> None:
    known = compare(tmp_path, NOTHING, {0: [Row("A", 1, day=date(2026, 1, 1)), Row("B", 2)]}).known
    known = compare(tmp_path, known, {1: [Row("C", 1), Row("B", 2)]}).known
    edited = compare(tmp_path, known, {2: [Row("C", 11), Row("B", 2)]})
    assert edited.chosen.to_pylist() == [
        {"ref": 2, "kind": "reflection", "id": "C", "is_change": True, "memory_id": "A", "memory_day": None}
    ]
    gone = compare(tmp_path, edited.known, {3: [Row("B", 2)]})
    assert [(row["id"], row["is_absent"]) for row in gone.absent.to_pylist()] == [("A", True)]
    back = compare(tmp_path, gone.known, {4: [Row("B", 2), Row("A", 1)]})
    assert [(row["id"], row["is_absent"]) for row in back.absent.to_pylist()] == [("A", False)]


def test_a_renumbered_and_edited_memory_of_one_batch_keeps_its_day(tmp_path: Path) -> None:
    day = date(2026, 1, 1)
    known = compare(tmp_path, NOTHING, {0: [Row("A", 1, day=day)]}).known
    batch = compare(tmp_path, known, {1: [Row("B", 1)], 2: [Row("B", 12)]})
    assert batch.chosen.to_pylist() == [
        {"ref": 2, "kind": "reflection", "id": "B", "is_change": True, "memory_id": "A", "memory_day": day}
    ]


def test_chains_of_new_ids_lead_to_the_first(tmp_path: Path) -> None:
    snapshots = {hour: [Row(f"{hour}{name}", text) for text, name in enumerate("xyz")] for hour in range(4)}
    batch = compare(tmp_path, NOTHING, snapshots)
    in_turn = NOTHING
    for hour, rows in snapshots.items():
        in_turn = compare(tmp_path, in_turn, {hour: rows}).known
    assert memories(batch.known) == memories(in_turn)
    assert set(memories(in_turn).values()) == {"0x", "0y", "0z"}
    assert batch.chosen.num_rows == 3


def test_memories_of_one_text_are_told_apart_by_their_times(tmp_path: Path) -> None:
    first = [Row("A", 1, second=10), Row("B", 1, second=20), Row("C", 1, second=30)]
    known = compare(tmp_path, NOTHING, {0: first}).known
    # The ids sort the other way round.
    second = compare(tmp_path, known, {1: [Row("F", 1, second=10), Row("E", 1, second=20), Row("D", 1, second=30)]})
    assert aliases(second) == {"F": "A", "E": "B", "D": "C"}
    # Without equal times their order decides; what is left over is new, or absent.
    third = compare(tmp_path, second.known, {2: [Row(f"G{second}", 1, second=second) for second in (1, 2, 3, 4)]})
    assert aliases(third) == {"G1": "A", "G2": "B", "G3": "C"}
    assert (third.chosen["id"].to_pylist(), third.absent.num_rows) == (["G4"], 0)
    fourth = compare(tmp_path, third.known, {3: [Row("H", 1, second=4)]})
    assert aliases(fourth) == {"H": "G4"}
    assert sorted(row["id"] for row in fourth.absent.to_pylist()) == ["A", "B", "C"]


@pytest.mark.parametrize("kind", ["conversation", "reflection"])
def test_another_kind_or_system_is_another_memory(tmp_path: Path, kind: str) -> None:
    known = compare(tmp_path, NOTHING, {0: [Row("A", 1), Row("K", 9, kind="conversation")]}).known
    rows = [Row("K", 9, kind="conversation"), Row("B", 1, kind=kind)]
    difference = compare(tmp_path, known, {1: rows})
    assert aliases(difference) == ({"B": "A"} if kind == "reflection" else {})
    other = known.set_column(0, "system_id", pa.array(["b"] * known.num_rows))
    assert aliases(compare(tmp_path, other, {1: rows})) == {}


def test_a_copy_beside_the_original_is_another_memory(tmp_path: Path) -> None:
    known = compare(tmp_path, NOTHING, {0: [Row("A", 1)]}).known
    copied = compare(tmp_path, known, {1: [Row("A", 1), Row("B", 1)]})
    assert (aliases(copied), copied.chosen["id"].to_pylist()) == ({}, ["B"])
    # Both left: two new ids, two memories.
    moved = compare(tmp_path, copied.known, {2: [Row("C", 1), Row("D", 1)]})
    assert set(aliases(moved).values()) == {"A", "B"}


def test_a_snapshot_taken_halfway_does_not_tear_memories_apart(tmp_path: Path) -> None:
    rows = [Row(f"A{n}", n, second=n) for n in range(6)]
    new = [Row(f"B{n}", n, second=n) for n in range(6)]
    known = compare(tmp_path, NOTHING, {0: rows}).known
    # Some moved; then the table is empty; then rows were removed and not yet written again.
    known = compare(tmp_path, known, {1: rows[:3] + new[3:]}).known
    known = compare(tmp_path, known, {2: []}).known
    emptied = compare(tmp_path, known, {3: new[3:]})
    assert emptied.absent.num_rows == 3
    whole = compare(tmp_path, emptied.known, {4: new})
    assert aliases(whole) == {f"B{n}": f"A{n}" for n in range(3)}
    assert {row["id"]: row["is_absent"] for row in whole.absent.to_pylist()} == {f"A{n}": False for n in range(3)}
    assert whole.chosen.num_rows == 0


def test_a_text_written_again_after_it_was_removed_is_a_new_memory(tmp_path: Path) -> None:
    known = compare(tmp_path, NOTHING, {0: [Row("A", 1, second=5), Row("K", 9)]}).known
    known = compare(tmp_path, known, {1: [Row("K", 9)]}).known
    again = compare(tmp_path, known, {2: [Row("K", 9), Row("B", 1, second=500)]})
    assert (aliases(again), again.chosen["id"].to_pylist()) == ({}, ["B"])


def test_the_older_snapshot_may_come_last(tmp_path: Path) -> None:
    known = compare(tmp_path, NOTHING, {5: [Row("B", 1, second=7), Row("C", 3, second=8)]}).known
    late = compare(tmp_path, known, {1: [Row("A", 1, second=7)]})
    assert (aliases(late), late.chosen.num_rows, late.absent.num_rows) == ({"A": "B"}, 0, 0)


def test_a_migration_that_is_rolled_back_and_run_again_is_followed(tmp_path: Path) -> None:
    old, new = [Row(f"A{n}", n) for n in range(3)], [Row(f"B{n}", n) for n in range(3)]
    known, snapshots = NOTHING, [old, new, old, new, old]
    for hour, rows in enumerate(snapshots):
        difference = compare(tmp_path, known, {hour: rows})
        known = difference.known
        assert difference.absent.num_rows == 0
        assert difference.chosen.num_rows == (0 if hour else 3)
    batch = compare(tmp_path, NOTHING, dict(enumerate(snapshots)))
    assert (memories(batch.known), batch.absent.num_rows) == (memories(known), 0)


def test_known_rows_of_an_earlier_release_are_recognized_by_their_stored_texts(tmp_path: Path) -> None:
    known = compare(tmp_path, NOTHING, {0: [Row("A", 1), Row("B", 2)]}).known
    nulls = pa.nulls(known.num_rows, pa.int64())
    for name in ("text_hash", "stated_seconds"):
        known = known.set_column(known.schema.get_field_index(name), name, nulls)
    asked: list[pa.Table] = []

    def stored_texts(rows: pa.Table) -> pa.Table:
        asked.append(rows)
        stored = [{"system_id": "a", "kind": "reflection", "id": "A", "text_hash": 1, "snapshot_at": AT}]
        return pa.Table.from_pylist(stored, TEXT_HASHES)

    refs = pa.Table.from_pylist([{"ref": 1, "system_id": "a", "snapshot_at": AT + timedelta(hours=1)}], SNAPSHOTS)
    rows = pa.Table.from_pylist([seen(1, Row("C", 1)), seen(1, Row("B", 2))], SEEN)
    difference = reconcile.compare(refs, rows, known, spill=tmp_path, stored_texts=stored_texts)
    assert (aliases(difference), difference.absent.num_rows) == ({"C": "A"}, 0)
    assert [table.num_rows for table in asked] == [1]


@st.composite
def histories(draw: st.DrawFn) -> list[dict[int, Row]]:
    """Snapshots of a source that renumbers, edits, adds and removes memories: rows by the number of the memory.

    Texts and times are those of one memory alone, so that the right outcome is known.
    """
    fresh = iter(range(10_000))
    state: dict[int, Row] = {}
    snapshots = []
    for _ in range(draw(st.integers(1, 5))):
        for _ in range(draw(st.integers(0, 3))):
            number = next(fresh)
            state[number] = Row(f"id{number}", number, second=number)
        for number in list(state):
            match draw(st.sampled_from(["keep", "keep", "renumber", "renumber", "edit", "remove"])):
                case "renumber":
                    state[number] = Row(f"id{next(fresh)}", state[number].text, second=state[number].second)
                case "edit":
                    state[number] = Row(state[number].id, next(fresh), second=state[number].second)
                case "remove":
                    del state[number]
        snapshots.append(dict(state))
    return snapshots


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_any_history_gives_each_memory_once_in_turn_and_in_one_batch(
    tmp_path: Path, history: list[dict[int, Row]]
) -> None:
    in_turn = NOTHING
    presence: dict[str, bool] = {}
    stored: set[str] = set()
    for hour, rows in enumerate(history):
        difference = compare(tmp_path, in_turn, {hour: list(rows.values())})
        in_turn = difference.known
        presence |= {row["id"]: row["is_absent"] for row in difference.absent.to_pylist()}
        stored |= {row["memory_id"] or row["id"] for row in difference.chosen.to_pylist()}
    batch = compare(tmp_path, NOTHING, {hour: list(rows.values()) for hour, rows in enumerate(history)})

    ids_of: dict[int, set[str]] = {}
    for rows in history:
        for number, row in rows.items():
            ids_of.setdefault(number, set()).add(row.id)
    for known in (in_turn, batch.known):
        named = memories(known)
        # All ids of a memory have one name, and no two memories have the same.
        names = [{named[id] for id in ids} for ids in ids_of.values()]
        assert all(len(one) == 1 for one in names)
        assert len(set().union(*names)) == len(ids_of)
    assert stored == {row["memory_id"] or row["id"] for row in batch.chosen.to_pylist()}
    assert len(stored) == len(ids_of)
    if history[-1]:
        last = {memories(in_turn)[row.id] for row in history[-1].values()}
        gone = {name for name, is_absent in presence.items() if is_absent}
        assert gone == set(memories(in_turn).values()) - last
        assert gone == {row["id"] for row in batch.absent.to_pylist() if row["is_absent"]}
