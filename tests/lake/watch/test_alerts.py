"""Each alert is sent once when it fires and once when it is resolved; what could not be sent is sent later."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import LedgerUnavailable
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import alerts, conditions, tiers
from akosha_assets.lake.watch.alert_kinds import AlertState, Runbook, Scope, Severity
from akosha_assets.lake.watch.alerts import Condition
from akosha_assets.lake.watch.dagster_conditions import of_dagster, of_missing_ticks
from akosha_assets.lake.watch.delivery import SENT_KEY, Delivery, deliver
from akosha_assets.lake.watch.ledger_alarm import LedgerAlarm
from akosha_assets.lake.watch.orchestration import FailedCheck, Orchestration
from akosha_assets.lake.watch.outage import down_for
from akosha_assets.lake.watch.tiers import TierProbe
from tests.loopback import http_server

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LATE = Condition(
    "freshness/ingestion/backlog",
    Severity.WARNING,
    "ingestion/backlog is late",
    "not recorded",
    Runbook.INGESTION_BACKLOG,
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


def test_one_message_when_it_fires_and_one_when_it_resolves(ledger: Ledger, webhook: Webhook) -> None:
    for second in (0, 10, 20):
        alerts.observe(ledger, [LATE], scopes=[Scope.FRESHNESS], now=NOW + timedelta(seconds=second))
        deliver(ledger, now=NOW + timedelta(seconds=second))
    assert [message["title"] for message in webhook.messages] == ["Warning: ingestion/backlog is late"]
    assert "docs/runbooks/ingestion-backlog.md" in webhook.messages[0]["message"]
    alerts.observe(ledger, [], scopes=[Scope.FRESHNESS], now=NOW + timedelta(seconds=30))
    assert alerts.count_alerts(ledger) == ({Severity.WARNING: 1, Severity.CRITICAL: 0}, 0), "it may only have blinked"
    for minutes in (2, 3):
        alerts.observe(ledger, [], scopes=[Scope.FRESHNESS], now=NOW + minutes * MINUTE)
        deliver(ledger, now=NOW + minutes * MINUTE)
    assert [message["title"] for message in webhook.messages[1:]] == ["Resolved: ingestion/backlog is late"]


def test_a_change_of_severity_is_sent(ledger: Ledger, webhook: Webhook) -> None:
    worse = Condition(LATE.key, Severity.CRITICAL, LATE.title, LATE.detail, LATE.runbook)
    for minutes, one in enumerate([LATE, worse, worse]):
        alerts.observe(ledger, [one], scopes=[Scope.FRESHNESS], now=NOW + minutes * MINUTE)
        deliver(ledger, now=NOW + minutes * MINUTE)
    assert [message["title"].split(":")[0] for message in webhook.messages] == ["Warning", "Critical"]


def test_a_scope_that_was_not_judged_resolves_nothing(ledger: Ledger) -> None:
    alerts.observe(ledger, [LATE], scopes=[Scope.FRESHNESS], now=NOW)
    alerts.observe(ledger, [], scopes=[Scope.BACKLOG], now=NOW + 10 * MINUTE)
    assert alerts.count_alerts(ledger)[0][Severity.WARNING] == 1


def test_a_channel_that_is_down_gets_the_message_later(ledger: Ledger, webhook: Webhook) -> None:
    webhook.is_up = False
    alerts.observe(ledger, [LATE], scopes=[Scope.FRESHNESS], now=NOW)
    assert deliver(ledger, now=NOW).failed == 1
    (row,) = alerts.list_alerts(ledger, state=AlertState.FIRING)
    assert (row.pending, row.attempts, row.error) == (True, 1, "json: the channel did not accept the message")
    assert alerts.count_alerts(ledger)[1] == 1
    webhook.is_up = True
    assert deliver(ledger, now=NOW).sent == 0, "not before its pause is over"
    assert deliver(ledger, now=NOW + MINUTE).sent == 1
    assert len(webhook.messages) == 1


def test_a_channel_that_accepted_a_message_gets_it_once(ledger: Ledger, webhook: Webhook) -> None:
    both = SecretStr(f"{webhook.url} json://127.0.0.1:9/")
    two = Ledger(ledger.engine, ledger.settings.model_copy(update={"alert_urls": both}))
    alerts.observe(two, [LATE], scopes=[Scope.FRESHNESS], now=NOW)
    for minutes in (0, 2, 4):
        assert deliver(two, now=NOW + minutes * MINUTE).failed == 1
    assert len(webhook.messages) == 1


def test_messages_beyond_the_rate_limit_are_sent_later(ledger: Ledger, webhook: Webhook) -> None:
    flood = [Condition(f"run/job-{n}", Severity.WARNING, f"Job {n} fails", "x", Runbook.FAILED_RUN) for n in range(8)]
    alerts.observe(ledger, flood, scopes=[Scope.RUN], now=NOW)
    assert deliver(ledger, now=NOW) == Delivery(sent=5, failed=0, postponed=3)
    deliver(ledger, now=NOW + 61 * MINUTE)
    assert len({message["title"] for message in webhook.messages}) == 8


def test_many_quarantined_uploads_are_an_alert(ledger: Ledger) -> None:
    found = [FoundUpload(f"s{n}", f"u{n}", "session-buddy", f"p{n}", "1", 1, NOW) for n in range(3)]
    ledger.add(found, found_by="listing", now=NOW)
    batch = claims.claim(ledger, run_id="r", now=NOW)
    assert batch is not None
    outcome = UploadOutcome(UploadState.QUARANTINED, reason="gzip_damaged", message="m")
    claims.finish(ledger, batch, {one.id: outcome for one in batch.uploads}, {}, rows=0, now=NOW)
    assert conditions.evaluate(ledger, now=NOW + MINUTE) == ["backlog/quarantine"]
    (row,) = alerts.list_alerts(ledger)
    assert "gzip_damaged 3" in row.detail
    assert all(f"s{n}/u{n}" in row.detail for n in range(3))


def test_a_dagster_that_does_not_answer_is_an_alert(ledger: Ledger) -> None:
    there = Ledger(
        ledger.engine,
        ledger.settings.model_copy(update={"dagster_url": "http://127.0.0.1:9", "backlog_age_seconds": 600}),
    )
    ledger.remember(SWEEP_ENDED, NOW.isoformat())
    for seconds in range(0, 180, 30):
        assert conditions.evaluate(there, now=NOW + timedelta(seconds=seconds)) == [], "it may be starting"
    assert conditions.evaluate(there, now=NOW + 3 * MINUTE) == ["dagster/webserver"]


def test_an_outage_that_nobody_confirmed_starts_again(ledger: Ledger) -> None:
    assert down_for(ledger, "x", is_up=False, now=NOW) == timedelta()
    assert down_for(ledger, "x", is_up=False, now=NOW + MINUTE) == MINUTE
    assert down_for(ledger, "x", is_up=False, now=NOW + 60 * MINUTE) == timedelta()
    assert down_for(ledger, "x", is_up=True, now=NOW + 61 * MINUTE) == timedelta()


def test_an_alert_is_notified_once_a_channel_accepted_its_message(ledger: Ledger, webhook: Webhook) -> None:
    webhook.is_up = False
    alerts.observe(ledger, [LATE], scopes=[Scope.FRESHNESS], now=NOW)
    deliver(ledger, now=NOW)
    assert not alerts.list_alerts(ledger)[0].is_notified
    webhook.is_up = True
    deliver(ledger, now=NOW + MINUTE)
    assert alerts.list_alerts(ledger)[0].is_notified
    alerts.observe(ledger, [], scopes=[Scope.FRESHNESS], now=NOW + 3 * MINUTE)
    assert not alerts.list_alerts(ledger)[0].is_notified, "nobody knows yet that it resolved"


def test_without_a_channel_nobody_is_notified(tmp_path: Path) -> None:
    with closing(Ledger.open(LakeSettings(home=tmp_path / "quiet"))) as quiet:
        alerts.observe(quiet, [LATE], scopes=[Scope.FRESHNESS], now=NOW)
        deliver(quiet, now=NOW)
        (alert,) = alerts.list_alerts(quiet)
    assert (alert.pending, alert.is_notified) == (False, False)


@pytest.mark.parametrize("ahead", [timedelta(days=3650), timedelta(hours=3), timedelta(minutes=40)])
def test_a_clock_that_was_ahead_holds_back_no_message(ledger: Ledger, webhook: Webhook, ahead: timedelta) -> None:
    webhook.is_up = False
    alerts.observe(ledger, [LATE], scopes=[Scope.FRESHNESS], now=NOW + ahead)
    deliver(ledger, now=NOW + ahead)
    ledger.remember(SENT_KEY, json.dumps([(NOW + ahead).timestamp()] * 5))
    webhook.is_up = True
    assert deliver(ledger, now=NOW).sent == 1
    alerts.observe(ledger, [], scopes=[Scope.FRESHNESS], now=NOW)
    assert deliver(ledger, now=NOW).sent == 1
    assert [message["title"].split(":")[0] for message in webhook.messages] == ["Warning", "Resolved"]


def test_a_clock_that_was_ahead_hides_no_outage(ledger: Ledger) -> None:
    assert down_for(ledger, "x", is_up=False, now=NOW + timedelta(days=3650)) == timedelta()
    assert down_for(ledger, "x", is_up=False, now=NOW) == timedelta()
    assert down_for(ledger, "x", is_up=False, now=NOW + MINUTE) == MINUTE


def test_an_inbox_that_is_not_listed_is_late_whether_or_not_dagster_answers(ledger: Ledger) -> None:
    ledger.remember(SWEEP_ENDED, NOW.isoformat())
    silent = Ledger(ledger.engine, ledger.settings.model_copy(update={"dagster_url": "http://127.0.0.1:9"}))
    for one in (ledger, silent):
        for minutes in (20, 21):
            conditions.evaluate(one, now=NOW + minutes * MINUTE)
        assert "sweep/late" in {alert.key for alert in alerts.list_alerts(one, state=AlertState.FIRING)}
        ledger.remember(SWEEP_ENDED, (NOW + 22 * MINUTE).isoformat())
        assert "sweep/late" in conditions.evaluate(one, now=NOW + 22 * MINUTE + timedelta(seconds=30))
        ledger.remember(SWEEP_ENDED, (NOW + timedelta(days=3650)).isoformat())


def test_a_lake_that_never_listed_an_inbox_and_expects_no_dagster_is_not_late(ledger: Ledger) -> None:
    for minutes in (0, 1, 2):
        assert conditions.evaluate(ledger, now=NOW + minutes * MINUTE) == []


def test_without_dagster_alerts_about_it_resolve(ledger: Ledger) -> None:
    alerts.observe(ledger, [LATE], scopes=[Scope.FRESHNESS], now=NOW)
    assert conditions.evaluate(ledger, now=NOW + 2 * MINUTE) == [LATE.key]


def test_a_table_log_that_cannot_be_read_is_found(lake: Lake) -> None:
    lake.create("lifecycle/warm")
    assert TierProbe(lake).errors() == {}
    (Path(lake.uri("lifecycle/warm")) / "_delta_log" / f"{0:020d}.json").write_text("not a commit")
    probe = TierProbe(lake)
    assert list(probe.errors()) == ["warm"]
    (condition,) = conditions.of_tiers(probe.errors())
    assert (condition.key, condition.runbook) == ("tier/unreadable", Runbook.TIER_UNREADABLE)


def test_a_store_that_hangs_delays_nobody(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(_lake: Lake, _address: str) -> None:
        answered.wait(30)

    monkeypatch.setattr(Lake, "open", hang)
    monkeypatch.setattr(tiers, "WAIT_SECONDS", 0.05)
    probe = TierProbe(lake)
    for _ in range(2):
        assert list(probe.errors()) == ["hot", "warm", "cold"]
    thread = probe._thread
    assert thread is not None
    answered.set()
    thread.join()
    assert probe.errors() == {}


def test_a_ledger_that_does_not_answer_is_sent_once_and_recorded_when_it_answers(
    ledger: Ledger, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm = LedgerAlarm(ledger.settings)
    error = LedgerUnavailable("sqlite:///x", "disk I/O error")
    alarm.failed(error, now=NOW)
    assert webhook.messages == [], "it may answer again at once"
    monkeypatch.setattr("akosha_assets.lake.watch.ledger_alarm.FIRES_AFTER_SECONDS", 0.0)
    webhook.is_up = False
    alarm.failed(error, now=NOW)
    webhook.is_up = True
    alarm._next_attempt = 0.0
    for _ in range(2):
        alarm.failed(error, now=NOW + MINUTE)
    assert [message["title"] for message in webhook.messages] == ["Critical: The ledger does not answer"]
    assert "ledger-unreachable.md" in webhook.messages[0]["message"]
    alarm.answered(ledger, now=NOW + 2 * MINUTE)
    deliver(ledger, now=NOW + 2 * MINUTE)
    assert [message["title"] for message in webhook.messages[1:]] == ["Resolved: The ledger does not answer"]
    (alert,) = alerts.list_alerts(ledger)
    assert (alert.key, alert.state, alert.fired_at) == ("ledger/unreachable", AlertState.RESOLVED, NOW)


def test_a_sensor_that_never_ticks_and_a_tick_that_was_missed_are_found(ledger: Ledger) -> None:
    state = Orchestration(never_ticked=["upload_sensor"], missed_ticks={"embed_schedule": NOW.timestamp()})

    def found(seconds: int) -> dict[str, Severity]:
        conditions = of_missing_ticks(ledger, state, now=NOW + timedelta(seconds=seconds))
        assert {condition.runbook for condition in conditions} == {Runbook.MISSING_TICKS}
        return {condition.key: condition.severity for condition in conditions}

    missed = {"schedule/embed_schedule": Severity.WARNING}
    assert all(found(seconds) == missed for seconds in range(0, 300, 30)), "a sensor that was just started"
    assert found(300) == missed | {"sensor/upload_sensor": Severity.CRITICAL}


def test_every_late_or_failing_duty_leads_to_its_own_runbook() -> None:
    state = Orchestration(
        freshness={"lifecycle/embeddings": "degraded", "lifecycle/aging": "warning", "upkeep/restore_drill": "warning"},
        failed_checks=[FailedCheck("lifecycle/cold", "recall_at_10", "ERROR", "0.5 is too low")],
        failing={"days_due": "sensor"},
        stopped={"upload_sensor": "sensor"},
    )
    assert {condition.key: condition.runbook for condition in of_dagster(state)} == {
        "freshness/lifecycle/embeddings": Runbook.EMBEDDINGS_LATE,
        "freshness/lifecycle/aging": Runbook.AGING_LATE,
        "freshness/upkeep/restore_drill": Runbook.FAILED_RUN,
        "check/lifecycle/cold/recall_at_10": Runbook.RECALL_CHECK_FAILED,
        "tick/days_due": Runbook.FAILING_TICKS,
        "stopped/upload_sensor": Runbook.SENSOR_OR_SCHEDULE_STOPPED,
    }


def test_failed_runs_and_checks_late_assets_and_silent_daemons_are_alerts() -> None:
    state = Orchestration(
        failed_last={"ingest": "0123456789"},
        failed_checks=[
            FailedCheck("lifecycle/warm", "recall_at_10", "ERROR", "0.5 is too low"),
            # The backlog is judged from the ledger.
            FailedCheck("ingestion/backlog", "waiting_uploads", "ERROR", "60,000 uploads wait"),
        ],
        freshness={"ingestion/backlog": "degraded", "lifecycle/aging": "healthy", "lifecycle/embeddings": "unknown"},
        heartbeat_seconds={"sensor": 5, "freshness_daemon": 600},
        sensor_lag_seconds={"upload_sensor": 1},
    )
    found = {one.key: one.severity for one in of_dagster(state)}
    assert found == {
        "run/ingest": Severity.WARNING,
        "check/lifecycle/warm/recall_at_10": Severity.CRITICAL,
        "freshness/ingestion/backlog": Severity.CRITICAL,
        "daemon/freshness_daemon": Severity.CRITICAL,
    }


def test_without_a_channel_no_message_is_pending(tmp_path: Path) -> None:
    quiet = Ledger.open(LakeSettings(home=tmp_path / "quiet"))
    alerts.observe(quiet, [LATE], scopes=[Scope.FRESHNESS], now=NOW)
    deliver(quiet, now=NOW)
    assert alerts.count_alerts(quiet) == ({Severity.WARNING: 1, Severity.CRITICAL: 0}, 0)
    quiet.close()
