"""The commands of the lifecycle and of backups, on a lake in a folder."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from akosha_assets.cli.main import app
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.settings import LakeSettings
from tests import tiny_model
from tests.lake.lifecycle.memories import hot_rows, store

TODAY = datetime.now(UTC).date()


Akosha = Callable[..., Any]


@pytest.fixture
def akosha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Akosha:
    """Runs a command with --json on a lake with one day of 20 rows: its JSON, or its error if `code` is not 0."""
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    store(Lake(LakeSettings()), hot_rows(TODAY - timedelta(days=10), 20))

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.stderr

    return run


def test_days_are_listed_then_aged_then_explained(akosha: Akosha) -> None:
    assert [item["tier"] for item in akosha("age", "--dry-run")["due"]] == ["warm"]
    assert "--once is missing" in akosha("age", code=2)
    assert [item["rows"] for item in akosha("age", "--once")["moved"]] == [20]
    assert akosha("age", "--once")["moved"] == []
    found = akosha("explain", "system-1/conversation/id-000001")
    assert (found["tier"], found["policy"]["hot_days"]) == ("warm", 7)
    assert "no memory" in akosha("explain", "system-1/conversation/nobody", code=1)
    assert "is not SYSTEM/KIND/ID" in akosha("explain", "system-1", code=2)


def test_the_explanation_of_a_memory_is_printed_as_lines(akosha: Akosha) -> None:
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
    akosha("age", "--once")
    moved = CliRunner().invoke(app, ["explain", "system-1/conversation/id-000001"]).stdout
    assert "summary by" in moved and "UTC by cli-" in moved


def test_another_policy_is_simulated(akosha: Akosha) -> None:
    found = akosha("tiers", "simulate", "--hot-days", "3", "--cold-days", "9")
    assert [cost["rows"] for cost in found["then"]] == [0, 0, 20]
    assert "cannot leave warm before" in akosha("tiers", "simulate", "--hot-days", "200", code=2)


def test_rows_that_moved_are_reprocessed(akosha: Akosha, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unembedded_day = TODAY - timedelta(days=11)
    store(Lake(LakeSettings()), hot_rows(unembedded_day, 20, embedded=False), batch=2)
    akosha("age", "--once")
    assert "cannot be loaded" in akosha("tiers", "renew", "--from", str(unembedded_day), code=1)
    monkeypatch.setenv("AKOSHA_EMBEDDING_MODEL", "akosha/tiny")
    monkeypatch.setenv("AKOSHA_EMBEDDING_MODEL_DIR", str(tiny_model.make(tmp_path / "model")))
    renewed = {
        row["event_day"]: (row["rows_embedded"], row["rows_left"])
        for row in akosha("tiers", "renew", "--from", str(unembedded_day))["renewed"]
    }
    assert renewed == {str(unembedded_day): (20, 0), str(TODAY - timedelta(days=10)): (0, 20)}


def test_retention_is_a_dry_run_and_holds_can_be_placed_and_released(akosha: Akosha) -> None:
    assert akosha("retention", "apply")["is_dry_run"]
    assert akosha("retention", "hold", "case", "--from", "2020-01-01")["hold_id"] == "case"
    assert [hold["hold_id"] for hold in akosha("retention", "holds")["holds"]] == ["case"]
    assert akosha("retention", "release", "case") == {"released": "case"}
    assert akosha("retention", "holds") == {"holds": []}


def test_a_backup_is_made_listed_drilled_and_restored(
    akosha: Akosha, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "AKOSHA_BACKUP_URL" in akosha("backup", code=2)
    monkeypatch.setenv("AKOSHA_BACKUP_URL", str(tmp_path / "elsewhere"))
    created = akosha("backup")
    assert created["rows"] == 20
    assert akosha("restore", "--list") == {"backups": [created["backup_id"]]}
    assert akosha("restore", "--drill")["rows"] == 20
    assert "is not empty" in akosha("restore", code=2)
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path / "other"))
    assert akosha("restore")["rows"] == 20
    assert akosha("explain", "system-1/conversation/id-000001")["tier"] == "hot"
