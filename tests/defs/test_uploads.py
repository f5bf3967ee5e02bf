"""The upload sensor discovers uploads and requests runs for those that are due in the ledger."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from akosha_assets.defs.ingestion.uploads import reason_to_wait, upload_sensor
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

PATIENCE = timedelta(seconds=240)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeSettings:
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    return LakeSettings()


def tick(instance: dg.DagsterInstance) -> dg.SensorResult:
    result = upload_sensor(dg.build_sensor_context(instance=instance, resources={"lake": Lake(LakeSettings())}))
    assert isinstance(result, dg.SensorResult)
    return result


def test_an_empty_inbox_requests_no_run(home: LakeSettings) -> None:
    (home.home / "inbox").mkdir()
    result = tick(dg.DagsterInstance.ephemeral())
    assert not result.run_requests
    assert "0 uploads wait" in str(result.skip_reason)


def test_a_new_upload_requests_a_run_and_is_materialized(home: LakeSettings) -> None:
    make_upload(home.home / "inbox", "laptop-ada", reflections=["a lesson"])
    result = tick(dg.DagsterInstance.ephemeral())
    assert result.run_requests is not None and len(result.run_requests) == 1
    assert result.run_requests[0].run_key is None
    assert [event.asset_key.to_user_string() for event in result.asset_events] == ["ingestion/uploads"]


def test_a_waiting_upload_requests_a_run_at_every_tick(home: LakeSettings) -> None:
    make_upload(home.home / "inbox", "laptop-ada", reflections=["a lesson"])
    instance = dg.DagsterInstance.ephemeral()
    tick(instance)
    again = tick(instance)
    assert again.run_requests and not again.asset_events


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_a_run_in_progress_is_enough(home: LakeSettings, status: dg.DagsterRunStatus) -> None:
    make_upload(home.home / "inbox", "laptop-ada", reflections=["a lesson"])
    instance = dg.DagsterInstance.ephemeral()
    create_run_for_test(instance, job_name="ingest", status=status)
    result = tick(instance)
    assert not result.run_requests
    assert f"is {status.value.lower()}" in str(result.skip_reason)


def test_claimed_uploads_request_no_run(home: LakeSettings) -> None:
    make_upload(home.home / "inbox", "laptop-ada", reflections=["a lesson"])
    instance = dg.DagsterInstance.ephemeral()
    tick(instance)
    ledger = Ledger.open(home)
    assert claims.claim(ledger, run_id="another", now=datetime.now(UTC))
    ledger.close()
    result = tick(instance)
    assert not result.run_requests and "1 of them in an ingest run" in str(result.skip_reason)


def test_a_batch_whose_lease_ended_requests_a_run(home: LakeSettings) -> None:
    make_upload(home.home / "inbox", "laptop-ada", reflections=["a lesson"])
    instance = dg.DagsterInstance.ephemeral()
    tick(instance)
    ledger = Ledger.open(home)
    assert claims.claim(ledger, run_id="died", now=datetime.now(UTC) - timedelta(hours=1))
    ledger.close()
    assert tick(instance).run_requests


def test_a_started_run_without_a_lease_counts_as_dead() -> None:
    instance = dg.DagsterInstance.ephemeral()
    create_run_for_test(instance, job_name="ingest", status=dg.DagsterRunStatus.STARTED)
    later = datetime.now(UTC) + PATIENCE + timedelta(seconds=1)
    assert reason_to_wait(instance, now=later, is_due=True, live_batches=0, patience=PATIENCE) is None
    assert reason_to_wait(instance, now=later, is_due=True, live_batches=1, patience=PATIENCE)


def test_a_large_backlog_requests_as_many_runs_as_are_allowed(
    home: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AKOSHA_INGEST_RUNS", "2")
    monkeypatch.setenv("AKOSHA_BATCH_UPLOADS", "1")
    for number in range(3):
        make_upload(home.home / "inbox", f"laptop-{number}", reflections=["a lesson"])
    instance = dg.DagsterInstance.ephemeral()
    create_run_for_test(instance, job_name="ingest", status=dg.DagsterRunStatus.STARTED)
    assert tick(instance).run_requests
    create_run_for_test(instance, job_name="ingest", status=dg.DagsterRunStatus.STARTED)
    assert not tick(instance).run_requests


def test_the_pause_grows_after_failed_runs() -> None:
    instance = dg.DagsterInstance.ephemeral()
    for _ in range(3):
        instance.report_run_failed(create_run_for_test(instance, job_name="ingest", status=dg.DagsterRunStatus.STARTED))
    now = datetime.now(UTC)
    waits = [
        reason_to_wait(instance, now=now + timedelta(seconds=s), is_due=True, live_batches=0, patience=PATIENCE)
        for s in (15, 25)
    ]
    assert waits[0] is not None and "3 ingest runs failed" in waits[0]
    assert waits[1] is None
