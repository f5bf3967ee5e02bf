"""For how long something has not answered, agreed on by all processes that ask it: kept in the ledger."""

import json
from datetime import datetime, timedelta

from akosha_assets.lake.ingestion.ledger.ledger import Ledger

# When nobody asked for this long, an earlier silence says nothing of now.
FORGOTTEN = timedelta(seconds=60)


def down_for(ledger: Ledger, name: str, *, answers: bool, now: datetime) -> timedelta:
    """How long `name` has been silent at `now`, with the answer it gave just now; nothing while it answers."""
    key = f"silent:{name}"
    held = json.loads(ledger.remembered(key) or "null")
    if answers:
        if held:
            ledger.remember(key, "null")
        return timedelta()
    if not held or now - datetime.fromisoformat(held["asked_at"]) > FORGOTTEN:
        held = {"since": now.isoformat()}
    ledger.remember(key, json.dumps({**held, "asked_at": now.isoformat()}))
    return now - datetime.fromisoformat(held["since"])
