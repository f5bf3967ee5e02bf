"""Starts services as child processes, waits until they answer, restarts one that dies, stops all in order.

Knows processes, logs and ports; which services there are is in `services.py`. Each service leads a process group of its
own, so that what it starts (run workers) ends with it; `reaper.py` does that should this process be killed.
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
    """A service could not be started or kept dying; the message ends with what its log says last."""


class Unavailable(Exception):
    """Something that is needed here is taken by another; the message names it and the way around."""


@dataclass(frozen=True)
class Service:
    """A program that runs until it is told to stop. `answers` is asked until it says yes."""

    name: str
    command: list[str]
    answers: Callable[[], bool]
    host: str = "127.0.0.1"
    port: int | None = None
    option: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    # Seconds between SIGTERM and SIGKILL.
    grace_seconds: float = 10.0


@dataclass
class Running:
    """One started service."""

    service: Service
    process: subprocess.Popen[bytes]
    log: ServiceLog
    restarts: list[float] = field(default_factory=list)


class Supervisor:
    """Everything that was started here, and the promise that none of it outlives this process."""

    def __init__(self, home: Path, *, drain_seconds: float, say: Callable[[str], None]):
        self.logs, self.say = home / "logs", say
        self.running: dict[str, Running] = {}
        self.signals = 0
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(home, patience_seconds=drain_seconds + 20, say=say)
        self._lifeline = subprocess.Popen(
            [sys.executable, "-m", "akosha_assets.cli.reaper", str(drain_seconds + 5)],
            stdin=subprocess.PIPE,
            pass_fds=[self._lock],
            start_new_session=True,
        )

    @property
    def stopping(self) -> bool:
        """Whether SIGTERM or SIGINT came."""
        return self.signals > 0

    def catch_signals(self) -> None:
        """SIGTERM and SIGINT ask for a stop instead of ending this process; a second one cuts the drain short."""

        def asked(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self.signals += 1

        signal.signal(signal.SIGTERM, asked)
        signal.signal(signal.SIGINT, asked)

    def start(self, service: Service) -> None:
        """The service's process runs; it may not answer yet."""
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
        self._tell(f"+{process.pid}")
        restarts = self.running[service.name].restarts if service.name in self.running else []
        self.running[service.name] = Running(service, process, log, restarts)

    def wait_until_answering(
        self, *names: str, within_seconds: float, meanwhile: Callable[[], object] | None = None
    ) -> None:
        """The named services answer, or a stop was asked for.

        Raises:
            ServiceFailed: one ended, or did not answer in time.
        """
        deadline, missing = time.monotonic() + within_seconds, list(names)
        while missing and not self.stopping:
            for name in list(missing):
                running = self.running[name]
                if running.process.poll() is not None:
                    raise ServiceFailed(
                        f"{name} ended with code {running.process.returncode} before it answered.{self.tail(name)}"
                    )
                if running.service.answers():
                    missing.remove(name)
            if time.monotonic() > deadline:
                raise ServiceFailed(
                    f"{missing[0]} did not answer within {within_seconds:.0f} s.{self.tail(missing[0])}"
                )
            if meanwhile:
                meanwhile()
            time.sleep(0.2)

    def wait_until_done(
        self, name: str, *, within_seconds: float, meanwhile: Callable[[], object] | None = None
    ) -> None:
        """The named service, which ends by itself, has ended well; or a stop was asked for.

        Raises:
            ServiceFailed: it ended with an error, or not in time.
        """
        deadline, process = time.monotonic() + within_seconds, self.running[name].process
        while process.poll() is None and not self.stopping:
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{name} had not ended after {within_seconds:.0f} s.{self.tail(name)}")
            if meanwhile:
                meanwhile()
            time.sleep(0.1)
        if not self.stopping:
            if process.returncode:
                raise ServiceFailed(f"{name} ended with code {process.returncode}.{self.tail(name)}")
            self._end(name)
            del self.running[name]

    def look_after(self) -> None:
        """A service that died is started again after a pause that doubles each time.

        Raises:
            ServiceFailed: it died too often in the last minutes.
        """
        for name, running in list(self.running.items()):
            if running.log.replace_dead_writer():
                self.say(f"the process that writes {self.log(name)} had ended; it is started again")
            if running.process.poll() is None or self.stopping:
                continue
            now = time.monotonic()
            running.restarts = [at for at in running.restarts if now - at < RESTART_WINDOW_SECONDS]
            if len(running.restarts) >= RESTARTS:
                raise ServiceFailed(
                    f"{name} died {RESTARTS + 1} times within {RESTART_WINDOW_SECONDS // 60} minutes.{self.tail(name)}"
                )
            pause_seconds = 2 ** len(running.restarts)
            self.say(
                f"{name} ended with code {running.process.returncode}; it is started again in {pause_seconds} s "
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
        """Nothing that was started here runs any more; named services end in that order, the others after them."""
        for name in [*order, *(name for name in self.running if name not in order)]:
            if name in self.running:
                self._end(name)
        assert self._lifeline.stdin is not None
        self._lifeline.stdin.close()
        self._lifeline.wait()
        os.close(self._lock)

    def log(self, name: str) -> Path:
        """Where the service's output goes."""
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
            self.say(
                f"{name} was killed; it had not ended "
                f"{'when asked again' if self.signals > before else f'within {grace:.0f} s'}"
            )
        running.process.wait()
        running.log.wait_until_written(within_seconds=LOG_SECONDS)
        running.log.close()
        self._tell(f"-{group}")

    def _tell(self, line: str) -> None:
        assert self._lifeline.stdin is not None
        self._lifeline.stdin.write(f"{line}\n".encode())
        self._lifeline.stdin.flush()


def require_free(service: Service) -> None:
    """Nobody listens where `service` wants to.

    Raises:
        Unavailable: somebody does.
    """
    assert service.port is not None
    with socket.socket(socket.AF_INET6 if ":" in service.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((service.host, service.port))
        except OSError as error:
            raise Unavailable(
                f"port {service.port} of {service.host}, which {service.name} needs, cannot be used: {error.strerror}. "
                f"End what listens there or choose another port with {service.option}."
            ) from error


def _lock(home: Path, *, patience_seconds: float, say: Callable[[str], None]) -> int:
    """The lock on the home is ours. What a killed `akosha up` left is given `patience_seconds` to end."""
    handle = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline, told = time.monotonic() + patience_seconds, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 20, 0).decode().strip()
            if (owner.isdigit() and _lives(int(owner))) or time.monotonic() > deadline:
                os.close(handle)
                raise Unavailable(
                    f"another `akosha up` (process {owner}) works on {home}. Stop it, or choose another AKOSHA_HOME."
                ) from None
            if not told:
                say(f"an earlier `akosha up` on {home} was killed; waiting until what it started has ended")
                told = True
            time.sleep(0.2)
        else:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle


def _lives(process: int) -> bool:
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
