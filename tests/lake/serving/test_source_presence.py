"""Memories that left their source, and memories with new ids, in everything that the service answers."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import NotFound
from akosha_assets.lake.schemas import ABSENCES, ALIASES
from akosha_assets.lake.serving.query import Filters, Identity, Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search import export
from akosha_assets.lake.serving.search.memories import read_memory
from akosha_assets.lake.serving.search.searcher import Answer, Searcher
from akosha_assets.lake.serving.sql.runner import SqlLimits, run
from akosha_assets.lake.serving.time_travel.snapshots import TimeTravel
from akosha_assets.lake.tables import Fence
from tests.hot_rows import NOW, commit, commit_to_tier, memory, unit

LEFT = NOW - timedelta(hours=3)
NAME = {"system_id": "laptop-ada", "kind": "conversation"}
WEEKS, YEAR = timedelta(days=30), timedelta(days=300)


def record_absence(lake: Lake, sequence: int, id: str, at: datetime = LEFT, *, is_absent: bool = True) -> None:
    row = NAME | {"id": id, "is_absent": is_absent, "snapshot_at": at, "upload_id": "u", "batch_id": sequence}
    lake.append(ABSENCES.address, pa.Table.from_pylist([row], ABSENCES.schema), Fence("test", sequence), {})


def record_alias(lake: Lake, sequence: int, id: str, memory_id: str) -> None:
    row: dict[str, Any] = NAME | {"id": id, "memory_id": memory_id, "content_hash": 1, "batch_id": sequence}
    row["snapshot_at"] = NOW + timedelta(minutes=sequence)
    lake.append(ALIASES.address, pa.Table.from_pylist([row], ALIASES.schema), Fence("test", sequence), {})


def ask(replica: Replica, **question: Any) -> Answer:
    return Searcher(None, "no model").search(replica.snapshot, Question(**question))


def ids(answer: Answer) -> list[str]:
    return [result["id"] for result in answer.results]


@pytest.fixture
def replica(lake: Lake) -> Iterator[Replica]:
    """A memory in each tier that left its source, beside others that did not."""
    commit(lake, 1, memory("gone", "deadlock in postgres"), memory("here", "deadlock in mysql today"))
    commit_to_tier(lake, 1, "warm", memory("warm-gone", "deadlock in redis", age=WEEKS))
    commit_to_tier(lake, 1, "cold", memory("cold-gone", "deadlock in oracle", age=YEAR))
    for sequence, id in enumerate(("gone", "warm-gone", "cold-gone"), start=1):
        record_absence(lake, sequence, id)
    started = Replica(lake, today=NOW.date)
    started.refresh()
    yield started
    started.stop()


@pytest.mark.parametrize("mode", ["keyword", "semantic", "hybrid"])
def test_a_memory_that_left_its_source_says_so_and_ranks_behind(replica: Replica, mode: str) -> None:
    if mode == "semantic":
        answer = ask(replica, vector=tuple((unit("deadlock in postgres") + unit("deadlock in mysql today")).tolist()))
    else:
        answer = ask(replica, text="deadlock postgres", mode=mode)
    since = {result["id"]: result["absent_since"] for result in answer.results}
    assert since["here"] is None
    assert {id: at for id, at in since.items() if at is not None} == dict.fromkeys(set(since) - {"here"}, LEFT)
    scores = [result["score"] for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    if mode == "semantic":
        # Both are as near to the question.
        assert ids(answer)[:2] == ["here", "gone"]


def test_of_equal_texts_the_present_one_comes_first(lake: Lake, replica: Replica) -> None:
    commit(lake, 2, memory("copy", "deadlock in postgres", system="laptop-bob"))
    replica.refresh()
    answer = ask(replica, text="deadlock in postgres", mode="keyword")
    first = answer.results[0]
    assert (first["id"], first["duplicates"]["count"]) == ("copy", 1)
    assert ids(ask(replica, text="deadlock in postgres", mode="keyword", collapse=False))[:1] == ["copy"]


@pytest.mark.parametrize("mode", ["keyword", "semantic"])
def test_absent_memories_can_be_asked_for_or_left_out(replica: Replica, mode: str) -> None:
    question: dict[str, Any] = {"text": "deadlock", "mode": mode}
    if mode == "semantic":
        question = {"vector": tuple(unit("deadlock in postgres").tolist())}
    gone = {"gone", "warm-gone", "cold-gone"}
    assert set(ids(ask(replica, filters=Filters(absent=True), **question))) == gone
    assert set(ids(ask(replica, filters=Filters(absent=False), **question))) == {"here"}
    facets = ask(replica, filters=Filters(absent=True), facets=("tier",), **question).facets
    assert facets == {"tier": {"hot": 1, "warm": 1, "cold": 1}}


def test_few_absent_memories_are_found_among_many_present_ones(lake: Lake, replica: Replica) -> None:
    commit(lake, 2, *[memory(f"m{number}", f"deadlock number {number}") for number in range(400)])
    replica.refresh()
    answer = ask(replica, text="deadlock", mode="keyword", filters=Filters(absent=True))
    assert len(answer.results) == 3


def test_a_memory_that_is_back_is_present_again(lake: Lake, replica: Replica) -> None:
    record_absence(lake, 4, "gone", LEFT + timedelta(hours=1), is_absent=False)
    record_absence(lake, 5, "here")
    replica.refresh()
    since = {result["id"]: result["absent_since"] for result in ask(replica, text="deadlock", mode="keyword").results}
    assert (since["gone"], since["here"]) == (None, LEFT)


def test_one_memory_exports_and_sql_have_absent_since(lake: Lake, replica: Replica) -> None:
    found = read_memory(lake, replica.snapshot, Identity(**NAME, id="warm-gone"))
    assert found["absent_since"] == LEFT
    lines = b"".join(export.json_lines(replica.snapshot, Filters())).splitlines()
    exported = {row["id"]: row["absent_since"] for row in map(json.loads, lines)}
    assert {id: at is not None for id, at in exported.items()} == {
        "gone": True,
        "here": False,
        "warm-gone": True,
        "cold-gone": True,
    }
    assert datetime.fromisoformat(exported["gone"]) == LEFT
    rows = run(lake, "SELECT id, absent_since FROM memories ORDER BY id", SqlLimits()).table.to_pylist()
    assert {row["id"]: row["absent_since"] is not None for row in rows} == {
        id: at is not None for id, at in exported.items()
    }
    assert run(lake, "SELECT count(*) AS n FROM memories WHERE absent_since IS NULL", SqlLimits()).table[
        "n"
    ].to_pylist() == [1]


def test_an_earlier_time_shows_what_was_absent_then(lake: Lake, replica: Replica) -> None:
    travel = TimeTravel(replica, max_bytes=1 << 20)
    record_absence(lake, 4, "here", datetime.now(NOW.tzinfo) + timedelta(minutes=1))
    replica.refresh()
    past = travel.snapshot(replica.snapshot.tiers["hot"].version or 0)
    travel.close()
    earlier = read_memory(lake, past, Identity(**NAME, id="here"), is_past=True)
    now = read_memory(lake, replica.snapshot, Identity(**NAME, id="here"))
    assert (earlier["absent_since"], now["absent_since"] is not None) == (None, True)


def test_every_id_of_a_memory_finds_it(lake: Lake, replica: Replica) -> None:
    record_alias(lake, 1, "second", "gone")
    record_alias(lake, 2, "third", "gone")
    replica.refresh()
    for id in ("gone", "second", "third"):
        found = read_memory(lake, replica.snapshot, Identity(**NAME, id=id))
        assert (found["id"], found["aliases"], found["provenance"]["upload_id"]) == ("gone", ["second", "third"], "u-1")
    similar = ask(replica, like=Identity(**NAME, id="second"))
    assert "gone" not in ids(similar) and similar.results
    with pytest.raises(NotFound):
        read_memory(lake, replica.snapshot, Identity(**NAME, id="fourth"))


def test_a_new_id_does_not_end_a_page_by_page_reading(lake: Lake, replica: Replica) -> None:
    first = ask(replica, text="deadlock", mode="keyword", limit=2)
    record_alias(lake, 1, "renumbered", "gone")
    replica.refresh()
    second = ask(replica, text="deadlock", mode="keyword", limit=2, cursor=first.cursor)
    assert sorted(ids(first) + ids(second)) == ["cold-gone", "gone", "here", "warm-gone"]


def test_a_lake_of_an_earlier_release_has_no_such_tables(lake: Lake) -> None:
    commit(lake, 1, memory("1", "deadlock"))
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    answer = ask(replica, text="deadlock", mode="keyword")
    replica.stop()
    assert [result["absent_since"] for result in answer.results] == [None]
    assert run(lake, "SELECT absent_since FROM memories", SqlLimits()).table.to_pylist() == [{"absent_since": None}]
