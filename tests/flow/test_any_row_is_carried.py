"""Rows of anything that the schemas allow pass every interface: no request fails with 5xx and no row is lost.

`AKOSHA_TEST_EXAMPLES=200 pytest -n 0 tests/flow/test_any_row_is_carried.py` tries more rows, new ones each time.
"""

import http.client
import io
import json
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from akosha_assets.cli.main import app
from akosha_assets.fleet.databases import Renderer
from akosha_assets.fleet.upload import manifest, upload_prefix, write_upload
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.graph import near_duplicates
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.source.tables import SOURCE_TABLES
from akosha_assets.lake.lifecycle import aging
from akosha_assets.lake.lifecycle.policy import TierPolicy
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep import compaction
from akosha_assets.lake.upkeep.backup import backup
from akosha_assets.lake.upkeep.restore import restore
from tests import tiny_model
from tests.api.conftest import served, until
from tests.odd_rows import (
    DUCKDB_TABLES,
    JSON_ROWS,
    MARKER,
    NOON,
    SQLITE_ROWS,
    TEXT,
    TIER_TABLES,
    TODAY,
    Row,
    source_tables,
)

Name = tuple[str, str, str]

EXAMPLES = int(os.environ.get("AKOSHA_TEST_EXAMPLES", "0"))
KINDS = {spec.name: spec.kind for spec in SOURCE_TABLES}
EVERYTHING = " UNION ALL BY NAME ".join(
    f"SELECT '{view}' AS view, * FROM {view}" for view in ("memories", "hot", "warm", "cold")
)
MEMORIES = ("conversation", "reflection")
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("model"))


