"""Arguments and fields in the forms that clients of other services send."""

from typing import Any

import httpx
import pytest

from tests.api.test_pasted_queries import TEXTS, answered, call_tool, ids, search
from tests.api.test_pasted_queries import client as client
from tests.api.test_pasted_queries import lake as lake


def refusal(client: httpx.Client, tool: str = "search_all_systems", **arguments: Any) -> str:
    result = call_tool(client, tool, **arguments)
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


@pytest.mark.parametrize("empty", ["", " ", [], {}, None])
def test_an_empty_argument_of_a_tool_is_not_given(client: httpx.Client, empty: Any) -> None:
    optional = ("system_id", "project", "kind", "tags", "since", "until", "limit", "mode", "syntax", "budget_tokens")
    for name in (*optional, "filters"):
        assert ids(answered(client, query="deadlock", **{name: empty})) == ["of-api"], name
    assert not call_tool(client, "list_systems", cursor=empty, limit=empty)["isError"]
    assert "query: " in refusal(client, query=empty)


@pytest.mark.parametrize("empty", [[""], "[]", '[""]'])
@pytest.mark.parametrize("name", ["system_id", "project", "kind", "tags"])
def test_a_list_without_values_is_no_filter(client: httpx.Client, name: str, empty: Any) -> None:
    assert ids(answered(client, query="deadlock", **{name: empty})) == ["of-api"]


@pytest.mark.parametrize(
    ("name", "empty"),
    [
        *((name, empty) for name in ("system_id", "project", "kind", "namespace") for empty in ("", [], [""], None)),
        *(("tags", empty) for empty in ([], [""], None)),
        *((name, empty) for name in ("since", "until") for empty in ("", None)),
        ("importance_min", None),
    ],
)
def test_an_empty_filter_of_a_search_or_an_export_is_no_filter(client: httpx.Client, name: str, empty: Any) -> None:
    assert ids(search(client, query="deadlock", **{name: empty})) == ["of-api"]
    assert len(client.post("/api/v1/export", json={name: empty}).text.splitlines()) == len(TEXTS) + 1


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"filters": {"project": "api"}}, True),
        ({"filters": {"project": "nowhere"}}, False),
        ({"filters": '{"system_id": ["laptop-bob"], "kind": ""}'}, True),
        ({"filters": {"project": "api"}, "project": "api"}, True),
        ({"filters": {"tags": "sql"}}, True),
        ({"system_id": '["laptop-bob", "x"]'}, True),
        ({"system_id": '["x"]'}, False),
        ({"tags": '["sql"]'}, True),
        ({"tags": "sql"}, True),
        ({"project": ["", "api"]}, True),
    ],
)
def test_filters_in_the_forms_that_clients_send_are_understood(
    client: httpx.Client, arguments: dict[str, Any], found: bool
) -> None:
    assert ids(answered(client, query="deadlock", **arguments)) == (["of-api"] if found else [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": {"collection": "x"}}, "filters.collection: is not a field of this request; expected one of "),
        ({"filters": {"repo": "x"}}, "; use project"),
        ({"filters": "project"}, "filters: expected an object with some of system_id, project, kind, since, until"),
        ({"filters": {"project": "a"}, "project": "b"}, "filters.project: differs from the argument project"),
        ({"threshold": 0.7}, "threshold: is not a field of this request; expected one of query, limit, mode"),
        ({"threshold": 0.7}, "; leave it out: results are not cut by a score, use limit"),
        ({"top_k": 3}, "; use limit"),
        ({"systemId": "x"}, "; use system_id"),
        ({"time_range_minutes": 5}, "; use since"),
        ({"projct": "x"}, "; did you mean project?"),
        ({"since": "[]x"}, "since: expected a time with its zone"),
        ({"system_id": "[1]"}, "system_id"),
    ],
)  # fmt: skip
def test_an_unknown_argument_is_refused_with_the_name_to_use(
    client: httpx.Client, arguments: dict[str, Any], message: str
) -> None:
    assert message in refusal(client, query="deadlock", **arguments)


def test_filters_never_name_the_memory_of_another_tool(client: httpx.Client) -> None:
    name = {"system_id": "laptop-bob", "kind": "conversation", "id": "of-api"}
    text = refusal(client, "find_similar", **name, filters={"system_id": "laptop-eve"})
    assert text.startswith("invalid-request: filters: is not a field of this request")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"q": "x"}, "q: is not a field of this request; expected one of "),
        ({"q": "x"}, "; use query"),
        ({"filters": {}}, "; give each filter as a field of its own: system_id, project, kind, since, until, tags"),
        ({"threshold": 0.7}, "; leave it out: results are not cut by a score, use limit"),
        ({"syntax": "lucene"}, "syntax: expected 'plain', 'auto' or 'query'; found 'lucene'"),
    ],
)
def test_an_unknown_field_of_a_search_is_refused_with_the_name_to_use(
    client: httpx.Client, body: dict[str, Any], message: str
) -> None:
    response = client.post("/api/v1/search", json={"query": "deadlock"} | body)
    assert response.status_code == 422 and message in response.json()["detail"]
    (answer,) = client.post("/api/v1/search/batch", json={"searches": [{"query": "a"} | body]}).json()["answers"]
    assert message in answer["detail"]


def test_filter_values_that_no_memory_has_are_named(client: httpx.Client) -> None:
    filters = {"system_id": ["laptop-bob", "null"], "project": "api, web", "tags": ["sql", "x" * 500]}
    answer = search(client, query="deadlock", **filters)
    assert answer["unknown_values"] == {"system_id": ["null"], "project": ["api, web"], "tags": ["x" * 500]}
    notes = answered(client, query="deadlock", **filters, budget_tokens=1000)["unknown_values"]
    assert notes[:2] == ["system_id 'null'", "project 'api, web'"] and notes[2].startswith("tags 'xxx")
    assert search(client, query="nothing", system_id="laptop-bob", tags=["sql"])["unknown_values"] == {}
    assert "unknown_values" not in answered(client, query="deadlock", project="api")
