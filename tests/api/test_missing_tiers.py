"""If a table cannot be read, every route names the tiers whose rows may be missing, or refuses."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import until
from tests.api.test_mcp import answered, refused
from tests.api.test_routes import assert_problem
from tests.hot_rows import commit, commit_to_tier, memory

HOT = "/api/v1/memories/laptop-ada/conversation/h"
COLD = "/api/v1/memories/laptop-bob/conversation/c"


def filled_lake(home: Path) -> Lake:
    lake = Lake(LakeSettings(home=home))
    commit(lake, 1, memory("h", "hot words"))
    commit_to_tier(lake, 1, "cold", memory("c", "cold words", system="laptop-bob", age=timedelta(days=200)))
    return lake


@pytest.fixture(scope="module")
def unloaded(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., httpx.Client]) -> httpx.Client:
    """A service that could never load hot: the newest entry of its log is damaged."""
    lake = filled_lake(tmp_path_factory.mktemp("akosha"))
    log = max(Path(lake.uri("lifecycle/hot"), "_delta_log").glob("*.json"))
    log.write_bytes(log.read_bytes()[:200])
    client = serve(lake, wait=False)
    until(lambda: tiers(client) == ("unavailable", "answered"))
    return client


@pytest.fixture(scope="module")
def stale(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., httpx.Client]) -> httpx.Client:
    """A service that has loaded hot, whose log was then removed."""
    lake = filled_lake(tmp_path_factory.mktemp("akosha"))
    client = serve(lake)
    until(lambda: tiers(client) == ("answered", "answered"))
    shutil.move(Path(lake.uri("lifecycle/hot"), "_delta_log"), lake.settings.home)
    until(lambda: tiers(client) == ("stale", "answered"))
    return client


def tiers(client: httpx.Client) -> tuple[str, str]:
    found = client.get("/health").json()["tiers"]
    return found["hot"]["state"], found["cold"]["state"]


def test_a_memory_that_an_unloaded_tier_may_have_is_not_reported_missing(unloaded: httpx.Client) -> None:
    assert_problem(unloaded.get(HOT), 503, "hot is unavailable (object store")
    assert unloaded.get(HOT).json()["type"].endswith(":tier-unavailable")
    assert unloaded.get(HOT).headers["Retry-After"] == "5"
    like = {"like": {"system_id": "laptop-ada", "kind": "conversation", "id": "h"}}
    assert_problem(unloaded.post("/api/v1/search", json=like), 503, "may have it are incomplete")
    assert unloaded.get(COLD).json()["id"] == "c"
    assert_problem(unloaded.get(HOT, params={"as_of": "2026-01-01T00:00:00Z"}), 503, "as of an earlier time")


def test_a_service_is_ready_once_it_has_loaded_every_table(unloaded: httpx.Client, stale: httpx.Client) -> None:
    refusal = unloaded.get("/ready")
    assert (refusal.status_code, refusal.json(), refusal.headers["Retry-After"]) == (
        503,
        {"ready": False, "loading": ["hot"]},
        "1",
    )
    assert stale.get("/ready").status_code == 200


def test_an_incomplete_export_is_refused_or_names_the_missing_tiers(unloaded: httpx.Client) -> None:
    assert_problem(unloaded.post("/api/v1/export", json={}), 503, 'which "partial": true accepts: hot is unavailable')
    for form in ("jsonl", "parquet"):
        partial = unloaded.post("/api/v1/export", json={"partial": True, "format": form})
        assert (partial.status_code, partial.headers["X-Akosha-Incomplete"]) == (200, "hot=unavailable")


def test_the_list_of_systems_has_the_state_of_the_tiers(unloaded: httpx.Client) -> None:
    listed = unloaded.get("/api/v1/systems").json()
    assert [system["system_id"] for system in listed["systems"]] == ["laptop-bob"]
    assert (listed["tiers"]["hot"]["state"], listed["tiers"]["cold"]["state"]) == ("unavailable", "answered")
    assert "lifecycle/hot did not answer" in listed["tiers"]["hot"]["reason"]


def test_answers_for_agents_have_the_same_states(unloaded: httpx.Client) -> None:
    message = refused(unloaded, "read_memory", system_id="laptop-ada", kind="conversation", id="h")
    assert message.startswith("tier-unavailable: ") and "hot is unavailable" in message and "Ask again" in message
    listed = answered(unloaded, "list_systems")
    assert (listed["is_complete"], listed["tiers"]["hot"]["state"]) == (False, "unavailable")


def test_sql_refuses_only_queries_that_read_the_tier(unloaded: httpx.Client) -> None:
    assert_problem(
        unloaded.post("/api/v1/sql", json={"query": "SELECT * FROM memories"}), 503, "lifecycle/hot did not answer"
    )
    answer = unloaded.post("/api/v1/sql", json={"query": "SELECT id FROM cold"}).json()
    assert (answer["rows"], answer["versions"]["hot"]) == ([{"id": "c"}], None)


def test_a_stale_tier_is_exported_and_named(stale: httpx.Client) -> None:
    exported = stale.post("/api/v1/export", json={})
    assert (len(exported.text.splitlines()), exported.headers["X-Akosha-Incomplete"]) == (2, "hot=stale")
    assert_problem(stale.get("/api/v1/memories/laptop-ada/conversation/new"), 503, "hot is stale")
    assert_problem(stale.get(HOT), 503, "has no log now")
    assert_problem(stale.get(HOT.replace("memories", "explain")), 503, "does not hold the memory")
    assert_problem(stale.post("/api/v1/sql", json={"query": "SELECT count(*) FROM memories"}), 503, "has no log now")
