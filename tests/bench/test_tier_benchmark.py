"""The benchmark of the older tiers runs small and prints the keys it promises."""

from pathlib import Path

from akosha_assets.bench import tiers


def test_each_tier_has_its_recall_and_latency_and_new_rows_are_found(home: Path) -> None:
    sizes = {"warm": 2000, "warm_days": 2, "cold": 2000, "cold_days": 2, "fresh": 1000, "fresh_seconds": 2}
    answer = tiers.run(**sizes, queries=20, real=300, words=True, work=home, say=lambda _: None)
    for tier in ("warm", "cold"):
        assert {"rows", "days", "recall_at_10", "p50_ms", "p99_ms", "keyword", "anonymous_bytes"} <= answer[tier].keys()
        assert answer[tier]["approximate"] is (tier == "cold")
    # The tiny model gives many texts the same vector, so ties lower the recall.
    assert answer["warm"]["recall_at_10"] > 0.3
    assert answer["fresh"]["searchable_seconds_max"] >= answer["fresh"]["searchable_seconds_p50"] > 0
