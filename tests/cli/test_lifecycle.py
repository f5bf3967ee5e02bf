"""The lifecycle from the command line, on a lake in a folder."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from akosha_assets.cli.main import app
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model
from tests.lake.lifecycle.memories import hot_rows, store

TODAY = datetime.now(UTC).date()


@pytest.fixture
def told(tmp_path, monkeypatch):
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    store(Lake(LakeSettings()), hot_rows(TODAY - timedelta(days=10), 20))

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.stderr

    return run


def test_days_are_listed_then_aged_then_explained(told):
    assert [item["tier"] for item in told("age", "--dry-run")["due"]] == ["warm"]
    assert "say --once" in told("age", code=2)
    assert [item["rows"] for item in told("age", "--once")["moved"]] == [20]
    assert told("age", "--once")["moved"] == []
    found = told("explain", "system-1/conversation/id-000001")
    assert (found["tier"], found["policy"]["hot_days"]) == ("warm", 7)
    assert "no memory" in told("explain", "system-1/conversation/nobody", code=1)
    assert "is not SYSTEM/KIND/ID" in told("explain", "system-1", code=2)


def test_what_explains_a_memory_is_set_out_for_a_person(told):
    row = {"id": ["[/]$(touch gone)"], "system_id": ["system-\x1b9"]}
    rows = hot_rows(TODAY, 1)
    for name, value in row.items():
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), [value])
    store(Lake(LakeSettings()), rows, batch=2)
    shown = CliRunner().invoke(app, ["explain", "system-\x1b9/reflection/[/]$(touch gone)"])
    assert shown.exit_code == 0, shown.output
    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    assert lines[0] == "system-\\x1b9/reflection/[/]$(touch gone)"
    assert lines[1].split() == ["tier", "hot"]
    assert f"to warm on {TODAY + timedelta(days=7)}" in lines[3]
    assert not any(line.endswith("–") for line in lines)
    assert lines[-1].startswith("file  ") and lines[-1].endswith(".parquet")
    told("age", "--once")
    moved = CliRunner().invoke(app, ["explain", "system-1/conversation/id-000001"]).stdout
    assert "summary by" in moved and "UTC by cli-" in moved


def test_a_policy_is_tried_on_paper(told):
    found = told("tiers", "simulate", "--hot-days", "3", "--cold-days", "9")
    assert [cost["rows"] for cost in found["then"]] == [0, 0, 20]
    assert "cannot leave warm before" in told("tiers", "simulate", "--hot-days", "200", code=2)


def test_rows_that_moved_are_made_anew(told, tmp_path, monkeypatch):
    bare = TODAY - timedelta(days=11)
    store(Lake(LakeSettings()), hot_rows(bare, 20, embedded=False), batch=2)
    told("age", "--once")
    assert "cannot be loaded" in told("tiers", "renew", "--from", str(bare), code=1)
    monkeypatch.setenv("AKOSHA_EMBEDDING_MODEL", "akosha/tiny")
    monkeypatch.setenv("AKOSHA_EMBEDDING_MODEL_DIR", str(tiny_model.make(tmp_path / "model")))
    renewed = {
        row["event_day"]: (row["rows_embedded"], row["rows_left"])
        for row in told("tiers", "renew", "--from", str(bare))["renewed"]
    }
    assert renewed == {str(bare): (20, 0), str(TODAY - timedelta(days=10)): (0, 20)}


def test_retention_is_a_dry_run_and_holds_can_be_placed_and_released(told):
    assert told("retention", "apply")["is_dry_run"]
    assert told("retention", "hold", "case", "--from", "2020-01-01")["hold_id"] == "case"
    assert [hold["hold_id"] for hold in told("retention", "holds")["holds"]] == ["case"]
    assert told("retention", "release", "case") == {"released": "case"}
    assert told("retention", "holds") == {"holds": []}


def test_a_backup_is_made_listed_drilled_and_restored(told, tmp_path, monkeypatch):
    assert "AKOSHA_BACKUP_URL" in told("backup", code=2)
    monkeypatch.setenv("AKOSHA_BACKUP_URL", str(tmp_path / "elsewhere"))
    made = told("backup")
    assert made["rows"] == 20
    assert told("restore", "--list") == {"backups": [made["backup_id"]]}
    assert told("restore", "--drill")["rows"] == 20
    assert "is not empty" in told("restore", code=2)
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path / "other"))
    assert told("restore")["rows"] == 20
    assert told("explain", "system-1/conversation/id-000001")["tier"] == "hot"
