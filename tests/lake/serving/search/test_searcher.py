"""Searches over a replica of a real table: keyword, semantic and hybrid, filters, pages."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.embeddings import Embedder, as_stored
from akosha_assets.lake.errors import EmbeddingUnavailable, InvalidRequest, NotFound
from akosha_assets.lake.serving.query import Filters, Identity, ParsedQuery, Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Answer, Searcher
from akosha_assets.lake.serving.states import QuerySyntax, SearchMode
from akosha_assets.lake.serving.text.analysis import stem, tokenize
from akosha_assets.lake.serving.text.query_syntax import parse_query
from akosha_assets.lake.serving.text.snippets import snippet
from akosha_assets.lake.serving.time_limit import TimeLimitExceeded, time_limit
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model
from tests.hot_rows import NOW, SPACE, commit, commit_to_tier, memory, unit, upsert

ROWS = [
    memory(
        "1", "Fixed ModuleNotFoundError in src/foo_bar/settings.py by installing the package", tags=["python", "import"]
    ),
    memory(
        "2",
        "Postgres deadlock: lock timeout on the orders table",
        system="laptop-bob",
        project="orders",
        importance=0.9,
    ),
    memory("3", "Redis eviction policy set to allkeys-lru", kind="reflection", importance=0.2),
    memory("4", "connection refused by the billing gateway", age=timedelta(days=20), tags=["python"]),
    memory("5", "The gateway refused the certificate", system="laptop-bob", vector=None, space=None),
]


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    lake = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    started = Replica(lake, today=NOW.date)
    commit(lake, 1, *ROWS)
    started.refresh()
    yield started
    started.stop()


def ask(replica: Replica, *, searcher: Searcher | None = None, **question: Any) -> Answer:
    return (searcher or Searcher(None, "no model here")).search(replica.snapshot, Question(**question))


def ids(answer: Answer) -> list[str]:
    return [result["id"] for result in answer.results]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deadlock", ["2"]),
        ("modulenotfounderror", ["1"]),
        ("foo_bar", ["1"]),
        ("src/foo_bar/settings.py", ["1"]),
        ("allkeys-lru", ["3"]),
        ("module error", ["1"]),
        ('"connection refused"', ["4"]),
        ("evict*", ["3"]),
        ("evicting", ["3"]),
        ('"evictions"', []),
        ("+nowhere deadlock", []),
        ("deadlock -nowhere", ["2"]),
        ("how is the deadlock", ["2"]),
        ("the", ["1", "2", "4", "5"]),
        ("+the +gateway", ["4", "5"]),
        ("by -billing", ["1"]),
        ('"eviction"', ["3"]),
        ("gateway -certificate", ["4"]),
        ("+gateway +certificate", ["5"]),
        ("project:orders", ["2"]),
        ("gateway tag:python", ["4", "5", "1"]),
        ("KeyError: deadlock", ["1", "2"]),
        ("no-such-word-anywhere", []),
        ("!!! ((", []),
    ],
)
def test_words_find_the_texts_that_have_them(replica: Replica, text: str, expected: list[str]) -> None:
    answer = ask(replica, text=text, mode="keyword", syntax=QuerySyntax.QUERY)
    assert sorted(ids(answer)) == sorted(expected)


def test_a_vector_finds_the_nearest_first(replica: Replica) -> None:
    answer = ask(replica, vector=tuple(unit(ROWS[2]["text"]).tolist()))
    assert ids(answer)[0] == "3"
    assert answer.results[0]["score"] == pytest.approx(1, abs=1e-3)
    assert len(answer.results) == 4
    assert answer.stages["semantic"].space == SPACE


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(equals={"system_id": ("laptop-bob",)}), {"2"}),
        (Filters(equals={"system_id": ("laptop-bob", "laptop-ada")}), {"1", "2", "3", "4"}),
        (Filters(equals={"system_id": ("nobody",)}), set()),
        (Filters(equals={"kind": ("reflection",)}), {"3"}),
        (Filters(equals={"project": ("orders",)}), {"2"}),
        (Filters(tags=("python",)), {"1", "4"}),
        (Filters(tags=("python", "import")), {"1"}),
        (Filters(importance_min=0.5), {"2"}),
        (Filters(since=NOW - timedelta(days=1)), {"1", "2", "3"}),
        (Filters(until=NOW - timedelta(days=1)), {"4"}),
    ],
)
def test_filters_apply_before_both_rankings(replica: Replica, filters: Filters, expected: set[str]) -> None:
    by_meaning = ask(replica, vector=tuple(unit("anything").tolist()), filters=filters)
    assert set(ids(by_meaning)) == expected
    by_words = ask(replica, text="fixed deadlock eviction refused", mode="keyword", filters=filters)
    assert set(ids(by_words)) - {"5"} == expected


def test_like_does_not_find_the_memory_itself(replica: Replica) -> None:
    answer = ask(replica, like=Identity("laptop-ada", "conversation", "1"))
    assert set(ids(answer)) == {"2", "3", "4"}
    with pytest.raises(NotFound):
        ask(replica, like=Identity("laptop-ada", "conversation", "99"))
    with pytest.raises(InvalidRequest, match="no vector"):
        ask(replica, like=Identity("laptop-bob", "conversation", "5"))
    with pytest.raises(InvalidRequest, match="no vector of 'other'; expected test/space"):
        ask(replica, like=Identity("laptop-ada", "conversation", "1"), space="other")


def test_without_a_model_hybrid_names_the_missing_ranking_and_semantic_is_refused(replica: Replica) -> None:
    answer = ask(replica, text="deadlock")
    assert ids(answer) == ["2"]
    assert (answer.stages["semantic"].state, answer.stages["semantic"].reason) == ("unavailable", "no model here")
    assert answer.stages["keyword"].state == "answered"
    with pytest.raises(EmbeddingUnavailable, match="no model here"):
        ask(replica, text="deadlock", mode="semantic")


def test_hybrid_ranks_first_what_both_rankings_found(lake: Lake, tmp_path: Path) -> None:
    model = tiny_model.make(tmp_path / "model")
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=model))
    contents = ["postgres lock timeout", "redis eviction", "postgres query index", "the word lock alone"]
    rows = [
        memory(str(i), text, space=embedder.space, vector=as_stored(embedder.embed([text]))[0])
        for i, text in enumerate(contents)
    ]
    commit(lake, 1, *rows)
    replica = Replica(lake)
    replica.refresh()
    answer = ask(replica, searcher=Searcher(embedder), text="postgres lock")
    assert ids(answer)[0] == "0"
    assert set(answer.results[0]["scores"]) == {"semantic", "keyword"}
    only_words = ask(replica, searcher=Searcher(embedder), text="redis", weights=(0.0, 1.0))
    assert ids(only_words) == ["1"]
    replica.stop()


@pytest.mark.parametrize(
    ("signed", "expected"),
    [
        ("", {"0", "1", "2", "3"}),
        ("-eviction", {"0", "2", "3"}),
        ("+lock", {"0", "3"}),
        ("-locks", {"1", "2"}),
        ('-"lock timeout"', {"1", "2", "3"}),
        ('-"timeout lock"', {"0", "1", "2", "3"}),
        ("-evict*", {"0", "2", "3"}),
        ("-pool", {"0", "1", "3"}),
        ('-"index pool"', {"0", "1", "2", "3"}),
        ("+query_index", {"2"}),
        ("-system:laptop-bob", {"0", "1", "2"}),
        ("+tag:sql", {"0"}),
        ("-!", {"0", "1", "2", "3"}),
    ],
)
def test_required_terms_apply_to_semantic_results_too(
    lake: Lake, tmp_path: Path, signed: str, expected: set[str]
) -> None:
    model = tiny_model.make(tmp_path / "model")
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=model))
    contents = ["postgres lock timeout", "redis eviction", "postgres query index QueryPool", "the word lock alone"]
    columns: list[dict[str, Any]] = [{"tags": ["sql"]}, {}, {}, {"system": "laptop-bob"}]
    vectors = as_stored(embedder.embed(contents))
    rows = [
        memory(str(i), text, space=embedder.space, vector=vectors[i], **columns[i]) for i, text in enumerate(contents)
    ]
    commit(lake, 1, *rows)
    replica = Replica(lake)
    replica.refresh()
    searcher = Searcher(embedder)
    for mode in (SearchMode.HYBRID, SearchMode.SEMANTIC):
        found = ask(replica, searcher=searcher, text=f"postgres {signed}", mode=mode, syntax=QuerySyntax.QUERY)
        assert set(ids(found)) == expected
    replica.stop()


def test_the_same_text_is_embedded_once(replica: Replica, tmp_path: Path) -> None:
    model = tiny_model.make(tmp_path / "model")
    embedder = Embedder.load(LakeSettings(home=tmp_path, embedding_model_dir=model))
    embedded: list[str] = []

    class Counting(Embedder):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            embedded.extend(texts)
            return embedder.embed(texts)

    searcher = Searcher(Counting(None, embedder.space, embedder.dimensions))
    for text in ("postgres", "redis", "postgres"):
        ask(replica, searcher=searcher, text=text)
    assert embedded == ["postgres", "redis"]


def test_pages_have_each_memory_once_while_rows_arrive(lake: Lake) -> None:
    replica = Replica(lake)
    commit(lake, 2, *[memory(f"p{i}", f"page {i}") for i in range(25)])
    replica.refresh()
    query: dict[str, Any] = {"vector": tuple(unit("page").tolist()), "limit": 7}
    seen: list[str] = []
    cursor = None
    for sequence in range(3, 20):
        answer = ask(replica, cursor=cursor, **query)
        seen += ids(answer)
        cursor = answer.cursor
        commit(lake, sequence, memory(f"new{sequence}", f"new {sequence}"))
        replica.refresh()
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert {f"p{i}" for i in range(25)} <= set(seen)
    replica.stop()


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({}, "just one of query, vector and like"),
        ({"text": "a", "vector": (1.0,)}, "found query and vector"),
        ({"text": "a", "mode": "psychic"}, "expected one of hybrid, semantic, keyword"),
        ({"text": "  "}, "not all blank"),
        ({"text": "a", "limit": 0}, "expected 1 to 100"),
        ({"vector": (1.0, 2.0)}, "has 2 numbers; expected 16"),
        ({"vector": (0.0,) * 16}, "all zeros"),
        ({"vector": (float("nan"),) * 16}, "not finite"),
        ({"vector": (1.0,) * 16, "space": "other"}, "expected one of test/space"),
        ({"vector": (1.0,) * 16, "mode": "keyword"}, "keyword search needs query"),
        ({"text": "a", "mode": "keyword", "cursor": "%%%"}, "is not a cursor"),
        ({"text": "a", "mode": "keyword", "cursor": "QUJD"}, "is not a cursor"),
        ({"text": "a", "mode": "keyword", "weights": (0.0, 0.0)}, "not both 0"),
    ],
)
def test_an_invalid_question_is_refused_with_what_was_expected(
    replica: Replica, question: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidRequest, match=expected):
        ask(replica, **question)


@pytest.mark.parametrize("mode", ["keyword", "semantic"])
@pytest.mark.parametrize("collapse", [True, False])
def test_a_memory_that_changes_or_moves_between_pages_is_not_repeated(lake: Lake, mode: str, collapse: bool) -> None:
    replica = Replica(lake)
    rows = [
        memory(f"p{number}", f"deadlock {name} {name}")
        for number, name in enumerate(["redis", "kafka", "nginx", "etcd", "consul"])
    ]
    commit(lake, 2, *rows)
    replica.refresh()
    query = {"vector": tuple(unit("page").tolist())} if mode == "semantic" else {"text": "deadlock"}
    first = ask(replica, limit=2, mode=mode, collapse=collapse, **query)
    changed, moved = (next(row for row in rows if row["id"] == id) for id in ids(first))
    upsert(lake, 3, changed | {"text": "deadlock that was solved at last", "snapshot_at": NOW + timedelta(hours=1)})
    commit_to_tier(lake, 1, "warm", moved | {"text": "deadlock in a summary of its own"})
    DeltaTable(lake.uri("lifecycle/hot")).delete(f"id = '{moved['id']}'")
    replica.refresh()
    rest = ask(replica, limit=10, mode=mode, collapse=collapse, cursor=first.cursor, **query)
    assert sorted(ids(first) + ids(rest)) == [f"p{number}" for number in range(5)]
    replica.stop()


@pytest.mark.parametrize("mode", ["keyword", "semantic"])
def test_many_near_duplicates_do_not_end_the_paging(lake: Lake, mode: str) -> None:
    replica = Replica(lake)
    line = "the nightly build of the billing service failed with a timeout while it waited for the database run"
    near = unit("page")
    copies = [
        memory(f"copy{number:04d}", f"{line}{' ' * number}", vector=as_stored(near[None])[0]) for number in range(1100)
    ]
    others = [memory(f"other{number:02d}", f"timeout {number} of {unit(number)[0]}") for number in range(25)]
    commit(lake, 2, *copies, *others)
    replica.refresh()
    query: dict[str, Any] = {"vector": tuple(near.tolist())} if mode == "semantic" else {"text": "timeout"}
    shown: list[str] = []
    cursor = None
    while not shown or cursor is not None:
        answer = ask(replica, limit=10, mode=mode, cursor=cursor, **query)
        shown += ids(answer)
        cursor = answer.cursor
    assert sorted(id for id in shown if id.startswith("other")) == [f"other{number:02d}" for number in range(25)]
    assert len([id for id in shown if id.startswith("copy")]) == 1
    replica.stop()


def test_a_cursor_of_another_question_is_refused(replica: Replica) -> None:
    answer = ask(replica, text="the", mode="keyword", limit=1)
    assert answer.cursor is not None
    with pytest.raises(InvalidRequest, match="belongs to another question"):
        ask(replica, text="a", mode="keyword", cursor=answer.cursor)


def test_an_empty_lake_has_no_results_and_says_why(settings: LakeSettings) -> None:
    replica = Replica(Lake(settings))
    replica.refresh()
    answer = ask(replica, text="anything")
    assert answer.results == []
    assert answer.tiers["hot"]["state"] == "empty"
    with pytest.raises(InvalidRequest, match="has 2 numbers; expected 384"):
        ask(replica, vector=[1.0, 2.0], mode="semantic")
    replica.stop()


def test_near_duplicates_collapse_into_one_with_their_systems(lake: Lake) -> None:
    text = "pip cannot resolve numpy because the index of the company mirrors an old release of it since monday"
    rows = [
        memory(
            f"d{i}", text if i else f"{text.capitalize()}.", system=f"laptop-{i}", vector=as_stored(unit(text)[None])[0]
        )
        for i in range(4)
    ]
    commit(lake, 1, *rows, memory("other", "numpy is fast"))
    replica = Replica(lake)
    replica.refresh()
    answer = ask(replica, text="numpy", mode="keyword")
    assert len(answer.results) == 2
    folded = next(result for result in answer.results if result["id"] != "other")
    duplicates = folded["duplicates"]
    assert (duplicates["count"], duplicates["systems"]) == (3, [f"laptop-{i}" for i in range(4)])
    names = [(f"laptop-{i}", "conversation", f"d{i}") for i in range(4) if f"d{i}" != folded["id"]]
    assert sorted(tuple(each.values()) for each in duplicates["memories"]) == names
    assert len(ask(replica, text="numpy", mode="keyword", collapse=False).results) == 5
    first = ask(replica, text="numpy", mode="keyword", limit=1)
    second = ask(replica, text="numpy", mode="keyword", limit=1, cursor=first.cursor)
    assert len({first.results[0]["text"], second.results[0]["text"]}) == 2
    assert second.cursor is None
    replica.stop()


def test_memories_that_differ_in_a_fact_are_all_shown(lake: Lake) -> None:
    texts = [
        f"deadlock of the orders service with jemalloc and 8 workers: p95 latency was {number} ms"
        for number in (41, 73)
    ]
    texts += [f"deadlock on the replica {word} lose acknowledged rows" for word in ("does", "does not")]
    texts += [
        f"deadlock in {one}, so the team replaced {one} by {other}"
        for one, other in (("solr", "vespa"), ("vespa", "solr"))
    ]
    commit(
        lake,
        1,
        *(memory(f"f{number}", text, vector=as_stored(unit("x")[None])[0]) for number, text in enumerate(texts)),
    )
    replica = Replica(lake)
    replica.refresh()
    for asked in ({"text": "deadlock", "mode": "keyword"}, {"vector": tuple(unit("x").tolist()), "mode": "semantic"}):
        answer = ask(replica, **asked)
        assert sorted(ids(answer)) == [f"f{number}" for number in range(6)]
        assert all(result["duplicates"]["count"] == 0 for result in answer.results)
    replica.stop()


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Searcher]]:
    """A text that 300 systems have, six near-duplicates of another, and seven unique ones; all have the word
    postgres.
    """
    folder = tmp_path_factory.mktemp("akosha")
    embedder = Embedder.load(LakeSettings(home=folder, embedding_model_dir=tiny_model.make(folder / "model")))
    near = (
        "postgres postgres postgres backups are made twice since the job of the night is started by two machines "
        "and neither waits"
    )
    copy = (
        "postgres cannot be reached because the proxy of the company drops what was idle for an hour and says "
        "nothing to anybody"
    )
    contents = [(f"c{i}", copy, f"laptop-{i:03}") for i in range(300)] + [
        (f"n{i}", f"{near}{'.' * i}", f"ci-{i}") for i in range(6)
    ]
    contents += [
        (f"a{i}", "postgres " + " ".join(f"{letter}{j}" for j in range(20)), "laptop-ada")
        for i, letter in enumerate("bcdefgh")
    ]
    vectors = as_stored(embedder.embed([text for _, text, _ in contents]))
    rows = [
        memory(id, text, system=system, space=embedder.space, vector=vector)
        for (id, text, system), vector in zip(contents, vectors, strict=True)
    ]
    lake = Lake(LakeSettings(home=folder))
    commit(lake, 1, *rows)
    replica = Replica(lake)
    replica.refresh()
    yield replica, Searcher(embedder)
    replica.stop()


ALONE = [f"a{i}" for i in range(7)]


@pytest.mark.parametrize("mode", ["keyword", "semantic", "hybrid"])
def test_copies_leave_room_for_other_results(copied: tuple[Replica, Searcher], mode: str) -> None:
    replica, searcher = copied
    answer = ask(replica, searcher=searcher, text="postgres", mode=mode, limit=20)
    groups = {result["id"][0]: result["duplicates"] for result in answer.results}
    assert sorted(result["id"] for result in answer.results if result["id"][0] == "a") == ALONE
    assert (len(answer.results), answer.cursor) == (9, None)
    assert (groups["c"]["count"], len(groups["c"]["systems"]), groups["n"]["count"]) == (299, 300, 5)
    assert (len(groups["c"]["memories"]), len(groups["n"]["memories"])) == (10, 5)


@pytest.mark.parametrize("mode", ["keyword", "semantic", "hybrid"])
def test_pages_of_one_show_no_near_duplicate_of_an_earlier_page(copied: tuple[Replica, Searcher], mode: str) -> None:
    replica, searcher = copied
    shown: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = ask(replica, searcher=searcher, text="postgres", mode=mode, limit=1, cursor=cursor or None)
        shown += [result["id"] for result in answer.results]
        cursor = answer.cursor
    assert sorted(id if id[0] == "a" else id[0] for id in shown) == [*ALONE, "c", "n"]


def test_a_count_does_not_depend_on_the_size_of_the_page(copied: tuple[Replica, Searcher]) -> None:
    replica, searcher = copied
    answers = [ask(replica, searcher=searcher, text="postgres", mode="keyword", limit=limit) for limit in (1, 3, 10)]
    assert [answer.results[0]["duplicates"]["count"] for answer in answers] == [5, 5, 5]


def test_an_answer_says_how_many_memories_have_no_vector(replica: Replica) -> None:
    stage = ask(replica, vector=tuple(unit("gateway").tolist())).stages["semantic"]
    assert stage.reason == "1 of 5 memories have no vector of the space 'test/space' (yet)"


@pytest.mark.parametrize("length", [1e-300, 1e300, 3.0])
def test_only_the_direction_of_a_vector_counts(replica: Replica, length: float) -> None:
    scores = [
        result["score"]
        for result in ask(replica, vector=tuple((unit("gateway").astype(float) * length).tolist())).results
    ]
    assert scores == pytest.approx(
        [result["score"] for result in ask(replica, vector=tuple(unit("gateway").tolist())).results], abs=1e-6
    )


def test_memories_similar_to_a_cold_one_are_found_by_its_sketch(lake: Lake) -> None:
    near = unit("gateway") + unit("noise") * 0.1
    rows = [memory("old", "gateway refused"), memory("far", "redis")]
    commit_to_tier(lake, 1, "cold", *rows)
    commit(
        lake,
        1,
        memory("new", "gateway again", vector=as_stored((near / np.linalg.norm(near))[None])[0]),
        memory("off", "billing"),
    )
    replica = Replica(lake)
    replica.refresh()
    answer = ask(replica, like=Identity("laptop-ada", "conversation", "old"), limit=1)
    assert (len(answer.results), answer.stages["semantic"].approximate) == (1, True)
    assert "old" not in ids(answer)
    replica.stop()


@pytest.mark.parametrize(("least", "expected"), [(0.9, ["2"]), (0.2, ["3", "2"]), (0.95, [])])
def test_importance_min_applies_to_both_rankings(replica: Replica, least: float, expected: list[str]) -> None:
    filters = Filters(importance_min=least)
    assert set(ids(ask(replica, text="-nothing", mode="keyword", syntax=QuerySyntax.QUERY, filters=filters))) == set(
        expected
    )
    assert set(ids(ask(replica, vector=tuple(unit("a").tolist()), filters=filters))) == set(expected)


def test_a_question_is_parsed_once(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []

    def counted(text: str, *rest: Any) -> ParsedQuery:
        texts.append(text)
        return parse_query(text, *rest)

    monkeypatch.setattr("akosha_assets.lake.serving.search.searcher.parse_query", counted)
    monkeypatch.setattr("akosha_assets.lake.serving.text.query_syntax.tokenize", tokenize_once())
    question = '+deadlock -"redis eviction" post*'
    assert ask(replica, text=question, mode="keyword", syntax=QuerySyntax.QUERY).results
    assert len(texts) == 1


def tokenize_once() -> Callable[[str], list[str]]:
    """`tokenize` that fails on a text it has seen: pieces of a question are tokenized once, when it is parsed."""
    seen: set[str] = set()

    def counted(text: str) -> list[str]:
        assert text not in seen, f"{text!r} is tokenized again"
        seen.add(text)
        return tokenize(text)

    return counted


def test_a_result_whose_snippet_fails_is_shown_without_highlights(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("substring not found")

    monkeypatch.setattr("akosha_assets.lake.serving.search.results.snippet", fail)
    searcher = Searcher(None)
    answer = searcher.search(replica.snapshot, Question(text="deadlock", mode="keyword"))
    assert answer.results and all(result["snippet"]["highlights"] == [] for result in answer.results)
    assert searcher.snippet_failures == len(answer.results)
    searcher.search(replica.snapshot, Question(text="deadlock", mode="keyword"))
    assert searcher.snippet_failures == 2 * len(answer.results)
    assert len([record for record in caplog.records if "without highlights" in record.message]) == 1


def test_a_search_ends_at_its_time_limit(replica: Replica) -> None:
    with pytest.raises(TimeLimitExceeded), time_limit(0.0):
        Searcher(None).search(replica.snapshot, Question(text="deadlock", mode="keyword"))


def test_a_snippet_shows_the_words_of_the_question(replica: Replica) -> None:
    (result,) = ask(replica, text="deadlock", mode="keyword").results
    ((start, stop),) = result["snippet"]["highlights"]
    assert result["snippet"]["text"][start:stop] == "deadlock"
    assert len(snippet("word " * 100 + "needle in a haystack", frozenset({"needle"}))["text"]) <= 240
    assert "needle" in snippet("word " * 100 + "needle in a haystack", frozenset({"needl"}))["text"]


def test_facets_count_the_memories_that_pass_the_filters(replica: Replica) -> None:
    counted = ask(
        replica,
        text="gateway",
        mode="keyword",
        facets=("system_id", "kind", "tier"),
        filters=Filters(equals={"project": ("billing",)}),
    )
    assert counted.facets == {
        "system_id": {"laptop-ada": 3, "laptop-bob": 1},
        "kind": {"conversation": 3, "reflection": 1},
        "tier": {"hot": 4},
    }
    with pytest.raises(InvalidRequest, match="cannot be counted"):
        ask(replica, text="a", mode="keyword", facets=("text",))


def test_texts_fit_the_token_budget(replica: Replica) -> None:
    whole = ask(replica, vector=tuple(unit("x").tolist()))
    answer = ask(replica, vector=tuple(unit("x").tolist()), budget_tokens=30)
    assert 0 < len(answer.results) < len(whole.results)
    assert answer.cursor is not None
    tiny = ask(replica, vector=tuple(unit("x").tolist()), budget_tokens=2)
    assert (len(tiny.results), len(tiny.results[0]["text"]), tiny.results[0]["is_truncated"]) == (1, 8, True)


def test_a_highlight_is_a_whole_word_with_its_ending(replica: Replica) -> None:
    text = "Deadlocks, deadlock_42 and xdeadlock: a DEADLOCK"
    marked = [text[start:stop] for start, stop in snippet(text, frozenset({"deadlock"}))["highlights"]]
    assert marked == ["Deadlocks", "deadlock", "DEADLOCK"]
    assert snippet("\u0130 deadlock", frozenset({"deadlock"}))["highlights"] == [[2, 10]]
    assert snippet(text, frozenset({"deadl*"}))["highlights"] == snippet(text, frozenset({"deadlock"}))["highlights"]
    assert snippet("parseConfig of HTTPServers", frozenset({"config", "server"}))["highlights"] == [[5, 11], [19, 26]]
    assert snippet("Un café fermé", frozenset({"cafe"}))["highlights"] == [[3, 7]]
    assert snippet("DB接続エラーです", frozenset({"接続", "続エ", "エラ", "ラー"}))["highlights"] == [[2, 7]]


@pytest.mark.parametrize(
    ("text", "question", "marked"),
    [
        ("the step \u2014 parseConfig", "config", ["Config"]),
        ("Un cafe\u0301 ferme\u0301", "cafe", ["cafe\u0301"]),
        ("\u65e5\u672cabc", "abc", ["abc"]),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940",
            "\u0939\u093f\u0928\u094d\u0926\u0940",
            ["\u0939\u093f\u0928\u094d\u0926\u0940"],
        ),
        (
            "\u0e01 \u0e17\u0e35\u0e48\u0e2d\u0e22\u0e39\u0e48 \u0e01",
            "\u0e17\u0e35\u0e48\u0e2d\u0e22\u0e39\u0e48",
            ["\u0e17\u0e35\u0e48\u0e2d\u0e22\u0e39\u0e48"],
        ),
    ],
    ids=["name", "accents", "two scripts", "hindi", "thai"],
)
def test_search_terms_are_highlighted_in_any_script(text: str, question: str, marked: list[str]) -> None:
    found = snippet(text, frozenset(stem(word) for word in tokenize(question)))["highlights"]
    assert [text[start:stop] for start, stop in found] == marked
