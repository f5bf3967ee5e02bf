"""Backlog checks and alerts with a real daemon: they fail while ingestion is stopped and recover when it runs again.

Dagster's shortest freshness window is a minute, so this takes three; it runs when AKOSHA_SLOW_TESTS is set.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import as_operator
from tests.factories import make_upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("AKOSHA_SLOW_TESTS"), reason="takes three minutes; set AKOSHA_SLOW_TESTS=1"),
    pytest.mark.timeout(600),
]

CHECKS = """{ assetChecksOrError: assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
  name executionForLatestMaterialization { status evaluation { severity success } } } } } } }"""


@dataclass
class Up:
    """A running `akosha up`."""

    home: Path
    api: str
    dagster: str
    environment: dict[str, str]

    def metric(self, name: str, **labels: str) -> float | None:
        text = httpx.get(f"{self.api}/metrics", timeout=20).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None

    def sensor(self, verb: str, name: str) -> None:
        workspace = self.home / "dagster" / "workspace.yaml"
        command = [sys.executable, "-m", "dagster", "sensor", verb, name, "-w", str(workspace)]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=120)

    def checks(self) -> dict[str, Any]:
        nodes = httpx.post(
            f"{self.dagster}/graphql", json={"query": CHECKS}, headers=as_operator(self.home), timeout=20
        ).json()["data"]["assetChecksOrError"]
        node = next(one for one in nodes if one["assetKey"]["path"] == ["ingestion", "backlog"])
        return {one["name"]: one["executionForLatestMaterialization"] for one in node["assetChecksOrError"]["checks"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    api, dagster = free_port(), free_port()
    environment = os.environ | {
        "AKOSHA_HOME": str(tmp_path),
        "AKOSHA_API_PORT": str(api),
        "AKOSHA_DAGSTER_PORT": str(dagster),
        "AKOSHA_BACKLOG_AGE_SECONDS": "5",
        "AKOSHA_BACKLOG_WARN_SECONDS": "60",
        "AKOSHA_BACKLOG_FAIL_SECONDS": "70",
        "AKOSHA_BACKLOG_WARN_UPLOADS": "1",
        "AKOSHA_BACKLOG_WARN_FOR_SECONDS": "5",
        "AKOSHA_BACKLOG_ERROR_UPLOADS": "2",
        "AKOSHA_BACKLOG_ERROR_FOR_SECONDS": "10",
        "FRESHNESS_DAEMON_INTERVAL_SECONDS": "5",
        "DAGSTER_HOME": str(Path(__file__).parents[2]),
    }
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("akosha")), "up"], env=environment, stdout=log, stderr=log
        )
    started = Up(tmp_path, f"http://127.0.0.1:{api}", f"http://127.0.0.1:{dagster}", environment)
    try:
        until(
            lambda: "Ctrl-C drains" in (tmp_path / "up.log").read_text() or process.poll() is not None,
            within_seconds=180,
        )
        assert process.poll() is None, (tmp_path / "up.log").read_text()
        yield started
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0


def until(condition: Callable[[], object], *, within_seconds: float) -> float:
    """The seconds until `condition` was true."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_seconds, "waited in vain"
        time.sleep(1)
    return time.monotonic() - started


def test_backlog_checks_fail_while_ingestion_is_stopped_and_recover_afterwards(up: Up) -> None:
    freshness = lambda: up.metric("akosha_dagster_freshness", asset="ingestion/backlog")  # noqa: E731
    until(lambda: freshness() == 0, within_seconds=60)
    up.sensor("stop", "upload_sensor")
    for number in range(3):
        make_upload(up.home / "inbox", f"laptop-{number}", conversations=["pip cannot resolve numpy"])
    # Nothing lists the inbox while the sensor is stopped; the test adds the uploads to the ledger as an event would.
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from datetime import UTC, datetime\n"
            "from akosha_assets.lake.ingestion.inbox.listing import sweep\n"
            "from akosha_assets.lake.ingestion.ledger.ledger import Ledger\n"
            "from akosha_assets.lake.settings import LakeSettings\n"
            "s = LakeSettings(); sweep(s, Ledger.open(s), now=datetime.now(UTC))",
        ],
        env=up.environment,
        check=True,
    )

    def size_failed() -> bool:
        size = up.checks()["waiting_uploads"]
        return bool(size) and size["evaluation"]["severity"] == "ERROR" and not size["evaluation"]["success"]

    print("checks failed after", until(size_failed, within_seconds=60))  # noqa: T201
    print("freshness failed after", until(lambda: freshness() == 2, within_seconds=150))  # noqa: T201
    up.sensor("start", "upload_sensor")
    print("nothing waits after", until(lambda: up.metric("akosha_ingestion_backlog_count") == 0, within_seconds=90))  # noqa: T201
    print("freshness healed after", until(lambda: freshness() == 0, within_seconds=60))  # noqa: T201
    until(
        lambda: (up.checks()["waiting_uploads"] or {"evaluation": {"success": False}})["evaluation"]["success"],
        within_seconds=90,
    )
    assert up.metric("akosha_dagster_up") == 1
    assert up.metric("akosha_dagster_heartbeat_seconds", daemon="sensor") is not None
