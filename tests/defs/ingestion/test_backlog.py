"""The backlog sensor records whether ingestion is caught up, without a run and before anything was ingested."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from akosha_assets.defs.ingestion.backlog import AGE, KEY, SIZE, backlog, backlog_sensor
from akosha_assets.defs.policies import with_freshness
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger
from akosha_assets.lake.settings import LakeSettings

NOW = datetime.now(UTC)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    defaults = {
        "HOME": str(tmp_path),
        "BACKLOG_WARN_UPLOADS": "1",
        "BACKLOG_ERROR_UPLOADS": "2",
        "BACKLOG_ERROR_FOR_SECONDS": "60",
    }
    for name, value in defaults.items():
        monkeypatch.setenv(f"AKOSHA_{name}", value)
    opened = Ledger.open(LakeSettings())
    opened.remember(SWEEP_ENDED, datetime.now(UTC).isoformat())
    yield opened
    opened.close()


def waits(ledger: Ledger, count: int, *, since: timedelta) -> None:
    at = NOW - since
    ledger.add(
        [
            FoundUpload(f"s{n}", f"u{n}", "session-buddy", f"systems/s{n}/uploads/u{n}", "1", 10, at)
            for n in range(count)
        ],
        found_by="listing",
        now=at,
    )


def tick(cursor: str | None = None) -> tuple[dict[str, dg.AssetCheckEvaluation], bool, str | None]:
    with dg.build_sensor_context(cursor=cursor, resources={"lake": Lake(LakeSettings())}) as context:
        result = backlog_sensor(context)
    assert isinstance(result, dg.SensorResult)
    events = result.asset_events
    checks = {event.check_name: event for event in events if isinstance(event, dg.AssetCheckEvaluation)}
    return checks, any(isinstance(event, dg.AssetMaterialization) for event in events), result.cursor


def test_an_empty_backlog_is_recorded_once(ledger: Ledger) -> None:
    checks, materialised, cursor = tick()
    assert materialised
    assert checks[SIZE].passed and checks[AGE].passed
    assert tick(cursor) == ({}, False, None), "recorded once, not at every tick"


def test_a_first_start_with_an_old_backlog_fails_at_once(ledger: Ledger) -> None:
    waits(ledger, 3, since=timedelta(hours=2))
    checks, materialised, _ = tick()
    assert not materialised
    assert {name: (check.passed, check.severity) for name, check in checks.items()} == {
        SIZE: (False, dg.AssetCheckSeverity.ERROR),
        AGE: (False, dg.AssetCheckSeverity.ERROR),
    }


def test_a_change_is_recorded_at_the_next_tick(ledger: Ledger) -> None:
    _, _, cursor = tick()
    waits(ledger, 1, since=timedelta(minutes=10))
    checks, materialised, cursor = tick(cursor)
    assert not materialised
    assert (checks[AGE].passed, checks[AGE].severity) == (False, dg.AssetCheckSeverity.WARN)
    assert cursor is not None
    assert json.loads(cursor)["state"] == {"caught_up": False, SIZE: "ok", AGE: "warn"}


def test_the_asset_is_not_materialized_while_behind(ledger: Ledger) -> None:
    for behind in (False, True):
        if behind:
            waits(ledger, 1, since=timedelta(hours=1))
        result = dg.materialize([backlog], resources={"lake": Lake(ledger.settings)})
        assert result.success
        assert bool(result.asset_materializations_for_node("ingestion__backlog")) is not behind


def test_freshness_windows_come_from_the_settings(tmp_path: Path) -> None:
    settings = LakeSettings(home=tmp_path, backlog_warn_seconds=70, backlog_fail_seconds=90)
    graph = with_freshness(
        dg.Definitions(assets=[backlog], resources={"lake": Lake(settings)}), settings
    ).resolve_asset_graph()
    policy = graph.get(KEY).freshness_policy
    assert policy is not None
    assert "seconds=90" in str(policy) and "seconds=70" in str(policy)
