"""The benchmarks of ingestion and aging run small and print the keys they promise."""

from pathlib import Path

from akosha_assets.bench import drain, ingest, lifecycle, resend, tick

PROCESS = {"seconds", "cpu_seconds", "peak_rss_bytes", "where_the_time_goes", "machine"}


def test_drain_ingests_every_row_once(home: Path) -> None:
    answer = drain.run(uploads=2, systems=2, memories=3, distinct=1, work=home, on_upload=lambda: None)
    assert answer.keys() == PROCESS | {
        *("uploads", "systems", "rows_expected", "rows_found", "rows_distinct", "uploads_per_second", "became")
    }
    assert answer["rows_expected"] == answer["rows_found"] == answer["rows_distinct"] == 6
    assert answer["became"] == {"ingested": 2}


def test_ingest_has_the_rate_of_rows(home: Path) -> None:
    # Without singles no service is started; tests of `akosha up` cover the time until they are searchable.
    answer = ingest.run(uploads=2, memories=5, distinct=1, singles=0, s3=False, work=home)
    assert answer.keys() == PROCESS | {
        *("uploads", "rows", "hot_rows", "seconds_with_start", "rows_per_second", "uploads_per_second", "inbox"),
        *("searchable_seconds_p50", "searchable_seconds"),
    }
    assert (answer["hot_rows"], answer["searchable_seconds"], answer["inbox"]) == (10, [], "folder")


def test_resend_stores_only_what_changed(home: Path) -> None:
    answer = resend.run(systems=1, memories=100, work=home)
    assert answer.keys() == {
        *("systems", "memories", "vectors_made", "first_seconds", "unchanged_ratio", "one_percent_ratio", "rows_alone"),
        *("rows_stored", "where_the_time_goes", "machine"),
    }
    stored = answer["rows_stored"]
    assert stored["first"] >= 100 and stored["unchanged"] == 0 and 1 <= stored["one_percent"] <= 4


def test_tick_finds_every_new_upload(home: Path) -> None:
    answer = tick.run(objects=30, new_objects=6, work=home)
    assert answer.keys() == {
        *("known_objects", "new_objects", "new_uploads_found", "listed", "seconds", "ticks", "pass_seconds"),
        *("first_listing_seconds", "machine"),
    }
    assert answer["new_uploads_found"] == 2


def test_lifecycle_ages_a_day_into_each_tier(home: Path) -> None:
    answer = lifecycle.run(rows=200, days=2, embedded=280, questions=20, commits=7, work=home)
    assert answer.keys() == {
        *("rows", "days", "rows_per_second", "seconds", "bytes_per_row", "cold_share_of_hot", "recall_at_10"),
        *("gate_recall_at_10", "stopped", "storing_seconds", "peak_rss_bytes", "small_commits", "vectors", "machine"),
    }
    assert (answer["rows"], answer["days"], answer["stopped"]) == (400, 2, 0)
    assert set(answer["recall_at_10"]) == {"warm", "cold"}
    assert answer["small_commits"]["rows"] == 35
