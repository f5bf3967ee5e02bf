"""Deeply nested JSON, in a request or in a stored memory, is answered with 200 or 4xx on every route."""

import json
from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.serving.search.memories import decode_attributes
from tests.api.conftest import as_operator
from tests.hot_rows import commit, memory

SHAPES: dict[str, Callable[[int], str]] = {
    "lists": lambda depth: "[" * depth + "]" * depth,
    "no end": lambda depth: "[" * depth,
    "objects": lambda depth: '{"query":' * depth + "1" + "}" * depth,
    "a field": lambda depth: '{"query": ' + "[" * depth + "]" * depth + "}",
    "a message": lambda depth: (
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "read_memory", "arguments": {"id": '
        + "[" * depth
        + "]" * depth
        + "}}}"
    ),
}
ROUTES = ["search", "search/batch", "export", "sql", "uploads/redrive"]
DEEP = {"100": 100, "900": 900, "5000": 5000}


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.fixture
def client(serve: Callable[..., httpx.Client], lake: Lake) -> httpx.Client:
    odd = {
        "half a character": r'{"a": "\ud800"}',
        "no number": '{"a": NaN}',
        "digits": '{"a": 1' + "0" * 5000 + "}",
        "broken": "{",
        "list": "[1]",
    }
    rows = [memory(name, f"memory {name}", attributes=nested(depth)) for name, depth in DEEP.items()]
    commit(lake, 1, *rows, *(memory(name, f"memory {name}", attributes=text) for name, text in odd.items()))
    started = serve(lake)
    started.headers.update(as_operator(lake.settings.home))
    return started


@pytest.mark.parametrize("shape", SHAPES)
def test_a_deeply_nested_request_is_refused(client: httpx.Client, shape: str) -> None:
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    for depth in (50, 300, 2000, 100_000):
        for path in (*(f"/api/v1/{route}" for route in ROUTES), "/mcp"):
            answer = client.post(path, content=SHAPES[shape](depth), headers=headers)
            assert answer.status_code in ((200, 400, 422) if path == "/mcp" else (400, 422)), (
                path,
                depth,
                answer.text[:200],
            )


def test_a_memory_with_deeply_nested_attributes_is_returned(client: httpx.Client) -> None:
    names = [*DEEP, "half a character", "no number", "digits", "broken", "list"]
    for name in names:
        answer = client.get(f"/api/v1/memories/laptop-ada/conversation/{name}")
        assert (answer.status_code, answer.json()["text"]) == (200, f"memory {name}")
        arguments = {"system_id": "laptop-ada", "kind": "conversation", "id": name}
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "read_memory", "arguments": arguments},
        }
        result = client.post("/mcp", json=message, headers={"Accept": "application/json, text/event-stream"}).json()[
            "result"
        ]
        assert not result.get("isError"), result
    assert client.get("/api/v1/memories/laptop-ada/conversation/900").json()["attributes"] == {"_json": nested(900)}
    assert client.get("/api/v1/memories/laptop-ada/conversation/no number").json()["attributes"] == {"a": "NaN"}
    assert client.post("/api/v1/export", json={}).text.count("\n") == len(names)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)),
    )
)
def test_attributes_are_returned_as_stored(attributes: dict[str, object]) -> None:
    assert decode_attributes(json.dumps(attributes)) == attributes


@given(st.text())
def test_any_attributes_text_becomes_an_object_that_json_can_represent(text: str) -> None:
    assert json.dumps(decode_attributes(text), ensure_ascii=False).encode()
