"""Rows whose event time is assumed: a new one may be dated far too early, so it stays where it is for a day.

A later snapshot can prove the right time meanwhile. Aging would cut the row's text and retention would delete it.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

from akosha_assets.lake import days, quoting
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.lifecycle.placement import address
from akosha_assets.lake.tiers import Tier

# Values of occurred_from for times that no source states with a zone and no proof supports.
ASSUMED = ("snapshot", "local_assumed_utc")
STAYS = timedelta(days=1)


def new_rows(today: date) -> str:
    """SQL that is true for rows with an assumed time that arrived yesterday or later."""
    since = datetime(today.year, today.month, today.day, tzinfo=UTC) - STAYS
    return (
        f"occurred_from IN ({quoting.literals(list(ASSUMED))}) "
        f"AND arrived_at >= to_timestamp_micros({int(since.timestamp() * 1e6)})"
    )


def days_with_new_rows(lake: Lake, event_days: Collection[date], today: date) -> set[date]:
    """Those of `event_days` that have such rows in hot. Reads data files of these days only."""
    if not event_days:
        return set()
    rows = lake.select(address(Tier.HOT), ["event_day"], days.predicate(event_days, new_rows(today)))
    return set(rows["event_day"].unique().to_pylist())
