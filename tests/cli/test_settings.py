"""Wrong settings are one line, and unread ones are reported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from akosha_api.settings import ApiSettings
from akosha_assets.lake.errors import InvalidSettings
from akosha_assets.lake.settings import LakeSettings

ROOT = Path(__file__).parents[2]


def run(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


AKOSHA = ["-c", "from akosha_assets.cli.main import app; app()"]


@pytest.mark.parametrize(
    "command",
    [[*AKOSHA, "status"], [*AKOSHA, "ingest", "--once"], ["-m", "akosha_api"]],
    ids=["status", "ingest", "api"],
)
def test_a_wrong_value_is_one_line(command: list[str], tmp_path: Path) -> None:
    ended = run(command, tmp_path, AKOSHA_BATCH_UPLOADS="many", AKOSHA_LEASE_SECONDS="0")
    assert ended.returncode == 2 and not ended.stdout
    (line,) = ended.stderr.strip().splitlines()
    assert "AKOSHA_BATCH_UPLOADS is 'many'; expected a valid integer" in line
    assert "AKOSHA_LEASE_SECONDS is '0'; expected" in line


def test_a_variable_that_nothing_reads_is_reported_with_the_name_that_was_meant(tmp_path: Path) -> None:
    ended = run([*AKOSHA, "uploads", "--json"], tmp_path, AKOSHA_LEASE_SECOND="60")
    assert ended.returncode == 0
    assert "nothing reads the variable AKOSHA_LEASE_SECOND; did you mean AKOSHA_LEASE_SECONDS?" in ended.stderr
    ended = run([*AKOSHA, "uploads"], tmp_path, AKOSHA_API_PROT="1", AKOSHA_API_PORT="2", AKOSHA_API_SUPERVISOR="3")
    (line,) = ended.stderr.splitlines()
    assert line == "warning: nothing reads the variable AKOSHA_API_PROT; did you mean AKOSHA_API_PORT?"
    assert ApiSettings.unread_variables({"AKOSHA_API_PROT": "1", "AKOSHA_API_PORT": "2"}) == {
        "AKOSHA_API_PROT": "AKOSHA_API_PORT"
    }


def test_a_secret_is_not_shown() -> None:
    with pytest.raises(InvalidSettings) as raised:
        ApiSettings(admin_token=["hunter2"])
    assert "hunter2" not in str(raised.value) and "AKOSHA_API_ADMIN_TOKEN is set to a secret" in str(raised.value)
    with pytest.raises(InvalidSettings, match="AKOSHA_INBOX_URL is 'ftp://x'"):
        LakeSettings(inbox_url="ftp://x")
