"""A clock that jumps ahead and back holds no batch, keeps no upload waiting and drops no later change."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion import batch as batches
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger import claims
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import systems, uploads
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
    """An upload with one memory that keeps its id and one that is its snapshot's alone."""
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
def test_what_was_taken_in_while_the_clock_was_ahead_is_replaced_by_what_comes_later(
    settings: LakeSettings, is_known: bool
) -> None:
    take_in(settings, text="future", at=AT + TEN_YEARS, is_ahead=True)
    if not is_known:
        # As after a crash: what is known is read from the tables.
        with Ledger.open(settings).write() as connection:
            connection.execute(sa.update(systems).values(is_known=False))
    for hours, text in ((0, "first"), (1, "second")):
        take_in(settings, text=text, at=AT + timedelta(hours=hours))
        assert memories(settings)["kept"] == text
    # In order again: an older snapshot changes nothing.
    take_in(settings, text="older", at=AT - timedelta(hours=1))
    assert memories(settings)["kept"] == "second"
    gone = Lake(settings).select("ingestion/absences", ["id", "is_absent"]).to_pylist()
    assert {"id": "of future", "is_absent": True} in gone


def test_an_upload_that_was_found_while_the_clock_was_ahead_does_not_shut_out_later_ones(
    settings: LakeSettings,
) -> None:
    make_upload(settings.home / "inbox", "a", reflections=[{"id": "kept", "content": "old"}], at=AT + TEN_YEARS)
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=ahead(), whole=True)
    batch = claims.claim(ledger, run_id="run", now=datetime.now(UTC))
    assert batch is not None
    assert batch.uploads[0].snapshot_at < datetime.now(UTC) + timedelta(minutes=1)


@pytest.mark.parametrize("is_committing", [True, False])
def test_a_batch_that_was_claimed_while_the_clock_was_ahead_is_given_back(
    settings: LakeSettings, is_committing: bool
) -> None:
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


def test_a_lease_of_a_clock_that_is_a_little_ahead_holds(settings: LakeSettings) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
    assert claims.claim(ledger, run_id="lives", now=datetime.now(UTC) + timedelta(minutes=5)) is not None
    assert claims.recover(ledger, lambda _: None, now=datetime.now(UTC)) == 0


def test_a_pause_that_began_while_the_clock_was_ahead_is_over(settings: LakeSettings) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC), whole=True)
    for at, is_due in ((datetime.now(UTC) + timedelta(minutes=4), False), (ahead(), True)):
        with ledger.write() as connection:
            connection.execute(sa.update(uploads).values(not_before=at))
        assert claims.anything_due(ledger, now=datetime.now(UTC)) is is_due
