"""Finds uploads by the bucket's notifications on an SQS queue: sooner than a listing, and only hints.

A message is deleted when what it tells is in the ledger. Notifications repeat, come out of order, get lost and can be
sent by anyone who may write to the queue, so the object is looked up before it is believed, and the listing in
`listing.py` finds whatever they missed.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from akosha_assets.lake.aws_clients import aws_client, aws_errors
from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.ingestion.inbox.listing import Gathering, Sweep, sweep
from akosha_assets.lake.ingestion.ledger import claims, outages
from akosha_assets.lake.ingestion.ledger.ledger import FoundUpload, Ledger
from akosha_assets.lake.ingestion.uploads import ManifestPart, part_of
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings

RECEIVED_AT_ONCE = 10
# How long a queue without messages is listened to. Dagster begins a tick every five seconds: this one is nearly over by
# then, and whatever comes meanwhile is known at once.
LISTEN_SECONDS = 4


@dataclass
class Polled:
    """What one poll did: uploads that became known, and messages by what they were."""

    added: int = 0
    messages: Counter[str] = field(default_factory=Counter)


def discover(settings: LakeSettings, ledger: Ledger, *, now: datetime) -> Sweep:
    """What is new in the inbox is in the ledger: by notifications where there is a queue, by the listing's next stretch
    when due.

    Without a queue, or while it does not answer, the listing is always due; with one every `sweep_seconds` or while a
    sweep is unfinished. An outage of the queue is recorded and stops nothing.

    Raises:
        StoreUnavailable: the inbox did not answer.
    """
    polled = _poll_queue(settings, ledger, now) if settings.ingestion_queue else None
    swept_at = ledger.remembered("swept_at")
    if (
        polled is not None
        and swept_at
        and not ledger.remembered("sweep_after")
        and timedelta(0) <= now - datetime.fromisoformat(swept_at) < timedelta(seconds=settings.sweep_seconds)
    ):
        return Sweep(0, polled.added, True)
    swept = sweep(settings, ledger, now=now)
    if settings.ingestion_queue:
        ledger.remember("swept_at", now.isoformat())
    return replace(swept, added=swept.added + (polled.added if polled else 0))


def _poll_queue(settings: LakeSettings, ledger: Ledger, now: datetime) -> Polled | None:
    """What the queue had; None where it does not answer, or is not asked yet after it did not."""
    outage = outages.find(ledger, "notifications")
    if outage is not None and now < outage.retry_at:
        return None
    # No uploads that can be claimed wait for a message to arrive.
    wait_seconds = 0 if claims.anything_due(ledger, now=now) else LISTEN_SECONDS
    try:
        with outages.recorded(ledger, "notifications"):
            with aws_errors(settings.ingestion_queue):
                client = aws_client("sqs")
            return poll(settings, ledger, client, now=now, wait_seconds=wait_seconds)
    except StoreUnavailable:
        # Recorded as an outage, which alerts; the listing finds what the queue does not report.
        return None


def poll(settings: LakeSettings, ledger: Ledger, client: Any, *, now: datetime, wait_seconds: int) -> Polled:
    """Messages on the queue are in the ledger and deleted, for at most about `tick_seconds`.

    `client` is a boto3 SQS client; it waits up to `wait_seconds` for the first message, and for no other. A message
    that cannot be understood is counted and left to the queue's own redrive policy, which moves it to the dead-letter
    queue; where there is none it comes back until it expires.

    Raises:
        StoreUnavailable: the queue or the inbox did not answer; undeleted messages come again.
    """
    polled = Polled()
    store = ObjectStore(settings.inbox())
    deadline = time.monotonic() + settings.tick_seconds
    queue = settings.ingestion_queue
    try:
        while time.monotonic() < deadline:
            with aws_errors(queue):
                answer = client.receive_message(
                    QueueUrl=queue, MaxNumberOfMessages=RECEIVED_AT_ONCE, WaitTimeSeconds=wait_seconds
                )
            messages = answer.get("Messages", [])
            if not messages:
                break
            wait_seconds = 0
            found: list[FoundUpload] = []
            done: list[dict[str, str]] = []
            for message in messages:
                kind, uploads = _read(message.get("Body", ""), settings, store, now)
                polled.messages[kind] += 1
                found += uploads
                if kind != "malformed":
                    done.append({"Id": str(len(done)), "ReceiptHandle": message["ReceiptHandle"]})
            polled.added += ledger.add(found, found_by="event", now=now)
            if done:
                with aws_errors(queue):
                    client.delete_message_batch(QueueUrl=queue, Entries=done)
    finally:
        for kind, count in polled.messages.items():
            ledger.count(f"messages_{kind}", count)
    return polled


def _read(body: str, settings: LakeSettings, store: ObjectStore, now: datetime) -> tuple[str, list[FoundUpload]]:
    """What a message is (upload, other, test, malformed), and the uploads it tells of."""
    try:
        event = json.loads(body)
        # A queue behind a topic holds the notification as text inside the topic's own envelope.
        if isinstance(event, dict) and event.get("Type") == "Notification":
            event = json.loads(event["Message"])
        if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":
            return "test", []
        keys = list(_keys(event["Records"], settings))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "malformed", []
    found = [
        one for key in keys if (part := part_of(key)) and part.completes and (one := _looked_up(store, key, part, now))
    ]
    return ("upload" if found else "other"), found


def _keys(records: list[dict[str, Any]], settings: LakeSettings) -> Iterator[str]:
    """Keys, relative to the inbox, of objects created in it."""
    place = urlsplit(settings.inbox())
    root = f"{place.path.strip('/')}/" if place.path.strip("/") else ""
    for record in records:
        key = unquote_plus(record["s3"]["object"]["key"])
        created = str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated")
        if created and record["s3"]["bucket"]["name"] == place.netloc and key.startswith(root):
            yield key.removeprefix(root)


def _looked_up(store: ObjectStore, key: str, part: ManifestPart, now: datetime) -> FoundUpload | None:
    """The upload as it lies in the inbox; None when the object is gone again."""
    gathering = Gathering(part)
    if part.reason:
        # Impossible names are written down as they are and never asked for.
        gathering.revision, gathering.oldest = "event", now
        return gathering.found(now)
    completing = store.head(key)
    if completing is None:
        return None
    gathering.add(part, completing)
    if part.layout != "bare":
        for item in store.list(part.prefix):
            other = part_of(item.key)
            if other is not None and not other.completes:
                gathering.add(other, item)
    return gathering.found(now)
