"""Every route over real tables: answers, and problems of one shape."""

import base64
import io
import itertools
import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pyarrow.parquet as pq
import pytest

from akosha_api import inbox_check
from akosha_api.models import OF_THE_DEMO, SearchResponse
from akosha_assets.fleet.systems import FleetPlan, history, system_id
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests.api.conftest import as_operator, until
from tests.hot_rows import NOW, commit, memory, unit, upsert

ROWS = [
    memory(
        "r/1", "Postgres deadlock on the orders table", system="laptop-bob", tags=["sql"], attributes='{"turns": 3}'
    ),
    memory("2", "Redis eviction policy", kind="reflection"),
    memory("3", "Certificate expired on the gateway", age=timedelta(days=30)),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    filled = Lake(LakeSettings(home=tmp_path_factory.mktemp("akosha")))
    commit(filled, 1, *ROWS)
    return filled


@pytest.fixture(scope="module")
def client(lake: Lake, serve: Callable[..., httpx.Client]) -> httpx.Client:
    started = serve(lake)
    started.headers.update(as_operator(lake.settings.home))
    return started


def test_any_id_can_be_read_by_its_path(tmp_path: Path, serve: Callable[..., httpx.Client]) -> None:
    filled = Lake(LakeSettings(home=tmp_path))
    ids = ["\n", "a/\nb\n", "a/../b", "?#%", "\0", "\u2028"]
    commit(filled, 1, *(memory(id, "an odd id") for id in ids))
    asking_client = serve(filled)
    for route, id in itertools.product(("memories", "explain"), ids):
        assert asking_client.get(f"/api/v1/{route}/laptop-ada/conversation/{quote(id, safe='')}").json()["id"] == id


def test_a_search_returns_every_field_of_an_answer(client: httpx.Client) -> None:
    answer = client.post("/api/v1/search", json={"query": "deadlock", "limit": 3}).json()
    SearchResponse.model_validate(answer, extra="forbid")
    (result,) = answer["results"]
    assert {
        "system_id": "laptop-bob",
        "kind": "conversation",
        "id": "r/1",
        "tier": "hot",
        "project": "billing",
    }.items() <= result.items()
    assert result["text"] == "Postgres deadlock on the orders table"
    assert result["occurred_at"].endswith("Z")
    assert answer["tiers"]["hot"]["state"] == "answered"
    assert "answered from disk" in answer["tiers"]["hot"]["reason"]
    assert answer["stages"]["semantic"]["state"] == "unavailable"
    assert answer["stages"]["keyword"]["state"] == "answered"


def test_a_vector_and_a_stored_memory_can_be_searched_with(client: httpx.Client) -> None:
    found = client.post("/api/v1/search", json={"vector": unit(ROWS[1]["text"]).tolist(), "limit": 1}).json()
    assert found["results"][0]["id"] == "2"
    like = {"system_id": "laptop-ada", "kind": "reflection", "id": "2"}
    assert len(client.post("/api/v1/search", json={"like": like}).json()["results"]) == 2


def test_pages_follow_the_cursor_to_the_end(client: httpx.Client) -> None:
    question: dict[str, Any] = {"vector": unit("x").tolist(), "limit": 2}
    first = client.post("/api/v1/search", json=question).json()
    second = client.post("/api/v1/search", json=question | {"cursor": first["cursor"]}).json()
    assert (len(first["results"]), len(second["results"]), second["cursor"]) == (2, 1, None)


def test_a_memory_is_read_with_its_provenance(client: httpx.Client) -> None:
    found = client.get("/api/v1/memories/laptop-bob/conversation/r/1").json()
    assert found["attributes"] == {"turns": 3}
    assert found["provenance"]["object_key"] == "k"
    assert (found["has_vector"], found["space"]) == (True, "test/space")


def test_an_unchanged_memory_is_304(client: httpx.Client) -> None:
    first = client.get("/api/v1/memories/laptop-ada/reflection/2")
    assert (
        client.get(
            "/api/v1/memories/laptop-ada/reflection/2", headers={"If-None-Match": first.headers["ETag"]}
        ).status_code
        == 304
    )
    assert client.get("/api/v1/memories/laptop-ada/reflection/2", headers={"If-None-Match": '"x"'}).status_code == 200
    assert client.get("/api/v1/memories/laptop-ada/reflection/2", headers={"If-None-Match": "*"}).status_code == 304


def test_a_batch_holds_an_answer_or_a_problem_for_each_question(client: httpx.Client) -> None:
    searches = [
        {"query": "eviction", "mode": "keyword"},
        {"vector": [1.0]},
        {"query": "deadlock", "facets": ["kind"]},
        {"query": "x", "limit": 0, "colour": "red"},
        "deadlock",
        {"query": "a", "since": "yesterday"},
        {"query": "eviction", "since": "2026-01-01T00:00:00Z", "weights": {"keyword": 1}},
    ]
    first, second, third, *rest = client.post("/api/v1/search/batch", json={"searches": searches}).json()["answers"]
    assert [result["id"] for result in first["results"]] == ["2"]
    assert (second["status"], second["errors"][0]["field"]) == (422, "vector")
    assert third["facets"] == {"kind": {"conversation": 2, "reflection": 1}}
    assert [[fault["field"] for fault in answer["errors"]] for answer in rest[:3]] == [
        ["limit", "colour"],
        ["body"],
        ["since"],
    ]
    assert rest[0]["detail"].startswith("limit: expected greater than or equal to 1; found 0; colour: is not a field")
    assert rest[1]["detail"] == "body: expected a JSON object; found 'deadlock'"
    assert all(answer["type"].endswith(":invalid-request") for answer in rest[:3])
    assert [result["id"] for result in rest[3]["results"]] == ["2"]
    assert_problem(
        client.post("/api/v1/search/batch", json={"searches": []}),
        422,
        "searches: expected a list of 1 or more; found a list of 0",
    )


def test_a_batch_has_the_time_limit_of_one_question(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(lake, search_seconds=0.05)
    # Ten milliseconds each.
    slow = {"query": " ".join(f"word{number}x{number}" for number in range(700)), "mode": "keyword"}
    started = time.monotonic()
    answers = client.post("/api/v1/search/batch", json={"searches": [slow] * 32}).json()["answers"]
    assert time.monotonic() - started < 2
    assert len(answers) == 32
    assert (answers[-1]["type"], answers[-1]["status"]) == ("urn:akosha:problem:too-slow", 504)
    assert (
        answers[-1]["detail"]
        == "no answer within 0.05 s; all questions of a batch share them; ask this one again, among fewer"
    )


def test_large_answers_are_compressed(client: httpx.Client) -> None:
    answer = client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"


def test_filtered_memories_are_exported_as_json_lines_and_parquet(client: httpx.Client) -> None:
    exported = client.post("/api/v1/export", json={"system_id": "laptop-ada"})
    assert "X-Akosha-Incomplete" not in exported.headers
    rows = [json.loads(line) for line in exported.text.splitlines()]
    assert {(row["id"], row["text"], row["tier"]) for row in rows} == {
        ("2", ROWS[1]["text"], "hot"),
        ("3", ROWS[2]["text"], "hot"),
    }
    table = pq.read_table(io.BytesIO(client.post("/api/v1/export", json={"format": "parquet"}).content))
    assert {"r/1", "2", "3"} <= set(table["id"].to_pylist())
    assert table.schema.field("occurred_at").type.tz == "UTC"
    assert_problem(client.post("/api/v1/export", json={"format": "csv"}), 422, "'jsonl' or 'parquet'")


def test_sql_reads_the_views_and_nothing_else(client: httpx.Client) -> None:
    query = "SELECT kind, count(*) AS n FROM memories WHERE id IN ('r/1', '2', '3') GROUP BY kind ORDER BY kind"
    answer = client.post("/api/v1/sql", json={"query": query}).json()
    assert answer["rows"] == [{"kind": "conversation", "n": 2}, {"kind": "reflection", "n": 1}]
    assert answer["columns"][0] == {"name": "kind", "type": "VARCHAR"}
    assert_problem(
        client.post("/api/v1/sql", json={"query": "SELECT * FROM read_text('/etc/passwd')"}),
        422,
        "table function read_text",
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("true", True),
        ("18446744073709551615::UBIGINT", 18446744073709551615),
        ("(SELECT sum(i) FROM range(3) t(i))", 3),
        ("170141183460469231731687303715884105727::HUGEINT", 170141183460469231731687303715884105727),
        ("340282366920938463463374607431768211455::UHUGEINT", "340282366920938463463374607431768211455"),
        ("0.50::DECIMAL(3, 2)", 0.5),
        ("1e-9::DECIMAL(38, 20)", 1e-9),
        ("0.25::DOUBLE", 0.25),
        ("'nan'::FLOAT", "nan"),
        ("['-inf'::DOUBLE, 1]", ["-inf", 1.0]),
        ("NULL", None),
        ("'ü'", "ü"),
        ("'{}'::JSON", "{}"),
        ("timestamp_ns '2026-01-01 00:00:00.123456789'", "2026-01-01 00:00:00.123456789"),
        ("timestamp '290000-01-01'", "290000-01-01 00:00:00"),
        ("timestamptz '2026-01-01 00:00:00+02'", "2025-12-31 22:00:00+00"),
        ("date 'infinity'", "infinity"),
        ("date '0044-03-15 (BC)'", "0044-03-15 (BC)"),
        ("timetz '01:02:03+02'", "01:02:03+02"),
        ("interval '1 month'", "1 month"),
        ("'0101'::BIT", "0101"),
        ("'\\xFF'::BLOB", "\\xFF"),
        ("'a'::ENUM('a', 'b')", "a"),
        ("uuid '550e8400-e29b-41d4-a716-446655440000'", "550e8400-e29b-41d4-a716-446655440000"),
        ("union_value(n := 2)", "2"),
        ("MAP {1: date 'infinity'}", [[1, "infinity"]]),
        ("[[1], [2, NULL], NULL]", [[1], [2, None], None]),
        ("[interval '1 month']::INTERVAL[1]", ["1 month"]),
        (
            "{'a': NULL, 'b \"': [{'at': timestamp_ns '2026-01-01', 'n': 1.5}]}",
            {"a": None, 'b "': [{"at": "2026-01-01 00:00:00", "n": 1.5}]},
        ),
    ],
)
def test_sql_returns_values_that_json_lacks_as_text(client: httpx.Client, value: str, expected: object) -> None:
    answer = client.post("/api/v1/sql", json={"query": f"SELECT {value} AS v"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"] == [{"v": expected}]


def test_sql_returns_every_column_under_a_distinct_name(client: httpx.Client) -> None:
    answer = client.post("/api/v1/sql", json={"query": "SELECT 1 AS a, date '2026-01-01' AS a, 3 AS a_1"}).json()
    assert answer["rows"] == [{"a": 1, "a_1": "2026-01-01", "a_1_1": 3}]
    assert answer["columns"][1] == {"name": "a_1", "type": "DATE"}
    assert client.post("/api/v1/sql", json={"query": "SHOW TABLES"}).status_code == 200
    assert client.post("/api/v1/sql", json={"query": "SUMMARIZE hot"}).status_code == 200


def test_a_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    assert_problem(client.post("/api/v1/search", json={"query": "a" * 2_000_000}), 413, "expected at most")


def test_a_body_that_does_not_arrive_times_out(serve: Callable[..., httpx.Client], lake: Lake) -> None:
    client = serve(lake, body_seconds=0.3)
    port = client.base_url.port
    assert port is not None
    for path in ("/api/v1/search", "/api/v1/uploads/redrive", "/mcp"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as half:
            half.sendall(half_request(path))
            # Until the service closes the connection.
            answer = b"".join(iter(lambda: half.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408 ") and b"urn:akosha:problem:request-timeout" in answer
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        slow.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: "
            b"application/json\r\nContent-Length: 22\r\n\r\n"
        )
        for piece in (b'{"query": ', b'"deadlock', b'" }'):
            time.sleep(0.05)
            slow.sendall(piece)
        assert b'"r/1"' in b"".join(iter(lambda: slow.recv(65536), b""))


def test_a_client_that_disconnects_in_its_body_is_not_an_error(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    port = client.base_url.port
    assert port is not None
    for path in ("/api/v1/search", "/mcp"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(half_request(path))
    assert client.get("/health").status_code == 200
    time.sleep(0.2)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_systems_are_listed_in_pages(client: httpx.Client) -> None:
    first = client.get("/api/v1/systems", params={"limit": 1}).json()
    assert [(system["system_id"], system["memories"]) for system in first["systems"]] == [("laptop-ada", 2)]
    second = client.get("/api/v1/systems", params={"limit": 1, "cursor": first["cursor"]}).json()
    assert [system["system_id"] for system in second["systems"]] == ["laptop-bob"]


def test_health_is_degraded_without_a_model(client: httpx.Client) -> None:
    health = client.get("/health")
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert "akosha model fetch" in " ".join(health.json()["reasons"])


def test_health_names_an_inbox_folder_that_does_not_exist(
    tmp_path: Path, serve: Callable[..., httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_check, "CHECK_SECONDS", 0.05)
    inbox = tmp_path / "uploads"
    client = serve(Lake(LakeSettings(home=tmp_path / "home", inbox_url=str(inbox))))

    def reasons() -> list[str]:
        return [reason for reason in client.get("/health").json()["reasons"] if reason.startswith("inbox: ")]

    until(reasons)
    assert reasons() == [f"inbox: the folder {inbox} does not exist; create it or set AKOSHA_INBOX_URL"]
    assert client.get("/health").json()["inbox"] == {"url": inbox.as_uri(), "is_missing": True}
    inbox.mkdir()
    until(lambda: not reasons())


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 422, "just one of query, vector and like"),
        ({"query": "a", "mode": "psychic"}, 422, "'hybrid', 'semantic' or 'keyword'"),
        ({"vector": [1.0, 2.0]}, 422, "has 2 numbers; expected 16"),
        ({"query": "a", "cursor": "nonsense!"}, 422, "is not a cursor"),
        ({"query": "a", "limit": 1000}, 422, "less than or equal to 100"),
        ({"query": "a", "since": "2026-01-01T00:00:00"}, 422, "expected a time with its zone, for example"),
        ({"query": "a", "since": 1.5}, 422, "expected a time with its zone, for example"),
        ({"query": "a", "as_of": 1.5}, 422, "as_of: expected a whole number or expected a time with its zone"),
        ({"query": "a", "system_id": 5}, 422, "system_id: expected a string or expected a list; found 5"),
        ({"query": "a", "limit": "many"}, 422, "limit: expected a whole number; found 'many'"),
        (
            {"query": "a", "weights": {"semantic": 1e300}},
            422,
            "weights: expected numbers from 0 to 1000, not both 0; found 1e+300 and 0.4",
        ),
        ({"query": "a", "limit": True}, 422, "limit: expected a whole number; found true"),
        ({"query": "a", "limit": "5"}, 422, "limit: expected a whole number; found '5'"),
        ({"query": "a", "budget_tokens": 50.0}, 422, "budget_tokens: expected a whole number; found 50.0"),
        ({"query": "a", "importance_min": True}, 422, "importance_min: expected a number; found true"),
        ({"query": "a", "collapse": "yes"}, 422, "collapse: expected true or false; found 'yes'"),
        ({"query": "a", "weights": {"semantic": "1"}}, 422, "weights.semantic: expected a number; found '1'"),
        ({"vector": [1, False]}, 422, "vector.1: expected a number; found false"),
        ({"query": "a", "limit": None}, 422, "limit: expected a whole number; found null"),
        (
            {"query": "a", "system_id": 1},
            422,
            "system_id: expected a string or expected a list; found 1",
        ),
        ({"query": "a", "tags": ["x"] * 21}, 422, "tags: expected a list of at most 20; found a list of 21"),
        ([], 422, "body: expected a JSON object; found a list"),
        ({"like": {"system_id": "x"}}, 422, "like.kind: is missing; like.id: is missing"),
        ({"query": "a", "colour": "red"}, 422, "colour: is not a field of this request; expected one of system_id, "),
        ({"query": "a", "mode": "semantic"}, 503, "akosha model fetch"),
        ({"like": {"system_id": "x", "kind": "y", "id": "z"}}, 404, "no memory 'x/y/z'"),
    ],
)
def test_every_invalid_request_is_a_problem_with_what_was_expected(
    client: httpx.Client, body: Any, status: int, message: str
) -> None:
    assert_problem(client.post("/api/v1/search", json=body), status, message)


def test_a_value_of_another_type_is_refused_and_not_coerced(client: httpx.Client) -> None:
    assert (
        client.post("/api/v1/search", json={"query": "a", "importance_min": 0, "weights": {"keyword": 1}}).status_code
        == 200
    )
    assert_problem(
        client.post("/api/v1/export", json={"partial": "yes"}), 422, "partial: expected true or false; found 'yes'"
    )
    assert_problem(
        client.post("/api/v1/sql", json={"query": "SELECT 1", "max_rows": "1"}),
        422,
        "max_rows: expected a whole number; found '1'",
    )
    redrive = client.post("/api/v1/uploads/redrive", json={"reason": "file_missing", "dry_run": "no"})
    assert_problem(redrive, 422, "dry_run: expected true or false; found 'no'")


def test_other_errors_have_the_same_shape(client: httpx.Client) -> None:
    assert_problem(client.get("/nowhere"), 404, "there is no such route; /docs shows every route")
    assert_problem(client.get("/api/v1/search"), 405, "GET is not allowed; expected POST")
    assert_problem(
        client.get("/api/v1/uploads", params={"limit": 0}), 422, "limit: expected greater than or equal to 1; found '0'"
    )
    too_large = base64.b64encode(b"after:" + b"9" * 30).decode()
    assert_problem(client.get("/api/v1/uploads", params={"cursor": too_large}), 422, "is the cursor of another list")
    assert_problem(
        client.get("/api/v1/uploads", params={"reason": "bad_luck"}), 422, "expected one of system_id_invalid"
    )
    assert_problem(client.get("/api/v1/memories/a/b/c"), 404, "no memory 'a/b/c'")
    assert_problem(client.get("/api/v1/systems", params={"cursor": "QUJD"}), 422, "is not a cursor")
    assert_problem(client.get("/api/v1/uploads", params={"state": "lost"}), 422, "is not a state")
    assert_problem(client.get("/api/v1/uploads/none"), 404, "no upload 'none'")


@pytest.mark.parametrize("route", ["search", "search/batch", "export", "sql", "uploads/redrive"])
@pytest.mark.parametrize("body", [b"", b"rubbish", b"{"])
def test_a_body_that_is_not_json_is_refused(client: httpx.Client, route: str, body: bytes) -> None:
    refused = client.post(f"/api/v1/{route}", content=body, headers={"Content-Type": "application/json"})
    message = "body: is missing" if not body and route == "uploads/redrive" else "expected a JSON object"
    assert_problem(refused, 422, message)
    assert [fault["field"] for fault in refused.json()["errors"]] == ["body"]


@pytest.mark.parametrize(
    "path",
    ["/health", "/ready", "/metrics", "/", "/api/v1/systems", "/api/v1/memories/laptop-ada/reflection/2", "/docs"],
)
def test_head_is_answered_as_get_without_the_body(client: httpx.Client, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    assert head.headers.get("ETag") == get.headers.get("ETag")
    assert "X-Request-Id" in head.headers


def test_head_is_refused_like_get(client: httpx.Client) -> None:
    assert (client.head("/nowhere").status_code, client.head("/api/v1/memories/a/b/c").status_code) == (404, 404)
    refusal = client.head("/api/v1/search")
    assert (refusal.status_code, refusal.headers["Allow"], refusal.content) == (405, "POST", b"")
    assert client.head("/mcp").status_code == 405
    refusal = client.post("/health")
    assert_problem(refusal, 405, "POST is not allowed; expected GET, HEAD")
    assert refusal.headers["Allow"] == "GET, HEAD"


def test_the_request_id_of_the_caller_is_returned(client: httpx.Client) -> None:
    assert client.get("/health", headers={"X-Request-Id": "abc"}).headers["X-Request-Id"] == "abc"
    assert client.get("/nowhere", headers={"X-Request-Id": "abc"}).json()["request_id"] == "abc"


def test_the_openapi_document_has_examples_and_problems(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("search", "search/batch", "export", "sql"):
        operation = document["paths"][f"/api/v1/{path}"]["post"]
        for status in (404, 405, 408, 411, 413, 422, 500, 503, 504):
            assert "application/problem+json" in operation["responses"][str(status)]["content"]
        name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for example in document["components"]["schemas"][name]["examples"]:
            answer = client.post(f"/api/v1/{path}", json=example)
            # The fleet of the demo is not in this lake.
            assert answer.status_code == 200 or (answer.status_code == 404 and "like" in example), answer.text
    schemas = document["components"]["schemas"]
    assert (
        schemas["BatchRequest"]["properties"]["searches"]["items"]["properties"]
        == schemas["SearchRequest"]["properties"]
    )


def half_request(path: str) -> bytes:
    """A request with the first bytes of a body of 100."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    return head.encode() + b'{"query": '


@pytest.mark.parametrize("now", [datetime(2026, 3, 1, 0, 5, tzinfo=UTC), datetime(2027, 8, 9, 23, 0, tzinfo=UTC)])
def test_the_memory_of_the_examples_is_in_the_demo_fleet(now: datetime) -> None:
    fleet = history(FleetPlan(systems=10, memories=300, days=7, now=now, fingerprints=False), 0)
    assert OF_THE_DEMO["system_id"] == system_id(0)
    rows = fleet[-1].tables["conversations_v2"]
    assert OF_THE_DEMO["id"] in {row["id"] for row in rows}
    assert str(OF_THE_DEMO["id"]) in (Path(__file__).parents[2] / "docs/api.md").read_text()
    assert any("key policies" in row["content"] for row in fleet[-1].tables["reflections_v2"])


def test_a_new_commit_is_served_without_a_restart(client: httpx.Client, lake: Lake) -> None:
    commit(lake, 2, memory("4", "kubernetes oomkilled", system="laptop-eve"))
    until(lambda: client.post("/api/v1/search", json={"query": "oomkilled"}).json()["results"])


def test_an_earlier_version_can_be_searched(lake: Lake, client: httpx.Client) -> None:
    version = commit(lake, 3, memory("5", "a leaking goroutine", system="laptop-eve"))
    upsert(
        lake, 4, memory("5", "a goroutine that was fixed", system="laptop-eve", snapshot_at=NOW + timedelta(hours=1))
    )
    until(lambda: client.post("/api/v1/search", json={"query": "fixed"}).json()["results"])
    answer = client.post("/api/v1/search", json={"query": "goroutine", "as_of": version}).json()
    assert [result["text"] for result in answer["results"]] == ["a leaking goroutine"]
    assert (answer["tiers"]["hot"]["version"], answer["tiers"]["cold"]["state"]) == (version, "empty")
    at = answer["tiers"]["hot"]["watermark"]
    path = "/api/v1/memories/laptop-eve/conversation/5"
    for as_of in (version, at):
        assert client.get(path, params={"as_of": as_of}).json()["text"] == "a leaking goroutine"
        exported = client.post("/api/v1/export", json={"system_id": "laptop-eve", "as_of": as_of})
        assert "leaking" in exported.text and "fixed" not in exported.text
        assert "X-Akosha-Incomplete" not in exported.headers
    assert client.get(path).json()["text"] == "a goroutine that was fixed"
    assert_problem(client.post("/api/v1/search", json={"query": "a", "as_of": 10**9}), 422, "no version 1000000000")
    assert_problem(client.get(path, params={"as_of": "last week"}), 422, "as_of")


def assert_problem(response: Any, status: int, message: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert {"type", "title", "status", "detail", "instance", "errors", "request_id"} == set(problem)
    assert problem["status"] == status
    assert status != 422 or problem["title"] == "Unprocessable Content"
    assert message in problem["detail"]
