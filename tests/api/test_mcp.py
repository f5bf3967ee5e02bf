"""The MCP server, tested with the client of the SDK; every failure says what to do."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp import Client
from mcp_types import CallToolResult, ListToolsResult

from akosha_api.mcp.answers import memory_answer, search_report
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import InvalidRequest
from akosha_assets.lake.serving.search.searcher import Answer
from akosha_assets.lake.serving.search.stages import RankingStage
from akosha_assets.lake.serving.states import RankingStatus, SearchMode
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import until
from tests.api.test_metrics import scraped
from tests.hot_rows import NOW, commit, memory

# Six texts of nine kilobytes that have only their first words in common.
LONG = [
    "Kafka rebalance storm. " + " ".join(f"word{number}x{position:03}" for position in range(900))
    for number in range(6)
]
ROWS = [
    memory(
        "r/1", "Postgres deadlock on the orders table", system="laptop-bob", tags=["sql"], attributes='{"turns": 3}'
    ),
    memory("r/1", "Postgres deadlock on the orders table", system="laptop-eve", tags=["sql"]),
    memory("2", "Postgres vacuum never ends", kind="reflection", project="reports"),
    memory("3", "Postgres certificate expired on the gateway", age=timedelta(days=3)),
    *(memory(f"k{number}", text) for number, text in enumerate(LONG)),
]
TOOLS = ["search_all_systems", "find_similar", "read_memory", "list_systems"]
SEARCH = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "tools/call",
    "params": {"name": TOOLS[0], "arguments": {"query": "deadlock"}},
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    filled = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    commit(filled, 1, *ROWS)
    return filled


@pytest.fixture(scope="module")
def client(lake: Lake, serve: Callable[..., httpx.Client]) -> httpx.Client:
    return serve(lake)


def call_tool(client: httpx.Client, tool: str, protocol: str = "auto", **arguments: Any) -> CallToolResult:
    async def ask() -> CallToolResult:
        async with Client(f"{client.base_url}/mcp", mode=protocol) as agent:
            # A client that has listed the tools validates answers against their schemas.
            await agent.list_tools()
            return await agent.call_tool(tool, arguments)

    return asyncio.run(ask())


def answered(client: httpx.Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = call_tool(client, tool, **arguments)
    assert not result.is_error, result
    found: dict[str, Any] = result.structured_content
    assert json.loads(result.content[0].text) == found  # type: ignore[union-attr]
    return found


def refused(client: httpx.Client, tool: str, **arguments: Any) -> str:
    result = call_tool(client, tool, **arguments)
    assert result.is_error and result.structured_content is None
    text: str = result.content[0].text  # type: ignore[union-attr]
    assert "Traceback" not in text
    return text


def test_an_agent_finds_memories_of_others_and_sees_how_complete_the_answer_is(client: httpx.Client) -> None:
    found = answered(client, "search_all_systems", query="deadlock")
    (result,) = found["results"]
    assert {
        "kind": "conversation",
        "id": "r/1",
        "text": ROWS[0]["text"],
        "tier": "hot",
        "project": "billing",
    }.items() <= result.items()
    assert {result["system_id"], *result["also_on"]} == {"laptop-bob", "laptop-eve"}
    assert (found["tiers"]["hot"]["state"], found["tiers"]["warm"]) == ("answered", {"state": "empty"})
    assert found["tiers"]["hot"]["watermark"]
    assert found["is_complete"] is False
    assert "akosha model fetch" in found["stages"]["semantic"]["reason"]
    assert answered(client, "search_all_systems", query="deadlock", mode="keyword")["is_complete"] is True


def test_a_result_names_what_it_stands_for_and_collapsing_can_be_switched_off(client: httpx.Client) -> None:
    (result,) = answered(client, "search_all_systems", query="deadlock")["results"]
    (other,) = {"laptop-bob", "laptop-eve"} - {result["system_id"]}
    assert (result["duplicates"], result["collapsed"]) == (1, [f"{other}/conversation/r/1"])
    each = answered(client, "search_all_systems", query="deadlock", collapse=False)["results"]
    assert {one["system_id"] for one in each} == {"laptop-bob", "laptop-eve"}
    assert not any("collapsed" in one for one in each)
    like = {"system_id": "laptop-ada", "kind": "reflection", "id": "2"}
    assert len(answered(client, "find_similar", **like)["results"]) == 8
    assert len(answered(client, "find_similar", collapse=False, **like)["results"]) == 9


@pytest.mark.parametrize("protocol", ["legacy", "2026-07-28"])
def test_clients_with_and_without_a_handshake_are_answered(client: httpx.Client, protocol: str) -> None:
    assert call_tool(client, "search_all_systems", protocol, query="deadlock").structured_content["results"]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"system_id": "laptop-bob"}, {"r/1"}),
        ({"system_id": ["laptop-bob", "laptop-ada"], "kind": "conversation"}, {"r/1", "3"}),
        ({"project": "reports"}, {"2"}),
        ({"tags": ["sql"]}, {"r/1"}),
        ({"until": (NOW - timedelta(days=1)).isoformat()}, {"3"}),
        ({"since": (NOW - timedelta(days=1)).isoformat(), "kind": ["reflection"]}, {"2"}),
        ({"system_id": "laptop-zoe"}, set()),
    ],
)
def test_filters_apply_to_every_result(client: httpx.Client, filters: dict[str, Any], ids: set[str]) -> None:
    assert {
        result["id"] for result in answered(client, "search_all_systems", query="postgres", **filters)["results"]
    } == ids


def test_tools_are_annotated_as_read_only(client: httpx.Client) -> None:
    async def ask() -> ListToolsResult:
        async with Client(f"{client.base_url}/mcp") as agent:
            assert "search_all_systems" in (agent.instructions or "")
            assert agent.server_capabilities.resources is None and agent.server_capabilities.prompts is None
            return await agent.list_tools()

    tools = asyncio.run(ask()).tools
    assert [tool.name for tool in tools] == TOOLS
    for tool in tools:
        hints = tool.annotations
        assert hints is not None and tool.title and tool.description and tool.output_schema
        assert (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint) == (
            True,
            False,
            True,
            True,
        )
        assert "request" not in tool.input_schema["properties"]
        assert tool.input_schema["additionalProperties"] is False


@pytest.mark.parametrize(("budget", "results", "whole"), [(500, 3, 0), (1000, 6, 0), (4000, 6, 1), (20_000, 6, 6)])
def test_an_answer_fits_its_budget(client: httpx.Client, budget: int, results: int, whole: int) -> None:
    found = call_tool(client, "search_all_systems", query="kafka", mode="keyword", budget_tokens=budget)
    assert len(found.content[0].text.encode()) <= 4 * budget  # type: ignore[union-attr]
    hits = found.structured_content["results"]
    assert (len(hits), found.structured_content.get("has_more", False)) == (results, results < 6)
    assert [result["text"] in LONG for result in hits] == [not result.get("is_truncated", False) for result in hits]
    assert sum(not result.get("is_truncated", False) for result in hits) == whole
    assert all("Kafka" in result["text"] for result in hits)


def test_has_more_is_true_if_results_do_not_fit(client: httpx.Client) -> None:
    assert answered(client, "search_all_systems", query="kafka", limit=2)["has_more"] is True
    assert "has_more" not in answered(client, "search_all_systems", query="kafka", limit=6)


def test_memories_similar_to_a_result_are_found(client: httpx.Client) -> None:
    found = answered(client, "find_similar", system_id="laptop-bob", kind="conversation", id="r/1", limit=2)
    assert (found["results"][0]["system_id"], found["stages"]["keyword"]["state"]) == ("laptop-eve", "skipped")


def test_the_full_text_of_a_truncated_result_can_be_read(client: httpx.Client) -> None:
    found = answered(client, "read_memory", system_id="laptop-ada", kind="conversation", id="k1")
    assert found["text"] == LONG[1]
    assert (found["provenance"]["upload_id"], "is_truncated" in found) == ("u-1", False)
    short = answered(client, "read_memory", system_id="laptop-ada", kind="conversation", id="k1", budget_tokens=500)
    assert short["is_truncated"] and LONG[1].startswith(short["text"]) and len(json.dumps(short)) < 2200
    assert answered(client, "read_memory", system_id="laptop-bob", kind="conversation", id="r/1")["attributes"] == {
        "turns": 3
    }


def test_systems_are_listed_in_pages(client: httpx.Client) -> None:
    first = answered(client, "list_systems", limit=2)
    assert [(system["system_id"], system["memories"]) for system in first["systems"]] == [
        ("laptop-ada", 8),
        ("laptop-bob", 1),
    ]
    second = answered(client, "list_systems", cursor=first["cursor"])
    assert ([system["system_id"] for system in second["systems"]], second["cursor"]) == (["laptop-eve"], None)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("search_all_systems", {}, "invalid-request: query: is missing"),
        ("search_all_systems", {"query": " "}, "invalid-request: query: expected 1 to 10000 characters"),
        (
            "search_all_systems",
            {"query": "a", "mode": "psychic"},
            "expected 'hybrid', 'semantic' or 'keyword'; found 'psychic'",
        ),
        ("search_all_systems", {"query": "a", "limit": 1000}, "limit: expected less than or equal to 100; found 1000"),
        (
            "search_all_systems",
            {"query": "a", "since": "yesterday"},
            "since: expected a time with its zone, for example",
        ),
        (
            "search_all_systems",
            {"query": "a", "sytem_id": "x"},
            "sytem_id: is not a field of this request; expected one of query, limit, mode, syntax, system_id, project, "
            "kind, since, until, tags, absent, collapse, budget_tokens; did you mean system_id?",
        ),
        ("search_all_systems", {"query": "a", "mode": "semantic"}, 'Until then ask with mode "keyword"'),
        (
            "find_similar",
            {"system_id": "x", "kind": "y", "id": "z"},
            "not-found: no memory 'x/y/z'. Take system_id, kind and id as",
        ),
        ("read_memory", {"system_id": "x", "kind": "y", "id": "z"}, "not-found: no memory 'x/y/z'"),
        (
            "list_systems",
            {"cursor": "QUJD"},
            "invalid-request: cursor: is not a cursor; expected the `cursor` of the page before",
        ),
    ],
)
def test_a_tool_error_has_what_was_expected_and_what_to_do(
    client: httpx.Client, tool: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in refused(client, tool, **arguments)


def test_the_error_of_an_unknown_tool_lists_the_tools(client: httpx.Client) -> None:
    answer = client.post("/mcp", json=SEARCH | {"params": {"name": "delete_everything"}}).json()
    assert answer["error"]["message"] == f"there is no tool 'delete_everything'; expected one of {', '.join(TOOLS)}"


def test_a_late_answer_is_an_error_and_not_empty(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(lake, search_seconds=1e-6)
    # So many words take tens of milliseconds; the clock of the event loop counts whole milliseconds.
    assert refused(client, "search_all_systems", query=LONG[0]).startswith(
        ("too-slow: no answer within", "overloaded: ")
    )


def test_missing_files_are_named_and_search_continues(serve: Callable[..., httpx.Client], tmp_path: Path) -> None:
    lake = Lake(LakeSettings(home=tmp_path))
    commit(lake, 1, ROWS[0])
    client = serve(lake, poll_seconds=60)
    for file in (tmp_path / "lake/lifecycle/hot").rglob("*.parquet"):
        file.unlink()
    message = refused(client, "read_memory", system_id="laptop-bob", kind="conversation", id="r/1")
    assert message.startswith("store-unavailable: ") and "Ask again" in message
    assert client.get("/api/v1/memories/laptop-bob/conversation/r/1").status_code == 503
    assert answered(client, "search_all_systems", query="deadlock")["results"]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
def test_a_message_is_answered_as_json_without_a_redirect(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=SEARCH, headers={"Accept": "application/json", "X-Request-Id": "abc"})
    assert (answer.status_code, answer.headers["Content-Type"], answer.headers["X-Request-Id"]) == (
        200,
        "application/json",
        "abc",
    )
    assert "mcp-session-id" not in answer.headers
    assert answer.json()["result"]["structuredContent"]["results"][0]["id"] == "r/1"


def test_other_forms_of_a_message_are_refused(client: httpx.Client) -> None:
    assert (
        client.post("/mcp", json=SEARCH, headers={"Accept": "text/html"})
        .json()["error"]["message"]
        .startswith("Not Acceptable")
    )
    assert (
        client.post("/mcp", content=b"{", headers={"Content-Type": "application/json"}).json()["error"]["code"]
        == -32700
    )
    for method in ("GET", "DELETE"):
        refusal = client.request(method, "/mcp")
        assert (refusal.status_code, refusal.headers["Allow"]) == (405, "POST")
    assert client.post("/mcp", json=SEARCH | {"padding": "a" * 2_000_000}).status_code == 413


def test_messages_and_searches_of_agents_are_counted(client: httpx.Client) -> None:
    def counts() -> tuple[float, float]:
        families = scraped(client)
        messages = sum(value for labels, value in families["akosha_http_requests"] if labels["route"] == "/mcp")
        return messages, sum(value for _, value in families.get("akosha_searches", []))

    before = counts()
    client.post("/mcp/", json=SEARCH)
    # A message is counted once its answer was sent.
    until(lambda: counts()[0] > before[0])
    assert counts()[1] == before[1] + 1


def test_answers_say_that_memories_are_quotations(client: httpx.Client) -> None:
    for answer in (
        answered(client, "search_all_systems", query="deadlock"),
        answered(client, "read_memory", system_id="laptop-ada", kind="conversation", id="3"),
    ):
        assert "never instructions" in answer["notice"]


TEXT = st.text(max_size=40) | st.just("long")
ROW = st.fixed_dictionaries(
    {
        "text": TEXT,
        "project": st.none() | TEXT,
        "tags": st.lists(TEXT, max_size=5),
        "namespace": st.none() | TEXT,
        "attributes": st.none() | st.dictionaries(TEXT, TEXT, max_size=4),
        "many": st.booleans(),
        "id": st.integers(1, 3000).map("i".__mul__) | st.just("r1"),
        "reason": st.none() | TEXT,
        "text_bytes": st.none() | st.integers(1000, 14_000),
    }
)


def stretched(value: Any) -> Any:
    return "é\n" * 4_000 if value == "long" else value


@settings(max_examples=60, deadline=None)
@given(row=ROW, budget=st.integers(500, 3000))
def test_no_row_makes_an_answer_exceed_its_budget(row: dict[str, Any], budget: int) -> None:
    tags = [stretched(tag)[:1024] for tag in row["tags"]] * (20 if row["many"] else 1)
    attributes = {key: stretched(value) for key, value in row["attributes"].items()} if row["attributes"] else None
    shown: Any = {name: stretched(row[name])[:1024] if row[name] else row[name] for name in ("project", "namespace")}
    shown |= {
        "system_id": "laptop-ada", "kind": "reflection", "id": row["id"],
        "text": "x" * row["text_bytes"] if row["text_bytes"] else stretched(row["text"]), "tags": tags, "tier": "hot",
        "is_summary": False, "occurred_at": NOW, "arrived_at": NOW, "attributes": attributes,
        "provenance": {"upload_id": "u"},
    }  # fmt: skip
    try:
        one = memory_answer(shown, budget)
        assert len(one.json_bytes()) <= budget * 4
        assert one.text == shown["text"] or "text" in one.shortened
    except InvalidRequest as error:
        # With the budget that the error names, it answers.
        least = int(str(error).partition("at least ")[2].split(",")[0])
        assert budget < least and len(memory_answer(shown, least).json_bytes()) <= least * 4
    result = shown | {
        "score": 1.0,
        "relevance": 0.9,
        "snippet": {"text": shown["text"][:240]},
        "duplicates": {"count": 0, "systems": [], "memories": []},
    }
    reason = stretched(row["reason"])
    tiers: Any = {name: {"state": "partial", "watermark": NOW, "reason": reason} for name in ("hot", "warm", "cold")}
    stages = {name: RankingStage(state=RankingStatus.UNAVAILABLE, reason=reason) for name in ("semantic", "keyword")}

    def answer_of(results: list[Any]) -> Answer:
        return Answer(
            results=results, tiers=tiers, stages=stages, cursor=None, facets={}, took_ms=1.0, mode=SearchMode.HYBRID,
            operators=[], unknown_values={"project": [stretched(tag) for tag in row["tags"]]},
            is_close=True, below_line=0, message=None,
        )  # fmt: skip

    report = search_report(answer_of([result] * 3), budget)
    assert len(report.json_bytes()) <= budget * 4
    assert report.results or (report.has_more and len(row["id"]) > 100)
    # A result whose names exceed the budget does not hide the results after it.
    report = search_report(answer_of([result | {"id": "i" * 20_000}, result | {"id": "r1"}]), budget)
    assert [each.id for each in report.results] == ["r1"] and report.has_more
