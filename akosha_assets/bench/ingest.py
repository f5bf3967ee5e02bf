"""Measures how fast large snapshots are committed, the time per step, and how soon a small upload is searchable.

The first part runs one ingest process on full snapshots with vectors. The second starts all services as `akosha up`
does and uploads one snapshot at a time, timed until the API's receipt says that its rows are searchable. Inbox and
tables are folders or, with `s3`, buckets of a local S3 server; the inbox bucket has notifications.
"""

import json
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from akosha_assets.bench import runs
from akosha_assets.bench.buckets import buckets
from akosha_assets.fleet.systems import FleetPlan
from akosha_assets.fleet.upload import upload_fleet
from akosha_assets.lake import operator_token
from akosha_assets.lake.settings import LakeSettings

START_SECONDS = 180
SEARCHABLE_SECONDS = 120


def run(*, uploads: int, memories: int, distinct: int, singles: int, s3: bool, work: Path | None) -> dict[str, Any]:
    """Ingest `uploads` snapshots of `memories` memories with vectors, then `singles` uploads one by one.

    Raises:
        InvalidRequest: `s3` is true and no S3 server is installed.
    """
    with ExitStack() as stack:
        environment = stack.enter_context(buckets()) if s3 else {}
        return _measured(uploads, memories, distinct, singles, environment, work)


def _measured(
    uploads: int, memories: int, distinct: int, singles: int, environment: dict[str, str], work: Path | None
) -> dict[str, Any]:
    plan = FleetPlan(systems=uploads, memories=memories, distinct=distinct, vectors=True, days=7, now=datetime.now(UTC))
    with runs.home(work) as settings:
        upload_fleet(settings.inbox(), plan)
        # The vectors of the uploads are stored, so that this measures ingestion and not a model.
        ingested = runs.ingest_process(settings, AKOSHA_UPLOADED_VECTOR_SPACE="bench", AKOSHA_EMBEDDING_SECONDS="0")
    report = ingested.report
    busy = report["seconds_taking_in"]
    rows = sum(report["rows"].values())
    with runs.home(work) as settings:
        searchable = _searchable(settings, singles, environment) if singles else []
    return {
        "uploads": uploads,
        "rows": rows,
        "hot_rows": report["rows"].get("lifecycle/hot", 0),
        "seconds": round(busy, 2),
        "seconds_with_start": report["seconds"],
        "rows_per_second": round(rows / busy),
        "uploads_per_second": round(uploads / busy, 2),
        "cpu_seconds": ingested.cpu_seconds,
        "peak_rss_bytes": ingested.peak_rss_bytes,
        "where_the_time_goes": report["seconds_by_step"],
        "inbox": "bucket with notifications" if environment else "folder",
        "searchable_seconds_p50": round(statistics.median(searchable), 2) if searchable else None,
        "searchable_seconds": [round(seconds, 2) for seconds in searchable],
        "machine": runs.machine(),
    }


def _searchable(settings: LakeSettings, singles: int, environment: dict[str, str]) -> list[float]:
    """Seconds from writing each upload's manifest until the API serves its rows."""
    api, dagster = _free_ports(2)
    waits = []
    inbox_url = environment.get("AKOSHA_INBOX_URL", settings.inbox())
    with _services(settings, api, dagster, environment):
        for number in range(singles):
            plan = FleetPlan(systems=1, memories=20, seed=number, now=datetime.now(UTC))
            (sent,) = upload_fleet(inbox_url, plan)
            put_at = time.monotonic()
            receipt = _answered(
                f"http://127.0.0.1:{api}/api/v1/uploads/{sent.upload_id}",
                lambda answer: bool(answer.get("searchable_at")),
                SEARCHABLE_SECONDS,
            )
            if receipt["state"] != "ingested":
                raise RuntimeError(f"upload {sent.upload_id} became {receipt['state']}: {receipt['message']}")
            waits.append(time.monotonic() - put_at)
            time.sleep(number % 3)
    return waits


@contextmanager
def _services(settings: LakeSettings, api: int, dagster: int, changed: dict[str, str]) -> Iterator[None]:
    ports = ["--api-port", str(api), "--dagster-port", str(dagster)]
    command = [sys.executable, "-c", "from akosha_assets.cli.main import app; app()", "up", *ports]
    environment = runs.environment(settings.home) | changed
    with (settings.home / "up.out").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            _answered(f"http://127.0.0.1:{api}/ready", lambda _: True, START_SECONDS)
            token = operator_token.read(settings.home)
            _answered(f"http://127.0.0.1:{dagster}/server_info", lambda _: True, START_SECONDS, token)
            # The daemon first ticks after the web server answers.
            time.sleep(15)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


def _answered(url: str, is_enough: Any, seconds: float, token: str = "") -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    deadline = time.monotonic() + seconds
    answer: dict[str, Any] = {}
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                answer = json.load(response)
            if is_enough(answer):
                return answer
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not give the expected answer within {seconds} s; last: {answer}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
