"""Bootstrap mode: what Akosha does while its orchestrator (Mahavishnu) is configured and does not answer.

Akosha's own schedules run, samples of its metrics are buffered on disk, and one alert fires. Once the orchestrator
answers, the samples are sent and the schedules step back. The mode is in the ledger, so every process agrees on it.
"""

import json
import logging
import os
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch.alert_kinds import Runbook, Scope, Severity
from akosha_assets.lake.watch.alerts import Condition
from akosha_assets.lake.watch.orchestrator_probe import probe
from akosha_assets.lake.watch.outage import down_for

logger = logging.getLogger(__name__)

BEGINS_AFTER = timedelta(seconds=10)
SAMPLE_INTERVAL = timedelta(seconds=10)
SAMPLES_PER_REQUEST = 500
MODE_KEY, SAMPLED_KEY = "bootstrap_since", "bootstrap_sampled_at"


def evaluate(ledger: Ledger, *, now: datetime) -> list[Condition]:
    """Bootstrap mode is on exactly while the orchestrator has not answered for `BEGINS_AFTER`; its condition, if on."""
    url = ledger.settings.mahavishnu_url
    if not url:
        return []
    probed = probe(url)
    down = down_for(ledger, "orchestrator", is_up=probed.is_answer, now=now)
    if probed.is_answer:
        if since(ledger) is not None:
            ledger.update(MODE_KEY, lambda _: None)
            logger.info("bootstrap mode ends: the orchestrator answers again", extra={"orchestrator": url})
        send_samples(ledger.settings)
        return []
    if since(ledger) is None:
        if down < BEGINS_AFTER:
            return []
        ledger.update(MODE_KEY, lambda begun: begun or now.isoformat())
        extra = {"orchestrator": url, "cause": probed.received}
        logger.warning("bootstrap mode begins: the orchestrator does not answer", extra=extra)
    _buffer_sample(ledger, now)
    detail = (
        f"{url} has not answered since {now - down:%H:%M:%S} UTC (last: {probed.received}); Akosha's own schedules "
        "run, and its metrics are buffered until it answers"
    )
    return [
        Condition(
            key=f"{Scope.ORCHESTRATOR}/mahavishnu",
            severity=Severity.WARNING,
            title="Bootstrap mode",
            detail=detail,
            runbook=Runbook.ORCHESTRATOR_UNREACHABLE,
        )
    ]


def since(ledger: Ledger) -> datetime | None:
    """When bootstrap mode began; None while it is off."""
    text = ledger.remembered(MODE_KEY)
    return datetime.fromisoformat(text) if text else None


def steps_back(ledger: Ledger) -> bool:
    """Whether Akosha's own sensors and schedules start no runs because an orchestrator that answers does."""
    settings = ledger.settings
    return bool(settings.mahavishnu_url) and settings.mahavishnu_schedules and since(ledger) is None


def is_orchestrated(settings: LakeSettings) -> bool:
    """`steps_back` for callers without an open ledger."""
    if not (settings.mahavishnu_url and settings.mahavishnu_schedules):
        return False
    ledger = Ledger.open(settings)
    try:
        return steps_back(ledger)
    finally:
        ledger.close()


def buffer_path(settings: LakeSettings) -> Path:
    """The file of buffered samples, one JSON object per line, oldest first."""
    return settings.home / "bootstrap" / "metrics.jsonl"


def send_samples(settings: LakeSettings) -> int:
    """Buffered samples were sent to the orchestrator, oldest first; returns how many. Refused ones stay buffered."""
    path = buffer_path(settings)
    claimed = path.with_name(f"replay-{os.getpid()}.jsonl")
    try:
        # Of several processes, the one that renames the file sends it.
        path.rename(claimed)
    except FileNotFoundError:
        return 0
    sent = 0
    lines = claimed.read_text().splitlines()
    for start in range(0, len(lines), SAMPLES_PER_REQUEST):
        samples = [json.loads(line) for line in lines[start : start + SAMPLES_PER_REQUEST]]
        try:
            httpx.post(settings.mahavishnu_metrics_url, json={"samples": samples}, timeout=10).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            remaining = len(lines) - sent
            logger.warning("buffered metrics were refused", extra={"cause": str(error), "remaining": remaining})
            with path.open("a") as file:
                file.writelines(f"{line}\n" for line in lines[start:])
            break
        sent += len(samples)
    claimed.unlink()
    return sent


def _buffer_sample(ledger: Ledger, now: datetime) -> None:
    """One sample of the backlog is buffered if `SAMPLE_INTERVAL` has passed. A full buffer loses its older half."""
    settings = ledger.settings
    if not settings.mahavishnu_metrics_url or not _claim_sample(ledger, now):
        return
    path = buffer_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"at": now.isoformat(), **asdict(backlog.measure(ledger, now=now))}, default=str)
    with path.open("a") as file:
        file.write(f"{line}\n")
    if path.stat().st_size > settings.mahavishnu_buffer_bytes:
        newest = _newest_lines(path, settings.mahavishnu_buffer_bytes // 2)
        shorter = path.with_suffix(".tmp")
        shorter.write_text("".join(f"{one}\n" for one in newest))
        shorter.replace(path)


def _claim_sample(ledger: Ledger, now: datetime) -> bool:
    """Whether this process takes the sample that is due now; of several processes, one does."""
    is_claimed = False

    def claim(text: str | None) -> str | None:
        nonlocal is_claimed
        last = datetime.fromisoformat(text) if text else None
        # A time in the future was written by a clock that was ahead.
        is_claimed = last is None or not now - SAMPLE_INTERVAL < last <= now
        return now.isoformat() if is_claimed else text

    ledger.update(SAMPLED_KEY, claim)
    return is_claimed


def _newest_lines(path: Path, max_bytes: int) -> list[str]:
    lines = path.read_text().splitlines()
    total, first = 0, len(lines)
    while first and total + len(lines[first - 1]) < max_bytes:
        first -= 1
        total += len(lines[first]) + 1
    return lines[first:]
