"""The end of a long memory is found by meaning, in every tier; answers say what has no vector."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.ingestion.merge.table_rows import with_vectors
from akosha_assets.lake.lifecycle.hot import embed_day, embed_passages
from akosha_assets.lake.passages import PASSAGES_MAX, CutTexts
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.serving.query import Identity, Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.recall_probe import recall
from akosha_assets.lake.serving.search.searcher import Answer, Searcher
from akosha_assets.lake.settings import LakeSettings
from tests import old_tables, tiny_model
from tests.hot_rows import NOW, commit, commit_to_tier, memory, unit, upsert

FILLER = "the kubernetes index query was oomkilled. "
TAIL = "ünder it all: the tls certificate expired."
LONG = FILLER * 150 + TAIL
OTHERS = ["postgres lock timeout", "redis eviction", "asyncio deadlock", "pytest fixture"]
TIERS = ["hot", "warm", "cold"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    model = tiny_model.make(tmp_path_factory.mktemp("model"))
    return Embedder.load(LakeSettings(embedding_model="akosha/tiny", embedding_model_dir=model))


def embedded(embedder: Embedder, id: str, text: str, **columns: Any) -> dict[str, Any]:
    cut = CutTexts.cut(embedder, [text])
    [vector] = as_stored(embedder.embed(cut.first))
    [passages] = cut.split(embedder.embed(cut.others).astype("<f2"))
    [ranges] = cut.ranges
    columns = {"vector": vector, "space": embedder.space, "passages": passages, "passage_ranges": ranges} | columns
    return memory(id, text, **columns)


@pytest.fixture
def replica(lake: Lake) -> Iterator[Replica]:
    replica = Replica(lake, today=NOW.date)
    yield replica
    replica.stop()


def ask(replica: Replica, embedder: Embedder, **question: Any) -> Answer:
    replica.refresh()
    return Searcher(embedder).search(replica.snapshot, Question(**question))


def ids(answer: Answer) -> list[str]:
    return [result["id"] for result in answer.results]


def others(embedder: Embedder) -> list[dict[str, Any]]:
    return [embedded(embedder, f"other-{number}", text) for number, text in enumerate(OTHERS)]


@pytest.mark.parametrize("tier", TIERS)
def test_the_end_of_a_long_memory_is_found_by_meaning(
    lake: Lake, replica: Replica, embedder: Embedder, tier: str
) -> None:
    rows = [embedded(embedder, "long", LONG), *others(embedder)]
    if tier == "hot":
        commit(lake, 1, *rows)
    else:
        commit_to_tier(lake, 1, tier, *rows)
    answer = ask(replica, embedder, text="tls certificate", mode="semantic")
    assert ids(answer)[0] == "long"
    assert sorted(ids(answer)) == sorted(row["id"] for row in rows)
    stage = answer.stages["semantic"]
    assert (stage.reason, stage.is_complete, stage.candidates) == (None, True, len(rows))
    report = answer.tiers[tier]
    assert (report["rows"], report["rows_with_vector"]) == (len(rows), len(rows))
    shown = answer.results[0]["snippet"]
    if tier == "hot":
        assert shown["text"].endswith(TAIL)
        assert [shown["text"][start:end] for start, end in shown["highlights"]] == ["tls", "certificate"]
    else:
        # A summary has no passages.
        assert answer.results[0]["is_summary"] and answer.results[0]["text"].startswith(shown["text"][:20])


def test_the_snippet_shows_the_best_passage_unless_only_other_parts_have_the_words(
    lake: Lake, replica: Replica, embedder: Embedder
) -> None:
    text = "redis eviction. " + "the kubernetes query. " * 300 + "postgres lock timeout. " * 100 + "the end. " * 300
    commit(lake, 1, embedded(embedder, "long", text))
    vector = tuple(embedder.embed(["postgres lock"])[0].tolist())
    for asked in ({"vector": vector, "space": embedder.space}, {"text": "postgres lock"}):
        assert "postgres lock" in ask(replica, embedder, **asked).results[0]["snippet"]["text"]
    # Found by both: the passage of one word, which the other is not near.
    both = ask(replica, embedder, text="eviction postgres", weights=(1.0, 1.0)).results[0]
    assert both["snippet"]["highlights"]


def test_a_long_memory_does_not_crowd_out_others(lake: Lake, replica: Replica, embedder: Embedder) -> None:
    long = [embedded(embedder, f"long-{number}", f"tls certificate {number} " * 2000) for number in range(12)]
    short = [embedded(embedder, f"short-{number}", f"tls expired index {number}") for number in range(120)]
    commit(lake, 1, *long, *short)
    answer = ask(replica, embedder, text="tls certificate", mode="semantic", limit=100, collapse=False)
    assert len(set(ids(answer))) == 100
    assert {f"long-{number}" for number in range(12)} <= set(ids(answer))
    rest = ask(
        replica, embedder, text="tls certificate", mode="semantic", limit=100, collapse=False, cursor=answer.cursor
    )
    assert sorted([*ids(answer), *ids(rest)]) == sorted(row["id"] for row in [*long, *short])


def test_memories_like_a_long_one_are_like_any_of_its_passages(
    lake: Lake, replica: Replica, embedder: Embedder
) -> None:
    beginning, end = embedded(embedder, "beginning", "kubernetes index"), embedded(embedder, "end", "tls expired")
    commit(lake, 1, embedded(embedder, "long", LONG), beginning, end, *others(embedder))
    like = Identity("laptop-ada", "conversation", "long")
    assert set(ids(ask(replica, embedder, like=like))[:2]) == {"beginning", "end"}
    assert ids(ask(replica, embedder, like=Identity("laptop-ada", "conversation", "end")))[0] == "long"


def test_answers_say_which_memories_are_known_by_their_beginning_only(
    lake: Lake, replica: Replica, embedder: Embedder
) -> None:
    endless = "the redis index. " * 300 * PASSAGES_MAX + TAIL
    waiting = embedded(embedder, "waiting", LONG, passages=None, passage_ranges=None)
    commit(lake, 1, waiting, embedded(embedder, "endless", endless), *others(embedder))
    stage = ask(replica, embedder, text="tls").stages["semantic"]
    assert stage.reason is not None
    assert "of 1 long memories only the beginning has a vector yet" in stage.reason
    assert f"of 1 memories that are longer than {PASSAGES_MAX} passages" in stage.reason
    assert not stage.is_complete
    embed_passages(lake, waiting["event_day"], embedder, run_id="test")
    answer = ask(replica, embedder, text="tls certificate", mode="semantic")
    stage = answer.stages["semantic"]
    assert (ids(answer)[0], stage.is_complete) == ("waiting", True)
    assert stage.reason is not None and "yet" not in stage.reason


def test_a_memory_that_aged_before_it_was_cut_is_said_to_be_known_in_part(
    lake: Lake, replica: Replica, embedder: Embedder
) -> None:
    commit_to_tier(lake, 1, "warm", embedded(embedder, "long", LONG, passages=None, passage_ranges=None))
    stage = ask(replica, embedder, text="tls").stages["semantic"]
    assert stage.is_complete and stage.reason is not None and "left hot before they were cut" in stage.reason


@pytest.mark.parametrize("tier", TIERS)
def test_tables_of_an_earlier_version_are_searched(lake: Lake, replica: Replica, embedder: Embedder, tier: str) -> None:
    rows = [embedded(embedder, "long", LONG, passages=None, passage_ranges=None), *others(embedder)]
    made = Lake(LakeSettings(home=lake.settings.home / "made"))
    if tier == "hot":
        commit(made, 1, *rows)
    else:
        commit_to_tier(made, 1, tier, *rows)
    address = f"lifecycle/{tier}"
    old_tables.write_without(lake, address, made.select(address, made.spec(address).schema.names))
    assert ids(ask(replica, embedder, text="kubernetes index", mode="semantic"))[0] == "long"
    if tier == "hot":
        # New files have the columns, old ones do not.
        commit(lake, 2, embedded(embedder, "new", FILLER * 150 + "asyncio fixture. " * 50))
        assert ids(ask(replica, embedder, text="asyncio fixture", mode="semantic"))[0] == "new"
        embed_passages(lake, rows[0]["event_day"], embedder, run_id="test")
        assert ids(ask(replica, embedder, text="tls certificate", mode="semantic"))[0] == "long"


def test_a_changed_text_loses_its_passages_and_a_changed_label_does_not(
    lake: Lake, replica: Replica, embedder: Embedder
) -> None:
    commit(lake, 1, embedded(embedder, "long", LONG), *others(embedder))
    later: dict[str, Any] = {"snapshot_at": NOW + timedelta(minutes=1), "vector": None, "space": None}
    bare = memory("long", LONG, importance=0.9, **later)
    upsert(lake, 2, bare)
    assert ids(ask(replica, embedder, text="tls certificate", mode="semantic"))[0] == "long"
    later["snapshot_at"] += timedelta(minutes=1)
    upsert(lake, 3, memory("long", "redis eviction, after all", **later))
    [row] = lake.select(HOT.address, ["passages", "passage_ranges", "vector"], "id = 'long'").to_pylist()
    assert set(row.values()) == {None}
    embed_day(lake, bare["event_day"], embedder, run_id="test")
    answer = ask(replica, embedder, text="tls certificate", mode="semantic")
    assert ids(answer)[0] != "long" and "long" in ids(answer)


def test_a_vector_of_the_client_in_the_same_space_keeps_the_passages(lake: Lake, embedder: Embedder) -> None:
    row = embedded(embedder, "long", LONG)
    commit(lake, 1, row)
    sent = row | {"passages": None, "passage_ranges": None, "snapshot_at": NOW + timedelta(minutes=1)}
    upsert(lake, 2, sent)
    columns = ["passages", "passage_ranges"]
    assert lake.select(HOT.address, columns).to_pylist() == [{name: row[name] for name in columns}]
    upsert(lake, 3, sent | {"space": "other", "snapshot_at": NOW + timedelta(minutes=2)})
    assert lake.select(HOT.address, columns).to_pylist() == [dict.fromkeys(columns)]


def test_the_cache_on_disk_keeps_passages(lake: Lake, embedder: Embedder) -> None:
    commit(lake, 1, embedded(embedder, "long", LONG), *others(embedder))
    old = embedded(embedder, "old", FILLER * 150 + "asyncio fixture. " * 50, age=timedelta(days=20))
    commit_to_tier(lake, 1, "warm", old)
    for _ in range(2):
        replica = Replica(lake, today=NOW.date)
        for text, expected in (("tls certificate", "long"), ("asyncio fixture", "old")):
            answer = ask(replica, embedder, text=text, mode="semantic")
            assert ids(answer)[0] == expected
        replica.stop()


def test_the_recall_probe_counts_rows(lake: Lake, replica: Replica) -> None:
    def row(number: int) -> dict[str, Any]:
        passages = b"".join(as_stored(np.stack([unit(number, passage) for passage in range(9)])))
        ranges = np.arange(20, dtype="<i4").tobytes()
        return memory(f"long-{number}", f"text {number}", passages=passages, passage_ranges=ranges)

    commit(lake, 1, *[row(number) for number in range(300)], *[memory(f"s{n}", f"redis {n}") for n in range(300)])
    replica.refresh()
    assert replica.snapshot.tiers["hot"].refused_vectors == 0
    assert recall(replica.snapshot, probes=20, random=np.random.default_rng(1)) == 1.0


def test_ingestion_embeds_passages_as_far_as_its_time_allows(embedder: Embedder) -> None:
    none = dict.fromkeys(("vector", "space"))
    rows = [
        memory("a", "short", **none),
        memory("b", LONG, **none),
        embedded(embedder, "c", LONG, passages=None, passage_ranges=None),
    ]
    table = pa.Table.from_pylist(rows, HOT.schema)
    made = with_vectors(table, embedder, time.monotonic() + 60).to_pylist()
    assert [row["passages"] is not None for row in made] == [False, True, True]
    assert all(row["passage_ranges"] and row["vector"] for row in made)
    assert made[2]["vector"] == rows[2]["vector"]
    unchanged = with_vectors(table, embedder, time.monotonic() - 1).to_pylist()
    assert [row["passage_ranges"] for row in unchanged] == [None] * 3
