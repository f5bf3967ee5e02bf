"""The services of one machine: Dagster's code server, webserver and daemon, and the API.

Each function returns one with its command, environment and readiness check; `supervisor.py` runs them.
"""

import atexit
import ipaddress
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

import akosha_assets
from akosha_assets.cli.supervisor import Service, Unavailable
from akosha_assets.lake import operator_token
from akosha_assets.lake.settings import LakeSettings

HOST = "127.0.0.1"
LOCATION = "akosha"
# Linux allows 108 bytes, other systems 104; the difference is for the name of the socket.
SOCKET_MAX_BYTES = 100
HEALTH_QUERY = """
query {
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
  workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename } } } }
}
"""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports of the services. All listen on the loopback interface; the API listens on `api_host`."""

    api: int
    dagster: int
    # None: the code server listens on a UNIX socket that only this account can open.
    code: int | None
    api_host: str = HOST


def environment(home: Path) -> dict[str, str]:
    """The environment of every service: all use the same home and Dagster instance."""
    folder = os.environ.get("DAGSTER_HOME") or str(project_folder())
    return {"AKOSHA_HOME": str(home), "DAGSTER_HOME": folder, "DAGSTER_DISABLE_TELEMETRY": "1"}


def api_url(ports: Ports) -> str:
    """The URL of the API for clients on this machine: loopback, if it listens on every address."""
    try:
        address = ipaddress.ip_address(ports.api_host)
    except ValueError:
        return f"http://{ports.api_host}:{ports.api}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address if address.version == 4 else f'[{address}]'}:{ports.api}"


@cache
def dagster_token(settings: LakeSettings) -> str:
    """The bearer token that our Dagster requires: that of the settings, else of the home, else a temporary one."""
    return (
        settings.dagster_token.get_secret_value()
        or operator_token.read_or_create(settings.home)
        or secrets.token_urlsafe(32)
    )


def dagster_address(ports: Ports, settings: LakeSettings) -> str:
    """The URL at which a person opens the Dagster UI, with the token."""
    return f"http://{HOST}:{ports.dagster}/asset-groups?{urlencode({'token': dagster_token(settings)})}"


def dagster_environment(ports: Ports, token: str) -> dict[str, str]:
    """The variables with which a service finds our Dagster; none if AKOSHA_DAGSTER_URL names another."""
    if "AKOSHA_DAGSTER_URL" in os.environ:
        # Another Dagster must not get our token.
        return {}
    return {"AKOSHA_DAGSTER_URL": f"http://{HOST}:{ports.dagster}", "AKOSHA_DAGSTER_TOKEN": token}


def project_folder() -> Path:
    """The folder of `dagster.yaml`.

    Raises:
        Unavailable: the file is not next to the installed package.
    """
    folder = Path(akosha_assets.__file__).parent.parent
    if not (folder / "dagster.yaml").exists():
        raise Unavailable(
            f"no dagster.yaml in {folder}; set DAGSTER_HOME to a folder with a dagster.yaml, or start without Dagster: "
            "--no-dagster"
        )
    return folder


def write_workspace(home: Path, ports: Ports) -> Path:
    """Write the workspace file that names our code server; returns its path."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "workspace.yaml"
    address = {"socket": str(code_socket(home))} if ports.code is None else {"host": HOST, "port": ports.code}
    # JSON is valid YAML, and quotes every path.
    path.write_text(json.dumps({"load_from": [{"grpc_server": address | {"location_name": LOCATION}}]}) + "\n")
    return path


