"""Pasted text as a query, over REST and MCP."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import until
from tests.hot_rows import commit, memory

TEXTS = {
    "no-verify": "The pre-commit hook hangs; worked around with git commit --no-verify until it was fixed.",
    "peer-deps": "npm install --legacy-peer-deps gets past ERESOLVE.",
    "exit": "The worker is killed with exit code -9 during the nightly export.",
    "compose": "docker compose up -d stops at once because the env file has Windows line ends.",
    "hunk": "The patch does not apply: hunk @@ -1,4 +1,4 @@ is out of place.",
    "rbac": 'pods is forbidden: User "system:serviceaccount:payments:runner" cannot list resource "pods"',
    "manifest": "kind:Deployment without a selector is rejected since apps/v1.",
    "javadoc": "/** @param retries how often to retry */ stood over the wrong method.",
    "glob": "The linter skips *.py in vendored folders.",
    "pointer": "char *name = *argv; crashes without arguments.",
    "style": "color: red !important; overrides the theme.",
    "regex": r"The filter ^ERR-\d+$ misses lines with a prefix.",
    "json": '{"error": "connection refused", "code": -111} came from the gateway.',
    "url": "curl http://localhost:8682/mcp?a=-b times out behind the proxy.",
    "windows": r"C:\Users\ada\project:api.txt cannot be opened.",
    "email": "The alias ops+alerts@example.org bounces.",
    "log": '2026-11-27T10:00:00Z level=error msg="lease lost" worker=-1',
    "other": "Sorting of the holiday calendar is stable.",
    "elsewhere": "The colour of the legend follows the theme.",
}
PASTED = [
    ("git commit --no-verify", "no-verify"),
    ("--no-verify", "no-verify"),
    ("npm install --legacy-peer-deps", "peer-deps"),
    ("exit code -9", "exit"),
    ("docker compose up -d", "compose"),
    ("@@ -1,4 +1,4 @@", "hunk"),
    ("system:serviceaccount:payments:runner", "rbac"),
    ('User "system:serviceaccount:payments:runner" cannot list resource "pods"', "rbac"),
    ("kind:Deployment", "manifest"),
    ("/** @param retries how often to retry */", "javadoc"),
    ("*.py", "glob"),
    ("char *name = *argv;", "pointer"),
    ("red !important", "style"),
    (r"^ERR-\d+$", "regex"),
    ('{"error": "connection refused", "code": -111}', "json"),
    ('"connection refused", "code": -111', "json"),
    ("http://localhost:8682/mcp?a=-b", "url"),
    (r"C:\Users\ada\project:api.txt", "windows"),
    ("ops+alerts@example.org", "email"),
    ('level=error msg="lease lost" worker=-1', "log"),
    ('"2026-11-28T11:00:00Z level=error msg=lease lost worker=-1"', "log"),
    ("-the patch does not apply\n+hunk", "hunk"),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    filled = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    rows = [memory(id, text) for id, text in TEXTS.items()]
    commit(filled, 1, *rows, memory("of-api", "Deadlock in the pool", project="api", tags=["sql"], system="laptop-bob"))
    return filled


@pytest.fixture(scope="module")
def client(lake: Lake, serve: Callable[..., httpx.Client]) -> httpx.Client:
    served = serve(lake)
    until(lambda: served.get("/health").json()["is_settled"])
    return served


def search(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/api/v1/search", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def call_tool(client: httpx.Client, tool: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    result: dict[str, Any] = client.post("/mcp", json=message, headers={"Accept": "application/json"}).json()["result"]
    return result


def answered(client: httpx.Client, **arguments: Any) -> dict[str, Any]:
    result = call_tool(client, "search_all_systems", **arguments)
    assert not result["isError"], result
    answer: dict[str, Any] = result["structuredContent"]
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [result["id"] for result in answer["results"]]


@pytest.mark.parametrize(("query", "expected"), PASTED)
def test_pasted_text_finds_the_memory_that_has_it_first(client: httpx.Client, query: str, expected: str) -> None:
    for body in ({"mode": "keyword"}, {"mode": "hybrid"}, {"mode": "keyword", "syntax": "plain"}):
        answer = search(client, query=query, **body)
        assert ids(answer)[:1] == [expected], body
    assert ids(answered(client, query=query))[:1] == [expected]
    assert ids(answered(client, query=query, mode="keyword", syntax="auto"))[:1] == [expected]


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [(None, ["the phrase deadlock in", "project must be api"]), ("plain", []), ("query", None)],
)
def test_an_answer_names_what_was_an_operator(
    client: httpx.Client, syntax: str | None, expected: list[str] | None
) -> None:
    query = '"deadlock in" +project:api -calendar'
    if expected is None:
        expected = ["the phrase deadlock in", "project must be api", "must not contain the word calendar"]
    answer = search(client, query=query, mode="keyword", syntax=syntax)
    assert [one["meaning"] for one in answer["operators"]] == expected
    assert ids(answer)[0] == "of-api" and (len(answer["results"]) == 1) == bool(expected)
    batch = client.post("/api/v1/search/batch", json={"searches": [{"query": query, "syntax": syntax}]}).json()
    assert [one["meaning"] for one in batch["answers"][0]["operators"]] == (expected if syntax else [])
    over_mcp = answered(client, query=query, mode="keyword", syntax=syntax or "auto")
    assert [one["meaning"] for one in over_mcp.get("operators", [])] == expected
    assert "operators" not in answered(client, query=query, mode="keyword")


def test_operators_keep_to_the_budget_of_an_agent(client: httpx.Client) -> None:
    query = " ".join(f'-"{"word " * 50}{number}"' for number in range(30))
    result = call_tool(client, "search_all_systems", query=query, syntax="query", budget_tokens=500)
    assert len(result["content"][0]["text"].encode()) <= 2000
    operators = result["structuredContent"]["operators"]
    assert operators[0]["meaning"].startswith("must not contain the phrase word word") and len(operators) < 30
