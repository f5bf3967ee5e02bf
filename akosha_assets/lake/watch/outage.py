"""How long something has been down, agreed on by every process that checks it: the start is in the ledger."""

import json
from datetime import datetime, timedelta

from akosha_assets.lake.ingestion.ledger.ledger import Ledger

# A start that nobody confirmed for this long says nothing about now.
EXPIRES_AFTER = timedelta(seconds=60)


def down_for(ledger: Ledger, name: str, *, is_up: bool, now: datetime) -> timedelta:
    """How long `name` has been down at `now`, given whether it is up; zero while it is."""
    key = f"silent:{name}"
    if is_up and not ledger.remembered(key):
        return timedelta()

    def note(text: str | None) -> str | None:
        if is_up:
            return None
        start = _start(text, now)
        return json.dumps({"since": (start or now).isoformat(), "asked_at": now.isoformat()})

    text = ledger.update(key, note)
    return now - datetime.fromisoformat(json.loads(text)["since"]) if text else timedelta()


def _start(text: str | None, now: datetime) -> datetime | None:
    """When it went down; None where nobody checked lately, or where a clock that was ahead wrote the times."""
    noted = json.loads(text) if text else None
    if not noted:
        return None
    since, checked_at = (datetime.fromisoformat(noted[name]) for name in ("since", "asked_at"))
    return since if since <= now and abs(now - checked_at) <= EXPIRES_AFTER else None
