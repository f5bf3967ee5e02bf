"""Zones: local times are right in both halves of the year, wherever the proofs lie."""

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from akosha_assets.lake.ingestion.source.event_times import (
    PROOF_TOLERANCE_US,
    ULID_OFFSET,
    ZONE_INFERRED,
    Anchors,
    Clock,
    resolve,
)
from akosha_assets.lake.ingestion.source.id_times import MISSING, NO_ID_TIME, IdTimes
from akosha_assets.lake.ingestion.source.zones import PREFERRED, zone_table

SNAPSHOT = datetime(2026, 12, 1, tzinfo=UTC)
WINTER = [datetime(2026, 11, 15, hour, tzinfo=UTC) for hour in range(5)]
SUMMER = [datetime(2026, 7, 15, hour, tzinfo=UTC) for hour in range(5)]


def us(moment: datetime) -> int:
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000_000)


def local_us(moment: datetime, zone: str) -> int:
    return us(moment.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC))


def resolved(zone: str, proofs: list[datetime], moments: list[datetime]) -> tuple[list[datetime], list[int]]:
    """Returns the UTC times of rows whose local times are those of `moments` in `zone`, and how they were derived."""
    return at_local([local_us(moment, zone) for moment in moments], Clock.of(anchors(zone, proofs)))


def anchors(zone: str, proofs: list[datetime]) -> Anchors:
    local = np.array([local_us(moment, zone) for moment in proofs])
    return Anchors.merged([Anchors.proven(local, np.array([us(moment) for moment in proofs]), us(SNAPSHOT))])


def at_local(local: list[int], clock: Clock) -> tuple[list[datetime], list[int]]:
    rows = len(local)
    ids = IdTimes(np.full(rows, MISSING), np.full(rows, NO_ID_TIME, np.int8))
    times = resolve(np.array(local), np.full(rows, MISSING), ids, clock, us(SNAPSHOT))
    moments = [datetime.fromtimestamp(at / 1_000_000, UTC) for at in times.occurred_us.tolist()]
    return moments, times.occurred_from.tolist()


@pytest.mark.parametrize("zone", [*PREFERRED, "Asia/Kolkata", "Asia/Kathmandu", "Pacific/Chatham", "Asia/Tokyo"])
@pytest.mark.parametrize(("proofs", "moments"), [(WINTER, SUMMER), (SUMMER, WINTER)], ids=["winter", "summer"])
def test_proofs_of_one_season_give_right_times_in_the_other(
    zone: str, proofs: list[datetime], moments: list[datetime]
) -> None:
    if zone in ("Europe/London", "Europe/Athens") and (zone == "Europe/London") == (proofs is WINTER):
        # Zones without daylight saving precede: UTC, and those of Moscow and Istanbul.
        return
    found, sources = resolved(zone, proofs, moments)
    assert found == moments
    has_changed = local_us(proofs[0], zone) - us(proofs[0]) != local_us(moments[0], zone) - us(moments[0])
    assert set(sources) == {ZONE_INFERRED if has_changed else ULID_OFFSET}


def test_without_a_preferred_zone_times_on_which_the_fitting_ones_differ_use_the_nearest_proof() -> None:
    assert not zone_table().is_preferred(int(Clock.of(anchors("America/Halifax", WINTER)).zones[0]))
    found, sources = resolved("America/Halifax", WINTER, SUMMER)
    assert found == [moment + timedelta(hours=1) for moment in SUMMER]
    assert set(sources) == {ULID_OFFSET}


def test_a_client_that_travels_uses_the_nearest_proof() -> None:
    at_home, away = WINTER, [moment - timedelta(days=60) for moment in WINTER]
    travelled = Anchors.merged([anchors("America/Los_Angeles", at_home), anchors("Asia/Kolkata", away)])
    clock = Clock.of(travelled)
    assert not len(clock.zones)
    local = [local_us(WINTER[0], "America/Los_Angeles") - 1, local_us(away[0], "Asia/Kolkata") - 1]
    found, _ = at_local(local, clock)
    assert found == [WINTER[0] - timedelta(microseconds=1), away[0] - timedelta(microseconds=1)]


