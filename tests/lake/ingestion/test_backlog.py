"""The history of the backlog is computed from the ledger and compared with the limits."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.ingestion.backlog import history, is_caught_up, judge_age, judge_size, measure
from akosha_assets.lake.ingestion.ledger import claims, replay
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import SWEEP_ENDED, Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import conditions

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ledger(ledger_url: str, tmp_path: Path) -> Iterator[Ledger]:
    settings = LakeSettings(
        home=tmp_path,
        ledger_url=ledger_url,
        batch_uploads=2,
        backlog_warn_uploads=3,
        backlog_warn_for_seconds=300,
        backlog_error_uploads=5,
        backlog_error_for_seconds=120,
    )
    opened = Ledger.open(settings)
    yield opened
    opened.close()


def upload(ledger: Ledger, numbers: range, at: datetime) -> None:
    ledger.add(
        [FoundUpload(f"s{n}", f"u{n}", "session-buddy", f"systems/s{n}/uploads/u{n}", "1", 10, at) for n in numbers],
        found_by="listing",
        now=at,
    )


def test_history_counts_arrivals_ingestions_and_quarantines(ledger: Ledger) -> None:
    upload(ledger, range(4), NOW - 5 * MINUTE)
    batch = claims.claim(ledger, run_id="r", now=NOW - 3 * MINUTE)
    assert batch is not None
    outcomes = {
        batch.uploads[0].id: UploadOutcome(UploadState.INGESTED),
        batch.uploads[1].id: UploadOutcome(UploadState.QUARANTINED, reason="gzip_damaged", message="m"),
    }
    claims.finish(ledger, batch, outcomes, {}, rows=0, now=NOW - 2.5 * MINUTE)
    upload(ledger, range(4, 5), NOW - 0.5 * MINUTE)
    points = history(ledger, now=NOW, span=7 * MINUTE, step=MINUTE)
    assert [(NOW - point.at) // MINUTE for point in points] == [6, 5, 4, 3, 2, 1, 0]
    assert [point.waiting for point in points] == [0, 4, 4, 3, 2, 2, 3]
    assert sum(point.arrived for point in points) == 5
    assert sum(point.drained for point in points) == 2


def test_a_backlog_that_grew_while_nothing_ran_is_detected_at_once(ledger: Ledger) -> None:
    upload(ledger, range(6), NOW)
    assert judge_size(ledger, measure(ledger, now=NOW + MINUTE)).level == "ok", "too recent"
    assert judge_size(ledger, measure(ledger, now=NOW + 3 * MINUTE)).level == "error"
    batch = claims.claim(ledger, run_id="r", now=NOW + 3 * MINUTE)
    assert batch is not None
    claims.finish(
        ledger,
        batch,
        {one.id: UploadOutcome(UploadState.INGESTED) for one in batch.uploads},
        {},
        rows=0,
        now=NOW + 3 * MINUTE,
    )
    assert judge_size(ledger, measure(ledger, now=NOW + 4 * MINUTE)).level == "ok", (
        "4 wait, but for less than five minutes"
    )
    assert judge_size(ledger, measure(ledger, now=NOW + 6 * MINUTE)).level == "warn"


def test_ingestion_with_one_old_upload_is_not_caught_up(ledger: Ledger) -> None:
    upload(ledger, range(1), NOW)
    ledger.remember(SWEEP_ENDED, NOW.isoformat())
    young, old, ancient = (measure(ledger, now=NOW + minutes * MINUTE) for minutes in (1, 6, 31))
    assert is_caught_up(young, ledger.settings)
    assert not is_caught_up(old, ledger.settings)
    assert [judge_age(ledger.settings, one).level for one in (young, old, ancient)] == ["ok", "warn", "error"]


def finish_all(ledger: Ledger, state: str, at: datetime) -> None:
    """Claims every waiting upload and finishes it a minute later in `state`."""
    while batch := claims.claim(ledger, run_id="r", now=at):
        outcome = UploadOutcome(UploadState(state), reason="gzip_damaged" if state == "quarantined" else None)
        claims.finish(ledger, batch, {one.id: outcome for one in batch.uploads}, {}, rows=0, now=at + MINUTE)


@pytest.mark.parametrize("state", ["quarantined", "ingested"])
def test_a_requeued_upload_waits_since_its_redrive_or_replay(ledger: Ledger, state: str) -> None:
    long_ago = NOW - timedelta(days=9)
    upload(ledger, range(8), long_ago)
    finish_all(ledger, state, long_ago + MINUTE)
    if state == "quarantined":
        assert len(ledger.redrive(reason="gzip_damaged", dry_run=False, now=NOW - MINUTE)) == 8
    else:
        assert replay.requeue_day(ledger, long_ago.date(), now=NOW - MINUTE).waiting == 8
    measured = measure(ledger, now=NOW)
    assert measured.oldest_waiting_seconds == 60
    assert measured.arrivals_per_second == pytest.approx(8 / 300)
    assert judge_age(ledger.settings, measured).level == judge_size(ledger, measured).level == "ok"
    assert [point.waiting for point in history(ledger, now=NOW, span=3 * MINUTE, step=MINUTE)] == [0, 8, 8]

    finish_all(ledger, "ingested", NOW + MINUTE)
    later = NOW + 3 * MINUTE
    assert measure(ledger, now=later).drained_per_second == pytest.approx(8 / 300)
    assert [point.waiting for point in history(ledger, now=later, span=5 * MINUTE, step=MINUTE)] == [8, 8, 0, 0, 0]


@pytest.mark.parametrize("wrong", [datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(days=3650)])
def test_an_upload_found_while_the_clock_was_wrong_waits_since_the_next_claim(ledger: Ledger, wrong: datetime) -> None:
    upload(ledger, range(4), wrong)
    assert measure(ledger, now=NOW).oldest_waiting_at is None
    assert claims.claim(ledger, run_id="r", now=NOW) is not None
    assert measure(ledger, now=NOW + MINUTE).oldest_waiting_seconds == 60


def test_ingestion_is_not_caught_up_without_a_recent_complete_listing(ledger: Ledger) -> None:
    assert not is_caught_up(measure(ledger, now=NOW), ledger.settings)
    ledger.remember(SWEEP_ENDED, NOW.isoformat())
    assert is_caught_up(measure(ledger, now=NOW + MINUTE), ledger.settings)
    late = NOW + timedelta(seconds=ledger.settings.backlog_age_seconds + 1)
    assert not is_caught_up(measure(ledger, now=late), ledger.settings)
    (alert,) = conditions.of_sweeps(ledger, measure(ledger, now=late))
    assert (alert.key, alert.runbook) == ("sweep/late", "inbox-not-listed")
