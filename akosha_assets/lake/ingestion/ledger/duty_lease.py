"""A lease in the ledger on a duty that only one process at a time may perform, such as embedding."""

import json
import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from akosha_assets.lake.errors import LakeError
from akosha_assets.lake.ingestion.ledger.ledger import Ledger

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
# A lease is extended after this time.
EXTEND_AFTER = timedelta(minutes=1)


class Duty(StrEnum):
    """Duties that only one process at a time performs."""

    EMBED = "embed"
    AGING = "aging"
    RETENTION = "retention"
    COMPACTION = "compaction"
    VACUUM = "vacuum"
    # Backups and restore drills: a backup prunes files that a drill may be reading.
    BACKUP = "backup"
    NEAR_DUPLICATES = "near_duplicates"
    INBOX = "inbox"


@dataclass
class DutyLease:
    """The lease that this process holds on `duty`."""

    ledger: Ledger
    duty: Duty
    owner: str
    extended_at: datetime

    def extend(self) -> bool:
        """Extends the lease by `LEASE`. Returns False if another process took it over."""
        now = datetime.now(UTC)
        if now - self.extended_at < EXTEND_AFTER:
            return True
        self.extended_at = now
        return _acquire(self.ledger, self.duty, self.owner, now)


@contextmanager
def hold(ledger: Ledger, duty: Duty) -> Iterator[DutyLease | None]:
    """The lease on `duty`, released at the end; None if another process holds it. The caller extends it."""
    lease = DutyLease(ledger, duty, uuid.uuid4().hex, datetime.now(UTC))
    if not _acquire(ledger, duty, lease.owner, lease.extended_at):
        yield None
        return
    try:
        yield lease
    finally:
        ledger.update(_key(duty), lambda text: "" if text and json.loads(text)["owner"] == lease.owner else text)


@contextmanager
def hold_extended(ledger: Ledger, duty: Duty) -> Iterator[DutyLease | None]:
    """Like `hold`, for work that cannot extend its lease itself: a thread extends it until the end."""
    with hold(ledger, duty) as lease:
        if lease is None:
            yield None
            return
        ended = threading.Event()
        thread = threading.Thread(target=_extend_until, args=(lease, ended), name=f"lease-{duty}", daemon=True)
        thread.start()
        try:
            yield lease
        finally:
            ended.set()
            thread.join()


def _extend_until(lease: DutyLease, ended: threading.Event) -> None:
    while not ended.wait(EXTEND_AFTER.total_seconds()):
        try:
            if not lease.extend():
                # The tables stay correct: every commit is checked for conflicts with concurrent ones.
                logger.warning(
                    "another process took over a duty that is still being performed", extra={"duty": lease.duty}
                )
                return
        except LakeError as error:
            logger.warning("a lease could not be extended", extra={"duty": lease.duty, "cause": str(error)})


def _acquire(ledger: Ledger, duty: Duty, owner: str, now: datetime) -> bool:
    """Acquires the lease for `owner`; returns whether it succeeded."""

    def acquire(text: str | None) -> str | None:
        if text:
            current = json.loads(text)
            until = datetime.fromisoformat(current["until"])
            # A lease that ends later than possible was written by a clock that was ahead.
            if current["owner"] != owner and now < until <= now + 2 * LEASE:
                return text
        return json.dumps({"owner": owner, "until": (now + LEASE).isoformat()})

    return bool(json.loads(ledger.update(_key(duty), acquire) or "{}").get("owner") == owner)


def _key(duty: Duty) -> str:
    return f"lease/{duty}"
