"""Searches over three tiers, and what a replica reuses of an earlier one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.serving.query import Filters, Identity, Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Answer, Searcher
from akosha_assets.lake.serving.text.keyword_index import KeywordSearcher
from tests.hot_rows import DIMENSIONS, NOW, commit, commit_to_tier, memory, unit

WEEKS, YEAR = timedelta(days=30), timedelta(days=300)


def ask(replica: Replica, **question: object) -> Answer:
    return Searcher(None, "no model").search(replica.snapshot, Question(**question))  # type: ignore[arg-type]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    commit(lake, 1, memory("h", "fresh deadlock in postgres"))
    commit_to_tier(
        lake, 1, "warm", memory("w", "older deadlock in redis", age=WEEKS), memory("x", "certificate", age=WEEKS)
    )
    commit_to_tier(lake, 1, "cold", memory("c", "ancient deadlock in oracle", age=YEAR))
    return lake


@pytest.fixture
def replica(filled: Lake) -> Iterator[Replica]:
    started = Replica(filled, today=NOW.date)
    started.refresh()
    yield started
    started.stop()


def test_one_question_is_answered_from_all_three_tiers(replica: Replica) -> None:
    by_words = ask(replica, text="deadlock", mode="keyword")
    assert {(result["id"], result["tier"], result["is_summary"]) for result in by_words.results} == {
        ("h", "hot", False),
        ("w", "warm", True),
        ("c", "cold", True),
    }
    by_meaning = ask(replica, vector=tuple(unit("ancient deadlock in oracle").tolist()))
    assert by_meaning.results[0]["tier"] == "cold"
    assert by_meaning.stages["semantic"].approximate
    assert len(by_meaning.results) == 4
    assert {tier["state"] for tier in by_meaning.tiers.values()} == {"answered"}


def test_scores_of_warm_are_near_those_of_hot(replica: Replica) -> None:
    answer = ask(replica, vector=tuple(unit("older deadlock in redis").tolist()), limit=1)
    assert (answer.results[0]["id"], answer.results[0]["tier"]) == ("w", "warm")
    assert answer.results[0]["score"] == pytest.approx(1, abs=0.02)


def test_results_come_only_from_tiers_within_the_time_filter(replica: Replica) -> None:
    answer = ask(replica, text="deadlock", mode="keyword", filters=Filters(until=NOW - timedelta(days=100)))
    assert [result["id"] for result in answer.results] == ["c"]


def test_a_hotter_row_hides_a_colder_one_in_every_ranking(filled: Lake, replica: Replica) -> None:
    commit(filled, 2, memory("w", "rewritten words", age=WEEKS))
    replica.refresh()
    assert {result["id"] for result in ask(replica, text="deadlock", mode="keyword").results} == {"h", "c"}
    found = [r for r in ask(replica, vector=tuple(unit("older deadlock in redis").tolist())).results if r["id"] == "w"]
    assert [(result["tier"], result["text"]) for result in found] == [("hot", "rewritten words")]
    place = replica.snapshot.find(Identity("laptop-ada", "conversation", "w"))
    assert place is not None
    assert place[0] == "hot"
    assert replica.snapshot.tiers["warm"].rows == 1
    table = filled.open("lifecycle/hot")
    assert table is not None
    table.delete(f"event_day = '{(NOW - WEEKS).date()}'")
    replica.refresh()
    assert replica.snapshot.tiers["warm"].rows == 2


def test_other_tiers_answer_if_one_cannot_be_read(filled: Lake) -> None:
    log = Path(filled.uri("lifecycle/cold")) / "_delta_log" / f"{0:020d}.json"
    original = log.read_bytes()
    log.write_bytes(b"{ no log")
    replica = Replica(filled, today=NOW.date)
    with pytest.raises(StoreUnavailable, match="cold"):
        replica.refresh()
    answer = ask(replica, text="deadlock", mode="keyword")
    assert {result["id"] for result in answer.results} == {"h", "w"}
    assert answer.tiers["cold"]["state"] == "unavailable"
    assert answer.tiers["cold"]["reason"]
    log.write_bytes(original)
    replica.refresh()
    assert len(ask(replica, text="deadlock", mode="keyword").results) == 3
    replica.stop()


def test_the_next_process_reuses_the_cache(filled: Lake, replica: Replica) -> None:
    replica.stop()
    stamps = {path: path.stat().st_mtime_ns for path in (replica.folder / "parts").rglob("*") if path.is_file()}
    assert stamps
    commit(filled, 2, memory("n", "another deadlock"))
    again = Replica(filled, today=NOW.date)
    assert again.folder == replica.folder
    assert isinstance(again.snapshot.keywords, KeywordSearcher)
    assert again.snapshot.keywords.searcher.num_docs == 4
    again.refresh()
    assert {result["id"] for result in ask(again, text="deadlock", mode="keyword").results} == {"h", "w", "c", "n"}
    assert len(ask(again, vector=tuple([1.0] * DIMENSIONS)).results) == 5
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    again.stop()


@pytest.mark.parametrize("name", ["arrays.bin", "payload.arrow", "store", "state.json"])
def test_a_damaged_cache_file_is_rebuilt(filled: Lake, replica: Replica, name: str) -> None:
    replica.stop()
    (damaged, *_) = sorted(path for path in replica.folder.rglob("*") if path.name == name or path.suffix == f".{name}")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    again = Replica(filled, today=NOW.date)
    again.refresh()
    assert {result["id"] for result in ask(again, text="deadlock", mode="keyword").results} == {"h", "w", "c"}
    assert len(ask(again, vector=tuple([1.0] * DIMENSIONS)).results) == 4
    assert again.snapshot.keyword_rows == 4
    again.stop()


def test_days_that_exceed_the_memory_budget_are_answered_from_disk(lake: Lake) -> None:
    commit(lake, 1, *[memory(f"{day}", f"day {day}", age=timedelta(days=day)) for day in range(4)])
    replica = Replica(lake, today=NOW.date)
    replica.refresh()
    room = 2 * replica.snapshot.tiers["hot"].parts[0].nbytes
    replica.stop()
    replica = Replica(lake, today=NOW.date, memory_bytes=room)
    replica.refresh()
    hot = replica.snapshot.tiers["hot"]
    assert 0 < len(hot.days_on_disk) < 4
    assert NOW.date() not in hot.days_on_disk
    assert len(ask(replica, text="day", mode="keyword").results) == 4
    replica.stop()
