"""The log file of one service: a pipe, and a process (`log_writer.py`) that copies it to files of bounded size.

The supervisor keeps the reading end open as well, so that a service can write while a writer that died is replaced.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

FILE_BYTES = 20 * 1024 * 1024
OLDER_FILES = 1
TAIL_LINES = 15


class ServiceLog:
    """The output of one run of a service, in `path` and, once that is full, in `path.1`."""

    def __init__(self, path: Path):
        """Open the pipe and start its writer; `input` is for the standard output of the service."""
        path.touch()
        self.path = path
        output, self._input = os.pipe()
        # A file object, which may be closed twice.
        self._output = os.fdopen(output, "rb", buffering=0)
        self._writer = self._start_writer()

    @property
    def input(self) -> int:
        """The descriptor that the service writes to."""
        return self._input

    def close_input(self) -> None:
        """Close this process's copy of `input`; the log ends when the service and its children have closed theirs."""
        os.close(self._input)

    def replace_dead_writer(self) -> bool:
        """Start a new writer if the writer died; returns whether it did."""
        if self._writer.poll() in (None, 0):
            return False
        self._writer = self._start_writer()
        return True

    def wait_until_written(self, *, within_seconds: float) -> None:
        """Wait until all output of the ended service is in the file; a child that still prints is not waited for."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._writer.wait(within_seconds)

    def close(self) -> None:
        """Close this process's end of the pipe; the writer ends with the last process that prints."""
        self._output.close()

    def tail(self) -> str:
        """The last lines of the log, indented for an error message."""
        lines = self.path.read_text(errors="replace").splitlines()
        return "".join(f"\n    {line}" for line in [f"{self.path}:", *lines[-TAIL_LINES:]])

    def _start_writer(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "akosha_assets.cli.log_writer", str(self.path), str(FILE_BYTES), str(OLDER_FILES)],
            stdin=self._output,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
