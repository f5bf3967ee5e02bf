"""Bootstrap mode: what Akosha does while its orchestrator (Mahavishnu) is configured and does not answer.

Its own schedules run, samples of its metrics are kept on disk (bounded), one alert goes out. Once the orchestrator
answers again the samples are sent after it and the schedules step back. The state is in the ledger, so every process
agrees.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from akosha_assets.lake.ingestion import backlog
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch.alerts import WARNING, Condition
from akosha_assets.lake.watch.outage import down_for

logger = logging.getLogger(__name__)

PATIENCE = timedelta(seconds=10)
PROBE_SECONDS = 2.0
SAMPLE_EVERY = timedelta(seconds=10)
SENT_AT_ONCE = 500
MODE_KEY, SAMPLED_KEY = "bootstrap_since", "bootstrap_sampled_at"


def look(ledger: Ledger, *, now: datetime) -> list[Condition]:
    """The mode fits what the orchestrator's health says now; the trouble it makes, if any."""
    url = ledger.settings.mahavishnu_url
    if not url:
        return []
    answers = _answers(url)
    silent = down_for(ledger, "orchestrator", answers=answers, now=now)
    if answers:
        if ledger.remembered(MODE_KEY):
            ledger.remember(MODE_KEY, "")
            logger.info("the orchestrator answers again; bootstrap mode ends", extra={"orchestrator": url})
        replay(ledger.settings)
        return []
    if silent < PATIENCE and since(ledger) is None:
        return []
    if not ledger.remembered(MODE_KEY):
        ledger.remember(MODE_KEY, now.isoformat())
        logger.warning("bootstrap mode begins: the orchestrator does not answer", extra={"orchestrator": url})
    _sample(ledger, now)
    detail = (
        f"{url} has not answered since {now - silent:%H:%M:%S} UTC; Akosha's own schedules run, its metrics are "
        "kept until it is back"
    )
    return [Condition("orchestrator/mahavishnu", WARNING, "Bootstrap mode", detail, "orchestrator-unreachable")]


def since(ledger: Ledger) -> datetime | None:
    """When bootstrap mode began, or None while it is off."""
    said = ledger.remembered(MODE_KEY)
    return datetime.fromisoformat(said) if said else None


def steps_back(ledger: Ledger) -> bool:
    """Whether Akosha's own schedules leave the work to an orchestrator that is there to ask for it."""
    settings = ledger.settings
    return bool(settings.mahavishnu_url) and settings.mahavishnu_schedules and since(ledger) is None


def orchestrated(settings: LakeSettings) -> bool:
    """`steps_back`, where no ledger is open."""
    if not (settings.mahavishnu_url and settings.mahavishnu_schedules):
        return False
    ledger = Ledger.open(settings)
    try:
        return steps_back(ledger)
    finally:
        ledger.close()


def buffer(settings: LakeSettings) -> Path:
    """Where samples wait, one JSON object a line."""
    return settings.home / "bootstrap" / "metrics.jsonl"


def replay(settings: LakeSettings) -> int:
    """Samples that wait were sent to the orchestrator, oldest first; returns how many. What it refuses waits on."""
    path = buffer(settings)
    claimed = path.with_name(f"replay-{os.getpid()}.jsonl")
    try:
        # Whoever renames it sends it.
        path.rename(claimed)
    except FileNotFoundError:
        return 0
    sent = 0
    lines = claimed.read_text().splitlines()
    for start in range(0, len(lines), SENT_AT_ONCE):
        part = [json.loads(line) for line in lines[start : start + SENT_AT_ONCE]]
        try:
            httpx.post(settings.mahavishnu_metrics_url, json={"samples": part}, timeout=10).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            logger.warning("buffered metrics were not taken", extra={"cause": str(error), "left": len(lines) - sent})
            with path.open("a") as left:
                left.writelines(f"{line}\n" for line in lines[start:])
            break
        sent += len(part)
    claimed.unlink()
    return sent


def _sample(ledger: Ledger, now: datetime) -> None:
    """One sample of the backlog is kept, at most every few seconds; beyond the bound the older half is given up."""
    settings = ledger.settings
    last = ledger.remembered(SAMPLED_KEY)
    if not settings.mahavishnu_metrics_url or (last and now - datetime.fromisoformat(last) < SAMPLE_EVERY):
        return
    ledger.remember(SAMPLED_KEY, now.isoformat())
    path = buffer(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"at": now.isoformat(), **asdict(backlog.measure(ledger, now=now))}, default=str)
    with path.open("a") as out:
        out.write(f"{line}\n")
    if path.stat().st_size > settings.mahavishnu_buffer_bytes:
        kept = list(_newest(path, settings.mahavishnu_buffer_bytes // 2))
        shorter = path.with_suffix(".tmp")
        shorter.write_text("".join(f"{one}\n" for one in kept))
        shorter.replace(path)


def _newest(path: Path, most_bytes: int) -> Iterator[str]:
    lines = path.read_text().splitlines()
    total, first = 0, len(lines)
    while first and total + len(lines[first - 1]) < most_bytes:
        first -= 1
        total += len(lines[first]) + 1
    return iter(lines[first:])


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url.rstrip('/')}/health", timeout=PROBE_SECONDS).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
