"""Notifications of a real S3 API server on a real SQS API: each object is looked up before it is added."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.ingestion.inbox import listing, notifications
from akosha_assets.lake.ingestion.ledger import claims, outages
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.outcomes import UploadOutcome
from akosha_assets.lake.ingestion.ledger.states import UploadState
from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.watch import conditions
from tests.bucket import bucket
from tests.hanging import hanging_server

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
FOLDER = "systems/laptop-ada/uploads/20261123_113725_laptop-ada"


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LakeSettings, Ledger, ObjectStore, Any]]:
    """An inbox bucket whose notifications go to a queue, an empty ledger and an SQS client."""
    with bucket("inbox", monkeypatch) as url:
        sqs = boto3.client("sqs")
        queue = sqs.create_queue(QueueName="arrivals")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        rule = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
        boto3.client("s3").put_bucket_notification_configuration(
            Bucket="inbox", NotificationConfiguration={"QueueConfigurations": [rule]}
        )
        settings = LakeSettings(home=tmp_path, inbox_url=url, ingestion_queue=queue, tick_seconds=3)
        yield settings, Ledger.open(settings), ObjectStore(url), sqs


def waiting(sqs: Any, queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(
        int(count) for count in sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"].values()
    )


def quarantine(ledger: Ledger) -> None:
    """The uploads that wait were read, and a file was missing."""
    batch = claims.claim(ledger, run_id="r", now=NOW)
    assert batch is not None
    outcome = UploadOutcome(UploadState.QUARANTINED, reason="file_missing", message="it does not exist")
    claims.finish(ledger, batch, {one.id: outcome for one in batch.uploads}, {}, rows=0, now=NOW)


def test_an_upload_is_added_from_its_notification_and_listing_finds_nothing_new(inbox: Any) -> None:
    settings, ledger, store, sqs = inbox
    store.put(f"{FOLDER}/reflection.duckdb", b"x" * 100)
    store.put(f"{FOLDER}/manifest.json", b"{}")
    assert notifications.poll(settings, ledger, sqs, now=NOW, wait_seconds=0).added == 1
    assert (ledger.uploads().uploads[0].bytes, ledger.uploads().uploads[0].found_by) == (102, "event")
    assert waiting(sqs, settings.ingestion_queue) == 0
    assert listing.sweep(settings, ledger, now=NOW).added == 0
    assert ledger.counts()["found_by_event"] == 1


def test_a_file_that_comes_after_its_manifest_is_noticed_at_once(inbox: Any) -> None:
    settings, ledger, store, sqs = inbox
    store.put(f"{FOLDER}/manifest.json", b"{}")
    assert notifications.poll(settings, ledger, sqs, now=NOW, wait_seconds=0).added == 1
    quarantine(ledger)
    store.put(f"{FOLDER}/reflection.duckdb", b"x")
    assert notifications.poll(settings, ledger, sqs, now=NOW, wait_seconds=0).added == 1
    assert [(one.state, one.reason, one.bytes) for one in ledger.uploads().uploads] == [("waiting", None, 3)]
    assert listing.sweep(settings, ledger, now=NOW).added == 0, "the listing describes the objects in the same way"


def test_a_file_without_a_manifest_is_left_to_the_manifest(inbox: Any) -> None:
    settings, ledger, store, sqs = inbox
    store.put(f"{FOLDER}/reflection.duckdb", b"x")
    polled = notifications.poll(settings, ledger, sqs, now=NOW, wait_seconds=0)
    assert (polled.added, polled.messages["other"]) == (0, 1)


def test_listing_finds_the_upload_of_a_lost_notification_and_counts_it(inbox: Any) -> None:
    settings, ledger, store, sqs = inbox
    store.put(f"{FOLDER}/manifest.json", b"{}")
    sqs.purge_queue(QueueUrl=settings.ingestion_queue)
    assert notifications.poll(settings, ledger, sqs, now=NOW, wait_seconds=0).added == 0
    assert listing.sweep(settings, ledger, now=NOW).added == 1
    assert ledger.counts()["found_by_listing"] == 1


def test_duplicate_foreign_and_malformed_messages_are_counted_and_ignored(inbox: Any) -> None:
    settings, ledger, store, sqs = inbox
    store.put(f"{FOLDER}/manifest.json", b"{}")
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "inbox"}, "object": {"key": f"{FOLDER}/manifest.json".replace("/", "%2F")}},
    }
    elsewhere = {**record, "s3": {"bucket": {"name": "other"}, "object": {"key": "systems/x/uploads/u/manifest.json"}}}
    vanished = {
        **record,
        "s3": {"bucket": {"name": "inbox"}, "object": {"key": "systems/x/uploads/missing/manifest.json"}},
    }
    bodies = [
        json.dumps({"Records": [record]}),
        json.dumps({"Type": "Notification", "Message": json.dumps({"Records": [record]})}),
        json.dumps({"Records": [elsewhere]}),
        json.dumps({"Records": [vanished]}),
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}),
        "not json",
        json.dumps({"Records": [{"s3": None}]}),
        json.dumps([1, 2]),
        "[" * 100_000,
    ]
    for body in bodies:
        sqs.send_message(QueueUrl=settings.ingestion_queue, MessageBody=body)
    polled = notifications.poll(settings, ledger, sqs, now=NOW, wait_seconds=0)
    assert len(ledger.uploads().uploads) == 1
    # The server sent a test event of its own when the rule was set.
    assert dict(polled.messages) == {"upload": 3, "other": 2, "test": 2, "malformed": 4}
    # Malformed messages remain for the redrive policy of the queue.
    assert waiting(sqs, settings.ingestion_queue) == 4


def test_an_invalid_system_id_in_a_notification_is_quarantined_without_a_lookup(inbox: Any) -> None:
    settings, ledger, store, sqs = inbox
    store.put("systems/with space/uploads/20261123_113725_x/manifest.json", b"{}")
    for name in ("\ud800", "\0"):
        record = {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "inbox"}, "object": {"key": f"systems/{name}/uploads/u/manifest.json"}},
        }
        sqs.send_message(QueueUrl=settings.ingestion_queue, MessageBody=json.dumps({"Records": [record]}))
    notifications.poll(settings, ledger, sqs, now=NOW, wait_seconds=0)
    refused = ledger.uploads(state="quarantined").uploads
    assert {one.reason for one in refused} == {"system_id_invalid"}
    assert {one.system_id for one in refused} == {"with space", "\\ud800", "\\x00"}


def test_a_queue_that_hangs_is_an_outage_and_listing_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ObjectStore((tmp_path / "inbox").as_uri())
    with hanging_server(monkeypatch) as url:
        settings = LakeSettings(home=tmp_path, ingestion_queue=f"{url}/000000000000/arrivals", tick_seconds=3)
        ledger = Ledger.open(settings)
        for number in range(3):
            store.put(f"{FOLDER}{number}/manifest.json", b"{}")
            # A listing is due in every tick while the queue is down.
            assert notifications.discover(settings, ledger, now=datetime.now(UTC)).added == 1
        outage = outages.find(ledger, "notifications")
        assert outage is not None
        # The queue was not polled again during the pause.
        assert (outage.kind, outage.failures) == ("StoreUnavailable", 1)
        assert "outage/notifications" in [one.key for one in conditions.of_outages(ledger)]
        ledger.close()


def test_a_bucket_that_hangs_is_an_outage_of_discovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_server(monkeypatch):
        settings = LakeSettings(home=tmp_path, inbox_url="s3://inbox", tick_seconds=3)
        ledger = Ledger.open(settings)
        for failures in (1, 2):
            with pytest.raises(StoreUnavailable, match="s3://inbox did not answer"):
                notifications.discover(settings, ledger, now=datetime.now(UTC))
            outage = outages.find(ledger, "discovery")
            assert outage is not None
            assert outage.failures == failures
        assert "outage/discovery" in [one.key for one in conditions.of_outages(ledger)]
        ledger.close()
