"""Finds uploads from the bucket's notifications on an SQS queue, sooner than a listing does.

Notifications are hints: they repeat, come out of order, get lost, and anyone who may write to the queue can send them.
So each object is looked up before it is added to the ledger, and a message is deleted after that. Listings
(`listing.py`) find what notifications missed.
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
from akosha_assets.lake.ingestion.inbox.listing import Sweep, UploadObjects, sweep
from akosha_assets.lake.ingestion.ledger import claims, outages
from akosha_assets.lake.ingestion.ledger.found_uploads import FoundUpload
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.uploads import MANIFEST, ManifestPart, part_of
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings

RECEIVED_AT_ONCE = 10
# How long an empty queue is polled. Dagster starts a tick every five seconds, so nearly all the time is covered and a
# notification is read as it arrives.
LISTEN_SECONDS = 4


@dataclass
class Polled:
    """The result of one poll: uploads that became known, and the number of messages by kind."""

    added: int = 0
    messages: Counter[str] = field(default_factory=Counter)


def discover(settings: LakeSettings, ledger: Ledger, *, now: datetime) -> Sweep:
    """Adds new uploads to the ledger: from notifications if there is a queue, and by a sweep if one is due.

    With a queue, a sweep is due every `sweep_seconds` and while one is unfinished. Without a queue, or while it does
    not answer, a sweep is always due. An outage of the queue is recorded and stops nothing.

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
    """Polls the queue. None if it does not answer, or failed so recently that it is not polled."""
    outage = outages.find(ledger, "notifications")
    if outage is not None and now < outage.retry_at:
        return None
    # Uploads that can be claimed now do not wait for messages.
    wait_seconds = 0 if claims.anything_due(ledger, now=now) else LISTEN_SECONDS
    try:
        with outages.recorded(ledger, "notifications"):
            with aws_errors(settings.ingestion_queue):
                client = aws_client("sqs")
            return poll(settings, ledger, client, now=now, wait_seconds=wait_seconds)
    except StoreUnavailable:
        # Recorded as an outage, which raises an alert. The sweep finds the uploads instead.
        return None


def poll(settings: LakeSettings, ledger: Ledger, client: Any, *, now: datetime, wait_seconds: int) -> Polled:
    """Adds the uploads of messages to the ledger and deletes the messages, for about `tick_seconds` at most.

    `client` is a boto3 SQS client. It waits up to `wait_seconds` for the first message only. A message that cannot be
    parsed is counted and left to the redrive policy of the queue, which moves it to the dead-letter queue. Without one
    the message comes back until it expires.

    Raises:
        StoreUnavailable: the queue or the inbox did not answer. Messages that were not deleted come again.
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
                kind, uploads = _parse_message(message.get("Body", ""), settings, store, ledger, now)
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


def _parse_message(
    body: str, settings: LakeSettings, store: ObjectStore, ledger: Ledger, now: datetime
) -> tuple[str, list[FoundUpload]]:
    """Returns the kind of a message (upload, other, test, malformed) and its uploads."""
    try:
        event = json.loads(body)
        # Behind an SNS topic, the notification is a text in the envelope of the topic.
        if isinstance(event, dict) and event.get("Type") == "Notification":
            event = json.loads(event["Message"])
        if isinstance(event, dict) and event.get("Event") == "s3:TestEvent":
            return "test", []
        keys = list(_keys(event["Records"], settings))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "malformed", []
    parts = [part for key in keys if (part := part_of(key))]
    # Most objects come before their manifest and need no look-up. One that comes later completes or changes its upload.
    late = {part.prefix for part in parts if not part.completes}
    late = ledger.completed_prefixes(late) if late else late
    asked = {part.prefix: part for part in parts if part.completes or part.prefix in late}
    found = [one for part in asked.values() if (one := _look_up(store, part, now))]
    return ("upload" if found else "other"), found


def _keys(records: list[dict[str, Any]], settings: LakeSettings) -> Iterator[str]:
    """Yields the keys, relative to the inbox, of objects that were created in it."""
    inbox = urlsplit(settings.inbox())
    root = f"{inbox.path.strip('/')}/" if inbox.path.strip("/") else ""
    for record in records:
        key = unquote_plus(record["s3"]["object"]["key"])
        created = str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated")
        if created and record["s3"]["bucket"]["name"] == inbox.netloc and key.startswith(root):
            yield key.removeprefix(root)


def _look_up(store: ObjectStore, part: ManifestPart, now: datetime) -> FoundUpload | None:
    """Returns the upload as it is in the inbox; None if the object that completes it does not exist (any more)."""
    key = part.prefix if part.layout == "bare" else f"{part.prefix}/{MANIFEST}"
    part = replace(part, name=key.rpartition("/")[2], completes=True)
    objects = UploadObjects(part)
    if part.reason:
        # Invalid names are recorded as they are, and never requested.
        objects.revision, objects.oldest = "event", now
        return objects.to_upload(now)
    completing = store.head(key)
    if completing is None:
        return None
    objects.add(part, completing)
    if part.layout != "bare":
        for item in store.list(part.prefix):
            other = part_of(item.key)
            if other is not None and other.prefix == part.prefix and not other.completes:
                objects.add(other, item)
    return objects.to_upload(now)