@pytest.mark.timeout(600 + 120 * EXAMPLES)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(
    max_examples=EXAMPLES or 2,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    # No shrinking: it takes minutes, and the message names the row at fault.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(source_tables(4), SQLITE_ROWS, JSON_ROWS, TIER_TABLES, st.lists(TEXT, min_size=3, max_size=6))
def test_any_row_passes_every_interface(
    model: Path,
    duckdb_tables: dict[str, list[Row]],
    sqlite_rows: list[Row],
    json_rows: list[Row],
    tier_tables: dict[str, pa.Table],
    queries: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(
            LakeSettings(
                home=Path(folder) / "home",
                workers=1,
                embedding_model="akosha/tiny",
                embedding_model_dir=model,
                uploaded_vector_space="akosha/tiny",
                backup_url=str(Path(folder) / "backup"),
            )
        )
        uploaded = put_uploads(lake.settings.home / "inbox", duckdb_tables, sqlite_rows, json_rows)
        ledger = Ledger.open(lake.settings)
        try:
            names = ingest(lake, ledger, uploaded) | put_tables(lake, tier_tables)
            carried(lake, ledger, names, queries)
        finally:
            ledger.close()


def put_tables(lake: Lake, tables: dict[str, pa.Table]) -> set[Name]:
    """Stores the rows as an earlier version may have done: only the schema was checked."""
    names = set()
    for address, rows in tables.items():
        if rows.num_rows:
            write_deltalake(lake.create(address), rows, mode="append")
            names |= set(zip(*(rows[name].to_pylist() for name in ("system_id", "kind", "id")), strict=True))
    return names


def put_uploads(
    inbox: Path, duckdb_tables: dict[str, list[Row]], sqlite_rows: list[Row], json_rows: list[Row]
) -> dict[str, set[Name]]:
    """Writes an upload of each format to the inbox; returns its rows by system."""
    at = NOON - timedelta(hours=2)
    with Renderer() as renderer:
        write_upload(ObjectStore(inbox.as_uri()), "duck", duckdb_tables, at=at, renderer=renderer)
    for system, layout in (("lite", "uploads/"), ("json", "")):
        prefix = f"systems/{system}/{layout}20261120_080000_{system}"
        (inbox / prefix).mkdir(parents=True)
        (inbox / prefix / "manifest.json").write_bytes(
            manifest(system, f"20261120_080000_{system}", at, ["reflection"])
        )
    put_sqlite(inbox / upload_prefix("lite", "20261120_080000_lite") / "reflection.duckdb", sqlite_rows)
    (inbox / "systems/json/20261120_080000_json/memories.json").write_text(json.dumps({"conversations": json_rows}))
    return {
        "duck": {("duck", KINDS[table], row["id"]) for table in DUCKDB_TABLES for row in duckdb_tables[table]},
        "lite": {("lite", "conversation", row["id"]) for row in sqlite_rows},
        "json": {("json", "conversation", row["id"]) for row in json_rows},
    }


def put_sqlite(path: Path, rows: list[Row]) -> None:
    connection = sqlite3.connect(path)
    columns = list(rows[0]) if rows else ["id", "content"]
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in columns]
    connection.execute(f"CREATE TABLE reflections_v2 ({', '.join(quoted)})")
    places = ", ".join("?" * len(columns))
    connection.executemany(
        f"INSERT INTO reflections_v2 VALUES ({places})", [[row[name] for name in columns] for row in rows]
    )
    connection.commit()
    connection.close()


def ingest(lake: Lake, ledger: Ledger, uploaded: dict[str, set[Name]]) -> set[Name]:
    """Ingest the uploads; returns the memories that are stored now. Other rows are counted by their upload."""
    listing.sweep(lake.settings, ledger, now=datetime.now(UTC), whole=True)
    arrivals.ingest(lake, ledger, run_id="test")
    stored = set()
    for address in ("lifecycle/hot", "graph/entities"):
        columns = lake.select(address, ["system_id", "kind", "id", "upload_id"]).to_pylist()
        stored |= {(row["system_id"], row["kind"], row["id"]) for row in columns if row["system_id"] in uploaded}
    for one in ledger.uploads().uploads:
        expected = uploaded[one.system_id]
        if one.system_id == "lite":
            expected = {(system, "reflection", id) for system, _, id in expected}
        if one.state == "ingested":
            assert {name for name in stored if name[0] == one.system_id} == expected, one
        else:
            # Flaws of uploads without a readable row.
            assert (one.state, one.reason) == ("quarantined", "column_type_unexpected"), (one.reason, one.message)
    return {name for name in stored if name[1] in MEMORIES}


def carried(lake: Lake, ledger: Ledger, names: set[Name], queries: list[str]) -> None:
    """Every memory passes every interface in each tier, also in backups and earlier versions."""
    policy = TierPolicy.of(lake.settings)
    # Long time limits: this test is about odd rows and not about slow machines.
    with served(lake, recall_seconds=0, search_seconds=60, sql_seconds=60) as client:
        client.timeout = httpx.Timeout(120)
        settle(client)
        assert_all_is_served(client, names, queries)
        processes(client, lake, names, queries)
        near_duplicates.group(lake, now=datetime.now(UTC), run_id="test")
        for days in (0, 200):
            today = TODAY + timedelta(days=days)
            due = aging.due(lake, policy, today)
            list(aging.age(lake, due, policy=policy, today=today, moved_at=datetime.now(UTC), run="test"))
            for address in ("lifecycle/hot", "lifecycle/warm", "lifecycle/cold"):
                compaction.compact(lake, address, today=today)
            settle(client)
            assert_all_is_served(client, names, queries[:2])
        processes(client, lake, names, queries[:1])
        past(client, lake)
    backup(lake, ledger, now=datetime.now(UTC))
    other = lake.settings.model_copy(update={"home": lake.settings.home.parent / "restored"})
    restore(other)
    assert stored_names(Lake(other)) == names


def stored_names(lake: Lake) -> set[Name]:
    return {
        (row["system_id"], row["kind"], row["id"])
        for tier in ("hot", "warm", "cold")
        for row in lake.select(f"lifecycle/{tier}", ["system_id", "kind", "id"]).to_pylist()
    }


def settle(client: httpx.Client) -> None:
    """Waits until the service serves the newest versions of the tables."""
    until(lambda: client.get("/health").json()["is_settled"])


def assert_all_is_served(client: httpx.Client, names: set[Name], queries: list[str]) -> None:
    """Search, export and reads by name answer with every memory."""
    health = answered(client.get("/health"))
    assert not any(tier["rows_set_aside"] for tier in health["tiers"].values()), health
    assert {tier["state"] for tier in health["tiers"].values()} <= {"answered", "empty"}, health
    exported(client, names)
    with closing(http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)) as connection:
        for name in sorted(names):
            by_name(client, connection, name)
    searched(client, names, queries)


