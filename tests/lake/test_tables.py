"""Creating tables from several processes at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.schemas import HOT
from akosha_assets.lake.settings import LakeSettings

ATTEMPTS, CREATORS = 10, 3


def test_processes_that_create_one_table_at_once_get_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in range(ATTEMPTS):
        monkeypatch.setenv("AKOSHA_HOME", str(tmp_path / str(attempt)))
        ready = Barrier(CREATORS)

        def create(lake: Lake, ready: Barrier = ready) -> str:
            ready.wait()
            return str(lake.create(HOT.address).metadata().id)

        lakes = [Lake(LakeSettings()) for _ in range(CREATORS)]
        with ThreadPoolExecutor(CREATORS) as pool:
            assert len(set(pool.map(create, lakes))) == 1
