"""Event times: which evidence wins, and which offset a client's clock is proven to have."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.ingestion.source.event_times import MISSING, OCCURRED_FROM, Anchors, resolve, ulid_times

SNAPSHOT = datetime(2026, 12, 1, tzinfo=UTC)


def us(moment: datetime) -> int:
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000_000)


def local_us(moment: datetime, zone: tzinfo) -> int:
    return us(moment.astimezone(zone).replace(tzinfo=UTC))


def ulid(moment: datetime) -> str:
    value, letters = int(moment.timestamp() * 1000), ""
    for _ in range(10):
        value, rest = divmod(value, 32)
        letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[rest] + letters
    return letters + "0123456789ABCDEF"


def array(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def anchors(zone: tzinfo, *moments: datetime) -> Anchors:
    local = array(*(local_us(moment, zone) + 5000 for moment in moments))
    return Anchors.merged([Anchors.proven(local, array(*(us(moment) for moment in moments)), us(SNAPSHOT))])


def test_the_time_of_a_ulid_is_decoded() -> None:
    moment = datetime(2026, 11, 23, 11, 37, 44, 961000, tzinfo=UTC)

    times = ulid_times(pa.array([ulid(moment), ulid(moment).lower(), "no ulid", None, "U" * 26, "f" * 26]))

    assert times.tolist() == [us(moment), us(moment), MISSING, MISSING, MISSING, MISSING]


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kolkata", "Pacific/Auckland", "UTC"])
def test_naive_times_are_shifted_by_the_nearest_proven_offset(zone: str) -> None:
    client_zone = ZoneInfo(zone)
    summer, winter = datetime(2026, 7, 1, 9, tzinfo=UTC), datetime(2026, 11, 20, 9, tzinfo=UTC)
    clock = anchors(client_zone, summer, winter)
    expected = [summer - timedelta(days=20), summer + timedelta(days=3), winter + timedelta(hours=2)]
    local = array(*(local_us(moment, client_zone) for moment in expected))
    nothing = np.full(3, MISSING)

    times = resolve(local, nothing, nothing, clock, us(SNAPSHOT))

    assert times.occurred_us.tolist() == [us(moment) for moment in expected]
    assert OCCURRED_FROM.take(pa.array(times.occurred_from)).to_pylist() == ["ulid_offset"] * 3


def test_a_row_whose_time_was_edited_proves_no_offset() -> None:
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    local = array(us(moment - timedelta(days=100)), us(moment - timedelta(hours=5, minutes=7)))

    assert len(Anchors.proven(local, array(us(moment), us(moment)), us(SNAPSHOT)).local_us) == 0


def test_each_kind_of_evidence_is_recorded() -> None:
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    none = Anchors.merged([])
    local = array(us(moment), us(moment), us(moment), MISSING, MISSING, us(moment - timedelta(days=50)))
    utc = array(MISSING, us(moment) + 7, MISSING, MISSING, MISSING, MISSING)
    ids = array(MISSING, MISSING, us(moment) + 1000, us(moment) + 2000, MISSING, us(moment))

    times = resolve(local, utc, ids, none, us(SNAPSHOT))

    evidence = OCCURRED_FROM.take(pa.array(times.occurred_from)).to_pylist()
    assert evidence == ["local_assumed_utc", "utc", "ulid", "ulid", "snapshot", "local_assumed_utc"]
    expected = [
        us(moment),
        us(moment) + 7,
        us(moment) + 1000,
        us(moment) + 2000,
        us(SNAPSHOT),
        us(moment - timedelta(days=50)),
    ]
    assert times.occurred_us.tolist() == expected
    assert not times.out_of_range.any()


@pytest.mark.parametrize("moment", ["1900-01-01", "1999-12-31", "2026-12-02T01:00:00", "9999-12-31"])
def test_implausible_times_fall_back_to_the_snapshot_and_are_marked(moment: str) -> None:
    nothing = np.full(1, MISSING)

    times = resolve(array(us(datetime.fromisoformat(moment))), nothing, nothing, Anchors.merged([]), us(SNAPSHOT))

    assert times.occurred_us.tolist() == [us(SNAPSHOT)]
    assert times.out_of_range.all()
