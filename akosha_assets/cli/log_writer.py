"""Copies standard input to a log file of bounded size until the last writer has closed it.

`supervisor.py` starts one for each service, in a session of its own: it outlives a supervisor that is killed, so that
no service writes into a closed pipe. Standard library only: it must stay small.
"""

import contextlib
import logging
import signal
import sys
import time
from logging.handlers import RotatingFileHandler
from typing import BinaryIO

# A longer line is written in pieces.
LINE_BYTES = 64 * 1024


class LogFile(RotatingFileHandler):
    """Appends lines to `path`; a file of `max_bytes` is renamed to `path.1`, an older one to `path.2` and so on.

    A line that the disk does not take is dropped and counted; the count is written once the disk takes lines again.
    """

    def __init__(self, path: str, max_bytes: int, backups: int):
        # Bytes that are no UTF-8 pass unchanged.
        super().__init__(
            path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8", errors="surrogateescape", delay=True
        )
        self.terminator = ""
        self.dropped, self.cause = 0, ""

    def write(self, line: bytes) -> None:
        """Append `line`, which ends with its line break."""
        before = self.dropped
        self.emit(logging.makeLogRecord({"msg": line.decode(errors="surrogateescape")}))
        if before and self.dropped == before:
            self.dropped = 0
            note = f"{time.strftime('%Y-%m-%d %H:%M:%S')} log_writer: {before} lines could not be written: {self.cause}"
            self.write(f"{note}\n".encode())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - the name is logging's
        """Count the line that could not be written."""
        self.dropped, self.cause = self.dropped + 1, str(sys.exception())


def copy(source: BinaryIO, log: LogFile) -> None:
    """Write every line of `source` to `log`, until the end of `source`."""
    while line := source.readline(LINE_BYTES):
        log.write(line)


def main() -> None:
    """Copy standard input to the file of the arguments: path, bytes of one file, older files to keep."""
    # The pipe's end ends this process, after the last line; signals to a terminal's group do not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    path, max_bytes, backups = sys.argv[1:]
    with contextlib.closing(LogFile(path, int(max_bytes), int(backups))) as log:
        copy(sys.stdin.buffer, log)


if __name__ == "__main__":
    main()
