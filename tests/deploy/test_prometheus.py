"""The rules in promtool, Prometheus and Alertmanager, and the queries of the dashboard on real metrics.

The programs are Debian's `prometheus` and `prometheus-alertmanager`; without them the tests are skipped.
"""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from akosha_api import metrics as api_metrics
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import metrics as lake_metrics
from tests.api.conftest import serve as serve
from tests.hot_rows import commit, memory
from tests.loopback import http_server

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "akosha.rules.yml"
NAME = re.compile(r"\bakosha[a-z0-9_:]+")
NOW = datetime.now(UTC)


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def queries() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "akosha.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def declared() -> set[str]:
    defined = set(lake_metrics.METRICS) | set(api_metrics.METRICS)
    records = {
        rule["record"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    return defined | records | {f"{name}_bucket" for name in defined if name.endswith("_seconds")}


def test_the_rules_pass_their_unit_tests() -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", "akosha.test.yml"],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configurations_are_valid() -> None:
    for command in (
        [program("promtool"), "check", "config", "prometheus.yml"],
        [program("amtool"), "check-config", "alertmanager.yml"],
    ):
        done = subprocess.run(command, cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_use_only_metrics_that_exist() -> None:
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    used = {name for query in [*rules, *queries()] for name in NAME.findall(query.replace('job="akosha"', ""))}
    assert used <= declared()
    # A metric without a rule and a panel would have no reader.
    assert len(used & declared()) > 30


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    notifications: list[dict[str, Any]] = []

    def tell(method: str, body: bytes) -> int:
        notifications.append(json.loads(body))
        return 200

    with http_server(tell) as url:
        yield url, notifications


@pytest.fixture
def stack(
    tmp_path: Path, serve: Callable[..., httpx.Client], webhook: tuple[str, list[dict[str, Any]]]
) -> Iterator[tuple[httpx.Client, httpx.Client, Ledger, list[dict[str, Any]]]]:
    """The service, a Prometheus that scrapes it every second and fires at once, an Alertmanager, and its receiver."""
    lake = Lake(LakeSettings(home=tmp_path / "akosha"))
    commit(lake, 1, *(memory(str(number), f"Postgres deadlock on orders table {number}") for number in range(30)))
    ledger = Ledger.open(lake.settings)
    api = serve(lake, alert_seconds=0.5)
    prometheus_port, alertmanager_port = free_port(), free_port()
    rules = re.sub(r"for: \w+", "for: 1s", RULES.read_text()).replace("interval: 15s", "interval: 1s")
    (tmp_path / "akosha.rules.yml").write_text(rules)
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager_port}"]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{api.base_url.port}"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    routes = yaml.safe_load((RULES.parent / "alertmanager.yml").read_text())
    routes["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    routes["receivers"][0]["webhook_configs"][0]["url"] = webhook[0]
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(routes))
    commands = [
        [
            program("prometheus"),
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{prometheus_port}",
        ],
        [
            program("prometheus-alertmanager"),
            f"--config.file={tmp_path}/alertmanager.yml",
            f"--storage.path={tmp_path}/am",
            f"--web.listen-address=127.0.0.1:{alertmanager_port}",
            "--cluster.listen-address=",
        ],
    ]
    with (tmp_path / "log").open("wb") as log:
        running = [subprocess.Popen(command, stdout=log, stderr=log) for command in commands]
    prometheus = httpx.Client(base_url=f"http://127.0.0.1:{prometheus_port}", timeout=10)
    try:
        yield api, prometheus, ledger, webhook[1]
    finally:
        prometheus.close()
        ledger.close()
        for process in running:
            process.terminate()
            process.wait(20)


def run_query(prometheus: httpx.Client, query: str) -> list[Any]:
    answer = prometheus.get("/api/v1/query", params={"query": query})
    if answer.status_code == 503:
        raise httpx.ConnectError("Prometheus is still starting")
    assert answer.status_code == 200, answer.text
    result: list[Any] = answer.json()["data"]["result"]
    return result


def waited(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass  # not up yet
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def test_an_old_backlog_notifies_operators_and_every_panel_has_data(
    stack: tuple[httpx.Client, httpx.Client, Ledger, list[dict[str, Any]]],
) -> None:
    api, prometheus, ledger, notifications = stack
    old = NOW - timedelta(hours=1)
    ledger.add([FoundUpload("s", "u", "session-buddy", "p", "1", 10, old)], found_by="listing", now=old)
    waited(
        lambda: run_query(prometheus, 'ALERTS{alertname="AkoshaIngestionStopped", alertstate="firing"}'),
        "the alert to fire",
    )
    firing = lambda status: {  # noqa: E731
        alert["labels"]["alertname"]
        for message in notifications
        for alert in message["alerts"]
        if alert["status"] == status
    }
    waited(lambda: "AkoshaIngestionStopped" in firing("firing"), "the webhook to be notified")
    assert "AkoshaIngestionBehind" not in firing("firing"), "suppressed by the critical one"
    for mode in ("keyword", "hybrid"):
        api.post("/api/v1/search", json={"query": "deadlock", "mode": mode})
    batch = claims.claim(ledger, run_id="r", now=NOW)
    assert batch is not None
    claims.finish(ledger, batch, {batch.uploads[0].id: UploadOutcome(UploadState.INGESTED)}, {}, rows=0, now=NOW)
    waited(lambda: "AkoshaIngestionStopped" in firing("resolved"), "the webhook to hear that it is over")
    # Dagster does not run here; another test checks its metrics with the real daemon.
    here = [query for query in queries() if "dagster" not in query and "incomplete_total" not in query]
    for query in here:
        waited(lambda query=query: run_query(prometheus, query), f"{query} to have a value")  # type: ignore[misc]
    for query in queries():
        run_query(prometheus, query)
