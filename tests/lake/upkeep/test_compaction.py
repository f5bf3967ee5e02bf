"""Packing and ordering files changes no row; two packers exclude each other."""

from datetime import date, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from akosha_assets.lake import days
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.upkeep import compaction
from akosha_assets.lake.upkeep.compaction import compact
from akosha_assets.lake.upkeep.vacuum import vacuum
from tests.lake.lifecycle.memories import TODAY, days_ago, hot_rows, store


def ids(lake: Lake, where: str = "") -> list[str]:
    return sorted(lake.select("lifecycle/hot", ["id"], where)["id"].to_pylist())


def test_many_small_commits_become_one_file_a_day_and_a_table_that_opens_at_once(lake: Lake) -> None:
    for batch in range(1, 41):
        store(lake, hot_rows(days_ago(batch % 2 * 5), 5, first=batch * 10, batch=batch), batch=batch)
    before = ids(lake)
    done = compact(lake, "lifecycle/hot", today=TODAY)
    assert (done.partitions, done.partitions_compacted, done.files_before, done.files_after) == (2, 2, 40, 2)
    assert ids(lake) == before
    log = lake.open("lifecycle/hot")
    assert compact(lake, "lifecycle/hot", today=TODAY).partitions_compacted == 0
    assert log.transaction_version("ingest/test") == 40


def test_a_day_at_rest_is_ordered_by_system_and_time(lake: Lake) -> None:
    for batch in range(1, 7):
        store(lake, hot_rows(days_ago(4), 90, first=batch * 100, batch=batch), batch=batch)
    assert compact(lake, "lifecycle/hot", today=TODAY).files_after == 1
    [file] = lake.open("lifecycle/hot").file_uris()
    rows = pq.read_table(
        file.removeprefix("file://"), columns=["system_id", "occurred_at"], partitioning=None
    ).to_pylist()
    order = [(row["system_id"], row["occurred_at"]) for row in rows]
    assert len(order) == 540 and order == sorted(order)


def test_a_day_that_still_fills_is_left_alone_while_its_files_are_few(lake: Lake) -> None:
    for batch in range(1, 6):
        store(lake, hot_rows(TODAY, 5, first=batch * 10, batch=batch), batch=batch)
    assert compact(lake, "lifecycle/hot", today=TODAY).partitions_compacted == 0
    assert compact(lake, "lifecycle/hot", today=TODAY + timedelta(days=2)).partitions_compacted == 1


def test_a_part_that_is_written_to_meanwhile_is_left_for_the_next_time(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in range(1, 4):
        store(lake, hot_rows(days_ago(4), 5, first=batch * 10, batch=batch), batch=batch)
    pack = compaction._pack

    def contended(table: Any, spec: Any, day: date, *, is_ordered: bool) -> None:
        other = lake.open("lifecycle/hot")
        days.remove(other, days.predicate(day, "id = 'id-000010'"), writer="other", metadata={})
        pack(table, spec, day, is_ordered=is_ordered)

    monkeypatch.setattr(compaction, "_pack", contended)
    assert compact(lake, "lifecycle/hot", today=TODAY).contended == 1
    assert "id-000010" not in ids(lake) and len(ids(lake)) == 14


def test_the_installed_deltalake_refuses_the_second_of_two_racing_compactions(lake: Lake) -> None:
    for batch in range(1, 4):
        store(lake, hot_rows(days_ago(4), 5, first=batch * 10, batch=batch), batch=batch)
    one, other = DeltaTable(lake.uri("lifecycle/hot")), DeltaTable(lake.uri("lifecycle/hot"))
    one.optimize.compact()
    # deltalake 1.6.4 to 1.6.6 commit it and double every row.
    with pytest.raises(CommitFailedError):
        other.optimize.compact()
    assert len(ids(lake)) == 15


def test_vacuum_is_a_dry_run_by_default_and_keeps_a_week_of_time_travel(lake: Lake) -> None:
    ledger = Ledger.open(lake.settings)
    for batch in range(1, 4):
        store(lake, hot_rows(days_ago(4), 5, first=batch * 10, batch=batch), batch=batch)
    compact(lake, "lifecycle/hot", today=TODAY)
    assert vacuum(lake, ledger, "lifecycle/hot", is_full=True).is_dry_run
    assert vacuum(lake, ledger, "lifecycle/hot", is_full=True, dry_run=False).files == 0
    assert DeltaTable(lake.uri("lifecycle/hot"), version=2).version() == 2
    assert vacuum(lake, ledger, "lifecycle/cold", is_full=False) is None
