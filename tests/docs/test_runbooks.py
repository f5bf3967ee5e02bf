"""Every command of every runbook runs, in order, against an instance with the failure that the runbook is about.

A ```console block has commands after `$ `; `API` and the settings of the instance are in their environment. The
commands under "It is over when" are repeated until all succeed.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import sqlalchemy as sa
import uvicorn
import yaml
from moto.server import ThreadedMotoServer

from akosha_api.app import create_app
from akosha_api.settings import ApiSettings
from akosha_assets.lake import catalog
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion.arrivals import ingest
from akosha_assets.lake.ingestion.inbox.listing import sweep
from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep import backup
from akosha_assets.lake.watch import conditions, orchestration
from akosha_assets.lake.watch.alert_kinds import Runbook
from akosha_assets.lake.watch.orchestration import FailedCheck, Orchestration
from tests.factories import make_upload

ROOT = Path(__file__).parents[2]
BOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
SECTIONS = ["Detect", "Confirm", "Act", "It is over when", "Roll back", "Escalate", "Prevent"]
OVER = "It is over when"
NOW = datetime.now(UTC)

pytestmark = pytest.mark.timeout(180)


@dataclass
class Instance:
    """A home with uploads, and the API that serves it."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    server: Any = None
    url: str = ""
    repair: Callable[[], None] = lambda: None
    closing: Callable[[], None] = lambda: None
    patch: pytest.MonkeyPatch = field(default_factory=pytest.MonkeyPatch)

    @property
    def settings(self) -> LakeSettings:
        return LakeSettings(home=self.home)

    def upload(self, count: int, *, ago: timedelta = timedelta()) -> None:
        """Write an upload of each of `count` systems, which discovery found `ago`."""
        for number in range(count):
            make_upload(
                self.home / "inbox",
                f"laptop-{number}",
                conversations=["Postgres deadlock on orders", "Redis evicts early"],
                reflections=["Take locks in one order"],
                others={"kg_entities": [{"id": "orders", "name": "orders", "entity_type": "table"}]},
            )
        ledger = Ledger.open(self.settings)
        sweep(self.settings, ledger, now=NOW - ago, whole=True)
        ledger.close()

    def ingest(self) -> None:
        ledger = Ledger.open(self.settings)
        ingest(Lake(self.settings), ledger, run_id="r")
        ledger.close()

    def start(self, *, path: str = "/ready", **settings: Any) -> None:
        """Serve the home in this process, and wait until `path` is answered with 200."""
        lake_settings = self.settings.model_copy(
            update={
                name: settings.pop(name)
                for name in ("dagster_url", "dagster_silent_seconds", "lake_url", "backlog_age_seconds")
                if name in settings
            }
        )
        api_settings = ApiSettings(**({"poll_seconds": 0.2, "alert_seconds": 0.5} | settings))
        self.server = uvicorn.Server(
            uvicorn.Config(create_app(lake_settings, api_settings), port=0, log_level="warning")
        )
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started, 60)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {
            "AKOSHA_HOME": str(self.home),
            "AKOSHA_EMBEDDING_SECONDS": "0",
            "API": self.url,
            "PATH": programs,
        }
        self.environment = dict(os.environ) | variables | self.environment
        until(lambda: httpx.get(f"{self.url}{path}").status_code == 200, 60)

    def stop(self) -> None:
        if self.server is not None:
            self.server.should_exit = True
            self.thread.join()
            self.server = None

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-uo", "pipefail", "-c", command],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass  # not up yet
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        time.sleep(0.2)


def late_backlog(instance: Instance) -> None:
    instance.upload(3, ago=timedelta(hours=1))
    instance.start()
    firing = f"{instance.url}/api/v1/alerts?state=firing"
    until(lambda: "backlog/age" in {alert["key"] for alert in httpx.get(firing).json()["alerts"]}, 20)


def lost_table(instance: Instance) -> None:
    instance.upload(2)
    instance.ingest()
    shutil.rmtree(instance.home / "lake" / "lifecycle" / "hot")
    # The service answers and is not ready, because a table of the ledger is missing.
    instance.start(path="/health")