@cache
def code_socket(home: Path) -> Path:
    """The socket of the code server, which runs arbitrary code: its folder is open to this account only.

    It is below `home`, or in a temporary folder, removed with this process, if that path is too long for a socket.
    """
    folder = home / "dagster" / "sockets"
    if len(os.fsencode(folder)) + len("/code") > SOCKET_MAX_BYTES:
        folder = Path(tempfile.mkdtemp(prefix="akosha-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder / "code"


def api(home: Path, ports: Ports, token: str, *, dagster: bool) -> Service:
    """The HTTP service; it depends on none of the others. Without `dagster` it expects no Dagster."""
    return Service(
        name="api",
        command=[sys.executable, "-m", "akosha_api"],
        is_ready=lambda: _is_success(f"{api_url(ports)}/health"),
        host=ports.api_host,
        port=ports.api,
        option="--api-port",
        environment=environment(home)
        | {
            "AKOSHA_API_HOST": ports.api_host,
            "AKOSHA_API_PORT": str(ports.api),
            "AKOSHA_API_SUPERVISOR": str(os.getpid()),
        }
        | (dagster_environment(ports, token) if dagster else {}),
    )


def instance(home: Path) -> Service:
    """Migrates Dagster's storage and ends; services that open an empty storage at the same time fail."""
    return Service(
        name="instance",
        command=_module("akosha_assets.instance"),
        is_ready=lambda: True,
        environment=environment(home),
    )


def code_server(home: Path, ports: Ports, token: str, *, drain_seconds: int) -> Service:
    """Loads our definitions, evaluates sensors and starts a process for every run."""
    return Service(
        name="code-server",
        command=[
            *_module("dagster"),
            *("code-server", "start", "-m", "akosha_assets.definitions"),
            *(("--socket", str(code_socket(home))) if ports.code is None else ("-h", HOST, "-p", str(ports.code))),
            *("--location-name", LOCATION),
        ],
        is_ready=lambda: _is_listening(code_socket(home) if ports.code is None else ports.code),
        port=ports.code,
        option="--code-port",
        environment=environment(home) | dagster_environment(ports, token),
        # Run processes are its children: an ingest run finishes or releases its batch in this time.
        grace_seconds=drain_seconds,
    )


def webserver(home: Path, ports: Ports, workspace: Path, token: str) -> Service:
    """The Dagster UI behind our guard; ready once it has loaded the code location."""
    return Service(
        name="webserver",
        command=[
            *_module("akosha_assets.dagster_webserver"),
            "-w",
            str(workspace),
            "--host",
            HOST,
            "-p",
            str(ports.dagster),
        ],
        is_ready=lambda: location_loaded(ports.dagster, token),
        port=ports.dagster,
        option="--dagster-port",
        environment=environment(home) | {"AKOSHA_DAGSTER_TOKEN": token},
    )


def daemon(home: Path, ports: Ports, workspace: Path, token: str) -> Service:
    """Runs sensors, schedules, the queue and freshness; ready once every required daemon has a heartbeat."""
    return Service(
        name="daemon",
        command=[*_module("dagster._daemon"), "run", "-w", str(workspace)],
        is_ready=lambda: daemon_healthy(ports.dagster, token),
        environment=environment(home),
    )


def daemon_healthy(port: int, token: str) -> bool:
    """Whether every daemon that the instance requires is healthy."""
    answer = _graphql(port, token)
    statuses = answer["instance"]["daemonHealth"]["allDaemonStatuses"] if answer else []
    return bool(statuses) and all(one["healthy"] for one in statuses if one["required"])


def location_loaded(port: int, token: str) -> bool:
    """Whether the UI has loaded our definitions."""
    answer = _graphql(port, token)
    entries = answer["workspaceOrError"].get("locationEntries", []) if answer else []
    return any(
        entry["loadStatus"] == "LOADED" and entry["locationOrLoadError"]["__typename"] == "RepositoryLocation"
        for entry in entries
    )


def _module(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _graphql(port: int, token: str) -> dict[str, Any] | None:
    try:
        answer = httpx.post(
            f"http://{HOST}:{port}/graphql",
            json={"query": HEALTH_QUERY},
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        )
        data: dict[str, Any] = answer.raise_for_status().json()["data"]
    except httpx.HTTPError:
        return None
    return data


def _is_success(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _is_listening(address: int | Path) -> bool:
    with socket.socket(socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(address) if isinstance(address, Path) else (HOST, address)) == 0
