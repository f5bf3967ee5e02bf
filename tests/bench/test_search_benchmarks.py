"""The benchmarks of search and relevance run small and print the keys they promise."""

from pathlib import Path

from akosha_assets.bench import embed, relevance, search, serve


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


def test_relevance_has_a_figure_for_each_way_of_ranking(home: Path) -> None:
    answer = relevance.run(systems=2, memories=20, queries=20, sweep=True, work=home)
    for figure in ("recall_at_10", "mrr", "ndcg_at_10"):
        assert set(answer[figure]) == {"keyword", "semantic", "hybrid"}
    assert answer["mrr"]["keyword"] > 0.3
    assert {"rrf_constant", "keyword_weight", "ndcg_at_10"} <= answer["sweep"][0].keys()


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