def dagster_down(instance: Instance) -> None:
    instance.upload(1)
    (instance.home / "logs").mkdir()
    (instance.home / "logs" / "daemon.log").write_text("killed\n")
    instance.start(dagster_url="http://127.0.0.1:9", dagster_silent_seconds=0)
    until(lambda: httpx.get(f"{instance.url}/api/v1/alerts?state=firing").json()["alerts"], 20)


def store_down(instance: Instance) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {
        "AWS_ACCESS_KEY_ID": "t",
        "AWS_SECRET_ACCESS_KEY": "t",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in (keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
        instance.patch.setenv(name, value)
    # Short timeouts, so that the test is short.
    instance.patch.setattr(
        catalog, "CLIENT", {"timeout": "5s", "connect_timeout": "1s", "max_retries": "1", "retry_timeout": "2s"}
    )
    instance.patch.setattr("akosha_assets.lake.watch.metrics.TABLES_SECONDS", 1.0)
    client = boto3.client("s3")
    client.create_bucket(Bucket="lake")
    instance.start(lake_url="s3://lake")
    server.stop()
    until(lambda: "akosha_store_up 0" in httpx.get(f"{instance.url}/metrics", timeout=100).text, 100)

    def repair() -> None:
        restarted = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        restarted.start()
        client.create_bucket(Bucket="lake")
        instance.closing = restarted.stop

    instance.repair = repair


def searchable(instance: Instance) -> None:
    instance.upload(1)
    instance.ingest()
    instance.start()
    httpx.post(f"{instance.url}/api/v1/search", json={"query": "deadlock"})


def delayed_uploads(instance: Instance) -> None:
    instance.upload(2)
    ledger = Ledger.open(instance.settings)
    with ledger.write() as connection:
        later = {"attempts": 2, "not_before": NOW + timedelta(hours=1), "message": "object store did not answer"}
        connection.execute(sa.update(uploads).values(**later))
    ledger.close()
    instance.start()


def lost_ledger(instance: Instance) -> None:
    instance.upload(2)
    instance.ingest()
    for path in instance.home.glob("ledger.sqlite*"):
        path.unlink()
    instance.start(alert_seconds=0)


def full_disk(instance: Instance) -> None:
    instance.upload(1)
    instance.ingest()
    (instance.home / "logs").mkdir()
    (instance.home / "logs" / "api.log.1").write_bytes(bytes(1_000_000))
    (instance.home / "dagster").mkdir()
    instance.start()


def poisoned_uploads(instance: Instance) -> None:
    instance.upload(3)
    for path in sorted((instance.home / "inbox").rglob("reflection.duckdb*"))[:2]:
        path.write_bytes(gzip.compress(b"not a database") if path.suffix == ".gz" else b"not a database")
    instance.ingest()
    instance.start()


def lost_with_backup(instance: Instance) -> None:
    instance.upload(2)
    instance.ingest()
    instance.environment["AKOSHA_BACKUP_URL"] = str(instance.home / "elsewhere")
    settings = LakeSettings(home=instance.home, backup_url=str(instance.home / "elsewhere"))
    ledger = Ledger.open(settings)
    backup.backup(Lake(settings), ledger, now=NOW)
    ledger.close()
    shutil.rmtree(instance.home / "lake" / "lifecycle" / "hot")
    # The service answers and is not ready, because a table of the ledger is missing.
    instance.start(path="/health")
    instance.stop()


def unlisted_inbox(instance: Instance) -> None:
    """Dagster answers, and the inbox is not listed."""
    instance.upload(1)
    # Resolve alerts after a second, so that the test is short.
    instance.patch.setattr("akosha_assets.lake.watch.alerts.SETTLED", timedelta(seconds=1))
    instance.patch.setattr(conditions, "SWEEP_GRACE", timedelta())
    instance.patch.setattr(orchestration, "read", lambda *_, **__: Orchestration(stopped={"upload_sensor": "sensor"}))
    ledger = Ledger.open(instance.settings)
    ledger.remember(SWEEP_ENDED, (NOW - timedelta(hours=1)).isoformat())
    ledger.close()
    instance.start(dagster_url="http://127.0.0.1:9", backlog_age_seconds=30)
    until_firing(instance, "sweep/late")


def until_firing(instance: Instance, key: str) -> None:
    firing = f"{instance.url}/api/v1/alerts?state=firing"
    until(lambda: key in {alert["key"] for alert in httpx.get(firing).json()["alerts"]}, 20)


def sensor_stopped(instance: Instance) -> None:
    unlisted_inbox(instance)
    instance.repair = lambda: instance.patch.setattr(orchestration, "read", lambda *_, **__: Orchestration())


def with_dagster(key: str, **state: Any) -> Callable[[Instance], None]:
    """Dagster answers with `state` until the repair; the alert `key` fires."""

    def prepare(instance: Instance) -> None:
        instance.upload(1)
        instance.patch.setattr("akosha_assets.lake.watch.alerts.SETTLED", timedelta(seconds=1))
        instance.patch.setattr(orchestration, "read", lambda *_, **__: Orchestration(**state))
        instance.repair = lambda: instance.patch.setattr(orchestration, "read", lambda *_, **__: Orchestration())
        instance.start(dagster_url="http://127.0.0.1:9", dagster_silent_seconds=3600)
        until_firing(instance, key)

    return prepare


def without_ledger(instance: Instance) -> None:
    """The file of the ledger is not a database until the repair."""
    instance.upload(1)
    instance.ingest()
    instance.patch.setattr("akosha_assets.lake.watch.metrics.READING_SECONDS", 0.5)
    path, aside = instance.home / "ledger.sqlite", instance.home / "ledger.aside"
    path.rename(aside)
    path.mkdir()
    instance.start(path="/health")
    until(lambda: "akosha_ledger_up 0" in httpx.get(f"{instance.url}/metrics", timeout=20).text, 20)

    def repair() -> None:
        path.rmdir()
        aside.rename(path)

    instance.repair = repair


def damaged_log(instance: Instance) -> None:
    """A commit of the warm table cannot be parsed until the repair."""
    instance.upload(1)
    instance.ingest()
    instance.patch.setattr("akosha_assets.lake.watch.metrics.TABLES_SECONDS", 0.5)
    instance.patch.setattr("akosha_assets.lake.watch.tiers.READ_EVERY_SECONDS", 0.5)
    log = instance.home / "lake" / "lifecycle" / "hot" / "_delta_log" / "00000000000000000000.json"
    sound = log.read_bytes()
    log.write_bytes(b"not a commit")
    instance.start(path="/health")
    until_firing(instance, "tier/unreadable")

    def repair() -> None:
        log.write_bytes(sound)

    instance.repair = repair


def odd_rows(instance: Instance) -> None:
    """A data file of the backup is damaged, and another one holds a text that is too long to be served."""
    make_upload(instance.home / "inbox", "laptop-odd", conversations=["sound", "long " * 100])
    instance.upload(2)
    instance.ingest()
    instance.environment["AKOSHA_BACKUP_URL"] = str(instance.home / "elsewhere")
    settings = LakeSettings(home=instance.home, backup_url=str(instance.home / "elsewhere"))
    ledger = Ledger.open(settings)
    backup.backup(Lake(settings), ledger, now=NOW)
    ledger.close()
    hot = instance.home / "lake" / "lifecycle" / "hot"
    damaged = min(path for path in hot.rglob("*.parquet") if "_delta_log" not in path.parts)
    damaged.write_bytes(damaged.read_bytes()[:200])
    instance.patch.setattr("akosha_assets.lake.serving.replica.row_conversion.TEXT_MAX_BYTES", 400)
    instance.patch.setattr("akosha_assets.lake.serving.replica.set_aside.RETRY_SECONDS", 1.0)
    instance.start()


STATES: dict[str, Callable[[Instance], None]] = {
    "ingestion-backlog": late_backlog,
    "hot-tier-loss": lost_table,
    "orchestrator-unreachable": dagster_down,
    "object-storage-down": store_down,
    "slow-queries": searchable,
    "circuit-breaker-open": delayed_uploads,
    "ledger-loss": lost_ledger,
    "disk-full": full_disk,
    "poisoned-uploads": poisoned_uploads,
    "restore-from-backup": lost_with_backup,
    "failed-run": searchable,
    "inbox-not-listed": unlisted_inbox,
    "sensor-or-schedule-stopped": sensor_stopped,
    "failing-ticks": with_dagster("tick/upload_sensor", failing={"upload_sensor": "sensor"}),
    "missing-ticks": with_dagster("schedule/embed_schedule", missed_ticks={"embed_schedule": 1.0}),
    "aging-late": with_dagster("freshness/lifecycle/aging", freshness={"lifecycle/aging": "warning"}),
    "embeddings-late": with_dagster("freshness/lifecycle/embeddings", freshness={"lifecycle/embeddings": "warning"}),
    "recall-check-failed": with_dagster(
        "check/lifecycle/warm/recall_at_10",
        failed_checks=[FailedCheck("lifecycle/warm", "recall_at_10", "ERROR", "0.5 is too low")],
    ),
    "ledger-unreachable": without_ledger,
    "tier-unreadable": damaged_log,
    "rows-set-aside": odd_rows,
}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    started = Instance(tmp_path / "akosha", patch=monkeypatch)
    started.home.mkdir()
    yield started
    started.stop()
    started.closing()


def sections(book: Path) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", book.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(text: str) -> list[str]:
    """The commands of a section; a block that sets a variable is one command."""
    found: list[str] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
        assert len(lines) == len(block.splitlines()), f"a line of a console block is not a command: {block}"
        found += ["\n".join(["set -e", *lines])] if any(re.match(r"[A-Z]+=", line) for line in lines) else lines
    return found


@pytest.mark.parametrize("book", BOOKS, ids=lambda path: path.stem)
def test_every_command_of_a_runbook_succeeds(book: Path, instance: Instance) -> None:
    text = sections(book)
    assert list(text) == SECTIONS
    assert "| Severity | Expected time to recover |" in book.read_text()
    STATES[book.stem](instance)
    for name in SECTIONS:
        if name == OVER:
            instance.repair()
            last: list[subprocess.CompletedProcess[str]] = []

            over = commands(text[OVER])
            assert over, "no command tells whether it is over"

            def is_over(last: list[subprocess.CompletedProcess[str]] = last, over: list[str] = over) -> bool:
                last[:] = [instance.run(command) for command in over]
                return all(done.returncode == 0 for done in last)

            try:
                until(is_over, 60)
            except AssertionError:
                pytest.fail(f"{book.stem}: {[(done.args[-1], done.stdout, done.stderr) for done in last]}")
        else:
            for command in commands(text[name]):
                done = instance.run(command)
                assert done.returncode == 0, f"{name}: {command}\n{done.stdout}\n{done.stderr}"


def test_a_table_without_its_log_is_repaired_as_the_runbook_says(instance: Instance) -> None:
    text = sections(ROOT / "docs" / "runbooks" / "hot-tier-loss.md")
    (command,) = re.findall(r"`(akosha repair [a-z/]+)`", text["Act"])
    instance.upload(2)
    instance.ingest()
    shutil.rmtree(instance.home / "lake" / "lifecycle" / "hot" / "_delta_log")
    instance.start(path="/health")
    done = instance.run(command)
    assert done.returncode == 0, done.stderr
    until(lambda: all(instance.run(one).returncode == 0 for one in commands(text[OVER])), 60)


def test_every_alert_links_to_an_existing_runbook() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "akosha.rules.yml").read_text())
    linked_by_rules = {
        rule["annotations"]["runbook"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule
    }
    assert [path for path in linked_by_rules if not (ROOT / path).is_file()] == []
    assert {str(runbook) for runbook in Runbook} <= {book.stem for book in BOOKS}
    linked = {target for book in BOOKS for target in re.findall(r"\]\(([a-z-]+\.md)\)", book.read_text())}
    assert linked <= {book.name for book in BOOKS}
