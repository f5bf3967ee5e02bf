"""Starts ingestion now: as a run of Dagster if it answers, else as a child process `akosha ingest --once`."""

import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from akosha_assets.lake.errors import OrchestratorUnavailable
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import orchestration

logger = logging.getLogger(__name__)

JOB = "ingest"


@dataclass(frozen=True)
class Started:
    """Who ingests uploads now: `by` is dagster or process, `run` a run id or a process id, `reason` why."""

    by: str
    run: str
    already_running: bool
    reason: str


def retry_now(ledger: Ledger) -> int:
    """Waiting uploads that a failure delayed are due now; returns how many. Their attempts stay counted."""
    delayed = sa.and_(uploads.c.state == "waiting", uploads.c.not_before.is_not(None))
    with ledger.write() as connection:
        return connection.execute(sa.update(uploads).where(delayed).values(not_before=None)).rowcount


class Trigger:
    """Starts ingestion, one child process at a time."""

    def __init__(self, settings: LakeSettings):
        self.settings = settings
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, *, asked_by: str) -> Started:
        """Ingestion is under way or queued."""
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                return Started("process", str(self._child.pid), True, "an earlier process is still ingesting")
            reason = "AKOSHA_DAGSTER_URL is not set"
            if self.settings.dagster_url:
                try:
                    return self._by_dagster(asked_by)
                except OrchestratorUnavailable as error:
                    reason = str(error)
                    logger.warning("ingestion is started without Dagster", extra={"cause": reason})
            return self._by_process(reason)

    def close(self) -> None:
        """The child process has ended: it finished its batch, released it, or was killed after `drain_seconds`."""
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                self._child.terminate()
                try:
                    self._child.wait(self.settings.drain_seconds)
                except subprocess.TimeoutExpired:
                    # Its lease ends, and the next claim takes its batch over.
                    self._child.kill()
                    self._child.wait()

    def _by_dagster(self, asked_by: str) -> Started:
        url, token = self.settings.dagster_url, self.settings.dagster_token.get_secret_value()
        state = orchestration.read(url, token=token, now=datetime.now(UTC))
        for run in state.active:
            if run["jobName"] == JOB:
                return Started("dagster", run["runId"], True, f"a run of `{JOB}` is under way")
        return Started(
            "dagster",
            orchestration.launch(url, JOB, token=token, asked_by=asked_by),
            False,
            f"Dagster answers at {url}",
        )

    def _by_process(self, reason: str) -> Started:
        folder = self.settings.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "ingest.log").open("ab") as log:
            command = [str(Path(sys.executable).with_name("akosha")), "ingest", "--once", "--json"]
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment()
            )
        return Started("process", str(self._child.pid), False, reason)

    def _environment(self) -> dict[str, str]:
        variables = {
            f"AKOSHA_{name.upper()}": str(getattr(self.settings, name))
            for name in ("home", "inbox_url", "lake_url", "ledger_url")
        }
        return {**os.environ, **variables}
