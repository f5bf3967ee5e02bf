"""The uploads of the simulated fleet: their form, their order, and that they depend on the plan alone."""

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from akosha_assets.fleet.faults import FAULTS, upload_faults
from akosha_assets.fleet.systems import FleetPlan, history
from akosha_assets.fleet.topics import redacted, topic_of
from akosha_assets.fleet.upload import UploadedSnapshot, upload_fleet
from akosha_assets.lake.objects import ObjectStore
from tests.factories import make_upload

Inbox = tuple[Path, list[UploadedSnapshot]]
NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
SHAPE = (
    "SELECT t.table_name, c.column_name, c.data_type FROM duckdb_tables() t JOIN duckdb_columns() c USING "
    "(database_name, table_oid) "
    "WHERE t.database_name = current_database() ORDER BY ALL"
)


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Inbox:
    folder = tmp_path_factory.mktemp("inbox")
    return folder, upload_fleet(folder.as_uri(), FleetPlan(systems=3, memories=60, now=NOW, snapshots=2))


def open_database(folder: Path, upload: UploadedSnapshot, name: str, to: Path) -> duckdb.DuckDBPyConnection:
    to.write_bytes(gzip.decompress((folder / upload.prefix / f"{name}.duckdb").read_bytes()))
    return duckdb.connect(str(to), read_only=True)


@pytest.mark.parametrize("name", ["reflection", "knowledge_graph"])
def test_databases_have_the_tables_columns_and_types_of_real_uploads(
    inbox: Inbox, shared: Path, tmp_path: Path, name: str
) -> None:
    real = max((shared / "uploads" / "systems" / "laptop-ada" / "uploads").iterdir())
    (tmp_path / "real").write_bytes(gzip.decompress((real / f"{name}.duckdb").read_bytes()))
    folder, uploads = inbox
    with (
        duckdb.connect(str(tmp_path / "real"), read_only=True) as expected,
        open_database(folder, uploads[0], name, tmp_path / "made") as made,
    ):
        assert made.execute(SHAPE).fetchall() == expected.execute(SHAPE).fetchall()
        indexes = "SELECT index_name, sql FROM duckdb_indexes() ORDER BY ALL"
        assert made.execute(indexes).fetchall() == expected.execute(indexes).fetchall()


def test_the_main_tables_have_the_documented_columns(inbox: Inbox, tmp_path: Path) -> None:
    folder, uploads = inbox
    with open_database(folder, uploads[0], "reflection", tmp_path / "made") as made:
        found = made.execute(SHAPE).fetchall()
        version = made.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = current_database()"
        ).fetchone()
    assert len({table for table, _, _ in found}) == 28
    assert {(column, kind) for table, column, kind in found if table == "conversations_v2"} >= {
        ("id", "VARCHAR"), ("content", "VARCHAR"), ("embedding", "FLOAT[384]"), ("timestamp", "TIMESTAMP"),
        ("metadata", "VARCHAR"), ("fingerprint", "BLOB"), ("importance_score", "FLOAT"),
    }  # fmt: skip
    assert ("reflections_v2", "tags", "VARCHAR[]") in found
    assert version and version[0].startswith("v2.")


def test_the_manifest_names_both_databases_and_is_the_last_object_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    put = ObjectStore.put

    def record(store: ObjectStore, key: str, data: bytes) -> None:
        order.append(key)
        put(store, key, data)

    monkeypatch.setattr(ObjectStore, "put", record)
    upload = upload_fleet(tmp_path.as_uri(), FleetPlan(systems=1, memories=3, now=NOW))[0]
    assert [key.rsplit("/", 1)[1] for key in order] == ["reflection.duckdb", "knowledge_graph.duckdb", "manifest.json"]
    manifest = json.loads((tmp_path / upload.prefix / "manifest.json").read_bytes())
    assert upload.upload_id == f"{NOW:%Y%m%d_%H%M%S}_{upload.system_id}" == manifest["upload_id"]
    assert [(file["path"], file["size_bytes"], file["checksum"]) for file in manifest["files"]] == [
        (key, 0, "") for key in order[:2]
    ]


