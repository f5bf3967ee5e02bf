"""Uploads are removed from the inbox only after they were ingested and their retention has passed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
import sqlalchemy as sa

from akosha_assets.lake import aws_clients, objects
from akosha_assets.lake.catalog import Lake
from akosha_assets.lake.errors import StoreUnavailable
from akosha_assets.lake.ingestion import arrivals
from akosha_assets.lake.ingestion.inbox import listing
from akosha_assets.lake.ingestion.ledger.ledger import Ledger
from akosha_assets.lake.ingestion.ledger.schema import uploads
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep import inbox
from akosha_assets.lake.upkeep.inbox import expire
from tests.factories import make_upload
from tests.faulty_bucket import faulty_bucket

LATER = datetime.now(UTC) + timedelta(days=8)


def files(settings: LakeSettings) -> list[Path]:
    return [path for path in (settings.home / "inbox").rglob("*") if path.is_file()]


def taken_in(settings: LakeSettings, lake: Lake) -> Ledger:
    ledger = Ledger.open(settings)
    listing.sweep(settings, ledger, now=datetime.now(UTC))
    arrivals.ingest(lake, ledger, run_id="test")
    return ledger


def test_a_dry_run_lists_removable_uploads_and_removes_none(settings: LakeSettings, lake: Lake) -> None:
    sent = make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = taken_in(settings, lake)
    expired = expire(settings, ledger, now=LATER, dry_run=True)
    assert (expired.uploads, len(files(settings))) == ([sent.upload_id], 3)


def test_an_upload_is_removed_after_its_retention_and_not_listed_again(settings: LakeSettings, lake: Lake) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = taken_in(settings, lake)
    assert expire(settings, ledger, now=datetime.now(UTC), dry_run=False).uploads == []
    assert len(expire(settings, ledger, now=LATER, dry_run=False).uploads) == 1
    assert files(settings) == []
    assert listing.sweep(settings, ledger, now=LATER).added == 0
    assert expire(settings, ledger, now=LATER, dry_run=False).uploads == []


def test_an_upload_that_was_not_ingested_is_never_removed(settings: LakeSettings, lake: Lake) -> None:
    sent = make_upload(settings.home / "inbox", "a", reflections=["one"])
    (settings.home / "inbox" / sent.prefix / "reflection.duckdb").write_bytes(b"damaged")
    ledger = taken_in(settings, lake)
    assert ledger.receipt(sent.upload_id).state == "quarantined"
    assert expire(settings, ledger, now=LATER, dry_run=False).uploads == []
    assert len(files(settings)) == 3


def test_an_upload_that_was_written_again_is_left_alone(settings: LakeSettings, lake: Lake) -> None:
    make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = taken_in(settings, lake)
    make_upload(settings.home / "inbox", "a", reflections=["one", "two"])
    assert expire(settings, ledger, now=LATER, dry_run=False).uploads == []
    with ledger.read() as connection:
        assert connection.scalar(sa.select(uploads.c.removed_at)) is None


def test_an_upload_whose_database_was_written_again_is_kept_until_the_newer_one_expires(
    settings: LakeSettings, lake: Lake
) -> None:
    sent = make_upload(settings.home / "inbox", "a", reflections=["one"])
    ledger = taken_in(settings, lake)
    path = settings.home / "inbox" / sent.prefix / "reflection.duckdb"
    other = make_upload(settings.home / "other", "a", reflections=["one", "two"])
    path.write_bytes((settings.home / "other" / other.prefix / "reflection.duckdb").read_bytes())
    taken_in(settings, lake)
    newer = ledger.uploads().uploads[0].id
    with ledger.write() as connection:
        connection.execute(sa.update(uploads).where(uploads.c.id == newer).values(ingested_at=LATER))
    assert expire(settings, ledger, now=LATER, dry_run=False).uploads == []
    assert len(files(settings)) >= 3
    # Half of it was removed when the process ended: that is no new revision.
    path.unlink()
    assert listing.sweep(settings, ledger, now=LATER).added == 0
    for _ in range(2):
        expire(settings, ledger, now=LATER + timedelta(days=30), dry_run=False)
    assert all(row.removed_at for row in ledger.uploads().uploads) and len(ledger.uploads().uploads) == 2


def test_an_upload_that_cannot_be_removed_is_reported_and_the_others_are_removed(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY", {**objects.RETRY, "max_retries": 0})
    monkeypatch.setattr(aws_clients, "ATTEMPTS", 1)
    with faulty_bucket("inbox", monkeypatch) as faults:
        settings = lake.settings.model_copy(update={"inbox_url": faults.url})
        sent = [make_upload(tmp_path / "made", system, reflections=["one"]) for system in "abcdefg"]
        for path in (tmp_path / "made").rglob("*.*"):
            boto3.client("s3").upload_file(str(path), "inbox", str(path.relative_to(tmp_path / "made")))
        ledger = taken_in(settings, lake)
        # A policy that keeps some keys from us.
        faults.begin(403, "AccessDenied", methods=("GET",), path="prefix=systems%2Fb%2F")
        expired = expire(settings, ledger, now=LATER, dry_run=False)
        assert (len(expired.uploads), list(expired.failed)) == (6, [sent[1].upload_id])
        assert "AccessDenied" in expired.failed[sent[1].upload_id]
        faults.begin(503, "SlowDown", methods=("GET", "HEAD", "DELETE"))
        monkeypatch.setattr(inbox, "FAILURES_IN_A_ROW", 1)
        with pytest.raises(StoreUnavailable):
            expire(settings, ledger, now=LATER, dry_run=False)
        faults.end()
        assert len(expire(settings, ledger, now=LATER, dry_run=False).uploads) == 1
