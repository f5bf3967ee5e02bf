"""Only one process at a time holds the lease on a duty."""

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


def test_only_one_process_holds_a_lease_and_its_exit_releases_it(ledger: Ledger) -> None:
    with hold(ledger, Duty.EMBED) as first, hold(ledger, Duty.EMBED) as second, hold(ledger, Duty.VACUUM) as other:
        assert first is not None and second is None and other is not None
    with hold(ledger, Duty.EMBED) as again:
        assert again is not None and again.extend()


def store_lease(ledger: Ledger, until: datetime) -> None:
    ledger.remember("lease/embed", json.dumps({"owner": "dead", "until": until.isoformat()}))


def test_a_lease_of_a_dead_process_ends_and_one_of_a_clock_ahead_does_not_count(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    store_lease(ledger, now + LEASE / 2)
    with hold(ledger, Duty.EMBED) as lease:
        assert lease is None
    for until in (now - timedelta(seconds=1), now + timedelta(days=3650)):
        store_lease(ledger, until)
        with hold(ledger, Duty.EMBED) as lease:
            assert lease is not None


def test_a_process_whose_lease_was_taken_over_cannot_extend_it(ledger: Ledger) -> None:
    with hold(ledger, Duty.EMBED) as lease:
        assert lease is not None
        store_lease(ledger, datetime.now(UTC) + LEASE)
        lease.extended_at -= duty_lease.EXTEND_AFTER
        assert not lease.extend()
    # The exit of a process that lost its lease does not release that of the new owner.
    with hold(ledger, Duty.EMBED) as other:
        assert other is None