def test_the_same_plan_gives_the_same_rows_and_another_seed_gives_others() -> None:
    plan = FleetPlan(systems=2, memories=40, now=NOW, snapshots=2)
    again = FleetPlan(systems=2, memories=40, now=NOW, snapshots=2)
    assert history(plan, 1) == history(again, 1)
    assert history(plan, 1) != history(FleetPlan(systems=2, memories=40, now=NOW, snapshots=2, seed=1), 1)


def test_the_last_snapshot_holds_the_planned_memories_within_the_planned_days() -> None:
    plan = FleetPlan(systems=1, memories=500, now=NOW, snapshots=3, days=3)
    snapshots = history(plan, 0)
    tables = snapshots[-1].tables
    assert (
        sum(len(tables[name]) for name in ("conversations_v2", "reflections_v2", "conversations", "reflections")) == 500
    )
    days = {row["timestamp"].date() for row in tables["conversations_v2"]}
    assert days == {(NOW - timedelta(days=days_ago)).date() for days_ago in range(3)}
    assert [snapshot.at for snapshot in snapshots] == sorted(snapshot.at for snapshot in snapshots)
    assert snapshots[-1].at == NOW


def test_a_later_snapshot_adds_rows_and_changes_about_one_reflection_in_a_hundred() -> None:
    first, second = history(FleetPlan(systems=1, memories=3000, now=NOW, snapshots=2), 0)
    before = {row["id"]: row for row in first.tables["reflections_v2"]}
    after = {row["id"]: row for row in second.tables["reflections_v2"]}
    changed = [name for name, row in before.items() if after[name] != row]
    assert set(before) < set(after)
    assert 0.005 < len(changed) / len(before) < 0.02
    assert {row["id"] for row in first.tables["conversations_v2"]} < {
        row["id"] for row in second.tables["conversations_v2"]
    }


def test_ids_are_constructed_as_session_buddy_does() -> None:
    tables = history(FleetPlan(systems=1, memories=400, now=NOW), 2)[-1].tables
    adapter = [row for row in tables["conversations_v2"] if len(row["id"]) == 16]
    assert all(row["id"] == hashlib.sha256(row["content"].encode()).hexdigest()[:16] for row in adapter)
    assert all(row["content"] == redacted(row["content"]) for row in adapter)
    facts = [row for row in tables["conversations_v2"] if len(row["id"]) == 32]
    assert facts and all(row["reasoning"] and row["session_id"] and "metadata" not in row for row in facts)
    assert all(len(row["id"]) == 26 for row in tables["reflections_v2"])
    assert len({row["id"] for row in tables["conversations_v2"]}) == len(tables["conversations_v2"])


def test_clocks_are_local_and_ulids_are_utc() -> None:
    tables = history(FleetPlan(systems=3, memories=100, now=NOW), 2)[-1].tables
    for row in tables["reflections_v2"]:
        millis = 0
        for letter in row["id"][:10]:
            millis = millis * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(letter)
        assert (
            abs(
                row["timestamp"] - datetime.fromtimestamp(millis / 1000, UTC).replace(tzinfo=None) + timedelta(hours=8)
            ).total_seconds()
            < 1
        )


def test_the_topic_of_every_memory_is_recognised() -> None:
    tables = history(FleetPlan(systems=1, memories=1000, now=NOW, snapshots=2), 0)[-1].tables
    texts = [
        row["content"]
        for name in ("conversations_v2", "reflections_v2", "conversations", "reflections")
        for row in tables[name]
    ]
    assert all(topic_of(text) for text in texts)
    assert len(set(texts)) > 0.95 * len(texts)


