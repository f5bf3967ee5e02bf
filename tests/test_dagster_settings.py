"""A wrong setting ends Dagster's own commands with one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from dagster._cli.asset import asset_cli
from dagster._cli.instance import instance_cli

from akosha_assets import instance

ROOT = Path(__file__).parents[1]
EXPECTED = "Error: AKOSHA_BATCH_UPLOADS is 'many'; expected a valid integer, unable to parse string as an integer\n"


@pytest.fixture(autouse=True)
def wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AKOSHA_HOME", str(tmp_path))
    monkeypatch.setenv("AKOSHA_BATCH_UPLOADS", "many")
    monkeypatch.setenv("DAGSTER_HOME", str(ROOT))


def test_a_command_that_loads_the_definitions_prints_one_line() -> None:
    done = CliRunner().invoke(asset_cli, ["list", "-m", "akosha_assets.definitions"])
    assert (done.exit_code, done.stderr) == (1, EXPECTED)


def test_a_command_that_opens_the_instance_prints_one_line() -> None:
    done = CliRunner().invoke(instance_cli, ["info"])
    assert (done.exit_code, done.stderr) == (1, EXPECTED)


def test_the_migration_of_the_instance_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert instance.main() == 1
    assert capsys.readouterr().err == EXPECTED
