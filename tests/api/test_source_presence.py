"""Absent and renumbered memories over REST, MCP and the CLI."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from akosha_assets.cli.main import app
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import until
from tests.api.test_mcp import answered
from tests.hot_rows import commit, memory
from tests.lake.serving.test_source_presence import LEFT, NAME, record_absence, record_alias


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., httpx.Client]) -> httpx.Client:
    lake = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    commit(lake, 1, memory("gone", "retry policy of the gateway"), memory("here", "retry policy of the scheduler"))
    record_absence(lake, 1, "gone")
    record_alias(lake, 1, "renumbered", "gone")
    client = serve(lake)
    until(lambda: client.get("/health").json()["is_settled"])
    return client


def test_rest_shows_and_filters_absent_memories(client: httpx.Client) -> None:
    def found(**body: object) -> dict[str, str | None]:
        answer = client.post("/api/v1/search", json={"query": "retry policy", "mode": "keyword"} | body).json()
        return {result["id"]: result["absent_since"] for result in answer["results"]}

    both = found()
    assert list(both) == ["here", "gone"] and both["here"] is None
    assert datetime.fromisoformat(both["gone"] or "") == LEFT
    assert (list(found(absent=True)), list(found(absent=False))) == (["gone"], ["here"])
    refused = client.post("/api/v1/search", json={"query": "retry", "absent": "yes"})
    assert refused.status_code == 422 and "absent" in refused.text
    exported = client.post("/api/v1/export", json={"absent": True})
    assert [line.split('"id":"')[1].split('"')[0] for line in exported.text.splitlines()] == ["gone"]


def test_a_memory_is_read_and_explained_by_a_later_id(client: httpx.Client) -> None:
    for id in ("gone", "renumbered"):
        read = client.get(f"/api/v1/memories/laptop-ada/conversation/{id}").json()
        assert (read["id"], read["aliases"]) == ("gone", ["renumbered"])
        assert datetime.fromisoformat(read["absent_since"]) == LEFT
        explained = client.get(f"/api/v1/explain/laptop-ada/conversation/{id}").json()
        assert (explained["id"], [alias["id"] for alias in explained["aliases"]]) == ("gone", ["renumbered"])
        assert datetime.fromisoformat(explained["absent_since"]) == LEFT
        like = client.post("/api/v1/search", json={"like": NAME | {"id": id}}).json()
        assert [result["id"] for result in like["results"]] == ["here"]
    present = client.get("/api/v1/memories/laptop-ada/conversation/here").json()
    assert (present["absent_since"], present["aliases"]) == (None, [])


def test_an_agent_sees_and_filters_absent_memories(client: httpx.Client) -> None:
    results = answered(client, "search_all_systems", query="retry policy", mode="keyword")["results"]
    assert [("absent_since" in result, result["id"]) for result in results] == [(False, "here"), (True, "gone")]
    present = answered(client, "search_all_systems", query="retry policy", mode="keyword", absent=False)["results"]
    assert [result["id"] for result in present] == ["here"]
    read = answered(client, "read_memory", **NAME, id="renumbered")
    assert (read["id"], read["aliases"]) == ("gone", ["renumbered"]) and "absent_since" in read


def test_the_terminal_shows_and_filters_absent_memories(client: httpx.Client, tmp_path: Path) -> None:
    def shown(*options: str) -> str:
        command = ["search", "retry policy", "--mode", "keyword", "--url", str(client.base_url), *options]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert f"no longer in its source since {LEFT:%Y-%m-%d %H:%M} UTC" in shown()
    assert "laptop-ada/conversation/here" not in shown("--absent")
    assert "laptop-ada/conversation/gone" not in shown("--no-absent")
