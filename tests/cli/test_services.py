"""What `akosha up` starts listens where the settings say, and Dagster's token goes to no other Dagster."""

import json
import stat
from pathlib import Path

import pytest
import typer

from akosha_assets.cli import services
from akosha_assets.cli.main import app
from akosha_assets.cli.services import Ports
from akosha_assets.lake import operator_token
from akosha_assets.lake.settings import LakeSettings


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("10.0.0.5", "http://10.0.0.5:1"),
        ("fd00::5", "http://[fd00::5]:1"),
        ("akosha.example", "http://akosha.example:1"),
    ],
)
def test_the_api_listens_where_it_is_told_and_is_asked_there(tmp_path: Path, host: str, asked: str) -> None:
    ports = Ports(1, 2, 3, host)
    service = services.api(tmp_path, ports, "t")
    assert (service.environment["AKOSHA_API_HOST"], service.host, services.api_url(ports)) == (host, host, asked)


@pytest.mark.parametrize("command", ["up", "demo"])
def test_variables_set_where_the_services_listen(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKOSHA_API_HOST", "10.0.0.5")
    monkeypatch.setenv("AKOSHA_API_PORT", "8999")
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    with group.commands[command].make_context(command, []) as context:
        assert (context.params["api_host"], context.params["api_port"]) == ("10.0.0.5", 8999)


def test_the_token_of_our_dagster_is_that_of_the_home(settings: LakeSettings, tmp_path: Path) -> None:
    ports = Ports(1, 2, 3)
    token = services.dagster_token(settings)
    assert token == operator_token.read(settings.home)
    assert services.dagster_address(ports, settings) == f"http://127.0.0.1:2/asset-groups?token={token}"
    for service in (
        services.api(tmp_path, ports, token),
        services.code_server(tmp_path, ports, token, drain_seconds=1),
    ):
        assert service.environment["AKOSHA_DAGSTER_TOKEN"] == token
        assert token not in service.command


def test_another_dagster_learns_no_token_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AKOSHA_DAGSTER_URL", "https://dagster.example")
    assert "AKOSHA_DAGSTER_TOKEN" not in services.api(tmp_path, Ports(1, 2, 3), "ours").environment
    assert services.webserver(tmp_path, Ports(1, 2, 3), tmp_path, "ours").environment["AKOSHA_DAGSTER_TOKEN"] == "ours"


@pytest.mark.parametrize("folder", ["home", "h" * 200])
def test_only_this_account_reaches_the_code_server(tmp_path: Path, folder: str) -> None:
    home, ports = tmp_path / folder, Ports(1, 2, None)
    where = services.code_socket(home)
    assert len(str(where)) <= 105 and stat.S_IMODE(where.parent.stat().st_mode) == 0o700
    assert services.code_socket(home) == where
    service = services.code_server(home, ports, "t", drain_seconds=1)
    assert service.command[-4:-2] == ["--socket", str(where)] and service.port is None
    (loaded,) = json.loads(services.write_workspace(home, ports).read_text())["load_from"]
    assert loaded == {"grpc_server": {"socket": str(where), "location_name": "akosha"}}


def test_a_port_for_the_code_server_may_be_asked_for(tmp_path: Path) -> None:
    service = services.code_server(tmp_path, Ports(1, 2, 3), "t", drain_seconds=1)
    assert service.port == 3 and "--socket" not in service.command
    (loaded,) = json.loads(services.write_workspace(tmp_path, Ports(1, 2, 3)).read_text())["load_from"]
    assert loaded["grpc_server"] == {"host": "127.0.0.1", "port": 3, "location_name": "akosha"}