def test_a_rule_that_was_abolished_counts_until_then() -> None:
    # Mexico has had no daylight saving since the end of October 2022.
    proofs = [datetime(2022, 7, 1, tzinfo=UTC), datetime(2023, 7, 1, tzinfo=UTC)]
    moments = [datetime(2021, 1, 10, tzinfo=UTC), datetime(2021, 7, 10, tzinfo=UTC), datetime(2025, 7, 10, tzinfo=UTC)]
    assert resolved("America/Mexico_City", proofs, moments)[0] == moments


@pytest.mark.parametrize(("proof", "hours"), [(SUMMER[0], 7), (WINTER[0], 8)])
def test_a_repeated_hour_counts_with_the_offset_of_the_nearest_proof(proof: datetime, hours: int) -> None:
    # In Los Angeles the hour from 01:00 to 02:00 of 2026-11-01 happened twice.
    local = datetime(2026, 11, 1, 1, 30, tzinfo=UTC)
    found, _ = at_local([us(local)], Clock.of(anchors("America/Los_Angeles", [proof])))
    assert found == [local + timedelta(hours=hours)]


@pytest.mark.parametrize("proof", [SUMMER[0], WINTER[0]])
def test_a_skipped_time_counts_with_the_offset_before_the_change(proof: datetime) -> None:
    local = datetime(2026, 3, 8, 2, 30, tzinfo=UTC)
    found, _ = at_local([us(local)], Clock.of(anchors("America/Los_Angeles", [proof])))
    assert found == [local + timedelta(hours=8)]


@cache
def offsets_of(zone: str) -> np.ndarray:
    """Returns the offset of `zone` at the start of each interval of the table: (intervals,) int64 microseconds."""
    starts = zone_table().starts_us.tolist()
    return np.array([local_us(datetime.fromtimestamp(at / 1_000_000, UTC), zone) - at for at in starts])


ZONES = sorted(
    name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "Antarctica/", "US/"))
)


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    minutes=st.lists(st.integers(0, 730 * 1440), min_size=1, max_size=30),
    proofs=st.integers(1, 12),
)
def test_times_of_any_zone_are_right_where_the_proofs_determine_them(
    zone: str, minutes: list[int], proofs: int
) -> None:
    moments = [SNAPSHOT - timedelta(minutes=one) for one in minutes]
    proven = anchors(zone, moments[:proofs])
    clock = Clock.of(proven)
    own = offsets_of(zone)
    (same,) = np.flatnonzero((zone_table().offsets_us == own).all(axis=1)).tolist() or [None]
    assert same in clock.zones.tolist()
    found, _ = at_local([local_us(moment, zone) for moment in moments], clock)
    intervals = zone_table().intervals(np.array([us(moment) for moment in moments]))
    for moment, interval, at in zip(moments, intervals.tolist(), found, strict=True):
        is_repeated = any(
            local_us(moment + timedelta(minutes=shift), zone) == local_us(moment, zone) for shift in (-60, -30, 30, 60)
        )
        agree = np.unique(zone_table().offsets_us[clock.zones, max(interval - 1, 0) : interval + 2]).size == 1
        if (agree or clock.zones[0] == same) and not is_repeated:
            assert at == moment


def test_a_proof_within_the_tolerance_of_a_change_fits_its_zone() -> None:
    change = datetime(2026, 11, 1, 9, tzinfo=UTC)
    proof = change - timedelta(seconds=1)
    clock = Clock.of(anchors("America/Los_Angeles", [proof]))
    late = Anchors(clock.anchors.local_us + PROOF_TOLERANCE_US // 2, clock.anchors.offset_us)
    assert zone_table().row_of["America/Los_Angeles"] in Clock.of(late).zones.tolist()
