"""Times of commits: from the log itself, ascending whatever the clocks of writers say, and found without reading a
whole log.
"""

from datetime import timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.serving.table_log import commit_times
from akosha_assets.lake.serving.table_log.commit_times import CommitTimes
from tests.hot_rows import NOW, commit, memory, set_commit_time

HOT = "lifecycle/hot"
BEGUN = NOW - timedelta(days=2)


def logged(lake: Lake, *seconds: float | None) -> CommitTimes:
    """A table whose versions were committed at these offsets from `BEGUN`, by its log; None: without a time."""
    for number in range(1, len(seconds)):
        commit(lake, number, memory(str(number), "text"))
    for version, second in enumerate(seconds):
        set_commit_time(lake, HOT, version, None if second is None else BEGUN + timedelta(seconds=second))
    return CommitTimes(ObjectStore(f"{lake.settings.lake()}/{HOT}"))


def seconds_at(times: CommitTimes, versions: int) -> list[float | None]:
    found = [times.at(version) for version in range(versions)]
    return [None if at is None else (at - BEGUN).total_seconds() for at in found]


def entry(lake: Lake, version: int) -> Path:
    return Path(lake.uri(HOT)) / f"_delta_log/{version:020d}.json"


def test_a_commit_is_later_than_the_one_before_it_even_if_its_clock_is_behind(lake: Lake) -> None:
    times = logged(lake, 0, 10, 10, 4, 20)
    assert seconds_at(times, 5) == [0, 10, 10.001, 10.002, 20]
    assert times.at(5) is None


def test_the_commit_time_of_a_version_selects_it(lake: Lake) -> None:
    times = logged(lake, 0, 10, 10, 40, 25, 30, 50, 50.5)
    for version in range(8):
        at = times.at(version)
        assert at is not None
        assert times.last_until(at, 0, 7) == version
    # Versions 4 to 6 were committed after 3, so none of them existed before 3.
    assert times.last_until(BEGUN + timedelta(seconds=35), 0, 7) == 2
    assert times.last_until(BEGUN + timedelta(seconds=45), 0, 7) == 5


def test_a_commit_without_a_time_comes_right_after_the_one_before_it(lake: Lake) -> None:
    times = logged(lake, None, 10, None, 20)
    assert seconds_at(times, 4) == [None, 10, 10.001, 20]
    assert times.last_until(BEGUN + timedelta(seconds=15), 1, 3) == 2


def test_a_clock_far_ahead_affects_the_commits_of_one_minute_only(lake: Lake) -> None:
    times = logged(lake, 0, 10, 7200, 15, 90, 100)
    assert seconds_at(times, 6) == [0, 10, 7200, 7200.001, 90, 100]
    assert times.last_until(BEGUN + timedelta(seconds=95), 0, 5) == 4


def test_a_clock_far_behind_is_ignored(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_times, "ENTRIES_BACK", 3)
    times = logged(lake, 0, *range(100, 900, 100), 50)
    assert times.last_until(BEGUN + timedelta(seconds=60), 0, 9) == 0
    assert seconds_at(times, 10)[-1] == 800.001


def test_one_question_reads_a_few_entries_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "_delta_log"
    log.mkdir()
    for version in range(20_000):
        at = int((BEGUN + timedelta(seconds=5 * version)).timestamp() * 1000)
        (log / f"{version:020d}.json").write_text(f'{{"commitInfo":{{"timestamp":{at},"operation":"WRITE"}}}}\n')
    times = CommitTimes(ObjectStore(tmp_path.as_uri()))
    assert times.last_until(BEGUN + timedelta(seconds=5 * 12_345 + 2), 0, 19_999) == 12_345
    assert len(times._read) < 40
    assert times.at(19_999) == BEGUN + timedelta(seconds=5 * 19_999)
    assert len(times._read) < 60
