"""The clock of a client may be years off: its rows keep their own times, and rows without one get that of arrival."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.snapshot_times import arrival_time, snapshot_time
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

NOW = datetime.now(UTC)
YESTERDAY = (NOW - timedelta(days=1)).replace(tzinfo=None)
RESET = [datetime(year, 1, 1, 0, 3, 12, tzinfo=UTC) for year in (1970, 2015, 2019, 2021, 2022)]


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    return LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)


def take_in(settings: LakeSettings, rows: list[dict[str, Any]], *, at: datetime, modified: datetime = NOW) -> None:
    before = set(settings.home.rglob("*"))
    make_upload(settings.home / "inbox", "a", conversations=rows, at=at)
    for path in {*settings.home.rglob("*")} - before:
        if path.is_file():
            os.utime(path, (modified.timestamp(), modified.timestamp()))
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
    arrivals.ingest(Lake(settings), ledger, run_id="run")


def stored(settings: LakeSettings) -> dict[str, tuple[datetime, str]]:
    rows = Lake(settings).select("lifecycle/hot", ["id", "occurred_at", "occurred_from"]).to_pylist()
    return {row["id"]: (row["occurred_at"], row["occurred_from"]) for row in rows}


@pytest.mark.parametrize("at", RESET)
def test_rows_of_an_upload_whose_clock_was_reset_keep_their_times(settings: LakeSettings, at: datetime) -> None:
    reset_too = at.replace(tzinfo=None) if at.year < 2020 else RESET[0].replace(tzinfo=None)
    rows: list[dict[str, Any]] = [
        {"id": "right", "content": "written before", "timestamp": YESTERDAY},
        {"id": "none", "content": "no time", "timestamp": None},
        {"id": "reset", "content": "written after the reset", "timestamp": reset_too},
    ]
    take_in(settings, rows, at=at)
    found = stored(settings)
    assert found["right"] == (YESTERDAY.replace(tzinfo=UTC), "local_assumed_utc")
    for id in ("none", "reset"):
        assert found[id][1] == "snapshot"
        assert abs(found[id][0] - NOW) < timedelta(minutes=1)


def test_a_later_snapshot_with_a_right_clock_replaces_the_rows_of_a_reset_one(settings: LakeSettings) -> None:
    take_in(settings, [{"id": "a", "content": "first", "timestamp": YESTERDAY}], at=RESET[0])
    take_in(settings, [{"id": "a", "content": "second", "timestamp": YESTERDAY}], at=NOW + timedelta(minutes=1))
    assert [row["text"] for row in Lake(settings).select("lifecycle/hot", ["text"]).to_pylist()] == ["second"]


def test_rows_of_an_upload_that_waited_for_weeks_are_dated_by_its_snapshot(settings: LakeSettings) -> None:
    at = (NOW - timedelta(days=40)).replace(microsecond=0)
    take_in(settings, [{"id": "none", "content": "no time", "timestamp": None}], at=at, modified=at)
    assert stored(settings) == {"none": (at, "snapshot")}


def test_the_time_of_an_id_before_2020_is_that_of_the_objects() -> None:
    modified = NOW - timedelta(hours=3)
    assert snapshot_time("19700101_000312_a", fallback=modified, seen_at=NOW) == modified
    assert snapshot_time("20200101_000000_a", fallback=modified, seen_at=NOW) == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("modified", [None, RESET[0], RESET[1], NOW + timedelta(days=2)])
def test_an_arrival_that_cannot_be_right_is_when_the_upload_was_seen(modified: datetime | None) -> None:
    assert arrival_time(modified, seen_at=NOW) == NOW
