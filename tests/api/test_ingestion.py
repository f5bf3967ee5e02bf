"""Operators read the backlog, start ingestion, redrive quarantined uploads and stop the service; others may not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger import claims, replay
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import as_operator, until
from tests.factories import make_upload

NOW = datetime.now(UTC)


@pytest.fixture
def ledger(lake: Lake) -> Iterator[Ledger]:
    opened = Ledger.open(lake.settings)
    yield opened
    opened.close()


def found(ledger: Ledger, count: int, *, ago: timedelta) -> None:
    at = NOW - ago
    ledger.add(
        [
            FoundUpload(f"s{n}", f"u{n}", "session-buddy", f"systems/s{n}/uploads/u{n}", "1", 1000, at)
            for n in range(count)
        ],
        found_by="listing",
        now=at,
    )


def quarantined(ledger: Ledger, reason: str) -> None:
    batch = claims.claim(ledger, run_id="r", now=NOW)
    assert batch is not None
    outcome = UploadOutcome(UploadState.QUARANTINED, reason=reason, message="m")
    claims.finish(ledger, batch, {one.id: outcome for one in batch.uploads}, {}, rows=0, now=NOW)


def test_the_backlog_has_its_history(serve: Callable[..., httpx.Client], lake: Lake, ledger: Ledger) -> None:
    found(ledger, 3, ago=timedelta(minutes=10))
    answer = serve(lake).get("/api/v1/ingestion/backlog", params={"minutes": 20}).json()
    assert (answer["waiting"], answer["waiting_bytes"], answer["caught_up"], answer["age"]) == (3, 3000, False, "warn")
    assert answer["oldest_waiting_seconds"] >= 600
    assert (answer["history"][0]["waiting"], answer["history"][-1]["waiting"], len(answer["history"])) == (0, 3, 60)


def test_neither_a_later_service_nor_a_replay_changes_a_receipt(
    serve: Callable[..., httpx.Client], lake: Lake, ledger: Ledger
) -> None:
    upload = make_upload(lake.settings.home / "inbox", "laptop-1", conversations=["pip cannot resolve numpy"]).upload_id
    listing.sweep(lake.settings, ledger, now=datetime.now(UTC))
    arrivals.ingest(lake, ledger, run_id="first")

    def receipt(client: httpx.Client) -> dict[str, Any]:
        receipt: dict[str, Any] = client.get(f"/api/v1/uploads/{upload}").json()
        return receipt

    client = serve(lake)
    until(lambda: ledger.receipt(upload).searchable_at)
    first = receipt(client)
    assert first["new_rows"] == 1 and first["searchable_at"] is not None
    later = serve(lake)
    assert receipt(later) == first
    replay.requeue_day(ledger, ledger.receipt(upload).arrival_day, now=datetime.now(UTC))
    arrivals.ingest(lake, ledger, run_id="second")
    replayed = receipt(later)
    assert replayed.pop("claimed_at") > first.pop("claimed_at")
    assert replayed == first


def test_the_trigger_ingests_without_dagster(serve: Callable[..., httpx.Client], lake: Lake, ledger: Ledger) -> None:
    make_upload(lake.settings.home / "inbox", "laptop-1", conversations=["pip cannot resolve numpy"])
    client = serve(lake)
    answer = client.post("/api/v1/ingestion/trigger", headers=as_operator(lake.settings.home)).json()
    assert (answer["by"], answer["reason"], answer["found"]) == ("process", "AKOSHA_DAGSTER_URL is not set", 1)
    until(lambda: client.get("/api/v1/ingestion/backlog").json()["ingested"] == 1)


def test_the_trigger_names_a_dagster_that_is_down_and_ingests_without_it(
    serve: Callable[..., httpx.Client], lake: Lake, ledger: Ledger
) -> None:
    (lake.settings.home / "inbox").mkdir()
    there = Lake(LakeSettings(home=lake.settings.home, dagster_url="http://127.0.0.1:9"))
    client = serve(there)
    answer = client.post("/api/v1/ingestion/trigger", headers=as_operator(lake.settings.home)).json()
    assert answer["by"] == "process"
    assert "http://127.0.0.1:9 did not answer" in answer["reason"]


def test_redrive_lists_first_and_needs_a_filter(serve: Callable[..., httpx.Client], lake: Lake, ledger: Ledger) -> None:
    found(ledger, 2, ago=timedelta(minutes=1))
    quarantined(ledger, "gzip_damaged")
    client = serve(lake)
    client.headers.update(as_operator(lake.settings.home))
    assert client.post("/api/v1/uploads/redrive", json={}).status_code == 422
    listed = client.get("/api/v1/uploads", params={"state": "quarantined", "reason": "gzip_damaged"}).json()
    assert {one["upload_id"] for one in listed["uploads"]} == {"u0", "u1"}
    preview = client.post("/api/v1/uploads/redrive", json={"reason": "gzip_damaged"}).json()
    assert preview == {"dry_run": True, "uploads": ["u0", "u1"]}
    assert client.get("/api/v1/ingestion/backlog").json()["waiting"] == 0
    done = client.post("/api/v1/uploads/redrive", json={"upload_id": "u1", "dry_run": False}).json()
    assert done == {"dry_run": False, "uploads": ["u1"]}
    assert client.get("/api/v1/ingestion/backlog").json()["waiting"] == 1


def test_a_name_with_a_nul_is_refused_before_the_ledger_is_queried(
    serve: Callable[..., httpx.Client], lake: Lake, ledger: Ledger
) -> None:
    client = serve(lake)
    client.headers.update(as_operator(lake.settings.home))
    answers = [client.get("/api/v1/uploads/a%00b"), client.get("/api/v1/uploads/a", params={"system_id": "\0"})]
    answers += [client.get("/api/v1/uploads", params={name: "a\0b"}) for name in ("system_id", "state", "reason")]
    answers += [
        client.post("/api/v1/uploads/redrive", json={name: "a\0b"}) for name in ("upload_id", "system_id", "reason")
    ]
    for answer in answers:
        assert answer.status_code == 422
        assert (
            "expected text without NUL characters; found 'a\\x00b'" in answer.json()["detail"] or answer is answers[1]
        )


def test_an_ambiguous_receipt_names_the_systems(serve: Callable[..., httpx.Client], lake: Lake, ledger: Ledger) -> None:
    for name in ("victim", "mallory"):
        ledger.add(
            [FoundUpload(name, "u", "session-buddy", f"systems/{name}/uploads/u", "1", 10, NOW)],
            found_by="listing",
            now=NOW,
        )
    client = serve(lake)
    refused = client.get("/api/v1/uploads/u")
    assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
    assert refused.json()["system_id"] == ["mallory", "victim"]
    assert client.get("/api/v1/uploads/u", params={"system_id": "victim"}).json()["system_id"] == "victim"


def test_shutdown_ends_the_process(tmp_path: Path) -> None:
    environment = os.environ | {"AKOSHA_HOME": str(tmp_path), "AKOSHA_API_PORT": "0"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "akosha_api"], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            output = (tmp_path / "log").read_text()
            if "running on" in output:
                break
            assert process.poll() is None, output
            time.sleep(0.05)
        url = output.split("running on ")[1].split()[0]
        assert httpx.post(f"{url}/api/v1/shutdown", headers=as_operator(tmp_path)).json()["stops"] == "this process"
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
