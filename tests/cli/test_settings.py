"""Invalid settings print one line, and variables that nothing reads are reported."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_api.settings import ApiSettings
from akosha_assets.lake.checked_settings import unread_variables
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
def test_an_invalid_value_is_reported_in_one_line(command: list[str], tmp_path: Path) -> None:
    ended = run(command, tmp_path, AKOSHA_BATCH_UPLOADS="many", AKOSHA_LEASE_SECONDS="0")
    assert ended.returncode == 2 and not ended.stdout
    (line,) = ended.stderr.strip().splitlines()
    assert "AKOSHA_BATCH_UPLOADS is 'many'; expected a valid integer" in line
    assert "AKOSHA_LEASE_SECONDS is '0'; expected" in line


MISSPELT = {"AKOSHA_LEASE_SECOND": "AKOSHA_LEASE_SECONDS", "AKOSHA_API_PROT": "AKOSHA_API_PORT"}


def test_the_cli_warns_of_every_variable_that_nothing_reads(tmp_path: Path) -> None:
    ended = run([*AKOSHA, "uploads", "--json"], tmp_path, AKOSHA_API_HOST="127.0.0.1", **dict.fromkeys(MISSPELT, "60"))
    assert ended.returncode == 0
    warnings = [line for line in ended.stderr.splitlines() if line.startswith("warning:")]
    assert warnings == [
        f"warning: nothing reads the variable {name}; did you mean {meant}?" for name, meant in sorted(MISSPELT.items())
    ]


def test_the_service_warns_of_every_variable_that_nothing_reads(tmp_path: Path) -> None:
    used_port = socket.create_server(("127.0.0.1", 0))
    port = str(used_port.getsockname()[1])
    with used_port:
        # It ends at once, because its port is in use.
        ended = run(["-m", "akosha_api", "--port", port], tmp_path, **dict.fromkeys(MISSPELT, "60"))
    assert ended.returncode == 3
    warned = [line for line in ended.stderr.splitlines() if "nothing reads a variable of the environment" in line]
    assert len(warned) == len(MISSPELT)
    for name, meant in MISSPELT.items():
        assert any(name in line and meant in line for line in warned)


@given(st.sampled_from(sorted(MISSPELT)), st.sampled_from(["", "X", "_OLD"]))
def test_a_variable_is_read_or_reported(name: str, end: str) -> None:
    environment = {name + end: "1", MISSPELT[name]: "2"}
    assert list(unread_variables((LakeSettings, ApiSettings), environment)) == [name + end]


def test_the_value_of_a_secret_is_not_printed() -> None:
    with pytest.raises(InvalidSettings) as raised:
        ApiSettings(admin_token=["hunter2"])
    assert "hunter2" not in str(raised.value) and "AKOSHA_API_ADMIN_TOKEN is set to a secret" in str(raised.value)
    with pytest.raises(InvalidSettings, match="AKOSHA_INBOX_URL is 'ftp://x'"):
        LakeSettings(inbox_url="ftp://x")
