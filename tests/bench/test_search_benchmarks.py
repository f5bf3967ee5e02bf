"""The benchmarks of search and relevance run small and print the keys they promise."""

import json
from pathlib import Path

import pytest

from akosha_assets.bench import embed, passages, relevance, search, serve
from akosha_assets.bench.judged import Judged, folder_sets
from akosha_assets.bench.relevance import score
from akosha_assets.lake.errors import InvalidRequest


def test_search_has_its_figures_and_those_of_a_filter(home: Path) -> None:
    answer = search.run(vectors=2000, queries=20, real=300, peers=False, systems=20, work=home, say=lambda _: None)
    assert {"vectors", "recall_at_10", "p50_ms", "p99_ms", "build_rows_per_second"} <= answer.keys()
    # The tiny model gives many texts the same vector, so ties lower the recall.
    assert answer["recall_at_10"] > 0.3
    assert answer["one_system"]["rows"] == 100


def test_embed_has_speeds_by_length_and_the_worst_cosine(home: Path) -> None:
    answer = embed.run(texts=3, threads=2)
    assert set(answer["texts_per_second"]) == set(embed.WORDS)
    assert answer["worst_cosine_alone"] >= 0.9999


def test_passages_has_what_a_memory_of_each_length_costs(home: Path) -> None:
    costs = passages.run(characters=[100, 5_000], work=home)["by_characters"]
    assert costs["100"]["vectors"] == 1 < costs["5000"]["vectors"]
    for tier in ("hot", "warm", "cold"):
        each = (costs["100"][f"{tier}_bytes"], costs["5000"][f"{tier}_bytes"])
        assert each[1] == costs["5000"]["vectors"] * each[0]


def test_relevance_has_figures_of_each_set_and_chooses_by_halves(home: Path, tmp_path: Path) -> None:
    folder = judged_folder(tmp_path / "talks")
    answer = relevance.run(systems=2, memories=20, queries=20, sets=[folder], sweep=True, work=home)
    assert set(answer["sets"]) == {"fleet", "talks/sessions", "talks/messages"}
    for figure in ("recall_at_10", "mrr", "ndcg_at_10"):
        assert all(set(of_set[figure]) == {"keyword", "semantic", "hybrid"} for of_set in answer["sets"].values())
    assert answer["sets"]["fleet"]["mrr"]["keyword"] > 0.3
    assert answer["sets"]["talks/messages"]["mrr"]["keyword"] == 1.0
    assert [chosen["fusion"] in answer["sweep"] for chosen in answer["chosen"]] == [True, True]


def judged_folder(folder: Path) -> Path:
    folder.mkdir()
    texts = {"S1": ["redis eviction is off", "postgres lock timeout"], "S2": ["tls certificate expired"]}
    sessions = [{"sessionId": name, "messages": [{"content": text} for text in of]} for name, of in texts.items()]
    (folder / "sessions.json").write_text(json.dumps(sessions))
    asked = [("lock timeout?", "postgres lock", ["S1"]), ("certificate?", "expired", ["S2"]), ("backup?", "", [])]
    questions = [
        {
            "questionId": f"Q{n}",
            "questionType": "fact",
            "question": text,
            "groundTruth": truth,
            "haystackSessionIds": of,
        }
        for n, (text, truth, of) in enumerate(asked)
    ]
    (folder / "questions.json").write_text(json.dumps(questions))
    return folder


def test_a_folder_that_is_not_a_judged_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is not a judged set"):
        folder_sets(tmp_path)


def test_recall_counts_a_session_once() -> None:
    judged = Judged(text="", evidence={0: "S1", 1: "S1", 2: "S2"}, style="", group="")
    assert score(judged, [(1, 0.9), (0, 0.8), (7, 0.7)])[:2] == (0.5, 1.0)


def test_serve_has_figures_of_both_loads_and_of_growth(home: Path) -> None:
    answer = serve.run(
        vectors=1000, clients=2, requests=20, real=300, systems=20, seconds=6, work=home, say=lambda _: None
    )
    assert {
        "vectors",
        "clients",
        "requests",
        "errors",
        "p50_ms",
        "p99_ms",
        "cold_start_seconds",
        "rss_bytes",
    } <= answer.keys()
    assert answer["cold_start_seconds"] <= answer["words_seconds"] <= answer["indexed_seconds"]
    for kind in ("vector", "keyword", "hybrid"):
        assert (answer[kind]["errors"], answer[kind]["paced"]["requests"]) == (0, 20)
        assert answer[kind]["cpu_ms_per_request"] > 0
    assert answer["restart_seconds"] >= answer["restart_answers_seconds"]
    mixed = answer["mixed"]
    assert (mixed["refused"], mixed["rows_after"]) == ({}, 1000)
    assert mixed["commits"] >= 1
    assert set(mixed["growth"]) == {"rss_bytes_per_hour", "anonymous_bytes_per_hour"}
