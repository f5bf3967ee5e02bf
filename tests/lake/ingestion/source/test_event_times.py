"""Event times: which evidence wins, and which offset a client's clock is proven to have."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from akosha_assets.lake.ingestion.source.event_times import OCCURRED_FROM, Anchors, Clock, EventTimes, resolve
from akosha_assets.lake.ingestion.source.id_times import MISSING, NO_ID_TIME, ULID_ID, UUID7_ID, IdTimes, id_times

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


def clock_of(zone: tzinfo, *moments: datetime) -> Clock:
    local = array(*(local_us(moment, zone) + 5000 for moment in moments))
    return Clock.of(Anchors.merged([Anchors.proven(local, array(*(us(moment) for moment in moments)), us(SNAPSHOT))]))


def no_ids(rows: int) -> IdTimes:
    return IdTimes(np.full(rows, MISSING), np.full(rows, NO_ID_TIME, dtype=np.int8))


def evidence(times: EventTimes) -> list[str]:
    return list(OCCURRED_FROM.take(pa.array(times.occurred_from)).to_pylist())


def test_the_time_of_a_ulid_is_decoded() -> None:
    moment = datetime(2026, 11, 23, 11, 37, 44, 961000, tzinfo=UTC)

    times = id_times(pa.array([ulid(moment), ulid(moment).lower(), "no ulid", None, "U" * 26, "f" * 26]))

    assert times.times_us.tolist() == [us(moment), us(moment), MISSING, MISSING, MISSING, MISSING]


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kolkata", "Pacific/Auckland", "UTC"])
def test_naive_times_are_shifted_by_the_nearest_proven_offset(zone: str) -> None:
    client_zone = ZoneInfo(zone)
    summer, winter = datetime(2026, 7, 1, 9, tzinfo=UTC), datetime(2026, 11, 20, 9, tzinfo=UTC)
    clock = clock_of(client_zone, summer, winter)
    expected = [summer - timedelta(days=20), summer + timedelta(days=3), winter + timedelta(hours=2)]
    local = array(*(local_us(moment, client_zone) for moment in expected))
    nothing = np.full(3, MISSING)

    times = resolve(local, nothing, no_ids(3), clock, us(SNAPSHOT))

    assert times.occurred_us.tolist() == [us(moment) for moment in expected]
    assert evidence(times) == ["ulid_offset"] * 3


def test_a_row_whose_time_was_edited_proves_no_offset() -> None:
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    local = array(us(moment - timedelta(days=100)), us(moment - timedelta(hours=5, minutes=7)))

    assert len(Anchors.proven(local, array(us(moment), us(moment)), us(SNAPSHOT)).local_us) == 0


def test_each_kind_of_evidence_is_recorded() -> None:
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    local = array(us(moment), us(moment), us(moment), MISSING, MISSING, us(moment - timedelta(days=50)))
    utc = array(MISSING, us(moment) + 7, MISSING, MISSING, MISSING, MISSING)
    ids = IdTimes(
        array(MISSING, MISSING, us(moment) + 1000, us(moment) + 2000, MISSING, us(moment)),
        np.full(6, ULID_ID, dtype=np.int8),
    )

    clock = Clock.of(Anchors.merged([]), frozenset({ULID_ID}))
    times = resolve(local, utc, ids, clock, us(SNAPSHOT))

    assert evidence(times) == ["local_assumed_utc", "utc", "ulid", "ulid", "snapshot", "local_assumed_utc"]
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

    times = resolve(
        array(us(datetime.fromisoformat(moment))), nothing, no_ids(1), Clock.of(Anchors.merged([])), us(SNAPSHOT)
    )

    assert times.occurred_us.tolist() == [us(SNAPSHOT)]
    assert times.out_of_range.all()


def uuid7(moment: datetime, *, rest: str = "7abc8def0123456789ab") -> str:
    return f"{int(moment.timestamp() * 1000):012x}{rest}"


def dashed(text: str) -> str:
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])


def resolved(local: np.ndarray, ids: list[str]) -> EventTimes:
    found, nothing = id_times(pa.array(ids)), np.full(len(ids), MISSING)
    clock = Clock.proven(local, nothing, found, us(SNAPSHOT))
    return resolve(local, nothing, found, clock, us(SNAPSHOT))


def test_the_time_of_a_uuid7_is_decoded_with_and_without_dashes() -> None:
    moment = datetime(2026, 11, 23, 11, 37, 44, 961000, tzinfo=UTC)
    text = uuid7(moment)
    others = [uuid7(moment, rest="4abc8def0123456789ab"), uuid7(moment, rest="7abc0def0123456789ab"), "g" * 32]
    misplaced = dashed(text)[:8] + "0" + dashed(text)[9:]

    times = id_times(pa.array([text, text.upper(), dashed(text), *others, misplaced, None, ""]))

    assert times.times_us.tolist() == [us(moment)] * 3 + [MISSING] * 6
    assert times.kinds.tolist() == [UUID7_ID] * 3 + [NO_ID_TIME] * 6


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Kathmandu", "Australia/Adelaide", "UTC"])
def test_uuid7s_prove_the_offset_of_rows_without_one(zone: str) -> None:
    moments = [SNAPSHOT - timedelta(hours=hour) for hour in range(1, 5)]
    local = array(*(local_us(moment, ZoneInfo(zone)) for moment in moments))

    times = resolved(local, [uuid7(moments[0]), dashed(uuid7(moments[1])), "md5", "0123456789abcdef"])

    assert times.occurred_us.tolist() == [us(moment) for moment in moments]
    assert evidence(times) == ["uuid7", "uuid7", "ulid_offset", "ulid_offset"]


def test_a_minority_of_ids_that_agree_by_chance_proves_nothing() -> None:
    moments = [SNAPSHOT - timedelta(days=day) for day in range(1, 21)]
    # Of ids with times that a migration made up, three are a whole number of hours away from the local time.
    made_up = [moment - timedelta(hours=5) for moment in moments[:3]]
    made_up += [moment - timedelta(hours=5, minutes=7) for moment in moments[3:]]

    times = resolved(array(*map(us, moments)), [uuid7(moment) for moment in made_up])

    assert evidence(times) == ["local_assumed_utc"] * 20
    assert times.occurred_us.tolist() == [us(moment) for moment in moments]


def test_many_imported_rows_do_not_outweigh_the_proofs_of_new_ones() -> None:
    zone = ZoneInfo("Europe/Berlin")
    new = [SNAPSHOT - timedelta(hours=hour) for hour in range(10)]
    imported = [SNAPSHOT - timedelta(days=30 + day, hours=12) for day in range(200)]
    ids = [uuid7(moment) for moment in new] + [uuid7(SNAPSHOT)] * 200

    times = resolved(array(*(local_us(moment, zone) for moment in [*new, *imported])), ids)

    assert times.occurred_us.tolist() == [us(moment) for moment in [*new, *imported]]
    assert evidence(times)[:10] == ["uuid7"] * 10


def test_no_row_is_dated_by_a_uuid7_alone() -> None:
    moment = SNAPSHOT - timedelta(hours=1)

    times = resolved(array(us(moment), MISSING), [uuid7(moment), uuid7(moment - timedelta(days=90))])

    assert evidence(times) == ["uuid7", "snapshot"]


def test_each_kind_of_id_is_believed_by_its_own_rows() -> None:
    zone = ZoneInfo("America/New_York")
    moments = [SNAPSHOT - timedelta(hours=hour) for hour in range(8)]
    ids = [ulid(moment) for moment in moments[:4]] + [uuid7(moment - timedelta(days=400)) for moment in moments[4:]]

    times = resolved(array(*(local_us(moment, zone) for moment in moments)), ids)

    assert times.occurred_us.tolist() == [us(moment) for moment in moments]
    assert evidence(times) == ["ulid"] * 4 + ["ulid_offset"] * 4
