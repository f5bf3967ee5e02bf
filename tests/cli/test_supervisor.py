"""Services are started, restarted and ended together; a home has one supervisor at a time."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from akosha_assets.cli import supervisor as module
from akosha_assets.cli.reaper import members
from akosha_assets.cli.supervisor import Service, ServiceFailed, Supervisor, Unavailable, require_free


def service(name: str, code: str, *, grace_seconds: float = 10.0) -> Service:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return Service(name=name, command=command, is_ready=lambda: True, grace_seconds=grace_seconds)


HAS_A_CHILD = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; "
    "time.sleep(600)']); time.sleep(600)"
)


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def started(tmp_path: Path, messages: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, drain_seconds=1, report=messages.append)
    yield supervisor
    supervisor.stop()


def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.05)


def test_the_children_of_a_service_end_with_it(tmp_path: Path, messages: list[str]) -> None:
    supervisor = Supervisor(tmp_path, drain_seconds=1, report=messages.append)
    supervisor.start(service("parent", HAS_A_CHILD))
    group = supervisor.running["parent"].process.pid
    supervisor.stop()
    assert members([group]) == set()


def test_a_service_that_ignores_sigterm_is_killed_after_its_grace(started: Supervisor, messages: list[str]) -> None:
    ignores_sigterm = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    started.start(service("deaf", ignores_sigterm, grace_seconds=0.2))
    wait_until(lambda: "deaf" in started.log("deaf").read_text())
    started._end("deaf")
    assert messages == ["deaf was killed; it had not ended within 0 s"]


def test_the_error_of_a_service_that_dies_before_it_is_ready_shows_its_log(started: Supervisor) -> None:
    broken = Service("broken", [sys.executable, "-c", "raise SystemExit('no such table')"], is_ready=lambda: False)
    started.start(broken)
    with pytest.raises(ServiceFailed, match=r"broken ended with code 1 before it was ready(.|\n)*no such table"):
        started.wait_until_ready("broken", within_seconds=30)


def test_a_service_that_dies_is_restarted_until_it_dies_too_often(
    started: Supervisor, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTARTS", 1)
    started.start(service("mortal", "raise SystemExit(3)"))
    first = started.running["mortal"].process
    first.wait()
    started.restart_dead_services()
    assert messages[0].startswith("mortal ended with code 3; restarting it in 1 s")
    assert started.running["mortal"].process.pid != first.pid
    started.running["mortal"].process.wait()
    with pytest.raises(ServiceFailed, match="mortal died 2 times"):
        started.restart_dead_services()


def test_a_second_supervisor_on_the_same_home_is_refused(started: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"process {os.getpid()}"):
        Supervisor(tmp_path, drain_seconds=1, report=print)


def test_all_services_end_and_the_home_is_released_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from akosha_assets.cli.supervisor import Service, Supervisor
        supervisor = Supervisor(Path({str(tmp_path)!r}), drain_seconds=1, report=print)
        supervisor.start(Service("parent", [sys.executable, "-c", {HAS_A_CHILD!r}], is_ready=lambda: True))
        print(supervisor.running["parent"].process.pid, flush=True)
        time.sleep(600)
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    group = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    messages: list[str] = []
    Supervisor(tmp_path, drain_seconds=1, report=messages.append).stop()
    assert members([group]) == set()


def test_the_error_about_a_port_in_use_names_the_service_and_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1, which api needs(.|\n)*--api-port"):
            require_free(Service("api", [], is_ready=lambda: True, port=port, option="--api-port"))
