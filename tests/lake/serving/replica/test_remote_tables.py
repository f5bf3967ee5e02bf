"""A lake in a bucket: data files are fetched once, and a replica serves them like those of a folder."""

from datetime import timedelta
from pathlib import Path

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.serving.query import Question
from akosha_assets.lake.serving.replica.replica import Replica
from akosha_assets.lake.serving.search.searcher import Searcher
from akosha_assets.lake.serving.sql.runner import SqlLimits, run
from akosha_assets.lake.settings import LakeSettings
from tests.bucket import bucket
from tests.hot_rows import NOW, commit, memory, upsert


def test_a_lake_in_a_bucket_is_served_from_fetched_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket("lake", monkeypatch) as url:
        lake = Lake(LakeSettings(home=tmp_path, lake_url=f"{url}/tables"))
        commit(lake, 1, memory("a", "one deadlock"), memory("b", "two", age=timedelta(days=30)))
        replica = Replica(lake, today=NOW.date)
        replica.refresh()
        fetched = sorted(path for path in (tmp_path / "cache" / "files").rglob("*.parquet"))
        assert len(fetched) == 2
        fetched[0].write_bytes(b"damaged")
        upsert(lake, 2, memory("a", "changed deadlock", snapshot_at=NOW + timedelta(hours=1)))
        replica.refresh()
        answer = Searcher(None).search(replica.snapshot, Question(text="deadlock", mode="keyword"))
        assert [result["text"] for result in answer.results] == ["changed deadlock"]
        replica.stop()
        assert run(
            lake, "SELECT count(*) AS n FROM hot WHERE text LIKE '%changed%'", SqlLimits()
        ).table.to_pylist() == [{"n": 1}]
