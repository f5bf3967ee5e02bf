"""Outages of what ingestion needs, noted in the ledger: since when a store or a disk fails, how often, and when to try
again.

Uploads wait through an outage without losing an attempt. Who asks for runs by itself waits until `retry_at`; a run that
is started anyway tries at once.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from akosha_assets.lake.errors import LakeError, LeaseLost, TransientError
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.rows import UploadState
from akosha_assets.lake.ingestion.ledger.schema import uploads

# What can be interrupted; each has its own entry in the ledger.
STEPS = ("discovery", "notifications", "ingest")
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outage:
    """`step` has failed since `since`, `failures` times in a row, the last time at `last_at` with `message`."""

    step: str
    kind: str
    message: str
    since: datetime
    last_at: datetime
    failures: int

    @property
    def retry_at(self) -> datetime:
        """When a run that nobody asked for may try again: the pause doubles with every failure, up to five minutes."""
        return self.last_at + min(FIRST_PAUSE * 2 ** min(self.failures - 1, 10), LONGEST_PAUSE)


def find(ledger: Ledger, step: str) -> Outage | None:
    """The outage that `step` is in, if any."""
    text = ledger.remembered(_key(step))
    if not text:
        return None
    held: dict[str, Any] = json.loads(text)
    held |= {name: datetime.fromisoformat(held[name]) for name in ("since", "last_at")}
    return Outage(**held)


def find_all(ledger: Ledger) -> list[Outage]:
    """Every outage that lasts."""
    return [outage for step in STEPS if (outage := find(ledger, step)) is not None]


def note(ledger: Ledger, step: str, error: TransientError, *, now: datetime) -> Outage:
    """`step` failed once more."""
    before = find(ledger, step)
    since, failures = (before.since, before.failures + 1) if before else (now, 1)
    outage = Outage(step, type(error).__name__, str(error)[:2000], since, now, failures)
    times = {name: value.isoformat() for name, value in asdict(outage).items() if isinstance(value, datetime)}
    ledger.remember(_key(step), json.dumps(asdict(outage) | times))
    ledger.count(f"outages_of_{step}")
    logger.error(
        "ingestion is interrupted by an outage", extra={"step": step, "failures": failures, "cause": str(error)}
    )
    return outage


def clear(ledger: Ledger, step: str) -> None:
    """`step` works."""
    if ledger.remembered(_key(step)):
        ledger.remember(_key(step), "")
        logger.info("an outage is over", extra={"step": step})


@contextmanager
def noted(ledger: Ledger, step: str) -> Iterator[None]:
    """An outage that interrupts what is done inside is noted; none lasts when it ends well.

    Raises: what was raised inside.
    """
    try:
        yield
    except LeaseLost:
        raise
    except TransientError as error:
        try:
            note(ledger, step, error, now=datetime.now(UTC))
        except LakeError as second:
            # The ledger itself may be what is out; the error that is raised says so.
            logger.warning("an outage could not be noted in the ledger", extra={"step": step, "cause": str(second)})
        raise
    clear(ledger, step)


def release_waiting(ledger: Ledger) -> None:
    """Uploads that wait because an outage kept them from being read may be claimed at once."""
    waiting = sa.and_(
        uploads.c.state == UploadState.WAITING, uploads.c.attempts == 0, uploads.c.not_before.is_not(None)
    )
    with ledger.write() as connection:
        connection.execute(sa.update(uploads).where(waiting).values(not_before=None))


def _key(step: str) -> str:
    return f"outage/{step}"
