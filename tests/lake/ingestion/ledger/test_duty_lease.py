"""A duty is held by one process at a time, however many ask and however one ends."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from akosha_assets.lake.ingestion.ledger import duty_lease
from akosha_assets.lake.ingestion.ledger.duty_lease import LEASE, Duty, hold
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings


@pytest.fixture
def ledger(settings: LakeSettings) -> Iterator[Ledger]:
    opened = Ledger.open(settings)
    yield opened
    opened.close()


def test_only_one_holds_a_duty_and_its_end_frees_it(ledger: Ledger) -> None:
    with hold(ledger, Duty.EMBED) as first, hold(ledger, Duty.EMBED) as second, hold(ledger, Duty.VACUUM) as other:
        assert first is not None and second is None and other is not None
    with hold(ledger, Duty.EMBED) as again:
        assert again is not None and again.extend()


def held_until(ledger: Ledger, until: datetime) -> None:
    ledger.remember("lease/embed", json.dumps({"owner": "dead", "until": until.isoformat()}))


def test_a_lease_of_a_dead_process_ends_and_one_of_a_clock_ahead_counts_for_nothing(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    held_until(ledger, now + LEASE / 2)
    with hold(ledger, Duty.EMBED) as lease:
        assert lease is None
    for until in (now - timedelta(seconds=1), now + timedelta(days=3650)):
        held_until(ledger, until)
        with hold(ledger, Duty.EMBED) as lease:
            assert lease is not None


def test_a_process_that_was_taken_over_learns_of_it(ledger: Ledger) -> None:
    with hold(ledger, Duty.EMBED) as lease:
        assert lease is not None
        held_until(ledger, datetime.now(UTC) + LEASE)
        lease.extended_at -= duty_lease.EXTEND_AFTER
        assert not lease.extend()
    # The end of one that lost its lease does not free that of the other.
    with hold(ledger, Duty.EMBED) as other:
        assert other is None
