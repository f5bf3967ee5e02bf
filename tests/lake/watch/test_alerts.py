"""People hear of each trouble once and of its end once, through a real webhook; what could not be sent is sent later."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.claims import UploadOutcome
from akosha_assets.lake.ingestion.ledger.ledger import FoundUpload, Ledger
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import alerts, conditions
from akosha_assets.lake.watch.alerts import CRITICAL, WARNING, Condition
from akosha_assets.lake.watch.orchestration import FailedCheck, Orchestration
from akosha_assets.lake.watch.outage import down_for
from tests.loopback import http_server

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATE = Condition(
    "freshness/ingestion/backlog", WARNING, "ingestion/backlog is late", "not recorded", "ingestion-backlog"
)


class Webhook:
    """Accepts JSON posts while `is_up`, and keeps them."""

    def __init__(self) -> None:
        self.url, self.is_up = "", True
        self.messages: list[dict[str, str]] = []

    def answer(self, method: str, body: bytes) -> int:
        if self.is_up:
            self.messages.append(json.loads(body))
        return 200 if self.is_up else 503


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    with http_server(made.answer) as url:
        made.url = url.replace("http", "json", 1)
        yield made


@pytest.fixture
def ledger(tmp_path: Path, webhook: Webhook) -> Iterator[Ledger]:
    settings = LakeSettings(
        home=tmp_path, alert_urls=SecretStr(webhook.url), alerts_per_hour=5, alert_quarantined_uploads=3
    )
    opened = Ledger.open(settings)
    yield opened
    opened.close()


def test_one_message_when_it_fires_and_one_when_it_is_over(ledger: Ledger, webhook: Webhook) -> None:
    for second in (0, 10, 20):
        alerts.observe(ledger, [LATE], scopes=["freshness"], now=NOW + timedelta(seconds=second))
        alerts.deliver(ledger, now=NOW + timedelta(seconds=second))
    assert [message["title"] for message in webhook.messages] == ["Warning: ingestion/backlog is late"]
    assert "docs/runbooks/ingestion-backlog.md" in webhook.messages[0]["message"]
    alerts.observe(ledger, [], scopes=["freshness"], now=NOW + timedelta(seconds=30))
    assert alerts.counts(ledger) == ({WARNING: 1, CRITICAL: 0}, 0), "it may only have blinked"
    for minutes in (2, 3):
        alerts.observe(ledger, [], scopes=["freshness"], now=NOW + minutes * MINUTE)
        alerts.deliver(ledger, now=NOW + minutes * MINUTE)
    assert [message["title"] for message in webhook.messages[1:]] == ["Resolved: ingestion/backlog is late"]


def test_trouble_that_grows_worse_is_said_again(ledger: Ledger, webhook: Webhook) -> None:
    worse = Condition(LATE.key, CRITICAL, LATE.title, LATE.detail, LATE.runbook)
    for minutes, one in enumerate([LATE, worse, worse]):
        alerts.observe(ledger, [one], scopes=["freshness"], now=NOW + minutes * MINUTE)
        alerts.deliver(ledger, now=NOW + minutes * MINUTE)
    assert [message["title"].split(":")[0] for message in webhook.messages] == ["Warning", "Critical"]


def test_what_cannot_be_looked_at_is_not_over(ledger: Ledger) -> None:
    alerts.observe(ledger, [LATE], scopes=["freshness"], now=NOW)
    alerts.observe(ledger, [], scopes=["backlog"], now=NOW + 10 * MINUTE)
    assert alerts.counts(ledger)[0][WARNING] == 1


def test_a_channel_that_is_down_gets_the_message_later(ledger: Ledger, webhook: Webhook) -> None:
    webhook.is_up = False
    alerts.observe(ledger, [LATE], scopes=["freshness"], now=NOW)
    assert alerts.deliver(ledger, now=NOW).failed == 1
    (row,) = alerts.listed(ledger, state="firing")
    assert (row.pending, row.attempts, row.error) == (True, 1, "json: the channel did not accept the message")
    assert alerts.counts(ledger)[1] == 1
    webhook.is_up = True
    assert alerts.deliver(ledger, now=NOW).sent == 0, "not before its pause is over"
    assert alerts.deliver(ledger, now=NOW + MINUTE).sent == 1
    assert len(webhook.messages) == 1


def test_a_channel_that_took_the_message_does_not_get_it_twice(ledger: Ledger, webhook: Webhook) -> None:
    both = SecretStr(f"{webhook.url} json://127.0.0.1:9/")
    two = Ledger(ledger.engine, ledger.settings.model_copy(update={"alert_urls": both}))
    alerts.observe(two, [LATE], scopes=["freshness"], now=NOW)
    for minutes in (0, 2, 4):
        assert alerts.deliver(two, now=NOW + minutes * MINUTE).failed == 1
    assert len(webhook.messages) == 1


def test_a_flood_is_held_back_and_not_lost(ledger: Ledger, webhook: Webhook) -> None:
    flood = [Condition(f"run/job-{n}", WARNING, f"Job {n} fails", "x", "failed-run") for n in range(8)]
    alerts.observe(ledger, flood, scopes=["run"], now=NOW)
    assert alerts.deliver(ledger, now=NOW) == alerts.Delivery(sent=5, failed=0, held=3)
    alerts.deliver(ledger, now=NOW + 61 * MINUTE)
    assert len({message["title"] for message in webhook.messages}) == 8


def test_a_burst_of_quarantines_is_trouble(ledger: Ledger) -> None:
    found = [FoundUpload(f"s{n}", f"u{n}", "session-buddy", f"p{n}", "1", 1, NOW) for n in range(3)]
    ledger.add(found, found_by="listing", now=NOW)
    batch = claims.claim(ledger, run_id="r", now=NOW)
    assert batch is not None
    outcome = UploadOutcome("quarantined", reason="gzip_damaged", message="m")
    claims.finish(ledger, batch, {one.id: outcome for one in batch.uploads}, {}, rows=0, now=NOW)
    assert conditions.evaluate(ledger, now=NOW + MINUTE) == ["backlog/quarantine"]
    (row,) = alerts.listed(ledger)
    assert "gzip_damaged 3" in row.detail


def test_a_dagster_that_does_not_answer_is_trouble_of_its_own(ledger: Ledger) -> None:
    there = Ledger(ledger.engine, ledger.settings.model_copy(update={"dagster_url": "http://127.0.0.1:9"}))
    for seconds in range(0, 180, 30):
        assert conditions.evaluate(there, now=NOW + timedelta(seconds=seconds)) == [], "it may be starting"
    assert conditions.evaluate(there, now=NOW + 3 * MINUTE) == ["dagster/webserver"]


def test_a_silence_that_nobody_watched_says_nothing(ledger: Ledger) -> None:
    assert down_for(ledger, "x", answers=False, now=NOW) == timedelta()
    assert down_for(ledger, "x", answers=False, now=NOW + MINUTE) == MINUTE
    assert down_for(ledger, "x", answers=False, now=NOW + 60 * MINUTE) == timedelta()
    assert down_for(ledger, "x", answers=True, now=NOW + 61 * MINUTE) == timedelta()


def test_dagster_tells_of_runs_checks_freshness_and_daemons() -> None:
    state = Orchestration(
        failed_last={"ingest": "0123456789"},
        failed_checks=[
            FailedCheck("lifecycle/warm", "recall_at_10", "ERROR", "0.5 is too low"),
            # What the ledger itself says of the backlog is an alert already.
            FailedCheck("ingestion/backlog", "waiting_uploads", "ERROR", "60,000 uploads wait"),
        ],
        freshness={"ingestion/backlog": "degraded", "lifecycle/aging": "healthy", "lifecycle/embeddings": "unknown"},
        heartbeat_seconds={"sensor": 5, "freshness_daemon": 600},
        sensor_lag_seconds={"upload_sensor": 1},
    )
    found = {one.key: one.severity for one in conditions.of_dagster(state)}
    assert found == {
        "run/ingest": WARNING,
        "check/lifecycle/warm/recall_at_10": CRITICAL,
        "freshness/ingestion/backlog": CRITICAL,
        "daemon/freshness_daemon": CRITICAL,
    }


def test_no_channel_means_nothing_is_owed(tmp_path: Path) -> None:
    quiet = Ledger.open(LakeSettings(home=tmp_path / "quiet"))
    alerts.observe(quiet, [LATE], scopes=["freshness"], now=NOW)
    alerts.deliver(quiet, now=NOW)
    assert alerts.counts(quiet) == ({WARNING: 1, CRITICAL: 0}, 0)
    quiet.close()