def test_counts_are_those_of_the_databases(inbox: Inbox, tmp_path: Path) -> None:
    folder, uploads = inbox
    with (
        open_database(folder, uploads[-1], "reflection", tmp_path / "r") as found,
        open_database(folder, uploads[-1], "knowledge_graph", tmp_path / "g") as graph,
    ):
        for table, count in uploads[-1].rows.items():
            database = graph if table.startswith("kg_") else found
            assert database.execute(f'SELECT count(*) FROM "{table}"').fetchone() == (count,)
    assert uploads[-1].memories == 60


def test_copies_of_distinct_systems_are_uploaded_under_their_own_names(tmp_path: Path) -> None:
    uploads = upload_fleet(tmp_path.as_uri(), FleetPlan(systems=5, memories=10, now=NOW, distinct=2))
    assert len({upload.system_id for upload in uploads}) == 5
    data = [(tmp_path / upload.prefix / "reflection.duckdb").read_bytes() for upload in uploads]
    assert data[0] == data[2] == data[4] != data[1] == data[3]
    assert (
        json.loads((tmp_path / uploads[4].prefix / "manifest.json").read_bytes())["system_id"] == uploads[4].system_id
    )


def test_more_processes_upload_the_same_fleet(tmp_path: Path) -> None:
    plan = FleetPlan(systems=17, memories=1, now=NOW)
    seen: list[str] = []
    uploads = upload_fleet(tmp_path.as_uri(), plan, processes=2, on_upload=lambda upload: seen.append(upload.system_id))
    assert seen == [upload.system_id for upload in uploads]
    assert len(list(tmp_path.rglob("manifest.json"))) == len(set(seen)) == 17


def test_each_faulty_upload_has_the_fault_of_its_name(tmp_path: Path) -> None:
    made = upload_faults(tmp_path.as_uri(), at=NOW)
    assert set(made) == set(FAULTS)
    names = {path.parent.name for path in tmp_path.rglob("manifest.json")}
    assert names == set(made.values()) - {made["no-manifest"]}
    with pytest.raises(EOFError):
        gzip.decompress(next(tmp_path.rglob("*truncated-database/reflection.duckdb")).read_bytes())
    bare = tmp_path / "bare"
    bare.write_bytes(gzip.decompress(next(tmp_path.rglob("*no-tables/reflection.duckdb")).read_bytes()))
    with duckdb.connect(str(bare), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (0,)


def test_an_impossible_plan_raises_an_error_that_names_what_was_expected() -> None:
    with pytest.raises(ValueError, match="systems is 0; expected at least 1"):
        FleetPlan(systems=0, memories=1, now=NOW)
    with pytest.raises(ValueError, match="without a zone"):
        FleetPlan(systems=1, memories=1, now=NOW.replace(tzinfo=None))


def test_the_factory_writes_chosen_rows_with_defaults_filled(tmp_path: Path) -> None:
    upload = make_upload(
        tmp_path,
        "laptop-ada",
        conversations=["Redis evicts sessions", {"content": "x", "id": "abc"}],
        reflections=["use noeviction"],
    )
    with open_database(tmp_path, upload, "reflection", tmp_path / "made") as found:
        assert found.execute("SELECT id, content, namespace FROM conversations_v2 ORDER BY timestamp").fetchall() == [
            (hashlib.sha256(b"Redis evicts sessions").hexdigest()[:16], "Redis evicts sessions", "default"),
            ("abc", "x", "default"),
        ]
        assert found.execute("SELECT content FROM reflections_v2").fetchall() == [("use noeviction",)]


def test_a_column_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"conversations_v2 has no columns \['mood'\]"):
        make_upload(tmp_path, "laptop-ada", conversations=[{"content": "x", "mood": "good"}])


def test_the_adapter_writes_fingerprints() -> None:
    tables = history(FleetPlan(systems=1, memories=300, now=NOW), 0)[-1].tables
    for row in tables["conversations_v2"]:
        assert len(row.get("fingerprint", b"")) == (0 if "reasoning" in row else 1024)
    plain = history(FleetPlan(systems=1, memories=300, now=NOW, fingerprints=False), 0)[-1].tables
    assert all("fingerprint" not in row for row in plain["conversations_v2"])
