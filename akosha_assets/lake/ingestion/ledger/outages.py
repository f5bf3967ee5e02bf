"""Outages of the dependencies of ingestion, recorded in the ledger: since when a store or a disk fails, how often, and
when to try again.

Uploads wait through an outage without losing an attempt. The sensor requests no run before `retry_at`; a run that is
started manually tries at once.
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
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.ingestion.ledger.states import UploadState

# Steps that an outage can interrupt; each has its own entry in the ledger.
STEPS = ("discovery", "notifications", "ingest")
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=5)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outage:
    """`step` has failed `failures` times in a row since `since`, the last time at `last_at` with `message`."""

    step: str
    kind: str
    message: str
    since: datetime
    last_at: datetime
    failures: int

    @property
    def retry_at(self) -> datetime:
        """When the sensor may request a run again: the pause doubles with every failure, up to five minutes."""
        return self.last_at + min(FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10), LONGEST_PAUSE)


def find(ledger: Ledger, step: str) -> Outage | None:
    """Returns the outage of `step`; None while it works."""
    return _decode(ledger.remembered(_key(step)))


def find_all(ledger: Ledger) -> list[Outage]:
    """Returns the outages of all steps."""
    return [outage for step in STEPS if (outage := find(ledger, step)) is not None]


def record(ledger: Ledger, step: str, error: TransientError, *, now: datetime) -> Outage:
    """Records another failure of `step` at `now`; returns the outage with this failure."""

    def with_failure(text: str | None) -> str:
        before = _decode(text)
        # A clock that was ahead may have recorded a start in the future.
        since = min(before.since, now) if before else now
        failures = before.failures + 1 if before else 1
        return _encode(Outage(step, type(error).__name__, str(error)[:2000], since, now, failures))

    outage = _decode(ledger.update(_key(step), with_failure))
    assert outage is not None
    ledger.count(f"outages_of_{step}")
    extra = {"step": step, "failures": outage.failures, "cause": str(error)}
    logger.error("ingestion is interrupted by an outage", extra=extra)
    return outage


def clear(ledger: Ledger, step: str) -> None:
    """Ends the outage of `step`, if any."""
    if ledger.remembered(_key(step)):
        ledger.remember(_key(step), "")
        logger.info("an outage is over", extra={"step": step})


@contextmanager
def recorded(ledger: Ledger, step: str) -> Iterator[None]:
    """Records an outage that interrupts the block, and clears the outage of `step` when the block succeeds.

    Raises: what the block raises.
    """
    try:
        yield
    except LeaseLost:
        raise
    except TransientError as error:
        try:
            record(ledger, step, error, now=datetime.now(UTC))
        except LakeError as second:
            # The ledger itself may have failed; the raised error says so.
            logger.warning("an outage could not be recorded in the ledger", extra={"step": step, "cause": str(second)})
        raise
    clear(ledger, step)


def release_waiting(ledger: Ledger) -> None:
    """Lets uploads that could not be read because of an outage be claimed at once."""
    waiting = sa.and_(
        uploads.c.state == UploadState.WAITING, uploads.c.attempts == 0, uploads.c.not_before.is_not(None)
    )
    with ledger.write() as connection:
        connection.execute(sa.update(uploads).where(waiting).values(not_before=None))


def _encode(outage: Outage) -> str:
    times = {"since": outage.since.isoformat(), "last_at": outage.last_at.isoformat()}
    return json.dumps(asdict(outage) | times)


def _decode(text: str | None) -> Outage | None:
    if not text:
        return None
    values: dict[str, Any] = json.loads(text)
    return Outage(**values | {name: datetime.fromisoformat(values[name]) for name in ("since", "last_at")})


def _key(step: str) -> str:
    return f"outage/{step}"
