"""The four services of one machine: Dagster's code server, webserver and daemon, and the API. What each needs and when
it answers.

How they are started, watched and stopped is in `supervisor.py`.
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
from urllib.parse import urlencode

import httpx

import akosha_assets
from akosha_assets.cli.supervisor import Service, Unavailable
from akosha_assets.lake import operator_token
from akosha_assets.lake.settings import LakeSettings

HOST = "127.0.0.1"
LOCATION = "akosha"
# Of the 108 that Linux has room for, and 104 elsewhere.
SOCKET_MAX_BYTES = 100
HEALTHY = """
query { instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
        workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""


@dataclass(frozen=True)
class Ports:
    """Where the services listen, on the loopback interface but for the API, whose host may be set."""

    api: int
    dagster: int
    # None: the code server listens on a UNIX socket that this account alone can open.
    code: int | None
    api_host: str = HOST


def environment(home: Path) -> dict[str, str]:
    """What every service finds in its environment, so that all of them mean the same home and instance."""
    folder = os.environ.get("DAGSTER_HOME") or str(project_folder())
    return {"AKOSHA_HOME": str(home), "DAGSTER_HOME": folder, "DAGSTER_DISABLE_TELEMETRY": "1"}


def api_url(ports: Ports) -> str:
    """Where the API is asked from this machine: its own address, or loopback where it listens on every address."""
    try:
        address = ipaddress.ip_address(ports.api_host)
    except ValueError:
        return f"http://{ports.api_host}:{ports.api}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address if address.version == 4 else f'[{address}]'}:{ports.api}"


@cache
def dagster_token(settings: LakeSettings) -> str:
    """What callers of our Dagster prove themselves by; one that only these services know where no other can be kept."""
    return (
        settings.dagster_token.get_secret_value()
        or operator_token.read_or_create(settings.home)
        or secrets.token_urlsafe(32)
    )


def dagster_address(ports: Ports, settings: LakeSettings) -> str:
    """Where a person opens Dagster's UI; the token in it is asked for once."""
    return f"http://{HOST}:{ports.dagster}/asset-groups?{urlencode({'token': dagster_token(settings)})}"


def asks_dagster(ports: Ports, token: str) -> dict[str, str]:
    """Where Dagster is asked for its queue and told to start runs; where it does not answer, metrics and alerts say so."""
    if "AKOSHA_DAGSTER_URL" in os.environ:
        # Another Dagster, which learns no token of ours.
        return {}
    return {"AKOSHA_DAGSTER_URL": f"http://{HOST}:{ports.dagster}", "AKOSHA_DAGSTER_TOKEN": token}


def project_folder() -> Path:
    """The folder of `dagster.yaml`.

    Raises:
        Unavailable: it does not lie beside the installed package.
    """
    folder = Path(akosha_assets.__file__).parent.parent
    if not (folder / "dagster.yaml").exists():
        raise Unavailable(
            f"no dagster.yaml in {folder}; set DAGSTER_HOME to a folder that holds one, or start without Dagster: "
            "--no-dagster"
        )
    return folder


def write_workspace(home: Path, ports: Ports) -> Path:
    """A workspace file that names our code server; returns its path."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "workspace.yaml"
    where = {"socket": str(code_socket(home))} if ports.code is None else {"host": HOST, "port": ports.code}
    # JSON is YAML, and quotes what a folder may be called.
    path.write_text(json.dumps({"load_from": [{"grpc_server": where | {"location_name": LOCATION}}]}) + "\n")
    return path


@cache
def code_socket(home: Path) -> Path:
    """Where the code server listens: it runs what it is asked to, so only this account may reach it.

    Below `home`, unless that is too long an address for a socket: then in a temporary folder that goes with this
    process.
    """
    folder = home / "dagster" / "sockets"
    if len(os.fsencode(folder)) + len("/code") > SOCKET_MAX_BYTES:
        folder = Path(tempfile.mkdtemp(prefix="akosha-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder / "code"


def api(home: Path, ports: Ports, token: str) -> Service:
    """The HTTP service; it needs none of the others."""
    return Service(
        name="api",
        command=[sys.executable, "-m", "akosha_api"],
        answers=lambda: _ok(f"{api_url(ports)}/health"),
        host=ports.api_host,
        port=ports.api,
        option="--api-port",
        environment=environment(home)
        | {
            "AKOSHA_API_HOST": ports.api_host,
            "AKOSHA_API_PORT": str(ports.api),
            "AKOSHA_API_SUPERVISOR": str(os.getpid()),
        }
        | asks_dagster(ports, token),
    )


def instance(home: Path) -> Service:
    """Brings Dagster's storage up to date and ends. Services that meet an empty storage together trip over each other."""
    return Service(
        name="instance",
        command=[*_dagster("akosha_assets.instance")],
        answers=lambda: True,
        environment=environment(home),
    )


def code_server(home: Path, ports: Ports, token: str, *, drain_seconds: int) -> Service:
    """The process that loads our definitions, ticks sensors and starts a process for every run."""
    return Service(
        name="code-server",
        command=[
            *_dagster("dagster"),
            *("code-server", "start", "-m", "akosha_assets.definitions"),
            *(("--socket", str(code_socket(home))) if ports.code is None else ("-h", HOST, "-p", str(ports.code))),
            *("--location-name", LOCATION),
        ],
        answers=lambda: _listens(code_socket(home) if ports.code is None else ports.code),
        port=ports.code,
        option="--code-port",
        environment=environment(home) | asks_dagster(ports, token),
        # Run processes are its children: an ingest run finishes its batch or hands it back in this time.
        grace_seconds=drain_seconds,
    )


def webserver(home: Path, ports: Ports, workspace: Path, token: str) -> Service:
    """Dagster's UI, behind our guard. It answers once it has loaded the code location."""
    return Service(
        name="webserver",
        command=[
            *_dagster("akosha_assets.dagster_webserver"),
            "-w",
            str(workspace),
            "--host",
            HOST,
            "-p",
            str(ports.dagster),
        ],
        answers=lambda: location_loaded(ports.dagster, token),
        port=ports.dagster,
        option="--dagster-port",
        environment=environment(home) | {"AKOSHA_DAGSTER_TOKEN": token},
    )


def daemon(home: Path, ports: Ports, workspace: Path, token: str) -> Service:
    """Runs sensors, schedules, the queue and freshness. It answers once its sensor loop has reported itself."""
    return Service(
        name="daemon",
        command=[*_dagster("dagster._daemon"), "run", "-w", str(workspace)],
        answers=lambda: daemon_healthy(ports.dagster, token),
        environment=environment(home),
    )


def daemon_healthy(port: int, token: str) -> bool:
    """Whether every daemon that the instance requires reports itself."""
    answer = _graphql(port, token)
    statuses = answer["instance"]["daemonHealth"]["allDaemonStatuses"] if answer else []
    return bool(statuses) and all(one["healthy"] for one in statuses if one["required"])


def location_loaded(port: int, token: str) -> bool:
    """Whether the UI shows our definitions.

    Raises:
        Unavailable: they cannot be loaded.
    """
    answer = _graphql(port, token)
    for entry in answer["workspaceOrError"].get("locationEntries", []) if answer else []:
        if entry["loadStatus"] == "LOADED" and entry["locationOrLoadError"]["__typename"] == "RepositoryLocation":
            return True
    return False


def _dagster(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _graphql(port: int, token: str) -> dict | None:
    try:
        answer = httpx.post(
            f"http://{HOST}:{port}/graphql",
            json={"query": HEALTHY},
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        )
        return answer.raise_for_status().json()["data"]
    except httpx.HTTPError:
        return None


def _ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _listens(where: int | Path) -> bool:
    with socket.socket(socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET) as probe:
        probe.settimeout(1)
        return probe.connect_ex(str(where) if isinstance(where, Path) else (HOST, where)) == 0
