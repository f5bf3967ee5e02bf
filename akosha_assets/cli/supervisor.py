"""Starts services as child processes, waits until they are ready, restarts those that die, and stops all in order.

Knows processes, logs and ports; the services are defined in `services.py`. Each service leads its own process group, so
that its children (run workers) end with it. `reaper.py` ends the groups if this process is killed.
"""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from akosha_assets.cli.reaper import end, members
from akosha_assets.cli.service_log import ServiceLog

RESTARTS = 5
RESTART_WINDOW_SECONDS = 600
# Seconds that the last lines of an ended service may take to reach its log.
LOG_SECONDS = 2.0


class ServiceFailed(Exception):
    """A service could not be started or died too often; the message ends with the last lines of its log."""


class Unavailable(Exception):
    """A port, the home or a file that is needed cannot be used; the message names it and what to do."""


@dataclass(frozen=True)
class Service:
    """A program that runs until it gets SIGTERM."""

    name: str
    command: list[str]
    # Polled after the start, until it returns True.
    is_ready: Callable[[], bool]
    host: str = "127.0.0.1"
    port: int | None = None
    # The option of `akosha up` that sets the port.
    option: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    # Seconds between SIGTERM and SIGKILL.
    grace_seconds: float = 10.0


@dataclass
class Running:
    """A started service. `restarts` holds the monotonic times of its recent restarts."""

    service: Service
    process: subprocess.Popen[bytes]
    log: ServiceLog
    restarts: list[float] = field(default_factory=list)


