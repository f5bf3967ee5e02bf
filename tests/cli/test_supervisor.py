"""Services start, are watched, and end together; a home has one `akosha up` at a time."""

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


def service(name: str, code: str, **given: object) -> Service:
    # type: ignore[arg-type]
    return Service(name=name, command=[sys.executable, "-c", textwrap.dedent(code)], answers=lambda: True, **given)


SLEEPS = "import time; time.sleep(600)"
HAS_A_CHILD = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; "
    "time.sleep(600)']); time.sleep(600)"
)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def started(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, drain_seconds=1, say=said.append)
    yield supervisor
    supervisor.stop()


def until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.05)


def test_what_a_service_started_ends_with_it(tmp_path: Path, said: list[str]) -> None:
    supervisor = Supervisor(tmp_path, drain_seconds=1, say=said.append)
    supervisor.start(service("parent", HAS_A_CHILD))
    group = supervisor.running["parent"].process.pid
    supervisor.stop()
    assert members([group]) == set()


def test_a_service_that_ignores_sigterm_is_killed_after_its_grace(started: Supervisor, said: list[str]) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    started.start(service("deaf", deaf, grace_seconds=0.2))
    until(lambda: "deaf" in started.log("deaf").read_text())
    started._end("deaf")
    assert said == ["deaf was killed; it had not ended within 0 s"]


def test_a_service_that_dies_before_it_answers_shows_its_log(started: Supervisor) -> None:
    broken = Service("broken", [sys.executable, "-c", "raise SystemExit('no such table')"], answers=lambda: False)
    started.start(broken)
    with pytest.raises(ServiceFailed, match=r"broken ended with code 1 before it answered(.|\n)*no such table"):
        started.wait_until_answering("broken", within_seconds=30)


def test_a_service_that_dies_is_started_again_and_given_up_when_it_keeps_dying(
    started: Supervisor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTARTS", 1)
    started.start(service("mortal", "raise SystemExit(3)"))
    first = started.running["mortal"].process
    first.wait()
    started.look_after()
    assert said[0].startswith("mortal ended with code 3; it is started again in 1 s")
    assert started.running["mortal"].process.pid != first.pid
    started.running["mortal"].process.wait()
    with pytest.raises(ServiceFailed, match="mortal died 2 times"):
        started.look_after()


def test_a_second_supervisor_on_the_same_home_is_refused(started: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"process {os.getpid()}"):
        Supervisor(tmp_path, drain_seconds=1, say=print)


def test_everything_ends_when_the_supervisor_is_killed_and_the_home_is_free_again(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from akosha_assets.cli.supervisor import Service, Supervisor
        supervisor = Supervisor(Path({str(tmp_path)!r}), drain_seconds=1, say=print)
        supervisor.start(Service("parent", [sys.executable, "-c", {HAS_A_CHILD!r}], answers=lambda: True))
        print(supervisor.running["parent"].process.pid, flush=True)
        time.sleep(600)
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    group = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    said: list[str] = []
    Supervisor(tmp_path, drain_seconds=1, say=said.append).stop()
    assert members([group]) == set()


def test_a_taken_port_is_named_with_who_needs_it_and_the_way_around() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1, which api needs(.|\n)*--api-port"):
            require_free(Service("api", [], answers=lambda: True, port=port, option="--api-port"))