def processes(client: httpx.Client, lake: Lake, names: set[Name], queries: list[str]) -> None:
    """SQL, agents and commands, which take a process or a library of their own, answer too."""
    in_sql(client, names)
    over_mcp(client, sorted(names)[:3], queries)
    by_command(client, lake, sorted(names)[:2], queries)


def answered(response: httpx.Response, *refusals: int) -> Any:
    """The JSON of the answer, which is 200 or one of the refusals."""
    assert response.status_code in (200, *refusals), (
        response.status_code,
        response.text[:1000],
        response.request.url,
        response.request.read()[:1000],
    )
    return json.loads(response.content.decode(), parse_constant=pytest.fail)


def exported(client: httpx.Client, names: set[Name]) -> None:
    lines = client.post("/api/v1/export", json={}).content.split(b"\n")[:-1]
    rows = pq.read_table(io.BytesIO(client.post("/api/v1/export", json={"format": "parquet"}).content))
    for found in ([json.loads(line) for line in lines], rows.select(["system_id", "kind", "id"]).to_pylist()):
        assert Counter((row["system_id"], row["kind"], row["id"]) for row in found) == Counter(names)


def in_sql(client: httpx.Client, names: set[Name]) -> None:
    answer = answered(client.post("/api/v1/sql", json={"query": EVERYTHING, "max_rows": 10_000}))
    shown = [(row["system_id"], row["kind"], row["id"]) for row in answer["rows"] if row["view"] == "memories"]
    assert Counter(shown) == Counter(names)


def read(connection: http.client.HTTPConnection, path: str) -> Any:
    """The answer of the path, which is 200. Other clients drop `..` from a path."""
    connection.request("GET", path)
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, (path, content)
    return json.loads(content, parse_constant=pytest.fail)


def by_name(client: httpx.Client, connection: http.client.HTTPConnection, name: Name) -> None:
    path = "/".join(quote(part, safe="") for part in name)
    memory = read(connection, f"/api/v1/memories/{path}")
    assert (memory["system_id"], memory["kind"], memory["id"]) == name
    assert read(connection, f"/api/v1/explain/{path}")["id"] == name[2]
    like = dict(zip(("system_id", "kind", "id"), name, strict=True))
    # 409, 422: it has no vector to be compared by.
    similar = answered(client.post("/api/v1/search", json={"like": like, "limit": 3}), 404, 409, 422)
    assert "results" in similar or not memory["has_vector"] or memory["space"] != "akosha/tiny", (memory, similar)


