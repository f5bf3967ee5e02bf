"""A lease on a duty that must not run twice at a time, such as embedding: who holds it, and until when, stands in the
ledger.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from akosha_assets.lake.ingestion.ledger.ledger import Ledger

LEASE = timedelta(minutes=5)
# A lease is extended when this much of it has passed.
EXTEND_AFTER = timedelta(minutes=1)


@dataclass
class DutyLease:
    """The lease that this process holds on `duty`."""

    ledger: Ledger
    duty: str
    owner: str
    extended_at: datetime

    def extend(self) -> bool:
        """The lease runs on, as far as it is still this process's; False where another one took it over."""
        now = datetime.now(UTC)
        if now - self.extended_at < EXTEND_AFTER:
            return True
        self.extended_at = now
        return _take(self.ledger, self.duty, self.owner, now)


@contextmanager
def hold(ledger: Ledger, duty: str) -> Iterator[DutyLease | None]:
    """The lease on `duty`, released at the end; None where another process holds it."""
    lease = DutyLease(ledger, duty, uuid.uuid4().hex, datetime.now(UTC))
    if not _take(ledger, duty, lease.owner, lease.extended_at):
        yield None
        return
    try:
        yield lease
    finally:
        ledger.update(_key(duty), lambda held: "" if held and json.loads(held)["owner"] == lease.owner else held)


def _take(ledger: Ledger, duty: str, owner: str, now: datetime) -> bool:
    """`owner` holds the lease from now on; False where another one does."""

    def taken(held: str | None) -> str | None:
        if held:
            other = json.loads(held)
            # A lease that ends later than any can was written by a clock that was ahead.
            ends_at = min(datetime.fromisoformat(other["until"]), now + LEASE)
            if other["owner"] != owner and ends_at > now and not _is_ahead(other["until"], now):
                return held
        return json.dumps({"owner": owner, "until": (now + LEASE).isoformat()})

    return json.loads(ledger.update(_key(duty), taken) or "{}").get("owner") == owner


def _is_ahead(until: str, now: datetime) -> bool:
    return datetime.fromisoformat(until) > now + 2 * LEASE


def _key(duty: str) -> str:
    return f"lease/{duty}"
