"""A clock that jumps ahead and back blocks no batch and no upload, and loses no later change."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import ClockWrong
from akosha_assets.lake.ingestion import arrivals, backlog
from akosha_assets.lake.ingestion import batch as batches
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import batches as ledger_batches
from akosha_assets.lake.ingestion.ledger.schema import systems, uploads
from akosha_assets.lake.ingestion.snapshot_times import corrected_snapshot_time, snapshot_time
from akosha_assets.lake.settings import LakeSettings
from tests.factories import make_upload

TEN_YEARS = timedelta(days=3650)
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ahead() -> datetime:
    return datetime.now(UTC) + TEN_YEARS


@pytest.fixture
def settings(tmp_path: Path) -> LakeSettings:
    return LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)


def take_in(settings: LakeSettings, *, text: str, at: datetime, is_ahead: bool = False) -> None:
    """An upload with one memory that is in every snapshot and one that is only in this snapshot."""
    reflections = [
        {"id": "kept", "content": text, "created_at": AT, "updated_at": AT},
        {"id": f"of {text}", "content": f"only {text}", "created_at": AT, "updated_at": AT},
    ]
    make_upload(settings.home / "inbox", "a", reflections=reflections, at=at)
    ledger = Ledger.open(settings)
    with pytest.MonkeyPatch.context() as patch:
        if is_ahead:
            patch.setattr(batches, "now", ahead)
            patch.setattr(arrivals, "now", ahead)
        listing.sweep(settings, ledger, now=ahead() if is_ahead else datetime.now(UTC), whole=True)
        arrivals.ingest(Lake(settings), ledger, run_id="run")


def memories(settings: LakeSettings) -> dict[str, str]:
    return {row["id"]: row["text"] for row in Lake(settings).select("lifecycle/hot", ["id", "text"]).to_pylist()}


@pytest.mark.parametrize("is_known", [True, False])
def test_rows_ingested_while_the_clock_was_ahead_are_replaced_by_later_ones(
    settings: LakeSettings, is_known: bool
) -> None:
    take_in(settings, text="future", at=AT + TEN_YEARS, is_ahead=True)
    if not is_known:
        # As after a crash: the known rows are read from the tables.
        with Ledger.open(settings).write() as connection:
            connection.execute(sa.update(systems).values(is_known=False))
    for hours, text in ((0, "first"), (1, "second")):
        take_in(settings, text=text, at=AT + timedelta(hours=hours))
        assert memories(settings)["kept"] == text
    # In order again: an older snapshot changes nothing.
    take_in(settings, text="older", at=AT - timedelta(hours=1))
    assert memories(settings)["kept"] == "second"
    absences = Lake(settings).select("ingestion/absences", ["id", "is_absent"]).to_pylist()
    assert {"id": "of future", "is_absent": True} in absences


def test_an_upload_found_while_the_clock_was_ahead_does_not_block_later_ones(
    settings: LakeSettings,
) -> None:
    make_upload(settings.home / "inbox", "a", reflections=[{"id": "kept", "content": "old"}], at=AT + TEN_YEARS)
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=ahead(), whole=True)
    batch = claims.claim(ledger, run_id="run", now=datetime.now(UTC))
    assert batch is not None
    assert batch.uploads[0].snapshot_at < datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize("is_committing", [True, False])
def test_a_batch_claimed_while_the_clock_was_ahead_is_released(settings: LakeSettings, is_committing: bool) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    lake, ledger = Lake(settings), Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
    batch = claims.claim(ledger, run_id="dies", now=ahead())
    assert batch is not None
    if is_committing:
        claims.begin_commit(ledger, batch, now=ahead())
    assert claims.anything_due(ledger, now=datetime.now(UTC))
    arrivals.ingest(lake, ledger, run_id="after")
    assert {row.state for row in ledger.uploads().uploads} == {"ingested"}


def test_nothing_is_ingested_while_the_clock_is_implausible(
    settings: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
    monkeypatch.setattr(arrivals, "now", lambda: datetime(1970, 1, 1, 0, 3, tzinfo=UTC))
    with pytest.raises(ClockWrong):
        arrivals.ingest(Lake(settings), ledger, run_id="run")
    (waiting,) = ledger.uploads().uploads
    assert (waiting.state, waiting.attempts) == ("waiting", 0)


@settings_of_hypothesis(max_examples=200, deadline=None)
@given(
    before=st.none() | st.integers(1, 330 * 86_400),
    seen_at=st.sampled_from([datetime(year, 12, 2, tzinfo=UTC) for year in (1970, 2021, 2026, 2036)]),
    later=st.timedeltas(timedelta(0), timedelta(days=30)),
)
def test_the_time_of_a_snapshot_is_corrected_when_it_is_claimed(
    before: int | None, seen_at: datetime, later: timedelta
) -> None:
    modified, now = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC) + later
    snapshot_at = None if before is None else datetime(2026, 12, 2, tzinfo=UTC) - timedelta(seconds=before)
    upload_id = f"{snapshot_at:%Y%m%d_%H%M%S}_a" if snapshot_at else "memory.db"
    found = snapshot_time(upload_id, fallback=modified, seen_at=seen_at)
    corrected = corrected_snapshot_time(upload_id, snapshot_at=found, seen_at=seen_at, now=now)
    assert corrected in ((snapshot_at,) if snapshot_at else (modified, now))
    assert corrected_snapshot_time(upload_id, snapshot_at=corrected, seen_at=now, now=now) == corrected


# Offsets of the clock during a run. Times before 2020 are refused.
CLOCKS = [timedelta(0), timedelta(hours=-1), timedelta(days=-700), timedelta(hours=1), TEN_YEARS]


@pytest.mark.parametrize("seed", [1, 2])
def test_after_any_clock_jumps_the_newest_rows_are_stored_and_nothing_stays_claimed(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    settings = LakeSettings(home=tmp_path, workers=1, embedding_seconds=0)
    lake, ledger = Lake(settings), Ledger.open(settings)
    started = datetime.now(UTC) - timedelta(days=1)

    def step(number: int, offset: timedelta) -> None:
        rows = [{"id": "kept", "content": f"form {number}"}, {"id": f"R{number}", "content": f"only in {number}"}]
        make_upload(settings.home / "inbox", "a", reflections=rows, at=started + timedelta(minutes=number))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "now", lambda: datetime.now(UTC) + offset)
            patch.setattr(arrivals, "now", lambda: datetime.now(UTC) + offset)
            listing.sweep(settings, ledger, now=datetime.now(UTC) + offset, whole=True)
            action = random.choice(["ingest", "die", "wait"]) if offset or number < 6 else "ingest"
            if action == "ingest":
                arrivals.ingest(lake, ledger, run_id=f"run {number}")
            elif action == "die" and (batch := claims.claim(ledger, run_id="dies", now=datetime.now(UTC) + offset)):
                claims.begin_commit(ledger, batch, now=datetime.now(UTC) + offset)

    for number in range(6):
        step(number, random.choice(CLOCKS))
    # A batch of a run that died while the clock was right stays claimed until its lease ends.
    with ledger.write() as connection:
        lease_ends = sa.update(ledger_batches).where(
            ledger_batches.c.lease_until < datetime.now(UTC) + timedelta(hours=1)
        )
        connection.execute(lease_ends.values(lease_until=datetime.now(UTC) - timedelta(seconds=1)))
    step(6, timedelta(0))
    assert {one.state for one in ledger.uploads().uploads} == {"ingested"}
    assert not backlog.measure(ledger, now=datetime.now(UTC)).live_batches
    assert memories(settings) == {"kept": "form 6"} | {f"R{number}": f"only in {number}" for number in range(7)}


def test_a_lease_of_a_clock_slightly_ahead_is_valid(settings: LakeSettings) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
    assert claims.claim(ledger, run_id="lives", now=datetime.now(UTC) + timedelta(minutes=5)) is not None
    assert claims.recover(ledger, lambda _: None, now=datetime.now(UTC)) == 0


def test_a_pause_that_started_while_the_clock_was_ahead_ends(settings: LakeSettings) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
    for at, is_due in ((datetime.now(UTC) + timedelta(minutes=4), False), (ahead(), True)):
        with ledger.write() as connection:
            connection.execute(sa.update(uploads).values(not_before=at))
        assert claims.anything_due(ledger, now=datetime.now(UTC)) is is_due
