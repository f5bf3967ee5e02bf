"""`GET /api/v1/explain`: why a memory is in its tier."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.lake.lifecycle.memories import hot_rows, store


def test_a_memory_explains_its_tier_and_an_unknown_one_is_a_problem(
    serve: Callable[..., httpx.Client], tmp_path: Path
) -> None:
    lake = Lake(LakeSettings(home=tmp_path))
    day = datetime.now(UTC).date() - timedelta(days=9)
    store(lake, hot_rows(day, 3))
    client = serve(lake)
    found = client.get("/api/v1/explain/system-1/conversation/id-000001").json()
    assert (found["tier"], found["next_tier"], found["upload_id"]) == ("hot", "warm", "upload-1")
    assert "belongs in warm" in found["reason"] and found["moves_on"] == str(day + timedelta(days=7))
    assert client.get("/api/v1/explain/system-1/conversation/nobody").status_code == 404
