"""A store failure while a day changes, in a read or in upkeep is StoreUnavailable; other errors stay unchanged."""

from collections.abc import Callable, Iterator
from datetime import date

import pytest
from deltalake.exceptions import DeltaError

from akosha_assets.lake import days, tables
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings
from tests.faulty_bucket import Faults, faulty_bucket
from tests.hot_rows import NOW, commit, memory


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    with faulty_bucket("days", monkeypatch) as faults:
        yield faults


@pytest.fixture
def lake(bucket: Faults, tmp_path: object) -> Lake:
    made = Lake(LakeSettings(home=str(tmp_path), lake_url=f"{bucket.url}/lake"))
    for number in range(2):
        commit(made, number + 1, memory(f"m{number}", f"text {number}"))
    return made


def replace(lake: Lake, day: date) -> None:
    batches = lake.select(HOT.address, HOT.schema.names).to_batches()
    days.replace(lake.create(HOT.address), HOT, batches, days.predicate(day), writer="test", metadata={})


def append(lake: Lake, day: date) -> None:
    rows = lake.select(HOT.address, HOT.schema.names, days.predicate(day))
    days.append(lake.create(HOT.address), rows, writer="test", metadata={})


def remove(lake: Lake, day: date) -> None:
    days.remove(lake.create(HOT.address), days.predicate(day, "id = 'm0'"), writer="test", metadata={})


def clean(lake: Lake, day: date) -> None:
    tables.clean_log(lake.create(HOT.address))


def pack(lake: Lake, day: date) -> None:
    tables.pack(lake.create(HOT.address), None, file_bytes=1 << 20, row_group_rows=1024)


@pytest.mark.parametrize("change", [replace, append, remove, clean, pack])
def test_a_store_that_refuses_writes_is_unavailable(
    lake: Lake, bucket: Faults, change: Callable[[Lake, date], None]
) -> None:
    bucket.begin(403, "AccessDenied", methods=("PUT", "POST"))
    with pytest.raises(StoreUnavailable):
        change(lake, NOW.date())
    bucket.end()
    assert lake.select(HOT.address, ["id"]).num_rows == 2


def test_a_missing_data_file_makes_a_read_fail_as_store_unavailable(lake: Lake, bucket: Faults) -> None:
    bucket.begin(404, "NoSuchKey", methods=("GET", "HEAD"), path=".parquet")
    table = lake.create(HOT.address)
    with pytest.raises(StoreUnavailable):
        list(days.stream(table, HOT, ["id"], days.predicate(NOW.date())))


def test_an_error_of_the_request_is_not_blamed_on_the_store(lake: Lake) -> None:
    with pytest.raises(DeltaError):
        days.remove(lake.create(HOT.address), "no_such_column = 1", writer="test", metadata={})