class Supervisor:
    """The services of one home; none of them outlives this process."""

    def __init__(self, home: Path, *, drain_seconds: float, report: Callable[[str], None]):
        """The lock on `home` is held and the reaper runs; `report` gets messages for the operator.

        Raises:
            Unavailable: another supervisor holds the lock.
        """
        self.logs, self.report = home / "logs", report
        self.running: dict[str, Running] = {}
        self.signals = 0
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(home, timeout_seconds=drain_seconds + 20, report=report)
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "akosha_assets.cli.reaper", str(drain_seconds + 5)],
            stdin=subprocess.PIPE,
            pass_fds=[self._lock],
            start_new_session=True,
        )

    @property
    def stopping(self) -> bool:
        """Whether this process got SIGTERM or SIGINT."""
        return self.signals > 0

    def catch_signals(self) -> None:
        """Count SIGTERM and SIGINT instead of ending this process; a second one cuts the drain short."""

        def count(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self.signals += 1

        signal.signal(signal.SIGTERM, count)
        signal.signal(signal.SIGINT, count)

    def start(self, service: Service) -> None:
        """Start the process of `service`, which may not be ready yet."""
        log = ServiceLog(self.log(service.name))
        process = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=log.input,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **service.environment},
            start_new_session=True,
        )
        log.close_input()
        self._notify_reaper(f"+{process.pid}")
        restarts = self.running[service.name].restarts if service.name in self.running else []
        self.running[service.name] = Running(service, process, log, restarts)

    def wait_until_ready(self, *names: str, within_seconds: float, on_poll: Callable[[], object] | None = None) -> None:
        """Wait until the named services are ready, or until this process is stopped.

        Raises:
            ServiceFailed: one ended, or was not ready in time.
        """
        deadline, pending = time.monotonic() + within_seconds, list(names)
        while pending and not self.stopping:
            for name in list(pending):
                running = self.running[name]
                if running.process.poll() is not None:
                    raise ServiceFailed(
                        f"{name} ended with code {running.process.returncode} before it was ready.{self.tail(name)}"
                    )
                if running.service.is_ready():
                    pending.remove(name)
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{pending[0]} was not ready within {within_seconds:.0f} s.{self.tail(pending[0])}")
            if on_poll:
                on_poll()
            time.sleep(0.2)

    def wait_until_done(self, name: str, *, within_seconds: float, on_poll: Callable[[], object] | None = None) -> None:
        """Wait until the named service, which ends by itself, has succeeded, or until this process is stopped.

        Raises:
            ServiceFailed: it ended with an error, or not in time.
        """
        deadline, process = time.monotonic() + within_seconds, self.running[name].process
        while process.poll() is None and not self.stopping:
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{name} had not ended after {within_seconds:.0f} s.{self.tail(name)}")
            if on_poll:
                on_poll()
            time.sleep(0.1)
        if not self.stopping:
            if process.returncode:
                raise ServiceFailed(f"{name} ended with code {process.returncode}.{self.tail(name)}")
            self._end(name)
            del self.running[name]

    def restart_dead_services(self) -> None:
        """Restart each service that died, after a pause that doubles each time.

        Raises:
            ServiceFailed: one died too often in the last minutes.
        """
        for name, running in list(self.running.items()):
            if running.log.replace_dead_writer():
                self.report(f"the process that writes {self.log(name)} died and was restarted")
            if running.process.poll() is None or self.stopping:
                continue
            now = time.monotonic()
            running.restarts = [at for at in running.restarts if now - at < RESTART_WINDOW_SECONDS]
            if len(running.restarts) >= RESTARTS:
                raise ServiceFailed(
                    f"{name} died {RESTARTS + 1} times within {RESTART_WINDOW_SECONDS // 60} minutes.{self.tail(name)}"
                )
            pause_seconds = 2 ** len(running.restarts)
            self.report(
                f"{name} ended with code {running.process.returncode}; restarting it in {pause_seconds} s "
                f"({self.log(name)})"
            )
            self._end(name)
            until = time.monotonic() + pause_seconds
            while time.monotonic() < until and not self.stopping:
                time.sleep(0.1)
            if not self.stopping:
                running.restarts.append(time.monotonic())
                self.start(running.service)

    def stop(self, *order: str) -> None:
        """End every service, those of `order` first and in that order, and release the home."""
        for name in [*order, *(name for name in self.running if name not in order)]:
            if name in self.running:
                self._end(name)
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait()
        os.close(self._lock)

    def log(self, name: str) -> Path:
        """The path of the service's log."""
        return self.logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """The last lines of the service's log, indented for an error message."""
        log = self.running[name].log
        if self.running[name].process.poll() is not None:
            log.wait_until_written(within_seconds=LOG_SECONDS)
        return log.tail()

    def _end(self, name: str) -> None:
        running = self.running[name]
        group, grace = running.process.pid, running.service.grace_seconds
        deadline = time.monotonic() + grace
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)
        before = self.signals
        while members([group]) and time.monotonic() < deadline and self.signals == before:
            running.process.poll()
            time.sleep(0.1)
        if not end([group], grace_seconds=0):
            self.report(
                f"{name} was killed; it had not ended "
                f"{'at the second signal' if self.signals > before else f'within {grace:.0f} s'}"
            )
        running.process.wait()
        running.log.wait_until_written(within_seconds=LOG_SECONDS)
        running.log.close()
        self._notify_reaper(f"-{group}")

    def _notify_reaper(self, line: str) -> None:
        assert self._reaper.stdin is not None
        self._reaper.stdin.write(f"{line}\n".encode())
        self._reaper.stdin.flush()


def require_free(service: Service) -> None:
    """Check that the port of `service` is free.

    Raises:
        Unavailable: another process listens there, or the address cannot be used.
    """
    assert service.port is not None
    with socket.socket(socket.AF_INET6 if ":" in service.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((service.host, service.port))
        except OSError as error:
            raise Unavailable(
                f"port {service.port} of {service.host}, which {service.name} needs, cannot be used: {error.strerror}. "
                f"Stop the process that listens there, or choose another port with {service.option}."
            ) from error


def _lock(home: Path, *, timeout_seconds: float, report: Callable[[str], None]) -> int:
    """A descriptor that holds the lock on `home`; services of a killed `akosha up` get `timeout_seconds` to end."""
    handle = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline, has_reported = time.monotonic() + timeout_seconds, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 20, 0).decode().strip()
            if (owner.isdigit() and _is_alive(int(owner))) or time.monotonic() > deadline:
                os.close(handle)
                raise Unavailable(
                    f"another `akosha up` (process {owner}) uses {home}. Stop it, or choose another AKOSHA_HOME."
                ) from None
            if not has_reported:
                report(f"an earlier `akosha up` on {home} was killed; waiting until its services have ended")
                has_reported = True
            time.sleep(0.2)
        else:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return "Z" not in _state(process)


def _state(process: int) -> str:
    path = Path(f"/proc/{process}/stat")
    return path.read_text().rpartition(")")[2].split()[0] if path.exists() else ""
