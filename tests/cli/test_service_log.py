"""The log of a service is bounded while the service runs, contains every line, and outlives the supervisor."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from akosha_assets.cli import service_log
from akosha_assets.cli.log_writer import LogFile
from akosha_assets.cli.supervisor import Service, Supervisor

PRINTS_AND_STAYS = "import time\nfor n in range(3000): print(f'line {n:06}')\ntime.sleep(600)"
LINE_BYTES = len("line 000000\n")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, drain_seconds=1, report=lambda _: None)
    yield supervisor
    supervisor.stop()


def python(name: str, code: str) -> Service:
    return Service(name, [sys.executable, "-c", textwrap.dedent(code)], is_ready=lambda: True)


def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.02)


def log_files(folder: Path) -> list[Path]:
    """The files of the log, the oldest first."""
    return [*sorted(folder.glob("chatty.log.*"), key=lambda path: -int(path.suffix[1:])), folder / "chatty.log"]


def test_a_running_service_fills_files_of_bounded_size_and_loses_no_line(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_log, "FILE_BYTES", 10_000)
    monkeypatch.setattr(service_log, "OLDER_FILES", 100)
    supervisor.start(python("chatty", PRINTS_AND_STAYS))
    wait_until(lambda: "line 002999" in supervisor.log("chatty").read_text())
    files = log_files(supervisor.logs)
    assert len(files) >= 3000 * LINE_BYTES // 10_000 and max(path.stat().st_size for path in files) <= 10_000
    assert "".join(path.read_text() for path in files).split() == [
        word for n in range(3000) for word in ("line", f"{n:06}")
    ]
    assert supervisor.running["chatty"].process.poll() is None


def test_only_the_newest_files_are_kept(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_log, "FILE_BYTES", 10_000)
    supervisor.start(python("chatty", PRINTS_AND_STAYS))
    wait_until(lambda: "line 002999" in supervisor.log("chatty").read_text())
    assert [path.name for path in log_files(supervisor.logs)] == ["chatty.log.1", "chatty.log"]


def test_a_writer_that_was_killed_is_replaced(supervisor: Supervisor) -> None:
    supervisor.start(
        python("chatty", "import time\nfor n in range(10**6): print('line', n, flush=True); time.sleep(0.01)")
    )
    log = supervisor.running["chatty"].log
    wait_until(lambda: "line 3" in log.tail())
    log._writer.kill()
    log._writer.wait()
    size = log.path.stat().st_size
    supervisor.restart_dead_services()
    wait_until(lambda: log.path.stat().st_size > size)
    assert supervisor.running["chatty"].process.poll() is None


def test_services_keep_logging_after_the_supervisor_was_killed(tmp_path: Path) -> None:
    """The log has the output of the drain, and its writer ends by itself."""
    service = """
        import signal, sys, time
        def drain(*_):
            for n in range(20_000): print("draining", n)
            print("drained", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, drain)
        print("ready", flush=True)
        time.sleep(600)
    """
    code = f"""
        import time
        from pathlib import Path
        from akosha_assets.cli.supervisor import Service, Supervisor
        supervisor = Supervisor(Path({str(tmp_path)!r}), drain_seconds=20, report=print)
        supervisor.start(Service("chatty", {[sys.executable, "-c", textwrap.dedent(service)]!r}, is_ready=lambda: True))
        while "ready" not in supervisor.running["chatty"].log.tail(): time.sleep(0.02)
        print("started", flush=True)
        time.sleep(600)
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None and owner.stdout.readline() == "started\n"
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    log = tmp_path / "logs" / "chatty.log"
    wait_until(lambda: log.read_text().endswith("drained\n"))
    assert log.read_text().count("draining") == 20_000


def test_lines_that_the_disk_refuses_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = LogFile(str(folder / "api.log"), 1000, 1)
    log.write(b"one\n")
    log.write(b"two \xff\n")
    folder.mkdir()
    log.write(b"three \xff\n")
    log.close()
    first, second = (folder / "api.log").read_bytes().splitlines()
    assert first == b"three \xff" and b"2 lines could not be written: [Errno 2]" in second
