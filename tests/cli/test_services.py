"""The services of `akosha up` listen on the configured addresses, and our token goes to no other Dagster."""

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
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("10.0.0.5", "http://10.0.0.5:1"),
        ("fd00::5", "http://[fd00::5]:1"),
        ("akosha.example", "http://akosha.example:1"),
    ],
)
def test_the_api_listens_on_the_configured_host_and_is_reached_there(tmp_path: Path, host: str, url: str) -> None:
    ports = Ports(api=1, dagster=2, code=3, api_host=host)
    service = services.api(tmp_path, ports, "t", dagster=True)
    assert (service.environment["AKOSHA_API_HOST"], service.host, services.api_url(ports)) == (host, host, url)


@pytest.mark.parametrize("command", ["up", "demo"])
def test_variables_set_where_the_services_listen(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKOSHA_API_HOST", "10.0.0.5")
    monkeypatch.setenv("AKOSHA_API_PORT", "8999")
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    with group.commands[command].make_context(command, []) as context:
        assert (context.params["api_host"], context.params["api_port"]) == ("10.0.0.5", 8999)


def test_our_dagster_requires_the_operator_token_of_the_home(settings: LakeSettings, tmp_path: Path) -> None:
    ports = Ports(api=1, dagster=2, code=3)
    token = services.dagster_token(settings)
    assert token == operator_token.read(settings.home)
    assert services.dagster_address(ports, settings) == f"http://127.0.0.1:2/asset-groups?token={token}"
    for service in (
        services.api(tmp_path, ports, token, dagster=True),
        services.code_server(tmp_path, ports, token, drain_seconds=1),
    ):
        assert service.environment["AKOSHA_DAGSTER_TOKEN"] == token
        assert token not in service.command


def test_another_dagster_does_not_get_our_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AKOSHA_DAGSTER_URL", "https://dagster.example")
    ours = services.api(tmp_path, Ports(api=1, dagster=2, code=3), "ours", dagster=True)
    assert "AKOSHA_DAGSTER_TOKEN" not in ours.environment
    assert (
        services.webserver(tmp_path, Ports(api=1, dagster=2, code=3), tmp_path, "ours").environment[
            "AKOSHA_DAGSTER_TOKEN"
        ]
        == "ours"
    )


def test_an_api_without_dagster_expects_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AKOSHA_DAGSTER_URL", raising=False)
    ports = Ports(api=1, dagster=2, code=3)
    alone, with_dagster = (services.api(tmp_path, ports, "t", dagster=dagster) for dagster in (False, True))
    assert "AKOSHA_DAGSTER_URL" not in alone.environment
    assert with_dagster.environment["AKOSHA_DAGSTER_URL"] == "http://127.0.0.1:2"


@pytest.mark.parametrize("folder", ["home", "h" * 200])
def test_only_this_account_can_open_the_socket_of_the_code_server(tmp_path: Path, folder: str) -> None:
    home, ports = tmp_path / folder, Ports(api=1, dagster=2, code=None)
    path = services.code_socket(home)
    assert len(str(path)) <= 105 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert services.code_socket(home) == path
    service = services.code_server(home, ports, "t", drain_seconds=1)
    assert service.command[-4:-2] == ["--socket", str(path)] and service.port is None
    (loaded,) = json.loads(services.write_workspace(home, ports).read_text())["load_from"]
    assert loaded == {"grpc_server": {"socket": str(path), "location_name": "akosha"}}


def test_the_code_server_can_listen_on_a_port(tmp_path: Path) -> None:
    service = services.code_server(tmp_path, Ports(api=1, dagster=2, code=3), "t", drain_seconds=1)
    assert service.port == 3 and "--socket" not in service.command
    (loaded,) = json.loads(services.write_workspace(tmp_path, Ports(api=1, dagster=2, code=3)).read_text())["load_from"]
    assert loaded["grpc_server"] == {"host": "127.0.0.1", "port": 3, "location_name": "akosha"}