def searched(client: httpx.Client, names: set[Name], queries: list[str]) -> None:
    found: set[Name] = set()
    for mode in ("keyword", "semantic", "hybrid"):
        for body in ({"query": MARKER}, {"query": MARKER, "collapse": False, "limit": 100}):
            answer = answered(client.post("/api/v1/search", json={"mode": mode} | body))
            assert all(stage["state"] != "unavailable" for stage in answer["stages"].values()), answer["stages"]
            found |= {(one["system_id"], one["kind"], one["id"]) for one in answer["results"]}
        for query in queries:
            for text in (query, f'"{query}"', f"project:{query}"):
                answered(client.post("/api/v1/search", json={"mode": mode, "query": text[:10_000], "limit": 20}), 422)
    assert found <= names
    for query in queries:
        for field in ("system_id", "project", "namespace", "category", "source_type"):
            answered(client.post("/api/v1/search", json={"query": MARKER, field: query}))
        answered(client.post("/api/v1/search", json={"query": MARKER, "tags": [query], "budget_tokens": 16}))
        fields = ["system_id", "kind", "project", "namespace", "category", "source_type"]
        answered(client.post("/api/v1/search", json={"query": query or MARKER, "facets": fields}), 422)
    answered(client.get("/api/v1/systems"))
    # Every memory with the word is found once.
    marked = [
        row
        for row in map(json.loads, client.post("/api/v1/export", json={}).content.split(b"\n")[:-1])
        if f" {MARKER} " in f" {row['text']} "
    ]
    assert {(row["system_id"], row["kind"], row["id"]) for row in marked} <= paged(client, MARKER)


def paged(client: httpx.Client, query: str) -> set[Name]:
    """Every result of a keyword search, of all pages."""
    found: list[Name] = []
    body: dict[str, Any] = {"query": query, "mode": "keyword", "collapse": False, "limit": 7}
    while True:
        answer = answered(client.post("/api/v1/search", json=body))
        found += [(one["system_id"], one["kind"], one["id"]) for one in answer["results"]]
        if answer["cursor"] is None:
            assert len(set(found)) == len(found)
            return set(found)
        body["cursor"] = answer["cursor"]


def over_mcp(client: httpx.Client, names: Iterable[Name], queries: list[str]) -> None:
    def call(tool: str, **arguments: Any) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        result = answered(client.post("/mcp", json=message, headers=ACCEPT))["result"]
        return result | {"refusal": result["content"][0]["text"][:500] if result["isError"] else None}

    for budget in (500, 4000):
        assert not call("search_all_systems", query=MARKER, budget_tokens=budget, limit=20)["refusal"]
    for query in queries:
        call("search_all_systems", query=query)
        call("search_all_systems", query=MARKER, tags=[query], project=query)
    for name in names:
        like = dict(zip(("system_id", "kind", "id"), name, strict=True))
        assert not call("read_memory", **like)["refusal"]
        # Names alone may exceed the smallest budget.
        assert "budget_tokens" in (call("read_memory", **like, budget_tokens=500)["refusal"] or "budget_tokens")
        call("find_similar", **like)
    assert not call("list_systems")["refusal"]


def by_command(client: httpx.Client, lake: Lake, names: Iterable[Name], queries: list[str]) -> None:
    environment = {
        "AKOSHA_HOME": str(lake.settings.home),
        "AKOSHA_URL": str(client.base_url),
        "AKOSHA_API_PORT": str(client.base_url.port),
    }

    def run(*arguments: str) -> None:
        result = CliRunner().invoke(app, list(arguments), env=environment)
        assert result.exit_code in (0, 1, 2), (arguments, result.output, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)

    run("search", MARKER, "-n", "100")
    run("search", MARKER, "-n", "100", "--json")
    run("status")
    for query in queries[:2]:
        run("search", "--", query)
    for name in names:
        run("explain", "--", "/".join(name))
        run("explain", "--json", "--", "/".join(name))


def past(client: httpx.Client, lake: Lake) -> None:
    """Earlier states of the tables are answered too."""
    table = lake.open("lifecycle/hot")
    versions = range(table.version() + 1) if table is not None else ()
    for as_of in (*versions, datetime.now(UTC).isoformat()):
        answered(client.post("/api/v1/search", json={"query": MARKER, "as_of": as_of}), 404, 410, 422)
        lines = client.post("/api/v1/export", json={"as_of": as_of, "partial": True})
        assert lines.status_code in (200, 404, 410, 422), lines.text
