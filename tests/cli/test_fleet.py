"""`akosha fleet upload`: its output, its uploads and its exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from akosha_assets.cli.fleet import app

SMALL = ["upload", "--systems", "2", "--memories", "8", "--now", "2026-11-23T14:00:00+00:00"]


def test_a_fleet_uploads_into_a_folder_and_prints_a_summary_as_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*SMALL, "--inbox", str(tmp_path), "--snapshots", "2", "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["uploads"], summary["memories"]) == (4, 16)
    assert len(list(tmp_path.rglob("manifest.json"))) == 4
    assert summary["samples"]


def test_without_json_a_table_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    result = CliRunner().invoke(app, [*SMALL, "--faults"])
    assert result.exit_code == 0, result.output
    assert "rows of conversations_v2" in result.stdout
    assert "manifest-not-json" in result.stdout
    assert (tmp_path / "inbox" / "systems" / "name with space").is_dir()


def test_an_inbox_that_cannot_be_written_is_named_in_the_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    result = CliRunner().invoke(app, [*SMALL, "--inbox", str(blocked)])
    assert result.exit_code == 3
    assert "cannot write to the inbox file://" in result.stderr


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["upload", "--now", "2026-11-23T14:00:00", "--inbox", str(tmp_path)])
    assert result.exit_code == 2
    assert "without a zone" in result.stderr
